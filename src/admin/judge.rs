//! How the proxy is: each sign judged by itself, the worst of them for the whole.
//!
//! It never reads a sign: what it judges is handed in, the time as well.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::overload::Pressure;
use crate::overload::memory::Limits;

/// Shares in percent from which memory, processors and so on are worth a look, and from which it is late.
const MEMORY: Limit = Limit::from(80.0, None);
const PROCESSORS: Limit = Limit::from(70.0, Some(90.0));
const DISK: Limit = Limit::from(90.0, None);
const DESCRIPTORS: Limit = Limit::from(80.0, None);
const CONNECTIONS: Limit = Limit::from(70.0, Some(90.0));
/// Milliseconds that a lookup of the cache may take.
const LOOKUP: Limit = Limit::from(50.0, None);
const ENDPOINTS_OUT: Limit = Limit::from(1.0, None);
const UPSTREAMS_DOWN: Limit = Limit::from(1.0, Some(1.0));
const REFUSED: Limit = Limit::from(1.0, None);
const CLOSED: Limit = Limit::from(1.0, Some(1.0));
const LINES_LOST: Limit = Limit::from(1.0, None);
/// A certificate that ends sooner, in days, should have been replaced.
const DAYS_LEFT: Limit = Limit { degraded: 7.0, unhealthy: None, worse: Worse::Below };
const DAY_SECONDS: f64 = 86_400.0;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub health: Health,
    pub detail: String,
    /// None if it cannot be known.
    pub measured: Option<Measured>,
}

/// What was judged, and against what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    pub value: f64,
    pub unit: &'static str,
    pub limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limit {
    pub degraded: f64,
    /// None where it goes on without.
    pub unhealthy: Option<f64>,
    pub worse: Worse,
}

/// On which side of a limit it is worse; the limit itself is on the side of more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    From,
    Below,
}

impl Limit {
    const fn from(degraded: f64, unhealthy: Option<f64>) -> Self {
        Self { degraded, unhealthy, worse: Worse::From }
    }

