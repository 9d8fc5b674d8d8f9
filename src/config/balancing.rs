//! What an upstream does about endpoints that fail or are full, and which one a key belongs to. Shares are in percent.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

/// The key that keeps requests to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    ClientIp,
    Path,
    Field(HeaderName),
    Cookie(String),
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client-ip"),
            Self::Path => f.write_str("path"),
            Self::Field(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// When an endpoint answers so much worse than the others that it is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    pub share: u32,
    pub requests: u32,
    pub window: Duration,
    pub status: Vec<RangeInclusive<u16>>,
    pub ejected_max: u32,
}

/// When an upstream is not asked for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    pub failures: u32,
    pub window: Duration,
    /// Of the latest requests, in percent.
    pub share: u32,
    pub open: Duration,
    /// Responses that count as failures.
    pub status: Vec<RangeInclusive<u16>>,
}

/// When a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all for a request that may be sent again: 2 is one retry.
    pub attempts: u32,
    /// Responses that are taken for failures.
    pub status: Vec<RangeInclusive<u16>>,
    /// The first pause; each is twice the one before.
    pub backoff: Duration,
    /// The share of the latest requests that may be retries.
    pub budget_percent: u32,
}

/// Who waits for room at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub requests_max: usize,
    pub timeout: Duration,
}
