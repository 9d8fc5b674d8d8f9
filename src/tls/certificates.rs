//! The certificates being served, by name.
//!
//! It owns the table from SNI to certificate and the ticket keys, and decides what a new configuration of
//! certificates means for what is already served. Listeners resolve through it at each handshake, so
//! swapping the table touches neither them nor open connections.

use std::collections::{HashMap, HashSet};
use std::mem::discriminant;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    ClientHello, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::CertifiedKey;

use super::local;
use super::pair::{CertificateError, CertificateProblem, Pair, PemFiles};
use crate::config::{Certificate, CertificateSource, HostPattern};

/// Sessions of TLS 1.2 clients that take no tickets. All others are held by their clients.
const SESSIONS_MAX: usize = 1024;

/// The certificates of the process. It lives as long as the process does.
pub struct Certificates {
    /// None until the first are installed.
    table: ArcSwapOption<Table>,
    /// Keys are made anew every six hours and open tickets for six more. They stay over a reload: every
    /// listener serves this one table and none asks for client certificates, so a session means the same
    /// everywhere, and rustls refuses to resume one under another server name.
    pub(super) ticketer: Arc<dyn ProducesTickets>,
    pub(super) sessions: Arc<dyn StoresServerSessions>,
}

/// Certificates that were read and checked, and are not yet served.
#[derive(Debug)]
pub struct Prepared {
    table: Table,
    /// What the operator should hear of although the configuration is accepted.
    pub warnings: Vec<Warning>,
    /// Whether installing it changes anything that is served.
    pub changed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Warning {
    /// The files went bad under a running process, which goes on with what it had.
    #[error("{0}; the previous certificate stays in use")]
    Kept(CertificateError),
    /// It is served, though clients will refuse it: there is nothing better, and no longer answering at all
    /// would help nobody.
    #[error("{0}; it is in use nonetheless")]
    InUse(CertificateError),
}

/// What the status page shows of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    pub hosts: Vec<HostPattern>,
    pub not_after: SystemTime,
    pub source: CertificateSource,
}

impl Certificates {
    /// Holds no certificate yet. It fails if the system has no randomness for the ticket keys.
    pub fn new() -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self {
            table: ArcSwapOption::empty(),
            ticketer: Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(SESSIONS_MAX),
        }))
    }

    /// Reads and checks what is configured and changes nothing yet.
    ///
    /// A bad pair for hosts that are served already keeps what they have and is a warning. A bad pair for
    /// other hosts is an error: the whole configuration is to be refused. A certificate outside of its validity
    /// is a warning: it is served, unless its hosts have one that is valid. It blocks on the file system.
    pub fn prepare(&self, configured: &[Certificate], now: SystemTime) -> Result<Prepared, CertificateError> {
        let previous = self.table.load_full();
        let mut warnings = Vec::new();
        let entries = configured
            .iter()
            .map(|certificate| Entry::of(certificate, previous.as_deref(), now, &mut warnings))
            .collect::<Result<Vec<_>, _>>()?;
        let changed = previous.is_none_or(|previous| {
            previous.entries.len() != entries.len()
                || previous.entries.iter().zip(&entries).any(|(old, new)| !Arc::ptr_eq(old, new))
        });
        Ok(Prepared { table: Table::new(entries), warnings, changed })
    }

    /// Serves them from the next handshake on.
    pub fn install(&self, prepared: Prepared) {
        self.table.store(Some(Arc::new(prepared.table)));
    }

    /// What is served, in the order of the file: the first is the default.
    pub fn info(&self) -> Vec<CertificateInfo> {
        let table = self.table.load();
        table.iter().flat_map(|table| &table.entries).map(|entry| entry.info()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.table.load().as_ref().is_none_or(|table| table.entries.is_empty())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificates").field(&self.info()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let entry = table.as_ref()?.find(hello.server_name())?;
        Some(Arc::clone(&entry.pair.key))
    }
}

/// Finds a certificate by name. Of two for the same host, the first in the file is served.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Arc<Entry>>,
    exact: HashMap<String, Arc<Entry>>,
    wildcard: HashMap<String, Arc<Entry>>,
}

