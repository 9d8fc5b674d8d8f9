//! The heads of messages: what is taken off them and added to them on the way, and the answers that the edge itself
//! gives.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

use crate::body::Body;
use crate::clock;
use crate::config::Fallback;
use crate::error::Reason;
use crate::header::hop_by_hop::{self, Trailers, announce_upgrade};
use crate::header::request_id::RequestId;
use crate::header::via;
use crate::snapshot::HeldRoute;

/// Takes off a response what ends here.
pub fn receive(response: &mut Response<Body>) {
    let (received, status) = (response.version(), response.status());
    let fields = response.headers_mut();
    let upgrade = hop_by_hop::remove(fields, Trailers::Forward);
    // It says which protocol is asked for (RFC 9110 §15.5.22), and any can be had through the edge.
    if status == StatusCode::UPGRADE_REQUIRED {
        announce_upgrade(fields, upgrade.as_ref());
    }
    keep_one_date(fields);
    via::append(fields, received);
}

/// There is one date (RFC 9110 §6.6.1), and who is told two takes either.
fn keep_one_date(fields: &mut HeaderMap) {
    let mut dates = fields.get_all(DATE).iter();
    if let (Some(first), Some(_)) = (dates.next(), dates.next()) {
        let first = first.clone();
        fields.insert(DATE, first);
    }
}

pub fn redirect(location: HeaderValue, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

pub fn text(body: Bytes, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A route's own page in place of a response that failed with `status`.
pub fn fallback(page: &Fallback, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(page.body.clone()));
    *response.status_mut() = page.status.unwrap_or(status);
    response.headers_mut().insert(CONTENT_TYPE, page.content_type.clone());
    response
}

/// For a request that came without an id that may be believed.
pub fn fresh_id() -> RequestId {
    RequestId::fresh(fastrand::u128(..))
}

/// In seconds: when a breaker lets the next request through, and otherwise soon.
pub fn retry_after(reason: Reason, route: Option<&HeldRoute>) -> HeaderValue {
    let upstream = route.and_then(|route| route.upstream()).filter(|_| reason == Reason::BreakerOpen);
    match upstream.and_then(|upstream| upstream.pool.breaker()) {
        Some(breaker) => breaker.retry_after(clock::now().into_std()).as_secs().into(),
        None => HeaderValue::from_static("1"),
    }
}

/// What a HEAD is told of the content is its length (RFC 9110 §9.3.2).
pub fn leave_out_content(response: &mut Response<Body>) {
    if response.body().is_end_stream() {
        return;
    }
    if response.status() != StatusCode::NO_CONTENT
        && let Some(length) = response.body().size_hint().exact()
    {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    *response.body_mut() = Body::empty();
}
