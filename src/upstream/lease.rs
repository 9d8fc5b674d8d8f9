//! What is held while a request and its response pass: the connection, the count, the verdict on the end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::pool::{Exclusive, OpenStream, Return};
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

/// Rides in the response's body: what a response in progress holds of its endpoint.
pub struct Lease {
    pub carrier: Carrier,
    pub in_flight: InFlight,
    pub pool: Arc<Pool>,
    /// None if the request had no body.
    pub request: Option<Sent>,
}

pub enum Carrier {
    Exclusive(Exclusive, Return),
    Shared(#[expect(dead_code, reason = "counted until it is dropped")] OpenStream),
}

impl Guard for Lease {
    fn ended(self: Box<Self>, _passed: u64, end: End<'_>) {
        let Self { carrier, in_flight, pool, request } = *self;
        // A stream that is quiet for too long is ended, but many do so in health.
        if let End::Failed(BodyError::Peer(_)) = end {
            let failure = Outcome::Failed(&"the response's body ended early");
            pool.report(in_flight.endpoint(), failure, clock::now().into_std());
        }
        let Carrier::Exclusive(connection, way_back) = carrier else { return };
        let request_is_over = request.is_none_or(|sent| matches!(sent.get(), Some(Ok(()))));
        match end {
            End::Complete if request_is_over => way_back.give_back(connection),
            // After a final response no more of the request is sent, and the rest of it must never be taken for
            // the next request.
            _ => connection.abort(),
        }
    }
}
