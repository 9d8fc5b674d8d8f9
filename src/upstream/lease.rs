//! What is held while a request and its response pass: counts, and the verdict on the end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::pool::OpenStream;
use crate::balance::{InFlight, Outcome, Pool};
use crate::body::{BodyError, End, Guard};
use crate::clock;
use crate::timers::Deadline;

/// How the body of the request in progress ended; empty while it has not.
pub type Sent = Arc<OnceLock<Result<(), BodyError>>>;

/// Rides in the request's body: the silence of the endpoint counts from its end.
pub struct Sending {
    pub sent: Sent,
    pub silence: Deadline,
    pub limit: Duration,
}

impl Guard for Sending {
    fn ended(self: Box<Self>, _passed: u64, end: End<'_>) {
        let outcome = match end {
            End::Complete => Ok(()),
            End::Failed(error) => Err(error.clone()),
            // Whoever let go of it has a reason of its own.
            End::Abandoned | End::Stalled => return self.silence.arm(self.limit),
        };
        let _first = self.sent.set(outcome);
        self.silence.arm(self.limit);
    }
}

/// Rides in the response's body: what a response in progress holds of its endpoint. An HTTP/1.1 connection is
/// the body's source, and goes back when that ends.
pub struct Lease {
    pub in_flight: InFlight,
    pub pool: Arc<Pool>,
    /// Counted until it is dropped.
    pub stream: Option<OpenStream>,
}

impl Guard for Lease {
    fn ended(self: Box<Self>, _passed: u64, end: End<'_>) {
        // A stream that is quiet for too long is ended, but many do so in health.
        if let End::Failed(BodyError::Peer(_)) = end {
            let failure = Outcome::Failed(&"the response's body ended early");
            self.pool.report(self.in_flight.endpoint(), failure, clock::now().into_std());
        }
        drop(self.stream);
    }
}
