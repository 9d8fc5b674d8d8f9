//! The checks of the health report: what each looks at, and how long that took. What it means is judged elsewhere, and what may
//! take long was looked at before: nobody waits here.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::judge::{self, Endpoints, Expiry, Finding, Usage};
use super::status::{CacheStatus, Check, UpstreamStatus};
use crate::control::Control;
use crate::lately::{Answer, Share, Standing};
use crate::overload::crowd::Use;
use crate::overload::{Pressure, memory};
use crate::snapshot::Snapshot;
use crate::tls::CertificateInfo;
use crate::{clock, machine};

/// An answer that takes longer is a sign by itself.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What the report has found out already.
pub struct Known<'a> {
    pub upstreams: &'a [UpstreamStatus],
    pub certificates: &'a [CertificateInfo],
    pub cache: &'a CacheStatus,
}

pub fn checks(control: &Control, snapshot: &Snapshot, known: Known<'_>, now: SystemTime) -> Vec<Check> {
    let Known { upstreams, certificates, cache } = known;
    let endpoints: Vec<Endpoints> = upstreams.iter().map(UpstreamStatus::counts).collect();
    let expiries: Vec<Expiry> = certificates.iter().map(expiry).collect();
    let configured = snapshot.config.listeners.iter();
    let bound = control.sockets.bound();
    let open = configured.clone().filter(|listen| bound.contains_key(&listen.address)).count();
    let Use { used, max } = control.shared.cap.in_use();
    let lost = control.access.dropped();
    let last_error = control.last_reload.borrow().error.clone();
    let mut checks = vec![
        timed("upstreams", || judge::upstreams(&endpoints)),
        timed("config", || judge::config(snapshot.generation, last_error.as_deref())),
        timed("cache", || {
            let stored = Usage { used: cache.stored_bytes, limit: cache.stored_bytes_max };
            let lookups = control.lately.lookups(&control.shared.cache.lookup_times());
            judge::cache(cache.enabled, lookups.and_then(|lookups| lookups.mean()), stored)
        }),
        timed("listeners", || judge::listeners(open, configured.len())),
        timed("connections", || judge::connections(Usage { used: used as u64, limit: max as u64 })),
        timed("certificates", || judge::certificates(&expiries, now)),
        timed("log", || judge::log(control.lately.lines_lost(lost), lost)),
        timed("cpu", || judge::processors(control.lately.processors(), machine::processors())),
    ];
    let (limits, pressure) = (snapshot.config.server.memory, control.shared.overload.pressure());
    let (lately, begun) = (&control.lately, clock::now());
    checks.extend([
        looked_at("memory", lately.memory.standing(begun), |share| memory_of(share, limits, pressure)),
        looked_at("disk", lately.disk.standing(begun), |share| judge::disk(usage(share))),
        looked_at("descriptors", lately.descriptors.standing(begun), |share| judge::descriptors(usage(share))),
    ]);
    checks
}

fn expiry(certificate: &CertificateInfo) -> Expiry {
    let hosts: Vec<_> = certificate.hosts.iter().map(ToString::to_string).collect();
    Expiry { hosts: hosts.join(", "), not_after: certificate.not_after }
}

fn memory_of(share: Share, limits: Option<memory::Limits>, pressure: Pressure) -> Finding {
    let (used, _) = share;
    let limited = usage((used, limits.map(|limits| limits.hard))).map(|usage| (usage, pressure));
    judge::memory(usage(share), limited)
}

fn usage((used, limit): Share) -> Option<Usage> {
    Some(Usage { used: used?, limit: limit? })
}

/// A check that only reads what is at hand.
fn timed(name: &'static str, look: impl FnOnce() -> Finding) -> Check {
    let begun = clock::now();
    let finding = look();
    Check::new(name, finding, milliseconds_since(begun))
}

/// A check of what is looked at now and then: by what was found last, unless the next look does not end.
fn looked_at<T>(name: &'static str, standing: Standing<T>, judge: impl FnOnce(T) -> Finding) -> Check {
    match standing {
        Standing { waiting: Some(waiting), .. } if waiting >= SILENCE_MAX => {
            Check::new(name, Finding::silent(waiting), milliseconds(waiting))
        }
        Standing { last: Some(Answer { found, age, took }), .. } => {
            Check { age_s: Some(age.as_secs_f64()), ..Check::new(name, judge(found), milliseconds(took)) }
        }
        Standing { last: None, waiting } => {
            Check::new(name, Finding::unmeasured("not known yet"), milliseconds(waiting.unwrap_or_default()))
        }
    }
}

/// To the microsecond.
pub fn milliseconds_since(begun: Instant) -> f64 {
    milliseconds(clock::now().duration_since(begun))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::judge::Health;

    #[test]
    fn what_hangs_is_told_with_how_long() {
        let s = Duration::from_secs;
        let check = |last: Option<u64>, waiting: Option<u64>, health: Health, detail: &str, took_ms: f64| {
            let last = last.map(|used| Answer { found: (Some(used), Some(100)), age: s(3), took: s(1) });
            let standing = Standing { last, waiting: waiting.map(s) };
            let found = looked_at("disk", standing, |share| judge::disk(usage(share)));
            let expected = (health, detail, took_ms);
            assert_eq!((found.status, found.detail.as_str(), found.duration_ms), expected, "{standing:?}");
            assert_eq!(found.age_s.is_some(), last.is_some() && waiting < Some(5), "{standing:?}");
        };
        check(None, None, Health::Healthy, "not known yet", 0.0);
        check(None, Some(4), Health::Healthy, "not known yet", 4_000.0);
        check(None, Some(5), Health::Degraded, "no answer for 5 s", 5_000.0);
        check(Some(1), None, Health::Healthy, "0 of 0 MiB (1 %)", 1_000.0);
        check(Some(1), Some(4), Health::Healthy, "0 of 0 MiB (1 %)", 1_000.0);
        check(Some(95), Some(4), Health::Degraded, "0 of 0 MiB (95 %)", 1_000.0);
        check(Some(1), Some(61), Health::Degraded, "no answer for 61 s", 61_000.0);
    }
}