impl Table {
    fn new(entries: Vec<Arc<Entry>>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for entry in &entries {
            for host in &entry.hosts {
                let (names, host) = match host {
                    HostPattern::Exact(host) => (&mut exact, host),
                    HostPattern::Wildcard(suffix) => (&mut wildcard, suffix),
                };
                names.entry(host.clone()).or_insert_with(|| Arc::clone(entry));
            }
        }
        Self { entries, exact, wildcard }
    }

    /// The exact name, then a wildcard for its first label, then the default.
    fn find(&self, name: Option<&str>) -> Option<&Arc<Entry>> {
        name.and_then(|name| self.find_named(name)).or_else(|| self.entries.first())
    }

    fn find_named(&self, name: &str) -> Option<&Arc<Entry>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        self.exact.get(name).or_else(|| name.split_once('.').and_then(|(_, suffix)| self.wildcard.get(suffix)))
    }

    /// The entry that already serves these hosts from the same source, or from one of the same kind.
    fn standing(&self, configured: &Certificate) -> Option<&Arc<Entry>> {
        let hosts: HashSet<&HostPattern> = configured.hosts.iter().collect();
        let same_hosts = |entry: &&Arc<Entry>| entry.hosts.iter().collect::<HashSet<_>>() == hosts;
        let same_kind = |entry: &&Arc<Entry>| discriminant(&entry.source) == discriminant(&configured.source);
        let mut candidates = self.entries.iter().filter(same_hosts).filter(same_kind);
        let first = candidates.clone().next();
        candidates.find(|entry| entry.source == configured.source).or(first)
    }
}

#[derive(Debug)]
struct Entry {
    hosts: Vec<HostPattern>,
    source: CertificateSource,
    /// Of the files' contents; 0 for a local one.
    fingerprint: u64,
    pair: Pair,
}

impl Entry {
    fn of(
        configured: &Certificate,
        previous: Option<&Table>,
        now: SystemTime,
        warnings: &mut Vec<Warning>,
    ) -> Result<Arc<Self>, CertificateError> {
        let standing = previous.and_then(|previous| previous.standing(configured));
        let CertificateSource::Files { certificate, key } = &configured.source else {
            return Self::local(configured, standing, now);
        };
        let refuse =
            |(file, problem): (&Path, CertificateProblem)| CertificateError::new(&configured.hosts, file, problem);
        let failed = match Self::read(configured, certificate, key, standing).map_err(refuse) {
            Err(failed) => failed,
            Ok(entry) => {
                let Err(problem) = entry.pair.check_validity(now) else { return Ok(entry) };
                let out_of_date = refuse((certificate, problem));
                if standing.is_none_or(|standing| standing.pair.check_validity(now).is_err()) {
                    warnings.push(Warning::InUse(out_of_date));
                    return Ok(entry);
                }
                out_of_date
            }
        };
        let Some(standing) = standing else { return Err(failed) };
        warnings.push(Warning::Kept(failed));
        Ok(Arc::clone(standing))
    }

    /// The standing entry if its files have not changed, otherwise a new one.
    fn read<'a>(
        configured: &Certificate,
        certificate: &'a Path,
        key: &'a Path,
        standing: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, (&'a Path, CertificateProblem)> {
        let files = PemFiles::read(certificate, key)?;
        let fingerprint = files.fingerprint();
        if let Some(standing) = standing.filter(|standing| {
            standing.fingerprint == fingerprint
                && standing.source == configured.source
                && standing.hosts == configured.hosts
        }) {
            return Ok(Arc::clone(standing));
        }
        let pair = files.parse()?;
        pair.check_hosts(&configured.hosts).map_err(|problem| (certificate, problem))?;
        Ok(Arc::new(Self { hosts: configured.hosts.clone(), source: configured.source.clone(), fingerprint, pair }))
    }

    fn local(
        configured: &Certificate,
        standing: Option<&Arc<Self>>,
        now: SystemTime,
    ) -> Result<Arc<Self>, CertificateError> {
        if let Some(standing) = standing.filter(|standing| local::lasts(standing.pair.not_after, now)) {
            return Ok(Arc::clone(standing));
        }
        let pair = local::make(&configured.hosts, now)?;
        Ok(Arc::new(Self { hosts: configured.hosts.clone(), source: CertificateSource::Local, fingerprint: 0, pair }))
    }

