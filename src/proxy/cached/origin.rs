//! The origin side of a request that the cache did not answer: by itself, or for all who wait for it.

use std::borrow::Borrow as _;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tokio::sync::oneshot;

use super::super::message::receive;
use crate::body::Reader;
use crate::cache::{
    self, Asked, Cache, Detached, Directives, Failure, Lead, Policy, Settled, Stored, Taken, Times, Usable,
};
use crate::clock;
use crate::fetch::{Attempts, FetchError, Outgoing};
use crate::interim::{Interims, Relay};
use crate::snapshot::{Action, HeldRoute};
use crate::telemetry::traces::{Trace, take_off_names};
use crate::upstream::{Connections, Reply};

/// The origin side of a request that was not answered. It owns all that it needs, so it goes on without its client.
pub struct Asking {
    pub connections: Rc<Connections>,
    pub route: Arc<HeldRoute>,
    pub cache: Arc<Cache>,
    pub policy: Arc<Policy>,
    pub outgoing: Outgoing,
    pub asked: Asked,
    /// The client that began it, if it waits: interim responses are for it alone. Who follows may have come after them,
    /// and hints that are late are worth nothing.
    pub client: Option<Interims>,
    /// Of the client that began it.
    pub trace: Option<Trace>,
}

/// What the origin's answer came to.
pub struct Brought {
    pub taken: Result<Taken, Arc<FetchError>>,
    pub status: Option<StatusCode>,
    pub attempts: Attempts,
    /// Keeps a response coming until its first reader is there.
    pub hold: Option<Reader>,
}

impl Asking {
    pub async fn ask(self) -> Brought {
        let Self { connections, route, cache, policy, mut outgoing, mut asked, client, trace } = self;
        let mut attempts = Attempts::of(trace);
        let Action::Proxy(pass) = &route.action else {
            return Brought::failed(FetchError::NoEndpoint(String::new()), attempts);
        };
        // Asked once more if what is stored turns out not to be what the origin speaks of.
        let mut again = asked.stale.is_some().then(|| unconditional(&outgoing));
        let edits = &route.config.response_fields;
        let relay = client.as_ref().map(|client| Relay { client, edits });
        loop {
            let begun = clock::now().into_std();
            let mut response = match pass.fetch(&connections, relay).send(&mut outgoing, &mut attempts).await {
                Ok(Reply::Response(response, _)) => *response,
                Ok(Reply::Tunnel(_)) => return Brought::failed(FetchError::Ejected, attempts),
                Err(error) => return Brought::failed(error, attempts),
            };
            receive(&mut response);
            if attempts.trace.is_some() {
                take_off_names(response.headers_mut());
            }
            cache.obey(&policy, asked.key.borrow(), response.headers_mut());
            let status = Some(response.status());
            let times = Times { asked: begun, answered: clock::now().into_std(), clock: clock::system_time() };
            let taken = cache::take(&cache, asked.clone(), &policy, response, times);
            match (taken, again.take()) {
                (Taken::Mismatched, Some(unconditional)) => {
                    asked.stale = None;
                    outgoing = unconditional;
                }
                (taken, _) => {
                    let hold = match &taken {
                        Taken::Shared(_, Some(rest)) => Some(rest.hold()),
                        _ => None,
                    };
                    return Brought { taken: Ok(taken), status, attempts, hold };
                }
            }
        }
    }
}

impl Brought {
    fn failed(error: FetchError, attempts: Attempts) -> Self {
        Self { taken: Err(Arc::new(error)), status: None, attempts, hold: None }
    }
}

/// The same request, without its preconditions. It has no body.
fn unconditional(outgoing: &Outgoing) -> Outgoing {
    let mut head = outgoing.head.clone();
    cache::remove_preconditions(&mut head.headers);
    Outgoing { head, beside: outgoing.beside.clone(), ..Outgoing::default() }
}

/// Fetches for all who wait, to the end, even if who began it has left; then it has to have a place for that.
pub async fn lead_fetch(asking: Asking, lead: Lead, mut begun_by: Begun) {
    let is_validating = asking.asked.stale.is_some();
    let cache = Arc::clone(&asking.cache);
    let mut asked = pin!(asking.ask());
    let mut brought = match &mut begun_by {
        Begun::Behind(_) => asked.await,
        Begun::By(client) => tokio::select! {
            biased;
            brought = &mut asked => brought,
            () = client.closed() => {
                // Who waits besides begins anew.
                let Some(place) = cache.detach() else { return };
                begun_by = Begun::Behind(place);
                asked.await
            }
        },
    };
    let now = clock::now().into_std();
    let rest = match &mut brought.taken {
        Ok(Taken::Shared(_, rest)) => rest.take(),
        _ => None,
    };
    let lead = match settled(&brought.taken, is_validating, now) {
        Settled::Alone => {
            lead.leave_alone(now);
            None
        }
        Settled::Again => None,
        settled => {
            lead.settle(settled);
            rest.is_some().then_some(lead)
        }
    };
    let detached = match begun_by {
        Begun::Behind(place) => {
            // Nobody is told, and what stands for a reader to come holds up what is not kept.
            drop(brought);
            Some(place)
        }
        Begun::By(client) => {
            // It may have left.
            let _unheard = client.send(brought);
            None
        }
    };
    if let Some(rest) = rest {
        rest.run(lead, detached).await;
    }
}

/// Who waits for a fetch first.
pub enum Begun {
    By(oneshot::Sender<Brought>),
    /// Nobody: it is behind the client's back, or its client has left.
    Behind(Detached),
}

/// What those are told who wait for it.
fn settled(taken: &Result<Taken, Arc<FetchError>>, is_validating: bool, now: Instant) -> Settled<Arc<Stored>, Failure> {
    match taken {
        Err(error) => Settled::Failed(Failure::Fetch(Arc::clone(error))),
        Ok(Taken::Shared(stored, _)) => match stored.terms.usable(&Directives::default(), now) {
            Usable::Fresh => Settled::Shared(Arc::clone(stored)),
            // What has to be validated for each request can be had by none of the others.
            Usable::Stale(_) | Usable::Validate(_) => Settled::Alone,
        },
        Ok(Taken::Passed(response, _)) if is_validating && is_failure(response.status()) => {
            Settled::Failed(Failure::Status(response.status()))
        }
        // Another one's may be for all: those who wait begin again.
        Ok(Taken::Passed(_, why)) if why.is_of_the_request() => Settled::Again,
        Ok(Taken::Passed(..) | Taken::Mismatched) => Settled::Alone,
    }
}

/// Answers of an origin in place of which something stale may be sent (RFC 5861 §4).
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
