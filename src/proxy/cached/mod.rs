//! The path of a request on a route that keeps responses: answered from the cache, by a fetch that it shares with
//! others, or by one of its own.

mod client;
mod look;
mod origin;
mod recode;

use std::borrow::Borrow;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LOCATION, IF_RANGE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::sync::oneshot;

use self::client::Client;
pub(super) use self::look::{Beside, Caching, Hit, Miss, NoHit, Ruling, answer, rule};
use self::look::{look, prepared};
use self::origin::{Asking, Begun, Brought, lead_fetch};
pub(super) use self::recode::{plan, recode};
use super::{Answer, Exchange, Passing, Unread};
use crate::body::Source;
use crate::cache::{
    self, Asked, Failure, Forward, Forwarded, Join, Key, Lead, NotKept, Role, Said, Settled, Stored, Taken, Times,
    Wanted,
};
use crate::clock;
use crate::error::Reason;
use crate::fetch::{FetchError, Outgoing};
use crate::record::Record;
use crate::telemetry::traces::Trace;

impl Exchange<'_> {
    /// Answers a request from the cache, or from the origin.
    pub(super) async fn pass_by_cache(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        mut caching: Caching<'_>,
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        let now = record.started().into_std();
        let looked = look(request, passing, &mut caching, now);
        // All but a hit is boxed, so that a hit carries no room for it.
        match looked {
            Ok(Hit { found, revalidate }) => {
                record.cache = Some(if revalidate.is_some() { Role::Stale } else { Role::Hit });
                let said = Said::Hit { ttl_s: found.terms().ttl(now), detail: None };
                let wanted = Wanted { method: request.method(), fields: request.headers() };
                if revalidate.is_none()
                    && let Some((answer, coding)) = prepared(&found, wanted, passing, (said, now))
                {
                    record.coding = coding;
                    return Ok(answer);
                }
                let answer = answer(found, wanted, passing, (said, now));
                if let Some(miss) = revalidate {
                    let revalidating = Box::pin(self.revalidate(request, passing, (&caching, miss), record));
                    if let Err(reason) = revalidating.await {
                        tracing::debug!("a stale response is not validated: {}", reason.code());
                    }
                }
                Ok(answer)
            }
            Err(NoHit::Beside(why)) => Box::pin(self.pass_beside(request, passing, (&caching, why), record)).await,
            Err(NoHit::Missed(miss)) => Box::pin(self.fetch_shared(request, passing, (&caching, miss), record)).await,
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
        record.cache = Some(Role::Bypass);
        let Caching { cache, policy, key, .. } = caching;
        let method = request.method().clone();
        // Only of a POST can the answer be what a GET would have brought (RFC 9110 §9.3.3).
        let fields = (method == Method::POST).then(|| Arc::new(request.headers().clone()));
        let asked = clock::now().into_std();
        // What is purged from now on holds for that answer, too.
        let began = fields.as_ref().map(|_| cache.epoch());
        let mut response = match self.pass(request, passing, record).await? {
            Answer::Response(response) => response,
            other => return Ok(other),
        };
        let mut own_purges = || {
            let invalidated = if method.is_safe() { 0 } else { cache.invalidate((key, policy), &method, &response) };
            invalidated + cache.obey(policy, key, response.headers_mut())
        };
        let epoch = match &began {
            Some(began) => cache.epoch_after(key, began, own_purges),
            None => {
                own_purges();
                None
            }
        };
        let mut said = Forwarded::passed(why, None);
        if let (Some(fields), Some(epoch)) = (fields, epoch)
            && response.headers().contains_key(CONTENT_LOCATION)
        {
            let times = Times { asked, answered: clock::now().into_std(), clock: clock::system_time() };
            let asked = Asked { key: key.as_slice().into(), epoch, method, fields, stale: None };
            match cache::take(cache, asked, policy, *response, times) {
                Taken::Shared(stored, rest) => {
                    said.stored = true;
                    if let Some(rest) = rest {
                        tokio::task::spawn_local(rest.run(None, None));
                    }
                    *response = stored.response();
                }
                Taken::Passed(passed, _) => *response = passed,
                Taken::Mismatched => return Err(Reason::UpstreamProtocol),
            }
        }
        cache::annotate(response.headers_mut(), &Said::Forwarded(said));
        Ok(Answer::Response(response))
    }

    /// Validates behind the client's back what it has been sent.
    async fn revalidate(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss): (&Caching<'_>, Box<Miss>),
        record: &mut Record,
    ) -> Result<(), Reason> {
        let Some(place) = caching.cache.detach() else { return Ok(()) };
        let Some(lead) = caching.cache.lead(&caching.key) else { return Ok(()) };
        // Also behind a HEAD: it is for all, and another response comes with its content.
        *request.method_mut() = Method::GET;
        let asking = self.asking(request, passing, (caching, &miss, Some(&lead)), record).await?;
        tokio::task::spawn_local(lead_fetch(asking, lead, Begun::Behind(place)));
        Ok(())
    }

    async fn fetch_shared(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss): (&Caching<'_>, Box<Miss>),
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        record.cache = Some(Role::Miss);
        if miss.directives.only_if_cached {
            return Err(Reason::CacheOnly);
        }
        let client = Client { method: request.method().clone(), passing, caching, miss: &miss };
        let lead = match self.line_up(request, &client, caching, record).await {
            Ok(answer) => {
                record.cache = Some(Role::Collapsed);
                return Ok(answer);
            }
            Err(Turn::Failed(error)) => return Err(Reason::from(&*error)),
            Err(Turn::Lead(lead)) => Some(lead),
            Err(Turn::Alone) => None,
        };
        let ranged = lead.as_ref().and_then(|_| ranged(request));
        let mut asking = self.asking(request, passing, (caching, &miss, lead.as_ref()), record).await?;
        asking.client.clone_from(&self.link.interims);
        let fields = Arc::clone(&asking.asked.fields);
        let brought = match lead {
            Some(lead) => {
                let (reply, brought) = oneshot::channel();
                tokio::task::spawn_local(lead_fetch(asking, lead, Begun::By(reply)));
                // The task ends without a word with its worker only.
                brought.await.map_err(|_| Reason::ClientGone)?
            }
            None => {
                let mut brought = asking.ask().await;
                if let Ok(Taken::Shared(_, rest)) = &mut brought.taken
                    && let Some(rest) = rest.take()
                {
                    tokio::task::spawn_local(rest.run(None, None));
                }
                brought
            }
        };
        let brought = match (ranged, &brought.taken) {
            // It is not for the others, so this client may have the part that it asked for.
            (Some(head), Ok(Taken::Passed(response, NotKept::TooLarge))) if response.status() == StatusCode::OK => {
                drop(brought);
                let mut again = Request::from_parts(head, None);
                let alone = Miss { stale: None, is_alone: true, why: miss.why, directives: miss.directives.clone() };
                self.asking(&mut again, passing, (caching, &alone, None), record).await?.ask().await
            }
            _ => brought,
        };
        let Brought { taken, status, attempts, hold } = brought;
        record.attempts = attempts;
        let is_shared = matches!(taken, Ok(Taken::Shared(..)));
        let answer = client.conclude(taken, &fields, status)?;
        // From here on the answer itself reads.
        drop(hold);
        if !is_shared && matches!(answer, Answer::Kept(..)) {
            record.cache = Some(Role::Stale);
        } else if is_shared && status == Some(StatusCode::NOT_MODIFIED) {
            record.cache = Some(Role::Validated);
        }
        Ok(answer)
    }

    /// Waits for others who ask for the same, if there are any.
    async fn line_up(
        &self,
        request: &Request<Option<Source>>,
        client: &Client<'_>,
        caching: &Caching<'_>,
        record: &mut Record,
    ) -> Result<Answer, Turn> {
        let Caching { cache, key, .. } = caching;
        if client.miss.is_alone {
            return Err(Turn::Alone);
        }
        let mut variant: Option<Vec<u8>> = None;
        loop {
            let joined = variant.as_deref().unwrap_or(key);
            let pending = match cache.join(joined, key, clock::now().into_std()) {
                Join::Alone => return Err(Turn::Alone),
                Join::Lead(lead) => {
                    // The last one may have come to its end since this request looked.
                    return match caching.stored(request.headers()) {
                        Some(stored) if client.takes(&stored, request.headers()) => {
                            lead.settle(Settled::Shared(Arc::clone(&stored)));
                            Ok(client.hit(&stored, request.headers()))
                        }
                        _ => {
                            if let Some(span) = record.trace.as_ref().and_then(Trace::link) {
                                lead.name(span);
                            }
                            Err(Turn::Lead(lead))
                        }
                    };
                }
                Join::Follow(pending) => pending,
            };
            let outcome = pending.outcome().await;
            record.fetched_by = pending.span();
            match outcome {
                Settled::Shared(stored) if stored.is_for(request.headers()) => {
                    if client.takes(&stored, request.headers()) {
                        return Ok(client.collapsed(&stored, request.headers()));
                    }
                    return Err(Turn::Alone);
                }
                // Another variant: those who ask for the same one have a line of their own.
                Settled::Shared(stored) => {
                    let its_own = stored.variant_key(key, request.headers());
                    if variant.as_ref() == Some(&its_own) {
                        return Err(Turn::Alone);
                    }
                    variant = Some(its_own);
                }
                Settled::Failed(failure) => {
                    let status = match &failure {
                        Failure::Fetch(_) => None,
                        Failure::Status(status) => Some(*status),
                    };
                    return match (client.stand_in(request.headers(), status), failure) {
                        (Some(response), _) => Ok(response),
                        (None, Failure::Fetch(error)) => Err(Turn::Failed(error)),
                        (None, Failure::Status(_)) => Err(Turn::Alone),
                    };
                }
                Settled::Alone => return Err(Turn::Alone),
                Settled::Again => {}
            }
        }
    }

    /// The request to the origin, and what it is for.
    async fn asking(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss, lead): (&Caching<'_>, &Miss, Option<&Lead>),
        record: &mut Record,
    ) -> Result<Asking, Reason> {
        let Caching { cache, policy, key, .. } = caching;
        let fields = Arc::new(request.headers().clone());
        let epoch = cache.epoch();
        // Looked up once more: what was purged before the epoch must not come back by being validated.
        let stale = miss.stale.as_ref().and_then(|_| caching.stored(&fields));
        ask_for_all(request.headers_mut(), lead.is_some(), stale.as_deref());
        let method = request.method().clone();
        // Of the same key there is one copy.
        let of_all = lead.map(Lead::key).filter(|of_all| Borrow::<[u8]>::borrow(*of_all) == key.as_slice());
        let key = of_all.map_or_else(|| key.as_slice().into(), Key::clone);
        let asked = Asked { key, epoch, method, fields, stale };
        let mut outgoing = Outgoing::default();
        self.send_on(request, passing, (&mut outgoing, record)).await?;
        Ok(Asking {
            connections: Rc::clone(&self.worker.connections),
            route: Arc::clone(passing.route),
            cache: Arc::clone(cache),
            policy: Arc::clone(policy),
            outgoing,
            asked,
            client: None,
            trace: record.trace.clone(),
        })
    }
}

/// Preconditions and ranges are the client's, and the response is for all.
pub(super) fn ask_for_all(fields: &mut HeaderMap, is_shared: bool, stale: Option<&Stored>) {
    if is_shared || stale.is_some() {
        cache::remove_preconditions(fields);
        fields.remove(RANGE);
        fields.remove(IF_RANGE);
    }
    if let Some(stale) = stale {
        cache::validate(fields, stale);
    }
}

/// The head of a request for a part, which may be wanted once more.
fn ranged(request: &Request<Option<Source>>) -> Option<Parts> {
    if !request.headers().contains_key(RANGE) {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method.clone_from(request.method());
    parts.uri.clone_from(request.uri());
    parts.version = request.version();
    parts.headers.clone_from(request.headers());
    Some(parts)
}

/// What is left to do for a request that the others brought nothing for.
enum Turn {
    Failed(Arc<FetchError>),
    Lead(Lead),
    Alone,
}
