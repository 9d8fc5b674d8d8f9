//! The metrics of the process, in Prometheus' text format.
//!
//! Labels come from closed sets: names in the config, reason codes, status codes; never a path, host or
//! method as sent. An ordinary request looks up, allocates and shares with other workers nothing:
//! `RouteMetrics` and `UpstreamMetrics` are made once and count on each thread for itself. What other
//! parts already know is not counted a second time but read from them at each scrape.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundUpDownCounter, Counter, Gauge, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::access_log::AccessLog;
use crate::compress;
use crate::config::TlsVersion;

mod breakers;
mod cache;
mod cells;
mod codings;
mod overload;
mod process;
mod queues;
mod rate_limits;
mod reasons;
mod recovery;
mod requests;
mod spans;
mod upstreams;

pub use breakers::BreakerSample;
pub use cache::{CacheSample, CachedRouteSample};
pub use cells::PerThread;
use codings::Codings;
pub use queues::QueueSample;
pub use rate_limits::RateLimitSample;
use reasons::Reasons;
pub use requests::RouteMetrics;
use requests::{RouteCollector, Routes};
use upstreams::Upstreams;
pub use upstreams::{AttemptOutcome, RetryCause, UpstreamMetrics};

/// The route label of requests that no route matched.
const NO_ROUTE: &str = "none";

/// Every metric of the process; one is made at the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The instruments live as long as it does.
    _provider: SdkMeterProvider,
    meter: Meter,
    routes: Arc<Routes>,
    unrouted: RouteMetrics,
    upstreams: Arc<Upstreams>,
    codings: Codings,
    request_failures: Reasons,
    guard_refusals: Reasons,
    h2_connections_cut: Counter<u64>,
    h2_streams_refused: BoundCounter<u64>,
    connections: [ConnectionCounters; 2],
    tls_handshakes: Counter<u64>,
    reloads_ok: BoundCounter<u64>,
    reloads_failed: BoundCounter<u64>,
    generation: Gauge<u64>,
    reload_successful: Gauge<u64>,
    reload_at: Gauge<f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("cannot set up the metrics")]
    Setup(#[from] OTelSdkError),
    #[error("cannot register or encode the metrics")]
    Registry(#[from] prometheus::Error),
}

/// What a listener speaks below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    Http,
    Https,
}

/// How a TLS handshake with a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Completed(TlsVersion),
    /// The two sides did not agree, or the client left.
    Failed,
    TimedOut,
}

/// One endpoint at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSample {
    pub upstream: String,
    pub address: SocketAddr,
    pub up: bool,
    pub in_flight: u64,
}

impl Metrics {
    /// `started`: when the process was.
    pub fn new(started: SystemTime) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        // Names are written out in full below, so that they can be searched for.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("tollgate");
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();

