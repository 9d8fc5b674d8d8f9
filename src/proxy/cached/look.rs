//! What the cache has for a request, found without waiting.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use http::header::{COOKIE, IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE};
use http::{HeaderMap, Method};

use super::super::{Answer, Passing, Unread};
use crate::cache::{
    self, Cache, Directives, Forward, Lookup, Permit, Policy, Said, Stored, TargetUri, Usable, Wanted, Why,
};
use crate::clock;
use crate::config::CachedCookies;
use crate::header::authority::Authority;
use crate::header::hop_by_hop::{self, Trailers};
use crate::header::{Scheme, cookies, etag, forwarded};

thread_local! {
    /// Keys of lookups are written here.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a route keeps its responses, by which rules, and under which key that of a request.
pub struct Caching<'a> {
    pub cache: &'a Arc<Cache>,
    pub policy: &'a Arc<Policy>,
    pub key: Vec<u8>,
    /// Why it is passed on without a look.
    beside: Option<Forward>,
}

impl<'a> Caching<'a> {
    /// Takes off the request what does not reach the origin, and makes its key.
    pub fn new(
        (cache, policy): (&'a Arc<Cache>, &'a Arc<Policy>),
        request: &mut Unread<'_>,
        target: &Target,
        via_trusted: bool,
    ) -> Self {
        let fields = request.headers_mut();
        // What asks for an upgrade is passed on.
        if !fields.contains_key(UPGRADE) {
            hop_by_hop::remove(fields, Trailers::Forward);
        }
        forwarded::drop_claims(fields, via_trusted);
        cookies::join(fields);
        cache::normalise_accept_encoding(fields);
        let beside = beside(request, policy);
        // What passes the cache by is as the client sent it.
        if beside.is_none() && policy.cookies == CachedCookies::Ignore {
            request.headers_mut().remove(COOKIE);
        }
        let mut key = KEY.take();
        let Target { scheme, authority, path } = target;
        let target = TargetUri { scheme: *scheme, authority, path, query: request.uri().query() };
        cache::write_key(&mut key, &target, request.headers(), policy);
        Self { cache, policy, key, beside }
    }
}

impl Caching<'_> {
    /// What is stored now for a request with these fields.
    pub fn stored(&self, fields: &HeaderMap) -> Option<Arc<Stored>> {
        match self.cache.lookup(&self.key, fields, (clock::now().into_std(), clock::system_time)) {
            Lookup::Found(stored) => Some(stored),
            Lookup::UriMiss | Lookup::VaryMiss => None,
        }
    }
}

/// What a request is for, apart from the request.
pub struct Target {
    pub scheme: Scheme,
    pub authority: Authority<'static>,
    /// Canonical.
    pub path: String,
}

impl Target {
    pub fn new(scheme: Scheme, authority: Authority<'_>, path: &str) -> Self {
        Self { scheme, authority: authority.into_owned(), path: path.to_owned() }
    }
}

impl Drop for Caching<'_> {
    fn drop(&mut self) {
        KEY.set(std::mem::take(&mut self.key));
    }
}

/// What was found at once, and what is to be done behind the client's back.
pub struct Hit {
    pub answer: Answer,
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
pub fn look(request: &mut Unread<'_>, passing: &Passing<'_>, caching: &Caching<'_>) -> Result<Hit, NoHit> {
    let looked = find(request, passing, caching);
    match looked {
        Ok(_) => caching.policy.statistics.hit(),
        Err(NoHit::Missed(_)) => caching.policy.statistics.miss(),
        Err(NoHit::Beside(_)) => {}
    }
    looked
}

fn find(request: &mut Unread<'_>, passing: &Passing<'_>, caching: &Caching<'_>) -> Result<Hit, NoHit> {
    let Caching { cache, key, beside, .. } = caching;
    if passing.route.config.compress.is_some() {
        etag::take_off_marks(request.headers_mut());
    }
    if let Some(why) = *beside {
        return Err(NoHit::Beside(why));
    }
    let fields = request.headers();
    let directives = Directives::of_request(fields);
    let now = clock::now().into_std();
    let is_head = *request.method() == Method::HEAD;
    let miss = |why, stale, is_alone| Box::new(Miss { directives: directives.clone(), why, stale, is_alone });
    let statistics = &caching.policy.statistics;
    let looked = statistics.look(|| clock::now().into_std(), || cache.lookup(key, fields, (now, clock::system_time)));
    let stored = match looked {
        Lookup::UriMiss => return Err(NoHit::Missed(miss(Forward::UriMiss, None, is_head))),
        Lookup::VaryMiss => return Err(NoHit::Missed(miss(Forward::VaryMiss, None, is_head))),
        Lookup::Found(stored) => stored,
    };
    // The lifetime is an assumption, and this request says who its user is.
    if !stored.terms.answers(fields) {
        return Err(NoHit::Missed(miss(Forward::Request, None, true)));
    }
    let revalidate = match stored.terms.usable(&directives, now) {
        Usable::Fresh | Usable::Stale(Permit::Client) => None,
        Usable::Stale(Permit::WhileRevalidating) => Some(miss(Forward::Stale, Some(Arc::clone(&stored)), false)),
        Usable::Validate(Why::Request) => return Err(NoHit::Missed(miss(Forward::Request, Some(stored), true))),
        Usable::Validate(_) => return Err(NoHit::Missed(miss(Forward::Stale, Some(stored), is_head))),
    };
    let said = Said::Hit { ttl_s: stored.terms.ttl(now), detail: None };
    let client = Wanted { method: request.method(), fields };
    let answer = answer(&stored, client, passing, (said, now));
    Ok(Hit { answer, revalidate })
}

/// Why a request is passed on without a look.
fn beside(request: &Unread<'_>, policy: &Policy) -> Option<Forward> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Forward::Method);
    }
    let fields = request.headers();
    // `If-Match` and its like are for the origin (RFC 9111 §4.3.2).
    let is_for_origin = [UPGRADE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| fields.contains_key(name));
    let bypasses = is_for_origin || request.body().is_some() || policy.bypasses(fields, request.uri().query());
    bypasses.then_some(Forward::Bypass)
}

/// A stored response as the answer to one request.
pub fn answer(stored: &Arc<Stored>, wanted: Wanted<'_>, passing: &Passing<'_>, (said, now): (Said, Instant)) -> Answer {
    let mut response = cache::deliver(stored, wanted, now, || fastrand::u128(..));
    let fields = response.headers_mut();
    if let Some(policy) = &passing.pass.caching
        && let Some(lifetime) = policy.of(&stored.fields).ttl_client
        && stored.may_be_told_fresh(now)
    {
        cache::tell_clients(fields, lifetime, stored.terms.age(now));
    }
    cache::annotate(fields, &said);
    Answer::Kept(response, Arc::clone(stored))
}
