//! The path of a request on a route that keeps responses: answered from the cache, by a fetch that it shares with
//! others, or by one of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{COOKIE, IF_RANGE, RANGE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;

use super::{Answer, Exchange, Outgoing, Passing, Unread, receive, respond};
use crate::body::Body;
use crate::cache::{
    self, Asked, Cache, Directives, Failure, Forward, Forwarded, Join, Lead, Lookup, Outcome, Permit, Policy, Said,
    Stored, Taken, TargetUri, Times, Usable, Wanted, Why,
};
use crate::clock;
use crate::config::CachedCookies;
use crate::error::Reason;
use crate::fetch::{Attempts, FetchError};
use crate::header::cookies;
use crate::record::Record;
use crate::snapshot::{Action, HeldRoute};
use crate::upstream::{Connections, Reply};

thread_local! {
    /// Keys of lookups are written here.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a route keeps its responses, by which rules, and under which key that of a request.
pub(super) struct Caching<'a> {
    cache: &'a Arc<Cache>,
    policy: &'a Arc<Policy>,
    key: Vec<u8>,
}

impl<'a> Caching<'a> {
    pub fn new(cache: &'a Arc<Cache>, policy: &'a Arc<Policy>, target: &TargetUri<'_>, fields: &HeaderMap) -> Self {
        let mut key = KEY.take();
        cache::write_key(&mut key, target, fields, policy);
        Self { cache, policy, key }
    }
}

impl Drop for Caching<'_> {
    fn drop(&mut self) {
        KEY.set(std::mem::take(&mut self.key));
    }
}

/// What can be said of a request before it goes anywhere.
pub(super) enum Looked {
    Hit {
        response: Response<Body>,
        revalidate: Option<Miss>,
    },
    /// Nothing is looked for, and nothing kept.
    Beside(Forward),
    Missed(Miss),
}

/// A request that the cache did not answer, or not well enough.
pub(super) struct Miss {
    directives: Directives,
    why: Forward,
    /// What is to be validated.
    stale: Option<Arc<Stored>>,
    /// It does not wait for others, nor they for it.
    is_alone: bool,
}

