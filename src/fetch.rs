//! The origin side of a request: choose an endpoint, send, and where that fails decide whether the next one
//! may be tried. It needs no client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};

use crate::balance::{Endpoint, Outcome, Pool};
use crate::body::Body;
use crate::clock;
use crate::telemetry::metrics::AttemptOutcome;
use crate::upstream::{Connections, Failed, Limits, Reply, Upstream, UpstreamError};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no endpoint of {0} is usable")]
    NoEndpoint(String),
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
    pub async fn send(&self, request: Request<Body>, attempts: &mut Attempts) -> Result<Reply, FetchError> {
        match self.limits.timeouts.total {
            None => self.attempts(request, attempts).await,
            Some(total) => match tokio::time::timeout(total, self.attempts(request, attempts)).await {
                Ok(reply) => reply,
                Err(_elapsed) => Err(FetchError::TotalTimeout(total)),
            },
        }
    }

    async fn attempts(&self, mut request: Request<Body>, attempts: &mut Attempts) -> Result<Reply, FetchError> {
        let mut last_error = None;
        loop {
            let now = clock::now().into_std();
            let Some(in_flight) = self.upstream.pool.choose(&attempts.tried, now) else {
                return Err(last_error.unwrap_or_else(|| FetchError::NoEndpoint(self.upstream.name.clone())));
            };
            let endpoint = Arc::clone(in_flight.endpoint());
            attempts.made += 1;
            attempts.endpoint = Some(endpoint.address);
            if self.host_of_endpoint {
                name_endpoint(&mut request, &endpoint);
            }
            let ejections = endpoint.ejections();
            let spare = if attempts.made < self.upstream.attempts { replay(&request) } else { None };
            let sending = self.upstream.send(in_flight, request, self.connections, self.limits);
            let seen = spare.is_some().then_some(ejections);
            let moved_on = Ejection { pool: &self.upstream.pool, endpoint: &endpoint, tried: &attempts.tried, seen };
            let failed = match self.attempt_within(sending, moved_on).await {
                Ok(reply) => {
                    self.upstream.pool.report(&endpoint, Outcome::Answered, now);
                    self.upstream.metrics.attempt_ended(AttemptOutcome::Answered);
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            if !failed.stale {
                attempts.tried.push(endpoint.id);
                self.report(&endpoint, &failed.error);
            }
            let may_be_tried_again = failed.unsent.map(|unsent| *unsent).or(spare);
            match may_be_tried_again {
                Some(again) if !matches!(failed.error, FetchError::Upstream(UpstreamError::RequestBody(_))) => {
                    request = again;
                    last_error = Some(failed.error);
                }
                _ => return Err(failed.error),
            }
        }
    }

    async fn attempt_within(
        &self,
        sending: impl Future<Output = Result<Reply, Failed>>,
        ejection: Ejection<'_>,
    ) -> Result<Reply, FailedAttempt> {
        let sending = async {
            tokio::select! {
                biased;
                reply = sending => reply.map_err(FailedAttempt::from),
                () = ejection.wait() => Err(FailedAttempt::after(FetchError::Ejected)),
            }
        };
        let Some(limit) = self.limits.timeouts.attempt else { return sending.await };
        match tokio::time::timeout(limit, sending).await {
            Ok(reply) => reply,
            Err(_elapsed) => Err(FailedAttempt::after(FetchError::AttemptTimeout(limit))),
        }
    }

    fn report(&self, endpoint: &Endpoint, error: &FetchError) {
        let outcome = match error {
            FetchError::Ejected | FetchError::Upstream(UpstreamError::RequestBody(_)) => AttemptOutcome::Abandoned,
            FetchError::Upstream(
                UpstreamError::Connect(_) | UpstreamError::ConnectTimeout(_) | UpstreamError::Tls(_),
            ) => {
                self.upstream.pool.nudge();
                AttemptOutcome::ConnectFailed
            }
            FetchError::Upstream(UpstreamError::ReadTimeout(_) | UpstreamError::SendTimeout)
            | FetchError::AttemptTimeout(_) => AttemptOutcome::TimedOut,
            _ => AttemptOutcome::Broken,
        };
        self.upstream.metrics.attempt_ended(outcome);
        if outcome != AttemptOutcome::Abandoned {
            self.upstream.pool.report(endpoint, Outcome::Failed(error), clock::now().into_std());
        }
    }
}

/// A request that may be sent again does not wait for an endpoint that has been taken out meanwhile.
struct Ejection<'a> {
    pool: &'a Pool,
    endpoint: &'a Endpoint,
    tried: &'a [u64],
    /// How often the endpoint had been taken out before the attempt; None if the request must wait.
    seen: Option<u64>,
}

impl Ejection<'_> {
    async fn wait(&self) {
        match self.seen {
            Some(seen) => self.endpoint.ejected(seen).await,
            None => std::future::pending().await,
        }
        // Without another endpoint this one is still the best hope.
        let tried: Vec<u64> = self.tried.iter().copied().chain([self.endpoint.id]).collect();
        if self.pool.choose(&tried, clock::now().into_std()).is_none() {
            std::future::pending::<()>().await;
        }
    }
}

struct FailedAttempt {
    error: FetchError,
    unsent: Option<Box<Request<Body>>>,
    stale: bool,
}

impl FailedAttempt {
    fn after(error: FetchError) -> Self {
        Self { error, unsent: None, stale: false }
    }
}

impl From<Failed> for FailedAttempt {
    fn from(failed: Failed) -> Self {
        Self { error: failed.error.into(), unsent: failed.unsent, stale: failed.stale }
    }
}

/// The request once more, if sending it twice is the same as sending it once (RFC 9110 §9.2.2) and its body
/// is at hand.
fn replay(request: &Request<Body>) -> Option<Request<Body>> {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    if !idempotent || request.headers().contains_key(http::header::UPGRADE) {
        return None;
    }
    let body = request.body().replay()?;
    let mut again = Request::new(body);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

fn name_endpoint(request: &mut Request<Body>, endpoint: &Endpoint) {
    request.headers_mut().insert(http::header::HOST, endpoint.authority.clone());
}
