//! The certificate that the process makes for itself, for development.
//!
//! It is signed by its own key, lives in memory alone and is valid for 90 days. A reload keeps it for the
//! same hosts and makes another once less than 30 days are left, so a process that runs longer than that
//! without any reload ends up with an expired one.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::pair::{CertificateError, CertificateProblem, Pair, host_text};
use crate::config::HostPattern;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LIFETIME: Duration = DAY.saturating_mul(90);
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

/// Whether one that ends at `not_after` is still good for another while.
pub(super) fn lasts(not_after: SystemTime, now: SystemTime) -> bool {
    not_after.duration_since(now).is_ok_and(|left| left >= RENEW_BEFORE)
}

/// Makes one for `hosts` and the loopback addresses.
pub(super) fn make(hosts: &[HostPattern], now: SystemTime) -> Result<Pair, CertificateError> {
    try_make(hosts, now).map_err(|problem| CertificateError::new(hosts, Path::new("local"), problem))
}

fn try_make(hosts: &[HostPattern], now: SystemTime) -> Result<Pair, CertificateProblem> {
    let mut names: Vec<String> = hosts.iter().map(|host| host_text(host).trim_matches(['[', ']']).to_owned()).collect();
    for loopback in ["127.0.0.1", "::1"] {
        if !names.iter().any(|name| name == loopback) {
            names.push(loopback.to_owned());
        }
    }
    let mut params = CertificateParams::new(names).map_err(CertificateProblem::Make)?;
    params.distinguished_name.push(DnType::CommonName, "Tollgate local certificate");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    // A client whose clock is a little behind accepts it too.
    params.not_before = now - DAY;
    params.not_after = now + LIFETIME;
    let key = KeyPair::generate().map_err(CertificateProblem::Make)?;
    let certificate = params.self_signed(&key).map_err(CertificateProblem::Make)?;
    Pair::new(vec![certificate.into()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_covers_its_hosts_and_loopback_for_90_days() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let hosts = [HostPattern::Exact("localhost".into()), HostPattern::Wildcard("app.localhost".into())];
        let pair = make(&hosts, now).unwrap();
        pair.check_hosts(&hosts).unwrap();
        pair.check_hosts(&[HostPattern::Exact("127.0.0.1".into()), HostPattern::Exact("[::1]".into())]).unwrap();
        assert!(pair.check_hosts(&[HostPattern::Exact("other".into())]).is_err());
        pair.check_validity(now).unwrap();
        assert_eq!(pair.not_after, now + LIFETIME);
        assert!(pair.check_validity(now + LIFETIME + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn it_is_renewed_when_less_than_30_days_are_left() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        for (left, expected) in [(90, true), (30, true), (29, false), (0, false)] {
            assert_eq!(lasts(now + left * DAY, now), expected, "{left} days");
        }
        assert!(!lasts(now - DAY, now));
    }
}
