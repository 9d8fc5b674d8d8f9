//! The checks of the health report: what each looks at, and how long it may take. What it means is judged elsewhere.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::judge::{self, Endpoints, Expiry, Finding, Usage};
use super::status::{CacheStatus, Check, UpstreamStatus};
use crate::config::LogTarget;
use crate::control::Control;
use crate::overload::crowd::Use;
use crate::snapshot::Snapshot;
use crate::tls::CertificateInfo;
use crate::{clock, machine};

/// For what asks the kernel: a disk that is gone can hold who asks for it for ever.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the report has found out already.
pub struct Known<'a> {
    pub upstreams: &'a [UpstreamStatus],
    pub certificates: &'a [CertificateInfo],
    pub cache: &'a CacheStatus,
}

pub async fn checks(control: &Control, snapshot: &Snapshot, known: Known<'_>, now: SystemTime) -> Vec<Check> {
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
            judge::cache(cache.enabled, cache.lookup_time(), stored)
        }),
        timed("listeners", || judge::listeners(open, configured.len())),
        timed("connections", || judge::connections(Usage { used: used as u64, limit: max as u64 })),
        timed("certificates", || judge::certificates(&expiries, now)),
        timed("log", || judge::log(control.lately.lines_lost(lost), lost)),
        timed("cpu", || judge::processors(control.lately.processors(), machine::processors())),
    ];
    let (disk, memory, descriptors) = tokio::join!(
        asked(("disk", CHECK_TIMEOUT), disk_of(control, snapshot)),
        asked(("memory", CHECK_TIMEOUT), memory_of(control, snapshot)),
        asked(("descriptors", CHECK_TIMEOUT), || {
            judge::descriptors(used_of(machine::descriptors(), machine::descriptors_limit()))
        }),
    );
    checks.extend([memory, disk, descriptors]);
    checks
}

fn expiry(certificate: &CertificateInfo) -> Expiry {
    let hosts: Vec<_> = certificate.hosts.iter().map(ToString::to_string).collect();
    Expiry { hosts: hosts.join(", "), not_after: certificate.not_after }
}

/// The disk that the access log grows on, or else the one with the configuration.
fn disk_of(control: &Control, snapshot: &Snapshot) -> impl FnOnce() -> Finding + Send + use<> {
    let file = match &snapshot.config.log.access.target {
        LogTarget::File(path) => path.clone(),
        LogTarget::Off | LogTarget::Stdout | LogTarget::Stderr => control.options.config.clone(),
    };
    move || {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        judge::disk(machine::disk(folder).map(|(used, limit)| Usage { used, limit }))
    }
}

fn memory_of(control: &Control, snapshot: &Snapshot) -> impl FnOnce() -> Finding + Send + use<> {
    let (limits, pressure) = (snapshot.config.server.memory, control.shared.overload.pressure());
    move || {
        let used = machine::memory();
        let limited = used_of(used, limits.map(|limits| limits.hard)).map(|usage| (usage, pressure));
        judge::memory(used_of(used, machine::memory_limit()), limited)
    }
}

fn used_of(used: Option<u64>, limit: Option<u64>) -> Option<Usage> {
    Some(Usage { used: used?, limit: limit? })
}

/// A check that only reads what is at hand.
fn timed(name: &'static str, look: impl FnOnce() -> Finding) -> Check {
    let begun = clock::now();
    let finding = look();
    Check::new(name, finding, milliseconds_since(begun))
}

/// A check that may have to wait, for as long as one may.
async fn asked((name, limit): (&'static str, Duration), look: impl FnOnce() -> Finding + Send + 'static) -> Check {
    let begun = clock::now();
    let looked = tokio::time::timeout(limit, tokio::task::spawn_blocking(look)).await;
    let finding = match looked {
        Ok(Ok(finding)) => finding,
        Ok(Err(_)) | Err(_) => Finding::silent(limit),
    };
    Check::new(name, finding, milliseconds_since(begun))
}

/// To the microsecond.
pub fn milliseconds_since(begun: Instant) -> f64 {
    clock::now().duration_since(begun).as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::judge::Health;

    #[tokio::test]
    async fn a_check_that_does_not_answer_is_given_up() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let check = asked(("disk", Duration::from_millis(20)), move || {
            let _ended = held.recv();
            judge::disk(None)
        })
        .await;
        assert_eq!((check.status, check.detail.as_str()), (Health::Degraded, "no answer within 20ms"));
        assert!(check.duration_ms >= 20.0);
        drop(release);
        let check = asked(("disk", CHECK_TIMEOUT), || judge::disk(None)).await;
        assert_eq!(check.status, Health::Healthy);
    }
}
