//! The path of a request: every stage in the order in which it happens, one call each. All the branching of
//! a request is here, and for routes that keep responses in `cached`; the stages are leaves.

mod admit;
mod cached;
mod message;
mod tagging;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use self::admit::{admit, admit_body, refuse_expectation};
use self::cached::Target;
use self::message::{fallback, fresh_id, leave_out_content, receive, redirect, retry_after, text};
use self::tagging::Tagging;
use crate::balance::Asker;
use crate::body::{Body, Source};
use crate::cache::Stored;
use crate::client_ip::{self, ClientIp};
use crate::clock;
use crate::compress::Recoding;
use crate::config::{HostPolicy, UpstreamProtocol};
use crate::connection::Link;
use crate::error::{self, Reason};
use crate::guard;
use crate::header::cookies;
use crate::header::forwarded::{self, Hop};
use crate::header::hop_by_hop::{self, Trailers, Upgrade, announce_upgrade};
use crate::header::{Scheme, authority, edit, etag, request_id, via};
use crate::interim::Relay;
use crate::overload::{Places, Pressure};
use crate::path;
use crate::record::Record;
use crate::rewrite;
use crate::route::answers_challenge;
use crate::snapshot::{Action, HeldRoute, Pass, Route, View};
use crate::stub_status;
use crate::upstream::{Reply, Tunnel};
use crate::worker::Worker;

/// What a request is given on its way, at most: who the client is, over which hop, under which name.
const FIELDS_ADDED: usize = 8;

/// A tunnel that opens once its 101 is written.
pub struct Opened {
    pub tunnel: Tunnel,
    pub record: Box<Record>,
}

/// Answers one request. `refused` is the guard's verdict, if it is a bad one; over HTTP/1.1 nothing is known of the
/// request then.
pub async fn serve(
    worker: &Worker,
    link: &Link,
    request: Request<Source>,
    refused: Option<guard::Reason>,
) -> Response<Body> {
    let snapshot = worker.view();
    let mut record = Record::begin(&request, &link.downstream, link.open_request(worker));
    record.is_unread = refused.is_some() && record.is_h1();
    let exchange = Exchange { worker, link, snapshot: &snapshot };
    let is_head = *request.method() == Method::HEAD;
    let (head, body) = request.into_parts();
    let mut unread = Some(body).filter(|body| !body.is_end_stream());
    let answered = match refused {
        Some(reason) => Err(Reason::Guard(reason)),
        None => exchange.answer(Request::from_parts(head, &mut unread), &mut record).await,
    };
    let mut response = match answered {
        Ok(Answer::Response(response) | Answer::Kept(response, _)) => response,
        Ok(Answer::Tunnel(response, tunnel)) => {
            record.status = response.status();
            link.tunnel.replace(Some(Opened { tunnel, record }));
            return response.map(|()| Body::empty());
        }
        Err(reason) => {
            record.reason = Some(reason);
            record.request_id.get_or_insert_with(fresh_id);
            exchange.refuse(reason, &record)
        }
    };
    exchange.finish(&mut response);
    if response.status() == StatusCode::UPGRADE_REQUIRED && !record.is_h1() {
        // There is no upgrade over HTTP/2 (RFC 9113 §8.6).
        hop_by_hop::remove(response.headers_mut(), Trailers::Forward);
    }
    if let Some(body) = unread {
        end_early(body, &mut response, &record);
    }
    if is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        leave_out_content(&mut response);
    }
    record.respond(response)
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

/// A head, and the body while nobody has begun to read it.
type Unread<'a> = Request<&'a mut Option<Source>>;

enum Answer {
    Response(Response<Body>),
    /// Made of a response that is kept.
    Kept(Response<Body>, Arc<Stored>),
    Tunnel(Response<()>, Tunnel),
}

/// One request and where it happens.
struct Exchange<'a> {
    worker: &'a Worker,
    link: &'a Link,
    snapshot: &'a View,
}

/// A request as it goes upstream, and which upgrade it asks for.
struct Outgoing {
    request: Request<Body>,
    upgrade: Option<Upgrade>,
}

/// A request on its way through a route that proxies.
struct Passing<'a> {
    route: &'a Arc<HeldRoute>,
    pass: &'a Pass,
    client: ClientIp,
    /// None if it is the one that came.
    target: Option<Uri>,
}

