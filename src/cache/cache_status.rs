//! What the cache did with a request, as `Cache-Status` (RFC 9211) and `X-Cache` say it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::header::write_integer;
use crate::spare;

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Answered from what was stored.
    Hit {
        /// What is left of the lifetime; negative if it is over.
        ttl_s: i64,
        detail: Option<&'static str>,
    },
    Forwarded(Forwarded),
}

/// A request that went on to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    pub why: Forward,
    /// That of the origin. It is told only if it is not the one that the client sees, as after a 304 to a validation.
    pub status: Option<StatusCode>,
    pub stored: bool,
    /// The request waited for the fetch of another one and was answered by it.
    pub collapsed: bool,
    pub ttl_s: Option<i64>,
    pub detail: Option<&'static str>,
}

impl Forwarded {
    /// Of a request that nobody shares and whose response is not kept.
    pub fn passed(why: Forward, detail: Option<&'static str>) -> Self {
        Self { why, status: None, stored: false, collapsed: false, ttl_s: None, detail }
    }
}

/// Why a request went on to the origin (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was told not to handle it.
    Bypass,
    /// No response to such a method is stored.
    Method,
    /// Nothing is stored for this key.
    UriMiss,
    /// There are stored responses for the key, but for other requests.
    VaryMiss,
    /// There is a fresh response that the request itself did not want.
    Request,
    Stale,
}

impl Forward {
    #[cfg(test)]
    const ALL: [Self; 6] = [Self::Bypass, Self::Method, Self::UriMiss, Self::VaryMiss, Self::Request, Self::Stale];

    /// As the field says it, and logs and metrics after it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

impl Said {
    /// The value of `Cache-Status`, one item of its list.
    fn value(&self) -> HeaderValue {
        let mut text = spare::text();
        write(self, &mut text);
        // Nothing but printable ASCII is written, so it is a value.
        let value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("tollgate"));
        spare::keep_text(text);
        value
    }

    /// The value of `X-Cache`: whether the origin was spared.
    pub fn x_cache(&self) -> &'static str {
        match self {
            Self::Hit { .. } => "HIT",
            Self::Forwarded(_) => "MISS",
        }
    }
}

/// Adds the last item of `Cache-Status`. The list begins at the origin (RFC 9211 §2), so what caches before this one
/// said stays in front. Several lines are one list.
pub fn append(fields: &mut HeaderMap, outcome: &Said) {
    fields.append(&CACHE_STATUS, outcome.value());
}

/// Writes that item. It is printable ASCII.
pub fn write(said: &Said, out: &mut Vec<u8>) {
    out.extend_from_slice(b"tollgate; ");
    said.write(out);
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        out.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Said {
    /// The parameters of the item, in the order of RFC 9211 §2.
    fn write(&self, out: &mut Vec<u8>) {
        let (ttl_s, detail) = match self {
            Self::Hit { ttl_s, detail } => {
                out.extend_from_slice(b"hit");
                (Some(*ttl_s), *detail)
            }
            Self::Forwarded(forwarded) => {
                forwarded.write(out);
                (forwarded.ttl_s, forwarded.detail)
            }
        };
        if let Some(ttl_s) = ttl_s {
            out.extend_from_slice(b"; ttl=");
            write_integer(ttl_s.clamp(-INTEGER_MAX, INTEGER_MAX), out);
        }
        if let Some(detail) = detail {
            write_detail(detail, out);
        }
    }
}

/// What an Integer of RFC 8941 §3.3.1 can be.
const INTEGER_MAX: i64 = 999_999_999_999_999;

impl Forwarded {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"fwd=");
        out.extend_from_slice(self.why.code().as_bytes());
        if let Some(status) = self.status {
            out.extend_from_slice(b"; fwd-status=");
            write_integer(status.as_u16(), out);
        }
        for (is_set, name) in [(self.stored, "; stored"), (self.collapsed, "; collapsed")] {
            if is_set {
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

/// As a Token if it is one, else as a String (RFC 8941 §3.3), in which only printable ASCII can stand.
fn write_detail(detail: &str, out: &mut Vec<u8>) {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let begins = detail.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
    out.extend_from_slice(b"; detail=");
    if begins && detail.bytes().all(is_token_byte) {
        return out.extend_from_slice(detail.as_bytes());
    }
    out.push(b'"');
    for byte in detail.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows::fields;

    const MISS: Forwarded =
        Forwarded { why: Forward::UriMiss, status: None, stored: false, collapsed: false, ttl_s: None, detail: None };

    #[track_caller]
    fn check(outcome: Said, expected: &str, x_cache: &str) {
        assert_eq!(outcome.value(), format!("tollgate; {expected}"));
        assert_eq!(outcome.x_cache(), x_cache);
    }

    #[test]
    fn hits() {
        let hit = |ttl_s, detail| Said::Hit { ttl_s, detail };
        check(hit(376, None), "hit; ttl=376", "HIT");
        check(hit(0, None), "hit; ttl=0", "HIT");
        check(hit(-412, Some("stale-while-revalidate")), "hit; ttl=-412; detail=stale-while-revalidate", "HIT");
        check(hit(i64::MAX, None), "hit; ttl=999999999999999", "HIT");
        check(hit(i64::MIN, None), "hit; ttl=-999999999999999", "HIT");
    }

    #[test]
    fn what_went_to_the_origin() {
        for (forwarded, expected) in [
            (MISS, "fwd=uri-miss"),
            (Forwarded { stored: true, ttl_s: Some(60), ..MISS }, "fwd=uri-miss; stored; ttl=60"),
            (Forwarded { collapsed: true, ..MISS }, "fwd=uri-miss; collapsed"),
            (
                Forwarded {
                    why: Forward::Stale,
                    status: Some(StatusCode::NOT_MODIFIED),
                    stored: true,
                    collapsed: true,
                    ttl_s: Some(-1),
                    detail: Some("a"),
                },
                "fwd=stale; fwd-status=304; stored; collapsed; ttl=-1; detail=a",
            ),
            (
                Forwarded { why: Forward::Bypass, detail: Some("request-body"), ..MISS },
                "fwd=bypass; detail=request-body",
            ),
        ] {
            check(Said::Forwarded(forwarded), expected, "MISS");
        }
        for why in Forward::ALL {
            check(Said::Forwarded(Forwarded { why, ..MISS }), &format!("fwd={}", why.code()), "MISS");
        }
    }

    #[test]
    fn a_detail_is_a_token_or_a_string() {
        for (detail, expected) in [
            ("hit-for-miss", "hit-for-miss"),
            ("*", "*"),
            ("a:b/c", "a:b/c"),
            ("", "\"\""),
            ("5xx", "\"5xx\""),
            ("too large", "\"too large\""),
            ("a\"\\b", r#""a\"\\b""#),
            ("a\r\nb\u{e9}", "\"ab\""),
        ] {
            let outcome = Said::Forwarded(Forwarded { detail: Some(detail), ..MISS });
            check(outcome, &format!("fwd=uri-miss; detail={expected}"), "MISS");
        }
    }

    #[test]
    fn the_last_item_is_that_of_the_cache_nearest_to_the_client() {
        let mut response = fields("cache-status: origin; hit\ncache-status: \"a, b\"; fwd=miss");
        append(&mut response, &Said::Hit { ttl_s: 1, detail: None });
        let expected =
            "cache-status: origin; hit\ncache-status: \"a, b\"; fwd=miss\ncache-status: tollgate; hit; ttl=1";
        assert_eq!(response, fields(expected));
    }
}
