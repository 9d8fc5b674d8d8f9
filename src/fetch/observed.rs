//! What operators see of an attempt: its count and its span.

use http::Version;

use super::{Attempts, Fetch, Sending};
use crate::balance::Endpoint;
use crate::config::UpstreamProtocol;
use crate::telemetry::UpstreamMetrics;
use crate::telemetry::metrics::AttemptOutcome;
use crate::telemetry::traces::{AttemptSpan, Sent};

impl Fetch<'_> {
    /// Names the trace in the request, if it has one.
    pub(super) fn begin_span(
        &self,
        endpoint: &Endpoint,
        sending: &mut Sending<'_>,
        attempts: &mut Attempts,
    ) -> Option<AttemptSpan> {
        let trace = attempts.trace.as_ref()?;
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
        trace.begin_attempt(&mut sending.head, sent)
    }
}

/// Counts an attempt when it is over: as abandoned, if it is dropped because its client has left.
pub struct Counted<'a> {
    metrics: &'a UpstreamMetrics,
    /// None if it was none.
    pub outcome: Option<AttemptOutcome>,
}

impl<'a> Counted<'a> {
    pub fn new(metrics: &'a UpstreamMetrics) -> Self {
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
