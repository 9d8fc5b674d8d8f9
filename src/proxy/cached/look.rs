//! What the cache has for a request, found without waiting.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use http::header::{COOKIE, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method, Request};

use super::super::{Answer, Passing, Prepared, Unread};
use crate::cache::{
    self, Cache, Directives, Forward, Found, Lookup, Permit, Policy, Said, Stored, TargetUri, Usable, Wanted, Why,
};
use crate::clock;
use crate::compress::Outcome;
use crate::compress::negotiate::Plan;
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
    pub fn settle<B>(&mut self, request: &mut Request<Option<B>>, passing: &Passing<'_>) -> Option<Beside> {
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
        Some(why) => Err(NoHit::Beside(why.forward())),
        None => find(request, caching, now).map_err(NoHit::Missed),
    }
}

fn find(request: Unread<'_>, Caching { cache, key, policy }: &Caching<'_>, now: Instant) -> Result<Hit, Box<Miss>> {
    let fields = request.headers();
    let directives = Directives::of_request(fields);
    let is_head = *request.method() == Method::HEAD;
    let looking = || cache.lookup(key, fields, (now, clock::system_time));
    let looked = policy.statistics.look(|| clock::now().into_std(), looking);
    rule(looked, &directives, fields, now).follow(&directives, is_head)
}

/// What may be done with what was found.
pub enum Ruling {
    UriMiss,
    VaryMiss,
    /// The lifetime is an assumption, and this request says who its user is.
    ForOthers,
    Use(Found, Usable),
}

pub fn rule(looked: Lookup, directives: &Directives, fields: &HeaderMap, now: Instant) -> Ruling {
    match looked {
        Lookup::UriMiss => Ruling::UriMiss,
        Lookup::VaryMiss => Ruling::VaryMiss,
        Lookup::Found(found) if !found.terms().answers(fields) => Ruling::ForOthers,
        Lookup::Found(found) => {
            let usable = found.terms().usable(directives, now);
            Ruling::Use(found, usable)
        }
    }
}

impl Ruling {
    pub fn follow(self, directives: &Directives, is_head: bool) -> Result<Hit, Box<Miss>> {
        let miss = |why, stale, is_alone| Box::new(Miss { directives: directives.clone(), why, stale, is_alone });
        let missed = |why, stale, is_alone| Err(miss(why, stale, is_alone));
        let (found, usable) = match self {
            Self::UriMiss => return missed(Forward::UriMiss, None, is_head),
            Self::VaryMiss => return missed(Forward::VaryMiss, None, is_head),
            Self::ForOthers => return missed(Forward::Request, None, true),
            Self::Use(found, usable) => (found, usable),
        };
        let stale = || Some(found.clone().into_stored());
        let revalidate = match usable {
            Usable::Fresh | Usable::Stale(Permit::Client) => None,
            Usable::Stale(Permit::WhileRevalidating) => Some(miss(Forward::Stale, stale(), false)),
            Usable::Validate(Why::Request) => return missed(Forward::Request, stale(), true),
            Usable::Validate(_) => return missed(Forward::Stale, stale(), is_head),
        };
        Ok(Hit { found, revalidate })
    }
}

/// Why a request is passed on without a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Method,
    /// `If-Match` and its like are for the origin (RFC 9111 §4.3.2).
    ForOrigin,
    Upgrade,
    Body,
    /// The configuration says so.
    Rule,
}

impl Beside {
    pub fn forward(self) -> Forward {
        if self == Self::Method { Forward::Method } else { Forward::Bypass }
    }
}

fn beside<B>(request: &Request<Option<B>>, passing: &Passing<'_>, policy: &Policy) -> Option<Beside> {
    let fields = request.headers();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        Some(Beside::Method)
    } else if fields.keys().any(|name| matches!(*name, IF_MATCH | IF_UNMODIFIED_SINCE)) {
        Some(Beside::ForOrigin)
    } else if passing.upgrade.is_some() {
        Some(Beside::Upgrade)
    } else if request.body().is_some() {
        Some(Beside::Body)
    } else {
        policy.bypasses(fields, request.uri().query()).then_some(Beside::Rule)
    }
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

/// The same for a hit whose fields nothing changes on their way, and why it is not coded, if its route codes.
pub fn prepared(
    found: &Found,
    wanted: Wanted<'_>,
    passing: &Passing<'_>,
    (said, now): (Said, Instant),
) -> Option<(Answer, Option<Outcome>)> {
    let stored = &*found.stored;
    let policy = passing.pass.caching.as_ref().filter(|_| passing.keeps_fields)?;
    if policy.of(&stored.fields).ttl_client.is_some() {
        return None;
    }
    let coding = match passing.recoding {
        None => None,
        Some(recoding) => match recoding.plan(stored.status, &stored.fields, stored.content.length()) {
            Plan::Leave { why, varies: false } => Some(Outcome::Left(why)),
            _ => return None,
        },
    };
    let prepared = cache::Prepared::of(found, wanted, (said, now))?;
    Some((Answer::Prepared(Box::new(prepared.response()), Prepared::Stored(prepared)), coding))
}
