//! Attempts and connections by upstream, counted on each thread for itself like requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::{ByName, Known, PerThread};
use super::families;
use super::gathered::Gathered;

/// The series of one upstream. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct UpstreamMetrics(Arc<PerThread<Cells>>);

/// The series of all upstreams.
pub(super) type Upstreams = ByName<PerThread<Cells>>;

#[derive(Debug, Default)]
pub(super) struct Cells {
    connections: AtomicU64,
    connections_cut: AtomicU64,
    attempts: [AtomicU64; AttemptOutcome::ALL.len()],
    retries: [AtomicU64; RetryCause::ALL.len()],
    budget_exhausted: AtomicU64,
}

/// How one attempt at an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A whole response head, whatever its status.
    Answered,
    ConnectFailed,
    /// A time limit, for connecting or later.
    TimedOut,
    /// The connection ended or broke the protocol before a response head.
    Broken,
    /// The client left first.
    Abandoned,
}

/// Why a request was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// There was no connection to the endpoint.
    Connect,
    /// A kept connection turned out to be closed.
    Stale,
    /// The endpoint said that it did nothing with the request.
    Refused,
    /// The connection ended or broke the protocol before a response head.
    Broken,
    TimedOut,
    /// The endpoint was taken out while the request waited.
    Ejected,
    /// The response had one of the configured statuses.
    Status,
}

impl UpstreamMetrics {
    pub(super) fn of(upstreams: &Upstreams, name: &str) -> Self {
        Self(upstreams.get(name))
    }

    pub fn connection_opened(&self) {
        self.0.local().connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The edge cut a connection off, because the endpoint said too much on it.
    pub fn connection_cut(&self) {
        self.0.local().connections_cut.fetch_add(1, Ordering::Relaxed);
    }

    pub fn attempt_ended(&self, outcome: AttemptOutcome) {
        self.0.local().attempts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn retried(&self, cause: RetryCause) {
        self.0.local().retries[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request could have been sent again but for the budget.
    pub fn budget_was_exhausted(&self) {
        self.0.local().budget_exhausted.fetch_add(1, Ordering::Relaxed);
    }
}

/// What all threads counted of one number.
fn sum(upstream: &PerThread<Cells>, of: impl Fn(&Cells) -> &AtomicU64) -> u64 {
    upstream.iter().map(|cells| of(cells).load(Ordering::Relaxed)).sum()
}

impl RetryCause {
    /// In the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Stale, Self::Refused, Self::Broken, Self::TimedOut, Self::Ejected, Self::Status];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::TimedOut => "timed_out",
            Self::Ejected => "ejected",
            Self::Status => "status",
        }
    }
}

impl AttemptOutcome {
    /// In the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Answered, Self::ConnectFailed, Self::TimedOut, Self::Broken, Self::Abandoned];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ConnectFailed => "connect_failed",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
        }
    }
}

pub(super) fn gather(upstreams: &Upstreams, to: &mut Gathered) {
    for Known { name, since, value, .. } in upstreams.all() {
        to.since(since, |to| gather_one(&name, &value, to));
    }
}

fn gather_one(name: &str, upstream: &PerThread<Cells>, to: &mut Gathered) {
    for outcome in AttemptOutcome::ALL {
        let count = sum(upstream, |cells| &cells.attempts[outcome as usize]);
        to.add(&families::ATTEMPTS, [outcome.as_str().into(), name.into()], count);
    }
    for cause in RetryCause::ALL {
        let count = sum(upstream, |cells| &cells.retries[cause as usize]);
        to.add(&families::RETRIES, [cause.as_str().into(), name.into()], count);
    }
    let named = || [name.into()];
    to.add(&families::UPSTREAM_CONNECTIONS, named(), sum(upstream, |cells| &cells.connections));
    to.add(&families::UPSTREAM_H2_CUT, named(), sum(upstream, |cells| &cells.connections_cut));
    to.add(&families::BUDGET_EXHAUSTED, named(), sum(upstream, |cells| &cells.budget_exhausted));
}
