//! What the cache has for a request, found without waiting.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use http::header::{COOKIE, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method, Request};

use super::super::{Answer, Passing, Unread};
use crate::body::Source;
use crate::cache::{
    self, Cache, Directives, Forward, Found, Lookup, Permit, Policy, Said, Stored, TargetUri, Usable, Wanted, Why,
};
use crate::clock;
use crate::config::CachedCookies;
use crate::header::forwarded;
use crate::snapshot::Pass;

thread_local! {
    /// Keys of lookups are written here.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a route keeps its responses, by which rules, and under which key that of a request.
pub struct Caching<'a> {
    pub cache: &'a Arc<Cache>,
    pub policy: &'a Arc<Policy>,
    pub key: Vec<u8>,
}

impl<'a> Caching<'a> {
    /// Begins the key by what is asked for. None on a route that keeps nothing.
    pub fn of(cache: &'a Arc<Cache>, pass: &'a Pass, target: &TargetUri<'_>) -> Option<Self> {
        let policy = pass.caching.as_ref()?;
        let mut key = KEY.take();
        cache::begin_key(&mut key, target, policy);
        Some(Self { cache, policy, key })
    }

    /// Takes off the request what does not reach the origin, and ends the key by its fields. Says why it is passed on
    /// without a look.
    fn settle(&mut self, request: Unread<'_>, passing: &Passing<'_>) -> Option<Forward> {
        let fields = request.headers_mut();
        forwarded::drop_claims(fields, passing.client.via_trusted);
        cache::normalise_accept_encoding(fields);
        let beside = beside(request, passing, self.policy);
        // What passes the cache by is as the client sent it.
        if beside.is_none() && self.policy.cookies == CachedCookies::Ignore {
            request.headers_mut().remove(COOKIE);
        }
        cache::end_key(&mut self.key, request.headers(), self.policy);
        beside
    }
}

impl Caching<'_> {
    /// What is stored now for a request with these fields.
    pub fn stored(&self, fields: &HeaderMap) -> Option<Arc<Stored>> {
        match self.cache.lookup(&self.key, fields, (clock::now().into_std(), clock::system_time)) {
            Lookup::Found(found) => Some(found.into_stored()),
            Lookup::UriMiss | Lookup::VaryMiss => None,
        }
    }
}

impl Drop for Caching<'_> {
    fn drop(&mut self) {
        KEY.set(std::mem::take(&mut self.key));
    }
}

/// What was found at once, and what is to be done behind the client's back.
pub struct Hit {
    pub found: Found,
    pub revalidate: Option<Box<Miss>>,
}

/// Why nothing was.
pub enum NoHit {
    /// Nothing is looked for, and nothing kept.
    Beside(Forward),
    Missed(Box<Miss>),
}

/// A request that the cache did not answer, or not well enough.
pub struct Miss {
    pub directives: Directives,
    pub why: Forward,
    /// What is to be validated.
    pub stale: Option<Arc<Stored>>,
    /// It does not wait for others, nor they for it.
    pub is_alone: bool,
}

/// Looks for an answer, without waiting.
pub fn look(request: Unread<'_>, passing: &Passing<'_>, caching: &mut Caching<'_>, now: Instant) -> Result<Hit, NoHit> {
    match caching.settle(request, passing) {
        Some(why) => Err(NoHit::Beside(why)),
        None => find(request, caching, now),
    }
}

fn find(request: Unread<'_>, Caching { cache, key, policy }: &Caching<'_>, now: Instant) -> Result<Hit, NoHit> {
    let fields = request.headers();
    let directives = Directives::of_request(fields);
    let is_head = *request.method() == Method::HEAD;
    let miss = |why, stale, is_alone| Box::new(Miss { directives: directives.clone(), why, stale, is_alone });
    let looking = || cache.lookup(key, fields, (now, clock::system_time));
    let found = match policy.statistics.look(|| clock::now().into_std(), looking) {
        Lookup::UriMiss => return Err(NoHit::Missed(miss(Forward::UriMiss, None, is_head))),
        Lookup::VaryMiss => return Err(NoHit::Missed(miss(Forward::VaryMiss, None, is_head))),
        Lookup::Found(found) => found,
    };
    let terms = found.terms();
    // The lifetime is an assumption, and this request says who its user is.
    if !terms.answers(fields) {
        return Err(NoHit::Missed(miss(Forward::Request, None, true)));
    }
    let stale = || Some(found.clone().into_stored());
    let revalidate = match terms.usable(&directives, now) {
        Usable::Fresh | Usable::Stale(Permit::Client) => None,
        Usable::Stale(Permit::WhileRevalidating) => Some(miss(Forward::Stale, stale(), false)),
        Usable::Validate(Why::Request) => return Err(NoHit::Missed(miss(Forward::Request, stale(), true))),
        Usable::Validate(_) => return Err(NoHit::Missed(miss(Forward::Stale, stale(), is_head))),
    };
    Ok(Hit { found, revalidate })
}

/// Why a request is passed on without a look.
fn beside(request: &Request<Option<Source>>, passing: &Passing<'_>, policy: &Policy) -> Option<Forward> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Forward::Method);
    }
    let fields = request.headers();
    // `If-Match` and its like are for the origin (RFC 9111 §4.3.2).
    let is_for_origin = fields.keys().any(|name| matches!(*name, IF_MATCH | IF_UNMODIFIED_SINCE));
    let bypasses = is_for_origin
        || passing.upgrade.is_some()
        || request.body().is_some()
        || policy.bypasses(fields, request.uri().query());
    bypasses.then_some(Forward::Bypass)
}

/// A stored response as the answer to one request.
pub fn answer(found: Found, wanted: Wanted<'_>, passing: &Passing<'_>, (said, now): (Said, Instant)) -> Answer {
    let mut response = cache::deliver(&found, wanted, now, || fastrand::u128(..));
    let fields = response.headers_mut();
    if let Some(policy) = &passing.pass.caching
        && let Some(lifetime) = policy.of(&found.stored.fields).ttl_client
        && found.may_be_told_fresh(now)
    {
        cache::tell_clients(fields, lifetime, found.terms(), now);
    }
    cache::annotate(fields, &said);
    Answer::Kept(Box::new(response), found.stored)
}
