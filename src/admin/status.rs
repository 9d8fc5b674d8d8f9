//! What `/status` and `/upstreams` say: the shape of the JSON, which tools read. Names are not changed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::judge::{self, Endpoints, Finding, Health, Measured};
use crate::balance::{BreakerStatus, EndpointStatus, QueueStatus};
use crate::cache::{Report, Statistics};
use crate::overload::recovery::Recovery;
use crate::supervise::ReplicaStatus;

#[derive(Debug, Serialize)]
pub struct Status {
    pub status: Health,
    pub timestamp: String,
    pub uptime_s: f64,
    pub version: &'static str,
    pub pid: u32,
    /// What it took to find all of this.
    pub response_time_ms: f64,
    pub config: ConfigStatus,
    pub workers: Vec<WorkerStatus>,
    pub connections: Connections,
    pub listeners: Vec<ListenerStatus>,
    pub upstreams: Vec<UpstreamStatus>,
    pub cache: CacheStatus,
    pub replicas: Vec<ReplicaStatus>,
    pub certificates: Vec<CertificateStatus>,
    pub checks: Vec<Check>,
    /// What the process does by itself when something is short.
    pub recovery: [Recovery; 3],
}

#[derive(Debug, Serialize)]
pub struct ConfigStatus {
    pub file: PathBuf,
    pub generation: u64,
    pub loaded_at: Option<String>,
    pub last_reload_at: Option<String>,
    /// Why the last reload was refused.
    pub last_error: Option<String>,
    /// The same as `tollgate check` prints it, with the lines that are meant.
    pub last_diagnostics: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct WorkerStatus {
    pub connections: usize,
    pub busy: usize,
    pub accepted: u64,
    pub requests: u64,
}

#[derive(Debug, Serialize)]
pub struct Connections {
    pub open: usize,
    pub max: usize,
}

#[derive(Debug, Serialize)]
pub struct ListenerStatus {
    pub configured: SocketAddr,
    /// None while it is not open.
    pub bound: Option<SocketAddr>,
    pub tls: bool,
}

#[derive(Debug, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    pub usable: usize,
    /// None if it has none.
    pub breaker: Option<BreakerStatus>,
    pub queue: QueueStatus,
    pub endpoints: Vec<EndpointStatus>,
}

/// What `/cache` says too.
#[derive(Debug, Serialize)]
pub struct CacheStatus {
    pub enabled: bool,
    pub entries: usize,
    pub stored_bytes: u64,
    pub stored_bytes_max: u64,
    pub fetching_bytes: u64,
    pub fetching_bytes_max: u64,
    /// Names that responses still have to be held against.
    pub purges_in_force: usize,
    pub routes: Vec<CachedRouteStatus>,
}

#[derive(Debug, Serialize)]
pub struct CachedRouteStatus {
    pub route: String,
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
    /// None: it was never asked.
    pub hit_ratio: Option<f64>,
    pub evictions: u64,
    pub purged: u64,
    /// Microseconds that a lookup takes, by one of 64 that is timed.
    pub lookup_us: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct CertificateStatus {
    pub hosts: Vec<String>,
    pub not_after: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Health,
    /// What it took to look.
    pub duration_ms: f64,
    /// How long ago, for what is looked at now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    pub detail: String,
    /// None for what has none, or cannot be known.
    #[serde(flatten)]
    pub measured: Option<Measured>,
}

impl Check {
    pub fn new(name: &'static str, finding: Finding, duration_ms: f64) -> Self {
        let Finding { health, detail, measured } = finding;
        Self { name, status: health, duration_ms, age_s: None, detail, measured }
    }
}

impl CacheStatus {
    pub fn new(enabled: bool, report: Report) -> Self {
        let Report { usage, routes } = report;
        Self {
            enabled,
            entries: usage.entries,
            stored_bytes: usage.stored_bytes,
            stored_bytes_max: usage.stored_bytes_max,
            fetching_bytes: usage.fetching_bytes,
            fetching_bytes_max: usage.fetching_bytes_max,
            purges_in_force: usage.bans.exact + usage.bans.wide,
            routes: routes.into_iter().map(cached_route).collect(),
        }
    }
}

fn cached_route((route, statistics): (String, Statistics)) -> CachedRouteStatus {
    let lookup_us = statistics.lookup_time().map(|time| time.as_nanos() as f64 / 1_000.0);
    let (hits, misses) = (statistics.hits(), statistics.misses());
    let Statistics { entries, bytes, evictions, purged, .. } = statistics;
    let hit_ratio = (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64);
    CachedRouteStatus { route, entries, bytes, hits, misses, hit_ratio, evictions, purged, lookup_us }
}

impl UpstreamStatus {
    pub fn new(name: &str, breaker: Option<BreakerStatus>, queue: QueueStatus, endpoints: Vec<EndpointStatus>) -> Self {
        let usable = endpoints.iter().filter(|endpoint| is_usable(endpoint)).count();
        Self { name: name.to_owned(), usable, breaker, queue, endpoints }
    }

    /// For the judgement.
    pub fn counts(&self) -> Endpoints {
        let drained = self.endpoints.iter().filter(|endpoint| endpoint.drained).count();
        let up = self.endpoints.iter().filter(|endpoint| endpoint.up).count();
        let (failing, out) = (up - self.usable, self.endpoints.len() - up - drained);
        let is_open = self.breaker.as_ref().is_some_and(|breaker| breaker.open_for_s.is_some());
        Endpoints { upstream: self.name.clone(), usable: self.usable, failing, out, drained, is_open }
    }
}

fn is_usable(endpoint: &EndpointStatus) -> bool {
    endpoint.state == crate::balance::health::Verdict::Usable.label()
}

/// The worst of the checks.
pub fn overall(checks: &[Check]) -> Health {
    judge::overall(checks.iter().map(|check| check.status))
}

/// RFC 3339 in UTC, to the millisecond. None is a time that no calendar has.
pub fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::Queue;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        let check = |millis: u64, expected: &str| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(rfc3339(time).as_deref(), Some(expected));
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_795_233_091_042, "2026-11-21T03:51:31.042Z");
    }

    #[test]
    fn endpoints_are_counted_by_what_keeps_them_out() {
        let endpoint = |state: &'static str| EndpointStatus {
            address: ([10, 0, 0, 1], 3000).into(),
            name: "app".into(),
            state,
            up: ["usable", "failing"].contains(&state),
            out_for_s: None,
            drained: state == "drained",
            weight: 1,
            in_flight: 0,
            requests: 0,
            failures: 0,
            attempts: 0,
            attempts_s: 0.0,
            last_error: None,
        };
        let check = |states: &[&'static str], usable: usize, failing: usize, out: usize, drained: usize| {
            let endpoints = states.iter().map(|state| endpoint(state)).collect();
            let status = UpstreamStatus::new("app", None, Queue::default().status(), endpoints);
            assert_eq!(status.usable, usable);
            let expected = Endpoints { upstream: "app".to_owned(), usable, failing, out, drained, is_open: false };
            assert_eq!(status.counts(), expected);
        };
        check(&["usable", "usable", "ejected", "unhealthy", "drained"], 2, 0, 2, 1);
        check(&["failing", "ejected", "drained"], 0, 1, 1, 1);
    }
}
