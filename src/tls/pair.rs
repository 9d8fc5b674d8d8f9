//! A certificate with its key, read from PEM files and checked.
//!
//! It decides whether a pair of files can serve the hosts it is configured for. It never decides what to
//! do when they cannot: that depends on what is already being served.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::provider;
use crate::config::HostPattern;

/// A bundle of all public roots has a quarter of this.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// A configured certificate that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("certificate for {hosts}: {}: {problem}", file.display())]
pub struct CertificateError {
    /// The hosts it is configured for, joined by commas.
    hosts: String,
    /// The file at fault; `local` if it is made by this process.
    file: PathBuf,
    problem: CertificateProblem,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("larger than {PEM_BYTES_MAX} bytes, which no certificate or key is")]
    TooLarge,
    #[error("not PEM: {0}")]
    Pem(pem::Error),
    #[error("no `BEGIN CERTIFICATE` in it; the certificate of the host is expected first, then its chain")]
    NoCertificate,
    #[error("no usable private key in it; PKCS#8, PKCS#1 or SEC1 without a passphrase is expected")]
    NoKey,
    #[error("not an X.509 certificate that can be served: {0}")]
    Malformed(String),
    #[error("does not belong to the key in {}; the certificate of the host is expected first, then its chain", key.display())]
    KeyMismatch { key: PathBuf },
    #[error("does not cover {host}; it names {names}")]
    HostNotCovered { host: String, names: String },
    #[error("expired at {}", timestamp(*not_after))]
    Expired { not_after: SystemTime },
    #[error("not valid before {}", timestamp(*not_before))]
    NotYetValid { not_before: SystemTime },
    #[error("cannot be made: {0}")]
    Make(rcgen::Error),
}

impl CertificateError {
    pub(super) fn new(hosts: &[HostPattern], file: &Path, problem: CertificateProblem) -> Self {
        let hosts: Vec<String> = hosts.iter().map(host_text).collect();
        Self { hosts: hosts.join(", "), file: file.to_owned(), problem }
    }
}

/// A chain and the key of its first certificate, known to belong together.
#[derive(Debug)]
pub(super) struct Pair {
    pub key: Arc<CertifiedKey>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    names: Names,
}

impl Pair {
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, CertificateProblem> {
        let leaf = chain.first().ok_or(CertificateProblem::NoCertificate)?;
        let (_, leaf) =
            X509Certificate::from_der(leaf).map_err(|error| CertificateProblem::Malformed(error.to_string()))?;
        let names = Names::of(&leaf)?;
        let validity = leaf.validity();
        let (not_before, not_after) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateProblem::KeyMismatch { key: PathBuf::new() }
            }
            TlsError::General(_) => CertificateProblem::NoKey,
            other => CertificateProblem::Malformed(other.to_string()),
        })?;
        Ok(Self { key: Arc::new(key), not_before, not_after, names })
    }

    /// Whether a client that asks for any of `hosts` would accept the certificate's names.
    pub fn check_hosts(&self, hosts: &[HostPattern]) -> Result<(), CertificateProblem> {
        match hosts.iter().find(|host| !self.names.cover(host)) {
            None => Ok(()),
            Some(host) => {
                Err(CertificateProblem::HostNotCovered { host: host_text(host), names: self.names.to_string() })
            }
        }
    }

    pub fn check_validity(&self, now: SystemTime) -> Result<(), CertificateProblem> {
        if now > self.not_after {
            Err(CertificateProblem::Expired { not_after: self.not_after })
        } else if now < self.not_before {
            Err(CertificateProblem::NotYetValid { not_before: self.not_before })
        } else {
            Ok(())
        }
    }
}

/// The bytes of both files, before they are understood.
pub(super) struct PemFiles<'a> {
    certificate: (&'a Path, Vec<u8>),
    key: (&'a Path, Vec<u8>),
}

impl<'a> PemFiles<'a> {
    pub fn read(certificate: &'a Path, key: &'a Path) -> Result<Self, (&'a Path, CertificateProblem)> {
        let read = |path: &'a Path| match read_pem(path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(problem) => Err((path, problem)),
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    /// Tells whether the contents changed. It guards against a needless swap, not against an attacker:
    /// whoever writes these files owns the key.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.certificate.1.hash(&mut hasher);
        self.key.1.hash(&mut hasher);
        hasher.finish()
    }

    pub fn parse(&self) -> Result<Pair, (&'a Path, CertificateProblem)> {
        let (certificate, chain) = &self.certificate;
        let (key_path, key) = &self.key;
        let chain = parse_chain(chain).map_err(|problem| (*certificate, problem))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => CertificateProblem::NoKey,
                other => CertificateProblem::Pem(other),
            };
            (*key_path, problem)
        })?;
        Pair::new(chain, key).map_err(|problem| match problem {
            CertificateProblem::KeyMismatch { .. } => {
                (*certificate, CertificateProblem::KeyMismatch { key: key_path.to_path_buf() })
            }
            CertificateProblem::NoKey => (*key_path, CertificateProblem::NoKey),
            other => (*certificate, other),
        })
    }
}

