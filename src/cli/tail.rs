//! `tollgate tail`: the access log as it comes.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde::Deserialize;

use super::Failure;
use super::client::{Client, Reach, Stream};
use super::config_file::ConfigFile;
use super::output::{self, Paint, shown};
use crate::telemetry::access_log::Filter;

/// Follow the access log live, with filters
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Follow the access log as the running proxy writes it, from now on, whatever its format and target are: \
                  also if it goes to stdout or is off. Filters are asked by the proxy, and a request has to pass all of \
                  them; routes with `access_log = false` are not in it.\n\nWho reads slowly loses lines and is told how \
                  many; the proxy never waits. It needs the control socket, since the log says who asked for what. It ends \
                  with Ctrl-C, after `--lines`, or with the proxy.",
    after_help = "Examples:\n  tollgate tail\n  tollgate tail --status 5xx --status 429\n  \
                  tollgate tail --route api --min-ms 500\n  tollgate tail --client 192.0.2.0/24 --path /login\n  \
                  tollgate tail --json --lines 100 > some.log\n\n\
                  Exit status: 0 it was followed to its end, 1 it could not be, 2 a filter makes no sense."
)]
pub struct Tail {
    /// It always follows; accepted out of habit
    #[arg(short, long)]
    follow: bool,
    /// End after so many lines
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    lines: Option<u64>,
    /// A status, as in 404, 5xx or 400-499; any of those that are given
    #[arg(short, long)]
    status: Vec<String>,
    /// A method
    #[arg(short, long)]
    method: Option<String>,
    /// The host that was asked for
    #[arg(long)]
    host: Option<String>,
    /// What the path begins with
    #[arg(short, long)]
    path: Option<String>,
    /// A regular expression that the path matches
    #[arg(long, value_name = "REGEX")]
    path_regex: Option<String>,
    /// A route, by its name
    #[arg(short, long)]
    route: Option<String>,
    /// An upstream, by its name
    #[arg(short, long)]
    upstream: Option<String>,
    /// An endpoint
    #[arg(short, long, value_name = "ADDRESS")]
    endpoint: Option<String>,
    /// Whose requests: an address or a network
    #[arg(long, value_name = "NETWORK")]
    client: Option<String>,
    /// What it was to the cache: hit, stale, validated, miss, collapsed or bypass
    #[arg(long, value_name = "VERDICT")]
    cache: Option<String>,
    /// A reason code, as in docs/troubleshooting.md
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// The least that it took, in milliseconds
    #[arg(long, value_name = "MILLISECONDS")]
    min_ms: Option<u64>,
    #[command(flatten)]
    reach: Reach,
    /// Print the lines as they come, in JSON
    #[arg(long)]
    json: bool,
}

/// Of a line, what people want to see.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    /// In place of a line: so many were lost before the next one.
    lost: Option<u64>,
    time: String,
    client: Option<IpAddr>,
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    status: u16,
    reason: Option<String>,
    duration_ms: f64,
    bytes_sent: u64,
    cache: Option<String>,
    route: Option<String>,
    endpoint: Option<SocketAddr>,
}

impl Tail {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let filter = self.filter();
        if let Err(error) = filter.clone().compile() {
            return Err(Failure::Usage(format!("{error}; expected {}", error.expected)));
        }
        let client: Client = self.reach.client(config)?;
        let mut printer = Printer { json: self.json, paint: Paint::of_stdout(), left: self.lines, lost: 0 };
        let body = serde_json::to_string(&filter)?;
        let ended = client.stream("/log/follow", body, |line| printer.print(line))?;
        if printer.lost > 0 {
            output::say(&format!("tollgate: {} lost: too slow to read", output::count_u64(printer.lost, "line")));
        }
        match ended {
            Stream::Refused(reply) if reply.status == StatusCode::BAD_REQUEST => {
                let said = reply.read::<serde_json::Value>().err();
                Err(Failure::Usage(said.map(|error| error.to_string()).unwrap_or_default()))
            }
            Stream::Refused(reply) => Err(reply
                .read::<serde_json::Value>()
                .err()
                .map_or_else(|| anyhow::anyhow!("the proxy does not show its log").into(), Into::into)),
            // It was started anew meanwhile, or has cut off who took nothing.
            Stream::Broken if client.get("/livez").is_ok() => {
                let why = "the proxy let go and answers: it was started anew, or nothing was read for a minute";
                Err(anyhow::anyhow!(why).into())
            }
            Stream::Broken => {
                output::say("tollgate: the proxy has ended");
                Ok(())
            }
            Stream::Enough => Ok(()),
        }
    }

    fn filter(&self) -> Filter {
        Filter {
            status: self.status.clone(),
            method: self.method.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            path_regex: self.path_regex.clone(),
            route: self.route.clone(),
            upstream: self.upstream.clone(),
            endpoint: self.endpoint.clone(),
            client: self.client.clone(),
            cache: self.cache.clone(),
            reason: self.reason.clone(),
            min_ms: self.min_ms,
        }
    }
}

