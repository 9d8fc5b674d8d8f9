//! The upstream side: TLS to the endpoints of one upstream.
//!
//! It decides which roots are trusted and which name an endpoint has to prove. It has no limit of its own:
//! the caller's connect timeout stands over it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pair::{CertificateProblem, parse_chain, read_pem};
use super::{ALPN_H1, ALPN_H2, provider, unwrap_tls};
use crate::config::{self, UpstreamProtocol};

/// Sessions kept for resumption, over all endpoints of an upstream.
const SESSIONS_MAX: usize = 256;

/// The TLS policy of one upstream. Clones are cheap and share sessions.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    protocol: UpstreamProtocol,
}

/// An upstream's TLS configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("{}: {problem}", file.display())]
    File { file: PathBuf, problem: CertificateProblem },
    #[error("the system has no trusted root certificates; `ca` can name a PEM file of them{}", detail(.0))]
    System(Vec<rustls_native_certs::Error>),
    #[error("`{0}` is no host name or address, so no certificate can prove it")]
    ServerName(String),
    #[error("TLS cannot be set up: {0}")]
    Config(rustls::Error),
}

/// Why an endpoint could not be connected to. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{0}` is no host name or address, so no certificate can prove it")]
    Name(String),
    /// The chain, the name or the dates.
    #[error("the endpoint's certificate was refused: {0}{hint}", hint = hint(.0))]
    Certificate(rustls::CertificateError),
    #[error("the endpoint did not agree to HTTP/2 by ALPN")]
    NoH2,
    #[error("TLS failed: {0}")]
    Protocol(rustls::Error),
    #[error("the endpoint closed the connection in the handshake: {0}")]
    Closed(io::Error),
}

impl UpstreamTls {
    /// Reads the trusted roots. It blocks on the file system.
    pub fn new(tls: &config::UpstreamTls, protocol: UpstreamProtocol) -> Result<Self, RootsError> {
        let roots = match &tls.ca {
            Some(file) => {
                Arc::new(roots_from(file).map_err(|problem| RootsError::File { file: file.clone(), problem })?)
            }
            None => system_roots()?,
        };
        let server_name = match &tls.server_name {
            Some(name) => Some(parse_name(name).ok_or_else(|| RootsError::ServerName(name.clone()))?),
            None => None,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(RootsError::Config)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match protocol {
            UpstreamProtocol::H1 => vec![ALPN_H1.to_vec()],
            UpstreamProtocol::H2 => vec![ALPN_H2.to_vec()],
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Self { config: Arc::new(config), server_name, protocol })
    }

    /// Does the handshake over a connected `stream`. `host` is the endpoint's own name or address without
    /// its port; it is what is sent and verified unless the configuration names another.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => parse_name(host).ok_or_else(|| ConnectError::Name(host.to_owned()))?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        // Boxed, so that the handshake's state goes with it instead of staying in the caller's task.
        let stream = Box::pin(connector.connect(name, stream)).await.map_err(explain)?;
        // A server that knows no ALPN would take the HTTP/2 preface for a bad HTTP/1 request.
        if self.protocol == UpstreamProtocol::H2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(ConnectError::NoH2);
        }
        Ok(stream)
    }
}

fn explain(error: io::Error) -> ConnectError {
    match unwrap_tls(error) {
        Err(error) => ConnectError::Closed(error),
        Ok(rustls::Error::InvalidCertificate(error)) => ConnectError::Certificate(error),
        Ok(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => ConnectError::NoH2,
        Ok(error) => ConnectError::Protocol(error),
    }
}

/// What to do about a refusal whose own words don't say it.
fn hint(error: &rustls::CertificateError) -> &'static str {
    match error {
        // What `openssl req -x509` makes unless told otherwise. rustls names the error's type nowhere.
        rustls::CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            "; it is that of a certificate authority: have it sign one for the endpoint \
             (`basicConstraints=CA:FALSE`), and name the authority's own in `tls.ca`"
        }
        _ => "",
    }
}

fn parse_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

fn roots_from(file: &std::path::Path) -> Result<RootCertStore, CertificateProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in parse_chain(&read_pem(file)?)? {
        roots.add(certificate).map_err(|error| CertificateProblem::Malformed(error.to_string()))?;
    }
    Ok(roots)
}