        let (routes, upstreams) = (Arc::<Routes>::default(), Arc::default());
        registry.register(Box::new(RouteCollector::new(Arc::clone(&routes))?))?;
        upstreams::observe(&meter, &upstreams);
        let codings = Codings::default();
        codings.observe(&meter);
        let (request_failures, guard_refusals) = (Reasons::default(), Reasons::default());
        request_failures.observe(&meter, "tollgate_request_failures_total", "Requests that failed, by reason.");
        guard_refusals.observe(
            &meter,
            "tollgate_guard_refusals_total",
            "Requests refused for their framing, by reason.",
        );
        process::observe(&meter, started);
        meter
            .u64_gauge("tollgate_build_info")
            .with_description("Always 1; the labels say what runs.")
            .build()
            .record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
        let reloads = counter("tollgate_reloads_total", "Times that the config was read again.");
        let gauge = |name, description| meter.u64_gauge(name).with_description(description).build();
        Ok(Self {
            unrouted: RouteMetrics::of(&routes, NO_ROUTE),
            routes,
            upstreams,
            codings,
            request_failures,
            guard_refusals,
            h2_connections_cut: counter(
                "tollgate_h2_connections_cut_total",
                "HTTP/2 connections that the edge cut off because they were too much, by reason.",
            ),
            h2_streams_refused: counter(
                "tollgate_h2_streams_refused_total",
                "Streams refused because the heads of the open ones fill their connection's share.",
            )
            .bind(&[]),
            connections: ConnectionCounters::both(&meter),
            tls_handshakes: counter("tollgate_tls_handshakes_total", "TLS handshakes with clients."),
            reloads_ok: reloads.bind(&[KeyValue::new("result", "success")]),
            reloads_failed: reloads.bind(&[KeyValue::new("result", "failure")]),
            generation: gauge("tollgate_config_generation", "Number of the config in use, from 1 at the start."),
            reload_successful: gauge(
                "tollgate_config_last_reload_successful",
                "Whether the config in use is the latest.",
            ),
            reload_at: meter
                .f64_gauge("tollgate_config_last_reload_timestamp_seconds")
                .with_description("When the config in use was loaded, in seconds since 1970.")
                .build(),
            registry,
            _provider: provider,
            meter,
        })
    }

    /// Everything, as the body of a scrape.
    pub fn encode(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// The metrics of one route, by its name in the config. The same name gives the same series as long as one is held.
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics::of(&self.routes, name)
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
        let [http, https] = &self.connections;
        let counters = match protocol {
            ListenerProtocol::Http => http,
            ListenerProtocol::Https => https,
        };
        counters.accepted.add(1);
        counters.open.add(1);
        OpenConnection(counters.open.clone())
    }

    /// The guard refused a request; `reason` is its reason code.
    pub fn guard_refused(&self, reason: &'static str) {
        self.guard_refusals.count(reason);
    }

    /// The edge cut a connection of HTTP/2 off; `reason` is one of the guard's.
    pub fn h2_connection_cut(&self, reason: &'static str) {
        self.h2_connections_cut.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub fn h2_stream_refused(&self) {
        self.h2_streams_refused.add(1);
    }

    /// A request ended in a failure; `reason` is its reason code.
    pub fn request_failed(&self, reason: &'static str) {
        self.request_failures.count(reason);
    }

    /// A response of a route that compresses is over.
    pub fn coding_decided(&self, outcome: compress::Outcome) {
        self.codings.count(outcome);
    }

    pub fn tls_handshake(&self, handshake: Handshake) {
        let (version, result) = match handshake {
            Handshake::Completed(TlsVersion::Tls12) => ("1.2", "completed"),
            Handshake::Completed(TlsVersion::Tls13) => ("1.3", "completed"),
            Handshake::Failed => ("none", "failed"),
            Handshake::TimedOut => ("none", "timed_out"),
        };
        self.tls_handshakes.add(1, &[KeyValue::new("version", version), KeyValue::new("result", result)]);
    }

    /// The config of this generation is in use since `at`; said at the start.
    pub fn config_loaded(&self, generation: u64, at: SystemTime) {
        self.generation.record(generation, &[]);
        self.reload_successful.record(1, &[]);
        self.reload_at.record(unix_seconds(at), &[]);
    }

    pub fn reload_succeeded(&self, generation: u64, at: SystemTime) {
        self.reloads_ok.add(1);
        self.config_loaded(generation, at);
    }

    /// The old config goes on.
    pub fn reload_failed(&self) {
        self.reloads_failed.add(1);
        self.reload_successful.record(0, &[]);
    }

    /// Has the endpoints read at each scrape. Called once.
    pub fn observe_endpoints(&self, read: impl Fn() -> Vec<EndpointSample> + Send + Sync + 'static) {
        let read = Arc::new(read);
        let gauge = |name, description, value: fn(&EndpointSample) -> u64| {
            let read = Arc::clone(&read);
            let _gauge = self
                .meter
                .u64_observable_gauge(name)
                .with_description(description)
                .with_callback(move |observer| {
                    for sample in read() {
                        let value = value(&sample);
                        let endpoint = KeyValue::new("endpoint", sample.address.to_string());
                        observer.observe(value, &[KeyValue::new("upstream", sample.upstream), endpoint]);
                    }
                })
                .build();
        };
        gauge("tollgate_upstream_in_flight", "Requests in flight at an endpoint.", |sample| sample.in_flight);
        gauge("tollgate_endpoint_up", "Whether an endpoint is given requests.", |sample| sample.up.into());
    }

    /// Has the ends of the certificates' validity read at each scrape, by host name in the config.
    /// Called once.
    pub fn observe_certificates(&self, read: impl Fn() -> Vec<(String, SystemTime)> + Send + Sync + 'static) {
        let _gauge = self
            .meter
            .f64_observable_gauge("tollgate_certificate_expiry_timestamp_seconds")
            .with_description("When the certificate of a host expires, in seconds since 1970.")
            .with_callback(move |observer| {
                for (host, expiry) in read() {
                    observer.observe(unix_seconds(expiry), &[KeyValue::new("host", host)]);
                }
            })
            .build();
    }

    /// Has the lines that the access log lost read at each scrape. Called once.
    pub fn observe_access_log(&self, log: AccessLog) {
        let _counter = self
            .meter
            .u64_observable_counter("tollgate_access_log_dropped_total")
            .with_description("Lines of the access log that were not written.")
            .with_callback(move |observer| observer.observe(log.dropped(), &[]))
            .build();
    }
}

