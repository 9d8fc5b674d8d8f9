//! The path of a request: every stage in the order in which it happens, one call each. All the branching of
//! a request is here, and for routes that keep responses in `cached`; the stages are leaves.

mod admit;
mod arrival;
mod cached;
pub mod explain;
mod message;
mod outgoing;
mod prepared;
mod tagging;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use self::admit::{admit, admit_body, admit_rate, refuse_expectation, tell_rate};
use self::arrival::Arrival;
use self::cached::Caching;
use self::message::{fallback, fresh_id, leave_out_content, receive, redirect, retry_after, text};
use self::outgoing::receive_request;
pub use self::prepared::Prepared;
use self::tagging::Tagging;
use crate::body::{Body, Source};
use crate::cache::{Stored, TargetUri};
use crate::client_ip::ClientIp;
use crate::compress::{NotCoded, Outcome, Recoding};
use crate::connection::Link;
use crate::error::{self, Reason};
use crate::fetch::Outgoing;
use crate::guard;
use crate::header::hop_by_hop::{self, Trailers, Upgrade, announce_upgrade};
use crate::header::request_id::RequestId;
use crate::header::{authority, edit};
use crate::interim::Relay;
use crate::overload::{Places, Pressure};
use crate::path;
use crate::record::Record;
use crate::snapshot::{Action, HeldRoute, Pass, Route, View};
use crate::spare;
use crate::splice;
use crate::stub_status;
use crate::telemetry::traces::{SpanFields, Trace, take_off_names};
use crate::upstream::{AsLines, Reply, Tunnel};
use crate::worker::Worker;

/// A tunnel that opens once its 101 is written.
pub struct Opened {
    pub tunnel: Tunnel,
    pub record: Box<Record>,
}

/// An answer, with what is written with its head beside the fields.
pub struct Served {
    pub response: Box<Response<Body>>,
    /// None if requests are not traced.
    pub names: Option<SpanFields>,
    /// Over HTTP/1.1 alone.
    pub prepared: Option<Prepared>,
}

/// Answers one request. `refused` is the guard's verdict, if it is a bad one;
/// over HTTP/1.1 nothing is known of the request then.
pub async fn serve(worker: &Worker, link: &Link, request: Unread<'_>, refused: Option<guard::Reason>) -> Served {
    let snapshot = worker.view();
    let mut record = Record::begin(request, &link.downstream, link.open_request(worker));
    record.is_unread = refused.is_some() && record.is_h1();
    let exchange = Exchange { worker, link, snapshot: &snapshot };
    record.trace = exchange.arrival().trace(request.method(), request.headers());
    let names = record.trace.as_ref().map(Trace::name);
    let is_head = *request.method() == Method::HEAD;
    let answered = match refused {
        Some(reason) => Err(Reason::Guard(reason)),
        None => exchange.answer(request, &mut record).await,
    };
    spare::keep_fields(std::mem::take(request.headers_mut()));
    let mut prepared = None;
    let mut response = match answered {
        Ok(Answer::Response(response) | Answer::Kept(response, _)) => response,
        Ok(Answer::Prepared(response, lines)) => {
            prepared = Some(lines);
            response
        }
        Ok(Answer::Tunnel(mut response)) => {
            record.status = response.status();
            tell_rate(&record, response.headers_mut());
            exchange.keep_names_apart(response.headers_mut(), record.trace.as_ref());
            let response = response.map(|tunnel| {
                link.tunnel.replace(Some(Opened { tunnel, record }));
                Body::empty()
            });
            return Served { response: Box::new(response), names, prepared };
        }
        Err(reason) => {
            record.reason = Some(reason);
            record.request_id.get_or_insert_with(fresh_id);
            Box::new(exchange.refuse(reason, &record))
        }
    };
    exchange.finish(&mut response);
    exchange.keep_names_apart(response.headers_mut(), record.trace.as_ref());
    tell_rate(&record, response.headers_mut());
    if response.status() == StatusCode::UPGRADE_REQUIRED && !record.is_h1() {
        // There is no upgrade over HTTP/2 (RFC 9113 §8.6).
        hop_by_hop::remove(response.headers_mut(), Trailers::Forward);
    }
    if let Some(body) = request.body_mut().take() {
        end_early(body, &mut response, &record);
    }
    if is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        leave_out_content(&mut response);
    }
    record.respond(&mut response);
    Served { response, names, prepared }
}

