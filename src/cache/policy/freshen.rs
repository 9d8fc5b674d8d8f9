//! How a newer response changes a stored one (RFC 9111 §3.2, §4.3.4, §4.3.5), and the fields that are not kept.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderValue, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, StatusCode};

use super::Rules;
use crate::cache::cache_control::Directives;
use crate::header::hop_by_hop::{self, Trailers};

/// They describe the bytes of the stored body, which stay. Of 304 responses they often are about an empty one
/// (RFC 9111 §3.2 lets a cache keep what its stored response depends upon).
static OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// What a response to HEAD says about the stored response to GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadEffect {
    /// It is of the same representation: [`freshen`] it.
    Freshen,
    /// It is of another one: what is stored is stale from now on.
    Outdated,
    Nothing,
}

/// Whether a 304 is about this stored response (RFC 9111 §4.3.4), which alone was asked for. If not, the request has to
/// be sent again without the validators.
///
/// Tags are compared weakly: origins that code as they send weaken the tag of a 200 and not that of a 304.
pub fn concerns(stored: &HeaderMap, validated: &HeaderMap) -> bool {
    match (validated.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => opaque(new) == opaque(old),
        (Some(_), None) | (None, _) => same_or_absent(LAST_MODIFIED, stored, validated),
    }
}

/// Takes over what a 304, or a 200 to HEAD, says about a stored response.
///
/// `Set-Cookie` is for the one who asked: it is not stored unless the rules say so, and who sends the response adds it
/// for that client.
pub fn freshen(stored: &mut HeaderMap, validated: &HeaderMap, rules: &Rules) {
    let mut newer = validated.clone();
    hop_by_hop::remove(&mut newer, Trailers::Drop);
    // The stored response is as old as the newer one says, by its own clock.
    for name in [AGE, DATE] {
        stored.remove(name);
    }
    for name in newer.keys() {
        let keeps = OF_THE_BODY.contains(name) && (stored.contains_key(name) || *name != ETAG);
        if keeps || (*name == SET_COOKIE && !rules.store_set_cookie) {
            continue;
        }
        let mut lines = newer.get_all(name).iter().cloned();
        if let Some(first) = lines.next() {
            stored.insert(name.clone(), first);
        }
        for line in lines {
            stored.append(name.clone(), line);
        }
    }
}

/// Judges a response to HEAD beside the stored response to GET and the length of its body.
pub fn head_effect(status: StatusCode, head: &HeaderMap, stored: &HeaderMap, body_bytes: u64) -> HeadEffect {
    if status != StatusCode::OK {
        return HeadEffect::Nothing;
    }
    let same_length =
        head.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == body_bytes.to_string().as_bytes());
    if same_length && same_or_absent(ETAG, stored, head) && same_or_absent(LAST_MODIFIED, stored, head) {
        HeadEffect::Freshen
    } else {
        HeadEffect::Outdated
    }
}

/// Removes the fields that may be sent to the client that asked and not be kept for others
/// (RFC 9111 §5.2.2.4, §5.2.2.7).
pub fn strip(fields: &mut HeaderMap, directives: &Directives) {
    for name in directives.no_cache.fields().iter().chain(directives.private.fields()) {
        fields.remove(name);
    }
}

/// The newer response does not say otherwise.
fn same_or_absent(name: HeaderName, stored: &HeaderMap, newer: &HeaderMap) -> bool {
    newer.get(&name).is_none_or(|value| stored.get(&name) == Some(value))
}

/// An entity tag without its mark of weakness.
fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes().trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}
