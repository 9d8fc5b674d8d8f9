//! One downstream connection from its first byte to its last: hand-shake, choice of protocol, HTTP/1.1 by a codec
//! of our own or HTTP/2, tunnel, and an end that lets the client read what was said.

mod batched;
mod framed;
mod h1;
mod h2;
mod heads;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::h1::serve_h1;
pub use self::h1::{Asked, Stamp, read_request_head, write_head};
use self::h2::serve_h2;
pub use self::heads::{HeadBudget, Share};
use crate::config::{Protocols, TlsVersion};
use crate::error::Reason;
use crate::guard;
use crate::header::forwarded;
use crate::interim::Interims;
use crate::overload::{ByAddress, Client};
use crate::pace::{self, Stalled};
use crate::proxy::Opened;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Handshake, ListenerProtocol};
use crate::tls::{self, Acceptor, HandshakeError};
use crate::tunnel;
use crate::upstream::Tunnel;
use crate::worker::{Counts, Worker};

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// When draining, a connection has this long for its handshake, and one that has not carried a request for its
/// first.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// The time limits of a client; all but `header_timeout` count silence, or how little comes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the first byte of a request. Then the connection ends as if the client had closed it.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its end. It is refused with 408 then.
    pub header_timeout: Duration,
    /// Of a body, while it is waited for.
    pub body: pace::Terms,
    /// Of a response, while its client is waited for.
    pub sending: pace::Terms,
    /// Open at a time on a connection of HTTP/2.
    pub h2_streams_max: u32,
}

/// What is known of a connection before its first request.
#[derive(Debug)]
pub struct Downstream {
    pub peer: SocketAddr,
    /// The peer's address as fields carry it.
    pub peer_value: HeaderValue,
    /// The listener's address as the config names it.
    pub listener: SocketAddr,
    pub tls: Option<TlsVersion>,
}

/// What a request needs of its connection.
pub struct Link {
    pub downstream: Downstream,
    /// Taken by a request that became a tunnel; the connection runs it once the 101 is written.
    pub tunnel: RefCell<Option<Opened>>,
    /// What the client is told before its answer; None over HTTP/2, whose codec sends no such thing.
    pub interims: Option<Interims>,
    open: Arc<Open>,
    /// Requests over HTTP/1.1 so far.
    calls: Cell<u64>,
    /// Who counts the requests of the peer, once there is one to be counted.
    client: OnceCell<Arc<Client>>,
}

/// What the requests of a connection and the connection itself tell each other.
#[derive(Debug, Default)]
struct Open {
    /// Requests whose response has not ended.
    requests: AtomicUsize,
    /// Why the connection was given up: its client took nothing, or too little.
    given_up: OnceLock<guard::Reason>,
    /// The guard's last word is in the record of a request.
    refusal_counted: AtomicBool,
}

/// Counts one request from its head to the end of its response, and its connection as busy while there is one.
pub struct OpenRequest {
    open: Arc<Open>,
    counts: Arc<Counts>,
}

impl Link {
    fn new(downstream: Downstream, interims: Option<Interims>) -> Self {
        Self {
            downstream,
            tunnel: RefCell::default(),
            interims,
            open: Arc::default(),
            calls: Cell::new(0),
            client: OnceCell::new(),
        }
    }

    pub fn open_request(&self, worker: &Worker) -> OpenRequest {
        worker.counts.requests.fetch_add(1, Ordering::Relaxed);
        if self.open.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            worker.counts.busy.fetch_add(1, Ordering::Relaxed);
        }
        OpenRequest { open: Arc::clone(&self.open), counts: Arc::clone(&worker.counts) }
    }

    /// Who counts the requests of this address, which mostly is the peer's.
    pub fn client(&self, address: IpAddr, clients: &Arc<ByAddress>) -> Arc<Client> {
        if address != self.downstream.peer.ip().to_canonical() {
            return clients.client(address);
        }
        Arc::clone(self.client.get_or_init(|| clients.client(address)))
    }

    fn is_idle(&self) -> bool {
        self.open.requests.load(Ordering::Relaxed) == 0
    }
}

impl OpenRequest {
    /// Says that the record counts what the guard refused.
    pub fn count_refusal(&self) {
        self.open.refusal_counted.store(true, Ordering::Relaxed);
    }

