//! The metrics of the process: what is counted, and what is read from others, at one moment.
//!
//! Labels come from closed sets: names in the config, reason codes, status codes; never a path, host or
//! method as sent. An ordinary request looks up, allocates and shares with other workers nothing:
//! `RouteMetrics`, `EndpointMetrics` and `UpstreamMetrics` are made once and count on each thread for itself. What other
//! parts already know is not counted a second time but read from them at each scrape. What there is stands in [`families`];
//! a scrape and a push by OTLP are two spellings of one [`Gathered`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::compress;
use crate::config::NO_ROUTE;
use crate::lock::lock;

mod cache;
mod cells;
mod codings;
mod connections;
#[cfg(test)]
mod docs;
mod endpoints;
pub mod families;
mod gathered;
mod histogram;
mod kind;
mod otlp;
pub mod overload;
mod pools;
mod process;
mod pushing;
mod rate_limits;
mod reasons;
mod requests;
pub mod spans;
mod table;
mod text;
mod upstreams;

pub use cache::{CacheSample, CachedRouteSample};
pub use cells::PerThread;
use codings::Codings;
use connections::Connections;
pub use connections::{Handshake, ListenerProtocol, OpenConnection};
pub use endpoints::{Attempted, EndpointMetrics, EndpointSample, Held};
pub use gathered::Gathered;
pub use histogram::{FINE_MS, ShortSum, ShortTimes};
pub use pools::{BreakerSample, QueueSample, UpstreamSample};
pub use pushing::{Pushed, Pushing};
pub use rate_limits::RateLimitSample;
use reasons::Reasons;
use requests::Routes;
pub use requests::{Answered, RouteCounts, RouteMetrics, RouteTotals};
use upstreams::Upstreams;
pub use upstreams::{AttemptOutcome, RetryCause, UpstreamMetrics};

/// Every metric of the process; one is made at the start.
pub struct Metrics {
    /// When the process was.
    started: SystemTime,
    routes: Routes,
    unrouted: RouteMetrics,
    upstreams: Upstreams,
    codings: Codings,
    request_failures: Reasons,
    guard_refusals: Reasons,
    h2_connections_cut: Reasons,
    h2_streams_refused: PerThread<AtomicU64>,
    connections: Connections,
    pushes: [AtomicU64; Pushed::ALL.len()],
    reloads: Mutex<Reloads>,
    sources: Mutex<Vec<Source>>,
}

/// Adds what somebody else knows.
type Source = Box<dyn Fn(&mut Gathered) + Send + Sync>;

#[derive(Debug)]
struct Reloads {
    succeeded: u64,
    failed: u64,
    generation: u64,
    /// When the config in use was loaded.
    at: SystemTime,
    is_latest: bool,
}

impl Metrics {
    /// `started`: when the process was.
    pub fn new(started: SystemTime) -> Self {
        let routes = Routes::default();
        let reloads = Reloads { succeeded: 0, failed: 0, generation: 0, at: started, is_latest: true };
        Self {
            started,
            unrouted: RouteMetrics::of(&routes, NO_ROUTE, ""),
            routes,
            upstreams: Upstreams::default(),
            codings: Codings::default(),
            request_failures: Reasons::default(),
            guard_refusals: Reasons::default(),
            h2_connections_cut: Reasons::default(),
            h2_streams_refused: PerThread::default(),
            connections: Connections::default(),
            pushes: Default::default(),
            reloads: Mutex::new(reloads),
            sources: Mutex::default(),
        }
    }

    /// Has what others know read whenever all is gathered.
    pub fn observe(&self, source: impl Fn(&mut Gathered) + Send + Sync + 'static) {
        lock(&self.sources).push(Box::new(source));
    }

    /// Everything at this moment. With thousands of routes it takes long, so it is for threads that may block; of two who
    /// ask, one waits for the other.
    pub fn gather(&self) -> Gathered {
        let sources = lock(&self.sources);
        let mut to = Gathered::default();
        requests::gather(&self.routes, &mut to);
        upstreams::gather(&self.upstreams, &mut to);
        self.codings.gather(&mut to);
        self.request_failures.gather(&families::REQUEST_FAILURES, &mut to);
        self.guard_refusals.gather(&families::GUARD_REFUSALS, &mut to);
        self.h2_connections_cut.gather(&families::H2_CUT, &mut to);
        let refused: u64 = self.h2_streams_refused.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        to.add(&families::H2_STREAMS_REFUSED, [], refused);
        self.connections.gather(&mut to);
        for result in Pushed::ALL {
            let count = self.pushes[result as usize].load(Ordering::Relaxed);
            to.add(&families::PUSHES, [result.word().into()], count);
        }
        lock(&self.reloads).gather(&mut to);
        process::gather(self.started, &mut to);
        sources.iter().for_each(|source| source(&mut to));
        to
    }

