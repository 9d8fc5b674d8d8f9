//! One downstream connection from its first byte to its last: hand-shake, choice of protocol, HTTP/1.1 behind
//! the guard or HTTP/2, tunnel, and an end that lets the client read what was said.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::body::Body;
use crate::config::TlsVersion;
use crate::guard::{self, Deadlines, GuardHandle, Limits};
use crate::header::forwarded;
use crate::local_executor::LocalExecutor;
use crate::proxy::{self, Opened};
use crate::snapshot::{Listener, Snapshot};
use crate::telemetry::metrics::Handshake;
use crate::timed::Timed;
use crate::timers::Deadline;
use crate::tls::{self, HandshakeError};
use crate::tunnel;
use crate::upstream::Tunnel;
use crate::worker::{Counts, Worker};

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const H2_STREAMS_MAX: u32 = 128;
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A head over this is refused by the guard or by HTTP/2's own limit.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After the last answer, unread bytes of the client are taken and dropped, so that the kernel does not
/// reset the connection while the client still reads.
const LINGER: Duration = Duration::from_secs(2);

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
    /// Requests whose response has not ended.
    open: Arc<AtomicUsize>,
    /// Requests that hyper has asked to be answered.
    calls: Cell<u64>,
}

/// Counts one request from its head to the end of its response, for its connection and for its worker.
pub struct OpenRequest {
    open: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

impl Link {
    fn new(downstream: Downstream) -> Self {
        Self { downstream, tunnel: RefCell::default(), open: Arc::default(), calls: Cell::new(0) }
    }

    pub fn open_request(&self, worker: &Worker) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        worker.counts.requests.fetch_add(1, Ordering::Relaxed);
        worker.counts.busy.fetch_add(1, Ordering::Relaxed);
        OpenRequest { open: Arc::clone(&self.open), counts: Arc::clone(&worker.counts) }
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.counts.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

pub async fn serve(worker: Rc<Worker>, configured: SocketAddr, stream: TcpStream, peer: SocketAddr) {
    let snapshot = worker.snapshot();
    let Some(listener) = snapshot.listener(configured) else { return };
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%peer, "the client left: {error}");
    }
    let mut downstream =
        Downstream { peer, peer_value: forwarded::address_value(peer.ip()), listener: configured, tls: None };
    let Some(acceptor) = &listener.tls else {
        return serve_cleartext(worker, &snapshot, stream, downstream).await;
    };
    let limit = snapshot.config.client.handshake_timeout;
    match acceptor.accept(stream, limit).await {
        Ok(stream) => {
            let version = tls::version(&stream);
            downstream.tls = Some(version);
            worker.shared.metrics.tls_handshake(Handshake::Completed(version));
            if tls::selected_h2(&stream) {
                serve_h2(worker, &snapshot, stream, downstream).await;
            } else {
                serve_h1(worker, &snapshot, stream, downstream).await;
            }
        }
        Err(error) => {
            worker.shared.metrics.tls_handshake(handshake_failure(&error));
            tracing::debug!(%peer, "no TLS: {error}");
        }
    }
}

fn handshake_failure(error: &HandshakeError) -> Handshake {
    match error {
        HandshakeError::Timeout(_) => Handshake::TimedOut,
        _ => Handshake::Failed,
    }
}

