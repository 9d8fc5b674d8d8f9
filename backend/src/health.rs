//! `/health`: the state of this replica and of each thing it needs.
//!
//! It grades what the kernel says about this process, and what [`pulse`](crate::pulse) found last, and never waits for
//! anything: a probe every few seconds must stay cheap, and it must answer while the replica is busy.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::App;
use crate::pulse::Finding as Pulse;
use crate::replica::Replica;

/// From where on a check is worse than healthy.
#[derive(Debug, Clone, Copy, Serialize)]
struct Limits {
    degraded: u64,
    /// None where the replica can go on serving without.
    unhealthy: Option<u64>,
    unit: &'static str,
}

const PERCENT: &str = "percent";
const MEMORY: Limits = Limits { degraded: 80, unhealthy: Some(95), unit: PERCENT };
const DISK: Limits = Limits { degraded: 90, unhealthy: None, unit: PERCENT };
/// A replica that is busy is not to be taken out: the others would have its work as well.
const PROCESSORS: Limits = Limits { degraded: 70, unhealthy: None, unit: PERCENT };

/// How long an answer may take before it is worse than healthy, and what it is if there is none.
struct Patience {
    limits: Limits,
    silent: Health,
}

const MILLISECONDS: &str = "milliseconds";
const DATABASE: Patience =
    Patience { limits: Limits { degraded: 100, unhealthy: None, unit: MILLISECONDS }, silent: Health::Unhealthy };
/// Nothing in it is the only copy.
const REDIS: Patience =
    Patience { limits: Limits { degraded: 50, unhealthy: None, unit: MILLISECONDS }, silent: Health::Degraded };

/// Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

#[derive(Serialize)]
struct Report<'a> {
    status: Health,
    timestamp: String,
    uptime_s: f64,
    response_time_ms: f64,
    replica: &'a Replica,
    checks: BTreeMap<&'static str, Check>,
}

