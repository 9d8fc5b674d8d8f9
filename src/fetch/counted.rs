//! Counts an attempt when it is over, whichever way: as abandoned, if it is dropped because its client has left.

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use crate::balance::Endpoint;
use crate::clock;
use crate::config::UpstreamProtocol;
use crate::telemetry::metrics::{AttemptOutcome, Attempted};
use crate::upstream::Upstream;

pub struct Counted<'a> {
    upstream: &'a Upstream,
    endpoint: &'a Endpoint,
    method: Method,
    begun: Instant,
    /// When the head of the response was there.
    answered: Option<(StatusCode, Instant)>,
    /// None if it was none.
    pub outcome: Option<AttemptOutcome>,
}

impl<'a> Counted<'a> {
    pub fn new(upstream: &'a Upstream, endpoint: &'a Endpoint, (method, begun): (&Method, Instant)) -> Self {
        let (method, outcome) = (method.clone(), Some(AttemptOutcome::Abandoned));
        Self { upstream, endpoint, method, begun, answered: None, outcome }
    }

    pub fn answered(&mut self, status: StatusCode, now: Instant) {
        self.answered = Some((status, now));
        self.outcome = Some(AttemptOutcome::Answered);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Some(ended) = self.outcome else { return };
        self.upstream.metrics.attempt_ended(ended);
        let (outcome, at) = match self.answered {
            Some((status, at)) => (Ok(status), at),
            None => (Err(ended), clock::now()),
        };
        let version = match self.upstream.config().protocol {
            UpstreamProtocol::H1 => Version::HTTP_11,
            UpstreamProtocol::H2 => Version::HTTP_2,
        };
        let duration = at.saturating_duration_since(self.begun);
        self.endpoint.metrics.attempted(&Attempted { method: &self.method, version, outcome, duration });
    }
}
