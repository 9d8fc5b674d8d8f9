//! How and where a request came in, and under which generation: what follows from these alone. It is asked on the path of
//! a request, and by who wants that path explained.

use std::borrow::Cow;

use http::header::{CONNECTION, EXPECT, HOST, TE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::Passing;
use super::message::{fresh_id, redirect};
use crate::body::Body;
use crate::client_ip::{self, ClientIp};
use crate::config::{HostPolicy, UpstreamProtocol};
use crate::connection::Downstream;
use crate::error::Reason;
use crate::header::forwarded::{self, Hop};
use crate::header::hop_by_hop::announce_upgrade;
use crate::header::hop_fields::HopFields;
use crate::header::request_id::RequestId;
use crate::header::{REQUEST_FIELDS_ADDED, Scheme, edit, request_id, via};
use crate::rewrite;
use crate::route::answers_challenge;
use crate::snapshot::{Route, View};
use crate::telemetry::traces::Trace;

/// A request that goes on.
pub struct SentOn {
    pub request_id: RequestId,
    /// What goes with its head beside the map; None if that has all of it.
    pub beside: Option<HopFields>,
}

#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    pub downstream: &'a Downstream,
    pub snapshot: &'a View,
}

impl<'a> Arrival<'a> {
    pub fn scheme(&self) -> Scheme {
        if self.downstream.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    pub fn client<B>(&self, request: &Request<B>) -> ClientIp {
        let trusted = &self.snapshot.config.client.trusted;
        client_ip::resolve(trusted, self.downstream.peer.ip(), request.headers())
    }

    /// A trusted peer's trace goes on; anybody else's begins here. None if requests are not traced.
    pub fn trace(&self, method: &Method, fields: &HeaderMap) -> Option<Trace> {
        let trusted = &self.snapshot.config.client.trusted;
        let is_believed = || client_ip::is_trusted(trusted, self.downstream.peer.ip());
        self.snapshot.tracing.as_ref()?.begin(method, fields, is_believed)
    }

    /// Where the listener sends everything on to https, but for challenges that a route is there for.
    pub fn redirect_to_https(
        &self,
        route: Option<&Route>,
        host: &str,
        path: &str,
        query: Option<&str>,
    ) -> Option<Response<Body>> {
        let port = self.snapshot.listener(self.downstream.listener)?.config.https_redirect?;
        if route.is_some_and(|route| answers_challenge(&route.config.path, path)) {
            return None;
        }
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let location = HeaderValue::try_from(format!("https://{host}{port}{path}{query}")).ok()?;
        Some(redirect(location, StatusCode::PERMANENT_REDIRECT))
    }

    /// `Strict-Transport-Security`, where it is said.
    pub fn hsts(&self) -> Option<&'a HeaderValue> {
        self.downstream.tls?;
        self.snapshot.listener(self.downstream.listener)?.config.hsts.as_ref()
    }

    /// Makes the head that goes upstream out of what was received.
    pub fn send_on<B>(&self, request: &mut Request<B>, passing: &Passing<'_>) -> Result<SentOn, Reason> {
        let host = settle_host(request)?;
        if let Some(target) = target(passing, request.uri())? {
            *request.uri_mut() = target;
        }
        let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let sent_on = self.prepare(request.headers_mut(), passing, (host, received));
        edit(request.headers_mut(), &passing.route.config.request_fields);
        Ok(sent_on)
    }

    fn prepare(
        &self,
        fields: &mut HeaderMap,
        &Passing { route, pass, client, ref upgrade, .. }: &Passing<'_>,
        (host, received): (HeaderValue, Version),
    ) -> SentOn {
        let to_h1 = pass.upstream.config().protocol == UpstreamProtocol::H1;
        // Over HTTP/1.1 it concerns this connection alone (RFC 9110 §10.1.4).
        if upgrade.is_some() {
            fields.remove(TE);
        } else if to_h1 && fields.contains_key(TE) {
            fields.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        // The edge answers the expectation itself, by reading the body.
        fields.remove(EXPECT);
        announce_upgrade(fields, upgrade.as_ref());
        if let HostPolicy::Fixed(host) = &pass.host {
            fields.insert(HOST, host.clone());
        }
        let (peer_address, peer) = (self.downstream.peer.ip(), &self.downstream.peer_value);
        forwarded::drop_unbelieved(fields, client.via_trusted);
        let needs_map = !to_h1 || !route.config.request_fields.is_empty() || pass.upstream.pool.chooses_by_field();
        if !needs_map && HopFields::are_new_to(fields) {
            debug_assert_eq!(client.address, peer_address.to_canonical(), "nobody has named another");
            let request_id = fresh_id();
            let beside = HopFields::new((peer, self.scheme(), host), received, request_id.clone());
            return SentOn { request_id, beside: Some(beside) };
        }
        // At most one growth of the map here, and not one for each doubling.
        fields.reserve(REQUEST_FIELDS_ADDED);
        forwarded::tell(fields, &Hop { peer_address, peer, client, scheme: self.scheme(), host: &host });
        via::append(fields, received);
        SentOn { request_id: request_id::settle(fields, client.via_trusted, fresh_id), beside: None }
    }
}

/// The target in origin form for the upstream, if it is not the one that came.
fn target(&Passing { pass, ref path, .. }: &Passing<'_>, uri: &Uri) -> Result<Option<Uri>, Reason> {
    let path = path.as_deref().unwrap_or(uri.path());
    // What does not count for the key must not change the response either.
    let query = pass.caching.as_ref().map_or(uri.query().map(Cow::Borrowed), |policy| policy.key.query(uri.query()));
    let target = rewrite::rewrite(&pass.rewrite, path, query.as_deref())?;
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

/// The host as the client names it: in its field, or over HTTP/2 as the authority, which becomes the field.
fn settle_host<B>(request: &mut Request<B>) -> Result<HeaderValue, Reason> {
    if let Some(host) = request.headers().get(HOST) {
        return Ok(host.clone());
    }
    let authority = request.uri().authority().ok_or(Reason::HostMissing)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::HostInvalid)?;
    request.headers_mut().insert(HOST, host.clone());
    Ok(host)
}