impl Exchange<'_> {
    /// Answers a request from the cache, or from the origin.
    pub(super) async fn pass_by_cache(
        &self,
        mut request: Unread<'_>,
        passing: &Passing<'_>,
        caching: &Caching<'_>,
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        match look(&mut request, passing, caching) {
            Looked::Hit { response, revalidate: None } => Ok(Answer::Response(response)),
            Looked::Hit { response, revalidate: Some(miss) } => {
                self.revalidate(request, passing, (caching, miss), record).await?;
                Ok(Answer::Response(response))
            }
            Looked::Beside(why) => Box::pin(self.pass_beside(request, passing, (caching, why), record)).await,
            Looked::Missed(miss) => {
                let shared = Box::pin(self.fetch_shared(request, passing, (caching, miss), record));
                shared.await.map(Answer::Response)
            }
        }
    }

    /// Passes a request on that the cache has no part in, but for what it makes invalid.
    async fn pass_beside(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, why): (&Caching<'_>, Forward),
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        let method = request.method().clone();
        let mut answer = self.pass(request, passing, record).await?;
        if let Answer::Response(response) = &mut answer {
            let Caching { cache, policy, key } = caching;
            cache.invalidate((key, &policy.key), &method, response);
            cache::annotate(response.headers_mut(), &Said::Forwarded(Forwarded::passed(why, None)));
        }
        Ok(answer)
    }

    /// Validates behind the client's back what it has been sent.
    async fn revalidate(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss): (&Caching<'_>, Miss),
        record: &mut Record,
    ) -> Result<(), Reason> {
        let Some(lead) = caching.cache.lead(&caching.key, clock::now().into_std()) else { return Ok(()) };
        let asking = self.asking(request, passing, (caching, &miss, true), record).await?;
        tokio::task::spawn_local(lead_fetch(asking, lead, None));
        Ok(())
    }

    async fn fetch_shared(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss): (&Caching<'_>, Miss),
        record: &mut Record,
    ) -> Result<Response<Body>, Reason> {
        if miss.directives.only_if_cached {
            return Err(Reason::CacheOnly);
        }
        let client = Client { method: request.method().clone(), version: request.version(), passing, miss: &miss };
        let lead = match self.line_up(&request, &client, caching).await {
            Turn::Answered(response) => return Ok(response),
            Turn::Failed(error) => return Err(Reason::from(&*error)),
            Turn::Lead(lead) => Some(lead),
            Turn::Alone => None,
        };
        let asking = self.asking(request, passing, (caching, &miss, lead.is_some()), record).await?;
        let fields = Arc::clone(&asking.asked.fields);
        let brought = match lead {
            Some(lead) => {
                let (reply, brought) = oneshot::channel();
                tokio::task::spawn_local(lead_fetch(asking, lead, Some(reply)));
                // The task ends without a word with its worker only.
                brought.await.map_err(|_| Reason::ClientGone)?
            }
            None => {
                let mut brought = asking.ask().await;
                if let Ok(Taken::Shared(_, rest)) = &mut brought.taken
                    && let Some(rest) = rest.take()
                {
                    tokio::task::spawn_local(rest.run(None));
                }
                brought
            }
        };
        record.attempts = brought.attempts;
        record.head_after = Some(clock::now().saturating_duration_since(record.started()));
        client.conclude(brought.taken, &fields, brought.status)
    }

    /// Waits for others who ask for the same, if there are any.
    async fn line_up(&self, request: &Unread<'_>, client: &Client<'_>, caching: &Caching<'_>) -> Turn {
        let Caching { cache, policy, key } = caching;
        if client.miss.is_alone {
            return Turn::Alone;
        }
        let mut joined = key.clone();
        loop {
            let pending = match cache.join(&joined, clock::now().into_std()) {
                Join::Alone => return Turn::Alone,
                Join::Lead(lead) => {
                    // The last one may have come to its end since this request looked.
                    let found = cache.lookup(key, request.headers());
                    return match found {
                        Lookup::Found(stored) if client.takes(&stored, policy, request.headers()) => {
                            Turn::Answered(client.hit(&stored, request.headers()))
                        }
                        _ => Turn::Lead(lead),
                    };
                }
                Join::Follow(pending) => pending,
            };
            match pending.outcome().await {
                Outcome::Shared(stored) if stored.is_for(request.headers()) => {
                    if client.takes(&stored, policy, request.headers()) {
                        return Turn::Answered(client.collapsed(&stored, request.headers()));
                    }
                    return Turn::Alone;
                }
                // Another variant: those who ask for the same one have a line of their own.
                Outcome::Shared(stored) => {
                    let variant = stored.variant_key(key, request.headers());
                    if std::mem::replace(&mut joined, variant) == joined {
                        return Turn::Alone;
                    }
                }
                Outcome::Failed(failure) => {
                    let status = match &failure {
                        Failure::Fetch(_) => None,
                        Failure::Status(status) => Some(*status),
                    };
                    return match (client.stand_in(request.headers(), status), failure) {
                        (Some(response), _) => Turn::Answered(response),
                        (None, Failure::Fetch(error)) => Turn::Failed(error),
                        (None, Failure::Status(_)) => Turn::Alone,
                    };
                }
                Outcome::Alone => return Turn::Alone,
            }
        }
    }

    /// The request to the origin, and what it is for.
    async fn asking(
        &self,
        mut request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss, is_shared): (&Caching<'_>, &Miss, bool),
        record: &mut Record,
    ) -> Result<Asking, Reason> {
        let Caching { cache, policy, key } = caching;
        let fields = Arc::new(request.headers().clone());
        // Preconditions and ranges are the client's, and the response is for all.
        if is_shared || miss.stale.is_some() {
            cache::remove_preconditions(request.headers_mut());
            request.headers_mut().remove(RANGE);
            request.headers_mut().remove(IF_RANGE);
        }
        if let Some(stale) = &miss.stale {
            cache::validate(request.headers_mut(), stale);
        }
        let method = request.method().clone();
        let asked =
            Asked { key: key.as_slice().into(), born: cache.epoch(), method, fields, stale: miss.stale.clone() };
        let Outgoing { request, .. } = self.outgoing(request, passing, record).await?;
        Ok(Asking {
            connections: Rc::clone(&self.worker.connections),
            route: Arc::clone(passing.route),
            cache: Arc::clone(cache),
            policy: Arc::clone(policy),
            request,
            asked,
        })
    }
}

enum Turn {
    Answered(Response<Body>),
    Failed(Arc<FetchError>),
    Lead(Lead),
    Alone,
}