impl Exchange<'_> {
    async fn answer(&self, request: Unread<'_>, record: &mut Record) -> Result<Answer, Reason> {
        let authority = authority::effective(request.uri(), request.headers(), self.scheme())?;
        let path = path::canonical(request.uri().path())?;
        let query = request.uri().query();
        let client = self.client(&request);
        record.client = client.address;
        refuse_expectation(request.headers())?;
        let route = self.snapshot.route(&authority.host, &path);
        if !route.as_ref().is_some_and(|route| answers_challenge(&route.config.path, &path))
            && let Some(response) = self.redirect_to_https(&authority.host, &path, query)
        {
            return Ok(Answer::Response(response));
        }
        let route = route.ok_or(Reason::NoRoute)?;
        record.route = Some(Arc::clone(&route));
        record.places = self.enter(&route, client)?;
        admit(&route, client)?;
        admit_body(&route, request.headers())?;
        let recoding = Recoding::of(&route.config, request.method(), request.headers());
        let mut kept = None;
        let mut response = match &route.action {
            Action::Redirect { to, status } => redirect(to.render(&authority.host, &path, query), *status),
            Action::Text { body, status } => text(body.clone(), *status),
            Action::StubStatus => text(stub_status::page(&self.worker.shared.totals()).into(), StatusCode::OK),
            Action::Proxy(pass) => {
                let named = pass.caching.as_ref().map(|policy| (policy, Target::new(self.scheme(), authority, &path)));
                let target = target(pass, path, request.uri())?;
                let passing = Passing { route: &route, pass, client, target };
                let tagging = Tagging::of(pass, &request);
                let answer = match named {
                    None => self.pass(request, &passing, record).await?,
                    Some(named) => self.pass_by_cache(request, &passing, named, record).await?,
                };
                match answer {
                    Answer::Response(response) => match tagging {
                        None => response,
                        Some(tagging) => tagging.apply(response).await?,
                    },
                    Answer::Kept(response, stored) => {
                        kept = Some(stored);
                        response
                    }
                    tunnel @ Answer::Tunnel(..) => return Ok(tunnel),
                }
            }
        };
        edit(response.headers_mut(), &route.config.response_fields);
        if let Some(recoding) = recoding {
            response = match kept {
                Some(stored) => cached::recode(&recoding, response, &stored, &mut record.coding).await?,
                None => recoding.apply(response, &mut record.coding).await?,
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
        Ok(overload.enter(self.snapshot.limits, of_route, client.address)?)
    }

    /// Sends the request on and makes the answer out of what comes back.
    async fn pass(&self, request: Unread<'_>, passing: &Passing<'_>, record: &mut Record) -> Result<Answer, Reason> {
        let Outgoing { request, upgrade } = self.outgoing(request, passing, record).await?;
        let edits = &passing.route.config.response_fields;
        let relay = self.link.interims.as_ref().map(|client| Relay { client, edits });
        let fetch = passing.pass.fetch(&self.worker.connections, relay);
        let reply = fetch.send(request, &mut record.attempts).await;
        record.head_after = Some(clock::now().saturating_duration_since(record.started()));
        match reply? {
            Reply::Response(mut response) => {
                receive(&mut response);
                Ok(Answer::Response(response))
            }
            Reply::Tunnel(mut response, tunnel) => {
                let fields = response.headers_mut();
                let agreed = hop_by_hop::remove(fields, Trailers::Drop).or(upgrade);
                announce_upgrade(fields, agreed.as_ref());
                edit(fields, &passing.route.config.response_fields);
                Ok(Answer::Tunnel(response, tunnel))
            }
        }
    }

    /// The request as it goes upstream.
    async fn outgoing(
        &self,
        mut request: Unread<'_>,
        passing: &Passing<'_>,
        record: &mut Record,
    ) -> Result<Outgoing, Reason> {
        let host = client_host(&request)?;
        if let Some(target) = &passing.target {
            *request.uri_mut() = target.clone();
        }
        let upgrade = self.prepare(&mut request, passing, host, record);
        if passing.pass.upstream.pool.chooses_by_client() {
            request.extensions_mut().insert(Asker(passing.client.address));
        }
        if passing.route.config.compress.is_some() {
            etag::take_off_marks(request.headers_mut());
        }
        edit(request.headers_mut(), &passing.route.config.request_fields);
        let request = self.take_body(request, passing, upgrade.is_some(), record).await?;
        Ok(Outgoing { request, upgrade })
    }

    /// Makes the head that goes upstream out of the one that came; says which upgrade is asked for.
    fn prepare(
        &self,
        request: &mut Unread<'_>,
        &Passing { pass, client, .. }: &Passing<'_>,
        host: HeaderValue,
        record: &mut Record,
    ) -> Option<Upgrade> {
        let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let fields = request.headers_mut();
        // One growth of the map, and not one for each doubling.
        fields.reserve(FIELDS_ADDED);
        cookies::join(fields);
        let to_h1 = pass.upstream.config().protocol == UpstreamProtocol::H1;
        let upgrade = hop_by_hop::remove(fields, Trailers::Forward).filter(|_| received == Version::HTTP_11 && to_h1);
        // Over HTTP/1.1 it concerns this connection alone (RFC 9110 §10.1.4).
        if upgrade.is_some() {
            fields.remove(TE);
        } else if to_h1 && fields.contains_key(TE) {
            fields.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        let peer = &self.link.downstream.peer_value;
        forwarded::rewrite(fields, &Hop { peer, client, scheme: self.scheme(), host: &host });
        via::append(fields, received);
        record.request_id = Some(request_id::settle(fields, client.via_trusted, fresh_id));
        match &pass.host {
            HostPolicy::Preserve | HostPolicy::Upstream => fields.insert(HOST, host),
            HostPolicy::Fixed(host) => fields.insert(HOST, host.clone()),
        };
        // The edge answers the expectation itself, by reading the body.
        fields.remove(EXPECT);
        announce_upgrade(fields, upgrade.as_ref());
        upgrade
    }

    /// Reads ahead what a slow client would hold an endpoint with; streams pass as they come.
    async fn take_body(
        &self,
        request: Unread<'_>,
        &Passing { route, pass, .. }: &Passing<'_>,
        upgrade: bool,
        record: &mut Record,
    ) -> Result<Request<Body>, Reason> {
        let (mut parts, unread) = request.into_parts();
        let Some(source) = unread.take() else { return Ok(Request::from_parts(parts, Body::empty())) };
        let known_size = source.size_hint().exact();
        let mut source = source.at_most(route.config.body_max).guarded(record.count_received());
        // Over HTTP/1 the connection keeps this limit.
        if !record.is_h1() {
            let body_timeout = self.snapshot.config.client.body_timeout;
            source = source.silent_at_most(self.worker.sweep.deadline(), body_timeout).lingering();
        }
        let ahead = known_size.is_some() && !upgrade && pass.buffer.request > 0;
        let body = if ahead { source.buffer(pass.buffer.request).await? } else { source.into_body() };
        if body.has_trailers() && pass.upstream.config().protocol == UpstreamProtocol::H1 {
            parts.headers.remove(CONTENT_LENGTH);
        }
        Ok(Request::from_parts(parts, body))
    }

    fn scheme(&self) -> Scheme {
        if self.link.downstream.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    fn client<B>(&self, request: &Request<B>) -> ClientIp {
        let trusted = &self.snapshot.config.client.trusted;
        client_ip::resolve(trusted, self.link.downstream.peer.ip(), request.headers())
    }

    fn redirect_to_https(&self, host: &str, path: &str, query: Option<&str>) -> Option<Response<Body>> {
        let port = self.snapshot.listener(self.link.downstream.listener)?.config.https_redirect?;
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let location = HeaderValue::try_from(format!("https://{host}{port}{path}{query}")).ok()?;
        Some(redirect(location, StatusCode::PERMANENT_REDIRECT))
    }

    /// The route's own page where its upstream failed, or one that says what went wrong, by the reason code that log and
    /// metrics use too.
    fn refuse(&self, reason: Reason, record: &Record) -> Response<Body> {
        let page = record.route.as_ref().and_then(|route| route.fallback()).filter(|_| reason.falls_back());
        let mut response = match page {
            Some(page) => fallback(page, reason.status()),
            None => {
                let id = record.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("-");
                text(error::page(reason, id), reason.status())
            }
        };
        let status = response.status();
        let fields = response.headers_mut();
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

    /// What every response over TLS says, whoever made it.
    fn finish(&self, response: &mut Response<Body>) {
        if self.link.downstream.tls.is_some()
            && let Some(listener) = self.snapshot.listener(self.link.downstream.listener)
            && let Some(hsts) = &listener.config.hsts
        {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

/// The target in origin form for the upstream, if it is not the one that came.
fn target(pass: &Pass, path: Cow<'_, str>, uri: &Uri) -> Result<Option<Uri>, Reason> {
    // What does not count for the key must not change the response either.
    let query = pass.caching.as_ref().map_or(uri.query().map(Cow::Borrowed), |policy| policy.key.query(uri.query()));
    let target = rewrite::rewrite(&pass.rewrite, &path, query.as_deref())?;
    match (target.is_of(uri), uri.authority()) {
        (true, None) => Ok(None),
        (true, Some(_)) if has_path(uri) => Ok(uri.path_and_query().cloned().map(Uri::from)),
        _ => Ok(Some(PathAndQuery::try_from(target)?.into())),
    }
}

/// `http://a?b` has none, and stands for `http://a/?b` (RFC 9112 §3.2.1).
fn has_path(uri: &Uri) -> bool {
    uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/'))
}

/// The host as the client names it: its field, or over HTTP/2 the authority.
fn client_host<B>(request: &Request<B>) -> Result<HeaderValue, Reason> {
    if let Some(host) = request.headers().get(HOST) {
        return Ok(host.clone());
    }
    let authority = request.uri().authority().ok_or(Reason::HostMissing)?;
    HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::HostInvalid)
}
