//! What the guard demands of an HTTP/1.1 head, demanded of a request that came over HTTP/2.
//!
//! The codec has judged what RFC 9113 calls malformed and could see. What is left are the limits, and what would
//! read differently in the HTTP/1.1 request that is made of it.

use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{Method, Request};

use super::head::{BODY_BYTES_MAX, FIELDS_MAX, TARGET_BYTES_MAX};
use super::reject::Reason;
use crate::header::{REQUEST_FIELDS_ADDED, framing};

/// Of one head, unpacked, with 32 bytes for each field (RFC 9113 §6.5.2).
pub const H2_HEAD_BYTES_MAX: u32 = 16 * 1024;

/// A head up to this size, with as many fields, is an ordinary one.
const ORDINARY_BYTES: usize = 4 * 1024;
const ORDINARY_FIELDS: usize = 32;
const FIELD_BYTES: usize = 32;
/// What a place for a field takes in the map, of which a quarter stays free and which doubles as it grows.
const PLACE_BYTES: usize = 82;

/// What a head counts in the budgets of heads: its size by RFC 9113, or, for one that is not ordinary, the memory that
/// it takes, with the copy for the endpoint. So a connection has room for many heads as they are, and for few bombs.
pub fn head_cost<B>(request: &Request<B>) -> usize {
    let (uri, fields) = (request.uri(), request.headers());
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let of_fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let bytes = target + authority + of_fields;
    let size = bytes + (fields.len() + 4) * FIELD_BYTES;
    if size <= ORDINARY_BYTES && fields.len() <= ORDINARY_FIELDS {
        return size;
    }
    let places = ((fields.len() + REQUEST_FIELDS_ADDED) * 4 / 3).next_power_of_two();
    size.max(bytes + bytes / 2 + places * PLACE_BYTES)
}

/// Judges the head of a request.
pub fn check_h2<B>(request: &Request<B>) -> Result<(), Reason> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Reason::MethodNotAllowed);
    }
    let uri = request.uri();
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Reason::BadScheme);
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return Err(Reason::TargetTooLong);
    }
    let fields = request.headers();
    if fields.len() > FIELDS_MAX {
        return Err(Reason::TooManyFields);
    }
    // RFC 9113 §8.2.1: over HTTP/1.1 the white space would go, and with it what an origin compares.
    let is_padded = |value: &[u8]| matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if fields.values().any(|value| is_padded(value.as_bytes())) {
        return Err(Reason::BadFieldValue);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Reason::RepeatedContentLength),
        (Some(length), None) => match framing::length(length.as_bytes()) {
            Some(..=BODY_BYTES_MAX) => Ok(()),
            _ => Err(Reason::BadContentLength),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> http::request::Builder {
        Request::builder().uri("https://a/x")
    }

    fn check(request: http::request::Builder, expected: Result<(), Reason>) {
        let request = request.body(()).unwrap();
        assert_eq!(check_h2(&request), expected, "{request:?}");
    }

    #[test]
    fn ordinary_requests_pass() {
        check(request(), Ok(()));
        check(request().method("POST").header("content-length", "9223372036854775807"), Ok(()));
        check(request().header("a", "").header("b", "x y"), Ok(()));
        check((0..FIELDS_MAX).fold(request(), |request, n| request.header(format!("x-{n}"), "1")), Ok(()));
    }

    #[test]
    fn what_the_guard_refuses_over_http1_is_refused() {
        check(request().method("CONNECT"), Err(Reason::MethodNotAllowed));
        check(request().method("TRACE"), Err(Reason::MethodNotAllowed));
        check(request().uri("ftp://a/x"), Err(Reason::BadScheme));
        check(request().uri(format!("https://a/{}", "x".repeat(TARGET_BYTES_MAX))), Err(Reason::TargetTooLong));
        let crowded = (0..=FIELDS_MAX).fold(request(), |request, _| request.header("x", "1"));
        check(crowded, Err(Reason::TooManyFields));
        for value in [" x", "x ", "\tx", "x\t", " "] {
            check(request().header("a", value), Err(Reason::BadFieldValue));
        }
        check(
            request().header("content-length", "3").header("content-length", "3"),
            Err(Reason::RepeatedContentLength),
        );
        for value in ["+3", "3, 3", "0x3", "", "9223372036854775808"] {
            check(request().header("content-length", value), Err(Reason::BadContentLength));
        }
    }
}
