//! The origin side of a request: choose an endpoint, send, and where that fails decide whether the next one
//! may be tried. It needs no client.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::request::Parts;
use http::{Method, Request};
use tokio::time::Instant;

use crate::balance::{Call, Endpoint, InFlight, Outcome, Refused};
use crate::body::{Body, Payload};
use crate::clock;
use crate::spare;
use crate::telemetry::UpstreamMetrics;
use crate::telemetry::metrics::AttemptOutcome;
use crate::upstream::{Connections, Dispatch, Failed, Fate, Limits, Over, Reply, Upstream, UpstreamError};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no endpoint of {0} is usable")]
    NoEndpoint(String),
    #[error("the breaker of {0} is open")]
    BreakerOpen(String),
    #[error("no response within {0:?} in all")]
    TotalTimeout(Duration),
    #[error("no response within {0:?} of an attempt")]
    AttemptTimeout(Duration),
    #[error("the endpoint was taken out while the request waited")]
    Ejected,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// What a fetch may take, and where it goes.
pub struct Fetch<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub connections: &'a Connections,
    pub limits: Limits<'a>,
    /// The endpoint's own name goes into `Host`.
    pub host_of_endpoint: bool,
}

/// What happened on the way, for the log.
#[derive(Debug, Default)]
pub struct Attempts {
    pub endpoint: Option<SocketAddr>,
    pub made: u32,
    tried: Vec<u64>,
}

impl Fetch<'_> {
    /// Sends the request, if the upstream's breaker lets it through.
    pub async fn send(&self, request: Request<Body>, attempts: &mut Attempts) -> Result<Reply, FetchError> {
        let call = match self.upstream.pool.breaker().map(|breaker| breaker.begin(clock::now().into_std())) {
            Some(Err(Refused)) => return Err(FetchError::BreakerOpen(self.upstream.config().name.clone())),
            call => call.and_then(Result::ok),
        };
        let result = self.attempt(request, attempts).await;
        if let Some(call) = call {
            self.conclude(call, &result);
        }
        result
    }

    /// Tells the breaker how a call ended; not if that says nothing of the upstream.
    fn conclude(&self, call: Call<'_>, result: &Result<Reply, FetchError>) {
        let now = clock::now().into_std();
        match result {
            Ok(reply) if self.upstream.pool.is_failure(reply.status()) => call.failed(now),
            Ok(_) => call.answered(now),
            Err(FetchError::NoEndpoint(_) | FetchError::Upstream(UpstreamError::RequestBody(_))) => {}
            Err(_) => call.failed(now),
        }
    }

    async fn attempt(&self, request: Request<Body>, attempts: &mut Attempts) -> Result<Reply, FetchError> {
        let until = self.limits.timeouts.total.map(|total| clock::now() + total);
        let (mut head, body) = request.into_parts();
        let mut payload = Payload::new(body);
        let is_idempotent = is_idempotent(&head);
        let key = self.upstream.pool.key(&head);
        let mut last_error = None;
        let mut stale = None;
        loop {
            let now = clock::now();
            if until.is_some_and(|until| until <= now) {
                return Err(self.total_timeout());
            }
            // After a kept connection that turned out to be closed, the same endpoint is asked over a new one.
            let (in_flight, over) = match stale.take() {
                Some(in_flight) => (in_flight, Over::New),
                None => match self.upstream.pool.choose(&attempts.tried, key, now.into_std()) {
                    Some(in_flight) => (in_flight, Over::Kept),
                    None => return Err(last_error.unwrap_or_else(|| self.no_endpoint())),
                },
            };
            let endpoint = Arc::clone(in_flight.endpoint());
            attempts.made += u32::from(over == Over::Kept);
            attempts.endpoint = Some(endpoint.address);
            if self.host_of_endpoint {
                name_endpoint(&mut head, &endpoint);
            }
            let may_repeat = attempts.made < self.upstream.config().attempts;
            let moves_on = may_repeat && is_idempotent && payload.is_at_hand();
            let ejection = moves_on.then(|| endpoint.ejections());
            let mut counted = Counted::new(&self.upstream.metrics);
            let outcome = {
                let dispatch = Dispatch { in_flight, endpoint: &endpoint, head: &head, payload: &mut payload, over };
                let sending = pin!(self.upstream.send(dispatch, self.connections, self.limits));
                let attempt = Attempt { endpoint: &endpoint, tried: &attempts.tried, ejection, until };
                self.within_limits(sending, attempt).await
            };
            let failed = match outcome {
                Ok(reply) => {
                    let outcome = self.upstream.pool.judge(reply.status());
                    self.upstream.pool.report(&endpoint, outcome, now.into_std());
                    counted.outcome = Some(AttemptOutcome::Answered);
                    spare::keep_fields(head.headers);
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            stale = failed.stale;
            counted.outcome = None;
            if stale.is_none() {
                attempts.tried.push(endpoint.id);
                counted.outcome = Some(self.report(&endpoint, &failed.error, attempts.made));
            }
            let may_be_sent = match failed.request {
                Fate::Unsent => true,
                Fate::Unprocessed => may_repeat || stale.is_some(),
                Fate::Unknown => (may_repeat || stale.is_some()) && is_idempotent,
            };
            if !(may_be_sent && payload.is_left() && failed.error.is_of_endpoint()) {
                return Err(failed.error);
            }
            last_error = Some(failed.error);
        }
    }

    /// An attempt ends when its time or all of the time has passed, or its endpoint has been taken out.
    async fn within_limits(
        &self,
        sending: Pin<&mut impl Future<Output = Result<Reply, Failed>>>,
        attempt: Attempt<'_>,
    ) -> Result<Reply, FailedAttempt> {
        let mut sending = pin!(async {
            tokio::select! {
                biased;
                reply = sending => reply.map_err(FailedAttempt::from),
                () = self.taken_out(&attempt) => Err(FetchError::Ejected.into()),
            }
        });
        let limit = self.limits.timeouts.attempt.map(|limit| (clock::now() + limit, limit));
        let (until, error) = match (limit, attempt.until) {
            (None, None) => return sending.await,
            (Some((end, limit)), until) if until.is_none_or(|until| end < until) => {
                (end, FetchError::AttemptTimeout(limit))
            }
            (_, until) => (until.unwrap_or_else(clock::now), self.total_timeout()),
        };
        match tokio::time::timeout_at(until, sending.as_mut()).await {
            Ok(reply) => reply,
            Err(_elapsed) => Err(error.into()),
        }
    }

    /// A request that may be sent again does not wait for an endpoint that has been taken out meanwhile.
    async fn taken_out(&self, attempt: &Attempt<'_>) {
        match attempt.ejection {
            Some(seen) => attempt.endpoint.ejected(seen).await,
            None => std::future::pending().await,
        }
        // Without another endpoint this one is still the best hope.
        let tried: Vec<u64> = attempt.tried.iter().copied().chain([attempt.endpoint.id]).collect();
        if !self.upstream.pool.has_choice(&tried, clock::now().into_std()) {
            std::future::pending::<()>().await;
        }
    }

    fn no_endpoint(&self) -> FetchError {
        FetchError::NoEndpoint(self.upstream.config().name.clone())
    }

    fn total_timeout(&self) -> FetchError {
        FetchError::TotalTimeout(self.limits.timeouts.total.unwrap_or_default())
    }

    /// Tells the pool what an endpoint did to attempt number `made`.
    fn report(&self, endpoint: &Endpoint, error: &FetchError, made: u32) -> AttemptOutcome {
        let outcome = match error {
            FetchError::Ejected | FetchError::Upstream(UpstreamError::RequestBody(_)) => AttemptOutcome::Abandoned,
            // The endpoint had what others had left of the time.
            FetchError::TotalTimeout(_) if made > 1 => AttemptOutcome::Abandoned,
            FetchError::Upstream(
                UpstreamError::Connect(_) | UpstreamError::ConnectTimeout(_) | UpstreamError::Tls(_),
            ) => {
                self.upstream.pool.nudge();
                AttemptOutcome::ConnectFailed
            }
            FetchError::Upstream(UpstreamError::ReadTimeout(_) | UpstreamError::SendTimeout)
            | FetchError::AttemptTimeout(_)
            | FetchError::TotalTimeout(_) => {
                self.connections.suspect(endpoint.id);
                AttemptOutcome::TimedOut
            }
            _ => AttemptOutcome::Broken,
        };
        if outcome != AttemptOutcome::Abandoned {
            self.upstream.pool.report(endpoint, Outcome::Failed(error), clock::now().into_std());
        }
        outcome
    }
}

/// One attempt, as far as what may end it needs to know.
struct Attempt<'a> {
    endpoint: &'a Endpoint,
    tried: &'a [u64],
    /// How often the endpoint had been taken out before; None if the request must wait.
    ejection: Option<u64>,
    /// When all of the time has passed.
    until: Option<Instant>,
}

