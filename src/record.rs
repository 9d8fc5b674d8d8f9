//! The record of one request from its head to the end of its response: what the access log and the metrics
//! are told, once.
//!
//! It rides in the response's body. If it is dropped before there is a response, the client has left, or the worker
//! ends.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, uri};

use tokio::time::Instant;
use tollgate_otlp::Link;

use crate::body::{Body, End, Guard};
use crate::cache;
use crate::clock;
use crate::compress;
use crate::connection::{self, Downstream, OpenRequest};
use crate::error::Reason;
use crate::fetch::Attempts;
use crate::header::request_id::RequestId;
use crate::header::{authority, media_type};
use crate::overload::Places;
use crate::rate_limit::{RouteLimits, Verdict};
use crate::snapshot::HeldRoute;
use crate::telemetry::metrics::{Answered, RouteCounts};
use crate::telemetry::semconv;
use crate::telemetry::traces::{Moment, Trace};
use crate::telemetry::{AccessWriter, Entry, Metrics, UpstreamEntry};
use crate::tunnel::{Passed, TunnelEnd};

thread_local! {
    /// Where the records of this worker go. A body is `Send` and so cannot hold it.
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

struct Desk {
    access: AccessWriter,
    metrics: Arc<Metrics>,
    /// For requests that no route matched.
    unrouted: Arc<RouteCounts>,
}

pub fn open_desk(access: AccessWriter, metrics: Arc<Metrics>) {
    let unrouted = metrics.unrouted().counts();
    DESK.with_borrow_mut(|desk| *desk = Some(Desk { access, metrics, unrouted }));
}

pub fn flush_desk() {
    DESK.with_borrow(|desk| {
        if let Some(desk) = desk {
            desk.access.flush();
        }
    });
}

pub fn close_desk() {
    DESK.with_borrow_mut(|desk| *desk = None);
}

/// One request, on its way to the log.
pub struct Record {
    started: Instant,
    downstream: (std::net::SocketAddr, Option<crate::config::TlsVersion>),
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    /// None while the request has no body.
    received: Option<Arc<AtomicU64>>,
    /// Set with the answer; None if nobody asks.
    is_answered: Option<Arc<AtomicBool>>,
    open: OpenRequest,
    /// What it occupies of limits, if there are any.
    pub places: Option<Box<Places>>,
    written: bool,
    /// The head was refused before it could be read: what the request says is not what came.
    pub is_unread: bool,
    pub client: IpAddr,
    pub request_id: Option<RequestId>,
    /// None if requests are not traced.
    pub trace: Option<Trace>,
    /// The request whose fetch brought the answer.
    pub fetched_by: Option<Link>,
    pub route: Option<Arc<HeldRoute>>,
    /// What the limits of the route said; None if it has none.
    pub rate_limits: Option<Verdict>,
    pub attempts: Attempts,
    pub status: StatusCode,
    pub reason: Option<Reason>,
    /// What a call of gRPC came to, as far as it is known; None of what is none.
    rpc_status: Option<&'static str>,
    pub cache: Option<cache::Role>,
    /// None on routes that do not compress, and for what the edge says of itself.
    pub coding: Option<compress::Outcome>,
}

impl Record {
    pub fn begin<B>(request: &Request<B>, downstream: &Downstream, open: OpenRequest) -> Box<Self> {
        let (mut host, mut referer, mut user_agent) = (None, None, None);
        for (name, value) in request.headers() {
            let place = match *name {
                HOST => &mut host,
                REFERER => &mut referer,
                USER_AGENT => &mut user_agent,
                _ => continue,
            };
            place.get_or_insert_with(|| value.clone());
        }
        Box::new(Self {
            started: clock::now(),
            downstream: (downstream.peer, downstream.tls),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host,
            referer,
            user_agent,
            received: None,
            is_answered: None,
            open,
            places: None,
            written: false,
            is_unread: false,
            client: downstream.peer.ip(),
            request_id: None,
            trace: None,
            fetched_by: None,
            route: None,
            rate_limits: None,
            attempts: Attempts::default(),
            status: StatusCode::OK,
            reason: None,
            rpc_status: None,
            cache: None,
            coding: None,
        })
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn is_h1(&self) -> bool {
        self.version < Version::HTTP_2
    }

    /// Counts the bytes of the request's body.
    pub fn count_received(&mut self) -> Box<dyn Guard> {
        let received = self.received.insert(Arc::default());
        Box::new(Received(Arc::clone(received)))
    }

    /// Tells the body of the request when its answer begins.
    pub fn answered(&mut self) -> Arc<AtomicBool> {
        Arc::clone(self.is_answered.insert(Arc::default()))
    }

    /// The response has a head; the record ends with its body.
    pub fn respond(mut self: Box<Self>, response: &mut Response<Body>) {
        if let Some(is_answered) = &self.is_answered {
            is_answered.store(true, Ordering::Relaxed);
        }
        self.status = response.status();
        // It stands in the head if there is nothing else to say, and else in the trailers. Only POST over HTTP/2 is gRPC.
        if !self.is_h1() && self.method == Method::POST && media_type::is_grpc_with_trailers(response.headers()) {
            // Who answers with another status is a proxy, or knows no gRPC.
            let unknown = (self.status == StatusCode::OK).then_some(semconv::RPC_UNKNOWN);
            self.rpc_status = rpc_status_in(response.headers()).or(unknown);
        }
        response.body_mut().end_with(self);
    }

    pub fn tunnel_ended(mut self: Box<Self>, passed: Passed) {
        self.received.get_or_insert_default().fetch_add(passed.to_upstream, Ordering::Relaxed);
        self.reason = match passed.end {
            TunnelEnd::Closed => None,
            TunnelEnd::Idle => Some(Reason::TunnelIdle),
            TunnelEnd::Failed => Some(Reason::TunnelFailed),
        };
        self.write(passed.to_client);
    }

    pub fn tunnel_failed(mut self: Box<Self>) {
        self.reason = Some(Reason::TunnelFailed);
        self.write(0);
    }

    fn write(&mut self, bytes_sent: u64) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let now = clock::now();
        let duration = now.saturating_duration_since(self.started);
        DESK.with_borrow(|desk| {
            let Some(desk) = desk else { return };
            let route = self.route.as_deref();
            let measured = self.measured(bytes_sent, duration);
            route.map_or(&*desk.unrouted, |route| route.counts()).record(&measured);
            if let (Some(role), Some(caching)) = (self.cache, route.and_then(|route| route.caching())) {
                caching.statistics.count(role);
            }
            if let Some(coding) = self.coding {
                desk.metrics.coding_decided(coding);
            }
            if let Some(reason) = self.reason {
                desk.metrics.request_failed(reason.code());
                if let Reason::Guard(refused) = reason {
                    self.open.count_refusal();
                    desk.metrics.guard_refused(refused.code());
                }
            }
            let is_logged = route.is_none_or(|route| route.config.access_log);
            let recorded = self.trace.as_ref().filter(|trace| trace.is_recorded());
            if !is_logged && recorded.is_none() {
                return;
            }
            let entry = self.entry(bytes_sent, duration);
            if is_logged {
                desk.access.record(&entry);
            }
            if let Some(trace) = recorded {
                trace.ended(&entry, self.fetched_by, || Moment { at: now, wall: clock::system_time() });
            }
        });
    }

    fn measured(&self, bytes_sent: u64, duration: Duration) -> Answered<'_> {
        Answered {
            method: &self.method,
            version: self.version,
            is_tls: self.downstream.1.is_some(),
            status: self.status,
            failure: self.reason.map(Reason::code),
            rpc_status: self.rpc_status(),
            duration,
            bytes_received: self.bytes_received(),
            bytes_sent,
        }
    }

    /// None where it ended before that was said.
    fn rpc_status(&self) -> Option<&'static str> {
        self.rpc_status.filter(|_| self.reason.is_none())
    }

    fn bytes_received(&self) -> u64 {
        self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed))
    }

    /// The name of the limit that refused the request, or that would have if it were not a dry run.
    fn limit(&self) -> Option<&str> {
        let limits: &RouteLimits = self.route.as_ref()?.rate_limits.as_ref()?;
        limits.to_be_logged(self.rate_limits.as_ref()?)
    }

    fn entry(&self, bytes_sent: u64, duration: Duration) -> Entry<'_> {
        let (peer, tls) = self.downstream;
        let target = self.uri.authority().map(uri::Authority::as_str);
        let named = target.or_else(|| self.host.as_ref()?.to_str().ok()).filter(|_| !self.is_unread);
        let (host, port) = authority::split(named.unwrap_or_default());
        Entry {
            client: self.client,
            peer,
            method: if self.is_unread { "-" } else { self.method.as_str() },
            host,
            port,
            path: if self.is_unread { "-" } else { self.uri.path() },
            query: self.uri.query(),
            version: self.version,
            status: self.status.as_u16(),
            reason: self.reason.map(Reason::code),
            rpc_status: self.rpc_status(),
            rate_limit: self.limit(),
            cache: self.cache.map(cache::Role::word),
            coding: self.coding,
            duration,
            bytes_sent,
            bytes_received: self.bytes_received(),
            route: self.route.as_ref().map(|route| route.config.name.as_str()),
            path_of_route: self.route.as_ref().map(|route| route.config.path.text()),
            upstream: self.route.as_ref().and_then(|route| route.upstream()).map(|upstream| UpstreamEntry {
                name: &upstream.config().name,
                endpoint: self.attempts.endpoint,
                attempts: self.attempts.made,
                queued: self.attempts.queued,
                head_after: self.attempts.head_after(),
            }),
            request_id: self.request_id.as_ref().map(RequestId::as_bytes),
            trace: self.trace.as_ref().map(|trace| (trace.trace_id, trace.span_id)),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            tls,
        }
    }
}