    fn judge(self, value: f64) -> Health {
        let exceeds = |limit: f64| match self.worse {
            Worse::From => value >= limit,
            Worse::Below => value < limit,
        };
        if self.unhealthy.is_some_and(exceeds) {
            Health::Unhealthy
        } else if exceeds(self.degraded) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
}

impl Finding {
    fn by(limit: Limit, (value, unit): (f64, &'static str), detail: String) -> Self {
        Self { health: limit.judge(value), detail, measured: Some(Measured { value, unit, limit }) }
    }

    /// It is as good as it can be known.
    pub fn unmeasured(detail: &str) -> Self {
        Self { health: Health::Healthy, detail: detail.to_owned(), measured: None }
    }

    /// For what did not answer in time: there is something to look at.
    pub fn silent(waiting: Duration) -> Self {
        let detail = format!("no answer for {} s", waiting.as_secs());
        Self { health: Health::Degraded, detail, measured: None }
    }
}

/// The endpoints of one upstream, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub upstream: String,
    pub usable: usize,
    /// In, although it fails, because it is the last.
    pub failing: usize,
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

/// Memory under the limits of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// What the pressure, which requests and the cache feel, was judged by.
    pub resident: u64,
    pub limits: Limits,
    pub pressure: Pressure,
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
    let (mut down, mut without) = (0_u32, 0);
    let mut detail = Vec::new();
    for Endpoints { upstream, usable, failing, out, drained, is_open } in upstreams {
        let all = usable + failing + out + drained;
        without += failing + out;
        if *is_open {
            down += 1;
            detail.push(format!("{upstream}: the breaker is open"));
        } else if usable + failing == 0 {
            down += 1;
            detail.push(format!("{upstream}: none of {all} endpoints is usable"));
        } else if *failing > 0 {
            detail.push(format!("{upstream}: of {all} endpoints the last one fails, and stays in"));
        } else if *out > 0 {
            detail.push(format!("{upstream}: {out} of {all} endpoints out"));
        }
    }
    if detail.is_empty() {
        let usable: usize = upstreams.iter().map(|endpoints| endpoints.usable).sum();
        detail.push(format!("usable endpoints: {usable}"));
    }
    let (limit, measured) = match down {
        0 => (ENDPOINTS_OUT, (without as f64, "endpoints out or failing")),
        down => (UPSTREAMS_DOWN, (f64::from(down), "upstreams down")),
    };
    Finding::by(limit, measured, detail.join("; "))
}

/// `refused`: why the last reload was refused, if it was.
pub fn config(generation: u64, refused: Option<&str>) -> Finding {
    let detail = match refused {
        None => format!("generation {generation} is in force"),
        Some(_) => format!("the last reload was refused, generation {generation} stays in force"),
    };
    Finding::by(REFUSED, (f64::from(u8::from(refused.is_some())), "refused"), detail)
}

/// `machine`: against what there is; `limited`: against the limits of the configuration, if there are. The worse of the two
/// decides, and says by what: limits may be set above what there is.
pub fn memory(machine: Option<Usage>, limited: Option<Limited>) -> Finding {
    let of_machine = share(MEMORY, machine, |Usage { used, limit }| format!("{} of {} MiB", used >> 20, limit >> 20));
    let Some(Limited { resident, limits, pressure }) = limited else { return of_machine };
    let done = match pressure {
        // It is the machine's to say then, if it says anything.
        Pressure::None if machine.is_some() => return of_machine,
        Pressure::None => "",
        Pressure::Soft => ", over the soft limit: the cache gives memory back",
        Pressure::Hard => ", over the hard limit: new requests are refused",
    };
    let Limits { soft, hard } = limits.in_force(pressure);
    let limit = Limit::from(mib(soft), Some(mib(hard)));
    Finding::by(limit, (mib(resident), "MiB"), format!("{} of {} MiB{done}", resident >> 20, limits.hard >> 20))
}

/// Exactly.
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `share`: of the processors that the process may use, of late.
pub fn processors(share: f64, count: usize) -> Finding {
    let value = (share * 1000.0).round() / 10.0;
    Finding::by(PROCESSORS, (value, PERCENT), format!("{value} % of {count} processors"))
}

pub fn disk(usage: Option<Usage>) -> Finding {
    share(DISK, usage, |Usage { used, limit }| format!("{} of {} MiB", used >> 20, limit >> 20))
}

pub fn descriptors(usage: Option<Usage>) -> Finding {
    share(DESCRIPTORS, usage, |Usage { used, limit }| format!("{used} of {limit}"))
}

pub fn connections(usage: Usage) -> Finding {
    share(CONNECTIONS, Some(usage), |Usage { used, limit }| format!("{used} of {limit}"))
}

const PERCENT: &str = "percent";

fn share(limit: Limit, usage: Option<Usage>, show: impl Fn(Usage) -> String) -> Finding {
    let Some(usage) = usage else { return Finding::unmeasured("not known on this system") };
    let percent = percent(usage);
    Finding::by(limit, (percent as f64, PERCENT), format!("{} ({percent} %)", show(usage)))
}

fn percent(Usage { used, limit }: Usage) -> u128 {
    u128::from(used) * 100 / u128::from(limit.max(1))
}

/// `lookup`: how long one took of late, if any was timed; `stored`: bytes.
pub fn cache(is_enabled: bool, lookup: Option<Duration>, stored: Usage) -> Finding {
    if !is_enabled {
        return Finding::unmeasured("off");
    }
    let Usage { used, limit } = stored;
    let detail = format!("{} of {} MiB stored", used >> 20, limit >> 20);
    match lookup {
        None => Finding::unmeasured(&format!("{detail}, not asked in the last minute")),
        Some(lookup) => {
            let milliseconds = lookup.as_nanos() as f64 / 1e6;
            let detail = format!("{detail}, a lookup took {milliseconds} ms in the last minute");
            Finding::by(LOOKUP, (milliseconds, "milliseconds"), detail)
        }
    }
}

pub fn listeners(open: usize, configured: usize) -> Finding {
    let closed = configured.saturating_sub(open);
    Finding::by(CLOSED, (closed as f64, "listeners closed"), format!("{open} of {configured} open"))
}

/// `lost`: lines of late; `all`: since the start.
pub fn log(lost: u64, all: u64) -> Finding {
    let detail = format!("{lost} lines lost in the last minute, {all} since the start");
    Finding::by(LINES_LOST, (lost as f64, "lines lost"), detail)
}

pub fn certificates(certificates: &[Expiry], now: SystemTime) -> Finding {
    let mut detail = Vec::new();
    let mut fewest: Option<f64> = None;
    for Expiry { hosts, not_after } in certificates {
        let days = match not_after.duration_since(now) {
            Ok(rest) => {
                let days = rest.as_secs_f64() / DAY_SECONDS;
                if DAYS_LEFT.judge(days) != Health::Healthy {
                    detail.push(format!("{hosts}: ends in {} hours", rest.as_secs() / 3_600));
                }
                days
            }
            Err(late) => {
                detail.push(format!("{hosts}: has ended"));
                -late.duration().as_secs_f64() / DAY_SECONDS
            }
        };
        fewest = Some(fewest.map_or(days, |fewest| fewest.min(days)));
    }
    if detail.is_empty() {
        detail.push(format!("in use: {}", certificates.len()));
    }
    let Some(days) = fewest else { return Finding::unmeasured(&detail.join("; ")) };
    Finding::by(DAYS_LEFT, ((days * 10.0).floor() / 10.0, "days left"), detail.join("; "))
}

#[cfg(test)]
mod tests {
    use Health::{Degraded, Healthy, Unhealthy};

