//! The origin side of a request: choose an endpoint, send, and where that fails decide whether the next one
//! may be tried. It needs no client.

mod attempt;
mod choosing;
mod failed;
mod observed;
mod outgoing;
#[cfg(test)]
mod simulation;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use tokio::time::Instant;

use self::attempt::Attempt;
use self::failed::FailedAttempt;
use self::observed::Counted;
pub use self::outgoing::Outgoing;
use crate::balance::{Call, Endpoint, InFlight, Outcome, Refused};
use crate::clock;
use crate::interim::Relay;
use crate::spare;
use crate::telemetry::metrics::AttemptOutcome;
use crate::telemetry::traces::Trace;
use crate::upstream::retry::{self, Decision, Failure, GiveUp, Next};
use crate::upstream::{
    Connections, Dispatch, Failed, Fate, Head, Limits, Over, Progress, Reply, Upstream, UpstreamError,
};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no endpoint of {0} is usable")]
    NoEndpoint(String),
    #[error("the breaker of {0} is open")]
    BreakerOpen(String),
    #[error("{0} has no room, and nobody may wait there")]
    Full(String),
    #[error("{0} had no room within {1:?}")]
    QueueTimeout(String, Duration),
    #[error("no response within {0:?} in all")]
    TotalTimeout(Duration),
    #[error("no response within {0:?} of an attempt")]
    AttemptTimeout(Duration),
    #[error("the client had not sent all of its request within {0:?}")]
    UploadTimeout(Duration),
    #[error("the endpoint was taken out while the request waited")]
    Ejected,
    /// It may have waited for as long as it wanted to.
    #[error("the endpoint gave up while the client was to send more: {0}")]
    GivenUp(UpstreamError),
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
    /// To the client, if one waits that may be told of what comes before the answer.
    pub relay: Option<Relay<'a>>,
}

/// What happened on the way, for the log.
#[derive(Debug, Default)]
pub struct Attempts {
    pub endpoint: Option<SocketAddr>,
    pub made: u32,
    /// How long it waited for room; None if it did not.
    pub queued: Option<Duration>,
    tried: Vec<u64>,
    /// When the first was made.
    begun: Option<Instant>,
    /// When the head of the last response was there; None if the last attempt brought none.
    pub answered: Option<Instant>,
    /// What its attempts are parts of; None if requests are not traced.
    pub trace: Option<Trace>,
    /// Over kept and over new connections.
    sent: u32,
}

impl Attempts {
    /// Of a request in this trace, if it has one.
    pub fn of(trace: Option<Trace>) -> Self {
        Self { trace, ..Self::default() }
    }

    /// From the start of the first attempt to the head of the response, if there was one.
    pub fn head_after(&self) -> Option<Duration> {
        Some(self.answered?.saturating_duration_since(self.begun?))
    }
}

/// One request over its attempts.
struct Sending<'a> {
    /// What the breaker is told by how it ends. While the request waits for its first attempt there is none.
    call: Option<Call<'a>>,
    outgoing: &'a mut Outgoing,
    is_idempotent: bool,
    /// What it is kept to one endpoint by.
    key: Option<u64>,
    /// When all of the time has passed.
    until: Option<Instant>,
    /// When the last attempt began.
    begun: Instant,
}

