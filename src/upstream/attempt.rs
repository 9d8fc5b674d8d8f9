//! One attempt: a connection, the request on it, and the wait for the response's head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::connect::Dial;
use super::h1::{Lines, SendFailed};
use super::h2_body::{Upload, Uploading};
use super::h2_connection::{OpenStream, SharedH2};
use super::pool::{Connections, EndpointConnections, Exclusive};
use super::{Dispatch, Failed, Fate, Limits, Over, Reply, Tunnel, Upstream, UpstreamError};
use crate::balance::{Endpoint, InFlight, Outcome, Pool};
use crate::body::{Body, BodyError, End, Guard, Source};
use crate::clock;
use crate::frames::{self, Cut};
use crate::header::{framing, media_type};
use crate::timers::Deadline;

/// A body up to this size fits into the buffers of the downstream connection.
const SMALL_BODY_BYTES: usize = 8 * 1024;

/// So many shared connections that close before they take a request are passed over.
const UNSENT_MAX: u32 = 8;

pub struct Attempt<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub endpoint: &'a Endpoint,
    pub connections: &'a Connections,
    /// Those to the endpoint.
    pub to: &'a EndpointConnections,
    pub limits: Limits<'a>,
}

impl Attempt<'_> {
    pub async fn over_h1(&self, dispatch: Dispatch<'_>) -> Result<Reply, Failed> {
        let Dispatch { in_flight, head, payload, over, relay, progress, .. } = dispatch;
        let wants_upgrade = head.parts.headers.contains_key(http::header::UPGRADE);
        // A tunnel uses its connection up, so it may as well begin with one that cannot be stale.
        let may_be_kept = over == Over::Kept && !wants_upgrade;
        loop {
            let kept = if may_be_kept { self.to.take_idle(self.upstream.config().keepalive) } else { None };
            let reused = kept.is_some();
            let mut exclusive = match kept {
                Some(exclusive) => exclusive,
                None => self.dial_h1().await.map_err(Failed::unsent)?,
            };
            exclusive.serve();
            progress.has_begun.set(true);
            match exclusive.connection.send(head, payload, (self.limits, relay)).await {
                Ok(response) if wants_upgrade || response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok(self.reply_h1(response, exclusive, in_flight));
                }
                Ok(_) => {
                    let error = UpstreamError::UnaskedUpgrade;
                    return Err(Failed { error, request: Fate::Unknown, stale: None });
                }
                // An idle connection that the endpoint closed meanwhile: nothing is lost.
                Err(SendFailed { request: Fate::Unsent, .. }) if reused && payload.is_left() => {
                    progress.has_begun.set(false)
                }
                Err(SendFailed { error, request }) => {
                    let is_stale = reused && matches!(error, UpstreamError::Closed(_));
                    return Err(Failed { error, request, stale: is_stale.then_some(in_flight) });
                }
            }
        }
    }

    fn reply_h1(
        &self,
        mut response: Response<Option<Lines>>,
        mut exclusive: Box<Exclusive>,
        mut in_flight: InFlight,
    ) -> Reply {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let stream = exclusive.into_upgraded();
            in_flight.give_place_back();
            let tunnel = Tunnel { stream, in_flight, idle_timeout: self.limits.timeouts.tunnel_idle };
            return Reply::Tunnel(Box::new(response.map(|_| tunnel)));
        }
        let lines = response.body_mut().take();
        if let Some(body) = exclusive.connection.take_whole(self.limits.buffered_max.max(SMALL_BODY_BYTES)) {
            exclusive.give_back();
            return Reply::Response(Box::new(response.map(|_| body)), lines);
        }
        let silence = exclusive.connection.silence.clone();
        let source = Source::arriving(exclusive);
        let lease = Lease { in_flight, pool: self.pool(), stream: None };
        Reply::Response(self.reply(response.map(|_| source), silence, lease), lines)
    }

    pub async fn over_h2(&self, dispatch: Dispatch<'_>) -> Result<Reply, Failed> {
        let Dispatch { in_flight, head, payload, over, progress, .. } = dispatch;
        let scheme = if self.upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let mut unsent = 0;
        loop {
            let mut shared = self.shared_connection(over).await.map_err(Failed::unsent)?;
            let reused = !shared.is_new();
            let stream = shared.open_stream();
            let mut request = Request::from_parts(head.parts.clone(), payload.take().unwrap_or_else(Body::empty));
            if let Some(names) = head.names {
                names.insert(request.headers_mut());
            }
            absolute_form(&mut request, scheme.clone());
            let (watched, watch) = self.watch(request);
            progress.has_begun.set(true);
            progress.carrier.replace(Some(shared.carrier()));
            let sent = shared.sender.try_send_request(watched);
            let failed = match self.head_within(sent, &watch).await {
                Ok(response) => return self.reply_h2(response, watch, (in_flight, stream)),
                Err(failed) => failed,
            };
            // It is closing, or has closed: the next request is to find another.
            if failed.is_closing {
                self.to.retire(&shared.usage);
            }
            if let Some(body) = failed.unsent
                && !payload.is_at_hand()
            {
                payload.put_back(body);
            }
            progress.has_begun.set(false);
            // Others may have opened the next one by now, and that may be closing too.
            unsent += u32::from(failed.request == Fate::Unsent);
            if !reused || failed.request != Fate::Unsent || unsent > UNSENT_MAX {
                let error = shared.cut().map_or(failed.error, UpstreamError::Flood);
                // Once: an endpoint that closes every connection would be asked without end.
                let may_be_stale = over == Over::Kept && reused && failed.is_closing;
                let is_stale = may_be_stale && !matches!(error, UpstreamError::Flood(_));
                return Err(Failed { error, request: failed.request, stale: is_stale.then_some(in_flight) });
            }
        }
    }

    fn reply_h2(
        &self,
        mut response: Response<Incoming>,
        watch: Watch,
        (in_flight, stream): (InFlight, OpenStream),
    ) -> Result<Reply, Failed> {
        // Classes of statuses end at 5xx (RFC 9110 §15).
        if response.status().as_u16() > 599 {
            let error = UpstreamError::Protocol("the status is above 599".into());
            return Err(Failed { error, request: Fate::Unknown, stale: None });
        }
        if let Err(error) = framing::length_of_response(response.headers()) {
            return Err(Failed { error: UpstreamError::Framing(error), request: Fate::Unknown, stale: None });
        }
        framing::settle_response(&mut response);
        stream.note_settings();
        let response = response.map(Source::incoming);
        let lease = Lease { in_flight, pool: self.pool(), stream: Some((stream, watch.upload)) };
        Ok(Reply::Response(self.reply(response, watch.silence, lease), None))
    }

    async fn shared_connection(&self, over: Over) -> Result<SharedH2, UpstreamError> {
        let keepalive = self.upstream.config().keepalive;
        // Those that are older may be closing like the one that has just closed.
        let old = if over == Over::New { self.to.opened() } else { 0 };
        if let Some(shared) = self.to.open_shared(keepalive, old) {
            return Ok(shared);
        }
        let connecting = async {
            let _one_at_a_time = self.to.connecting.lock().await;
            if let Some(shared) = self.to.open_shared(keepalive, old) {
                return Ok(shared);
            }
            Ok(self.to.share(self.dial().h2().await?, keepalive))
        };
        self.within_connect(Box::pin(connecting)).await
    }

    async fn dial_h1(&self) -> Result<Box<Exclusive>, UpstreamError> {
        let connecting = async { Ok(self.to.adopt(self.dial().h1().await?, self.upstream.config().keepalive)) };
        self.within_connect(Box::pin(connecting)).await
    }

    fn dial(&self) -> Dial<'_> {
        let send_timeout = self.limits.timeouts.send;
        Dial { upstream: self.upstream, endpoint: self.endpoint, connections: self.connections, send_timeout }
    }

    /// TCP, TLS and the wait for others that connect count together. Boxed, since it is rare and large: in the
    /// future of every request it would cost more than the box.
    async fn within_connect<T>(
        &self,
        connecting: Pin<Box<impl Future<Output = Result<T, UpstreamError>>>>,
    ) -> Result<T, UpstreamError> {
        let limit = self.limits.timeouts.connect;
        match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(UpstreamError::ConnectTimeout(limit)),
        }
    }

    /// The silence of the endpoint counts from the end of the request.
    fn watch(&self, request: Request<Body>) -> (Request<Uploading>, Watch) {
        let sweep = self.connections.sweep();
        let (silence, limits) = (sweep.deadline(), self.limits.timeouts);
        if request.body().is_end_stream() {
            silence.arm(limits.read);
            return (request.map(|body| Uploading::new(body, None)), Watch { silence, upload: None });
        }
        let upload = Upload::new(silence.clone(), limits.read, sweep.deadline(), limits.send);
        let request = request.map(|body| Uploading::new(body, Some(Arc::clone(&upload))));
        (request, Watch { silence, upload: Some(upload) })
    }

    async fn head_within(
        &self,
        sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Uploading>>>>,
        watch: &Watch,
    ) -> Result<Response<Incoming>, NoHead> {
        let response = tokio::select! {
            biased;
            response = sent => response,
            () = watch.silence.expired() => {
                return Err(NoHead::timed_out(UpstreamError::ReadTimeout(self.limits.timeouts.read)));
            }
            () = watch.stalled() => return Err(NoHead::timed_out(UpstreamError::SendTimeout)),
        };
        response.map_err(|mut failed| {
            let unsent = failed.take_message().map(|request| request.into_body().into_body());
            let error = failed.into_error();
            let is_unprocessed = is_unprocessed(&error);
            let request = match unsent {
                Some(_) => Fate::Unsent,
                None if is_unprocessed => Fate::Unprocessed,
                None => Fate::Unknown,
            };
            let is_closing = !is_reset(&error);
            let of_client = watch.upload.as_ref().and_then(|upload| upload.failure());
            let error = of_client.map_or_else(|| classify(error), UpstreamError::RequestBody);
            let is_closing = is_closing && matches!(error, UpstreamError::Closed(_) | UpstreamError::Flood(_));
            NoHead { error, request, unsent, is_closing }
        })
    }

    /// The response with what it holds riding in its body.
    fn reply(&self, response: Response<Source>, silence: Deadline, mut lease: Lease) -> Box<Response<Body>> {
        if self.upstream.pool.queue().has_caps() && media_type::is_stream(media_type::essence(response.headers())) {
            lease.in_flight.give_place_back();
        }
        Box::new(response.map(|source| {
            let size = source.size_hint().exact();
            let source = source.silent_at_most(silence, self.limits.timeouts.read).guarded(Box::new(lease));
            match size {
                // The writer takes a small body at once, whatever its client does.
                Some(size) if size <= SMALL_BODY_BYTES as u64 => source.into_body(),
                _ => source.into_body_ahead(&self.connections.read_ahead, self.limits.buffered_max),
            }
        }))
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.upstream.pool)
    }
}