/// The answer is final, and the client is still sending.
fn end_early(unread: Source, response: &mut Response<Body>, record: &Record) {
    if record.is_h1() {
        // The rest of the body must not be taken for the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else {
        unread.linger();
    }
}

/// A request, with its body while nobody has begun to read it. Who sends it on takes it.
type Unread<'a> = &'a mut Request<Option<Source>>;

/// Responses are in boxes, since they go through many hands.
enum Answer {
    Response(Box<Response<Body>>),
    /// Made of a response that is kept.
    Kept(Box<Response<Body>>, Arc<Stored>),
    /// One that nothing changes any more, where most of the head is prepared.
    Prepared(Box<Response<Body>>, Prepared),
    Tunnel(Box<Response<Tunnel>>),
}

/// One request and where it happens.
struct Exchange<'a> {
    worker: &'a Worker,
    link: &'a Link,
    snapshot: &'a View,
}

/// A request on its way through a route that proxies.
struct Passing<'a> {
    route: &'a Arc<HeldRoute>,
    pass: &'a Pass,
    client: ClientIp,
    /// The canonical one, if that is not the one that came.
    path: Option<String>,
    upgrade: Option<Upgrade>,
    /// Whether the fields of a response go to a client over HTTP/1.1 as they came or are stored, but for what a coding changes.
    keeps_fields: bool,
    recoding: Option<&'a Recoding<'a>>,
}

impl Passing<'_> {
    /// Whether the fields of the response may stay as they are; None if somebody here looks at them.
    fn as_lines(&self) -> Option<AsLines<'_>> {
        let Pass { caching: None, etag_body_max: None, .. } = self.pass else { return None };
        let coded = self.route.config.compress.as_ref().map(|policy| policy.types.as_slice());
        self.keeps_fields.then_some(AsLines { coded })
    }
}

