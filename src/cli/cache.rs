//! `tollgate cache`: what the running proxy keeps, taking it out, and having it there in time.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::{Reach, Reply};
use super::config_file::ConfigFile;
use super::warm::Warm;
use super::{Failure, output};

/// Show what the cache keeps, purge it or warm it
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show what the cache of the running proxy keeps and how often it answers, or purge what has changed \
                  at the origin, or ask for pages before clients do.",
    after_help = "Examples:\n  tollgate cache status\n  tollgate cache purge --tag user:7\n  \
                  tollgate cache purge --pattern '/users/*' --dry-run\n  \
                  tollgate cache warm --sitemap /sitemap.xml"
)]
pub struct Cache {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    reach: Reach,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what is kept, by route, and how often it was of use
    Status,
    Purge(Purge),
    Warm(Warm),
}

/// Take responses out of the cache, or make them stale
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Take responses out of the cache, with all that `[cache.dependencies]` says depends on them. It is in \
                  force when the command returns, for what is being fetched just now too. Only this cache is \
                  purged: browsers and caches behind it keep what they have.",
    after_help = "Examples:\n  \
                  tollgate cache purge --url 'https://example.com/a?b=c'    one URL, in all variants\n  \
                  tollgate cache purge --url /a                             on every host\n  \
                  tollgate cache purge --prefix /assets/                    all that begins so\n  \
                  tollgate cache purge --pattern '/users/*/photo'           `*` is any text\n  \
                  tollgate cache purge --tag 'user:*' --host example.com    Cache-Tag, Surrogate-Key, xkey, Cache-Groups\n  \
                  tollgate cache purge --all --soft                         keep them, but ask the origin first\n\n\
                  Exit status: 0 it is purged, even if there was nothing; 1 it is not; 2 wrong arguments."
)]
struct Purge {
    #[command(flatten)]
    which: Which,
    /// Only what this host answered; without it every host
    #[arg(long)]
    host: Option<String>,
    /// Make them stale: they are validated at the origin, and still serve where stale responses may
    #[arg(long)]
    soft: bool,
    /// Purge nothing, and say how many responses are meant
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// One URL, or a path with its query
    #[arg(long)]
    url: Option<String>,
    /// All whose path and query begin so
    #[arg(long)]
    prefix: Option<String>,
    /// All whose path matches; `*` stands for any text, and a pattern with `?` is for path and query
    #[arg(long)]
    pattern: Option<String>,
    /// All with this tag or group; `*` stands for any text
    #[arg(long)]
    tag: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Deserialize)]
struct Purged {
    matched: u64,
    mode: String,
    dry_run: bool,
    names: Vec<String>,
}

/// What `/cache` says.
#[derive(Debug, Deserialize)]
pub struct Kept {
    enabled: bool,
    entries: u64,
    stored_bytes: u64,
    stored_bytes_max: u64,
    fetching_bytes: u64,
    fetching_bytes_max: u64,
    purges_in_force: u64,
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Route {
    route: String,
    entries: u64,
    bytes: u64,
    hits: u64,
    misses: u64,
    hit_ratio: Option<f64>,
    evictions: u64,
    purged: u64,
    lookup_us: Option<f64>,
}

impl Kept {
    /// Whether there is more to say than that nothing is kept.
    pub fn is_in_use(&self) -> bool {
        self.entries > 0 || !self.routes.is_empty()
    }
}

impl Cache {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let client = self.reach.client(config)?;
        let (reply, show): (Reply, fn(Reply) -> anyhow::Result<String>) = match self.action {
            Action::Status => (client.get("/cache")?, |reply| Ok(describe(&reply.read()?))),
            Action::Purge(purge) => (client.post("/cache/purge", purge.body())?, |reply| Ok(outcome(&reply.read()?))),
            Action::Warm(warm) => return warm.run(&client, self.json),
        };
        reply.print(self.json, show)
    }
}

impl Purge {
    fn body(&self) -> String {
        let Self { which: Which { url, prefix, pattern, tag, all }, host, soft, dry_run } = self;
        let mut body = Map::new();
        let texts = [("url", url), ("prefix", prefix), ("pattern", pattern), ("tag", tag), ("host", host)];
        for (name, text) in texts {
            body.extend(text.iter().map(|text| (name.to_owned(), Value::from(text.as_str()))));
        }
        for (name, flag) in [("all", all), ("soft", soft), ("dry_run", dry_run)] {
            if *flag {
                body.insert(name.to_owned(), true.into());
            }
        }
        Value::Object(body).to_string()
    }
}

