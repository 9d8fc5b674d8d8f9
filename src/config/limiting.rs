//! The checked configuration of rate limits.

use std::fmt;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

/// So many limits a route can have.
pub const ROUTE_LIMITS_MAX: usize = 8;

/// One limit, which any number of routes can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// A label of metrics, and the name in `RateLimit` fields: letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub quota: Quota,
    /// Clients that it is not for.
    pub exempt: Vec<IpNet>,
    /// Nothing is refused; what would be is counted.
    pub dry_run: bool,
    pub headers: LimitHeaders,
    /// The most keys that are counted at a time.
    pub keys_max: usize,
}

/// What makes the counts of a limit what they are: where it changes, counting begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub key: LimitKey,
    /// Addresses of IPv6 that have so many bits in common are one client.
    pub ipv6_prefix: u8,
    pub requests: u32,
    /// Whole seconds.
    pub window: Duration,
    pub algorithm: Algorithm,
}

/// What tells apart those whom a limit counts each for himself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    ClientIp,
    /// The value of a field of the request.
    Field(HeaderName),
    Route,
    /// All requests together.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Never more than `requests` in any `window`.
    Window,
    /// Never more than `burst` and `requests` together in any `window`, and evenly after the burst.
    Gcra { burst: u32 },
}

/// Which fields tell clients of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHeaders {
    Off,
    /// `RateLimit` and `RateLimit-Policy`.
    Draft,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    X,
    Both,
}

/// As the file writes it.
impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client-ip"),
            Self::Field(name) => write!(f, "header:{name}"),
            Self::Route => f.write_str("route"),
            Self::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window => f.write_str("window"),
            Self::Gcra { burst } => write!(f, "gcra with a burst of {burst}"),
        }
    }
}
