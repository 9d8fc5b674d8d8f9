//! `tollgate status`: how the running proxy is.

use std::net::SocketAddr;

use serde::Deserialize;

use super::client::Reach;
use super::config_file::ConfigFile;
use super::upstreams::{self, Upstream};
use super::{Failure, output};

/// Show how the running proxy is
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show how the running proxy is: its checks, the configuration in force, listeners, the endpoints of \
                  every upstream, and certificates. `--json` prints what `/status` on the admin listener says."
)]
pub struct Status {
    #[command(flatten)]
    reach: Reach,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Of `/status`, what people want to see.
#[derive(Debug, Deserialize)]
struct Report {
    status: String,
    uptime_s: f64,
    version: String,
    pid: u32,
    config: Config,
    workers: Vec<Worker>,
    connections: Connections,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
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
struct Certificate {
    hosts: Vec<String>,
    not_after: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Check {
    name: String,
    status: String,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct Recovery {
    action: String,
    enabled: bool,
    active: bool,
    times: u64,
}

impl Status {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let reply = self.reach.client(config)?.get("/status")?;
        reply.print(self.json, |reply| Ok(describe(&reply.read()?)))
    }
}

fn describe(report: &Report) -> String {
    let mut sections = vec![head(report)];
    let checks = report.checks.iter().map(|check| [check.name.clone(), check.status.clone(), check.detail.clone()]);
    sections.push(output::table(["CHECK", "STATUS", "DETAIL"], checks));
    sections.push(output::table(["LISTENER", "BOUND", "TLS"], report.listeners.iter().map(listener)));
    if !report.upstreams.is_empty() {
        sections.push(upstreams::table(&report.upstreams));
    }
    let recovery = report.recovery.iter().map(recovery);
    sections.push(output::table(["RECOVERY", "STATE", "TIMES"], recovery));
    if !report.certificates.is_empty() {
        let rows = report.certificates.iter().map(|certificate| {
            [certificate.hosts.join(", "), certificate.not_after.clone().unwrap_or_else(|| "never".to_owned())]
        });
        sections.push(output::table(["CERTIFICATE", "ENDS"], rows));
    }
    sections.join("\n\n")
}

fn head(report: &Report) -> String {
    let Config { file, generation, loaded_at, last_error } = &report.config;
    let (busy, requests) =
        report.workers.iter().fold((0, 0), |(busy, requests), worker| (busy + worker.busy, requests + worker.requests));
    let mut text = format!(
        "{}: tollgate {}, pid {}, up {}\nconfiguration {generation} of {}, loaded {}\n\
         {} of {} connections open, {busy} in use; {requests} requests since the start",
        report.status,
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

fn listener(listener: &Listener) -> [String; 3] {
    let bound = listener.bound.map_or_else(|| "not open".to_owned(), |bound| bound.to_string());
    [listener.configured.to_string(), bound, if listener.tls { "yes" } else { "no" }.to_owned()]
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
    fn the_page_for_people() {
        let report: Report = serde_json::from_value(json!({
            "status": "degraded", "timestamp": "2026-11-21T03:51:31.000Z", "uptime_s": 61.5, "version": "0.1.0", "pid": 7,
            "response_time_ms": 0.2,
            "config": { "file": "config.toml", "generation": 2, "loaded_at": "2026-11-21T03:50:30.000Z",
                        "last_reload_at": null, "last_error": "config.toml:1:1: no" },
            "workers": [{ "connections": 2, "busy": 1, "accepted": 9, "requests": 40 },
                        { "connections": 1, "busy": 0, "accepted": 3, "requests": 2 }],
            "connections": { "open": 3, "max": 100 },
            "listeners": [{ "configured": "127.0.0.1:0", "bound": "127.0.0.1:4711", "tls": false }],
            "upstreams": [], "replicas": [],
            "certificates": [{ "hosts": ["localhost"], "not_after": "2027-01-01T00:00:00.000Z" }],
            "checks": [{ "name": "config", "status": "degraded", "duration_ms": 0.0, "detail": "refused" }],
            "recovery": [{ "action": "cache_memory", "enabled": true, "active": true, "times": 2 },
                         { "action": "breaker", "enabled": false, "active": false, "times": 0 }],
        }))
        .unwrap();
        let text = describe(&report);
        let expected = "\
degraded: tollgate 0.1.0, pid 7, up 1 min 1 s
configuration 2 of config.toml, loaded 2026-11-21T03:50:30.000Z
3 of 100 connections open, 1 in use; 42 requests since the start
the last reload was refused:
  config.toml:1:1: no

CHECK   STATUS    DETAIL
config  degraded  refused

LISTENER     BOUND           TLS
127.0.0.1:0  127.0.0.1:4711  no

RECOVERY      STATE  TIMES
cache memory  acts   2
breaker       off    0

CERTIFICATE  ENDS
localhost    2027-01-01T00:00:00.000Z";
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"), expected);
    }
}
