//! A checked route: which requests it is for, and what is done with them.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;

use super::{Compress, HostPattern, RouteCache, Timeouts};

/// What metrics call requests that no route took, so no route is named like that.
pub const NO_ROUTE: &str = "none";
/// What metrics call what is too much to be told apart, so no route is named like that either.
pub const OTHERS: &str = "other";

#[derive(Debug, Clone)]
pub struct Route {
    /// Its `name`, or one made of its path and, where others have the same path, its hosts: a label from a closed set,
    /// and no other route's.
    pub name: String,
    /// Where it stands, for messages: `config.toml:12`.
    pub origin: String,
    pub hosts: Vec<HostPattern>,
    pub path: PathMatch,
    pub action: Action,
    /// Networks let in; empty lets in all. `deny` wins over `allow`.
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    pub request_fields: FieldEdits,
    pub response_fields: FieldEdits,
    /// Requests in flight; 0 is no limit.
    pub requests_max: usize,
    pub access_log: bool,
    /// Names of limits.
    pub rate_limit: Vec<String>,
    pub body_max: u64,
    /// None if its responses are passed as they come.
    pub compress: Option<Compress>,
    /// Its responses repeat what the client sent.
    pub reflects_input: bool,
}

#[derive(Debug, Clone)]
pub enum PathMatch {
    /// That path and what lies below it, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    Exact(String),
    Regex(regex::Regex),
}

impl PathMatch {
    /// As the file writes it.
    pub fn text(&self) -> &str {
        match self {
            Self::Prefix(path) | Self::Exact(path) => path,
            Self::Regex(pattern) => pattern.as_str(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Action {
    Proxy(Box<ProxyPass>),
    /// `{host}`, `{path}` and `{uri}` (path and query) are filled in.
    Redirect {
        to: String,
        status: StatusCode,
    },
    Text {
        body: String,
        status: StatusCode,
    },
    /// nginx's stub status page.
    StubStatus,
}

#[derive(Debug, Clone)]
pub struct ProxyPass {
    pub upstream: String,
    pub host: HostPolicy,
    pub path: PathRewrite,
    pub timeout: Timeouts,
    pub buffer: Buffer,
    /// The largest answer that is hashed for an entity tag, where it is not kept and its origin gave none.
    pub etag_body_max: Option<usize>,
    /// None: responses are not kept.
    pub cache: Option<RouteCache>,
    /// None: a plain page that names the reason.
    pub fallback: Option<Fallback>,
}

/// A page in place of a response that the upstream does not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// None: that of the failure.
    pub status: Option<StatusCode>,
    pub body: Bytes,
    pub content_type: HeaderValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    Preserve,
    /// The endpoint's own name or address.
    Upstream,
    Fixed(HeaderValue),
}

#[derive(Debug, Clone)]
pub enum PathRewrite {
    Keep,
    StripPrefix(String),
    Regex { pattern: regex::Regex, to: Box<Replacement> },
}

/// What stands in place of a match; `$1`, `${name}` are the groups of the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub path: String,
    pub query: Option<NewQuery>,
}

/// Arguments that a rewrite makes, as in nginx: the request's own follow them, unless a `?` ends the replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuery {
    /// May be empty.
    pub arguments: String,
    pub keeps_own: bool,
}

/// As the file writes it.
impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.query {
            None => Ok(()),
            Some(NewQuery { arguments, keeps_own: true }) => write!(f, "?{arguments}"),
            Some(NewQuery { arguments, .. }) if arguments.is_empty() => f.write_str("?"),
            Some(NewQuery { arguments, .. }) => write!(f, "?{arguments}?"),
        }
    }
}

/// Bytes read ahead of the slower side, so that slow clients do not hold endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    pub request: usize,
    pub response: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

impl FieldEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

impl PartialEq for PathRewrite {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keep, Self::Keep) => true,
            (Self::StripPrefix(one), Self::StripPrefix(other)) => one == other,
            (Self::Regex { pattern, to }, Self::Regex { pattern: other, to: other_to }) => {
                pattern.as_str() == other.as_str() && to == other_to
            }
            _ => false,
        }
    }
}