/// HTTP/2 without TLS is by prior knowledge: its preface is no HTTP/1.1 request (RFC 9113 §3.3).
async fn serve_cleartext(worker: Rc<Worker>, snapshot: &Snapshot, stream: TcpStream, downstream: Downstream) {
    let protocols = snapshot.listener(downstream.listener).map(|listener: &Listener| listener.config.protocols);
    if !protocols.is_some_and(|protocols| protocols.h2) {
        return serve_h1(worker, snapshot, stream, downstream).await;
    }
    let limit = snapshot.config.client.header_timeout;
    match tokio::time::timeout(limit, speaks_h2(&stream)).await {
        Ok(Ok(true)) => serve_h2(worker, snapshot, stream, downstream).await,
        Ok(Ok(false)) if protocols.is_some_and(|protocols| protocols.h1) => {
            serve_h1(worker, snapshot, stream, downstream).await;
        }
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

async fn serve_h1<S>(worker: Rc<Worker>, snapshot: &Snapshot, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client = &snapshot.config.client;
    let limits = Limits {
        idle_timeout: client.idle_timeout,
        header_timeout: client.header_timeout,
        body_timeout: client.body_timeout,
        send_timeout: client.send_timeout,
    };
    let deadlines = Deadlines { read: worker.sweep.deadline(), write: worker.sweep.deadline() };
    let (stream, guard) = guard::guarded(stream, limits, deadlines);
    let link = Link::new(downstream);
    let service = service_fn(|request| answer_h1(&worker, &link, &guard, request));
    let mut connection =
        http1::Builder::new().half_close(true).max_header_size(HEAD_BYTES_MAX + 1024).serve_connection(stream, service);
    let mut draining = worker.draining();
    let mut drain = pin!(async move { draining.wait_for(|draining| *draining).await.is_ok() });
    let mut told = false;
    let ended = poll_fn(|cx| {
        if !told && drain.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        poll_h1(Pin::new(&mut connection), &link, &guard, cx)
    });
    let ended = ended.await;
    if let Some(reason) = guard.violation() {
        worker.shared.metrics.guard_refused(reason.code());
    }
    match ended {
        H1End::Closed(outcome) => {
            if let Err(error) = outcome {
                tracing::debug!(peer = %link.downstream.peer, "connection ended: {error}");
            }
        }
        // Dropping the connection drops the request, whose entry in the log says that the client left.
        H1End::Vanished => return,
    }
    match link.tunnel.take() {
        Some(opened) => run_tunnel(&worker, opened, connection.into_parts().io).await,
        None => {
            let _elapsed = tokio::time::timeout(LINGER, guard.discard()).await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request's body had not ended when the upstream changed the protocol")]
struct TunnelRefused;

enum H1End {
    Closed(hyper::Result<()>),
    /// The client left while a response was being made.
    Vanished,
}

fn poll_h1<S>(
    connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    link: &Link,
    guard: &GuardHandle<S>,
    cx: &mut Context<'_>,
) -> Poll<H1End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Poll::Ready(outcome) = connection.poll(cx) {
        return Poll::Ready(H1End::Closed(outcome));
    }
    if !link.is_idle() && guard.poll_vanished(cx).is_ready() {
        return Poll::Ready(H1End::Vanished);
    }
    Poll::Pending
}

async fn answer_h1<S>(
    worker: &Worker,
    link: &Link,
    guard: &GuardHandle<S>,
    request: Request<Incoming>,
) -> Result<Response<Body>, TunnelRefused> {
    let call = link.calls.get() + 1;
    link.calls.set(call);
    let refusal = guard.refusal().filter(|refusal| refusal.request_number == call);
    let response = proxy::serve(worker, link, request, refusal).await;
    if link.tunnel.borrow().is_some() && !guard.open_tunnel() {
        // The rest of the request's body would be taken for the first bytes of the tunnel.
        return Err(TunnelRefused);
    }
    Ok(response)
}

async fn serve_h2<S>(worker: Rc<Worker>, snapshot: &Snapshot, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client = &snapshot.config.client;
    let (idle, idle_timeout, header_timeout) = (worker.sweep.deadline(), client.idle_timeout, client.header_timeout);
    let stream = Timed::new(stream, worker.sweep.deadline(), client.send_timeout);
    let mut draining = worker.draining();
    let link = Rc::new(Link::new(downstream));
    let (of_requests, at_work) = (Rc::clone(&link), Rc::clone(&worker));
    let service = service_fn(move |request| {
        let (worker, link) = (Rc::clone(&at_work), Rc::clone(&of_requests));
        async move { Ok::<_, Infallible>(proxy::serve(&worker, &link, request, None).await) }
    });
    let mut connection = pin!(
        http2::Builder::new(LocalExecutor)
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .serve_connection(stream, service)
    );
    let mut drain = pin!(async move { draining.wait_for(|draining| *draining).await.is_ok() });
    let mut told = false;
    // The preface and the first request have as long as one head.
    idle.arm(header_timeout);
    let ended = poll_fn(|cx| {
        if !told && (drain.as_mut().poll(cx).is_ready() || idle.poll_expired(cx).is_ready()) {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        let outcome = connection.as_mut().poll(cx);
        watch_idle(&link, &idle, idle_timeout);
        outcome
    });
    if let Err(error) = ended.await {
        tracing::debug!(peer = %link.downstream.peer, "connection ended: {error}");
    }
}

/// The time without a stream counts from the end of the last one.
fn watch_idle(link: &Link, idle: &Deadline, limit: Duration) {
    if !link.is_idle() {
        idle.disarm();
    } else if !idle.is_armed() && !idle.is_expired() {
        idle.arm(limit);
    }
}

async fn run_tunnel<S>(worker: &Worker, opened: Opened, client: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Opened { tunnel: Tunnel { upgrade, idle_timeout, in_flight }, record } = opened;
    match upgrade.await {
        Ok(upstream) => {
            let idle = worker.sweep.deadline();
            let passed = tunnel::relay(client, TokioIo::new(upstream), idle, idle_timeout).await;
            record.tunnel_ended(passed);
        }
        Err(error) => {
            tracing::debug!("no tunnel: {error}");
            record.tunnel_failed();
        }
    }
    drop(in_flight);
}
