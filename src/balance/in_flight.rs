//! One request at one endpoint, and its place there and at the upstream.
//!
//! Whoever asks at the same time, there are never more places taken than the caps say. A place that is given back wakes
//! who is first in the line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::endpoint::Endpoint;

/// One request that goes on without a place; below it are counted those that have one.
const LASTING: u64 = 1 << 32;

/// All requests of [`Endpoint::in_flight`].
pub(super) fn all(both: u64) -> usize {
    with_place(both) + (both >> 32) as usize
}

/// Those of them that have a place.
pub(super) fn with_place(both: u64) -> usize {
    (both & (LASTING - 1)) as usize
}

/// A request counted at its endpoint until this is dropped. It rides in the response body, so that a
/// response still being sent counts too.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    has_place: bool,
    /// It is counted at the upstream as well.
    is_of_upstream: bool,
}

impl InFlight {
    /// None if the endpoint, or its upstream, has as many as it may have: `max`, and what the queue says. It is never
    /// more, whoever asks at the same time.
    pub(super) fn begin(endpoint: &Arc<Endpoint>, max: usize) -> Option<Self> {
        let is_of_upstream = endpoint.queue.enter()?;
        let with_room = |both: u64| (with_place(both) < max).then_some(both + 1);
        let has_entered = match max {
            // One addition is cheaper while many threads come at once.
            0 => {
                endpoint.in_flight.fetch_add(1, Ordering::SeqCst);
                true
            }
            _ => endpoint.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, with_room).is_ok(),
        };
        if !has_entered {
            if is_of_upstream {
                endpoint.queue.leave();
                endpoint.queue.wake();
            }
            return None;
        }
        Some(Self { endpoint: Arc::clone(endpoint), has_place: true, is_of_upstream })
    }

    pub(super) fn counted(self) -> Self {
        self.endpoint.requests.fetch_add(1, Ordering::Relaxed);
        self
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    #[cfg(test)]
    pub fn has_place(&self) -> bool {
        self.has_place
    }

    /// What has begun stays open for as long as the client likes, and most of the time nothing is to do: it gives its
    /// place to another one. For the choice of endpoints it still counts.
    pub fn give_place_back(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.endpoint.in_flight.fetch_add(LASTING - 1, Ordering::SeqCst);
            self.leave_upstream();
        }
    }

    fn leave_upstream(&mut self) {
        if std::mem::take(&mut self.is_of_upstream) {
            self.endpoint.queue.leave();
        }
        self.endpoint.queue.wake();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.has_place {
            self.endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.leave_upstream();
        } else {
            self.endpoint.in_flight.fetch_sub(LASTING, Ordering::Relaxed);
        }
    }
}