/// What is watched while a response's head is awaited over HTTP/2.
struct Watch {
    silence: Deadline,
    /// None for a request without a body.
    upload: Option<Arc<Upload>>,
}

impl Watch {
    /// Ready when the endpoint takes nothing of the request.
    async fn stalled(&self) {
        match &self.upload {
            Some(upload) => upload.stalled.expired().await,
            None => std::future::pending().await,
        }
    }
}

/// Why no head came over HTTP/2.
struct NoHead {
    error: UpstreamError,
    request: Fate,
    /// The body, if nothing was sent.
    unsent: Option<Body>,
    /// The connection takes no more requests.
    is_closing: bool,
}

impl NoHead {
    fn timed_out(error: UpstreamError) -> Self {
        Self { error, request: Fate::Unknown, unsent: None, is_closing: false }
    }
}

/// Rides in the response's body: what a response in progress holds of its endpoint. An HTTP/1.1 connection is
/// the body's source, and goes back when that ends.
struct Lease {
    in_flight: InFlight,
    pool: Arc<Pool>,
    /// Over HTTP/2: counted until it is dropped, and the request beside it.
    stream: Option<(OpenStream, Option<Arc<Upload>>)>,
}

impl Guard for Lease {
    fn ended(self: Box<Self>, _passed: u64, end: End<'_>) {
        // A stream that is quiet for too long is ended, but many do so in health.
        if let End::Failed(BodyError::Peer(_)) = end {
            let failure = Outcome::Failed(&"the response's body ended early");
            self.pool.report(self.in_flight.endpoint(), failure, clock::now().into_std());
        }
        if let Some((_, Some(upload))) = self.stream {
            upload.stop();
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

/// REFUSED_STREAM, or a GOAWAY that leaves the stream out (RFC 9113 §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(|source| {
        source.is_remote() && (source.is_go_away() || source.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// The endpoint ended this stream and left the connection open, for now at least.
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
    if frames::is_calmed(&error) {
        return UpstreamError::Flood(Cut::Codec);
    }
    if error.is_parse() { UpstreamError::Protocol(error.into()) } else { UpstreamError::Closed(error.into()) }
}