/// Counts as an open connection until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(BoundUpDownCounter<i64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

#[derive(Debug)]
struct ConnectionCounters {
    accepted: BoundCounter<u64>,
    open: BoundUpDownCounter<i64>,
}

impl ConnectionCounters {
    /// For `Http` and `Https`.
    fn both(meter: &Meter) -> [Self; 2] {
        let accepted =
            meter.u64_counter("tollgate_connections_total").with_description("Connections accepted.").build();
        let open = meter.i64_up_down_counter("tollgate_connections").with_description("Open connections.").build();
        ["http", "https"].map(|protocol| {
            let label = [KeyValue::new("protocol", protocol)];
            Self { accepted: accepted.bind(&label), open: open.bind(&label) }
        })
    }
}

/// Seconds since 1970 as a metric's value.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{StatusCode, Version};
    use std::time::Duration;

    fn metrics() -> Metrics {
        Metrics::new(UNIX_EPOCH + Duration::from_secs(1000)).unwrap()
    }

    /// Each of `expected` is a whole line of what is scraped.
    #[track_caller]
    fn check(metrics: &Metrics, expected: &[&str]) {
        let text = metrics.encode().unwrap();
        for line in expected {
            assert!(text.lines().any(|other| other == *line), "no {line:?} in:\n{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_route_status_and_protocol() {
        let metrics = metrics();
        let (api, none) = (metrics.route("api"), metrics.unrouted());
        let took = Duration::from_millis(150);
        api.record(StatusCode::OK, Version::HTTP_11, took);
        api.record(StatusCode::OK, Version::HTTP_10, took);
        api.record(StatusCode::OK, Version::HTTP_2, Duration::from_secs(40));
        none.record(StatusCode::NOT_FOUND, Version::HTTP_11, Duration::ZERO);
        none.record(StatusCode::from_u16(999).unwrap(), Version::HTTP_11, Duration::ZERO);
        check(
            &metrics,
            &[
                "# TYPE http_requests_total counter",
                r#"http_requests_total{protocol="h1",route="api",status="200"} 2"#,
                r#"http_requests_total{protocol="h2",route="api",status="200"} 1"#,
                r#"http_requests_total{protocol="h1",route="none",status="404"} 1"#,
                r#"http_requests_total{protocol="h1",route="none",status="999"} 1"#,
                "# TYPE http_request_duration_seconds histogram",
                r#"http_request_duration_seconds_bucket{route="api",le="0.1"} 0"#,
                r#"http_request_duration_seconds_bucket{route="api",le="0.15"} 2"#,
                r#"http_request_duration_seconds_bucket{route="api",le="30"} 2"#,
                r#"http_request_duration_seconds_bucket{route="api",le="+Inf"} 3"#,
                r#"http_request_duration_seconds_sum{route="api"} 40.3"#,
                r#"http_request_duration_seconds_count{route="api"} 3"#,
            ],
        );
    }

    #[test]
    fn a_route_made_again_at_a_reload_goes_on_counting() {
        let metrics = metrics();
        let before = metrics.route("api");
        for route in [&before, &metrics.route("api")] {
            route.record(StatusCode::OK, Version::HTTP_11, Duration::ZERO);
        }
        check(&metrics, &[r#"http_requests_total{protocol="h1",route="api",status="200"} 2"#]);
    }

    #[test]
    fn what_a_reload_removed_is_gone_with_its_last_request() {
        let metrics = metrics();
        let (route, in_flight, upstream) = (metrics.route("api"), metrics.route("api"), metrics.upstream("app"));
        route.record(StatusCode::OK, Version::HTTP_11, Duration::ZERO);
        upstream.connection_opened();
        let series = || metrics.encode().unwrap().lines().filter(|line| line.contains("\"ap")).count();
        let before = series();
        drop((route, upstream));
        let requests_and_duration = 1 + 19 + 2;
        let of_upstream = 2 + AttemptOutcome::ALL.len() + RetryCause::ALL.len() + 1;
        assert_eq!((before - series(), series()), (of_upstream, requests_and_duration));
        drop(in_flight);
        assert_eq!(series(), 0);
    }

    #[test]
    fn thousands_of_routes_are_told_apart() {
        let metrics = metrics();
        let routes: Vec<_> = (0..2500).map(|n| metrics.route(&format!("r{n}"))).collect();
        for route in &routes {
            route.record(StatusCode::OK, Version::HTTP_11, Duration::ZERO);
        }
        check(&metrics, &[r#"http_requests_total{protocol="h1",route="r2499",status="200"} 1"#]);
        assert!(!metrics.encode().unwrap().contains("overflow"));
    }

    #[test]
    fn connections_are_open_until_dropped() {
        let metrics = metrics();
        let first = metrics.connection(ListenerProtocol::Https);
        let second = metrics.connection(ListenerProtocol::Https);
        drop(first);
        check(
            &metrics,
            &[
                "# TYPE tollgate_connections gauge",
                r#"tollgate_connections{protocol="http"} 0"#,
                r#"tollgate_connections{protocol="https"} 1"#,
                r#"tollgate_connections_total{protocol="http"} 0"#,
                r#"tollgate_connections_total{protocol="https"} 2"#,
            ],
        );
        drop(second);
        check(&metrics, &[r#"tollgate_connections{protocol="https"} 0"#]);
    }

    #[test]
    fn events_by_reason_and_result() {
        let metrics = metrics();
        metrics.guard_refused("bare_lf");
        metrics.request_failed("connect_refused");
        metrics.request_failed("connect_refused");
        for outcome in compress::Outcome::all() {
            metrics.coding_decided(outcome);
        }
        metrics.coding_decided(compress::Outcome::Left(compress::NotCoded::Type));
        metrics.tls_handshake(Handshake::Completed(TlsVersion::Tls13));
        metrics.tls_handshake(Handshake::TimedOut);
        let app = metrics.upstream("app");
        app.connection_opened();
        for outcome in AttemptOutcome::ALL {
            app.attempt_ended(outcome);
        }
        app.attempt_ended(AttemptOutcome::Answered);
        check(
            &metrics,
            &[
                r#"tollgate_guard_refusals_total{reason="bare_lf"} 1"#,
                r#"tollgate_request_failures_total{reason="connect_refused"} 2"#,
                r#"tollgate_response_codings_total{outcome="gzip"} 1"#,
                r#"tollgate_response_codings_total{outcome="decoded"} 1"#,
                r#"tollgate_response_codings_total{outcome="type"} 2"#,
                r#"tollgate_tls_handshakes_total{result="completed",version="1.3"} 1"#,
                r#"tollgate_tls_handshakes_total{result="timed_out",version="none"} 1"#,
                r#"tollgate_upstream_connections_total{upstream="app"} 1"#,
                r#"tollgate_upstream_requests_total{outcome="answered",upstream="app"} 2"#,
                r#"tollgate_upstream_requests_total{outcome="abandoned",upstream="app"} 1"#,
            ],
        );
    }

    #[test]
    fn a_failed_reload_shows_until_one_succeeds() {
        let metrics = metrics();
        let at = |unix_s| UNIX_EPOCH + Duration::from_secs(unix_s);
        metrics.config_loaded(1, at(2000));
        metrics.reload_failed();
        check(
            &metrics,
            &[
                "tollgate_config_generation 1",
                "tollgate_config_last_reload_successful 0",
                "tollgate_config_last_reload_timestamp_seconds 2000",
                r#"tollgate_reloads_total{result="failure"} 1"#,
                r#"tollgate_reloads_total{result="success"} 0"#,
            ],
        );
        metrics.reload_succeeded(2, at(3000));
        check(
            &metrics,
            &[
                "tollgate_config_generation 2",
                "tollgate_config_last_reload_successful 1",
                "tollgate_config_last_reload_timestamp_seconds 3000",
            ],
        );
    }

    #[test]
    fn endpoints_and_certificates_are_read_at_each_scrape() {
        let metrics = metrics();
        let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let shared = Arc::clone(&up);
        metrics.observe_endpoints(move || {
            let up = shared.load(std::sync::atomic::Ordering::Relaxed);
            let sample = |port| EndpointSample {
                upstream: "app".to_owned(),
                address: ([10, 0, 0, 9], port).into(),
                up,
                in_flight: 7,
            };
            // The second one leaves with the first scrape.
            if up { vec![sample(3000), sample(3001)] } else { vec![sample(3000)] }
        });
        metrics.observe_certificates(|| vec![("*.example.com".to_owned(), UNIX_EPOCH + Duration::from_secs(5000))]);
        check(
            &metrics,
            &[
                r#"tollgate_endpoint_up{endpoint="10.0.0.9:3000",upstream="app"} 1"#,
                r#"tollgate_endpoint_up{endpoint="10.0.0.9:3001",upstream="app"} 1"#,
                r#"tollgate_upstream_in_flight{endpoint="10.0.0.9:3000",upstream="app"} 7"#,
                r#"tollgate_certificate_expiry_timestamp_seconds{host="*.example.com"} 5000"#,
            ],
        );
        up.store(false, std::sync::atomic::Ordering::Relaxed);
        check(&metrics, &[r#"tollgate_endpoint_up{endpoint="10.0.0.9:3000",upstream="app"} 0"#]);
        assert!(!metrics.encode().unwrap().contains("10.0.0.9:3001"));
    }

    #[test]
    fn the_process_describes_itself() {
        let metrics = metrics();
        let version = env!("CARGO_PKG_VERSION");
        check(
            &metrics,
            &["process_start_time_seconds 1000", &format!("tollgate_build_info{{version=\"{version}\"}} 1")],
        );
        let text = metrics.encode().unwrap();
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"]
        {
            assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in:\n{text}");
        }
        assert!(!text.contains("otel_scope") && !text.contains("target_info"));
    }

    #[test]
    fn one_object_serves_every_thread() {
        fn assert_shared<T: Send + Sync>() {}
        assert_shared::<Metrics>();
        assert_shared::<RouteMetrics>();
        assert_shared::<UpstreamMetrics>();
    }
}
