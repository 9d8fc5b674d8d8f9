//! One upstream and one attempt at it: a request is sent on a pooled connection and its response's head
//! awaited. What rides in the response's body gives the connection and the in-flight count back.
//!
//! An attempt never chooses an endpoint and never decides whether to try again.

mod connect;
mod pool;
mod probing;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use self::connect::Dialled;
pub use self::pool::Connections;
use self::pool::{EndpointConnections, Exclusive, OpenStream, Return, SharedH2};
pub use self::probing::Probing;
use crate::balance::{Endpoint, InFlight, Outcome, Pool};
use crate::body::{Body, BodyError, End, Guard, Source};
use crate::clock;
use crate::config::{Keepalive, Timeouts, UpstreamProtocol};
use crate::telemetry::UpstreamMetrics;
use crate::timers::Deadline;
use crate::tls::{ConnectError, UpstreamTls};

/// Interim (1xx) responses are taken and dropped, up to so many a request.
const INTERIM_MAX: u32 = 16;

/// A body up to this size fits into the buffers of the downstream connection.
const SMALL_BODY_BYTES: u64 = 8 * 1024;

/// An upstream as a snapshot serves it.
pub struct Upstream {
    pub name: String,
    pub pool: Arc<Pool>,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    pub keepalive: Keepalive,
    pub attempts: u32,
    pub metrics: UpstreamMetrics,
}

