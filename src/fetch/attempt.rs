//! What may end an attempt before its response, and whose doing that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::FetchError;
use super::failed::FailedAttempt;
use crate::balance::Endpoint;
use crate::upstream::{Fate, Progress, UpstreamError};

/// One attempt, as far as what may end it needs to know.
pub struct Attempt<'a> {
    pub endpoint: &'a Endpoint,
    pub tried: &'a [u64],
    /// How often the endpoint had been taken out before; None if the request must wait.
    pub ejection: Option<u64>,
    /// When all of the time has passed.
    pub until: Option<Instant>,
    pub progress: &'a Progress,
    /// Whether its client is what is waited for.
    pub awaited: Option<Arc<AtomicBool>>,
}

impl Attempt<'_> {
    /// What has become of the request if the attempt ends now.
    pub fn fate(&self) -> Fate {
        if self.progress.has_begun.get() { Fate::Unknown } else { Fate::Unsent }
    }

    /// Who it is that has let the time of `error` pass.
    pub fn blame(&self, error: FetchError) -> FetchError {
        match error {
            FetchError::AttemptTimeout(limit) | FetchError::TotalTimeout(limit) if self.waits_for_client() => {
                FetchError::UploadTimeout(limit)
            }
            error => error,
        }
    }

    /// An endpoint that closes while its client dribbles has had its own time limit, for all that is known: slow clients
    /// must not take endpoints out, and one that has crashed is known by its next connection.
    pub fn judge(&self, mut failed: Box<FailedAttempt>) -> Box<FailedAttempt> {
        if failed.stale.is_none() && self.waits_for_client() {
            failed.left = failed.left.map_err(|error| match error {
                FetchError::Upstream(closed @ UpstreamError::Closed(_)) => FetchError::GivenUp(closed),
                error => error,
            });
        }
        failed
    }

    fn waits_for_client(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.load(Ordering::Relaxed))
    }
}
