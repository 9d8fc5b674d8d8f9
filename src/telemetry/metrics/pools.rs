//! Upstreams as they are at the moment of a scrape: endpoints, breaker, queue.

use std::sync::Arc;

use super::endpoints::EndpointSample;
use super::families;
use super::gathered::Gathered;

#[derive(Debug, Clone)]
pub struct UpstreamSample {
    pub name: Arc<str>,
    /// None if it has none.
    pub breaker: Option<BreakerSample>,
    pub queue: QueueSample,
    pub endpoints: Vec<EndpointSample>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSample {
    /// One of [`STATES`].
    pub state: &'static str,
    pub opened: u64,
    pub refused: u64,
}

const STATES: [&str; 3] = ["closed", "open", "half-open"];

#[derive(Debug, Clone, PartialEq)]
pub struct QueueSample {
    /// None: there is no cap.
    pub requests_max: Option<u64>,
    pub waiting: u64,
    pub waited: u64,
    pub waited_s: f64,
    pub full: u64,
    pub timed_out: u64,
}

impl UpstreamSample {
    pub fn gather(&self, to: &mut Gathered) {
        let name = || [(&*self.name).into()];
        if let Some(BreakerSample { state, opened, refused }) = self.breaker {
            for known in STATES {
                to.add(&families::BREAKER_STATE, [known.into(), (&*self.name).into()], known == state);
            }
            to.add(&families::BREAKER_OPENED, name(), opened);
            to.add(&families::BREAKER_REFUSED, name(), refused);
        }
        let QueueSample { requests_max, waiting, waited, waited_s, full, timed_out } = self.queue;
        if let Some(max) = requests_max {
            to.add(&families::UPSTREAM_REQUESTS_MAX, name(), max);
        }
        to.add(&families::QUEUE_LENGTH, name(), waiting);
        to.add(&families::QUEUED, name(), waited);
        to.add(&families::QUEUED_SECONDS, name(), waited_s);
        for (reason, count) in [("upstream-full", full), ("queue-timeout", timed_out)] {
            to.add(&families::QUEUE_REFUSED, [reason.into(), (&*self.name).into()], count);
        }
        self.endpoints.iter().for_each(|endpoint| endpoint.gather(to));
    }
}
