//! The path of a request: every stage in the order in which it happens, one call each. All the branching of
//! a request is here; the stages are leaves.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::balance::InFlight;
use crate::body::{Body, BodyError, Source};
use crate::client_ip;
use crate::clock;
use crate::config::{FieldEdits, HostPolicy};
use crate::connection::Link;
use crate::error::{self, Reason};
use crate::exchange::Record;
use crate::fetch::Fetch;
use crate::guard::Refusal;
use crate::header::{authority, authority::Authority, forwarded, hop_by_hop, request_id, via};
use crate::path;
use crate::snapshot::{Action, Pass, Route, Snapshot};
use crate::stub_status;
use crate::upstream::{Reply, Tunnel};
use crate::worker::Worker;

/// A tunnel that opens once its 101 is written.
pub struct Opened {
    pub tunnel: Tunnel,
    pub record: Box<Record>,
}

/// Answers one request. `refusal` is the guard's verdict, if the request is only its marker.
pub async fn serve(
    worker: &Worker,
    link: &Link,
    request: Request<Incoming>,
    refusal: Option<Refusal>,
) -> Response<Body> {
    let snapshot = worker.snapshot();
    let mut record = Record::begin(&request, &link.downstream, link.open_request(worker));
    let exchange = Exchange { worker, link, snapshot: &snapshot };
    let answered = match refusal {
        Some(refusal) => Err(Reason::Guard(refusal.reason)),
        None => exchange.answer(request, &mut record).await,
    };
    let mut response = match answered {
        Ok(Answer::Response(response)) => response,
        Ok(Answer::Tunnel(response, tunnel)) => {
            record.status = response.status();
            link.tunnel.replace(Some(Opened { tunnel, record }));
            return response.map(|()| Body::empty());
        }
        Err(reason) => {
            record.reason = Some(reason);
            exchange.refuse(reason, &record)
        }
    };
    exchange.finish(&mut response, &record);
    record.respond(response)
}

enum Answer {
    Response(Response<Body>),
    Tunnel(Response<()>, Tunnel),
}

/// One request and where it happens.
struct Exchange<'a> {
    worker: &'a Worker,
    link: &'a Link,
    snapshot: &'a Snapshot,
}

impl Exchange<'_> {
    async fn answer(&self, request: Request<Incoming>, record: &mut Record) -> Result<Answer, Reason> {
        let authority = authority::effective(request.uri(), request.headers(), request.version())?;
        let path = path::canonical(request.uri().path())?;
        let peer = self.link.downstream.peer.ip();
        let client = client_ip::resolve(&self.snapshot.config.client.trusted, peer, request.headers());
        record.client = client.address;
        if let Some(response) = self.redirect_to_https(&authority, &path, request.uri()) {
            return Ok(Answer::Response(response));
        }
        let route = self.snapshot.router.find(&authority.host, &path).ok_or(Reason::NoRoute)?;
        record.route = Some(Arc::clone(route));
        refuse_method(request.method())?;
        admit(route, client.address)?;
        admit_body(route, request.headers())?;
        match &route.action {
            Action::Redirect { to, status } => {
                let location = to.render(&authority.host, &path, request.uri().query());
                Ok(Answer::Response(redirect(location, *status)))
            }
            Action::Text { body, status } => Ok(Answer::Response(text(body.clone(), *status))),
            Action::StubStatus => {
                Ok(Answer::Response(text(stub_status::page(&self.worker.shared).into(), StatusCode::OK)))
            }
            Action::Proxy(pass) => {
                let target = pass.rewrite.target(&path, request.uri().query())?;
                let facts = Facts { client, authority: &authority, target };
                let (parts, incoming) = request.into_parts();
                self.pass(Request::from_parts(parts, incoming), (route, pass), &facts, record).await
            }
        }
    }
}

