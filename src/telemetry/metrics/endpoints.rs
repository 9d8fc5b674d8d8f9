//! Attempts at one endpoint, how long each took, and the connections to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::cells::PerThread;
use super::families;
use super::gathered::Gathered;
use super::histogram::{DurationSum, Durations, STANDARD_S};
use super::kind::Attributes;
use super::table::Table;
use super::upstreams::AttemptOutcome;
use crate::telemetry::semconv::{Error, OTHER_METHOD, client_error};

/// The series of one endpoint. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct EndpointMetrics(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    attempts: PerThread<Table<Attributes, Durations>>,
    connections: AtomicI64,
    idle: AtomicI64,
}

/// One attempt that is over.
#[derive(Debug)]
pub struct Attempted<'a> {
    pub method: &'a Method,
    pub version: Version,
    /// Of the response; or how it ended without one.
    pub outcome: Result<StatusCode, AttemptOutcome>,
    pub duration: Duration,
}

/// What one worker has of connections to an endpoint; it counts until it is dropped.
#[derive(Debug)]
pub struct Held {
    of: EndpointMetrics,
    connections: i64,
    idle: i64,
}

impl EndpointMetrics {
    pub fn attempted(&self, attempt: &Attempted<'_>) {
        let (status, error) = match attempt.outcome {
            Ok(status) => (Some(status), client_error(status)),
            Err(outcome) => (None, Error::Code(outcome.as_str())),
        };
        let attributes = Attributes::new(attempt.method, attempt.version, status, error);
        self.0.attempts.local().of(attributes).count(attempt.duration);
    }

    /// Attempts that are over, and how long they took in all: to the head of the response, or their failure.
    pub fn attempts(&self) -> (u64, Duration) {
        let tables = self.0.attempts.iter().flat_map(Table::iter);
        let (count, nanos) = tables
            .map(|(_, durations)| durations.total())
            .fold((0, 0), |(count, nanos), more| (count + more.0, nanos + more.1));
        (count, Duration::from_nanos(nanos))
    }

    /// None yet.
    pub fn hold(&self) -> Held {
        Held { of: self.clone(), connections: 0, idle: 0 }
    }
}

impl Held {
    pub fn set(&mut self, connections: usize, idle: usize) {
        let (connections, idle) = (connections as i64, idle as i64);
        let Self { of: EndpointMetrics(cells), .. } = self;
        cells.connections.fetch_add(connections - self.connections, Ordering::Relaxed);
        cells.idle.fetch_add(idle - self.idle, Ordering::Relaxed);
        (self.connections, self.idle) = (connections, idle);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// One endpoint at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct EndpointSample {
    pub upstream: Arc<str>,
    pub is_tls: bool,
    pub address: SocketAddr,
    /// One of [`STATES`].
    pub state: &'static str,
    pub is_up: bool,
    pub in_flight: u64,
    /// None: there is no such limit.
    pub requests_max: Option<u64>,
    pub requests: u64,
    pub failures: u64,
    pub ejections: u64,
    pub metrics: EndpointMetrics,
}

const STATES: [&str; 5] = ["usable", "failing", "ejected", "unhealthy", "drained"];

impl EndpointSample {
    pub(super) fn gather(&self, to: &mut Gathered) {
        let (address, upstream) = (self.address.to_string(), &*self.upstream);
        let labels = || [address.as_str().into(), upstream.into()];
        to.add(&families::ENDPOINT_UP, labels(), self.is_up);
        to.add(&families::UPSTREAM_IN_FLIGHT, labels(), self.in_flight);
        to.add(&families::ENDPOINT_REQUESTS, labels(), self.requests);
        to.add(&families::ENDPOINT_FAILURES, labels(), self.failures);
        to.add(&families::ENDPOINT_EJECTIONS, labels(), self.ejections);
        if let Some(max) = self.requests_max {
            to.add(&families::ENDPOINT_REQUESTS_MAX, labels(), max);
        }
        for state in STATES {
            let labels = [address.as_str().into(), state.into(), upstream.into()];
            to.add(&families::ENDPOINT_STATE, labels, state == self.state);
        }
        let Cells { connections, idle, attempts } = &*self.metrics.0;
        // Each is written by itself, so for a moment there may be more of one.
        let (all, idle) = (connections.load(Ordering::Relaxed).max(0), idle.load(Ordering::Relaxed).max(0));
        for (state, count) in [("idle", idle), ("used", (all - idle).max(0))] {
            let labels = [address.as_str().into(), state.into(), upstream.into()];
            to.add(&families::POOL_CONNECTIONS, labels, count.unsigned_abs());
        }
        self.gather_attempts(attempts, to);
    }

    fn gather_attempts(&self, attempts: &PerThread<Table<Attributes, Durations>>, to: &mut Gathered) {
        let mut sums = std::collections::BTreeMap::<_, DurationSum>::new();
        for (attributes, durations) in attempts.iter().flat_map(Table::iter) {
            sums.entry(attributes).or_default().add(durations);
        }
        let scheme = if self.is_tls { "https" } else { "http" };
        for (attributes, durations) in sums {
            let (error, method, status, version) = match attributes {
                Some(attributes) => {
                    (attributes.error(), attributes.method(), attributes.status(), attributes.version())
                }
                None => (super::cells::OTHER.into(), OTHER_METHOD, super::cells::OTHER.to_owned(), ""),
            };
            let labels = [
                error,
                method.into(),
                status.into(),
                version.into(),
                self.address.ip().to_string().into(),
                self.address.port().to_string().into(),
                (&*self.upstream).into(),
                scheme.into(),
            ];
            to.add(&families::CLIENT_DURATION, labels, durations.histogram(&STANDARD_S));
        }
    }
}
