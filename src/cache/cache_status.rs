//! What the cache did, as `Cache-Status` (RFC 9211) and `X-Cache` say it.
use http::{HeaderMap, HeaderValue, StatusCode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The lifetime that is left; negative if it is stale.
    Hit {
        ttl_s: i64,
        detail: Option<&'static str>,
    },
    Forwarded(Forwarded),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    pub why: Forward,
    /// The status of the origin, if it differs from that of the response.
    pub status: Option<StatusCode>,
    pub stored: bool,
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

/// RFC 9211 §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Miss,
    Request,
    Stale,
    Partial,
}

/// Adds what this cache did behind what those nearer to the origin said.
pub fn append(_fields: &mut HeaderMap, _outcome: &Outcome) {
    unimplemented!()
}

/// `HIT` or `MISS`.
pub fn x_cache(_outcome: &Outcome) -> HeaderValue {
    unimplemented!()
}
