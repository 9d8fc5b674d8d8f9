//! What counts were a second ago and are now, as rates, shares and percentiles.
//!
//! It reads nothing: totals and the time are handed in. Whatever it keeps has a bound: samples by their number, routes
//! by those that count.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::telemetry::metrics::{FINE_MS, RouteTotals};

/// How far back samples go, and one a second for as long.
const HISTORY_MS: u64 = 300_000;
const SAMPLES_MAX: usize = 300;
/// What routes did is told over so many samples, so that figures can be read before they change.
const WINDOW: usize = 5;
/// Routes that the page shows: the first by requests, and then the first by each other sign.
const ROUTES_BY_RATE_MAX: usize = 60;
const ROUTES_BY_OTHER_MAX: usize = 20;

type Ranges = [u64; FINE_MS.len() + 1];

/// The process over the time since the sample before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Requests a second.
    pub rate: f32,
    #[serde(flatten)]
    pub latency: Latency,
    /// 5xx of all. None: there were no requests.
    pub error_ratio: Option<f32>,
    /// None: the cache was not asked.
    pub hit_ratio: Option<f32>,
    pub connections: usize,
    /// Those with a request in progress.
    pub busy: usize,
}

/// Estimated within the range of a histogram. None: there were no requests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    p50_ms: Option<f32>,
    p95_ms: Option<f32>,
    p99_ms: Option<f32>,
}

/// What is read beside the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    pub connections: usize,
    pub busy: usize,
    /// Of the cache, up to now.
    pub hits: u64,
    pub misses: u64,
}

/// The routes that are worth a line.
#[derive(Debug, PartialEq, Serialize)]
pub struct Routes {
    /// How many there are.
    total: usize,
    window_s: f32,
    shown: Vec<RouteFigures>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct RouteFigures {
    route: Box<str>,
    /// Up to now; all else is told over the window.
    requests: u64,
    rate: f32,
    #[serde(flatten)]
    latency: Latency,
    /// Of all; None without requests.
    client_error_ratio: Option<f32>,
    server_error_ratio: Option<f32>,
}

/// The last samples, and what each route did lately.
#[derive(Debug, Default)]
pub struct Sampler {
    samples: VecDeque<Sample>,
    routes: HashMap<Box<str>, Route>,
    /// How long each of the last samples took, the newest last.
    spans: VecDeque<Duration>,
    /// Hits and misses of the sample before.
    lookups: (u64, u64),
    number: u64,
}

#[derive(Debug, Default)]
struct Route {
    totals: RouteTotals,
    /// What came in the samples of the window in which something came, each with its number.
    recent: VecDeque<(u64, RouteTotals)>,
    /// The last sample that it was in.
    seen: u64,
}

/// One sample in the making.
#[derive(Debug)]
pub struct Round<'a> {
    sampler: &'a mut Sampler,
    sum: RouteTotals,
}

/// What routes are ordered by.
type Sign = fn(&RouteFigures) -> Option<f32>;

impl Sampler {
    /// Begins a sample. Each route is to be shown to it, and then it is ended.
    pub fn begin(&mut self) -> Round<'_> {
        self.number += 1;
        Round { sampler: self, sum: RouteTotals::default() }
    }

    pub fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// What routes did in the window, the busiest first, with those that are slow or fail.
    pub fn routes(&self) -> Routes {
        let window: Duration = self.spans.iter().sum();
        let mut all: Vec<RouteFigures> = self.routes.iter().map(|(name, route)| route.figures(name, window)).collect();
        let (total, mut chosen) = (all.len(), HashSet::new());
        let orders: [(Sign, usize); 3] = [
            (|route| Some(route.rate), ROUTES_BY_RATE_MAX),
            (|route| route.latency.p95_ms, ROUTES_BY_OTHER_MAX),
            (|route| route.server_error_ratio, ROUTES_BY_OTHER_MAX),
        ];
        for (sign, max) in orders.into_iter().rev() {
            // Where the sign is the same, as of all that are idle, in an order in which lines keep their places.
            all.sort_by(|one, other| {
                let by_sign = Reverse(sign(one)).partial_cmp(&Reverse(sign(other))).unwrap_or(Ordering::Equal);
                let by_requests = other.requests.cmp(&one.requests);
                by_sign.then(by_requests).then_with(|| one.route.cmp(&other.route))
            });
            chosen.extend(all.iter().take(max).map(|route| route.route.clone()));
        }
        all.retain(|route| chosen.contains(&route.route));
        Routes { total, window_s: window.as_secs_f32(), shown: all }
    }
}