impl Exchange<'_> {
    async fn pass(
        &self,
        mut request: Request<Incoming>,
        (route, pass): (&Route, &Pass),
        facts: &Facts<'_>,
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        let upgrade = self.prepare(&mut request, (route, pass), facts, record)?;
        let request = self.take_body(request, (route, pass), upgrade, record).await?;
        let fetch = Fetch {
            upstream: &pass.upstream,
            connections: &self.worker.connections,
            limits: &pass.limits,
            host_of_endpoint: pass.host == HostPolicy::Upstream,
        };
        let reply = fetch.send(request, &mut record.attempts).await;
        record.head_after = Some(clock::now().saturating_duration_since(record.started()));
        match reply? {
            Reply::Response(mut response) => {
                let version = response.version();
                hop_by_hop::remove_from_response(response.headers_mut());
                via::append(response.headers_mut(), version);
                edit(response.headers_mut(), &route.config.response_fields);
                *response.version_mut() = Version::HTTP_11;
                Ok(Answer::Response(response))
            }
            Reply::Tunnel(mut response, tunnel) => {
                edit(response.headers_mut(), &route.config.response_fields);
                Ok(Answer::Tunnel(response, tunnel))
            }
        }
    }

    /// Makes the head that goes upstream out of the one that came.
    fn prepare(
        &self,
        request: &mut Request<Incoming>,
        (route, pass): (&Route, &Pass),
        facts: &Facts<'_>,
        record: &mut Record,
    ) -> Result<bool, Reason> {
        let version = request.version();
        if let Some(target) = &facts.target {
            *request.uri_mut() = origin_form(target)?;
        } else if request.uri().authority().is_some() {
            *request.uri_mut() = request.uri().path_and_query().cloned().map(Uri::from).unwrap_or_default();
        }
        *request.version_mut() = Version::HTTP_11;
        let fields = request.headers_mut();
        let upgrade = hop_by_hop::remove_from_request(fields, version);
        let scheme = if self.link.downstream.tls.is_some() { "https" } else { "http" };
        forwarded::rebuild(fields, &facts.client, self.link.downstream.peer.ip(), scheme, facts.authority);
        via::append(fields, version);
        record.request_id = Some(request_id::ensure(fields, &facts.client));
        match &pass.host {
            HostPolicy::Preserve | HostPolicy::Upstream => facts.authority.insert_host(fields),
            HostPolicy::Fixed(host) => {
                fields.insert(http::header::HOST, host.clone());
            }
        }
        // The edge answers the expectation itself, by reading the body.
        fields.remove(EXPECT);
        edit(fields, &route.config.request_fields);
        Ok(upgrade)
    }

    /// Reads ahead what a slow client would hold an endpoint with; streams pass as they come.
    async fn take_body(
        &self,
        request: Request<Incoming>,
        (route, pass): (&Route, &Pass),
        upgrade: bool,
        record: &Record,
    ) -> Result<Request<Body>, Reason> {
        use http_body::Body as _;
        if request.body().is_end_stream() {
            return Ok(request.map(|_| Body::empty()));
        }
        let known_size = request.body().size_hint().exact();
        let (parts, incoming) = request.into_parts();
        let client = &self.snapshot.config.client;
        let source = Source::new(incoming, route.config.body_max)
            .silent_at_most(self.worker.sweep.deadline(), client.body_timeout)
            .guarded(record.count_received());
        let ahead = known_size.is_some() && !upgrade && pass.buffer.request > 0;
        let body = if ahead { source.read_ahead(pass.buffer.request).await? } else { source.into_body() };
        Ok(Request::from_parts(parts, body))
    }

    fn redirect_to_https(&self, authority: &Authority, path: &str, uri: &Uri) -> Option<Response<Body>> {
        let port = self.snapshot.listener(self.link.downstream.listener)?.config.https_redirect?;
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("https://{}{port}{path}{query}", authority.host);
        Some(redirect(location, StatusCode::PERMANENT_REDIRECT))
    }

    /// A page that says what went wrong, by the reason code that log and metrics use too.
    fn refuse(&self, reason: Reason, record: &Record) -> Response<Body> {
        let id = record.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let mut response = text(error::page(reason, id), reason.status());
        let fields = response.headers_mut();
        if reason.status() == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.may_see_reason(record) {
            fields.insert("x-tollgate-reason", HeaderValue::from_static(reason.code()));
        }
        if reason.closes_connection() && record.is_h1() {
            fields.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn may_see_reason(&self, record: &Record) -> bool {
        let allowed = self.snapshot.config.admin.as_ref().map(|admin| admin.allow.as_slice()).unwrap_or_default();
        record.client.is_loopback() || allowed.iter().any(|network| network.contains(&record.client))
    }

    fn finish(&self, response: &mut Response<Body>, record: &Record) {
        if record.downstream_is_tls()
            && let Some(listener) = self.snapshot.listener(self.link.downstream.listener)
            && let Some(hsts) = &listener.config.hsts
        {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

/// What was decided about a request before it is changed.
struct Facts<'a> {
    client: client_ip::ClientIp,
    authority: &'a Authority,
    /// Path and query for the upstream, where they differ from what came.
    target: Option<String>,
}

fn refuse_method(method: &Method) -> Result<(), Reason> {
    if *method == Method::CONNECT || *method == Method::TRACE { Err(Reason::MethodNotAllowed) } else { Ok(()) }
}

fn admit(route: &Route, client: std::net::IpAddr) -> Result<(), Reason> {
    let within = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&client));
    let (allow, deny) = (&route.config.allow, &route.config.deny);
    if within(deny) || !(allow.is_empty() || within(allow)) { Err(Reason::AccessDenied) } else { Ok(()) }
}

fn admit_body(route: &Route, fields: &HeaderMap) -> Result<(), Reason> {
    let announced = fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > route.config.body_max => Err(Reason::BodyTooLarge),
        _ => Ok(()),
    }
}

fn edit(fields: &mut HeaderMap, edits: &FieldEdits) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert(name, value.clone());
    }
}

fn origin_form(target: &str) -> Result<Uri, Reason> {
    target.parse::<PathAndQuery>().map(Uri::from).map_err(|_| Reason::BadPath)
}

fn redirect(location: String, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn text(body: bytes::Bytes, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
