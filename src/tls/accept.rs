//! The downstream side: one listener's TLS policy, and its handshake within a limit.
//!
//! It decides versions, application protocols and resumption, and names why a handshake failed. Once the
//! handshake is done, the stream is rustls' own and nothing here is called any more.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use super::{ALPN_H1, ALPN_H2, Certificates, Ending, LateTickets, is_chacha, provider, unwrap_tls};
use crate::config::{ListenTls, Protocols, TlsVersion};

/// The first byte of every TLS connection: a record of type handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// How long, and for how much, a refused cleartext request is read on. Closing with bytes unread resets
/// the connection, and the client would lose the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 64 * 1024;

const CLEARTEXT_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 50\r\n\
    Connection: close\r\n\
    \r\n\
    The plain HTTP request was sent to an HTTPS port.\n";

/// The TLS policy of one listener. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Acceptor {
    /// Prefers the suites that cost the edge least.
    config: Arc<ServerConfig>,
    /// Prefers what the client does.
    by_client: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    protocols: Protocols,
}

/// Why there was no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the handshake took longer than {0:?}")]
    Timeout(Duration),
    #[error("the client did not speak TLS")]
    Cleartext,
    #[error("there is no certificate to serve")]
    NoCertificate,
    #[error("no application protocol in common")]
    NoApplicationProtocol,
    /// No version, cipher suite, group or signature scheme in common.
    #[error("nothing in common with the client: {0:?}")]
    Incompatible(rustls::PeerIncompatible),
    /// Often a client that does not trust the certificate.
    #[error("the client refused: {0:?}")]
    Refused(AlertDescription),
    #[error("the client broke the protocol: {0}")]
    Protocol(rustls::Error),
    #[error("the client left: {0}")]
    Closed(io::Error),
}

impl Acceptor {
    /// It fails only if the provider lacks cipher suites for the versions.
    pub fn new(tls: &ListenTls, protocols: Protocols, certificates: &Arc<Certificates>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions(tls.min))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(certificates) as _);
        config.alpn_protocols = [(protocols.h2, ALPN_H2), (protocols.h1, ALPN_H1)]
            .into_iter()
            .filter(|(spoken, _)| *spoken)
            .map(|(_, name)| name.to_vec())
            .collect();
        config.ticketer = Arc::clone(&certificates.ticketer);
        config.session_storage = Arc::clone(&certificates.sessions);
        config.send_tls13_tickets = 2;
        // Early data can be replayed (RFC 8446 §8), and nothing behind this proxy knows which data was early.
        config.max_early_data_size = 0;
        let by_client = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self { config: Arc::new(config), by_client, certificates: Arc::clone(certificates), protocols })
    }

    /// Does the handshake, all of it within `limit`. A client that speaks HTTP in cleartext is told so.
    pub async fn accept<S>(&self, stream: S, limit: Duration) -> Result<TlsStream<LateTickets<S>>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Ending + Unpin,
    {
        // Boxed, so that its 5 KiB go with the handshake instead of staying in the connection's task.
        match timeout(limit, Box::pin(self.handshake(stream))).await {
            Err(_) => Err(HandshakeError::Timeout(limit)),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(Failure::Handshake(error))) => Err(error),
            Ok(Err(Failure::Cleartext(stream))) => {
                // The client may be gone; the refusal stands either way.
                let _ = timeout(LINGER, answer_cleartext(stream)).await;
                Err(HandshakeError::Cleartext)
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<TlsStream<LateTickets<S>>, Failure<S>>
    where
        S: AsyncRead + AsyncWrite + Ending + Unpin,
    {
        // rustls holds at most 64 KiB of a ClientHello, however it is cut into records.
        let first = FirstByte { stream, seen: None };
        let mut hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), first);
        let start = match (&mut hello).await {
            Ok(start) => start,
            Err(error) => {
                return Err(match hello.take_io() {
                    Some(FirstByte { stream, seen: Some(byte) }) if byte != HANDSHAKE_RECORD => {
                        Failure::Cleartext(stream)
                    }
                    _ => Failure::Handshake(self.explain(error)),
                });
            }
        };
        let start = StartHandshake::from_parts(start.accepted, LateTickets::new(start.io.stream));
        // Its processor does not know AES, which would cost it far more than the edge is spared.
        let wants_chacha = start.client_hello().cipher_suites().first().is_some_and(|suite| is_chacha(*suite));
        let config = if wants_chacha { &self.by_client } else { &self.config };
        let mut stream = match start.into_stream(Arc::clone(config)).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // The client is told why, with no more patience than for the rest.
                poll_fn(|cx| {
                    stream.poll_let_go(cx);
                    Poll::Ready(())
                })
                .await;
                return Err(Failure::Handshake(self.explain(error)));
            }
        };
        stream.get_mut().0.end_hand_shake();
        // HTTP/2 over TLS needs ALPN (RFC 9113 §3.3); a client without it speaks HTTP/1.
        if !self.protocols.h1 && !selected_h2(&stream) {
            return Err(Failure::Handshake(HandshakeError::NoApplicationProtocol));
        }
        Ok(stream)
    }

    fn explain(&self, error: io::Error) -> HandshakeError {
        match unwrap_tls(error) {
            Err(error) => HandshakeError::Closed(error),
            Ok(rustls::Error::General(_)) if self.certificates.is_empty() => HandshakeError::NoCertificate,
            Ok(rustls::Error::NoApplicationProtocol) => HandshakeError::NoApplicationProtocol,
            Ok(rustls::Error::PeerIncompatible(why)) => HandshakeError::Incompatible(why),
            Ok(rustls::Error::AlertReceived(alert)) => HandshakeError::Refused(alert),
            Ok(error) => HandshakeError::Protocol(error),
        }
    }
}

