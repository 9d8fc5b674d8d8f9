//! Certificates, configurations and clients for the tests of this module.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;

use super::{Acceptor, Certificates, HandshakeError, LateTickets, provider};
use crate::config::{Certificate, CertificateSource, HostPattern, ListenTls, Protocols, TlsVersion};

pub const LIMIT: Duration = Duration::from_secs(10);
pub const BOTH: Protocols = Protocols { h1: true, h2: true };
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub type ServerStream = tokio_rustls::server::TlsStream<LateTickets<DuplexStream>>;
pub type ClientStream = tokio_rustls::client::TlsStream<DuplexStream>;

/// A folder of PEM files, issued by a certificate authority of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: TempDir::new().unwrap() };
        authority.write("ca.pem", authority.issuer.pem());
        authority
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    /// Writes `name.pem` and `name.key` for `names`, valid for now.
    pub fn issue(&self, name: &str, names: &[&str]) -> CertificateDer<'static> {
        self.issue_valid(name, names, -1..30)
    }

    /// The same, valid for the given days, counted from now.
    pub fn issue_valid(&self, name: &str, names: &[&str], days: std::ops::Range<i32>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let day = |days: i32| rcgen::date_time_ymd(1970, 1, 1) + (today + DAY * 1000) - (DAY * (1000 - days) as u32);
        (params.not_before, params.not_after) = (day(days.start), day(days.end));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.pem"), certificate.pem());
        self.write(&format!("{name}.key"), key.serialize_pem());
        certificate.der().clone()
    }

    /// Writes `name.pem` and `name.key` of another authority, for a name of its own.
    pub fn issue_authority(&self, name: &str, host: &str) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.pem"), params.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), key.serialize_pem());
    }

    /// The configuration of the files `name.pem` and `name.key`.
    pub fn configured(&self, name: &str, hosts: &[&str]) -> Certificate {
        let certificate = self.path(&format!("{name}.pem"));
        let key = self.path(&format!("{name}.key"));
        Certificate { hosts: patterns(hosts), source: CertificateSource::Files { certificate, key } }
    }

    /// A client that trusts this authority and speaks both protocols.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_of(provider(), versions)
    }

    pub fn client_of(
        &self,
        provider: Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

pub fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    let pattern = |host: &&str| match host.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact(host.to_string()),
    };
    hosts.iter().map(pattern).collect()
}

/// Serves `configured`, which must be without fault.
pub fn serving(configured: &[Certificate]) -> Arc<Certificates> {
    let certificates = Certificates::new().unwrap();
    let prepared = certificates.prepare(configured, SystemTime::now()).unwrap();
    assert!(prepared.warnings.is_empty(), "{:?}", prepared.warnings);
    certificates.install(prepared);
    certificates
}

pub fn acceptor(certificates: &Arc<Certificates>) -> Acceptor {
    Acceptor::new(&ListenTls { min: TlsVersion::Tls12 }, BOTH, certificates).unwrap()
}

/// One handshake over a pipe, as both sides see it.
pub async fn handshake(
    acceptor: &Acceptor,
    client: &Arc<ClientConfig>,
    name: &str,
) -> (Result<ServerStream, HandshakeError>, std::io::Result<ClientStream>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::join!(acceptor.accept(near, LIMIT), TlsConnector::from(Arc::clone(client)).connect(name, far))
}
