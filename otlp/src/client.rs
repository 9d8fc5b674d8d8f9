//! Posts messages to a collector, one after the other over a connection that is kept, each within a time limit.
//!
//! It runs on the runtime that it is given and may be asked from any thread, also one without a runtime. It does not try
//! again: who asks knows whether that is worth it.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use flate2::read::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::health::Taken;
use crate::settings::{Compression, Protocol, Target};
use crate::{grpc, tls};

/// An answer is a few bytes, or a message that says what is wrong.
const ANSWER_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] io::Error),
    #[error("the message cannot be compressed: {0}")]
    Compress(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    #[error("status {status}")]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error("gRPC status {}: {}", .0.code, .0.message)]
    Grpc(grpc::Status),
    #[error("the runtime has ended")]
    Ended,
}

impl ExportError {
    /// Whether the same message may be taken later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(..) | Self::Timeout(_) | Self::Connection(_) => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Grpc(status) => grpc::may_pass(status.code, status.retry),
            Self::Compress(_) | Self::Answer(_) | Self::Ended => false,
        }
    }

    /// When the collector wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Grpc(status) => status.retry,
            _ => None,
        }
    }
}

/// One address for one signal. Clones share the connection.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    target: Target,
    runtime: Handle,
    tls: OnceCell<TlsConnector>,
    kept: Mutex<Option<Connection>>,
}

enum Connection {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub fn new(target: Target, runtime: Handle) -> Self {
        Self(Arc::new(Shared { target, runtime, tls: OnceCell::new(), kept: Mutex::default() }))
    }

    /// Sends one encoded message (`Export…ServiceRequest`).
    pub async fn export(&self, message: Bytes) -> Result<Taken, ExportError> {
        let shared = Arc::clone(&self.0);
        let limit = shared.target.timeout;
        let sending = self.0.runtime.spawn(async move {
            tokio::time::timeout(limit, shared.send(message)).await.unwrap_or(Err(ExportError::Timeout(limit)))
        });
        sending.await.unwrap_or(Err(ExportError::Ended))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.target.fmt(f)
    }
}

impl Shared {
    async fn send(&self, message: Bytes) -> Result<Taken, ExportError> {
        let is_compressed = self.target.compression == Compression::Gzip;
        let message = if is_compressed { gzip(message).await? } else { message };
        let message = match self.target.protocol {
            Protocol::HttpProtobuf => message,
            Protocol::Grpc => grpc::frame(&message, is_compressed),
        };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
            match connection.send(self.request(message.clone())).await {
                Ok(response) => return self.finish(connection, response).await,
                // The collector closed it while it was idle. It has not seen the message, or has given it up.
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send(self.request(message)).await?;
        self.finish(connection, response).await
    }

    async fn finish(&self, connection: Connection, response: Response<Incoming>) -> Result<Taken, ExportError> {
        let (head, body) = response.into_parts();
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let collected = collected.map_err(|error| ExportError::Answer(error.to_string()))?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        if !head.status.is_success() {
            return Err(ExportError::Status { status: head.status, retry_after: retry_after(&head.headers) });
        }
        if self.target.protocol == Protocol::HttpProtobuf {
            return Ok(Taken::read(collected.to_bytes()));
        }
        let status = collected.trailers().and_then(grpc::status).or_else(|| grpc::status(&head.headers));
        match status {
            Some(grpc::Status { code: 0, .. }) => {
                let message = grpc::unframe(collected.to_bytes());
                Ok(message.map_or_else(|| Taken::unread("it is no message of gRPC"), Taken::read))
            }
            Some(status) => Err(ExportError::Grpc(status)),
            None => Err(ExportError::Answer("it has no gRPC status".to_owned())),
        }
    }

    fn request(&self, message: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        let fields = request.headers_mut();
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("tollgate-otlp/", env!("CARGO_PKG_VERSION"))));
        fields.extend(self.target.headers.clone());
        if self.target.compression == Compression::Gzip {
            let name = match self.target.protocol {
                Protocol::HttpProtobuf => CONTENT_ENCODING,
                Protocol::Grpc => HeaderName::from_static("grpc-encoding"),
            };
            fields.insert(name, HeaderValue::from_static("gzip"));
        }
        match self.target.protocol {
            Protocol::HttpProtobuf => {
                fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let host = self.target.url.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
                fields.insert(HOST, host.unwrap_or(HeaderValue::from_static("")));
                let path = self.target.url.path_and_query().cloned();
                *request.uri_mut() = path.map(Into::into).unwrap_or_default();
            }
            Protocol::Grpc => {
                fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                fields.insert(TE, HeaderValue::from_static("trailers"));
                *request.uri_mut() = self.target.url.clone();
            }
        }
        request
    }

    async fn connect(&self) -> Result<Connection, ExportError> {
        let url = &self.target.url;
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_tls = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let failed = |error| ExportError::Connect(format!("{host}:{port}"), error);
        let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if !is_tls {
            return self.begin(stream).await;
        }
        let (alpn, roots) = (self.target.protocol.alpn(), &self.target.roots);
        let connector = self.tls.get_or_try_init(|| tls::connector(alpn, roots.clone())).await;
        let stream = tls::connect(connector.map_err(failed)?, host, stream).await.map_err(failed)?;
        self.begin(stream).await
    }

    async fn begin(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Connection, ExportError> {
        let stream = TokioIo::new(stream);
        Ok(match self.target.protocol {
            Protocol::HttpProtobuf => {
                let (sender, connection) = http1::handshake(stream).await?;
                self.runtime.spawn(connection);
                Connection::H1(sender)
            }
            Protocol::Grpc => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                self.runtime.spawn(connection);
                Connection::H2(sender)
            }
        })
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::HttpProtobuf => b"http/1.1",
            Self::Grpc => b"h2",
        }
    }
}

/// Beside the runtime: a large message takes milliseconds.
async fn gzip(message: Bytes) -> Result<Bytes, ExportError> {
    let compress = move || {
        let mut compressed = Vec::with_capacity(message.len() / 4);
        let mut encoder = GzEncoder::new(&*message, flate2::Compression::default());
        encoder.read_to_end(&mut compressed).map(|_| compressed.into())
    };
    let compressed = tokio::task::spawn_blocking(compress).await.map_err(|_| ExportError::Ended)?;
    compressed.map_err(ExportError::Compress)
}

/// In seconds; a date is not looked at.
fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    fields.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