#[derive(Serialize)]
struct Check {
    status: Health,
    duration_ms: f64,
    limits: Limits,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Finding {
    Usage {
        used_percent: u64,
        #[serde(flatten)]
        usage: Usage,
    },
    Share {
        used_percent: u64,
    },
    Failed {
        error: String,
    },
    /// The duration says it all; or nothing is known yet.
    Nothing {},
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Usage {
    used_bytes: u64,
    limit_bytes: u64,
}

pub async fn report(State(app): State<Arc<App>>) -> Response {
    let begin = Instant::now();
    let mut checks = BTreeMap::from([("disk", check(&DISK, disk)), ("memory", check(&MEMORY, memory))]);
    let findings = app.pulse.findings(begin);
    checks.insert("cpu", processors(findings.processors));
    checks.insert("database", answered(&DATABASE, findings.database));
    if let Some(redis) = findings.redis {
        checks.insert("redis", answered(&REDIS, redis));
    }
    let status = checks.values().map(|check| check.status).max().unwrap_or(Health::Healthy);
    let report = Report {
        status,
        timestamp: jiff::Timestamp::now().to_string(),
        uptime_s: app.replica.started.elapsed().as_secs_f64(),
        response_time_ms: millis_since(begin),
        replica: &app.replica,
        checks,
    };
    let code = match status {
        Health::Healthy | Health::Degraded => StatusCode::OK,
        Health::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, [(CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

fn check(limits: &Limits, measure: fn() -> io::Result<Usage>) -> Check {
    let begin = Instant::now();
    let (status, finding) = match measure() {
        Ok(usage) => {
            let used_percent = percent(usage);
            (grade(used_percent, limits), Finding::Usage { used_percent, usage })
        }
        // Not to know is no reason to take the replica out.
        Err(error) => (Health::Degraded, Finding::Failed { error: error.to_string() }),
    };
    Check { status, duration_ms: millis_since(begin), limits: *limits, finding }
}

/// `share` is from 0 to 1, and was found out before.
fn processors(share: Option<f64>) -> Check {
    let used_percent = share.map(|share| (share * 100.0) as u64);
    let status = used_percent.map_or(Health::Healthy, |percent| grade(percent, &PROCESSORS));
    let finding = used_percent.map_or(Finding::Nothing {}, |used_percent| Finding::Share { used_percent });
    Check { status, duration_ms: 0.0, limits: PROCESSORS, finding }
}

fn answered(patience: &Patience, pulse: Pulse) -> Check {
    match pulse.answer {
        Ok(took) => {
            let whole = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let (status, finding) = (grade(whole, &patience.limits), Finding::Nothing {});
            Check { status, duration_ms: millis(took), limits: patience.limits, finding }
        }
        Err(error) => {
            let finding = Finding::Failed { error };
            Check { status: patience.silent, duration_ms: 0.0, limits: patience.limits, finding }
        }
    }
}

fn percent(usage: Usage) -> u64 {
    let percent = u128::from(usage.used_bytes) * 100 / u128::from(usage.limit_bytes.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

fn grade(value: u64, limits: &Limits) -> Health {
    let reached = |limit: u64| value >= limit;
    if limits.unhealthy.is_some_and(reached) {
        Health::Unhealthy
    } else if reached(limits.degraded) {
        Health::Degraded
    } else {
        Health::Healthy
    }
}

/// Memory of this process that is held in RAM, in bytes.
pub fn resident() -> io::Result<Option<u64>> {
    Ok(kib_field(&std::fs::read_to_string("/proc/self/status")?, "VmRSS:"))
}

/// The resident memory of this process against what its control group, or else the machine, allows.
fn memory() -> io::Result<Usage> {
    let used = resident()?;
    // Where the control group sets no limit the file holds "max", and outside of one it may be missing.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let limit = match group {
        Some(limit) => Some(limit),
        None => kib_field(&std::fs::read_to_string("/proc/meminfo")?, "MemTotal:"),
    };
    match (used, limit) {
        (Some(used_bytes), Some(limit_bytes)) => Ok(Usage { used_bytes, limit_bytes }),
        _ => Err(io::Error::other("the kernel does not tell the use of memory")),
    }
}

/// The file system of the root directory, as a program without privileges may fill it.
fn disk() -> io::Result<Usage> {
    let fs = rustix::fs::statvfs("/")?;
    let used_blocks = fs.f_blocks.saturating_sub(fs.f_bfree);
    Ok(Usage {
        used_bytes: used_blocks.saturating_mul(fs.f_frsize),
        limit_bytes: used_blocks.saturating_add(fs.f_bavail).saturating_mul(fs.f_frsize),
    })
}

/// The value of a line like `VmRSS:     1234 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

fn millis_since(begin: Instant) -> f64 {
    millis(begin.elapsed())
}

/// To the microsecond; further digits would only be noise in the report.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_grade(used_bytes: u64, limit_bytes: u64, limits: &Limits, expected: Health) {
        assert_eq!(
            grade(percent(Usage { used_bytes, limit_bytes }), limits),
            expected,
            "{used_bytes} of {limit_bytes}"
        );
    }

    #[test]
    fn a_share_is_graded_by_its_limits() {
        check_grade(79, 100, &MEMORY, Health::Healthy);
        check_grade(80, 100, &MEMORY, Health::Degraded);
        check_grade(94, 100, &MEMORY, Health::Degraded);
        check_grade(95, 100, &MEMORY, Health::Unhealthy);
        check_grade(100, 100, &DISK, Health::Degraded);
        check_grade(0, 0, &MEMORY, Health::Healthy);
        check_grade(u64::MAX, u64::MAX, &MEMORY, Health::Unhealthy);
    }

    #[test]
    fn answers_are_graded_by_the_time_that_they_take() {
        for (patience, micros, expected) in [
            (&DATABASE, 99_999, Health::Healthy),
            (&DATABASE, 100_000, Health::Degraded),
            (&DATABASE, 4_000_000, Health::Degraded),
            (&REDIS, 49_999, Health::Healthy),
            (&REDIS, 50_000, Health::Degraded),
        ] {
            let pulse = Pulse::answered(Duration::from_micros(micros));
            assert_eq!(answered(patience, pulse).status, expected, "{micros} µs");
        }
    }

    #[test]
    fn a_busy_replica_is_degraded_and_not_taken_out() {
        for (share, expected) in [(None, Health::Healthy), (Some(0.69), Health::Healthy), (Some(1.0), Health::Degraded)]
        {
            assert_eq!(processors(share).status, expected, "{share:?}");
        }
    }

    #[test]
    fn fields_of_the_kernel_are_read_in_bytes() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t  12 kB\nThreads:\t1\nVmHuge: 18446744073709551615 kB\n";
        for (name, expected) in [("VmRSS:", Some(12 * 1024)), ("Threads:", None), ("VmSwap:", None), ("VmHuge:", None)]
        {
            assert_eq!(kib_field(text, name), expected, "{name}");
        }
    }
}