/// Looks for an answer, without waiting.
fn look(request: &mut Unread<'_>, passing: &Passing<'_>, caching: &Caching<'_>) -> Looked {
    let Caching { cache, policy, key } = caching;
    cookies::join(request.headers_mut());
    if policy.cookies == CachedCookies::Ignore {
        request.headers_mut().remove(COOKIE);
    }
    if let Some(why) = beside(request, policy) {
        return Looked::Beside(why);
    }
    let fields = request.headers();
    let directives = Directives::of_request(fields);
    let now = clock::now().into_std();
    let is_head = *request.method() == Method::HEAD;
    let miss = |why, stale, is_alone| Miss { directives: directives.clone(), why, stale, is_alone };
    let stored = match cache.lookup(key, fields) {
        Lookup::UriMiss => return Looked::Missed(miss(Forward::UriMiss, None, is_head)),
        Lookup::VaryMiss => return Looked::Missed(miss(Forward::VaryMiss, None, is_head)),
        Lookup::Found(stored) => stored,
    };
    if !policy.admits(&stored.terms, fields) {
        return Looked::Missed(miss(Forward::Request, None, true));
    }
    let revalidate = match stored.terms.usable(&directives, now) {
        Usable::Fresh | Usable::Stale(Permit::Client) => None,
        Usable::Stale(Permit::WhileRevalidating) => Some(miss(Forward::Stale, Some(Arc::clone(&stored)), false)),
        Usable::Validate(Why::Request) => return Looked::Missed(miss(Forward::Request, Some(stored), true)),
        Usable::Validate(_) => return Looked::Missed(miss(Forward::Stale, Some(stored), is_head)),
    };
    let said = Said::Hit { ttl_s: stored.terms.ttl(now), detail: None };
    let client = Wanted { method: request.method(), fields };
    let response = answer(&stored, client, passing, request.version(), (said, now));
    Looked::Hit { response, revalidate }
}

/// Why a request is passed on without a look.
fn beside(request: &Unread<'_>, policy: &Policy) -> Option<Forward> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Forward::Method);
    }
    let has_body = request.body().is_some();
    let bypasses = has_body
        || request.headers().contains_key(UPGRADE)
        || policy.bypasses(request.headers(), request.uri().query());
    bypasses.then_some(Forward::Bypass)
}

/// A stored response as the answer to one request.
fn answer(
    stored: &Stored,
    wanted: Wanted<'_>,
    passing: &Passing<'_>,
    version: Version,
    (said, now): (Said, Instant),
) -> Response<Body> {
    let mut response = cache::deliver(stored, wanted, now, || fastrand::u128(..));
    let fields = response.headers_mut();
    if let Some(policy) = &passing.pass.caching
        && let Some(lifetime) = policy.of(&stored.fields).ttl_client
    {
        cache::tell_clients(fields, lifetime, stored.terms.age(now));
    }
    cache::annotate(fields, &said);
    respond(response, passing.route, version)
}

/// A client that was not answered at once.
struct Client<'a> {
    method: Method,
    version: Version,
    passing: &'a Passing<'a>,
    miss: &'a Miss,
}

impl Client<'_> {
    /// Whether a response that came meanwhile will do.
    fn takes(&self, stored: &Stored, policy: &Policy, fields: &HeaderMap) -> bool {
        let usable = stored.terms.usable(&self.miss.directives, clock::now().into_std());
        policy.admits(&stored.terms, fields) && matches!(usable, Usable::Fresh | Usable::Stale(_))
    }

    fn answer(&self, stored: &Stored, fields: &HeaderMap, said: Said) -> Response<Body> {
        let wanted = Wanted { method: &self.method, fields };
        answer(stored, wanted, self.passing, self.version, (said, clock::now().into_std()))
    }

    fn hit(&self, stored: &Stored, fields: &HeaderMap) -> Response<Body> {
        let ttl_s = stored.terms.ttl(clock::now().into_std());
        self.answer(stored, fields, Said::Hit { ttl_s, detail: None })
    }

    /// What another one fetched.
    fn collapsed(&self, stored: &Stored, fields: &HeaderMap) -> Response<Body> {
        let ttl_s = Some(stored.terms.ttl(clock::now().into_std()));
        let forwarded = Forwarded { collapsed: true, ttl_s, ..Forwarded::passed(self.miss.why, None) };
        self.answer(stored, fields, Said::Forwarded(forwarded))
    }

    /// Something stale, where the origin failed and it is allowed to stand in.
    fn stand_in(&self, fields: &HeaderMap, status: Option<StatusCode>) -> Option<Response<Body>> {
        let now = clock::now().into_std();
        let stale = self.miss.stale.as_ref().filter(|stale| stale.terms.usable_on_error(&self.miss.directives, now))?;
        let forwarded = Forwarded { status, ..Forwarded::passed(self.miss.why, Some("stale-if-error")) };
        Some(self.answer(stale, fields, Said::Forwarded(forwarded)))
    }

    /// Makes the answer of what the origin's response came to.
    fn conclude(
        &self,
        taken: Result<Taken, Arc<FetchError>>,
        fields: &HeaderMap,
        status: Option<StatusCode>,
    ) -> Result<Response<Body>, Reason> {
        match taken {
            Err(error) => self.stand_in(fields, None).ok_or_else(|| Reason::from(&*error)),
            Ok(Taken::Shared(stored, _)) => {
                let ttl_s = Some(stored.terms.ttl(clock::now().into_std()));
                let status = status.filter(|status| *status != stored.status);
                let forwarded = Forwarded { status, stored: true, ttl_s, ..Forwarded::passed(self.miss.why, None) };
                Ok(self.answer(&stored, fields, Said::Forwarded(forwarded)))
            }
            Ok(Taken::Passed(mut response, why)) => {
                if is_failure(response.status())
                    && let Some(stale) = self.stand_in(fields, Some(response.status()))
                {
                    return Ok(stale);
                }
                cache::settle_passed(&mut response, Wanted { method: &self.method, fields });
                let forwarded = Forwarded::passed(self.miss.why, Some(why.code()));
                cache::annotate(response.headers_mut(), &Said::Forwarded(forwarded));
                Ok(respond(response, self.passing.route, self.version))
            }
            Ok(Taken::Mismatched) => Err(Reason::UpstreamProtocol),
        }
    }
}

