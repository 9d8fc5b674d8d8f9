//! The checked configuration of the cache.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::TypePattern;
use crate::division::StoreLimits;
use crate::pattern::Pattern;

/// The store, and what holds for all routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub enabled: bool,
    pub memory: u64,
    pub object_max: u64,
    pub entries_max: usize,
    /// RFC 9213, in the order of their rank.
    pub targets: Vec<HeaderName>,
    pub rules: Vec<CacheRule>,
    /// What goes when something is purged.
    pub dependencies: Vec<Dependency>,
    /// None: it begins empty.
    pub warm: Option<Warm>,
}

/// Pages that are asked for at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// Paths with their queries, or URLs.
    pub pages: Vec<String>,
    pub sitemap: Option<String>,
    pub access_log: Option<PathBuf>,
    /// Pages of the access log.
    pub top: usize,
    pub host: Option<String>,
    /// Requests at the same time.
    pub concurrency: usize,
}

/// What is purged by a name, `*` standing for anything, is followed by these. What begins with `/` is a path, all else
/// a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: Pattern,
    pub dependents: Vec<Pattern>,
}

impl Cache {
    pub fn limits(&self) -> StoreLimits {
        let entries_max = u64::try_from(self.entries_max).unwrap_or(u64::MAX);
        StoreLimits { memory_bytes: self.memory, object_max_bytes: self.object_max, entries_max }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRule {
    pub content_type: TypePattern,
    pub ttl: Ttl,
    pub default_ttl: Option<Duration>,
}

/// Lifetimes that hold in place of what responses say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ttl {
    pub edge: Option<Duration>,
    pub client: Option<Duration>,
}

/// How a route uses the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCache {
    pub default_ttl: Option<Duration>,
    pub ttl: Ttl,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub cookies: CachedCookies,
    pub query: CachedQuery,
    /// Fields of the request that are part of the key.
    pub key_fields: Vec<HeaderName>,
    pub bypass: Bypass,
    pub object_max: Option<u64>,
    /// Responses may name what is purged.
    pub purge_by_response: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedCookies {
    /// What is not said by a response to a request with cookies itself is not assumed.
    Explicit,
    /// Requests with cookies are passed on.
    Bypass,
    /// Nothing depends on cookies: they go neither way.
    Ignore,
    /// As `Explicit`, and a response that sets cookies is kept with them.
    Store,
}

/// Which parameters of the query count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CachedQuery {
    #[default]
    All,
    Keep(Vec<Pattern>),
    Ignore(Vec<Pattern>),
}

/// Signs of requests that are passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bypass {
    pub fields: Vec<HeaderName>,
    pub cookies: Vec<String>,
    pub query: Vec<String>,
}