/// Whether HTTP/2 was agreed on; otherwise the connection speaks HTTP/1.
pub fn selected_h2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_H2)
}

/// The version that was agreed on.
pub fn version<S>(stream: &TlsStream<S>) -> TlsVersion {
    match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
        _ => TlsVersion::Tls13,
    }
}

/// Whether a ticket spared the client and the edge a part of the handshake.
pub fn is_resumed<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
}

fn versions(min: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match min {
        TlsVersion::Tls12 => vec![&TLS13, &TLS12],
        TlsVersion::Tls13 => vec![&TLS13],
    }
}

enum Failure<S> {
    Cleartext(S),
    Handshake(HandshakeError),
}

async fn answer_cleartext<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.write_all(CLEARTEXT_ANSWER).await?;
    stream.shutdown().await?;
    let mut unread = stream.take(LINGER_BYTES_MAX);
    let mut buffer = [0; 512];
    while unread.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Stands under rustls while the ClientHello is read. It looks at the first byte, as nginx does, and fails
/// the read of anything but TLS before rustls sees it and answers with an alert.
struct FirstByte<S> {
    stream: S,
    seen: Option<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstByte<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.seen.is_none() {
            self.seen = buffer.filled().get(start).copied();
            if self.seen.is_some_and(|byte| byte != HANDSHAKE_RECORD) {
                buffer.set_filled(start);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstByte<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::ServerName;
    use rustls::{CipherSuite, HandshakeKind};

    use super::super::testing::{Authority, BOTH, ClientStream, LIMIT, ServerStream, acceptor, handshake, serving};
    use super::*;

    const H1: Protocols = Protocols { h1: true, h2: false };
    const H2: Protocols = Protocols { h1: false, h2: true };

    fn kind(error: &HandshakeError) -> &'static str {
        match error {
            HandshakeError::Timeout(_) => "timeout",
            HandshakeError::Cleartext => "cleartext",
            HandshakeError::NoCertificate => "no certificate",
            HandshakeError::NoApplicationProtocol => "no application protocol",
            HandshakeError::Incompatible(_) => "incompatible",
            HandshakeError::Refused(_) => "refused",
            HandshakeError::Protocol(_) => "protocol",
            HandshakeError::Closed(_) => "closed",
        }
    }

    fn single() -> (Authority, Arc<Certificates>) {
        let authority = Authority::new();
        authority.issue("a", &["a.example", "b.example"]);
        let certificates = serving(&[authority.configured("a", &["a.example"])]);
        (authority, certificates)
    }

    /// One byte each way; on the way the client takes in its tickets.
    async fn exchange(server: &mut ServerStream, client: &mut ClientStream) {
        let (served, asked) = tokio::join!(
            async {
                let byte = server.read_u8().await?;
                server.write_u8(byte + 1).await?;
                server.flush().await
            },
            async {
                client.write_u8(7).await?;
                client.flush().await?;
                client.read_u8().await
            }
        );
        served.unwrap();
        assert_eq!(asked.unwrap(), 8);
    }

    #[tokio::test]
    async fn versions_follow_the_minimum() {
        let (authority, certificates) = single();
        let all = [&TLS12, &TLS13];
        for (min, client_version, expected) in [
            (TlsVersion::Tls12, 0, Ok(())),
            (TlsVersion::Tls12, 1, Ok(())),
            (TlsVersion::Tls13, 0, Err("incompatible")),
            (TlsVersion::Tls13, 1, Ok(())),
        ] {
            let acceptor = Acceptor::new(&ListenTls { min }, BOTH, &certificates).unwrap();
            let client = Arc::new(authority.client(&all[client_version..=client_version]));
            let (server, asked) = handshake(&acceptor, &client, "a.example").await;
            assert_eq!(server.map(|_| ()).map_err(|error| kind(&error)), expected, "{min:?}");
            assert_eq!(asked.is_ok(), expected.is_ok());
        }
    }

    /// The offer of a client, the best first, and what is chosen of it.
    #[tokio::test]
    async fn the_edge_chooses_the_suite_unless_its_client_does_without_aes() {
        use CipherSuite::*;
        let (authority, certificates) = single();
        let aes_256 = (TLS13_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
        let aes_128 = (TLS13_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        let chacha = (TLS13_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
        for (offer, expected) in [
            (vec![aes_256, chacha, aes_128], aes_128),
            (vec![aes_256, chacha], aes_256),
            (vec![chacha, aes_256, aes_128], chacha),
        ] {
            let mut offering = CryptoProvider::clone(&provider());
            let suite = |name| *provider().cipher_suites.iter().find(|suite| suite.suite() == name).unwrap();
            offering.cipher_suites = offer.iter().flat_map(|(new, old)| [suite(*new), suite(*old)]).collect();
            let offering = Arc::new(offering);
            for (version, expected) in [(&TLS13, expected.0), (&TLS12, expected.1)] {
                let client = authority.client_of(Arc::clone(&offering), &[version]);
                let (server, _client) = handshake(&acceptor(&certificates), &Arc::new(client), "a.example").await;
                let chosen = server.unwrap().get_ref().1.negotiated_cipher_suite().unwrap().suite();
                assert_eq!(chosen, expected, "{offer:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_application_protocol_is_agreed_on_or_refused() {
        let (authority, certificates) = single();
        for (protocols, offered, expected) in [
            (BOTH, "http/1.1 h2", Ok(true)),
            (BOTH, "http/1.1", Ok(false)),
            (BOTH, "", Ok(false)),
            (H1, "http/1.1 h2", Ok(false)),
            (H2, "http/1.1 h2", Ok(true)),
            (H2, "http/1.1", Err("no application protocol")),
            (H2, "", Err("no application protocol")),
            (H1, "ftp", Err("no application protocol")),
        ] {
            let acceptor = Acceptor::new(&ListenTls { min: TlsVersion::Tls12 }, protocols, &certificates).unwrap();
            let mut client = authority.client(&[&TLS13]);
            client.alpn_protocols = offered.split_whitespace().map(|name| name.as_bytes().to_vec()).collect();
            let (server, _client) = handshake(&acceptor, &Arc::new(client), "a.example").await;
            let selected = server.map(|stream| selected_h2(&stream)).map_err(|error| kind(&error));
            assert_eq!(selected, expected, "{protocols:?} {offered}");
        }
    }

    #[tokio::test]
    async fn a_second_connection_resumes_at_any_listener() {
        let (authority, certificates) = single();
        for version in [&TLS12, &TLS13] {
            let client = Arc::new(authority.client(&[version]));
            for (protocols, expected) in
                [(BOTH, HandshakeKind::Full), (BOTH, HandshakeKind::Resumed), (H1, HandshakeKind::Resumed)]
            {
                let acceptor = Acceptor::new(&ListenTls { min: TlsVersion::Tls12 }, protocols, &certificates).unwrap();
                let (server, asked) = handshake(&acceptor, &client, "a.example").await;
                let (mut server, mut asked) = (server.unwrap(), asked.unwrap());
                exchange(&mut server, &mut asked).await;
                assert_eq!(server.get_ref().1.handshake_kind(), Some(expected), "{version:?}");
                assert_eq!(server.get_ref().1.server_name(), Some("a.example"));
            }
        }
    }

    /// Offers the session of one server to every other.
    #[derive(Debug)]
    struct Careless(rustls::client::ClientSessionMemoryCache);

    fn one_name() -> ServerName<'static> {
        ServerName::try_from("one.example").unwrap()
    }

    impl ClientSessionStore for Careless {
        fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
            self.0.set_kx_hint(one_name(), group);
        }
        fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
            self.0.kx_hint(&one_name())
        }
        fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
            self.0.set_tls12_session(one_name(), value);
        }
        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            self.0.tls12_session(&one_name())
        }
        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.0.remove_tls12_session(&one_name());
        }
        fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
            self.0.insert_tls13_ticket(one_name(), value);
        }
        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            self.0.take_tls13_ticket(&one_name())
        }
    }

    #[tokio::test]
    async fn a_session_is_bound_to_its_host() {
        let (authority, certificates) = single();
        let acceptor = acceptor(&certificates);
        for version in [&TLS12, &TLS13] {
            let mut client = authority.client(&[version]);
            let store = Careless(rustls::client::ClientSessionMemoryCache::new(8));
            client.resumption = Resumption::store(Arc::new(store));
            let client = Arc::new(client);
            for (name, expected) in [
                ("a.example", HandshakeKind::Full),
                ("a.example", HandshakeKind::Resumed),
                ("b.example", HandshakeKind::Full),
            ] {
                let (server, asked) = handshake(&acceptor, &client, name).await;
                let (mut server, mut asked) = (server.unwrap(), asked.unwrap());
                exchange(&mut server, &mut asked).await;
                assert_eq!(server.get_ref().1.handshake_kind(), Some(expected), "{version:?} {name}");
            }
        }
    }

    #[tokio::test]
    async fn no_early_data_is_taken() {
        let (_authority, certificates) = single();
        assert_eq!(acceptor(&certificates).config.max_early_data_size, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_stands_over_a_client_hello_sent_byte_by_byte() {
        let (authority, certificates) = single();
        let name = ServerName::try_from("a.example").unwrap();
        let mut hello = Vec::new();
        let mut client = rustls::ClientConnection::new(Arc::new(authority.client(&[&TLS13])), name).unwrap();
        client.write_tls(&mut hello).unwrap();

        let acceptor = acceptor(&certificates);
        let (near, mut far) = tokio::io::duplex(64);
        let drip = async {
            for byte in hello {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if far.write_u8(byte).await.is_err() {
                    break;
                }
            }
        };
        let start = tokio::time::Instant::now();
        let (refused, ()) = tokio::join!(
            async {
                let refused = acceptor.accept(near, LIMIT).await.unwrap_err();
                assert_eq!(start.elapsed(), LIMIT);
                refused
            },
            drip
        );
        assert_eq!(kind(&refused), "timeout");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_cut_off_and_a_leaving_one_is_not_a_fault() {
        let (_authority, certificates) = single();
        let acceptor = acceptor(&certificates);
        let (near, far) = tokio::io::duplex(64);
        assert_eq!(kind(&acceptor.accept(near, LIMIT).await.unwrap_err()), "timeout");
        drop(far);
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        assert_eq!(kind(&acceptor.accept(near, LIMIT).await.unwrap_err()), "closed");
    }

    async fn check_garbage(sent: &[u8], reason: &str, answer: &[u8]) {
        let (_authority, certificates) = single();
        let (near, mut far) = tokio::io::duplex(256 * 1024);
        let client = async {
            far.write_all(sent).await.unwrap();
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received
        };
        let (refused, received) =
            tokio::join!(async { acceptor(&certificates).accept(near, LIMIT).await.map(|_| ()).unwrap_err() }, client);
        assert_eq!(kind(&refused), reason, "{refused}");
        assert!(received.starts_with(answer), "{received:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn cleartext_is_told_so_and_other_garbage_is_cut_off() {
        check_garbage(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "cleartext", CLEARTEXT_ANSWER).await;
        check_garbage(b"G", "cleartext", CLEARTEXT_ANSWER).await;
        check_garbage(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "cleartext", CLEARTEXT_ANSWER).await;
        check_garbage(&[b"POST /".as_slice(), &[b'x'; 100_000]].concat(), "cleartext", CLEARTEXT_ANSWER).await;
        // A handshake record that holds no ClientHello, and one that promises more than 64 KiB.
        check_garbage(&[22, 3, 1, 0, 4, 2, 0, 0, 0], "protocol", b"").await;
        check_garbage(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff], "protocol", b"").await;
    }

    #[test]
    fn the_cleartext_answer_has_the_length_it_says() {
        let answer = std::str::from_utf8(CLEARTEXT_ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }

    #[tokio::test]
    async fn without_a_certificate_the_reason_is_named() {
        let authority = Authority::new();
        let acceptor = acceptor(&Certificates::new().unwrap());
        let (server, _) = handshake(&acceptor, &Arc::new(authority.client(&[&TLS13])), "a.example").await;
        assert_eq!(kind(&server.unwrap_err()), "no certificate");
    }

    #[tokio::test]
    async fn a_client_that_does_not_trust_the_certificate_is_a_refusal() {
        let (_authority, certificates) = single();
        let stranger = Authority::new();
        // In TLS 1.3 too the alert comes before the client's Finished.
        let (server, _) = handshake(&acceptor(&certificates), &Arc::new(stranger.client(&[&TLS13])), "a.example").await;
        assert_eq!(kind(&server.unwrap_err()), "refused");
    }

    #[test]
    fn acceptors_and_their_futures_can_be_sent() {
        fn send<T: Send>(_: T) {}
        fn send_sync<T: Send + Sync>(_: &T) {}
        let (_authority, certificates) = single();
        let acceptor = acceptor(&certificates);
        send_sync(&acceptor);
        send_sync(&certificates);
        send(acceptor.accept(tokio::io::duplex(1).0, LIMIT));
    }
}