impl Exchange<'_> {
    async fn answer(&self, request: Unread<'_>, record: &mut Record) -> Result<Answer, Reason> {
        let arrival = self.arrival();
        let authority = authority::effective(request.uri(), request.headers(), arrival.scheme())?;
        let path = path::canonical(request.uri().path())?;
        let query = request.uri().query();
        let client = arrival.client(request);
        record.client = client.address;
        refuse_expectation(request.headers())?;
        let route = self.snapshot.route(&authority.host, &path);
        if let Some(response) =
            arrival.redirect_to_https(route.as_ref().map(|route| &***route), &authority.host, &path, query)
        {
            return Ok(Answer::Response(Box::new(response)));
        }
        let route = route.ok_or(Reason::NoRoute)?;
        record.route = Some(Arc::clone(&route));
        record.places = self.enter(&route, client)?;
        admit(&route, client)?;
        admit_rate(&route, client, request.headers(), record)?;
        admit_body(&route, request.headers())?;
        let recoding = Recoding::of(&route.config, request.method(), request.headers());
        let mut kept = None;
        let mut response = match &route.action {
            Action::Redirect { to, status } => Box::new(redirect(to.render(&authority.host, &path, query), *status)),
            Action::Text { body, status } => Box::new(text(body.clone(), *status)),
            Action::StubStatus => {
                Box::new(text(stub_status::page(&self.worker.shared.totals()).into(), StatusCode::OK))
            }
            Action::Proxy(pass) => {
                let target = TargetUri { scheme: arrival.scheme(), authority: &authority, path: &path, query };
                let caching = Caching::of(&self.worker.shared.cache, pass, &target);
                let path = if let Cow::Owned(path) = path { Some(path) } else { None };
                let tagging = Tagging::of(pass, request);
                let upgrade = receive_request(request, &route, pass);
                let has_content = *request.method() != Method::HEAD;
                let keeps_fields = has_content && record.is_h1() && route.config.response_fields.is_empty();
                let recoding = recoding.as_ref();
                let passing = Passing { route: &route, pass, client, path, upgrade, keeps_fields, recoding };
                let answer = match caching {
                    None => self.pass(request, &passing, record).await?,
                    Some(caching) => self.pass_by_cache(request, &passing, caching, record).await?,
                };
                match answer {
                    Answer::Response(mut response) => {
                        if let Some(tagging) = tagging {
                            *response = tagging.apply(*response).await?;
                        }
                        response
                    }
                    Answer::Kept(response, stored) => {
                        kept = Some(stored);
                        response
                    }
                    complete @ (Answer::Tunnel(_) | Answer::Prepared(..)) => return Ok(complete),
                }
            }
        };
        edit(response.headers_mut(), &route.config.response_fields);
        if let Some(recoding) = recoding {
            *response = match kept {
                Some(stored) => cached::recode(&recoding, *response, &stored, &mut record.coding).await?,
                None => recoding.apply(*response, &mut record.coding).await?,
            };
        }
        Ok(Answer::Response(response))
    }

    /// Takes a place for the request under each limit that there is.
    fn enter(&self, route: &Route, client: ClientIp) -> Result<Option<Box<Places>>, Reason> {
        let overload = &self.worker.shared.overload;
        if overload.pressure() == Pressure::Hard {
            return Err(Reason::MemoryShort);
        }
        let of_route = route.in_flight.as_ref().map(|(count, max)| (count, *max));
        let client = || self.link.client(client.address, &overload.requests_of);
        Ok(overload.enter(self.snapshot.limits, of_route, client)?)
    }

    /// Sends the request on and makes the answer out of what comes back.
    async fn pass(&self, request: Unread<'_>, passing: &Passing<'_>, record: &mut Record) -> Result<Answer, Reason> {
        let mut outgoing = Outgoing::default();
        self.send_on(request, passing, (&mut outgoing, record)).await?;
        let edits = &passing.route.config.response_fields;
        let relay = self.link.interims.as_ref().map(|client| Relay { client, edits });
        let mut fetch = passing.pass.fetch(&self.worker.connections, relay);
        if self.link.downstream.tls.is_none() && record.is_h1() && passing.route.config.compress.is_none() {
            fetch.limits.early_max = splice::EARLY_BYTES_MAX;
        }
        fetch.limits.as_lines = passing.as_lines();
        record.attempts.trace.clone_from(&record.trace);
        let reply = fetch.send(&mut outgoing, &mut record.attempts).await;
        match reply? {
            Reply::Response(response, Some(lines)) => {
                record.coding = passing.recoding.map(|_| Outcome::Left(NotCoded::Type));
                Ok(Answer::Prepared(response, Prepared::Passed(lines)))
            }
            Reply::Response(mut response, None) => {
                receive(&mut response);
                Ok(Answer::Response(response))
            }
            Reply::Tunnel(mut response) => {
                let fields = response.headers_mut();
                let agreed = hop_by_hop::remove(fields, Trailers::Drop);
                let agreed = agreed.or_else(|| passing.upgrade.clone());
                announce_upgrade(fields, agreed.as_ref());
                edit(fields, &passing.route.config.response_fields);
                Ok(Answer::Tunnel(response))
            }
        }
    }

    fn arrival(&self) -> Arrival<'_> {
        Arrival { downstream: &self.link.downstream, snapshot: self.snapshot }
    }

    /// The route's own page where its upstream failed, or one that says what went wrong, by the reason code that log and
    /// metrics use too.
    fn refuse(&self, reason: Reason, record: &Record) -> Response<Body> {
        let page = record.route.as_ref().and_then(|route| route.fallback()).filter(|_| reason.falls_back());
        let mut response = match page {
            Some(page) => fallback(page, reason.status()),
            None => {
                let id = record.request_id.as_ref().map_or("-", RequestId::as_str);
                text(error::page(reason, id), reason.status())
            }
        };
        let status = response.status();
        let fields = response.headers_mut();
        // The next request may fare better, and some of these statuses may be kept by who is told nothing
        // (RFC 9110 §15.1).
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if reason.status() == StatusCode::METHOD_NOT_ALLOWED {
            fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(RETRY_AFTER, retry_after(reason, record.route.as_deref()));
        }
        if self.may_see_reason(record) {
            fields.insert("x-tollgate-reason", HeaderValue::from_static(reason.code()));
        }
        if record.is_h1() && reason.ends_connection() {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn may_see_reason(&self, record: &Record) -> bool {
        let allowed = self.snapshot.config.admin.as_ref().map(|admin| admin.allow.as_slice()).unwrap_or_default();
        record.client.is_loopback() || allowed.iter().any(|network| network.contains(&record.client))
    }

    /// Where requests are traced, the names of an origin's trace on one that is not would be taken for ours.
    fn keep_names_apart(&self, fields: &mut HeaderMap, trace: Option<&Trace>) {
        if trace.is_none() && self.snapshot.tracing.is_some() {
            take_off_names(fields);
        }
    }

    /// What every response over TLS says, whoever made it.
    fn finish(&self, response: &mut Response<Body>) {
        if let Some(hsts) = self.arrival().hsts() {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}
