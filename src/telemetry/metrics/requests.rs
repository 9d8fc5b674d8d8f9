//! Requests by route: how many, of which kind, how long they took, and how large they and their responses were.
//!
//! OpenTelemetry's bound instruments are shared by all threads: with two workers busy, a counter and a
//! histogram cost 190 ns a request, nearly all of it for cache lines that move from core to core. Here
//! each thread has cells of its own, which a scrape sums up. One histogram of durations for each kind of request is all that
//! is kept: the counts of requests and both tables of durations are made of it.
//!
//! `http_route` is what the spans call so, the path or pattern that was matched; routes of several hosts may share it, so the
//! standard's series have the name of the route beside it. A route that a reload gives another path goes on with its counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::cells::{Apart, ByName, Known, OTHER, PerThread};
use super::families;
use super::gathered::Gathered;
use super::histogram::{DurationSum, Durations, FINE_MS, OWN_S, STANDARD_S, SizeSum, Sizes};
use super::kind::Attributes;
use super::table::Table;
use crate::lock::lock;
use crate::telemetry::semconv::{OTHER_METHOD, server_error};

/// Routes that the standard's histograms tell apart, the first that came; the others are one there, until one of these is
/// gone. They have the product of all their labels as series, and 10,000 routes would make a page of 100 MB of them.
const DETAILED_MAX: usize = 1_000;

/// The series of one route. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct RouteMetrics(Arc<Counted>);

/// The series of all routes.
pub(super) type Routes = ByName<Counted>;

#[derive(Debug, Default)]
pub(super) struct Counted {
    cells: PerThread<Cells>,
    /// What it matches in the configuration in force; nothing for what no route matched.
    path: Mutex<Arc<str>>,
}

/// What one thread counts of a route. Where there are thousands of routes, nothing of it is at hand when a request ends: so
/// what an ordinary one adds to lies together.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cells {
    received: Sizes,
    sent: Sizes,
    durations: Table<Kind, Durations>,
}

/// What the thread that asked for them counts of one route. They are shown for as long as somebody has its [`RouteMetrics`].
pub type RouteCounts = Apart<Cells>;

/// One request at the end of its response.
#[derive(Debug)]
pub struct Answered<'a> {
    pub method: &'a Method,
    pub version: Version,
    pub is_tls: bool,
    pub status: StatusCode,
    /// The code of the reason why it failed.
    pub failure: Option<&'static str>,
    /// What a call of gRPC came to, by name.
    pub rpc_status: Option<&'static str>,
    pub duration: Duration,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// What tells requests of a route apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    attributes: Attributes,
    is_tls: bool,
}

/// What was counted of one route up to now, over all threads and kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteTotals {
    /// Answered with 4xx.
    pub client_errors: u64,
    /// Answered with 5xx.
    pub server_errors: u64,
    /// Requests by how long they took, bounded by [`FINE_MS`]; the last has no bound.
    pub ranges: [u64; FINE_MS.len() + 1],
}

impl RouteMetrics {
    pub(super) fn of(routes: &Routes, name: &str, path: &str) -> Self {
        let of_name = Self(routes.get(name));
        if lock(&of_name.0.path).is_empty() {
            of_name.matches(path);
        }
        of_name
    }

    /// Says what the route matches from now on.
    pub fn matches(&self, path: &str) {
        *lock(&self.0.path) = path.into();
    }

    /// What this thread counts.
    pub fn counts(&self) -> Arc<RouteCounts> {
        self.0.cells.share_local()
    }
}

impl Cells {
    /// Counts one request at the end of its response.
    pub fn record(&self, request: &Answered<'_>) {
        let error = server_error(request.status, request.failure, request.rpc_status);
        let attributes = Attributes::new(request.method, request.version, Some(request.status), error);
        self.durations.of(Kind { attributes, is_tls: request.is_tls }).count(request.duration);
        self.received.count(request.bytes_received);
        self.sent.count(request.bytes_sent);
    }
}

