//! Which certificate a client is shown and how it is replaced, and which ones the edge takes from endpoints.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::*;

const TEXT: &str = "[[route]]\npath = \"/\"\ntext = \"safe\"\n";

/// Writes a certificate for `host` and its key; the answer is what a client will see.
fn make(folder: &Path, name: &str, host: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

fn section(name: &str, host: &str) -> String {
    format!("[[certificate]]\nhosts = [\"{host}\"]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
}

async fn shown(edge: &Edge, name: &str) -> Vec<u8> {
    let stream = tls(edge, name, &[b"http/1.1"]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_name_that_is_asked_for_chooses_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let one = make(folder.path(), "one", "one.example");
    let any = make(folder.path(), "any", "*.two.example");
    let config = section("one", "one.example") + &section("any", "*.two.example") + TEXT;
    std::fs::write(folder.path().join("config.toml"), Edge::standard(config)).unwrap();
    let edge = Edge::in_folder(folder).await;
    for (name, expected) in [
        ("one.example", &one),
        ("ONE.example", &one),
        ("a.two.example", &any),
        ("a.b.two.example", &one),
        ("elsewhere.example", &one),
        // An address is not sent as a name.
        ("127.0.0.2", &one),
    ] {
        assert_eq!(&shown(&edge, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn replaced_files_are_shown_to_new_connections_and_old_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let before = make(folder.path(), "one", "one.example");
    std::fs::write(folder.path().join("config.toml"), Edge::standard(section("one", "one.example") + TEXT)).unwrap();
    let edge = Edge::in_folder(folder).await;
    let mut open = Client::over(Via::TlsH1, tls(&edge, "one.example", &[]).await).await.unwrap();
    assert_eq!(open.get("/").await.text(), "safe");
    assert_eq!(shown(&edge, "one.example").await, before);
    let after = make(edge.folder(), "one", "one.example");
    until("the new certificate", async || (shown(&edge, "one.example").await == after).then_some(())).await;
    assert_eq!(open.get("/").await.text(), "safe");
    until("the log to say so", async || {
        edge.stderr().contains("certificates: the renewed ones are in use").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_certificate_leaves_the_old_pair_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let before = make(folder.path(), "one", "one.example");
    make(folder.path(), "other", "one.example");
    std::fs::write(folder.path().join("config.toml"), Edge::standard(section("one", "one.example") + TEXT)).unwrap();
    let edge = Edge::in_folder(folder).await;
    std::fs::copy(edge.folder().join("other.key"), edge.folder().join("one.key")).unwrap();
    edge.reload().await;
    assert_eq!(shown(&edge, "one.example").await, before);
    assert!(edge.stderr().contains("one.example"), "{}", edge.stderr());
}

#[tokio::test]
async fn a_client_without_a_common_version_or_protocol_is_turned_away() {
    let edge = Edge::verbatim(&Edge::standard(TEXT).replace("tls = true", "tls = true\nprotocols = [\"h1\"]")).await;
    let stream = tls(&edge, "localhost", &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let stream = tokio::net::TcpStream::connect(edge.tls_address()).await.unwrap();
    assert!(try_tls(stream, "localhost", &[b"h3"]).await.is_err());
    // Cleartext on a port for TLS.
    let mut client = Wire::new(tokio::net::TcpStream::connect(edge.tls_address()).await.unwrap());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(!within("the end", client.rest()).await.starts_with(b"HTTP/1.1 200"));
}

/// An origin that answers over TLS as `name.pem` and tells the name that it was asked for.
async fn tls_origin(folder: &Path, name: &str) -> std::net::SocketAddr {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The edge may refuse the certificate.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let asked_for = stream.get_ref().1.server_name().unwrap_or("nothing").to_owned();
            let mut wire = Wire::new(stream);
            wire.request().await.unwrap();
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked_for}", asked_for.len());
            wire.send(reply).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn an_endpoint_has_to_prove_its_name() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), "good", "app.internal");
    make(folder.path(), "stranger", "app.internal");
    let address = tls_origin(folder.path(), "good").await;
    let mut config = String::new();
    for (path, name, ca) in [
        ("right", "app.internal", "good"),
        ("other-name", "db.internal", "good"),
        ("other-root", "app.internal", "stranger"),
    ] {
        config += &format!(
            "[upstream.{path}]\nendpoints = [\"{address}\"]\ntls = {{ server_name = \"{name}\", ca = \"{ca}.pem\" }}\n\
             [[route]]\npath = \"/{path}\"\nupstream = \"{path}\"\n"
        );
    }
    std::fs::write(folder.path().join("config.toml"), Edge::standard(config)).unwrap();
    let edge = Edge::in_folder(folder).await;
    let right = edge.get("/right").await;
    assert_eq!((right.status, right.text()), (200, "app.internal"));
    for path in ["/other-name", "/other-root"] {
        let refused = edge.get(path).await;
        assert_eq!((refused.status, refused.field("x-tollgate-reason")), (502, "upstream-tls"), "{path}");
    }
}
