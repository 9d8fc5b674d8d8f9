//! One page asked of the running proxy, as a client asks for it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::list::Item;
use super::reachable;
use crate::header::Scheme;
use crate::tls::to_own_listener;

/// For one page, from the connection to its last byte.
const LIMIT: Duration = Duration::from_secs(60);
const TEXT_BYTES_MAX: usize = 64 << 20;
/// What browsers send: the variant of most clients is the one to have.
const CODINGS: &str = "gzip, deflate, br, zstd";

/// Where the proxy listens, and for whom it is asked.
#[derive(Clone)]
pub struct Doors {
    clear: Option<SocketAddr>,
    tls: Option<(SocketAddr, TlsConnector)>,
    /// The name that stands for pages whose host is not known.
    name: String,
    /// The same as it was given, with its port.
    host: Option<String>,
}

impl Doors {
    /// Of listeners, each with whether it speaks TLS, the first of each kind, and the first name of the certificates
    /// that is one host's.
    pub fn new<'a>(
        listeners: impl Iterator<Item = (SocketAddr, bool)> + Clone,
        mut names: impl Iterator<Item = &'a str>,
        host: Option<String>,
    ) -> anyhow::Result<Self> {
        let of = |tls: bool| listeners.clone().find(|(_, is_tls)| *is_tls == tls).map(|(bound, _)| reachable(bound));
        let tls = of(true).map(|address| Ok::<_, anyhow::Error>((address, to_own_listener()?))).transpose()?;
        let clear = of(false);
        if tls.is_none() && clear.is_none() {
            return Err(anyhow!("the proxy has no open listener"));
        }
        let name = names.find(|name| !name.contains('*')).unwrap_or("localhost").to_owned();
        Ok(Self { clear, tls, name, host })
    }

    /// Asks for a page and reads it to its end.
    pub async fn visit(&self, item: &Item) -> anyhow::Result<(StatusCode, HeaderMap)> {
        let visit = async {
            let mut response = self.ask(item, CODINGS).await?;
            while let Some(frame) = response.body_mut().frame().await {
                frame.context("the answer broke off")?;
            }
            Ok((response.status(), std::mem::take(response.headers_mut())))
        };
        limited(visit).await
    }

    /// Asks for a text.
    pub async fn read(&self, item: &Item) -> anyhow::Result<String> {
        let read = async {
            let response = self.ask(item, "identity").await?;
            if response.status() != StatusCode::OK {
                return Err(anyhow!("{}", response.status()));
            }
            let body = Limited::new(response.into_body(), TEXT_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!(error)).context("the answer broke off")?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        limited(read).await
    }

    async fn ask(&self, item: &Item, codings: &str) -> anyhow::Result<Response<Incoming>> {
        let door = match (&self.tls, self.clear) {
            (Some((address, connector)), _) if item.scheme != Some(Scheme::Http) => Some((*address, Some(connector))),
            (_, Some(address)) if item.scheme != Some(Scheme::Https) => Some((address, None)),
            _ => None,
        };
        let scheme = item.scheme.map_or("http", Scheme::as_str);
        let (address, connector) = door.ok_or_else(|| anyhow!("the proxy has no open listener for {scheme}"))?;
        let scheme = if connector.is_some() { Scheme::Https } else { Scheme::Http };
        let host = match item.host.as_ref().or(self.host.as_ref()) {
            Some(host) => host.clone(),
            None if address.port() == scheme.default_port() => self.name.clone(),
            None => format!("{}:{}", self.name, address.port()),
        };
        let request = Request::get(&item.target)
            .header(HOST, &host)
            .header(USER_AGENT, concat!("tollgate-warm/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, codings)
            .body(Empty::new())?;
        let stream = TcpStream::connect(address).await.with_context(|| format!("nothing answers at {address}"))?;
        match connector {
            None => exchange(stream, request).await,
            Some(connector) => {
                let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
                let name = name.map_or(host.as_str(), |(name, _)| name).trim_matches(['[', ']']);
                let name = ServerName::try_from(name.to_owned())?;
                exchange(connector.connect(name, stream).await?, request).await
            }
        }
    }
}

async fn limited<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let elapsed = |_| Err(anyhow!("no whole answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(elapsed)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the body, or the sender.
    tokio::spawn(connection);
    sender.send_request(request).await.context("the proxy closed the connection")
}
