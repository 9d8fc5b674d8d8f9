//! A stored response as the answer to one request: the whole, a part, or that nothing has changed.

use std::time::{Duration, Instant, SystemTime};

use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::Found;
use super::cache_status::{self, Said};
use super::conditional::{self, Validators, Verdict};
use super::policy::Terms;
use super::range::{self, Multipart, Piece, Selection, Slice};
use super::stored::Stored;
use crate::body::Body;
use crate::spare;

/// Room for what an answer says beside what is stored.
const FIELDS_ADDED: usize = 4;

/// What a request says of the answer that it wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub method: &'a Method,
    /// As the client sent them.
    pub fields: &'a HeaderMap,
}

/// Makes the answer. `boundary` makes a random number, for an answer in parts.
pub fn deliver(found: &Found, wanted: Wanted<'_>, now: Instant, boundary: fn() -> u128) -> Response<Body> {
    let stored = &*found.stored;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = stored.status;
    *response.headers_mut() = copy(&stored.fields);
    response.headers_mut().insert(AGE, whole_seconds(found.terms().age(now)).into());
    // Preconditions and ranges are about a 200 (RFC 9110 §13.2.1, §14.2).
    if stored.status != StatusCode::OK || wants_whole(wanted.fields) {
        *response.body_mut() = stored.content.body();
        return response;
    }
    let verdict = {
        let validators = Validators { response: &stored.fields, received: stored.received, is_stored: true };
        conditional::evaluate(wanted.method, wanted.fields, &validators)
    };
    match verdict {
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            conditional::not_modified(response.headers_mut());
        }
        Verdict::Send => select(stored, wanted, &mut response, boundary),
    }
    response
}

/// Whether a request has neither preconditions nor a range: so it is with nearly all, and one look at each field is less
/// than a search for each that may be there.
pub(super) fn wants_whole(request: &HeaderMap) -> bool {
    !request.keys().any(|name| matches!(*name, IF_NONE_MATCH | IF_MODIFIED_SINCE | RANGE))
}

/// A copy in a map that has its room already.
fn copy(stored: &HeaderMap) -> HeaderMap {
    let mut fields = spare::fields();
    fields.reserve(stored.len() + FIELDS_ADDED);
    for (name, value) in stored {
        fields.append(name, value.clone());
    }
    fields
}

fn select(stored: &Stored, wanted: Wanted<'_>, response: &mut Response<Body>, boundary: fn() -> u128) {
    let validators = Validators { response: &stored.fields, received: stored.received, is_stored: true };
    let selection = match (range::asked(wanted.method, wanted.fields, &validators), stored.content.length()) {
        (Some(range), Some(length)) => (range::select(range.as_bytes(), length), length),
        // How much there is decides whether a range can be satisfied.
        _ => (Selection::Whole, 0),
    };
    match selection {
        (Selection::Whole, _) => *response.body_mut() = stored.content.body(),
        (Selection::Single(slice), length) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let fields = response.headers_mut();
            fields.insert(CONTENT_RANGE, slice.content_range(length));
            fields.insert(CONTENT_LENGTH, slice.length().into());
            *response.body_mut() = stored.content.part(slice.first, slice.last + 1);
        }
        (Selection::Several(slices), length) => several(stored, &slices, length, response, boundary()),
        (Selection::Unsatisfiable, length) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let fields = response.headers_mut();
            fields.insert(CONTENT_RANGE, range::unsatisfied(length));
            fields.remove(CONTENT_LENGTH);
            fields.remove(CONTENT_TYPE);
        }
    }
}

/// Parts of a body that has not come yet are not waited for: the whole says as much.
fn several(stored: &Stored, slices: &[Slice], length: u64, response: &mut Response<Body>, boundary: u128) {
    let parts = Multipart::new(slices, length, stored.fields.get(CONTENT_TYPE), boundary);
    let mut pieces = Vec::new();
    for piece in parts.pieces() {
        match piece {
            Piece::Head(bytes) | Piece::Tail(bytes) => pieces.push(bytes),
            Piece::Slice(slice) => match stored.content.slices(slice.first, slice.last + 1) {
                Some(slices) => pieces.extend(slices),
                None => {
                    *response.body_mut() = stored.content.body();
                    return;
                }
            },
        }
    }
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, parts.content_type());
    fields.insert(CONTENT_LENGTH, parts.content_length().into());
    *response.body_mut() = Body::pieces(pieces);
}

/// A response that is not kept, for a client whose preconditions the origin was not told.
pub fn settle_passed(response: &mut Response<Body>, wanted: Wanted<'_>, received: SystemTime) {
    if response.status() != StatusCode::OK {
        return;
    }
    let verdict = {
        let validators = Validators { response: response.headers(), received, is_stored: false };
        conditional::evaluate(wanted.method, wanted.fields, &validators)
    };
    if verdict == Verdict::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        conditional::not_modified(response.headers_mut());
        *response.body_mut() = Body::empty();
    }
}

/// Says what this cache did.
pub fn annotate(fields: &mut HeaderMap, said: &Said) {
    cache_status::append(fields, said);
    fields.insert("x-cache", HeaderValue::from_static(said.x_cache()));
}

/// The lifetime that clients are told, in place of what the origin says. What has passed of it here is added, for
/// they subtract the `Age`.
pub fn tell_clients(fields: &mut HeaderMap, lifetime: Duration, terms: &Terms, now: Instant) {
    let more = if terms.no_transform() { ", no-transform" } else { "" };
    let value = format!("max-age={}{more}", whole_seconds(lifetime.saturating_add(terms.age(now))));
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(http::header::CACHE_CONTROL, value);
        fields.remove(http::header::EXPIRES);
    }
}

/// Ages go to 2^31 (RFC 9111 §1.2.2).
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().min(1 << 31)
}
