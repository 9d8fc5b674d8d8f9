//! Health probes over the transport of their upstream, each on a connection of its own: one that is kept
//! open would say nothing of whether the endpoint still accepts.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Upstream;
use crate::balance::Endpoint;
use crate::balance::probe::{self, Answer, ProbeTransport, TransportError};
use crate::config::UpstreamProtocol;
use crate::local_executor::LocalExecutor;

/// Sends the probes of one upstream.
pub struct Probing(Arc<Upstream>);

impl Probing {
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self(upstream)
    }

    async fn speak<S>(&self, stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        match self.0.config().protocol {
            UpstreamProtocol::H1 => {
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                let driver = tokio::task::spawn_local(connection);
                let answer = read(sender.send_request(request).await?).await;
                driver.abort();
                answer
            }
            UpstreamProtocol::H2 => {
                let (mut sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream)).await?;
                let driver = tokio::task::spawn_local(connection);
                let answer = read(sender.send_request(request).await?).await;
                driver.abort();
                answer
            }
        }
    }

    fn request(&self, endpoint: &Endpoint, path: &str) -> Result<Request<Empty<Bytes>>, TransportError> {
        let builder = Request::get(path).header(USER_AGENT, HeaderValue::from_static(probe::USER_AGENT));
        if self.0.config().protocol == UpstreamProtocol::H1 {
            return Ok(builder.header(HOST, endpoint.authority.clone()).body(Empty::new())?);
        }
        let scheme = if self.0.tls.is_some() { "https" } else { "http" };
        Ok(builder.uri(format!("{scheme}://{}{path}", endpoint.authority.to_str()?)).body(Empty::new())?)
    }
}

impl ProbeTransport for Probing {
    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<Answer, TransportError> {
        let request = self.request(endpoint, path)?;
        let stream = TcpStream::connect(endpoint.address).await?;
        match &self.0.tls {
            None => self.speak(stream, request).await,
            Some(tls) => self.speak(tls.connect(&endpoint.name, stream).await?, request).await,
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, TransportError> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while body.len() < probe::BODY_BYTES_MAX
        && let Some(frame) = incoming.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    body.truncate(probe::BODY_BYTES_MAX);
    Ok(Answer { status: head.status, body: body.freeze() })
}
