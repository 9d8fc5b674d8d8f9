//! `tollgate status`: how the running proxy is.

mod routes;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use self::routes::Routes;
use super::cache::{self, Kept};
use super::client::{Client, Reach};
use super::config_file::ConfigFile;
use super::limits::{self, Limit};
use super::output::Paint;
use super::upstreams::{self, Span, Upstream};
use super::{Failure, output};

/// A quicker look shows nothing more.
const WATCH_S_MAX: u64 = 3_600;
/// To the upper left corner, with nothing behind it.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show how the running proxy is
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show how the running proxy is, from what the live page shows: its checks, the configuration in force, \
                  what passed each route in the last seconds and how long it took, listeners, the endpoints of every \
                  upstream, replicas, the cache, rate limits with those who have used most, and certificates with the \
                  days that they have left. Rates and latencies of endpoints are those since the start; with `--watch` it \
                  is shown again and again, and they are those of the time in between. `--json` prints what `/status` on \
                  the admin listener says.",
    after_help = "Examples:\n  tollgate status\n  tollgate status --watch\n  tollgate status --watch 10\n  \
                  tollgate status --json"
)]
pub struct Status {
    #[command(flatten)]
    reach: Reach,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Show it again every so many seconds
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=WATCH_S_MAX), conflicts_with = "json")]
    watch: Option<u64>,
}

/// What people want to see of it.
#[derive(Debug, Deserialize)]
struct Report {
    status: String,
    timestamp: String,
    uptime_s: f64,
    version: String,
    pid: u32,
    config: Config,
    workers: Vec<Worker>,
    connections: Connections,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
    replicas: Vec<Replica>,
    cache: Kept,
    certificates: Vec<Certificate>,
    checks: Vec<Check>,
    recovery: Vec<Recovery>,
}

#[derive(Debug, Deserialize)]
struct Config {
    file: String,
    generation: u64,
    loaded_at: Option<String>,
    last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    busy: usize,
    requests: u64,
}

#[derive(Debug, Deserialize)]
struct Connections {
    open: usize,
    max: usize,
}

#[derive(Debug, Deserialize)]
struct Listener {
    configured: SocketAddr,
    bound: Option<SocketAddr>,
    tls: bool,
}

#[derive(Debug, Deserialize)]
struct Replica {
    upstream: String,
    replica: usize,
    state: String,
    address: Option<SocketAddr>,
    pid: Option<u32>,
    restarts: u32,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    hosts: Vec<String>,
    not_after: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Check {
    name: String,
    status: String,
    duration_ms: f64,
    detail: String,
    #[serde(flatten)]
    measured: Option<Measured>,
}

/// None of what cannot be known.
#[derive(Debug, Deserialize)]
struct Measured {
    value: f64,
    unit: String,
    limit: Bound,
}

/// From where on, or below which, it is worse.
#[derive(Debug, Deserialize)]
struct Bound {
    degraded: f64,
    unhealthy: Option<f64>,
    worse: String,
}

#[derive(Debug, Deserialize)]
struct Recovery {
    action: String,
    enabled: bool,
    active: bool,
    times: u64,
}

/// One look at what the live page shows.
#[derive(Debug, Deserialize)]
struct Look {
    #[serde(rename = "status")]
    report: Report,
    routes: Routes,
    limits: Vec<Limit>,
}

impl Look {
    fn take(client: &Client) -> Result<Self, Failure> {
        Ok(client.get("/live.json")?.read()?)
    }

    /// What endpoints did: since another look, or since the start.
    fn span<'a>(&self, before: Option<&'a Self>) -> Span<'a> {
        // In a container, who is started anew has the same id.
        let is_same =
            |before: &&Self| before.report.pid == self.report.pid && before.report.uptime_s <= self.report.uptime_s;
        match before.filter(is_same) {
            Some(Self { report: before, .. }) => {
                Span { before: &before.upstreams, seconds: self.report.uptime_s - before.uptime_s }
            }
            None => Span { before: &[], seconds: self.report.uptime_s },
        }
    }
}