impl FetchError {
    /// Whether another endpoint, or another connection, may do better.
    fn is_of_endpoint(&self) -> bool {
        !matches!(self, Self::TotalTimeout(_) | Self::Upstream(UpstreamError::RequestBody(_)))
    }
}

/// Counts an attempt when it is over: as abandoned, if it is dropped because its client has left.
struct Counted<'a> {
    metrics: &'a UpstreamMetrics,
    /// None if it was none.
    outcome: Option<AttemptOutcome>,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a UpstreamMetrics) -> Self {
        Self { metrics, outcome: Some(AttemptOutcome::Abandoned) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            self.metrics.attempt_ended(outcome);
        }
    }
}

struct FailedAttempt {
    error: FetchError,
    request: Fate,
    stale: Option<InFlight>,
}

impl From<FetchError> for FailedAttempt {
    fn from(error: FetchError) -> Self {
        Self { error, request: Fate::Unknown, stale: None }
    }
}

impl From<Failed> for FailedAttempt {
    fn from(failed: Failed) -> Self {
        Self { error: failed.error.into(), request: failed.request, stale: failed.stale }
    }
}

/// Sending it twice is the same as sending it once (RFC 9110 §9.2.2). An upgrade is begun once.
fn is_idempotent(head: &Parts) -> bool {
    matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        && !head.headers.contains_key(UPGRADE)
}

fn name_endpoint(head: &mut Parts, endpoint: &Endpoint) {
    head.headers.insert(HOST, endpoint.authority.clone());
}
