//! How the proxy is: each sign judged by itself, the worst of them for the whole.
//!
//! It never reads a sign: what it judges is handed in, the time as well.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::overload::Pressure;

/// A larger share of memory or descriptors is worth a look.
const SHARE_PERCENT_MAX: u64 = 80;
/// A certificate that ends sooner should have been replaced.
const CERTIFICATE_REST_MIN: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Healthy,
    /// It serves, but someone should look.
    Degraded,
    /// Requests fail that should not.
    Unhealthy,
}

/// The judgement of one sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub health: Health,
    pub detail: String,
}

/// The endpoints of one upstream, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub upstream: String,
    pub usable: usize,
    /// Taken out by failures or probes.
    pub out: usize,
    /// Taken out by hand, which is no fault.
    pub drained: usize,
    /// Its breaker lets nothing through.
    pub is_open: bool,
}

/// A resource that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

/// When the certificate of some hosts ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub hosts: String,
    pub not_after: SystemTime,
}

/// The worst of all.
pub fn overall(findings: impl IntoIterator<Item = Health>) -> Health {
    findings.into_iter().max().unwrap_or(Health::Healthy)
}

pub fn upstreams(upstreams: &[Endpoints]) -> Finding {
    let mut health = Health::Healthy;
    let mut detail = Vec::new();
    for Endpoints { upstream, usable, out, drained, is_open } in upstreams {
        let all = usable + out + drained;
        if *is_open {
            health = health.max(Health::Unhealthy);
            detail.push(format!("{upstream}: the breaker is open"));
        } else if *usable == 0 {
            health = health.max(Health::Unhealthy);
            detail.push(format!("{upstream}: none of {all} endpoints is usable"));
        } else if *out > 0 {
            health = health.max(Health::Degraded);
            detail.push(format!("{upstream}: {out} of {all} endpoints out"));
        }
    }
    if detail.is_empty() {
        let usable: usize = upstreams.iter().map(|endpoints| endpoints.usable).sum();
        detail.push(format!("usable endpoints: {usable}"));
    }
    Finding { health, detail: detail.join("; ") }
}

/// `refused`: why the last reload was refused, if it was.
pub fn config(generation: u64, refused: Option<&str>) -> Finding {
    match refused {
        None => Finding { health: Health::Healthy, detail: format!("generation {generation} is in force") },
        Some(_) => Finding {
            health: Health::Degraded,
            detail: format!("the last reload was refused, generation {generation} stays in force"),
        },
    }
}

/// `machine`: against what there is; `limited`: against the hard limit, with the pressure that requests and the cache
/// feel, if there are limits. The worse of the two decides: limits may be set above what there is.
pub fn memory(machine: Option<Usage>, limited: Option<(Usage, Pressure)>) -> Finding {
    let show = |Usage { used, limit }| format!("{} of {} MiB", used >> 20, limit >> 20);
    let of_machine = share(machine, show);
    let Some((usage, pressure)) = limited else { return of_machine };
    let (health, done) = match pressure {
        Pressure::None => (Health::Healthy, ""),
        Pressure::Soft => (Health::Degraded, ", over the soft limit: the cache gives memory back"),
        Pressure::Hard => (Health::Unhealthy, ", over the hard limit: new requests are refused"),
    };
    if of_machine.health > health {
        return of_machine;
    }
    Finding { health, detail: format!("{} ({} %){done}", show(usage), percent(usage)) }
}

pub fn descriptors(usage: Option<Usage>) -> Finding {
    share(usage, |Usage { used, limit }| format!("{used} of {limit}"))
}

fn share(usage: Option<Usage>, show: impl Fn(Usage) -> String) -> Finding {
    let Some(usage) = usage else {
        return Finding { health: Health::Healthy, detail: "not known on this system".to_owned() };
    };
    let percent = percent(usage);
    let health = if percent >= SHARE_PERCENT_MAX.into() { Health::Degraded } else { Health::Healthy };
    Finding { health, detail: format!("{} ({percent} %)", show(usage)) }
}

fn percent(Usage { used, limit }: Usage) -> u128 {
    u128::from(used) * 100 / u128::from(limit.max(1))
}

pub fn certificates(certificates: &[Expiry], now: SystemTime) -> Finding {
    let mut detail = Vec::new();
    for Expiry { hosts, not_after } in certificates {
        match not_after.duration_since(now) {
            Err(_) => detail.push(format!("{hosts}: has ended")),
            Ok(rest) if rest < CERTIFICATE_REST_MIN => {
                detail.push(format!("{hosts}: ends in {} hours", rest.as_secs() / 3_600));
            }
            Ok(_) => {}
        }
    }
    if detail.is_empty() {
        return Finding { health: Health::Healthy, detail: format!("in use: {}", certificates.len()) };
    }
    Finding { health: Health::Degraded, detail: detail.join("; ") }
}

#[cfg(test)]
mod tests {
    use Health::{Degraded, Healthy, Unhealthy};

    use super::*;