/// Answers of an origin in place of which something stale may be sent (RFC 5861 §4).
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The origin side of a request that was not answered. It owns all that it needs, so it goes on without its client.
struct Asking {
    connections: Rc<Connections>,
    route: Arc<HeldRoute>,
    cache: Arc<Cache>,
    policy: Arc<Policy>,
    request: Request<Body>,
    asked: Asked,
}

/// What the origin's answer came to.
struct Brought {
    taken: Result<Taken, Arc<FetchError>>,
    status: Option<StatusCode>,
    attempts: Attempts,
}

impl Asking {
    async fn ask(self) -> Brought {
        let Self { connections, route, cache, policy, request, mut asked } = self;
        let mut attempts = Attempts::default();
        let Action::Proxy(pass) = &route.action else {
            return Brought::failed(FetchError::NoEndpoint(String::new()), attempts);
        };
        // Asked once more if what is stored turns out not to be what the origin speaks of.
        let mut again = asked.stale.is_some().then(|| copy_of_head(&request));
        let mut request = request;
        loop {
            let begun = clock::now().into_std();
            let mut response = match pass.fetch(&connections).send(request, &mut attempts).await {
                Ok(Reply::Response { response, .. }) => response,
                Ok(Reply::Tunnel(..)) => return Brought::failed(FetchError::Ejected, attempts),
                Err(error) => return Brought::failed(error, attempts),
            };
            receive(&mut response);
            let status = Some(response.status());
            let times = Times { asked: begun, answered: clock::now().into_std(), clock: clock::system_time() };
            let taken = cache::take(&cache, asked.clone(), &policy, response, times);
            match (taken, again.take()) {
                (Taken::Mismatched, Some(unconditional)) => {
                    asked.stale = None;
                    request = unconditional;
                }
                (taken, _) => return Brought { taken: Ok(taken), status, attempts },
            }
        }
    }
}

impl Brought {
    fn failed(error: FetchError, attempts: Attempts) -> Self {
        Self { taken: Err(Arc::new(error)), status: None, attempts }
    }
}

/// The same request, without its preconditions. It has no body.
fn copy_of_head(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    cache::remove_preconditions(copy.headers_mut());
    copy
}

/// Fetches for all who wait, to the end, even if who began it has left.
async fn lead_fetch(asking: Asking, lead: Lead, reply: Option<oneshot::Sender<Brought>>) {
    let is_validating = asking.asked.stale.is_some();
    let mut brought = asking.ask().await;
    let now = clock::now().into_std();
    let mut lead = Some(lead);
    let mut rest = None;
    match &mut brought.taken {
        Err(error) => settle(&mut lead, Outcome::Failed(Failure::Fetch(Arc::clone(error)))),
        Ok(Taken::Shared(stored, receiving)) => {
            rest = receiving.take();
            // What has to be validated for each request can be had by none of the others.
            let is_usable = matches!(stored.terms.usable(&Directives::default(), now), Usable::Fresh);
            if is_usable {
                settle(&mut lead, Outcome::Shared(Arc::clone(stored)));
            } else if let Some(lead) = lead.take() {
                lead.leave_alone(now);
            }
        }
        Ok(Taken::Passed(response, _)) if is_validating && is_failure(response.status()) => {
            settle(&mut lead, Outcome::Failed(Failure::Status(response.status())));
        }
        Ok(Taken::Passed(_, why)) if why.is_of_the_request() => lead = None,
        Ok(Taken::Passed(..) | Taken::Mismatched) => {
            if let Some(lead) = lead.take() {
                lead.leave_alone(now);
            }
        }
    }
    if rest.is_none() {
        drop(lead.take());
    }
    if let Some(reply) = reply {
        // The client may have left.
        let _unheard = reply.send(brought);
    }
    if let Some(rest) = rest {
        rest.run(lead).await;
    }
}

fn settle(lead: &mut Option<Lead>, outcome: Outcome<Arc<Stored>, Failure>) {
    if let Some(lead) = lead {
        lead.settle(outcome);
    }
}
