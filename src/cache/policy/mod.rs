//! What a shared cache may do with a response (RFC 9111): store it ([`terms`]), use it for a request
//! ([`Terms::answers`], [`Terms::usable`], [`Terms::usable_on_error`]), freshen it by a newer one ([`freshen()`]), forget it
//! ([`invalidated`]).
//!
//! These are decisions over the fields of messages, the rules of a route and the time that is handed in. Keys and
//! variants, validators and ranges are decided elsewhere; nothing here stores, sends or waits.
//!
//! Dates of others are compared with the wall clock once, when a response arrives. How long it has been here since
//! is measured by the monotonic clock, so that setting the wall clock neither empties the cache nor keeps it.

mod age;
mod freshen;
mod invalidate;
mod reuse;
mod store;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, Method, StatusCode};

pub use freshen::{HeadEffect, concerns, freshen, head_effect};
pub use invalidate::{Resource, TargetUri, invalidated};
pub use reuse::{Permit, Usable, Why};
pub use store::{Unstorable, terms};

/// What the configuration says about the responses of a route and content type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The lifetime of a successful response that gives none.
    pub default_ttl: Option<Duration>,
    /// The lifetime of a successful response here, whatever the origin says of it. `no-store`, `private`, `no-cache`
    /// and `must-revalidate` stay in force.
    pub ttl_edge: Option<Duration>,
    /// Lifetimes guessed from `Last-Modified`, where neither the response nor these rules give one.
    pub heuristic: Option<Heuristic>,
    /// The targeted fields that are meant for this cache, most specific first (RFC 9213 §2.2).
    pub targets: Vec<HeaderName>,
    /// Store responses with `Set-Cookie`, and the field with them.
    pub store_set_cookie: bool,
    /// A response to a request with `Cookie` is for all, even if the origin did not say how long it may be kept.
    pub ignore_cookie: bool,
    /// For responses that were fresh once and say nothing of it themselves.
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
}

/// A part of the time since `Last-Modified` (RFC 9111 §4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heuristic {
    pub percent: u32,
    pub max: Duration,
}

/// A request to an origin and its response.
#[derive(Debug, Clone, Copy)]
pub struct Exchanged<'a> {
    pub method: &'a Method,
    pub target: &'a TargetUri<'a>,
    pub request: &'a HeaderMap,
    pub status: StatusCode,
    pub response: &'a HeaderMap,
}

/// When a request went out and the head of its response came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub asked: Instant,
    pub answered: Instant,
    /// The wall clock at `answered`.
    pub clock: SystemTime,
}

/// On which terms a stored response may be used. Computed once, when it is stored or freshened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When the response came.
    at: Instant,
    /// Its age then.
    initial_age: Duration,
    lifetime: Duration,
    basis: Basis,
    stale: Staleness,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    immutable: bool,
    seen: Seen,
    audience: Audience,
}

/// What stands in the field that is for everybody, whatever a targeted one says (RFC 9213): who tells clients something
/// else keeps these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    no_cache: bool,
    no_transform: bool,
}

/// Whose requests it may answer. Where nobody who knows the response said that it is for all, the credentials in a
/// request are the only sign that another user would get another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Everyone,
    WithoutAuthorization,
    WithoutCredentials,
}

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    SharedMaxAge,
    MaxAge,
    Expires,
    /// `ttl_edge` of the rules.
    Rule,
    /// `default_ttl` of the rules.
    Default,
    Heuristic,
    /// There is none: each use is validated.
    Absent,
}

/// What the origin says about use without validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Staleness {
    /// Never without validation: `no-cache`.
    AlwaysValidate,
    /// Not once it is stale: `must-revalidate`, `proxy-revalidate`, `s-maxage`.
    NeverStale,
    /// Where the client or the rules permit it.
    Permitted,
}

impl Default for Heuristic {
    fn default() -> Self {
        Self { percent: 10, max: Duration::from_secs(24 * 60 * 60) }
    }
}