/// Why an attempt brought no response.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("TLS: {0}")]
    Tls(#[source] ConnectError),
    #[error("not understood: {0}")]
    Protocol(#[source] hyper::Error),
    #[error("closed before a response: {0}")]
    Closed(#[source] hyper::Error),
    #[error("no response within {0:?}")]
    ReadTimeout(Duration),
    #[error("the endpoint takes no data")]
    SendTimeout,
    #[error("more than {INTERIM_MAX} interim responses")]
    InterimLimit,
    #[error("101 was not asked for")]
    UnaskedUpgrade,
    /// The fault is the client's, not the endpoint's.
    #[error("the request body failed")]
    RequestBody(#[source] hyper::Error),
}

/// A failed attempt.
pub struct Failed {
    pub error: UpstreamError,
    /// The request, if no byte of it was sent.
    pub unsent: Option<Box<Request<Body>>>,
    /// The connection had idled: that the endpoint closed it says nothing of the endpoint.
    pub stale: bool,
}

impl Failed {
    fn sent(error: UpstreamError) -> Self {
        Self { error, unsent: None, stale: false }
    }

    fn unsent(error: UpstreamError, request: Request<Body>) -> Self {
        Self { error, unsent: Some(Box::new(request)), stale: false }
    }
}

pub enum Reply {
    Response(Response<Body>),
    /// 101: both sides now speak another protocol.
    Tunnel(Response<()>, Tunnel),
}

/// The upstream's half of a tunnel.
pub struct Tunnel {
    pub upgrade: OnUpgrade,
    pub in_flight: InFlight,
    pub idle_timeout: Duration,
}

/// What an attempt may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    pub timeouts: &'a Timeouts,
    /// Bytes of the response that are read ahead of a slow client.
    pub buffered_max: usize,
}

impl Upstream {
    /// Sends `request` to the endpoint that `in_flight` counts on, and waits for the response's head.
    pub async fn send(
        self: &Arc<Self>,
        in_flight: InFlight,
        request: Request<Body>,
        connections: &Connections,
        limits: Limits<'_>,
    ) -> Result<Reply, Failed> {
        let endpoint = Arc::clone(in_flight.endpoint());
        let to = connections.of_endpoint(endpoint.id, self.keepalive);
        let attempt = Attempt { upstream: self, endpoint: &endpoint, connections, limits };
        match self.protocol {
            UpstreamProtocol::H1 => attempt.over_h1(in_flight, request, &to).await,
            UpstreamProtocol::H2 => attempt.over_h2(in_flight, request, &to).await,
        }
    }
}

struct Attempt<'a> {
    upstream: &'a Arc<Upstream>,
    endpoint: &'a Endpoint,
    connections: &'a Connections,
    limits: Limits<'a>,
}

impl Attempt<'_> {
    async fn over_h1(
        &self,
        in_flight: InFlight,
        mut request: Request<Body>,
        to: &EndpointConnections,
    ) -> Result<Reply, Failed> {
        let wants_upgrade = request.headers().contains_key(http::header::UPGRADE);
        loop {
            let (mut connection, reused) = match to.take_idle() {
                Some(connection) => (connection, true),
                None => match self.dial().await {
                    Ok(Dialled::Exclusive(connection)) => (connection, false),
                    Ok(Dialled::Shared(_)) => unreachable!("HTTP/1.1 was asked for"),
                    Err(error) => return Err(Failed::unsent(error, request)),
                },
            };
            connection.serve();
            let watch = Watch { silence: connection.silence.clone(), interim: Arc::clone(&connection.interim) };
            let request_ready = self.watch_request(request, &watch);
            let sent = connection.sender.try_send_request(request_ready);
            match self.head_within(sent, &watch).await {
                Ok(response) => return self.reply_h1(response, connection, in_flight, (to, wants_upgrade)),
                // An idle connection that the endpoint closed meanwhile: nothing was sent, nothing is lost.
                Err(Failed { unsent: Some(unsent), .. }) if reused => request = *unsent,
                Err(failed) => {
                    let stale = reused && matches!(failed.error, UpstreamError::Closed(_));
                    return Err(Failed { stale, ..failed });
                }
            }
        }
    }

    fn reply_h1(
        &self,
        mut response: Response<Incoming>,
        connection: Exclusive,
        in_flight: InFlight,
        (to, wants_upgrade): (&EndpointConnections, bool),
    ) -> Result<Reply, Failed> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !wants_upgrade {
                return Err(Failed::sent(UpstreamError::UnaskedUpgrade));
            }
            let upgrade = hyper::upgrade::on(&mut response);
            let tunnel = Tunnel { upgrade, in_flight, idle_timeout: self.limits.timeouts.tunnel_idle };
            return Ok(Reply::Tunnel(response.map(drop), tunnel));
        }
        let silence = connection.silence.clone();
        let way_back = to.way_back(self.upstream.keepalive);
        let lease = Lease { carrier: Carrier::Exclusive(connection, way_back), in_flight, pool: self.pool() };
        Ok(Reply::Response(self.with_lease(response, silence, lease)))
    }

    async fn over_h2(
        &self,
        in_flight: InFlight,
        mut request: Request<Body>,
        to: &EndpointConnections,
    ) -> Result<Reply, Failed> {
        let scheme = if self.upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        absolute_form(&mut request, scheme);
        let mut shared = match self.shared_connection(to).await {
            Ok(shared) => shared,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        let lease = Lease { carrier: Carrier::Shared(shared.open_stream()), in_flight, pool: self.pool() };
        let watch = Watch { silence: self.connections.sweep().deadline(), interim: Arc::default() };
        let request = self.watch_request(request, &watch);
        let response = self.head_within(shared.sender.try_send_request(request), &watch).await?;
        Ok(Reply::Response(self.with_lease(response, watch.silence, lease)))
    }

    async fn shared_connection(&self, to: &EndpointConnections) -> Result<SharedH2, UpstreamError> {
        let open = || to.shared.borrow().iter().find(|shared| shared.has_room()).cloned();
        if let Some(shared) = open() {
            return Ok(shared);
        }
        let _one_at_a_time = to.connecting.lock().await;
        if let Some(shared) = open() {
            return Ok(shared);
        }
        match self.dial().await? {
            Dialled::Shared(shared) => {
                to.shared.borrow_mut().push(shared.clone());
                Ok(shared)
            }
            Dialled::Exclusive(_) => unreachable!("HTTP/2 was asked for"),
        }
    }

    async fn dial(&self) -> Result<Dialled, UpstreamError> {
        connect::dial(self.upstream, self.endpoint, self.connections, self.limits.timeouts).await
    }

    /// The silence of the endpoint counts from the end of the request, and its interim responses are counted.
    fn watch_request(&self, mut request: Request<Body>, watch: &Watch) -> Request<Body> {
        let Watch { silence, interim } = watch.clone();
        interim.store(0, Ordering::Relaxed);
        let over = silence.clone();
        hyper::ext::on_informational(&mut request, move |_| {
            if interim.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX {
                over.expire();
            }
        });
        if request.body().is_end_stream() || request.body().replay().is_some() {
            silence.arm(self.limits.timeouts.read);
            return request;
        }
        silence.disarm();
        let arm = ArmAtEnd { silence, limit: self.limits.timeouts.read };
        request.map(|body| body.guarded(Box::new(arm)))
    }

    async fn head_within(
        &self,
        sent: impl Future<Output = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<Body>>>>,
        Watch { silence, interim }: &Watch,
    ) -> Result<Response<Incoming>, Failed> {
        tokio::select! {
            biased;
            response = sent => response.map_err(|mut failed| Failed {
                unsent: failed.take_message().map(Box::new),
                error: classify(failed.into_error()),
                stale: false,
            }),
            () = silence.expired() => Err(Failed::sent(if interim.load(Ordering::Relaxed) > INTERIM_MAX {
                UpstreamError::InterimLimit
            } else {
                UpstreamError::ReadTimeout(self.limits.timeouts.read)
            })),
        }
    }

    fn with_lease(&self, response: Response<Incoming>, silence: Deadline, lease: Lease) -> Response<Body> {
        response.map(|incoming| {
            let size = incoming.size_hint().exact();
            let source = Source::new(incoming, u64::MAX)
                .silent_at_most(silence, self.limits.timeouts.read)
                .guarded(Box::new(lease));
            match size {
                // The writer takes a small body at once, whatever its client does.
                Some(size) if size <= SMALL_BODY_BYTES => source.into_body(),
                _ => source.into_body_ahead(&self.connections.read_ahead, self.limits.buffered_max),
            }
        })
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.upstream.pool)
    }
}