    /// The same as the body of a scrape.
    pub fn text(&self) -> String {
        text::text(&self.gather())
    }

    /// The metrics of one route, by its name in the config. The same name gives the same series as long as one is held, of
    /// the `path` or pattern that was said last.
    pub fn route(&self, name: &str, path: &str) -> RouteMetrics {
        RouteMetrics::of(&self.routes, name, path)
    }

    /// Shows what was counted of each route, and of requests that none matched. Cheap enough for every second.
    pub fn each_route(&self, mut show: impl FnMut(&str, RouteTotals)) {
        self.routes.each(|name, counted| show(name, RouteTotals::of(counted)));
    }

    /// The metrics of requests that no route matched; their route label is `none`.
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.unrouted
    }

    /// The metrics of one upstream, by its name in the config, as of a route.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        UpstreamMetrics::of(&self.upstreams, name)
    }

    /// A client's connection, open until the result is dropped.
    #[must_use]
    pub fn connection(&self, protocol: ListenerProtocol) -> OpenConnection {
        self.connections.open(protocol)
    }

    pub fn tls_handshake(&self, handshake: Handshake) {
        self.connections.shook_hands(handshake);
    }

    /// The guard refused a request; `reason` is its reason code.
    pub fn guard_refused(&self, reason: &'static str) {
        self.guard_refusals.count(reason);
    }

    /// The edge cut a connection of HTTP/2 off; `reason` is one of the guard's.
    pub fn h2_connection_cut(&self, reason: &'static str) {
        self.h2_connections_cut.count(reason);
    }

    pub fn h2_stream_refused(&self) {
        self.h2_streams_refused.local().fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended in a failure; `reason` is its reason code.
    pub fn request_failed(&self, reason: &'static str) {
        self.request_failures.count(reason);
    }

    /// A response of a route that compresses is over.
    pub fn coding_decided(&self, outcome: compress::Outcome) {
        self.codings.count(outcome);
    }

    /// A collector was sent the metrics.
    pub fn pushed(&self, result: Pushed) {
        self.pushes[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The config of this generation is in use since `at`; said at the start.
    pub fn config_loaded(&self, generation: u64, at: SystemTime) {
        lock(&self.reloads).load(generation, at);
    }

    pub fn reload_succeeded(&self, generation: u64, at: SystemTime) {
        let mut reloads = lock(&self.reloads);
        reloads.succeeded += 1;
        reloads.load(generation, at);
    }

    /// The old config goes on.
    pub fn reload_failed(&self) {
        let mut reloads = lock(&self.reloads);
        reloads.failed += 1;
        reloads.is_latest = false;
    }
}

impl Reloads {
    fn load(&mut self, generation: u64, at: SystemTime) {
        (self.generation, self.at, self.is_latest) = (generation, at, true);
    }

    fn gather(&self, to: &mut Gathered) {
        to.add(&families::RELOADS, ["success".into()], self.succeeded);
        to.add(&families::RELOADS, ["failure".into()], self.failed);
        to.add(&families::GENERATION, [], self.generation);
        to.add(&families::RELOAD_SUCCESSFUL, [], self.is_latest);
        to.add(&families::RELOAD_AT, [], unix_seconds(self.at));
    }
}

/// Seconds since 1970 as a metric's value.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// When certificates expire, by the first host of each; of two with the same one, the earlier.
pub fn gather_certificates(expiries: impl IntoIterator<Item = (String, SystemTime)>, to: &mut Gathered) {
    let mut earliest = std::collections::BTreeMap::<String, SystemTime>::new();
    for (host, expiry) in expiries {
        let known = earliest.entry(host).or_insert(expiry);
        *known = expiry.min(*known);
    }
    for (host, expiry) in earliest {
        to.add(&families::CERTIFICATE_EXPIRY, [host.into()], unix_seconds(expiry));
    }
}

#[cfg(test)]
mod tests;