impl Status {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let client = self.reach.client(config)?;
        if self.json {
            return client.get("/status")?.print(true, |reply| Ok(reply.body));
        }
        let paint = Paint::of_stdout();
        let mut before = Look::take(&client)?;
        let Some(seconds) = self.watch else { return output::print(&describe(&before, None, paint)) };
        let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
        let mut text = describe(&before, None, paint);
        // Until Ctrl-C, or until nobody reads it any more.
        while output::print_on(&format!("{clear}{text}"))? {
            std::thread::sleep(Duration::from_secs(seconds));
            text = match Look::take(&client) {
                Ok(now) => {
                    let text = describe(&now, Some(&before), paint);
                    before = now;
                    text
                }
                // It may be on its way back.
                Err(failure) => paint.red(&format!("{failure}; it is asked again every {seconds} s")),
            };
        }
        Ok(())
    }
}

fn describe(look: &Look, before: Option<&Look>, paint: Paint) -> String {
    let Look { report, routes, limits } = look;
    let mut sections = vec![head(report, paint)];
    let header = ["CHECK", "STATUS", "VALUE", "WORSE", "TOOK", "DETAIL"];
    sections.push(output::table(header, report.checks.iter().map(check)));
    sections.push(routes.table());
    sections.push(output::table(["LISTENER", "BOUND", "TLS"], report.listeners.iter().map(listener)));
    if !report.upstreams.is_empty() {
        sections.push(upstreams::table(&report.upstreams, Some(&look.span(before))));
    }
    if !report.replicas.is_empty() {
        let header = ["REPLICA OF", "NUMBER", "PID", "ADDRESS", "STATE", "RESTARTS"];
        sections.push(output::table(header, report.replicas.iter().map(replica)));
    }
    if report.cache.is_in_use() {
        sections.push(format!("cache {}", cache::describe(&report.cache)));
    }
    if !limits.is_empty() {
        sections.push(limits::list(limits));
    }
    let recovery = report.recovery.iter().map(recovery);
    sections.push(output::table(["RECOVERY", "STATE", "TIMES"], recovery));
    if !report.certificates.is_empty() {
        let rows = report.certificates.iter().map(|one| certificate(one, &report.timestamp));
        sections.push(output::table(["CERTIFICATE", "ENDS", "DAYS LEFT"], rows));
    }
    sections.join("\n\n")
}

fn certificate(certificate: &Certificate, now: &str) -> [String; 3] {
    let ends = certificate.not_after.clone().unwrap_or_else(|| "never".to_owned());
    let left = ends.parse::<Timestamp>().ok().zip(now.parse::<Timestamp>().ok());
    let days = left.map(|(ends, now)| (ends.as_second() - now.as_second()).div_euclid(86_400));
    [certificate.hosts.join(", "), ends, days.map_or_else(|| "-".to_owned(), |days| days.to_string())]
}

fn head(report: &Report, paint: Paint) -> String {
    let Config { file, generation, loaded_at, last_error } = &report.config;
    let (busy, requests) =
        report.workers.iter().fold((0, 0), |(busy, requests), worker| (busy + worker.busy, requests + worker.requests));
    let mut text = format!(
        "{}: tollgate {}, pid {}, up {}\nconfiguration {generation} of {}, loaded {}\n\
         {} of {} connections open, {busy} in use; {requests} requests since the start",
        match report.status.as_str() {
            "healthy" => paint.green("healthy"),
            "degraded" => paint.yellow("degraded"),
            other => paint.red(other),
        },
        report.version,
        report.pid,
        duration(report.uptime_s),
        output::shown(file),
        loaded_at.as_deref().unwrap_or("at an unknown time"),
        report.connections.open,
        report.connections.max,
    );
    if let Some(error) = last_error {
        let error = error.lines().map(|line| format!("\n  {}", output::shown(line))).collect::<String>();
        text.push_str(&format!("\nthe last reload was refused:{error}"));
    }
    text
}

