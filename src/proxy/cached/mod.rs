//! The path of a request on a route that keeps responses: answered from the cache, by a fetch that it shares with
//! others, or by one of its own.

mod client;
mod look;
mod origin;
mod recode;

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LOCATION, IF_RANGE, RANGE};
use http::{Method, StatusCode};
use tokio::sync::oneshot;

use self::client::Client;
pub(super) use self::look::Target;
use self::look::{Caching, Hit, Miss, NoHit, look};
use self::origin::{Asking, Brought, lead_fetch};
pub(super) use self::recode::recode;
use super::{Answer, Exchange, Outgoing, Passing, Unread};
use crate::cache::{
    self, Asked, Failure, Forward, Forwarded, Join, Lead, Lookup, Outcome, Policy, Role, Said, Taken, Times,
};
use crate::clock;
use crate::error::Reason;
use crate::fetch::FetchError;
use crate::record::Record;

impl Exchange<'_> {
    /// Answers a request from the cache, or from the origin.
    pub(super) async fn pass_by_cache(
        &self,
        mut request: Unread<'_>,
        passing: &Passing<'_>,
        (policy, target): (&Arc<Policy>, Target),
        record: &mut Record,
    ) -> Result<Answer, Reason> {
        let kept_by = (&self.worker.shared.cache, policy);
        let caching = &Caching::new(kept_by, &mut request, &target, passing.client.via_trusted);
        match look(&mut request, passing, caching) {
            Ok(Hit { answer, revalidate: None }) => {
                record.cache = Some(Role::Hit);
                Ok(answer)
            }
            Ok(Hit { answer, revalidate: Some(miss) }) => {
                record.cache = Some(Role::Stale);
                if let Err(reason) = self.revalidate(request, passing, (caching, miss), record).await {
                    tracing::debug!("a stale response is not validated: {}", reason.code());
                }
                Ok(answer)
            }
            Err(NoHit::Beside(why)) => Box::pin(self.pass_beside(request, passing, (caching, why), record)).await,
            Err(NoHit::Missed(miss)) => Box::pin(self.fetch_shared(request, passing, (caching, miss), record)).await,
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
        let (asked, purges) = (clock::now().into_std(), cache.newest_purge());
        let mut response = match self.pass(request, passing, record).await? {
            Answer::Response(response) => response,
            other => return Ok(other),
        };
        let is_purged = cache.may_be_purged(key, purges);
        if !method.is_safe() {
            cache.invalidate((key, policy), &method, &response);
        }
        cache.obey(policy, key, response.headers_mut());
        let mut said = Forwarded::passed(why, None);
        if let Some(fields) = fields.filter(|_| !is_purged && response.headers().contains_key(CONTENT_LOCATION)) {
            // What comes from here on is newer than what it has made invalid.
            let epoch = cache.epoch();
            let times = Times { asked, answered: clock::now().into_std(), clock: clock::system_time() };
            let asked = Asked { key: key.as_slice().into(), epoch, method, fields, stale: None };
            match cache::take(cache, asked, policy, response, times) {
                Taken::Shared(stored, rest) => {
                    said.stored = true;
                    if let Some(rest) = rest {
                        tokio::task::spawn_local(rest.run(None));
                    }
                    response = stored.response();
                }
                Taken::Passed(passed, _) => response = passed,
                Taken::Mismatched => return Err(Reason::UpstreamProtocol),
            }
        }
        cache::annotate(response.headers_mut(), &Said::Forwarded(said));
        Ok(Answer::Response(response))
    }

    /// Validates behind the client's back what it has been sent.
    async fn revalidate(
        &self,
        mut request: Unread<'_>,
        passing: &Passing<'_>,
        (caching, miss): (&Caching<'_>, Box<Miss>),
        record: &mut Record,
    ) -> Result<(), Reason> {
        let Some(lead) = caching.cache.lead(&caching.key) else { return Ok(()) };
        // Also behind a HEAD: it is for all, and another response comes with its content.
        *request.method_mut() = Method::GET;
        let asking = self.asking(request, passing, (caching, &miss, true), record).await?;
        tokio::task::spawn_local(lead_fetch(asking, lead, None));
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
        let client = Client { method: request.method().clone(), passing, miss: &miss };
        let lead = match self.line_up(&request, &client, caching).await {
            Ok(answer) => {
                record.cache = Some(Role::Collapsed);
                return Ok(answer);
            }
            Err(Turn::Failed(error)) => return Err(Reason::from(&*error)),
            Err(Turn::Lead(lead)) => Some(lead),
            Err(Turn::Alone) => None,
        };
        let mut asking = self.asking(request, passing, (caching, &miss, lead.is_some()), record).await?;
        asking.client.clone_from(&self.link.interims);
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
        let Brought { taken, status, attempts, hold } = brought;
        record.attempts = attempts;
        record.head_after = Some(clock::now().saturating_duration_since(record.started()));
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
    async fn line_up(&self, request: &Unread<'_>, client: &Client<'_>, caching: &Caching<'_>) -> Result<Answer, Turn> {
        let Caching { cache, key, .. } = caching;
        if client.miss.is_alone {
            return Err(Turn::Alone);
        }
        let mut joined = key.clone();
        loop {
            let pending = match cache.join(&joined, key, clock::now().into_std()) {
                Join::Alone => return Err(Turn::Alone),
                Join::Lead(lead) => {
                    // The last one may have come to its end since this request looked.
                    let found = cache.lookup(key, request.headers(), (clock::now().into_std(), clock::system_time));
                    return match found {
                        Lookup::Found(stored) if client.takes(&stored, request.headers()) => {
                            lead.settle(Outcome::Shared(Arc::clone(&stored)));
                            Ok(client.hit(&stored, request.headers()))
                        }
                        _ => Err(Turn::Lead(lead)),
                    };
                }
                Join::Follow(pending) => pending,
            };
            match pending.outcome().await {
                Outcome::Shared(stored) if stored.is_for(request.headers()) => {
                    if client.takes(&stored, request.headers()) {
                        return Ok(client.collapsed(&stored, request.headers()));
                    }
                    return Err(Turn::Alone);
                }
                // Another variant: those who ask for the same one have a line of their own.
                Outcome::Shared(stored) => {
                    let variant = stored.variant_key(key, request.headers());
                    if std::mem::replace(&mut joined, variant) == joined {
                        return Err(Turn::Alone);
                    }
                }
                Outcome::Failed(failure) => {
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
                Outcome::Alone => return Err(Turn::Alone),
                Outcome::Again => {}
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
        let Caching { cache, policy, key, .. } = caching;
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
            Asked { key: key.as_slice().into(), epoch: cache.epoch(), method, fields, stale: miss.stale.clone() };
        let Outgoing { request, .. } = self.outgoing(request, passing, record).await?;
        Ok(Asking {
            connections: Rc::clone(&self.worker.connections),
            route: Arc::clone(passing.route),
            cache: Arc::clone(cache),
            policy: Arc::clone(policy),
            request,
            asked,
            client: None,
        })
    }
}

/// What is left to do for a request that the others brought nothing for.
enum Turn {
    Failed(Arc<FetchError>),
    Lead(Lead),
    Alone,
}