/// What is watched while a response's head is awaited.
#[derive(Clone)]
struct Watch {
    silence: Deadline,
    interim: Arc<AtomicU32>,
}

/// What a response in progress holds of its endpoint.
struct Lease {
    carrier: Carrier,
    in_flight: InFlight,
    pool: Arc<Pool>,
}

enum Carrier {
    Exclusive(Exclusive, Return),
    Shared(#[expect(dead_code, reason = "counted until it is dropped")] OpenStream),
}

impl Guard for Lease {
    fn ended(self: Box<Self>, _passed: u64, end: End<'_>) {
        let Self { carrier, in_flight, pool } = *self;
        if let End::Failed(BodyError::Peer(_) | BodyError::Silence(_)) = end {
            let failure = Outcome::Failed(&"the response's body ended early");
            pool.report(in_flight.endpoint(), failure, clock::now().into_std());
        }
        if let (Carrier::Exclusive(connection, way_back), End::Complete) = (carrier, end) {
            way_back.give_back(connection);
        }
    }
}

/// The authority of an HTTP/2 request travels in the target alone (RFC 9113 §8.3.1).
fn absolute_form(request: &mut Request<Body>, scheme: Scheme) {
    let authority = request.headers_mut().remove(http::header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = authority {
        target.authority = Some(authority);
    }
    target.scheme = Some(scheme);
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
}

struct ArmAtEnd {
    silence: Deadline,
    limit: Duration,
}

impl Guard for ArmAtEnd {
    fn ended(self: Box<Self>, _passed: u64, _end: End<'_>) {
        self.silence.arm(self.limit);
    }
}

fn classify(error: hyper::Error) -> UpstreamError {
    if error.is_user() {
        return UpstreamError::RequestBody(error);
    }
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    if source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut) {
        return UpstreamError::SendTimeout;
    }
    if error.is_parse() { UpstreamError::Protocol(error) } else { UpstreamError::Closed(error) }
}
