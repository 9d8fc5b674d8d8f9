//! Requests by route: how many, with which status, and how long they took.
//!
//! OpenTelemetry's bound instruments are shared by all threads: with two workers busy, a counter and a
//! histogram cost 190 ns a request, nearly all of it for cache lines that move from core to core. Here
//! each thread has cells of its own, which a scrape sums up.

use std::array;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{StatusCode, Version};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{ByName, OTHER, PerThread};

const REQUESTS: (&str, &str) = ("http_requests_total", "Requests answered, by route, status and protocol.");
const DURATION: (&str, &str) =
    ("http_request_duration_seconds", "From the first byte of a request to the last of its response.");

/// Upper bounds of the histogram in milliseconds. A hit takes under one; 150 ms to 5 s are the limits that
/// service levels and alert rules name, so that they are answered exactly.
pub const BOUNDS_MS: [f64; 18] =
    [1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 500.0, 1e3, 2e3, 3e3, 5e3, 10e3, 30e3];

/// One for each bound, and one for what takes longer.
const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Pairs of protocol and status that one thread tells apart on one route; more are one, `OTHER`.
const STATUSES_MAX: usize = 32;

/// The series of one route. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct RouteMetrics(Arc<PerThread<Cells>>);

/// The series of all routes.
pub(super) type Routes = ByName<PerThread<Cells>>;

#[derive(Debug, Default)]
pub(super) struct Cells {
    statuses: Statuses,
    /// By upper bound; the last has none.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ns: AtomicU64,
}

/// What was counted of one route up to now, over all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteTotals {
    /// Answered with 4xx.
    pub client_errors: u64,
    /// Answered with 5xx.
    pub server_errors: u64,
    /// Requests by how long they took, bounded by [`BOUNDS_MS`]; the last has no bound.
    pub buckets: [u64; BUCKETS],
}

impl RouteMetrics {
    pub(super) fn of(routes: &Routes, name: &str) -> Self {
        Self(routes.get(name))
    }

    /// Counts one request at the end of its response.
    pub fn record(&self, status: StatusCode, version: Version, duration: Duration) {
        let cells = self.0.local();
        cells.statuses.count(Key::new(version, status));
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let millis = nanos as f64 / 1e6;
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < millis);
        if let Some(bucket) = cells.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        cells.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl RouteTotals {
    pub(super) fn of(cells: &PerThread<Cells>) -> Self {
        let mut totals = Self::default();
        for cells in cells.iter() {
            cells.statuses.each(|key, count| match key.class() {
                4 => totals.client_errors += count,
                5 => totals.server_errors += count,
                _ => {}
            });
            totals.buckets.iter_mut().zip(&cells.buckets).for_each(|(sum, more)| *sum += more.load(Ordering::Relaxed));
        }
        totals
    }
}

/// Protocol and status in 16 bits; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u16);

impl Key {
    const H2: u16 = 1 << 15;
    const OTHER: Self = Self(Self::H2 - 1);

    fn new(version: Version, status: StatusCode) -> Self {
        let protocol = if version == Version::HTTP_2 { Self::H2 } else { 0 };
        Self(protocol | status.as_u16())
    }

    /// The first digit of the status; of `OTHER` it is none that a status has.
    fn class(self) -> u16 {
        (self.0 & !Self::H2) / 100
    }