impl Round<'_> {
    /// The totals of one route. A name that is new has counted from 0, like the process.
    pub fn route(&mut self, name: &str, totals: RouteTotals) {
        let number = self.sampler.number;
        let route = match self.sampler.routes.get_mut(name) {
            Some(route) => route,
            None => self.sampler.routes.entry(name.into()).or_default(),
        };
        route.seen = number;
        route.recent.retain(|(from, _)| from + WINDOW as u64 > number);
        if totals == route.totals {
            return;
        }
        let came = since(&totals, &route.totals);
        route.totals = totals;
        route.recent.push_back((number, came));
        add(&mut self.sum, &came);
    }

    /// `at`: milliseconds since 1970; `span`: since the sample before.
    pub fn end(self, at: u64, span: Duration, gauges: Gauges) {
        let Self { sampler, sum } = self;
        let number = sampler.number;
        sampler.routes.retain(|_, route| route.seen == number);
        let Gauges { connections, busy, hits, misses } = gauges;
        let (hits_before, misses_before) = std::mem::replace(&mut sampler.lookups, (hits, misses));
        let (hits, misses) = (hits.saturating_sub(hits_before), misses.saturating_sub(misses_before));
        let requests = sum.ranges.iter().sum();
        push(&mut sampler.spans, span, WINDOW);
        let sample = Sample {
            at,
            rate: a_second(requests, span),
            latency: Latency::of(&sum.ranges),
            error_ratio: share(sum.server_errors, requests),
            hit_ratio: share(hits, hits + misses),
            connections,
            busy,
        };
        while sampler.samples.front().is_some_and(|oldest| oldest.at + HISTORY_MS < at) {
            sampler.samples.pop_front();
        }
        push(&mut sampler.samples, sample, SAMPLES_MAX);
    }
}

impl Route {
    fn figures(&self, name: &str, window: Duration) -> RouteFigures {
        let mut sum = RouteTotals::default();
        self.recent.iter().for_each(|(_, came)| add(&mut sum, came));
        let requests = sum.ranges.iter().sum();
        RouteFigures {
            route: name.into(),
            requests: self.totals.ranges.iter().sum(),
            rate: a_second(requests, window),
            latency: Latency::of(&sum.ranges),
            client_error_ratio: share(sum.client_errors, requests),
            server_error_ratio: share(sum.server_errors, requests),
        }
    }
}

impl Latency {
    fn of(ranges: &Ranges) -> Self {
        let of = |percent| percentile(ranges, percent).map(|ms| rounded(ms as f32));
        Self { p50_ms: of(50), p95_ms: of(95), p99_ms: of(99) }
    }
}

/// What a percent of the requests stays within: on a straight line through the range in which it falls. In the last
/// range, which has no end, it is where that begins.
fn percentile(ranges: &Ranges, percent: u64) -> Option<f64> {
    let all: u64 = ranges.iter().sum();
    let rank = (all as f64 * percent as f64 / 100.0).max(f64::MIN_POSITIVE);
    let (mut below, mut from_ms) = (0, 0.0);
    for (count, to_ms) in ranges.iter().zip(FINE_MS) {
        if *count > 0 && (below + count) as f64 >= rank {
            let within = (rank - below as f64) / *count as f64;
            return Some(from_ms + (to_ms - from_ms) * within);
        }
        below += count;
        from_ms = to_ms;
    }
    (all > 0).then_some(from_ms)
}

