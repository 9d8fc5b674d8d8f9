//! `X-Request-ID`: the name of a request in the logs of everyone who touched it.
//!
//! It decides whose name counts. Randomness is an argument.

use http::header::{Entry, OccupiedEntry};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BYTES_MAX: usize = 128;

/// The name that a request has.
#[derive(Debug, Clone)]
pub struct RequestId(Text);

#[derive(Debug, Clone)]
enum Text {
    /// Made here: hex digits, as many as a trace id has.
    Fresh([u8; 32]),
    /// By a trusted peer.
    Given(HeaderValue),
}

impl RequestId {
    pub fn fresh(random: u128) -> Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = [0; 32];
        for (at, digit) in text.iter_mut().rev().enumerate() {
            *digit = DIGITS[(random >> (4 * at) & 15) as usize];
        }
        Self(Text::Fresh(text))
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Fresh(digits) => digits,
            Text::Given(value) => value.as_bytes(),
        }
    }

    /// Whether it is the name that the request came with.
    pub fn is_given(&self) -> bool {
        matches!(self.0, Text::Given(_))
    }

    pub fn as_str(&self) -> &str {
        // Either is of ASCII.
        str::from_utf8(self.as_bytes()).unwrap_or("-")
    }

    pub fn value(&self) -> HeaderValue {
        match &self.0 {
            Text::Fresh(digits) => HeaderValue::from_bytes(digits).unwrap_or_else(|_| HeaderValue::from_static("-")),
            Text::Given(value) => value.clone(),
        }
    }
}

/// Keeps the one sane name that a trusted peer gave, and sets a fresh one in any other case. The answer is
/// the name that the request now has.
pub fn settle(fields: &mut HeaderMap, via_trusted: bool, fresh: impl FnOnce() -> RequestId) -> RequestId {
    match fields.entry(X_REQUEST_ID) {
        Entry::Occupied(given) if via_trusted && is_sane_alone(&given) => RequestId(Text::Given(given.get().clone())),
        Entry::Occupied(mut given) => {
            let id = fresh();
            given.insert(id.value());
            id
        }
        Entry::Vacant(place) => {
            let id = fresh();
            place.insert(id.value());
            id
        }
    }
}

fn is_sane_alone(given: &OccupiedEntry<'_, HeaderValue>) -> bool {
    let mut lines = given.iter();
    lines.next().is_some_and(|id| is_sane(id.as_bytes())) && lines.next().is_none()
}

/// What UUIDs, ULIDs, trace ids and base64 are made of; nothing that a log or a shell would read twice.
fn is_sane(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    (1..=BYTES_MAX).contains(&id.len()) && id.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{fields, text};
    use super::*;

    const FRESH: &str = "00000000000000000000000000000007";

    #[track_caller]
    fn check(via_trusted: bool, before: &str, expected: &str) {
        let mut map = fields(before);
        let id = settle(&mut map, via_trusted, || RequestId::fresh(7));
        assert_eq!((id.as_str(), id.is_given()), (expected, expected != FRESH));
        assert_eq!(text(&map), format!("x-request-id: {expected}"));
    }

    #[test]
    fn whose_name_counts() {
        check(true, "", FRESH);
        check(false, "x-request-id: theirs", FRESH);
        check(true, "x-request-id: 5f0c-A_z.1:2+/=@", "5f0c-A_z.1:2+/=@");
        check(true, "x-request-id:", FRESH);
        check(true, "x-request-id: a b", FRESH);
        check(true, "x-request-id: ${jndi}", FRESH);
        check(true, "x-request-id: a\nx-request-id: b", FRESH);
        check(true, &format!("x-request-id: {}", "a".repeat(BYTES_MAX + 1)), FRESH);
    }

    #[test]
    fn a_fresh_name_is_hex() {
        for (random, expected) in [
            (0, "00000000000000000000000000000000"),
            (u128::MAX, "ffffffffffffffffffffffffffffffff"),
            (0x0123_4567_89ab_cdef, "00000000000000000123456789abcdef"),
        ] {
            let id = RequestId::fresh(random);
            assert_eq!((id.as_str(), id.value()), (expected, HeaderValue::from_static(expected)));
        }
    }
}
