//! The checks of the health report: what each looks at, and how long that took. What it means is judged elsewhere, and what may
//! take long was looked at before: nobody waits here.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Process as _;
use super::judge::{self, Endpoints, Expiry, Finding, Limited, Usage};
use super::status::{CacheStatus, Check, ListenerStatus, UpstreamStatus};
use crate::control::Control;
use crate::lately::{Answer, Share, Standing};
use crate::overload::crowd::Use;
use crate::snapshot::Snapshot;
use crate::tls::CertificateInfo;
use crate::{clock, machine};

/// An answer that takes longer is a sign by itself.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What was found, and what the signs of it mean.
pub struct Looked {
    pub listeners: Vec<ListenerStatus>,
    pub upstreams: Vec<UpstreamStatus>,
    pub cache: CacheStatus,
    pub certificates: Vec<CertificateInfo>,
    pub checks: Vec<Check>,
}

pub fn look(control: &Control, snapshot: &Snapshot, now: SystemTime) -> Looked {
    let (upstreams, of_upstreams) = timed("upstreams", || {
        let upstreams = super::upstreams(&control.pools());
        let counted: Vec<Endpoints> = upstreams.iter().map(UpstreamStatus::counts).collect();
        (upstreams, judge::upstreams(&counted))
    });
    let (cache, of_cache) = timed("cache", || look_at_cache(control, snapshot));
    let (listeners, of_listeners) = timed("listeners", || {
        let listeners = listeners(control, snapshot);
        let open = listeners.iter().filter(|listener| listener.bound.is_some()).count();
        let finding = judge::listeners(open, listeners.len());
        (listeners, finding)
    });
    let (certificates, of_certificates) = timed("certificates", || {
        let certificates = control.certificates.info();
        let expiries: Vec<Expiry> = certificates.iter().map(expiry).collect();
        (certificates, judge::certificates(&expiries, now))
    });
    let at = clock::now();
    let lately = &control.lately;
    let checks = vec![
        of_upstreams,
        check("config", || judge::config(snapshot.generation, control.last_reload.borrow().error.as_deref())),
        of_cache,
        of_listeners,
        check("connections", || {
            let Use { used, max } = control.shared.cap.in_use();
            judge::connections(Usage { used: used as u64, limit: max as u64 })
        }),
        of_certificates,
        check("log", || {
            let lost = control.access.dropped();
            judge::log(lately.lines_lost(lost), lost)
        }),
        looked_at("cpu", lately.processors.standing(at), |share| judge::processors(share, machine::processors())),
        looked_at("memory", lately.memory.standing(at), |share| {
            judge::memory(usage(share), limited(control, snapshot))
        }),
        looked_at("disk", lately.disk.standing(at), |share| judge::disk(usage(share))),
        looked_at("descriptors", lately.descriptors.standing(at), |share| judge::descriptors(usage(share))),
    ];
    Looked { listeners, upstreams, cache, certificates, checks }
}

fn look_at_cache(control: &Control, snapshot: &Snapshot) -> (CacheStatus, Finding) {
    let status = CacheStatus::new(snapshot.config.cache.enabled, control.shared.cache.report());
    let stored = Usage { used: status.stored_bytes, limit: status.stored_bytes_max };
    let lookups = control.lately.lookups(&control.shared.cache.lookup_times());
    let finding = judge::cache(status.enabled, lookups.and_then(|lookups| lookups.mean()), stored);
    (status, finding)
}

fn listeners(control: &Control, snapshot: &Snapshot) -> Vec<ListenerStatus> {
    let bound = control.sockets.bound();
    let status = snapshot.config.listeners.iter().map(|listen| ListenerStatus {
        configured: listen.address,
        bound: bound.get(&listen.address).copied(),
        tls: listen.tls.is_some(),
    });
    status.collect()
}

fn expiry(certificate: &CertificateInfo) -> Expiry {
    let hosts: Vec<_> = certificate.hosts.iter().map(ToString::to_string).collect();
    Expiry { hosts: hosts.join(", "), not_after: certificate.not_after }
}

fn limited(control: &Control, snapshot: &Snapshot) -> Option<Limited> {
    let (limits, overload) = (snapshot.config.server.memory?, &control.shared.overload);
    Some(Limited { resident: overload.resident(), limits, pressure: overload.pressure() })
}

fn usage((used, limit): Share) -> Option<Usage> {
    Some(Usage { used: used?, limit: limit? })
}

/// A look that brings more than its finding, and the time that all of it took.
fn timed<T>(name: &'static str, look: impl FnOnce() -> (T, Finding)) -> (T, Check) {
    let begun = clock::now();
    let (found, finding) = look();
    (found, Check::new(name, finding, milliseconds_since(begun)))
}

fn check(name: &'static str, look: impl FnOnce() -> Finding) -> Check {
    timed(name, || ((), look())).1
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