impl RouteTotals {
    pub(super) fn of(counted: &Counted) -> Self {
        let mut totals = Self::default();
        for (kind, durations) in counted.cells.iter().flat_map(|cells| cells.durations.iter()) {
            let mut count = 0;
            for (sum, more) in totals.ranges.iter_mut().zip(durations.counts()) {
                *sum += more;
                count += more;
            }
            match kind.map(|kind| kind.attributes.class()) {
                Some(4) => totals.client_errors += count,
                Some(5) => totals.server_errors += count,
                _ => {}
            }
        }
        totals
    }
}

/// What was counted of one route, or of some.
#[derive(Debug, Default)]
struct Sums {
    durations: BTreeMap<Option<Kind>, DurationSum>,
    received: SizeSum,
    sent: SizeSum,
}

impl Sums {
    fn of(cells: &PerThread<Cells>) -> Self {
        let mut sums = Self::default();
        for cells in cells.iter() {
            for (kind, durations) in cells.durations.iter() {
                sums.durations.entry(kind).or_default().add(durations);
            }
            sums.received.add(&cells.received);
            sums.sent.add(&cells.sent);
        }
        sums
    }

    fn merge(&mut self, other: &Self) {
        for (kind, durations) in &other.durations {
            self.durations.entry(*kind).or_default().merge(durations);
        }
        self.received.merge(&other.received);
        self.sent.merge(&other.sent);
    }
}

/// The series of all routes that have had a request.
pub(super) fn gather(routes: &Routes, to: &mut Gathered) {
    let mut others = Sums::default();
    for Known { name, number, since, value } in routes.all() {
        let sums = Sums::of(&value.cells);
        if sums.durations.is_empty() {
            continue;
        }
        to.since(since, |to| {
            gather_own(&name, &sums, to);
            // The name for the rest stands for many paths.
            let path = if *name == *OTHER { Arc::default() } else { Arc::clone(&lock(&value.path)) };
            if number < DETAILED_MAX { gather_standard((&name, &path), &sums, to) } else { others.merge(&sums) }
        });
    }
    if !others.durations.is_empty() {
        gather_standard((OTHER, ""), &others, to);
    }
}

/// What the requirements ask for, by the names that they give it.
fn gather_own(route: &str, sums: &Sums, to: &mut Gathered) {
    let mut requests = BTreeMap::<_, u64>::new();
    let mut all = DurationSum::default();
    for (kind, durations) in &sums.durations {
        let status = kind.as_ref().map(|kind| (kind.attributes.protocol(), kind.attributes.status()));
        *requests.entry(status).or_default() += durations.count();
        all.merge(durations);
    }
    for (status, count) in requests {
        let (protocol, status) = status.unwrap_or_else(|| (OTHER, OTHER.to_owned()));
        to.add(&families::REQUESTS, [protocol.into(), route.into(), status.into()], count);
    }
    to.add(&families::DURATION, [route.into()], all.histogram(&OWN_S));
}

fn gather_standard((route, path): (&str, &str), sums: &Sums, to: &mut Gathered) {
    for (kind, durations) in &sums.durations {
        let histogram = durations.histogram(&STANDARD_S);
        let labels = match kind {
            Some(Kind { attributes, is_tls }) => [
                attributes.error(),
                attributes.method().into(),
                attributes.status().into(),
                path.into(),
                attributes.version().into(),
                route.into(),
                if *is_tls { "https".into() } else { "http".into() },
            ],
            None => [OTHER.into(), OTHER_METHOD.into(), OTHER.into(), path.into(), "".into(), route.into(), "".into()],
        };
        to.add(&families::SERVER_DURATION, labels, histogram);
    }
    to.add(&families::REQUEST_SIZE, [path.into(), route.into()], sums.received.histogram());
    to.add(&families::RESPONSE_SIZE, [path.into(), route.into()], sums.sent.histogram());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::semconv::Error;

    /// They begin a pair of lines each, so these are two pairs.
    #[test]
    fn what_an_ordinary_request_adds_to_lies_within_256_bytes() {
        let cells = RouteCounts::default();
        let attributes = Attributes::new(&Method::GET, Version::HTTP_11, Some(StatusCode::OK), Error::None);
        let durations = cells.durations.of(Kind { attributes, is_tls: true });
        let from_start = std::ptr::from_ref(durations).addr() - std::ptr::from_ref(&cells).addr();
        // The sum, and how many took less than a millisecond.
        assert!(from_start + 16 <= 256, "{from_start}");
    }
}