    /// The labels for status and protocol.
    fn labels(self) -> (String, &'static str) {
        match self {
            Self::OTHER => (OTHER.to_owned(), OTHER),
            Self(key) if key & Self::H2 == 0 => (key.to_string(), "h1"),
            Self(key) => ((key & !Self::H2).to_string(), "h2"),
        }
    }
}

/// A small table that fills as statuses are seen. Each entry holds its key in the upper 16 bits and the
/// count in the lower 48, which last for 89 years at 100,000 a second.
#[derive(Debug, Default)]
struct Statuses {
    entries: [AtomicU64; STATUSES_MAX],
    other: AtomicU64,
}

const COUNT_BITS: u32 = 48;

impl Statuses {
    fn count(&self, key: Key) {
        let first = u64::from(key.0) << COUNT_BITS | 1;
        for entry in &self.entries {
            let mut seen = entry.load(Ordering::Relaxed);
            if seen == 0 {
                match entry.compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(other) => seen = other,
                }
            }
            if seen >> COUNT_BITS == u64::from(key.0) {
                entry.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows each that was seen with its count.
    fn each(&self, mut show: impl FnMut(Key, u64)) {
        for entry in self.entries.iter().map(|entry| entry.load(Ordering::Relaxed)).take_while(|entry| *entry != 0) {
            show(Key((entry >> COUNT_BITS) as u16), entry & ((1 << COUNT_BITS) - 1));
        }
        match self.other.load(Ordering::Relaxed) {
            0 => {}
            other => show(Key::OTHER, other),
        }
    }

    fn add_to(&self, sums: &mut BTreeMap<Key, u64>) {
        self.each(|key, count| *sums.entry(key).or_default() += count);
    }
}

/// Gives the series of all routes at a scrape.
pub(super) struct RouteCollector {
    routes: Arc<Routes>,
    descriptions: [Desc; 2],
}

impl RouteCollector {
    pub fn new(routes: Arc<Routes>) -> prometheus::Result<Self> {
        let describe = |(name, help): (&str, &str), labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
        };
        let descriptions = [describe(REQUESTS, &["protocol", "route", "status"])?, describe(DURATION, &["route"])?];
        Ok(Self { routes, descriptions })
    }
}

impl Collector for RouteCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut requests = Vec::new();
        let mut durations = Vec::new();
        for (name, route) in self.routes.all() {
            let mut statuses = BTreeMap::new();
            route.iter().for_each(|cells| cells.statuses.add_to(&mut statuses));
            requests.extend(statuses.into_iter().map(|(key, count)| requests_metric(&name, key, count)));
            durations.push(duration_metric(&name, &route));
        }
        vec![family(REQUESTS, MetricType::COUNTER, requests), family(DURATION, MetricType::HISTOGRAM, durations)]
    }
}

fn requests_metric(route: &str, key: Key, count: u64) -> Metric {
    let (status, protocol) = key.labels();
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric = Metric::default();
    metric.set_label(vec![label("protocol", protocol), label("route", route), label("status", &status)]);
    metric.set_counter(counter);
    metric
}

fn duration_metric(route: &str, cells: &PerThread<Cells>) -> Metric {
    let mut counts = [0; BOUNDS_MS.len() + 1];
    let mut sum_ns = 0;
    for cells in cells.iter() {
        let read: [u64; BOUNDS_MS.len() + 1] = array::from_fn(|bucket| cells.buckets[bucket].load(Ordering::Relaxed));
        counts.iter_mut().zip(read).for_each(|(count, more)| *count += more);
        sum_ns += u128::from(cells.sum_ns.load(Ordering::Relaxed));
    }
    let mut below = 0;
    let buckets = BOUNDS_MS.iter().zip(counts).map(|(bound_ms, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound_ms / 1e3);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum_ns as f64 / 1e9);
    let mut metric = Metric::default();
    metric.set_label(vec![label("route", route)]);
    metric.set_histogram(histogram);
    metric
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_beyond_the_table_are_counted_together() {
        let statuses = Statuses::default();
        for _ in 0..3 {
            for code in 200..300 {
                statuses.count(Key::new(Version::HTTP_11, StatusCode::from_u16(code).unwrap()));
            }
        }
        let mut sums = BTreeMap::new();
        statuses.add_to(&mut sums);
        assert_eq!(sums.len(), STATUSES_MAX + 1);
        assert_eq!(sums[&Key(200)], 3);
        assert_eq!(sums[&Key::OTHER], (100 - STATUSES_MAX as u64) * 3);
    }

    #[test]
    fn labels_of_keys() {
        let check = |version, code, status: &str, protocol| {
            let key = Key::new(version, StatusCode::from_u16(code).unwrap());
            assert_eq!(key.labels(), (status.to_owned(), protocol));
        };
        check(Version::HTTP_10, 200, "200", "h1");
        check(Version::HTTP_11, 499, "499", "h1");
        check(Version::HTTP_2, 200, "200", "h2");
        check(Version::HTTP_2, 999, "999", "h2");
        for (code, class) in [(200, 2), (404, 4), (499, 4), (503, 5)] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                assert_eq!(Key::new(version, StatusCode::from_u16(code).unwrap()).class(), class);
            }
        }
        assert!(Key::OTHER.class() > 9);
        assert_eq!(Key::OTHER.labels(), ("other".to_owned(), "other"));
    }
}