/// A name that went and came again within a second counts from 0 once more.
fn since(now: &RouteTotals, before: &RouteTotals) -> RouteTotals {
    let mut came = RouteTotals {
        client_errors: now.client_errors.saturating_sub(before.client_errors),
        server_errors: now.server_errors.saturating_sub(before.server_errors),
        ranges: now.ranges,
    };
    came.ranges.iter_mut().zip(before.ranges).for_each(|(count, before)| *count = count.saturating_sub(before));
    came
}

fn add(sum: &mut RouteTotals, more: &RouteTotals) {
    sum.client_errors += more.client_errors;
    sum.server_errors += more.server_errors;
    sum.ranges.iter_mut().zip(more.ranges).for_each(|(count, more)| *count += more);
}

fn push<T>(queue: &mut VecDeque<T>, new: T, max: usize) {
    while queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(new);
}

fn a_second(count: u64, span: Duration) -> f32 {
    if span.is_zero() { 0.0 } else { rounded(count as f32 / span.as_secs_f32()) }
}

fn share(part: u64, all: u64) -> Option<f32> {
    (all > 0).then(|| (part as f64 / all as f64 * 1e4).round() as f32 / 1e4)
}

/// To what is shown of it, so that fewer digits are sent.
fn rounded(value: f32) -> f32 {
    if value < 100.0 { (value * 100.0).round() / 100.0 } else { value.round() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ranges(counts: &[(usize, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        counts.iter().for_each(|(index, count)| ranges[*index] = *count);
        ranges
    }

    fn totals(counts: &[(usize, u64)], server_errors: u64) -> RouteTotals {
        RouteTotals { client_errors: 0, server_errors, ranges: ranges(counts) }
    }

    /// One sample of these routes.
    fn take(sampler: &mut Sampler, routes: &[(&str, RouteTotals)], gauges: Gauges) -> Sample {
        let at = sampler.number * 1_000;
        let mut round = sampler.begin();
        routes.iter().for_each(|(name, totals)| round.route(name, *totals));
        round.end(at, SECOND, gauges);
        sampler.samples().back().unwrap().clone()
    }

    #[test]
    fn percentiles_lie_within_their_range() {
        let check = |counts: &[(usize, u64)], percent: u64, expected: Option<f64>| {
            let found = percentile(&ranges(counts), percent).map(|ms| (ms * 1e6).round() / 1e6);
            assert_eq!(found, expected, "{counts:?} {percent}");
        };
        check(&[], 50, None);
        check(&[(0, 1)], 50, Some(0.5));
        check(&[(0, 100)], 95, Some(0.95));
        // 5 to 10 ms.
        check(&[(3, 2)], 50, Some(7.5));
        check(&[(3, 2)], 99, Some(9.95));
        check(&[(3, 90), (6, 10)], 90, Some(10.0));
        check(&[(3, 90), (6, 10)], 95, Some(62.5));
        check(&[(22, 4)], 50, Some(30_000.0));
        check(&[(0, 1), (22, 99)], 1, Some(1.0));
    }

    #[test]
    fn a_sample_is_what_came_since_the_one_before() {
        let mut sampler = Sampler::default();
        let gauges = |hits, misses| Gauges { connections: 7, busy: 2, hits, misses };
        let first = take(&mut sampler, &[("/", totals(&[(0, 10)], 0))], gauges(3, 1));
        assert_eq!((first.rate, first.error_ratio, first.hit_ratio), (10.0, Some(0.0), Some(0.75)));
        let routes = [("/", totals(&[(0, 10), (3, 2)], 1)), ("api", totals(&[(3, 2)], 0))];
        let second = take(&mut sampler, &routes, gauges(3, 1));
        assert_eq!((second.rate, second.error_ratio, second.hit_ratio), (4.0, Some(0.25), None));
        assert_eq!(second.latency.p50_ms, Some(7.5));
        assert_eq!((second.connections, second.busy), (7, 2));
        let still = take(&mut sampler, &routes, gauges(3, 1));
        assert_eq!((still.rate, still.error_ratio, still.latency), (0.0, None, Latency::default()));
    }

    /// As when a reload takes a route away, or brings its name back with other counts.
    #[test]
    fn counts_that_fall_are_no_traffic() {
        let mut sampler = Sampler::default();
        let gauges = |hits| Gauges { hits, ..Gauges::default() };
        take(&mut sampler, &[("a", totals(&[(0, 9)], 9)), ("b", totals(&[(0, 5)], 0))], gauges(9));
        let less = take(&mut sampler, &[("b", totals(&[(0, 2)], 0))], gauges(2));
        assert_eq!((less.rate, less.hit_ratio), (0.0, None));
        assert_eq!(sampler.routes().total, 1);
        assert_eq!(take(&mut sampler, &[("b", totals(&[(0, 3)], 0))], gauges(2)).rate, 1.0);
    }

    #[test]
    fn samples_are_bounded_and_in_order() {
        let mut sampler = Sampler::default();
        for _ in 0..SAMPLES_MAX + 20 {
            take(&mut sampler, &[], Gauges::default());
        }
        assert_eq!(sampler.samples().len(), SAMPLES_MAX);
        assert!(sampler.samples().iter().map(|sample| sample.at).is_sorted());
        assert_eq!(sampler.samples()[0].at, 20_000);
    }

    #[test]
    fn routes_are_told_over_the_window() {
        let mut sampler = Sampler::default();
        let first = |sampler: &Sampler| sampler.routes().shown[0].clone();
        for number in 1..=10 {
            take(&mut sampler, &[("/", totals(&[(3, 4 * number)], number))], Gauges::default());
            let figures = first(&sampler);
            assert_eq!((figures.rate, figures.server_error_ratio), (4.0, Some(0.25)), "{number}");
        }
        for rest in (0..WINDOW as u64).rev() {
            take(&mut sampler, &[("/", totals(&[(3, 40)], 10))], Gauges::default());
            assert_eq!(first(&sampler).rate, rounded(rest as f32 * 4.0 / WINDOW as f32));
        }
        assert_eq!((first(&sampler).latency.p95_ms, first(&sampler).requests), (None, 40));
        assert_eq!(sampler.routes["/"].recent.len(), 0);
    }

    #[test]
    fn idle_routes_stand_in_the_order_of_what_they_had() {
        let mut sampler = Sampler::default();
        let routes = [("a", totals(&[], 0)), ("b", totals(&[(0, 5)], 0)), ("c", totals(&[(0, 9)], 0))];
        (0..=WINDOW).for_each(|_| _ = take(&mut sampler, &routes, Gauges::default()));
        let shown: Vec<_> = sampler.routes().shown.iter().map(|r| (r.route.clone(), r.rate, r.requests)).collect();
        assert_eq!(shown, [("c".into(), 0.0, 9), ("b".into(), 0.0, 5), ("a".into(), 0.0, 0)]);
    }

    #[test]
    fn of_many_routes_those_are_shown_that_stand_out() {
        let mut sampler = Sampler::default();
        let mut routes: Vec<_> = (0..1_000).map(|n| (format!("r{n:04}"), totals(&[(0, n)], 0))).collect();
        routes[10].1 = totals(&[(22, 1)], 0);
        routes[20].1 = totals(&[(0, 1)], 1);
        let routes: Vec<_> = routes.iter().map(|(name, totals)| (name.as_str(), *totals)).collect();
        take(&mut sampler, &routes, Gauges::default());
        let Routes { total, shown, .. } = sampler.routes();
        assert_eq!(total, 1_000);
        assert!(shown.len() <= ROUTES_BY_RATE_MAX + 2 * ROUTES_BY_OTHER_MAX, "{}", shown.len());
        assert_eq!(&*shown[0].route, "r0999");
        for name in ["r0010", "r0020", "r0940"] {
            assert!(shown.iter().any(|route| &*route.route == name), "{name}");
        }
    }
}
