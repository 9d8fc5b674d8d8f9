//! What operators see of an attempt: its count and its span.

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::{Attempts, Fetch, Sending};
use crate::balance::Endpoint;
use crate::clock;
use crate::config::UpstreamProtocol;
use crate::telemetry::metrics::{AttemptOutcome, Attempted};
use crate::telemetry::traces::{AttemptSpan, Sent, SpanFields};
use crate::upstream::Upstream;

impl Fetch<'_> {
    /// Names the trace in the request, if it has one.
    pub(super) fn begin_span(
        &self,
        endpoint: &Endpoint,
        sending: &Sending<'_>,
        attempts: &mut Attempts,
    ) -> (Option<SpanFields>, Option<Box<AttemptSpan<'_>>>) {
        let Some(trace) = &attempts.trace else { return (None, None) };
        let config = self.upstream.config();
        let sent = Sent {
            endpoint: endpoint.address,
            upstream: &config.name,
            is_tls: self.upstream.tls.is_some(),
            version: if config.protocol == UpstreamProtocol::H2 { Version::HTTP_2 } else { Version::HTTP_11 },
            resent: attempts.sent,
            begun: sending.begun,
        };
        attempts.sent += 1;
        let (fields, span) = trace.begin_attempt(&sending.outgoing.head, sent);
        (Some(fields), span)
    }
}

/// Counts an attempt when it is over, whichever way: as abandoned, if it is dropped because its client has left.
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