    /// Why a response was not taken to its end.
    pub fn why_abandoned(&self) -> Reason {
        if let Some(reason) = self.open.given_up.get() {
            Reason::Guard(*reason)
        } else if self.counts.is_stopped.load(Ordering::Relaxed) {
            Reason::DrainTimeout
        } else {
            Reason::ClientGone
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        if self.open.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.counts.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

pub async fn serve(worker: Rc<Worker>, terms: Terms, stream: TcpStream, peer: SocketAddr) {
    let Terms { configured, limits, handshake_timeout, protocols, acceptor } = terms;
    // Not of the listener: connections that waited in a socket that was handed over would not have it.
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%peer, "the client left: {error}");
    }
    let metrics = Arc::clone(&worker.shared.metrics);
    let peer_value = forwarded::address_value(peer.ip());
    let mut downstream = Downstream { peer, peer_value, listener: configured, tls: None };
    let Some(acceptor) = acceptor else {
        let _open = metrics.connection(ListenerProtocol::Http);
        return serve_cleartext(worker, protocols, limits, (stream, downstream)).await;
    };
    let _open = metrics.connection(ListenerProtocol::Https);
    // Each in a box: else the task of a connection would have room for the largest, whichever it runs.
    let accepted = tokio::select! {
        accepted = Box::pin(acceptor.accept(stream, handshake_timeout)) => accepted.map(Box::new),
        () = worker.draining_for(FIRST_REQUEST_GRACE) => return,
    };
    match accepted {
        Ok(stream) => {
            let version = tls::version(&stream);
            downstream.tls = Some(version);
            metrics.tls_handshake(Handshake::Completed { version, is_resumed: tls::is_resumed(&stream) });
            if tls::selected_h2(&stream) {
                Box::pin(serve_h2(worker, limits, stream, downstream)).await;
            } else {
                Box::pin(serve_h1(worker, limits, stream, downstream)).await;
            }
        }
        Err(error) => {
            metrics.tls_handshake(handshake_failure(&error));
            tracing::debug!(%peer, "no TLS: {error}");
        }
    }
}

/// What a connection keeps of the generation that it was accepted in. It must not keep the generation: a
/// connection can outlive a thousand.
#[derive(Clone)]
pub struct Terms {
    configured: SocketAddr,
    limits: Limits,
    handshake_timeout: Duration,
    protocols: Protocols,
    acceptor: Option<Acceptor>,
}

impl Terms {
    /// None if the generation has no such listener.
    pub fn of(snapshot: &Snapshot, configured: SocketAddr) -> Option<Self> {
        let listener = snapshot.listener(configured)?;
        let client = &snapshot.config.client;
        Some(Self {
            configured,
            limits: Limits {
                idle_timeout: client.idle_timeout,
                header_timeout: client.header_timeout,
                body: pace::Terms { silence: client.body_timeout, rate_min: client.rate_min },
                sending: pace::Terms { silence: client.send_timeout, rate_min: client.rate_min },
                h2_streams_max: client.h2.streams_max,
            },
            handshake_timeout: client.handshake_timeout,
            protocols: listener.config.protocols,
            acceptor: listener.tls.clone(),
        })
    }
}

fn handshake_failure(error: &HandshakeError) -> Handshake {
    match error {
        HandshakeError::Timeout(_) => Handshake::TimedOut,
        _ => Handshake::Failed,
    }
}

/// HTTP/2 without TLS is by prior knowledge: its preface is no HTTP/1.1 request (RFC 9113 §3.3).
async fn serve_cleartext(
    worker: Rc<Worker>,
    protocols: Protocols,
    limits: Limits,
    (stream, downstream): (TcpStream, Downstream),
) {
    if !protocols.h2 {
        return Box::pin(serve_h1(worker, limits, stream, downstream)).await;
    }
    let seen = tokio::select! {
        seen = tokio::time::timeout(limits.header_timeout, speaks_h2(&stream)) => seen,
        () = worker.draining_for(FIRST_REQUEST_GRACE) => return,
    };
    match seen {
        Ok(Ok(true)) => Box::pin(serve_h2(worker, limits, stream, downstream)).await,
        Ok(Ok(false)) if protocols.h1 => Box::pin(serve_h1(worker, limits, stream, downstream)).await,
        _ => {}
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_h2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut seen = [0; H2_PREFACE.len()];
    let mut before = 0;
    loop {
        let n = stream.peek(&mut seen).await?;
        let start = seen.get(..n).unwrap_or_default();
        if !H2_PREFACE.starts_with(start) || n == 0 {
            return Ok(false);
        }
        if n == H2_PREFACE.len() {
            return Ok(true);
        }
        // A preface in pieces: what was seen stays readable, so waiting for readiness would spin.
        if n == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        before = n;
    }
}

/// What the log says of a client that was given up.
pub fn reason_of(stalled: Stalled) -> guard::Reason {
    match stalled {
        Stalled::Silent => guard::Reason::SendTimeout,
        Stalled::TooSlow => guard::Reason::ClientTooSlow,
    }
}

async fn run_tunnel<S>(worker: &Worker, opened: Opened, client: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Opened { tunnel: Tunnel { stream, idle_timeout, in_flight }, record } = opened;
    let passed = tunnel::relay(client, stream, worker.sweep.deadline(), idle_timeout).await;
    record.tunnel_ended(passed);
    drop(in_flight);
}
