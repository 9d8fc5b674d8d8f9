//! The path of a request on a route that keeps responses: answered from the cache, by a fetch that it shares with
//! others, or by one of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{COOKIE, IF_RANGE, RANGE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;

use super::{Exchange, Passing, Unread, receive, respond};
use crate::body::Body;
use crate::cache::{
    self, Asked, Cache, ClientHead, Directives, Failure, Forward, Forwarded, Join, Lead, Lookup, Outcome, Permit,
    Policy, Served, Stored, Taken, TargetUri, Times, Usable,
};
use crate::clock;
use crate::config::CachedCookies;
use crate::error::Reason;
use crate::fetch::{Attempts, FetchError};
use crate::header::cookies;
use crate::record::Record;
use crate::snapshot::HeldRoute;
use crate::upstream::{Connections, Reply};

thread_local! {
    /// Keys of lookups are written here.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a route keeps its responses, and by which rules.
#[derive(Clone, Copy)]
pub(super) struct Caching<'a> {
    pub cache: &'a Arc<Cache>,
    pub policy: &'a Arc<Policy>,
}

/// What can be said of a request before it goes anywhere.
pub(super) enum Looked {
    Hit { response: Response<Body>, revalidate: Option<Miss> },
    /// Nothing is looked for, and nothing kept.
    Beside(Forward),
    Missed(Miss),
}

/// A request that the cache did not answer, or not well enough.
pub(super) struct Miss {
    key: Vec<u8>,
    directives: Directives,
    why: Forward,
    /// What is to be validated.
    stale: Option<Arc<Stored>>,
    /// It does not wait for others, nor they for it.
    is_alone: bool,
}

/// Looks for an answer, without waiting.
pub(super) fn look(
    request: &mut Unread<'_>,
    passing: &Passing<'_>,
    caching: Caching<'_>,
    target: &TargetUri<'_>,
) -> Looked {
    let Caching { cache, policy } = caching;
    cookies::join(request.headers_mut());
    cache::normalise(request.headers_mut());
    if policy.cookies == CachedCookies::Ignore {
        request.headers_mut().remove(COOKIE);
    }
    if let Some(why) = beside(request, policy) {
        return Looked::Beside(why);
    }
    let directives = Directives::of_request(request.headers());
    let now = clock::now().into_std();
    KEY.with_borrow_mut(|key| {
        cache::write_key(key, target, request.headers(), policy);
        let is_head = *request.method() == Method::HEAD;
        let miss = |why, stale, is_alone| Miss { key: key.clone(), directives, why, stale, is_alone };
        let stored = match cache.lookup(key, request.headers()) {
            Lookup::UriMiss => return Looked::Missed(miss(Forward::UriMiss, None, is_head)),
            Lookup::VaryMiss => return Looked::Missed(miss(Forward::VaryMiss, None, is_head)),
            Lookup::Found(stored) => stored,
        };
        if !policy.admits(&stored.terms, request.headers()) {
            return Looked::Missed(miss(Forward::Request, None, true));
        }
        let revalidate = match stored.terms.usable(&directives, now) {
            Usable::Fresh | Usable::Stale(Permit::Client) => None,
            Usable::Stale(Permit::WhileRevalidating) => Some(miss(Forward::Stale, Some(Arc::clone(&stored)), false)),
            Usable::Validate(why) => {
                let (why, by_client) = if why.is_of_request() { (Forward::Request, true) } else { (Forward::Stale, false) };
                return Looked::Missed(miss(why, Some(stored), is_head || by_client));
            }
        };
        let ttl_s = stored.terms.ttl(now);
        let served = Served { head: &ClientHead::of(request), outcome: cache::Outcome::Hit { ttl_s, detail: None }, now };
        Looked::Hit { response: deliver(&stored, served, passing), revalidate }
    })
}