fn check(check: &Check) -> [String; 6] {
    let [value, worse] = match &check.measured {
        Some(Measured { value, unit, limit }) => [format!("{} {unit}", number(*value)), bound(limit)],
        None => ["-".to_owned(), "-".to_owned()],
    };
    let took = format!("{} ms", number(check.duration_ms));
    [check.name.clone(), check.status.clone(), value, worse, took, check.detail.clone()]
}

fn bound(Bound { degraded, unhealthy, worse }: &Bound) -> String {
    let degraded_at = format!("degraded {worse} {}", number(*degraded));
    match unhealthy {
        None => degraded_at,
        Some(unhealthy) if unhealthy == degraded => format!("unhealthy {worse} {}", number(*unhealthy)),
        Some(unhealthy) => format!("{degraded_at}, unhealthy {worse} {}", number(*unhealthy)),
    }
}

/// As many digits as are needed to compare, as the live page shows them.
fn number(value: f64) -> String {
    let size = value.abs().max(1e-6).log10().floor() as i32;
    let digits = usize::try_from(2 - size).unwrap_or(0);
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

fn listener(listener: &Listener) -> [String; 3] {
    let bound = listener.bound.map_or_else(|| "not open".to_owned(), |bound| bound.to_string());
    [listener.configured.to_string(), bound, if listener.tls { "yes" } else { "no" }.to_owned()]
}

fn replica(replica: &Replica) -> [String; 6] {
    [
        replica.upstream.clone(),
        replica.replica.to_string(),
        replica.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        replica.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
        replica.state.clone(),
        replica.restarts.to_string(),
    ]
}

fn recovery(recovery: &Recovery) -> [String; 3] {
    let state = match recovery {
        Recovery { active: true, .. } => "acts",
        Recovery { enabled: true, .. } => "ready",
        Recovery { .. } => "off",
    };
    [recovery.action.replace('_', " "), state.to_owned(), recovery.times.to_string()]
}

/// In the two largest units that there are.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_in_two_units() {
        let check = |seconds: f64, expected: &str| assert_eq!(duration(seconds), expected);
        check(0.4, "0 s");
        check(59.9, "59 s");
        check(61.0, "1 min 1 s");
        check(3_600.0, "1 h 0 min");
        check(90_000.0, "1 d 1 h");
    }

    #[test]
    fn numbers_with_what_is_needed_to_compare_them() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(79.0, "79");
        check(69.94, "69.9");
        check(0.000_735, "0.000735");
        check(5_012.3, "5012");
        check(-1.25, "-1.25");
        check(100.0, "100");
    }

    #[test]
    fn limits_say_on_which_side_it_is_worse() {
        let check = |degraded: f64, unhealthy: Option<f64>, worse: &str, expected: &str| {
            assert_eq!(bound(&Bound { degraded, unhealthy, worse: worse.to_owned() }), expected);
        };
        check(80.0, None, "from", "degraded from 80");
        check(70.0, Some(90.0), "from", "degraded from 70, unhealthy from 90");
        check(7.0, None, "below", "degraded below 7");
        check(1.0, Some(1.0), "from", "unhealthy from 1");
    }

    fn report() -> serde_json::Value {
        json!({
            "status": "degraded", "timestamp": "2026-11-21T03:51:31.000Z", "uptime_s": 61.5, "version": "0.1.0", "pid": 7,
            "response_time_ms": 0.2,
            "config": { "file": "config.toml", "generation": 2, "loaded_at": "2026-11-21T03:50:30.000Z",
                        "last_reload_at": null, "last_error": "config.toml:1:1: no" },
            "workers": [{ "connections": 2, "busy": 1, "accepted": 9, "requests": 40 },
                        { "connections": 1, "busy": 0, "accepted": 3, "requests": 2 }],
            "connections": { "open": 3, "max": 100 },
            "listeners": [{ "configured": "127.0.0.1:0", "bound": "127.0.0.1:4711", "tls": false }],
            "upstreams": [],
            "replicas": [{ "upstream": "app", "replica": 1, "state": "ready", "address": "127.0.0.1:4712", "pid": 8,
                           "restarts": 0, "uptime_s": 60 }],
            "cache": { "enabled": true, "entries": 1, "stored_bytes": 2048, "stored_bytes_max": 4096, "fetching_bytes": 0,
                       "fetching_bytes_max": 4096, "purges_in_force": 0, "routes": [] },
            "certificates": [{ "hosts": ["localhost"], "not_after": "2027-01-01T00:00:00.000Z" },
                             { "hosts": ["old"], "not_after": "2026-11-21T03:00:00.000Z" }],
            "checks": [
                { "name": "config", "status": "degraded", "duration_ms": 0.0, "detail": "refused" },
                { "name": "memory", "status": "healthy", "duration_ms": 0.1257, "age_s": 3.1, "detail": "79 of 100 MiB",
                  "value": 79.0, "unit": "percent", "limit": { "degraded": 80.0, "unhealthy": null, "worse": "from" } }],
            "recovery": [{ "action": "cache_memory", "enabled": true, "active": true, "times": 2 },
                         { "action": "breaker", "enabled": false, "active": false, "times": 0 }],
        })
    }

    fn look(report: serde_json::Value) -> Look {
        let limits = json!([{ "name": "per-ip", "key": "client-ip", "requests": 100, "window_s": 60, "burst": null,
            "dry_run": false, "keys": 2, "keys_max": 100, "limited_now": 0, "allowed": 1, "limited": 0,
            "dry_run_limited": 0, "evicted": 0, "most_used": [] }]);
        let routes = json!({ "total": 1, "window_s": 5.0, "shown": [{ "route": "/", "requests": 123, "rate": 2.0,
            "p50_ms": null, "p95_ms": null, "p99_ms": null, "client_error_ratio": 0.0, "server_error_ratio": 0.0 }] });
        let look = json!({ "sample": null, "status": report, "routes": routes, "control": "token", "limits": limits });
        serde_json::from_value(look).unwrap()
    }

    #[test]
    fn the_page_for_people() {
        let look = look(report());
        assert_eq!(
            output::squeezed(&describe(&look, None, Paint::plain())).join("\n"),
            "\
degraded: tollgate 0.1.0, pid 7, up 1 min 1 s
configuration 2 of config.toml, loaded 2026-11-21T03:50:30.000Z
3 of 100 connections open, 1 in use; 42 requests since the start
the last reload was refused:
config.toml:1:1: no

CHECK STATUS VALUE WORSE TOOK DETAIL
config degraded - - 0 ms refused
memory healthy 79 percent degraded from 80 0.126 ms 79 of 100 MiB

ROUTE REQUESTS PER S P50 P95 P99 4XX 5XX
/ 123 2.0 - - - 0.0 % 0.0 %
requests since the start, all else in the last 5 s

LISTENER BOUND TLS
127.0.0.1:0 127.0.0.1:4711 no

REPLICA OF NUMBER PID ADDRESS STATE RESTARTS
app 1 8 127.0.0.1:4712 ready 0

cache on: 1 response in 2.0 KiB of 4.0 KiB; 0 B of 4.0 KiB in use for bodies being fetched
0 hits and 0 misses since the start

LIMIT KEY QUOTA KEYS LIMITED NOW ALLOWED LIMITED EVICTED
per-ip client-ip 100 in 60 s 2 of 100 0 1 0 0

RECOVERY STATE TIMES
cache memory acts 2
breaker off 0

CERTIFICATE ENDS DAYS LEFT
localhost 2027-01-01T00:00:00.000Z 40
old 2026-11-21T03:00:00.000Z -1"
        );
    }

    #[test]
    fn between_two_looks_the_time_in_between_counts() {
        let (before, mut later) = (look(report()), report());
        later["uptime_s"] = 71.5.into();
        assert_eq!(before.span(None).seconds, 61.5);
        assert_eq!(look(later.clone()).span(Some(&before)).seconds, 10.0);
        // Another process counts from its own start.
        later["pid"] = 8.into();
        assert_eq!(look(later).span(Some(&before)).seconds, 71.5);
    }
}
