//! One attempt: a connection, the request on it, and the wait for the response's head.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::connect::Dial;
use super::lease::{Carrier, Lease, Sending, Sent};
use super::pool::{Connections, EndpointConnections, Exclusive, SharedH2};
use super::{Dispatch, Failed, Fate, INTERIM_MAX, Limits, Over, Reply, Tunnel, Upstream, UpstreamError};
use crate::balance::{Endpoint, InFlight, Pool};
use crate::body::{Body, Source};
use crate::header::framing;
use crate::timers::Deadline;

/// A body up to this size fits into the buffers of the downstream connection.
const SMALL_BODY_BYTES: u64 = 8 * 1024;

pub struct Attempt<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub endpoint: &'a Endpoint,
    pub connections: &'a Connections,
    /// Those to the endpoint.
    pub to: &'a EndpointConnections,
    pub limits: Limits<'a>,
}

/// What is watched while a response's head is awaited.
struct Watch {
    silence: Deadline,
    interim: Arc<AtomicU32>,
    /// None for a request without a body.
    sent: Option<Sent>,
}

impl Attempt<'_> {
    pub async fn over_h1(&self, dispatch: Dispatch) -> Result<Reply, Failed> {
        let Dispatch { in_flight, mut request, over } = dispatch;
        let wants_upgrade = request.headers().contains_key(http::header::UPGRADE);
        // A tunnel uses its connection up, so it may as well begin with one that cannot be stale.
        let may_be_kept = over == Over::Kept && !wants_upgrade;
        loop {
            let kept = if may_be_kept { self.to.take_idle() } else { None };
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => match self.dial_h1().await {
                    Ok(connection) => connection,
                    Err(error) => return Err(Failed::unsent(error, request)),
                },
            };
            connection.serve();
            let (watched, watch) = self.watch(request, connection.silence.clone(), &connection.interim);
            let sent = connection.sender.try_send_request(watched);
            let failed = match self.head_within(sent, &watch).await {
                Ok(response) if wants_upgrade || response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    return self.reply_h1(response, connection, (in_flight, watch));
                }
                Ok(_) => Failed::sent(UpstreamError::UnaskedUpgrade),
                Err(failed) => failed,
            };
            match failed.request {
                // An idle connection that the endpoint closed meanwhile: nothing is lost.
                Fate::Unsent(unsent) if reused => request = *unsent,
                _ => {
                    let is_stale = reused && matches!(failed.error, UpstreamError::Closed(_));
                    return Err(Failed { stale: is_stale.then_some(in_flight), ..failed });
                }
            }
        }
    }

    fn reply_h1(
        &self,
        mut response: Response<Incoming>,
        connection: Exclusive,
        (in_flight, watch): (InFlight, Watch),
    ) -> Result<Reply, Failed> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut response);
            let tunnel = Tunnel { upgrade, in_flight, idle_timeout: self.limits.timeouts.tunnel_idle };
            return Ok(Reply::Tunnel(response.map(drop), tunnel));
        }
        let way_back = self.to.way_back(self.upstream.keepalive);
        let carrier = Carrier::Exclusive(connection, way_back);
        self.reply(response, carrier, (in_flight, watch))
    }

    pub async fn over_h2(&self, dispatch: Dispatch) -> Result<Reply, Failed> {
        let Dispatch { in_flight, mut request, over } = dispatch;
        let scheme = if self.upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        absolute_form(&mut request, scheme);
        loop {
            let mut shared = match self.shared_connection().await {
                Ok(shared) => shared,
                Err(error) => return Err(Failed::unsent(error, request)),
            };
            let reused = !shared.is_new();
            let stream = shared.open_stream();
            let (watched, watch) = self.watch(request, self.connections.sweep().deadline(), &Arc::default());
            let sent = shared.sender.try_send_request(watched);
            let failed = match self.head_within(sent, &watch).await {
                Ok(response) => return self.reply(response, Carrier::Shared(stream), (in_flight, watch)),
                Err(failed) => failed,
            };
            // It is closing, or has closed: the next request is to find another.
            let is_closing = match &failed.error {
                UpstreamError::Closed(error) => is_unprocessed(error) || !is_reset(error),
                _ => false,
            };
            if is_closing {
                self.to.retire(&shared);
            }
            match failed.request {
                Fate::Unsent(unsent) if reused => request = *unsent,
                _ => {
                    let is_stale = reused && is_closing && over == Over::Kept;
                    return Err(Failed { stale: is_stale.then_some(in_flight), ..failed });
                }
            }
        }
    }

    async fn shared_connection(&self) -> Result<SharedH2, UpstreamError> {
        let keepalive = self.upstream.keepalive;
        if let Some(shared) = self.to.open_shared(keepalive) {
            return Ok(shared);
        }
        let connecting = async {
            let _one_at_a_time = self.to.connecting.lock().await;
            if let Some(shared) = self.to.open_shared(keepalive) {
                return Ok(shared);
            }
            let shared = self.dial().h2().await?;
            if keepalive.connections > 0 {
                self.to.shared.borrow_mut().push(shared.clone());
            }
            Ok(shared)
        };
        self.within_connect(connecting).await
    }

    async fn dial_h1(&self) -> Result<Exclusive, UpstreamError> {
        self.within_connect(self.dial().h1()).await
    }

    fn dial(&self) -> Dial<'_> {
        let send_timeout = self.limits.timeouts.send;
        Dial { upstream: self.upstream, endpoint: self.endpoint, connections: self.connections, send_timeout }
    }

    /// TCP, TLS and the wait for others that connect count together.
    async fn within_connect<T>(
        &self,
        connecting: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let limit = self.limits.timeouts.connect;
        // Rare and large: in the future of every request it would cost more than the box.
        match Box::pin(tokio::time::timeout(limit, connecting)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(UpstreamError::ConnectTimeout(limit)),
        }
    }

    /// The silence of the endpoint counts from the end of the request, and its interim responses are counted.
    fn watch(&self, mut request: Request<Body>, silence: Deadline, interim: &Arc<AtomicU32>) -> (Request<Body>, Watch) {
        interim.store(0, Ordering::Relaxed);
        let (over, counted) = (silence.clone(), Arc::clone(interim));
        hyper::ext::on_informational(&mut request, move |_| {
            if counted.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX {
                over.expire();
            }
        });
        let mut watch = Watch { silence, interim: Arc::clone(interim), sent: None };
        let limit = self.limits.timeouts.read;
        if request.body().is_end_stream() {
            watch.silence.arm(limit);
            return (request, watch);
        }
        watch.silence.disarm();
        let sent = Sent::default();
        let sending = Sending { sent: Arc::clone(&sent), silence: watch.silence.clone(), limit };
        watch.sent = Some(sent);
        (request.map(|body| body.guarded(Box::new(sending))), watch)
    }

    async fn head_within(
        &self,
        sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
        watch: &Watch,
    ) -> Result<Response<Incoming>, Failed> {
        let response = tokio::select! {
            biased;
            response = sent => response,
            () = watch.silence.expired() => {
                return Err(Failed::sent(if watch.interim.load(Ordering::Relaxed) > INTERIM_MAX {
                    UpstreamError::InterimLimit
                } else {
                    UpstreamError::ReadTimeout(self.limits.timeouts.read)
                }));
            }
        };
        response.map_err(|mut failed| {
            let unsent = failed.take_message().map(|request| Box::new(request.map(Body::unguarded)));
            let error = failed.into_error();
            let request = match unsent {
                Some(request) => Fate::Unsent(request),
                None if is_unprocessed(&error) => Fate::Unprocessed,
                None => Fate::Unknown,
            };
            let of_client = watch.sent.as_ref().and_then(|sent| sent.get()?.as_ref().err().cloned());
            let error = of_client.map_or_else(|| classify(error), UpstreamError::RequestBody);
            Failed { error, request, stale: None }
        })
    }

    /// The response with what it holds riding in its body.
    fn reply(
        &self,
        mut response: Response<Incoming>,
        carrier: Carrier,
        (in_flight, watch): (InFlight, Watch),
    ) -> Result<Reply, Failed> {
        if let Err(error) = framing::settle_response(&mut response) {
            return Err(Failed::sent(UpstreamError::Framing(error)));
        }
        let lease = Lease { carrier, in_flight, pool: self.pool(), request: watch.sent };
        let response = response.map(|incoming| {
            let size = incoming.size_hint().exact();
            let source = Source::new(incoming, u64::MAX)
                .silent_at_most(watch.silence, self.limits.timeouts.read)
                .guarded(Box::new(lease));
            match size {
                // The writer takes a small body at once, whatever its client does.
                Some(size) if size <= SMALL_BODY_BYTES => source.into_body(),
                _ => source.into_body_ahead(&self.connections.read_ahead, self.limits.buffered_max),
            }
        });
        Ok(Reply::Response(response))
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.upstream.pool)
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

/// REFUSED_STREAM, or a GOAWAY that leaves the stream out (RFC 9113 §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(|source| {
        source.is_remote() && (source.is_go_away() || source.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// The endpoint ended this stream and left the connection open.
fn is_reset(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(h2::Error::is_reset)
}

fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn classify(error: hyper::Error) -> UpstreamError {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    if source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut) {
        return UpstreamError::SendTimeout;
    }
    if error.is_parse() { UpstreamError::Protocol(error) } else { UpstreamError::Closed(error) }
}
