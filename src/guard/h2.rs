//! What the guard demands of an HTTP/1.1 head, demanded of a request that came over HTTP/2.
//!
//! The codec has judged what RFC 9113 calls malformed and could see. What is left are the limits, and what would
//! read differently in the HTTP/1.1 request that is made of it.

use http::header::{CONTENT_LENGTH, COOKIE};
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

/// What is sent is coded: letters take five bits at least, and a field costs more by its size than by its bytes.
const SENT_FACTOR: usize = 2;
/// The bytes of a head are in the request, and in a buffer for the endpoint that has grown to hold them.
const COPIES: usize = 3;
/// What a stream takes while its head waits for an answer, beside the head.
const STREAM_BYTES: usize = 12 * 1024;

/// What a head counts in the budgets of heads, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadCost {
    /// Its size by RFC 9113. So there is room for many heads as they are.
    Ordinary(usize),
    /// In the process the memory that it takes, with the copy for the endpoint and with all that its stream takes. So
    /// there is room for few bombs. Its connection counts the same, but for what the client has sent.
    Large { on_connection: usize, in_process: usize },
}

impl HeadCost {
    pub fn of_memory(bytes: usize) -> Self {
        Self::Large { on_connection: bytes, in_process: bytes }
    }
}

/// Of a request whose head was so many bytes on the wire, and whose cookies are in one line.
pub fn head_cost<B>(request: &Request<B>, sent: usize) -> HeadCost {
    let (uri, fields) = (request.uri(), request.headers());
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let of_fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let bytes = target + authority + of_fields;
    let size = bytes + (fields.len() + 4) * FIELD_BYTES;
    if size <= ORDINARY_BYTES && fields.len() <= ORDINARY_FIELDS {
        return HeadCost::Ordinary(size);
    }
    let memory = STREAM_BYTES + size.max(bytes * COPIES + places(fields.len() + REQUEST_FIELDS_ADDED) * PLACE_BYTES);
    // A browser's large head is a few long fields, mostly cookies, and what it unpacks to is no multiple of it. As far as
    // it is, or where the map takes more than the fields, it counts as a bomb does.
    let unpacked = if fields.len() > ORDINARY_FIELDS { size } else { size.saturating_sub(SENT_FACTOR * sent) };
    HeadCost::Large { on_connection: size + (memory - size) * unpacked / size, in_process: memory }
}

/// Of trailers that were so many bytes on the wire, until they are read: what they may unpack to, since nobody knows
/// what they did. A field takes a byte at least.
pub fn trailers_cost(sent: usize) -> HeadCost {
    let bytes_max = H2_HEAD_BYTES_MAX as usize;
    let bytes = sent.saturating_mul(SENT_FACTOR).min(bytes_max);
    HeadCost::of_memory(bytes + places(sent.min(bytes_max / FIELD_BYTES)) * PLACE_BYTES)
}

fn places(fields: usize) -> usize {
    (fields * 4 / 3).next_power_of_two()
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
    // The crumbs of cookies are one field (RFC 9113 §8.2.3).
    let crumbs = fields.get_all(COOKIE).iter().count();
    if fields.len() - crumbs.saturating_sub(1) > FIELDS_MAX {
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
        check((0..=FIELDS_MAX).fold(request(), |request, _| request.header("cookie", "a=b")), Ok(()));
        check((0..FIELDS_MAX).fold(request(), |request, n| request.header(format!("x-{n}"), "1")), Ok(()));
    }

    #[test]
    fn b8_a_head_counts_with_its_size_until_it_is_large() {
        let check = |fields: usize, value: &str, expected| {
            let request = (0..fields).fold(request(), |request, _| request.header("x", value));
            assert_eq!(head_cost(&request.body(()).unwrap(), 0), expected, "{fields} fields of {}", value.len());
        };
        check(0, "", HeadCost::Ordinary(3 + 4 * FIELD_BYTES));
        check(32, "", HeadCost::Ordinary(3 + 32 + 36 * FIELD_BYTES));
        check(33, "", HeadCost::of_memory(STREAM_BYTES + 3 * (3 + 33) + 64 * PLACE_BYTES));
        check(1, &"v".repeat(3900), HeadCost::Ordinary(3901 + 3 + 5 * FIELD_BYTES));
        check(1, &"v".repeat(4000), HeadCost::of_memory(STREAM_BYTES + 3 * (4001 + 3) + 16 * PLACE_BYTES));
    }

    #[test]
    fn b8_a_large_head_counts_with_its_size_on_its_connection_as_far_as_it_was_sent() {
        let check = |fields: usize, length: usize, sent: usize, expected: usize| {
            let request = (0..fields).fold(request(), |request, _| request.header("x", "v".repeat(length)));
            let cost = head_cost(&request.body(()).unwrap(), sent);
            let HeadCost::Large { on_connection, .. } = cost else { panic!("{cost:?}") };
            assert_eq!(on_connection, expected, "{fields} fields of {length} in {sent} bytes");
        };
        let size = 5001 + 3 + 5 * FIELD_BYTES;
        let memory = STREAM_BYTES + 3 * (5001 + 3) + 16 * PLACE_BYTES;
        check(1, 5000, size / 2, size);
        check(1, 5000, size, size);
        check(1, 5000, size / 4, size + (memory - size) / 2);
        check(1, 5000, 0, memory);
        // Many fields take more than their bytes, whoever sends them.
        check(40, 100, 5000, STREAM_BYTES + 3 * (40 * 101 + 3) + 64 * PLACE_BYTES);
    }

    #[test]
    fn b8_trailers_count_with_what_they_may_unpack_to() {
        assert_eq!(trailers_cost(0), HeadCost::of_memory(PLACE_BYTES));
        assert_eq!(trailers_cost(40), HeadCost::of_memory(80 + 64 * PLACE_BYTES));
        for bomb in [512, 16 * 1024, usize::MAX] {
            let HeadCost::Large { in_process, .. } = trailers_cost(bomb) else { panic!("{bomb}") };
            assert!(
                (1024 * PLACE_BYTES..=1024 * PLACE_BYTES + 16 * 1024).contains(&in_process),
                "{bomb}: {in_process}"
            );
        }
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