    use super::*;

    fn said(finding: Finding) -> (Health, String) {
        (finding.health, finding.detail)
    }

    #[test]
    fn each_is_judged_by_its_limit() {
        let check = |finding: Finding, health: Health, value: f64, unit: &str, limits: (f64, Option<f64>)| {
            let Some(Measured { limit, .. }) = finding.measured else { panic!("{finding:?}") };
            let found = finding.measured.map(|measured| (measured.value, measured.unit));
            assert_eq!((finding.health, found), (health, Some((value, unit))), "{finding:?}");
            assert_eq!((limit.degraded, limit.unhealthy), limits, "{finding:?}");
        };
        let of = |used: u64| Usage { used, limit: 100 };
        let ms = Duration::from_millis;
        check(memory(Some(of(79)), None), Healthy, 79.0, "percent", (80.0, None));
        check(memory(Some(of(80)), None), Degraded, 80.0, "percent", (80.0, None));
        check(processors(0.6994, 2), Healthy, 69.9, "percent", (70.0, Some(90.0)));
        check(processors(0.7, 2), Degraded, 70.0, "percent", (70.0, Some(90.0)));
        check(processors(0.9, 2), Unhealthy, 90.0, "percent", (70.0, Some(90.0)));
        check(disk(Some(of(89))), Healthy, 89.0, "percent", (90.0, None));
        check(disk(Some(of(100))), Degraded, 100.0, "percent", (90.0, None));
        check(connections(of(69)), Healthy, 69.0, "percent", (70.0, Some(90.0)));
        check(connections(of(90)), Unhealthy, 90.0, "percent", (70.0, Some(90.0)));
        check(cache(true, Some(ms(49)), of(1)), Healthy, 49.0, "milliseconds", (50.0, None));
        check(cache(true, Some(ms(50)), of(1)), Degraded, 50.0, "milliseconds", (50.0, None));
        check(listeners(2, 2), Healthy, 0.0, "listeners closed", (1.0, Some(1.0)));
        check(listeners(1, 2), Unhealthy, 1.0, "listeners closed", (1.0, Some(1.0)));
        check(log(0, 9), Healthy, 0.0, "lines lost", (1.0, None));
        check(log(3, 9), Degraded, 3.0, "lines lost", (1.0, None));
        check(config(1, Some("no")), Degraded, 1.0, "refused", (1.0, None));
    }