/// The roots of the system, read once: it takes tens of milliseconds, and they change with the system's
/// packages, for which a restart is expected. A failure is not remembered.
fn system_roots() -> Result<Arc<RootCertStore>, RootsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry a few old roots that cannot be parsed; the others still count.
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        return Err(RootsError::System(loaded.errors));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

fn detail(errors: &[rustls_native_certs::Error]) -> String {
    errors.iter().map(|error| format!("; {error}")).collect()
}

#[cfg(test)]
mod tests {
    use rustls::HandshakeKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::testing::{Authority, BOTH, LIMIT, acceptor, serving};
    use super::super::{Acceptor, Certificates};
    use super::*;
    use crate::config::{ListenTls, Protocols, TlsVersion};

    const H1: Protocols = Protocols { h1: true, h2: false };

    fn kind(error: &ConnectError) -> &'static str {
        match error {
            ConnectError::Name(_) => "name",
            ConnectError::Certificate(_) => "certificate",
            ConnectError::NoH2 => "no h2",
            ConnectError::Protocol(_) => "protocol",
            ConnectError::Closed(_) => "closed",
        }
    }

    fn configured(authority: &Authority, server_name: Option<&str>) -> config::UpstreamTls {
        config::UpstreamTls { server_name: server_name.map(str::to_owned), ca: Some(authority.path("ca.pem")) }
    }

    fn endpoint(authority: &Authority, protocols: Protocols) -> Acceptor {
        authority.issue("app", &["app.internal", "10.0.0.7", "fd00::7"]);
        let certificates: Arc<Certificates> = serving(&[authority.configured("app", &["app.internal"])]);
        Acceptor::new(&ListenTls { min: TlsVersion::Tls12 }, protocols, &certificates).unwrap()
    }

    async fn connect(upstream: &UpstreamTls, host: &str, endpoint: &Acceptor) -> Result<(), &'static str> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (connected, _) = tokio::join!(upstream.connect(host, near), endpoint.accept(far, LIMIT));
        connected.map(|_| ()).map_err(|error| kind(&error))
    }

    #[tokio::test]
    async fn the_endpoint_must_prove_its_name() {
        let authority = Authority::new();
        let endpoint = endpoint(&authority, BOTH);
        for (server_name, host, expected) in [
            (None, "app.internal", Ok(())),
            (None, "APP.internal", Ok(())),
            (None, "10.0.0.7", Ok(())),
            (None, "[fd00::7]", Ok(())),
            (None, "fd00::7", Ok(())),
            (None, "10.0.0.8", Err("certificate")),
            (None, "other.internal", Err("certificate")),
            (None, "not a name", Err("name")),
            (Some("app.internal"), "10.0.0.8", Ok(())),
            (Some("other.internal"), "app.internal", Err("certificate")),
        ] {
            let upstream = UpstreamTls::new(&configured(&authority, server_name), UpstreamProtocol::H1).unwrap();
            assert_eq!(connect(&upstream, host, &endpoint).await, expected, "{server_name:?} {host}");
        }
    }

    #[tokio::test]
    async fn an_unknown_root_and_an_expired_certificate_are_refused() {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let trusting_another = UpstreamTls::new(&configured(&stranger, None), UpstreamProtocol::H1).unwrap();
        assert_eq!(connect(&trusting_another, "app.internal", &endpoint(&authority, BOTH)).await, Err("certificate"));

        authority.issue_valid("old", &["app.internal"], -9..-1);
        let certificates = Certificates::new().unwrap();
        let old = [authority.configured("old", &["app.internal"])];
        certificates.install(certificates.prepare(&old, std::time::SystemTime::now()).unwrap());
        let upstream = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H1).unwrap();
        assert_eq!(connect(&upstream, "app.internal", &acceptor(&certificates)).await, Err("certificate"));
    }

    #[tokio::test]
    async fn the_certificate_of_an_authority_is_refused_with_advice() {
        let authority = Authority::new();
        authority.issue_authority("root", "app.internal");
        let endpoint = acceptor(&serving(&[authority.configured("root", &["app.internal"])]));
        let tls = config::UpstreamTls { server_name: None, ca: Some(authority.path("root.pem")) };
        let upstream = UpstreamTls::new(&tls, UpstreamProtocol::H1).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (connected, _) = tokio::join!(upstream.connect("app.internal", near), endpoint.accept(far, LIMIT));
        let said = connected.unwrap_err().to_string();
        assert!(said.contains("CA:FALSE") && said.contains("tls.ca"), "{said}");
    }

    #[tokio::test]
    async fn http_2_must_be_agreed_on() {
        let authority = Authority::new();
        let h1_only = endpoint(&authority, H1);
        let h2 = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H2).unwrap();
        let h1 = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H1).unwrap();
        assert_eq!(connect(&h2, "app.internal", &endpoint(&authority, BOTH)).await, Ok(()));
        assert_eq!(connect(&h1, "app.internal", &endpoint(&authority, BOTH)).await, Ok(()));
        let h1_only_again = endpoint(&authority, H1);
        assert_eq!(connect(&h2, "app.internal", &h1_only).await, Err("no h2"));
        assert_eq!(connect(&h1, "app.internal", &h1_only_again).await, Ok(()));
    }

    #[tokio::test]
    async fn an_endpoint_without_alpn_is_http_1_alone() {
        let authority = Authority::new();
        let without_alpn = endpoint(&authority, Protocols { h1: false, h2: false });
        for (protocol, expected) in [(UpstreamProtocol::H1, Ok(())), (UpstreamProtocol::H2, Err("no h2"))] {
            let upstream = UpstreamTls::new(&configured(&authority, None), protocol).unwrap();
            assert_eq!(connect(&upstream, "app.internal", &without_alpn).await, expected);
        }
    }

    #[tokio::test]
    async fn bytes_before_the_handshake_fail_it() {
        let authority = Authority::new();
        let upstream = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H1).unwrap();
        for (answer, expected) in [(b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), "protocol"), (b"", "closed")] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            far.write_all(answer).await.unwrap();
            far.shutdown().await.unwrap();
            let refused = upstream.connect("app.internal", near).await.map(|_| ()).unwrap_err();
            assert_eq!(kind(&refused), expected, "{refused}");
        }
    }

    #[tokio::test]
    async fn sessions_are_resumed() {
        let authority = Authority::new();
        let endpoint = endpoint(&authority, BOTH);
        let upstream = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H1).unwrap();
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (connected, served) = tokio::join!(upstream.connect("app.internal", near), endpoint.accept(far, LIMIT));
            let (mut connected, mut served) = (connected.unwrap(), served.unwrap());
            served.write_u8(1).await.unwrap();
            served.flush().await.unwrap();
            assert_eq!(connected.read_u8().await.unwrap(), 1);
            assert_eq!(connected.get_ref().1.handshake_kind(), Some(expected));
        }
    }

    #[test]
    fn roots_that_cannot_be_used_are_named() {
        let authority = Authority::new();
        authority.write("empty.pem", "");
        let new = |server_name: Option<&str>, ca: &str| {
            let tls = config::UpstreamTls { ca: Some(authority.path(ca)), ..configured(&authority, server_name) };
            UpstreamTls::new(&tls, UpstreamProtocol::H1).map(|_| ()).map_err(|error| error.to_string())
        };
        assert!(new(None, "none.pem").unwrap_err().contains("none.pem: cannot be read"));
        assert!(new(None, "empty.pem").unwrap_err().contains("empty.pem: no `BEGIN CERTIFICATE`"));
        assert!(new(Some("a b"), "ca.pem").unwrap_err().starts_with("`a b` is no host name"));
        assert_eq!(new(Some("10.0.0.7"), "ca.pem"), Ok(()));
    }

    #[test]
    fn it_can_be_shared_and_its_futures_sent() {
        fn send<T: Send>(_: T) {}
        fn send_sync<T: Send + Sync>(_: &T) {}
        let authority = Authority::new();
        let upstream = UpstreamTls::new(&configured(&authority, None), UpstreamProtocol::H2).unwrap();
        send_sync(&upstream);
        send(upstream.connect("app.internal", tokio::io::duplex(1).0));
    }
}