struct Printer {
    json: bool,
    paint: Paint,
    /// How many lines are still wanted; None: all.
    left: Option<u64>,
    lost: u64,
}

impl Printer {
    /// False: that was enough.
    fn print(&mut self, text: &str) -> Result<bool, Failure> {
        let line: Line = serde_json::from_str(text)?;
        self.lost += line.lost.unwrap_or_default();
        // A reader that has gone is no error, and nobody needs what follows.
        let goes_on = output::print_on(&if self.json { text.to_owned() } else { describe(&line, self.paint) })?;
        if let Some(left) = self.left.as_mut().filter(|_| line.lost.is_none()) {
            *left = left.saturating_sub(1);
        }
        Ok(goes_on && self.left != Some(0))
    }
}

/// Columns that stay where they are, and what has any length at the end.
fn describe(line: &Line, paint: Paint) -> String {
    if let Some(lost) = line.lost {
        return paint.red(&format!("--- {} lost: too slow to read", output::count_u64(lost, "line")));
    }
    let time = line.time.get(11..23).unwrap_or(&line.time);
    let client = line.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    let status = match line.status {
        500.. => paint.red(&line.status.to_string()),
        400.. => paint.yellow(&line.status.to_string()),
        _ => paint.green(&line.status.to_string()),
    };
    let query = line.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut text = format!(
        "{time} {status} {:>9.1} ms {:>9} {:<9} {client:<15} {:<7} {}{}{}",
        line.duration_ms,
        line.bytes_sent,
        shown(line.cache.as_deref().unwrap_or("-")),
        shown(&line.method),
        shown(&line.host),
        shown(&line.path),
        shown(&query),
    );
    let notes = [
        line.reason.as_deref().map(|reason| paint.red(&shown(reason))),
        line.route.as_deref().map(|route| format!("route {}", shown(route))),
        line.endpoint.map(|endpoint| format!("to {endpoint}")),
    ];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    if !notes.is_empty() {
        text.push_str(&format!("  [{}]", notes.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let check = |line: &str, expected: &str| {
            let line: Line = serde_json::from_str(line).unwrap();
            assert_eq!(describe(&line, Paint::plain()), expected);
        };
        check(
            r#"{"time":"2026-11-21T03:51:31.042+00:00","level":"error","client":"192.0.2.1","peer":"127.0.0.1:5","method":"GET",
                "host":"a.example","path":"/x","query":"q=1","protocol":"HTTP/1.1","status":502,"reason":"connect-refused",
                "duration_ms":1.234,"bytes_sent":57,"bytes_received":0,"cache":"miss","route":"/","upstream":"app",
                "endpoint":"10.0.0.1:3000","attempts":1}"#,
            "03:51:31.042 502       1.2 ms        57 miss      192.0.2.1       GET     a.example/x?q=1  \
             [connect-refused, route /, to 10.0.0.1:3000]",
        );
        check(
            r#"{"time":"2026-11-21T03:51:31.042+00:00","client":"2001:db8::1","method":"-","host":"","path":"-","status":200,
                "duration_ms":0,"bytes_sent":0}"#,
            "03:51:31.042 200       0.0 ms         0 -         2001:db8::1     -       -",
        );
        check(r#"{"lost":7}"#, "--- 7 lines lost: too slow to read");
    }

    #[test]
    fn it_ends_when_there_were_enough() {
        let mut printer = Printer { json: false, paint: Paint::plain(), left: Some(2), lost: 0 };
        let mut print = |line: &str| printer.print(line).unwrap();
        assert!(print(r#"{"status":200}"#));
        assert!(print(r#"{"lost":3}"#), "what was lost is no line");
        assert!(!print(r#"{"status":200}"#));
        assert_eq!(printer.lost, 3);
    }
}