    #[test]
    fn what_cannot_be_known_is_no_reason_to_worry() {
        let all =
            [disk(None), cache(false, None, Usage { used: 0, limit: 1 }), certificates(&[], SystemTime::UNIX_EPOCH)];
        for finding in all {
            assert_eq!((finding.health, finding.measured), (Healthy, None), "{}", finding.detail);
        }
        let silent = Finding::silent(Duration::from_secs(5));
        assert_eq!(said(silent), (Degraded, "no answer for 5 s".to_owned()));
    }

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
        let check = |counts: &[[usize; 4]], health: Health, measured: (f64, &str), detail: &str| {
            let endpoints = |(index, &[usable, failing, out, drained]): (usize, &[usize; 4])| Endpoints {
                upstream: format!("u{index}"),
                usable,
                failing,
                out,
                drained,
                is_open: false,
            };
            let all: Vec<Endpoints> = counts.iter().enumerate().map(endpoints).collect();
            let finding = upstreams(&all);
            assert_eq!(finding.measured.map(|found| (found.value, found.unit)), Some(measured), "{counts:?}");
            assert_eq!(said(finding), (health, detail.to_owned()), "{counts:?}");
        };
        let (out, down) = (|n: f64| (n, "endpoints out or failing"), |n: f64| (n, "upstreams down"));
        check(&[], Healthy, out(0.0), "usable endpoints: 0");
        check(&[[3, 0, 0, 0], [1, 0, 0, 0]], Healthy, out(0.0), "usable endpoints: 4");
        check(&[[2, 0, 0, 1]], Healthy, out(0.0), "usable endpoints: 2");
        check(&[[3, 0, 0, 0], [2, 0, 1, 0]], Degraded, out(1.0), "u1: 1 of 3 endpoints out");
        // It is given requests, so the upstream is not down.
        check(&[[0, 1, 0, 0]], Degraded, out(1.0), "u0: of 1 endpoints the last one fails, and stays in");
        check(&[[0, 1, 2, 1]], Degraded, out(3.0), "u0: of 4 endpoints the last one fails, and stays in");
        check(&[[0, 0, 3, 0]], Unhealthy, down(1.0), "u0: none of 3 endpoints is usable");
        check(&[[0, 0, 0, 2]], Unhealthy, down(1.0), "u0: none of 2 endpoints is usable");
        check(&[[0, 0, 0, 0]], Unhealthy, down(1.0), "u0: none of 0 endpoints is usable");
        let both = "u0: none of 1 endpoints is usable; u1: 1 of 2 endpoints out";
        check(&[[0, 0, 1, 0], [1, 0, 1, 0]], Unhealthy, down(1.0), both);
        let open = Endpoints { upstream: "app".to_owned(), usable: 3, failing: 0, out: 0, drained: 0, is_open: true };
        assert_eq!(said(upstreams(&[open])), (Unhealthy, "app: the breaker is open".to_owned()));
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
            assert_eq!(said(descriptors(Some(Usage { used, limit }))), (health, detail.to_owned()));
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
        let check = |machine: Option<u64>, limited: Option<(u64, u64, Pressure)>, health: Health, detail: &str| {
            let of = |limit: u64| Usage { used: 80 << 20, limit: limit << 20 };
            let limited = limited.map(|(soft, hard, pressure)| Limited {
                resident: 80 << 20,
                limits: Limits { soft: soft << 20, hard: hard << 20 },
                pressure,
            });
            let found = memory(machine.map(of), limited);
            // What is published is what decided.
            let by = found.measured.map_or(Healthy, |measured| measured.limit.judge(measured.value));
            assert_eq!((by, found.health), (health, health), "{machine:?} {limited:?}: {found:?}");
            assert_eq!(found.detail, detail, "{machine:?} {limited:?}");
        };
        check(None, None, Healthy, "not known on this system");
        check(Some(100), None, Degraded, "80 of 100 MiB (80 %)");
        check(Some(1000), None, Healthy, "80 of 1000 MiB (8 %)");
        check(Some(1000), Some((90, 100, Pressure::None)), Healthy, "80 of 1000 MiB (8 %)");
        check(None, Some((90, 100, Pressure::None)), Healthy, "80 of 100 MiB");
        let soft = "80 of 90 MiB, over the soft limit: the cache gives memory back";
        check(Some(1000), Some((80, 90, Pressure::Soft)), Degraded, soft);
        check(Some(100), Some((80, 90, Pressure::Soft)), Degraded, soft);
        // It has fallen below its limit, and not far enough yet.
        let falls = "80 of 101 MiB, over the soft limit: the cache gives memory back";
        check(Some(1000), Some((85, 101, Pressure::Soft)), Degraded, falls);
        let hard = "80 of 10 MiB, over the hard limit: new requests are refused";
        check(Some(1000), Some((5, 10, Pressure::Hard)), Unhealthy, hard);
        check(Some(100), Some((5, 10, Pressure::Hard)), Unhealthy, hard);
        let hardly = "80 of 85 MiB, over the hard limit: new requests are refused";
        check(Some(1000), Some((60, 85, Pressure::Hard)), Unhealthy, hardly);
        check(Some(100), Some((3000, 4000, Pressure::None)), Degraded, "80 of 100 MiB (80 %)");
    }

    #[test]
    fn certificates_by_what_is_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let check = |hours: i64, health: Health, detail: &str| {
            let span = Duration::from_secs(hours.unsigned_abs() * 3_600);
            let not_after = if hours < 0 { now - span } else { now + span };
            let found = certificates(&[Expiry { hosts: "a.example".to_owned(), not_after }], now);
            assert_eq!(said(found), (health, detail.to_owned()), "{hours}");
        };
        check(24 * 90, Healthy, "in use: 1");
        check(24 * 7, Healthy, "in use: 1");
        check(24 * 7 - 1, Degraded, "a.example: ends in 167 hours");
        check(0, Degraded, "a.example: ends in 0 hours");
        check(-1, Degraded, "a.example: has ended");
        assert_eq!(certificates(&[], now).detail, "in use: 0");
    }
}
