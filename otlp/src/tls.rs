//! TLS to a collector: the roots that are given or those of the system, and the protocol that the messages go by.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Reads the roots of the system if none are given, which takes a while.
pub async fn connector(
    protocol: &'static [u8],
    given: Option<Vec<CertificateDer<'static>>>,
) -> io::Result<TlsConnector> {
    let built = tokio::task::spawn_blocking(move || {
        let roots = match given {
            Some(given) => given_roots(given)?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok::<_, io::Error>(config)
    });
    let config = built.await.map_err(io::Error::other)??;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn given_roots(given: Vec<CertificateDer<'static>>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in given {
        roots.add(root).map_err(|error| io::Error::other(format!("a root that is given cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("no root certificate can be read of the file that is given"));
    }
    Ok(roots)
}

/// Some may be there that cannot be read; that is a failure if all are such.
fn system_roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let faults: Vec<_> = loaded.errors.iter().map(|error| format!(": {error}")).collect();
        return Err(io::Error::other(format!("the system has no trusted root certificates{}", faults.concat())));
    }
    Ok(roots)
}

pub async fn connect(connector: &TlsConnector, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}