    fn info(&self) -> CertificateInfo {
        CertificateInfo { hosts: self.hosts.clone(), not_after: self.pair.not_after, source: self.source.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::CertificateDer;
    use rustls::version::TLS13;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::testing::{Authority, acceptor, handshake, patterns, serving};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// The name of the certificate that is found.
    fn found(table: &Table, name: Option<&str>) -> String {
        table.find(name).map_or_else(|| "none".into(), |entry| format!("{:?}", entry.source))
    }

    #[test]
    fn a_certificate_is_chosen_by_name() {
        let authority = Authority::new();
        authority.issue("any", &["default.example"]);
        authority.issue("exact", &["a.example.com", "xn--bcher-kva.example"]);
        authority.issue("wild", &["*.example.com"]);
        authority.issue("late", &["a.example.com"]);
        let configured = [
            authority.configured("any", &["default.example"]),
            authority.configured("wild", &["*.example.com"]),
            authority.configured("exact", &["a.example.com", "xn--bcher-kva.example"]),
            authority.configured("late", &["a.example.com"]),
        ];
        let certificates = serving(&configured);
        let table = certificates.table.load_full().unwrap();
        for (name, expected) in [
            (None, 0),
            (Some("default.example"), 0),
            (Some("unknown.example"), 0),
            (Some("a.example.com"), 2),
            (Some("A.Example.COM"), 2),
            (Some("a.example.com."), 2),
            (Some("xn--bcher-kva.example"), 2),
            (Some("b.example.com"), 1),
            (Some("B.EXAMPLE.com."), 1),
            (Some("c.b.example.com"), 0),
            (Some("example.com"), 0),
            (Some(".example.com"), 1),
            (Some("a.example.com.."), 0),
            (Some(""), 0),
            (Some("."), 0),
        ] {
            assert_eq!(found(&table, name), format!("{:?}", configured[expected].source), "{name:?}");
        }
        assert_eq!(found(&Table::default(), Some("a.example.com")), "none");
    }

    #[test]
    fn what_cannot_be_served_is_an_error_that_says_what_was_expected() {
        let authority = Authority::new();
        authority.issue("a", &["a.example", "127.0.0.1"]);
        authority.issue("b", &["b.example"]);
        authority.write("empty.pem", "");
        authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        authority.write("bogus.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        authority.write("bogus.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        authority.write("large.pem", vec![b'x'; (1 << 20) + 1]);
        let check = |certificate: &str, key: &str, host: &str, file: &str, expected: &str| {
            let source =
                CertificateSource::Files { certificate: authority.path(certificate), key: authority.path(key) };
            let configured = Certificate { hosts: patterns(&[host]), source };
            let certificates = Certificates::new().unwrap();
            let error = certificates.prepare(&[configured], SystemTime::now()).unwrap_err().to_string();
            let start = format!("certificate for {host}: {}: {expected}", authority.path(file).display());
            assert!(error.starts_with(&start), "{error}\n{start}");
        };
        check("none.pem", "a.key", "a.example", "none.pem", "cannot be read: No such file");
        check("a.pem", "none.key", "a.example", "none.key", "cannot be read: No such file");
        check("large.pem", "a.key", "a.example", "large.pem", "larger than 1048576 bytes");
        check("empty.pem", "a.key", "a.example", "empty.pem", "no `BEGIN CERTIFICATE` in it");
        check("a.key", "a.key", "a.example", "a.key", "no `BEGIN CERTIFICATE` in it");
        check("broken.pem", "a.key", "a.example", "broken.pem", "not PEM");
        check("bogus.pem", "a.key", "a.example", "bogus.pem", "not an X.509 certificate");
        check("a.pem", "a.pem", "a.example", "a.pem", "no usable private key in it");
        check("a.pem", "bogus.key", "a.example", "bogus.key", "no usable private key in it");
        check("a.pem", "b.key", "a.example", "a.pem", "does not belong to the key in ");
        check("a.pem", "a.key", "c.example", "a.pem", "does not cover c.example; it names a.example, 127.0.0.1");
        check("a.pem", "a.key", "*.a.example", "a.pem", "does not cover *.a.example");
    }

    /// Prepares and installs `configured`, and says whether it changed anything and what was warned of.
    fn reload(certificates: &Certificates, configured: &[Certificate]) -> Result<(bool, Vec<String>), String> {
        let prepared = certificates.prepare(configured, SystemTime::now()).map_err(|error| error.to_string())?;
        let warnings = prepared.warnings.iter().map(ToString::to_string).collect();
        let changed = prepared.changed;
        certificates.install(prepared);
        Ok((changed, warnings))
    }

    fn served(certificates: &Certificates, name: &str) -> CertificateDer<'static> {
        let table = certificates.table.load_full().unwrap();
        table.find(Some(name)).unwrap().pair.key.cert[0].clone()
    }

    #[test]
    fn bad_files_under_a_running_process_keep_the_previous_certificate() {
        let authority = Authority::new();
        let first = authority.issue("a", &["a.example"]);
        let configured = [authority.configured("a", &["a.example"])];
        let certificates = serving(&configured);
        assert_eq!(reload(&certificates, &configured), Ok((false, vec![])));

        let spoil: [(&dyn Fn(), &str); 5] = [
            (&|| authority.write("a.pem", "half a fi"), "no `BEGIN CERTIFICATE`"),
            (&|| drop(authority.issue_valid("a", &["a.example"], -9..-1)), "expired at"),
            (&|| drop(authority.issue_valid("a", &["a.example"], 2..9)), "not valid before"),
            (&|| drop(authority.issue("a", &["b.example"])), "does not cover a.example"),
            (&|| authority.write("a.key", rcgen::KeyPair::generate().unwrap().serialize_pem()), "does not belong"),
        ];
        for (spoil, expected) in spoil {
            spoil();
            let (changed, warnings) = reload(&certificates, &configured).unwrap();
            assert!(!changed);
            assert!(matches!(&warnings[..], [one] if one.contains(expected)), "{warnings:?}");
            assert!(warnings[0].ends_with("the previous certificate stays in use"));
            assert_eq!(served(&certificates, "a.example"), first);
        }

        let second = authority.issue("a", &["a.example"]);
        assert_eq!(reload(&certificates, &configured), Ok((true, vec![])));
        assert_eq!(served(&certificates, "a.example"), second);
    }

    #[test]
    fn a_replaced_path_and_a_second_pair_for_the_same_hosts_are_told_apart() {
        let authority = Authority::new();
        let first = authority.issue("a", &["a.example"]);
        authority.issue("b", &["a.example"]);
        let (a, b) = (authority.configured("a", &["a.example"]), authority.configured("b", &["a.example"]));
        let certificates = serving(&[a.clone(), b.clone()]);
        assert_eq!(reload(&certificates, &[a.clone(), b.clone()]), Ok((false, vec![])));
        assert_eq!(served(&certificates, "a.example"), first);

        let elsewhere = authority.configured("missing", &["a.example"]);
        let (changed, warnings) = reload(&certificates, &[elsewhere, b]).unwrap();
        assert!(!changed && warnings[0].contains("missing.pem: cannot be read"), "{warnings:?}");
        assert_eq!(served(&certificates, "a.example"), first);
    }

    #[test]
    fn a_bad_pair_for_new_hosts_refuses_the_whole() {
        let authority = Authority::new();
        let first = authority.issue("a", &["a.example"]);
        let certificates = serving(&[authority.configured("a", &["a.example"])]);
        authority.issue("a", &["a.example"]);
        authority.issue("b", &["c.example"]);
        let both = [authority.configured("a", &["a.example"]), authority.configured("b", &["b.example"])];
        let error = reload(&certificates, &both).unwrap_err();
        assert!(error.contains("certificate for b.example") && error.contains("does not cover"), "{error}");
        assert_eq!(served(&certificates, "a.example"), first);
    }

    #[test]
    fn an_expired_certificate_at_the_start_is_in_use_nonetheless() {
        let authority = Authority::new();
        let expired = authority.issue_valid("a", &["a.example"], -9..-1);
        let configured = [authority.configured("a", &["a.example"])];
        let certificates = Certificates::new().unwrap();
        for changed in [true, false] {
            let (is_changed, warnings) = reload(&certificates, &configured).unwrap();
            assert_eq!(is_changed, changed);
            assert!(matches!(&warnings[..], [one] if one.ends_with("it is in use nonetheless")), "{warnings:?}");
            assert_eq!(served(&certificates, "a.example"), expired);
        }
    }

    /// As at the start, so that `check` and a reload judge the same file alike.
    #[test]
    fn an_expired_certificate_at_a_reload_is_in_use_where_nothing_is_better() {
        let authority = Authority::new();
        let valid = authority.issue("a", &["a.example"]);
        let a = authority.configured("a", &["a.example"]);
        let certificates = serving(std::slice::from_ref(&a));
        let expired = authority.issue_valid("b", &["b.example"], -9..-1);
        let both = [a, authority.configured("b", &["b.example"])];
        let (changed, warnings) = reload(&certificates, &both).unwrap();
        assert!(changed && matches!(&warnings[..], [one] if one.ends_with("in use nonetheless")), "{warnings:?}");
        assert_eq!(served(&certificates, "b.example"), expired);

        let later = authority.issue_valid("b", &["b.example"], -9..-2);
        let (_, warnings) = reload(&certificates, &both).unwrap();
        assert!(matches!(&warnings[..], [one] if one.ends_with("in use nonetheless")), "{warnings:?}");
        assert_eq!(served(&certificates, "b.example"), later);

        authority.issue_valid("a", &["a.example"], -9..-1);
        let (_, warnings) = reload(&certificates, &both).unwrap();
        assert!(warnings[0].ends_with("the previous certificate stays in use"), "{warnings:?}");
        assert_eq!(served(&certificates, "a.example"), valid);
    }

    #[test]
    fn a_local_certificate_is_kept_for_the_same_hosts_until_it_is_renewed() {
        let local = |hosts: &[&str]| [Certificate { hosts: patterns(hosts), source: CertificateSource::Local }];
        let certificates = Certificates::new().unwrap();
        let start = SystemTime::now();
        for (hosts, days, changed) in [
            (["localhost", "a.localhost"], 0, true),
            (["localhost", "a.localhost"], 10, false),
            (["a.localhost", "localhost"], 59, false),
            (["localhost", "a.localhost"], 61, true),
            (["localhost", "b.localhost"], 61, true),
        ] {
            let prepared = certificates.prepare(&local(&hosts), start + days * DAY).unwrap();
            assert_eq!((prepared.changed, prepared.warnings.len()), (changed, 0), "{hosts:?} on day {days}");
            certificates.install(prepared);
        }
        let [info] = &certificates.info()[..] else { panic!("one certificate") };
        assert_eq!(
            (info.hosts.clone(), &info.source),
            (patterns(&["localhost", "b.localhost"]), &CertificateSource::Local)
        );
        assert!(info.not_after > start + 150 * DAY);
    }

    #[tokio::test]
    async fn a_swap_serves_new_connections_and_leaves_open_ones_alone() {
        let authority = Authority::new();
        let first = authority.issue("a", &["a.example"]);
        let configured = [authority.configured("a", &["a.example"])];
        let certificates = serving(&configured);
        let acceptor = acceptor(&certificates);
        let client = || Arc::new(authority.client(&[&TLS13]));
        let (server, open) = handshake(&acceptor, &client(), "a.example").await;
        let (mut server, mut open) = (server.unwrap(), open.unwrap());
        assert_eq!(open.get_ref().1.peer_certificates().unwrap()[0], first);

        let second = authority.issue("a", &["a.example"]);
        reload(&certificates, &configured).unwrap();
        let (_server, next) = handshake(&acceptor, &client(), "a.example").await;
        assert_eq!(next.unwrap().get_ref().1.peer_certificates().unwrap()[0], second);

        open.write_all(b"still here").await.unwrap();
        open.flush().await.unwrap();
        let mut read = [0; 10];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"still here");
    }

    #[tokio::test]
    async fn without_sni_the_default_is_served() {
        let authority = Authority::new();
        let first = authority.issue("a", &["127.0.0.1"]);
        authority.issue("b", &["b.example"]);
        let certificates =
            serving(&[authority.configured("a", &["127.0.0.1"]), authority.configured("b", &["b.example"])]);
        let (server, client) =
            handshake(&acceptor(&certificates), &Arc::new(authority.client(&[&TLS13])), "127.0.0.1").await;
        assert_eq!(server.unwrap().get_ref().1.server_name(), None);
        assert_eq!(client.unwrap().get_ref().1.peer_certificates().unwrap()[0], first);
    }
}
