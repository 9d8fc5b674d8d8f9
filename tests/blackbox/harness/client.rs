//! Clients of the edge: one that speaks proper HTTP by each protocol.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Edge, within};

/// By what a client speaks to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    H1,
    /// By prior knowledge.
    H2,
    TlsH1,
    TlsH2,
}

impl Via {
    pub const ALL: [Self; 4] = [Self::H1, Self::H2, Self::TlsH1, Self::TlsH2];

    pub fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::TlsH2)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::TlsH1 | Self::TlsH2)
    }
}

/// One connection, and the task that drives it.
pub struct Client {
    sender: Sender,
    via: Via,
    driver: JoinHandle<hyper::Result<()>>,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// A response that is awaited.
pub type Pending = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A response, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = collected.to_bytes();
        Ok(Self { status: head.status.as_u16(), fields: head.headers, body, trailers })
    }

    /// The value of a field that comes at most once; none is the empty text.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        let mut values = self.fields.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap()).unwrap_or_default();
        assert_eq!(values.next(), None, "a second line of {name} in {:?}", self.fields);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A request for `path` at `localhost`.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://localhost{path}"))
}

impl Client {
    pub async fn connect(edge: &Edge, via: Via) -> Self {
        Self::try_connect(edge, via).await.unwrap()
    }

    pub async fn try_connect(edge: &Edge, via: Via) -> hyper::Result<Self> {
        match via {
            Via::H1 => Self::over(via, TcpStream::connect(edge.address()).await.unwrap()).await,
            Via::H2 => Self::over(via, TcpStream::connect(edge.either_address()).await.unwrap()).await,
            Via::TlsH1 => Self::over(via, tls(edge, "localhost", &[b"http/1.1"]).await).await,
            Via::TlsH2 => Self::over(via, tls(edge, "localhost", &[b"h2", b"http/1.1"]).await).await,
        }
    }

    /// Speaks over a connection that is open already.
    pub async fn over<S>(via: Via, stream: S) -> hyper::Result<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        let (sender, driver) = if via.is_h2() {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            (Sender::H2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            (Sender::H1(sender), tokio::spawn(connection))
        };
        Ok(Self { sender, via, driver })
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(request("GET", path), "").await
    }

    /// Sends a request with its body whole and reads the response.
    pub async fn ask(&mut self, head: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let request = head.body(Body::whole(body)).unwrap();
        within("a response", async { Answer::read(self.send(request).await.await.unwrap()).await.unwrap() }).await
    }

    /// Sends a request; what comes later is the head of the response.
    pub async fn send(&mut self, mut request: Request<Body>) -> Pending {
        if !self.via.is_h2() {
            let host = request.uri().authority().unwrap().as_str().parse().unwrap();
            request.headers_mut().entry(http::header::HOST).or_insert(host);
            *request.uri_mut() = request.uri().path_and_query().cloned().map(http::Uri::from).unwrap();
        }
        match &mut self.sender {
            Sender::H1(sender) => {
                // The last exchange may be over for us and not yet for the connection.
                let _closed = sender.ready().await;
                Box::pin(sender.send_request(request))
            }
            Sender::H2(sender) => Box::pin(sender.send_request(request)),
        }
    }

    /// Closes the connection at once.
    pub fn leave(self) {
        self.driver.abort();
    }

    /// Waits until the edge has closed the connection.
    #[track_caller]
    pub fn closed(self) -> impl Future<Output = ()> {
        within("the end of the connection", async move { drop(self.driver.await) })
    }
}

/// A body that is whole, or comes by what the test sends.
pub enum Body {
    Whole(Full<Bytes>),
    Fed(mpsc::Receiver<Frame<Bytes>>),
}

impl Body {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    /// Ends when the sender is dropped.
    pub fn fed() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (feed, fed) = mpsc::channel(1);
        (feed, Self::Fed(fed))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Fed(fed) => fed.poll_recv(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.is_end_stream())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Fed(_) => http_body::SizeHint::default(),
        }
    }
}

/// A TLS connection to the edge that asks for `name` and offers `protocols`; any certificate is good.
pub async fn tls(edge: &Edge, name: &str, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(edge.tls_address()).await.unwrap();
    try_tls(stream, name, protocols).await.unwrap()
}

pub async fn try_tls(stream: TcpStream, name: &str, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The certificate is looked at by the tests that are about it.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
