//! `X-Request-ID`: the name of a request in the logs of everyone who touched it.
//!
//! It decides whose name counts. Randomness is an argument.

use http::header::{Entry, OccupiedEntry};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BYTES_MAX: usize = 128;

/// Keeps the one sane name that a trusted peer gave, and sets a fresh one in any other case. The answer is
/// the name that the request now has.
pub fn settle(fields: &mut HeaderMap, via_trusted: bool, fresh: impl FnOnce() -> HeaderValue) -> HeaderValue {
    match fields.entry(X_REQUEST_ID) {
        Entry::Occupied(given) if via_trusted && is_sane_alone(&given) => given.get().clone(),
        Entry::Occupied(mut given) => {
            let id = fresh();
            given.insert(id.clone());
            id
        }
        Entry::Vacant(place) => place.insert(fresh()).clone(),
    }
}

/// 32 hex digits, as long as a trace id.
pub fn value(random: u128) -> HeaderValue {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().rev().enumerate() {
        *digit = DIGITS[(random >> (4 * at) & 15) as usize];
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
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

    #[track_caller]
    fn check(via_trusted: bool, before: &str, expected: &str) {
        let mut map = fields(before);
        let id = settle(&mut map, via_trusted, || HeaderValue::from_static("fresh"));
        assert_eq!(id, expected);
        assert_eq!(text(&map), format!("x-request-id: {expected}"));
    }

    #[test]
    fn whose_name_counts() {
        check(true, "", "fresh");
        check(false, "x-request-id: theirs", "fresh");
        check(true, "x-request-id: 5f0c-A_z.1:2+/=@", "5f0c-A_z.1:2+/=@");
        check(true, "x-request-id:", "fresh");
        check(true, "x-request-id: a b", "fresh");
        check(true, "x-request-id: ${jndi}", "fresh");
        check(true, "x-request-id: a\nx-request-id: b", "fresh");
        check(true, &format!("x-request-id: {}", "a".repeat(BYTES_MAX + 1)), "fresh");
    }

    #[test]
    fn a_fresh_name_is_hex() {
        assert_eq!(value(0), "00000000000000000000000000000000");
        assert_eq!(value(u128::MAX), "ffffffffffffffffffffffffffffffff");
        assert_eq!(value(0x0123_4567_89ab_cdef), "00000000000000000123456789abcdef");
    }
}
