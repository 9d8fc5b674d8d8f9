//! An attempt that brought nothing that is passed on, why, and whose fault it is.

use super::FetchError;
use crate::balance::InFlight;
use crate::telemetry::metrics::RetryCause;
use crate::upstream::{Failed, Fate, Reply, UpstreamError};

/// What is left of an attempt for the decision whether there is another. It is made in a box: nearly all attempts bring an
/// answer, and carry no room for it.
pub struct FailedAttempt {
    /// What the client gets if it was the last.
    pub left: Result<Reply, FetchError>,
    pub cause: RetryCause,
    pub request: Fate,
    pub stale: Option<InFlight>,
    /// The budget has been asked already.
    pub is_paid: bool,
}

impl FailedAttempt {
    pub fn new(error: FetchError, request: Fate) -> Box<Self> {
        let cause = match &error {
            _ if request == Fate::Unprocessed => RetryCause::Refused,
            FetchError::Ejected => RetryCause::Ejected,
            FetchError::Upstream(
                UpstreamError::Connect(_) | UpstreamError::ConnectTimeout(_) | UpstreamError::Tls(_),
            ) => RetryCause::Connect,
            FetchError::Upstream(UpstreamError::ReadTimeout(_) | UpstreamError::SendTimeout)
            | FetchError::AttemptTimeout(_)
            | FetchError::UploadTimeout(_)
            | FetchError::TotalTimeout(_) => RetryCause::TimedOut,
            FetchError::NoEndpoint(_)
            | FetchError::BreakerOpen(_)
            | FetchError::Full(_)
            | FetchError::QueueTimeout(..)
            | FetchError::GivenUp(_)
            | FetchError::Upstream(_) => RetryCause::Broken,
        };
        Box::new(Self { left: Err(error), cause, request, stale: None, is_paid: false })
    }

    /// Another attempt has been paid for.
    pub fn paid(error: FetchError, request: Fate) -> Box<Self> {
        let mut failed = Self::new(error, request);
        failed.is_paid = true;
        failed
    }

    pub fn of_upstream(Failed { error, request, stale }: Failed) -> Box<Self> {
        let mut failed = Self::new(error.into(), request);
        if stale.is_some() {
            failed.cause = RetryCause::Stale;
            failed.stale = stale;
        }
        failed
    }

    pub fn by_status(reply: Reply) -> Box<Self> {
        let cause = RetryCause::Status;
        Box::new(Self { left: Ok(reply), cause, request: Fate::Unknown, stale: None, is_paid: false })
    }
}

impl FetchError {
    /// Whether another endpoint, or another connection, may do better.
    pub fn is_of_endpoint(&self) -> bool {
        let is_of_client =
            matches!(self, Self::UploadTimeout(_) | Self::GivenUp(_) | Self::Upstream(UpstreamError::RequestBody(_)));
        !is_of_client && !matches!(self, Self::TotalTimeout(_))
    }

    /// Whether it says something of the upstream.
    pub fn is_of_upstream(&self) -> bool {
        let is_of_others = match self {
            Self::NoEndpoint(_) | Self::BreakerOpen(_) | Self::Full(_) | Self::QueueTimeout(..) => true,
            Self::UploadTimeout(_) | Self::GivenUp(_) => true,
            Self::Upstream(error) => matches!(error, UpstreamError::RequestBody(_)),
            _ => false,
        };
        !is_of_others
    }
}