fn outcome(purged: &Purged) -> String {
    let responses = output::count(usize::try_from(purged.matched).unwrap_or(usize::MAX), "response");
    let mut text = match (purged.dry_run, purged.mode.as_str()) {
        (true, _) => format!("{responses} would be purged; nothing was"),
        (false, "soft") => format!("made {responses} stale"),
        (false, _) => format!("purged {responses}"),
    };
    if purged.names.len() > 1 {
        text.push_str(", with all that depends on it:");
        purged.names.iter().for_each(|name| text.push_str(&format!("\n  {}", output::shown(name))));
    }
    text
}

pub fn describe(kept: &Kept) -> String {
    let (hits, misses) =
        kept.routes.iter().fold((0, 0), |(hits, misses), route| (hits + route.hits, misses + route.misses));
    let mut text = format!(
        "{}: {} in {} of {}; {} of {} in use for bodies being fetched\n{hits} hits and {misses} misses since the start",
        if kept.enabled { "on" } else { "off" },
        output::count(usize::try_from(kept.entries).unwrap_or(usize::MAX), "response"),
        size(kept.stored_bytes),
        size(kept.stored_bytes_max),
        size(kept.fetching_bytes),
        size(kept.fetching_bytes_max),
    );
    if kept.purges_in_force > 0 {
        text.push_str(&format!("\nnames of purges that are still worked off: {}", kept.purges_in_force));
    }
    if !kept.routes.is_empty() {
        let header = ["ROUTE", "RESPONSES", "MEMORY", "HITS", "MISSES", "HIT RATIO", "EVICTED", "PURGED", "LOOKUP"];
        text.push_str(&format!("\n\n{}", output::table(header, kept.routes.iter().map(row))));
    }
    text
}

fn row(route: &Route) -> [String; 9] {
    [
        route.route.clone(),
        route.entries.to_string(),
        size(route.bytes),
        route.hits.to_string(),
        route.misses.to_string(),
        route.hit_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0)),
        route.evictions.to_string(),
        route.purged.to_string(),
        route.lookup_us.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} µs")),
    ]
}

/// In the largest unit of which there is one.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        purge: Purge,
    }

    #[test]
    fn a_purge_as_the_proxy_is_told() {
        let check = |line: &str, expected: Value| {
            let line = Line::try_parse_from(format!("purge {line}").split(' ')).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&line.purge.body()).unwrap(), expected);
        };
        check("--tag user:7", json!({ "tag": "user:7" }));
        check("--all --soft --dry-run", json!({ "all": true, "soft": true, "dry_run": true }));
        check("--url /a?b=c --host example.com", json!({ "url": "/a?b=c", "host": "example.com" }));
        check("--prefix /a/", json!({ "prefix": "/a/" }));
        check("--pattern /a/*", json!({ "pattern": "/a/*" }));
        for line in ["purge", "purge --host a", "purge --tag a --all", "purge a"] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn what_came_of_it() {
        let check = |matched: u64, mode: &str, dry_run: bool, names: &[&str], expected: &str| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(outcome(&Purged { matched, mode: mode.to_owned(), dry_run, names }), expected);
        };
        check(0, "hard", false, &["all"], "purged 0 responses");
        check(1, "soft", false, &["all"], "made 1 response stale");
        check(2, "soft", true, &["all"], "2 responses would be purged; nothing was");
        let expected = "purged 3 responses, with all that depends on it:\n  tag a\n  tag b";
        check(3, "hard", false, &["tag a", "tag b"], expected);
    }

    #[test]
    fn the_cache_for_people() {
        let kept: Kept = serde_json::from_value(json!({
            "enabled": true, "entries": 2, "stored_bytes": 1536, "stored_bytes_max": 50331648,
            "fetching_bytes": 0, "fetching_bytes_max": 16777216, "purges_in_force": 1,
            "routes": [
                { "route": "/", "entries": 2, "bytes": 1536, "hits": 3, "misses": 1, "hit_ratio": 0.75, "evictions": 0, "purged": 5, "lookup_us": 0.84 },
                { "route": "/new", "entries": 0, "bytes": 0, "hits": 0, "misses": 0, "hit_ratio": null, "evictions": 0, "purged": 0, "lookup_us": null },
            ],
        }))
        .unwrap();
        assert_eq!(
            output::squeezed(&describe(&kept)),
            [
                "on: 2 responses in 1.5 KiB of 48.0 MiB; 0 B of 16.0 MiB in use for bodies being fetched",
                "3 hits and 1 misses since the start",
                "names of purges that are still worked off: 1",
                "",
                "ROUTE RESPONSES MEMORY HITS MISSES HIT RATIO EVICTED PURGED LOOKUP",
                "/ 2 1.5 KiB 3 1 75.0 % 0 5 0.8 µs",
                "/new 0 0 B 0 0 - 0 0 -",
            ]
        );
    }
}