    #[test]
    fn the_worst_sign_decides() {
        let check = |signs: &[Health], expected: Health| assert_eq!(overall(signs.iter().copied()), expected);
        check(&[], Healthy);
        check(&[Healthy, Healthy], Healthy);
        check(&[Healthy, Degraded, Healthy], Degraded);
        check(&[Unhealthy, Degraded, Healthy], Unhealthy);
    }

    #[test]
    fn upstreams_by_their_endpoints() {
        let check = |counts: &[(usize, usize, usize)], health: Health, detail: &str| {
            let endpoints = |(index, &(usable, out, drained)): (usize, &(usize, usize, usize))| Endpoints {
                upstream: format!("u{index}"),
                usable,
                out,
                drained,
                is_open: false,
            };
            let all: Vec<Endpoints> = counts.iter().enumerate().map(endpoints).collect();
            assert_eq!(upstreams(&all), Finding { health, detail: detail.to_owned() }, "{counts:?}");
        };
        check(&[], Healthy, "usable endpoints: 0");
        check(&[(3, 0, 0), (1, 0, 0)], Healthy, "usable endpoints: 4");
        check(&[(2, 0, 1)], Healthy, "usable endpoints: 2");
        check(&[(3, 0, 0), (2, 1, 0)], Degraded, "u1: 1 of 3 endpoints out");
        check(&[(0, 3, 0)], Unhealthy, "u0: none of 3 endpoints is usable");
        check(&[(0, 0, 2)], Unhealthy, "u0: none of 2 endpoints is usable");
        check(&[(0, 0, 0)], Unhealthy, "u0: none of 0 endpoints is usable");
        check(&[(0, 1, 0), (1, 1, 0)], Unhealthy, "u0: none of 1 endpoints is usable; u1: 1 of 2 endpoints out");
        let open = Endpoints { upstream: "app".to_owned(), usable: 3, out: 0, drained: 0, is_open: true };
        let detail = "app: the breaker is open".to_owned();
        assert_eq!(upstreams(&[open]), Finding { health: Unhealthy, detail });
    }

    #[test]
    fn a_refused_reload_degrades() {
        assert_eq!(config(3, None).health, Healthy);
        let refused = config(3, Some("config.toml:1:1: bad"));
        assert_eq!(refused.health, Degraded);
        assert_eq!(refused.detail, "the last reload was refused, generation 3 stays in force");
    }

    #[test]
    fn shares_of_limited_resources() {
        let check = |used: u64, limit: u64, health: Health, detail: &str| {
            assert_eq!(descriptors(Some(Usage { used, limit })), Finding { health, detail: detail.to_owned() });
        };
        check(0, 100, Healthy, "0 of 100 (0 %)");
        check(79, 100, Healthy, "79 of 100 (79 %)");
        check(80, 100, Degraded, "80 of 100 (80 %)");
        check(799, 1000, Healthy, "799 of 1000 (79 %)");
        check(1, 0, Degraded, "1 of 0 (100 %)");
        check(u64::MAX, u64::MAX, Degraded, "18446744073709551615 of 18446744073709551615 (100 %)");
    }

    #[test]
    fn memory_by_its_limits_and_by_what_there_is() {
        let check = |machine: Option<u64>, limited: Option<(u64, Pressure)>, health: Health, detail: &str| {
            let of = |limit: u64| Usage { used: 80 << 20, limit: limit << 20 };
            let found = memory(machine.map(of), limited.map(|(hard, pressure)| (of(hard), pressure)));
            assert_eq!(found, Finding { health, detail: detail.to_owned() }, "{machine:?} {limited:?}");
        };
        check(None, None, Healthy, "not known on this system");
        check(Some(100), None, Degraded, "80 of 100 MiB (80 %)");
        check(Some(1000), None, Healthy, "80 of 1000 MiB (8 %)");
        check(Some(1000), Some((100, Pressure::None)), Healthy, "80 of 100 MiB (80 %)");
        let soft = "80 of 90 MiB (88 %), over the soft limit: the cache gives memory back";
        check(Some(1000), Some((90, Pressure::Soft)), Degraded, soft);
        let hard = "80 of 10 MiB (800 %), over the hard limit: new requests are refused";
        check(Some(1000), Some((10, Pressure::Hard)), Unhealthy, hard);
        check(Some(100), Some((10, Pressure::Hard)), Unhealthy, hard);
        check(Some(100), Some((4000, Pressure::None)), Degraded, "80 of 100 MiB (80 %)");
    }

    #[test]
    fn certificates_by_what_is_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let check = |hours: i64, health: Health, detail: &str| {
            let span = Duration::from_secs(hours.unsigned_abs() * 3_600);
            let not_after = if hours < 0 { now - span } else { now + span };
            let found = certificates(&[Expiry { hosts: "a.example".to_owned(), not_after }], now);
            assert_eq!(found, Finding { health, detail: detail.to_owned() }, "{hours}");
        };
        check(24 * 90, Healthy, "in use: 1");
        check(24 * 7, Healthy, "in use: 1");
        check(24 * 7 - 1, Degraded, "a.example: ends in 167 hours");
        check(0, Degraded, "a.example: ends in 0 hours");
        check(-1, Degraded, "a.example: has ended");
        assert_eq!(certificates(&[], now).detail, "in use: 0");
    }
}