/// Reads a whole PEM file; a device or a log that was named by mistake is not read to its end.
pub(super) fn read_pem(path: &Path) -> Result<Vec<u8>, CertificateProblem> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(CertificateProblem::Read)?;
    if bytes.len() as u64 > PEM_BYTES_MAX { Err(CertificateProblem::TooLarge) } else { Ok(bytes) }
}

/// Every certificate of a PEM file, at least one; other sections are passed over.
pub(super) fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(CertificateProblem::Pem)?;
    if chain.is_empty() { Err(CertificateProblem::NoCertificate) } else { Ok(chain) }
}

/// The subject alternative names. The common name does not count (RFC 9525 §2).
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    dns: Vec<String>,
    ip: Vec<IpAddr>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, CertificateProblem> {
        let extension = certificate
            .subject_alternative_name()
            .map_err(|error| CertificateProblem::Malformed(format!("subject alternative name: {error}")))?;
        let mut names = Self::default();
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.ip.extend(ip_of(bytes)),
                _ => {}
            }
        }
        Ok(names)
    }

    /// A wildcard stands for exactly one label, the leftmost (RFC 9525 §6.3).
    fn cover(&self, host: &HostPattern) -> bool {
        let wildcard_of = |suffix: &str| self.dns.iter().any(|name| name.strip_prefix("*.") == Some(suffix));
        match host {
            HostPattern::Wildcard(suffix) => wildcard_of(suffix),
            HostPattern::Exact(host) => match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) => self.ip.contains(&ip),
                Err(_) => {
                    self.dns.contains(host) || host.split_once('.').is_some_and(|(_, suffix)| wildcard_of(suffix))
                }
            },
        }
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self.dns.iter().cloned().chain(self.ip.iter().map(IpAddr::to_string)).collect();
        if all.is_empty() { f.write_str("no host") } else { f.write_str(&all.join(", ")) }
    }
}

pub(super) fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A moment in seconds from 1970. Certificates may name one outside of what the system's clock can hold.
fn at(seconds: i64) -> SystemTime {
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(offset)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(offset)
    };
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn timestamp(moment: SystemTime) -> String {
    jiff::Timestamp::try_from(moment).map_or_else(|_| "an unknown time".to_owned(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_cover(names: &[&str], host: &str, expected: bool) {
        let (ip, dns): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|name| name.parse::<IpAddr>().is_ok());
        let names = Names {
            dns: dns.into_iter().map(ToString::to_string).collect(),
            ip: ip.into_iter().map(|name| name.parse().unwrap()).collect(),
        };
        let pattern = match host.strip_prefix("*.") {
            Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        };
        assert_eq!(names.cover(&pattern), expected, "{names} for {host}");
    }

    #[test]
    fn names_cover_hosts_by_whole_labels() {
        check_cover(&["a.example"], "a.example", true);
        check_cover(&["a.example"], "b.example", false);
        check_cover(&["*.example.com"], "a.example.com", true);
        check_cover(&["*.example.com"], "example.com", false);
        check_cover(&["*.example.com"], "a.b.example.com", false);
        check_cover(&["*.example.com"], "*.example.com", true);
        check_cover(&["a.example.com"], "*.example.com", false);
        check_cover(&["*.b.example.com"], "*.example.com", false);
        check_cover(&["127.0.0.1"], "127.0.0.1", true);
        check_cover(&["*.0.0.1"], "127.0.0.1", false);
        check_cover(&["::1"], "[::1]", true);
        check_cover(&["::1"], "::2", false);
        check_cover(&[], "a.example", false);
    }

    #[test]
    fn an_error_names_hosts_file_and_what_was_expected() {
        let hosts = [HostPattern::Exact("a.example".into()), HostPattern::Wildcard("b.example".into())];
        let problem = CertificateProblem::Expired { not_after: at(1_700_000_000) };
        let error = CertificateError::new(&hosts, Path::new("/etc/a.pem"), problem);
        assert_eq!(
            error.to_string(),
            "certificate for a.example, *.b.example: /etc/a.pem: expired at 2023-11-14T22:13:20Z"
        );
    }
}