impl Fetch<'_> {
    /// Sends the request, if the upstream's breaker lets it through. Its fields and its body are used up.
    pub async fn send(&self, outgoing: &mut Outgoing, attempts: &mut Attempts) -> Result<Reply, FetchError> {
        let begun = clock::now();
        let call = self.begin(begun)?;
        self.upstream.budget.count_request(begun.into_std());
        let mut sending = self.sending(outgoing, begun, call);
        let result = self.send_through(&mut sending, attempts).await;
        let Sending { call, outgoing, .. } = sending;
        if let Some(call) = call {
            self.conclude(call, &result, attempts.answered);
        }
        spare::keep_fields(std::mem::take(&mut outgoing.head.headers));
        result
    }

    /// Asks the breaker. None if there is none.
    fn begin(&self, now: Instant) -> Result<Option<Call<'_>>, FetchError> {
        match self.upstream.pool.breaker().map(|breaker| breaker.begin(now.into_std())) {
            Some(Err(Refused)) => Err(FetchError::BreakerOpen(self.upstream.config().name.clone())),
            call => Ok(call.and_then(Result::ok)),
        }
    }

    /// Tells the breaker how a call ended; not if that says nothing of the upstream.
    fn conclude(&self, call: Call<'_>, result: &Result<Reply, FetchError>, answered: Option<Instant>) {
        let now = answered.unwrap_or_else(clock::now).into_std();
        match result {
            Ok(reply) if self.upstream.pool.is_failure(reply.status()) => call.failed(now),
            Ok(_) => call.answered(now),
            Err(error) if !error.is_of_upstream() => {}
            Err(_) => call.failed(now),
        }
    }

    fn sending<'c>(&self, outgoing: &'c mut Outgoing, begun: Instant, call: Option<Call<'c>>) -> Sending<'c> {
        let is_idempotent = retry::is_idempotent(&outgoing.head);
        let key = self.upstream.pool.key(&outgoing.head);
        let until = self.limits.timeouts.total.map(|total| begun + total);
        Sending { call, outgoing, is_idempotent, key, until, begun }
    }

    async fn send_through<'s>(
        &'s self,
        sending: &mut Sending<'s>,
        attempts: &mut Attempts,
    ) -> Result<Reply, FetchError> {
        let (mut stale, mut next, mut last) = (None, Next::Untried, None);
        loop {
            if sending.until.is_some_and(|until| until <= sending.begun) {
                return last.map_or_else(|| Err(self.total_timeout()), |(left, _)| left);
            }
            // After a kept connection that turned out to be closed, the same endpoint is asked over a new one.
            let chosen = match stale.take() {
                Some(in_flight) => Ok((in_flight, Over::New)),
                None => {
                    // A response at hand has a place itself, and is better than a wait.
                    let may_wait = !matches!(last, Some((Ok(_), _)));
                    self.endpoint(next, sending, attempts, may_wait).await.map(|chosen| (chosen, Over::Kept))
                }
            };
            let (in_flight, over) = match chosen {
                Ok(chosen) => chosen,
                Err(error) => return last.map_or(Err(error), |(left, _)| left),
            };
            // A response that is not passed on ends here, and not before there is somebody else to ask.
            if let Some((_, cause)) = last.take() {
                self.upstream.metrics.retried(cause);
            }
            attempts.made += u32::from(over == Over::Kept);
            let mut failed = match self.attempt((in_flight, over), sending, attempts).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            next = match self.decide(&failed, sending, attempts) {
                None | Some(Decision::GiveUp(_)) => return failed.left,
                Some(Decision::Reconnect) => Next::Untried,
                Some(Decision::Retry { after, to }) => {
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                    to
                }
            };
            stale = failed.stale.take();
            last = Some((failed.left, failed.cause));
            sending.begun = clock::now();
        }
    }

    /// None: another endpoint would do no better.
    fn decide(&self, failed: &FailedAttempt, sending: &Sending<'_>, attempts: &Attempts) -> Option<Decision> {
        if failed.left.as_ref().is_err_and(|error| !error.is_of_endpoint()) {
            return None;
        }
        let now = clock::now();
        let failure = Failure {
            is_idempotent: sending.is_idempotent,
            is_body_left: sending.outgoing.payload.is_left(),
            request: failed.request,
            is_stale: failed.stale.is_some(),
            attempts: attempts.made,
            has_others: self.upstream.pool.has_choice(&attempts.tried, now.into_std()),
            time_left: sending.until.map(|until| until.saturating_duration_since(now)),
        };
        let rules = &self.upstream.config().retry;
        let decision = retry::decide(rules, &failure, fastrand::u16(..), || failed.is_paid || self.spend());
        if decision == Decision::GiveUp(GiveUp::Budget) {
            self.upstream.metrics.budget_was_exhausted();
        }
        Some(decision)
    }

    /// Takes a retry out of the budget; false if there is none.
    fn spend(&self) -> bool {
        self.upstream.budget.spend(self.upstream.config().retry.budget_percent, clock::now().into_std())
    }

    async fn attempt(
        &self,
        (in_flight, over): (InFlight, Over),
        sending: &mut Sending<'_>,
        attempts: &mut Attempts,
    ) -> Result<Reply, Box<FailedAttempt>> {
        let endpoint = Arc::clone(in_flight.endpoint());
        attempts.endpoint = Some(endpoint.address);
        attempts.answered = None;
        attempts.begun.get_or_insert(sending.begun);
        if self.host_of_endpoint {
            name_endpoint(&mut sending.outgoing.head, &endpoint);
        }
        let moves_on = attempts.made < self.upstream.config().retry.attempts
            && sending.is_idempotent
            && sending.outgoing.payload.is_at_hand();
        let ejection = moves_on.then(|| endpoint.ejections());
        let mut counted = Counted::new(self.upstream, &endpoint, (&sending.outgoing.head.method, sending.begun));
        let (names, mut span) = self.begin_span(&endpoint, sending, attempts);
        let progress = &Progress::default();
        let outcome = {
            let Sending { outgoing: Outgoing { head, beside, payload }, until, .. } = &mut *sending;
            let (until, awaited) = (*until, payload.awaited());
            let head = Head { parts: head, beside: beside.as_ref(), names };
            let dispatch =
                Dispatch { in_flight, endpoint: &endpoint, relay: self.relay, head, payload, over, progress };
            let sending = pin!(self.upstream.send(dispatch, self.connections, self.limits));
            let attempt = Attempt { endpoint: &endpoint, tried: &attempts.tried, ejection, until, progress, awaited };
            self.within_limits(sending, attempt).await
        };
        let failed = match outcome {
            Ok(reply) => {
                let now = clock::now();
                attempts.answered = Some(now);
                if let Some(mut span) = span.take() {
                    span.answered(reply.status());
                }
                let outcome = self.upstream.pool.judge(reply.status());
                self.upstream.pool.report(&endpoint, outcome, now.into_std());
                counted.answered(reply.status(), now);
                if !self.is_failure(&reply) {
                    return Ok(reply);
                }
                FailedAttempt::by_status(reply)
            }
            Err(failed) => failed,
        };
        if let Err(error) = &failed.left {
            let is_attempt = failed.stale.is_none();
            counted.outcome = is_attempt.then(|| self.report(&endpoint, error, attempts.made, progress));
            if let Some(mut span) = span {
                span.failed(counted.outcome.map_or("stale", AttemptOutcome::as_str), error);
            }
        }
        if failed.stale.is_none() {
            attempts.tried.push(endpoint.id);
        }
        Err(failed)
    }

    fn is_failure(&self, reply: &Reply) -> bool {
        let rules = &self.upstream.config().retry;
        matches!(reply, Reply::Response(response, _) if retry::is_failure(rules, response.status()))
    }

    /// An attempt ends when its time or all of the time has passed, or its endpoint has been taken out.
    async fn within_limits(
        &self,
        sending: Pin<&mut impl Future<Output = Result<Reply, Failed>>>,
        attempt: Attempt<'_>,
    ) -> Result<Reply, Box<FailedAttempt>> {
        let mut sending = pin!(async {
            tokio::select! {
                biased;
                reply = sending => reply.map_err(|failed| attempt.judge(FailedAttempt::of_upstream(failed))),
                () = self.taken_out(&attempt) => {
                    Err(FailedAttempt::paid(FetchError::Ejected, attempt.fate()))
                }
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
            Err(_elapsed) => Err(FailedAttempt::new(attempt.blame(error), attempt.fate())),
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
        // Nor does it give up what it waits for if it may not be sent once more.
        if attempt.fate() != Fate::Unsent && !self.spend() {
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
    fn report(&self, endpoint: &Endpoint, error: &FetchError, made: u32, progress: &Progress) -> AttemptOutcome {
        let outcome = match error {
            FetchError::Ejected
            | FetchError::GivenUp(_)
            | FetchError::UploadTimeout(_)
            | FetchError::Upstream(UpstreamError::RequestBody(_)) => AttemptOutcome::Abandoned,
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
                if let Some(carrier) = &*progress.carrier.borrow() {
                    self.connections.suspect(endpoint.id, carrier);
                }
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

fn name_endpoint(head: &mut Parts, endpoint: &Endpoint) {
    head.headers.insert(HOST, endpoint.authority.clone());
}
