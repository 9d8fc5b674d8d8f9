//! Attempts and connections by upstream, counted on each thread for itself like requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::cells::{ByName, PerThread};

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

impl PerThread<Cells> {
    fn connections(&self) -> u64 {
        self.iter().map(|cells| cells.connections.load(Ordering::Relaxed)).sum()
    }

    fn connections_cut(&self) -> u64 {
        self.iter().map(|cells| cells.connections_cut.load(Ordering::Relaxed)).sum()
    }

    fn attempts(&self, outcome: AttemptOutcome) -> u64 {
        self.iter().map(|cells| cells.attempts[outcome as usize].load(Ordering::Relaxed)).sum()
    }
}

impl PerThread<Cells> {
    fn retries(&self, cause: RetryCause) -> u64 {
        self.iter().map(|cells| cells.retries[cause as usize].load(Ordering::Relaxed)).sum()
    }

    fn budget_exhausted(&self) -> u64 {
        self.iter().map(|cells| cells.budget_exhausted.load(Ordering::Relaxed)).sum()
    }
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

/// Registers the instruments that read all upstreams at a scrape.
pub(super) fn observe(meter: &Meter, upstreams: &Arc<Upstreams>) {
    let shared = Arc::clone(upstreams);
    let _requests = meter
        .u64_observable_counter("tollgate_upstream_requests_total")
        .with_description("Attempts at an upstream, by outcome.")
        .with_callback(move |observer| {
            for (name, upstream) in shared.all() {
                for outcome in AttemptOutcome::ALL {
                    let labels =
                        [KeyValue::new("upstream", name.to_string()), KeyValue::new("outcome", outcome.as_str())];
                    observer.observe(upstream.attempts(outcome), &labels);
                }
            }
        })
        .build();
    let shared = Arc::clone(upstreams);
    let _connections = meter
        .u64_observable_counter("tollgate_upstream_connections_total")
        .with_description("Connections opened to an upstream.")
        .with_callback(move |observer| {
            for (name, upstream) in shared.all() {
                observer.observe(upstream.connections(), &[KeyValue::new("upstream", name.to_string())]);
            }
        })
        .build();
    let shared = Arc::clone(upstreams);
    let _cut = meter
        .u64_observable_counter("tollgate_upstream_h2_connections_cut_total")
        .with_description("Connections of HTTP/2 to an upstream that were cut off because the endpoint said too much.")
        .with_callback(move |observer| {
            for (name, upstream) in shared.all() {
                observer.observe(upstream.connections_cut(), &[KeyValue::new("upstream", name.to_string())]);
            }
        })
        .build();
    let shared = Arc::clone(upstreams);
    let _retries = meter
        .u64_observable_counter("tollgate_upstream_retries_total")
        .with_description("Requests that were sent again, by what became of the attempt before.")
        .with_callback(move |observer| {
            for (name, upstream) in shared.all() {
                for cause in RetryCause::ALL {
                    let labels = [KeyValue::new("upstream", name.to_string()), KeyValue::new("cause", cause.as_str())];
                    observer.observe(upstream.retries(cause), &labels);
                }
            }
        })
        .build();
    let shared = Arc::clone(upstreams);
    let _exhausted = meter
        .u64_observable_counter("tollgate_upstream_retry_budget_exhausted_total")
        .with_description("Requests that failed for want of a retry budget.")
        .with_callback(move |observer| {
            for (name, upstream) in shared.all() {
                observer.observe(upstream.budget_exhausted(), &[KeyValue::new("upstream", name.to_string())]);
            }
        })
        .build();
}
