//! The request as it goes upstream, made of the one that came.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version};

use super::message::fresh_id;
use super::{Exchange, Passing, Unread};
use crate::balance::Asker;
use crate::body::Body;
use crate::config::{HostPolicy, UpstreamProtocol};
use crate::error::Reason;
use crate::header::forwarded::{self, Hop};
use crate::header::hop_by_hop::{self, Trailers, Upgrade, announce_upgrade};
use crate::header::{REQUEST_FIELDS_ADDED, edit, etag, request_id, via};
use crate::pace::Terms;
use crate::record::Record;
use crate::rewrite;
use crate::snapshot::{Pass, Route};
use crate::telemetry::traces;

impl Exchange<'_> {
    /// The request as it goes upstream.
    pub(super) async fn outgoing(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        record: &mut Record,
    ) -> Result<Request<Body>, Reason> {
        let host = client_host(request)?;
        if let Some(target) = target(passing, request.uri())? {
            *request.uri_mut() = target;
        }
        if passing.pass.upstream.pool.chooses_by_client() {
            request.extensions_mut().insert(Asker(passing.client.address));
        }
        self.prepare(request, passing, host, record);
        edit(request.headers_mut(), &passing.route.config.request_fields);
        self.take_body(request, passing, record).await
    }

    /// Makes the head that goes upstream out of what was received.
    fn prepare(&self, request: Unread<'_>, passing: &Passing<'_>, host: HeaderValue, record: &mut Record) {
        let &Passing { pass, client, ref upgrade, .. } = passing;
        let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let fields = request.headers_mut();
        // One growth of the map, and not one for each doubling.
        fields.reserve(REQUEST_FIELDS_ADDED + record.trace.as_ref().map_or(0, |_| traces::FIELDS_ADDED));
        let to_h1 = pass.upstream.config().protocol == UpstreamProtocol::H1;
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
    }

    /// Reads ahead what a slow client would hold an endpoint with; streams pass as they come.
    async fn take_body(
        &self,
        request: Unread<'_>,
        &Passing { route, pass, ref upgrade, .. }: &Passing<'_>,
        record: &mut Record,
    ) -> Result<Request<Body>, Reason> {
        let (mut parts, unread) = std::mem::take(request).into_parts();
        let Some(source) = unread else { return Ok(Request::from_parts(parts, Body::empty())) };
        let known_size = source.size_hint().exact();
        let mut source = source.at_most(route.config.body_max).guarded(record.count_received());
        // Over HTTP/1 the connection keeps this limit.
        if !record.is_h1() {
            let client = &self.snapshot.config.client;
            let terms = Terms { silence: client.body_timeout, rate_min: client.rate_min };
            source = source.paced(self.worker.sweep.deadline(), terms, record.answered()).lingering();
        }
        let ahead = known_size.is_some() && upgrade.is_none() && pass.buffer.request > 0;
        let body = if ahead { source.buffer(pass.buffer.request).await? } else { source.into_body() };
        if body.has_trailers() && pass.upstream.config().protocol == UpstreamProtocol::H1 {
            parts.headers.remove(CONTENT_LENGTH);
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// Takes off a request what ends here; says which upgrade it asks for.
pub fn receive_request(request: Unread<'_>, route: &Route, pass: &Pass) -> Option<Upgrade> {
    let may_upgrade = request.version() == Version::HTTP_11 && pass.upstream.config().protocol == UpstreamProtocol::H1;
    let fields = request.headers_mut();
    if route.config.compress.is_some() {
        etag::take_off_marks(fields);
    }
    hop_by_hop::remove(fields, Trailers::Forward).filter(|_| may_upgrade)
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

/// The host as the client names it: its field, or over HTTP/2 the authority.
fn client_host<B>(request: &Request<B>) -> Result<HeaderValue, Reason> {
    if let Some(host) = request.headers().get(HOST) {
        return Ok(host.clone());
    }
    let authority = request.uri().authority().ok_or(Reason::HostMissing)?;
    HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::HostInvalid)
}