/// What `grpc-status` says.
fn rpc_status_in(fields: &HeaderMap) -> Option<&'static str> {
    fields.get("grpc-status").map(|status| semconv::rpc_status(status.as_bytes()))
}

impl Guard for Record {
    fn trailers(&mut self, fields: &HeaderMap) {
        if self.rpc_status.is_some() {
            self.rpc_status = rpc_status_in(fields).or(self.rpc_status);
        }
    }

    fn ended(mut self: Box<Self>, passed: u64, end: End<'_>) {
        match end {
            End::Complete => {}
            End::Abandoned => self.reason = self.reason.or(Some(self.open.why_abandoned())),
            End::Stalled(stalled) => self.reason = Some(Reason::Guard(connection::reason_of(stalled))),
            End::Failed(error) => self.reason = Some(Reason::of_response(error)),
        }
        self.write(passed);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.written {
            let reason = self.open.why_abandoned();
            // A tunnel had its answer.
            if self.status != StatusCode::SWITCHING_PROTOCOLS {
                self.status = reason.status();
            }
            self.reason = Some(reason);
            self.write(0);
        }
    }
}

struct Received(Arc<AtomicU64>);

impl Guard for Received {
    fn ended(self: Box<Self>, passed: u64, _end: End<'_>) {
        self.0.store(passed, Ordering::Relaxed);
    }
}
