//! What is counted and read, as a scrape shows it.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::*;
use crate::config::TlsVersion;

mod observed;

fn metrics() -> Metrics {
    Metrics::new(UNIX_EPOCH + Duration::from_secs(1000))
}

/// GET, over TLS if it is HTTP/2, with 100 bytes for 1,000.
fn answered(status: u16, version: Version, duration: Duration) -> Answered<'static> {
    Answered {
        method: &Method::GET,
        version,
        is_tls: version == Version::HTTP_2,
        status: StatusCode::from_u16(status).unwrap(),
        failure: None,
        rpc_status: None,
        duration,
        bytes_received: 100,
        bytes_sent: 1_000,
    }
}

/// Each of `expected` is a whole line of what is scraped.
#[track_caller]
fn check(metrics: &Metrics, expected: &[&str]) {
    let text = metrics.text();
    for line in expected {
        assert!(text.lines().any(|other| other == *line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn requests_are_counted_by_route_status_and_protocol() {
    let metrics = metrics();
    let (api, none) = (metrics.route("api", "/api"), metrics.unrouted());
    let took = Duration::from_millis(150);
    api.counts().record(&answered(200, Version::HTTP_11, took));
    api.counts().record(&answered(200, Version::HTTP_10, took));
    api.counts().record(&answered(200, Version::HTTP_2, Duration::from_secs(40)));
    none.counts().record(&answered(404, Version::HTTP_11, Duration::ZERO));
    none.counts().record(&answered(999, Version::HTTP_11, Duration::ZERO));
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
    let before = metrics.route("api", "/api");
    for route in [&before, &metrics.route("api", "/api")] {
        route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO));
    }
    check(&metrics, &[r#"http_requests_total{protocol="h1",route="api",status="200"} 2"#]);
}

#[test]
fn what_a_reload_removed_is_gone_with_its_last_request() {
    let metrics = metrics();
    let (route, in_flight, upstream) =
        (metrics.route("api", "/api"), metrics.route("api", "/api"), metrics.upstream("app"));
    let counts = in_flight.counts();
    route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO));
    upstream.connection_opened();
    let series = || metrics.text().lines().filter(|line| line.contains("\"ap")).count();
    let before = series();
    drop((route, upstream));
    // The count; durations by either table, each with a sum and a count; both sizes.
    let requests_and_duration = 1 + (19 + 2) + (15 + 2) + 2 * (11 + 2);
    let of_upstream = 2 + AttemptOutcome::ALL.len() + RetryCause::ALL.len() + 1;
    assert_eq!((before - series(), series()), (of_upstream, requests_and_duration));
    counts.record(&answered(200, Version::HTTP_11, Duration::ZERO));
    check(&metrics, &[r#"http_requests_total{protocol="h1",route="api",status="200"} 2"#]);
    drop(in_flight);
    assert_eq!(series(), 0);
}

#[test]
fn thousands_of_routes_are_told_apart() {
    let metrics = metrics();
    let routes: Vec<_> = (0..2500).map(|n| metrics.route(&format!("r{n}"), "/")).collect();
    for route in &routes {
        route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO));
    }
    check(&metrics, &[r#"http_requests_total{protocol="h1",route="r2499",status="200"} 1"#]);
    assert!(!metrics.text().contains("overflow"));
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
    metrics.tls_handshake(Handshake::Completed { version: TlsVersion::Tls13, is_resumed: true });
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
            r#"tollgate_tls_handshakes_total{result="completed",version="1.2"} 0"#,
            r#"tollgate_tls_handshakes_total{result="timed_out",version="none"} 1"#,
            r#"tollgate_tls_resumptions_total{version="1.3"} 1"#,
            r#"tollgate_tls_resumptions_total{version="1.2"} 0"#,
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
fn requests_by_the_standard() {
    let metrics = metrics();
    let api = metrics.route("api", "/api");
    let took = Duration::from_millis(80);
    api.counts().record(&answered(200, Version::HTTP_11, took));
    api.counts().record(&answered(200, Version::HTTP_2, took));
    api.counts().record(&Answered { method: &Method::POST, ..answered(500, Version::HTTP_10, took) });
    let method = Method::from_bytes(b"BREW").unwrap();
    api.counts().record(&Answered {
        method: &method,
        failure: Some("no-endpoint"),
        ..answered(503, Version::HTTP_11, took)
    });
    let of = |error: &str, method: &str, status: &str, version: &str, scheme: &str| {
        let error = if error.is_empty() { String::new() } else { format!("error_type=\"{error}\",") };
        format!(
            "http_server_request_duration_seconds_bucket{{{error}http_request_method=\"{method}\",\
             http_response_status_code=\"{status}\",http_route=\"/api\",network_protocol_version=\"{version}\",\
             route=\"api\",url_scheme=\"{scheme}\",le="
        )
    };
    for series in [
        of("", "GET", "200", "1.1", "http"),
        of("", "GET", "200", "2", "https"),
        of("500", "POST", "500", "1.0", "http"),
        of("no-endpoint", "_OTHER", "503", "1.1", "http"),
    ] {
        let lines = [format!("{series}\"0.075\"}} 0"), format!("{series}\"0.1\"}} 1"), format!("{series}\"+Inf\"}} 1")];
        check(&metrics, &lines.each_ref().map(String::as_str));
    }
    check(
        &metrics,
        &[
            r#"http_server_request_body_size_bytes_bucket{http_route="/api",route="api",le="256"} 4"#,
            r#"http_server_request_body_size_bytes_sum{http_route="/api",route="api"} 400"#,
            r#"http_server_response_body_size_bytes_bucket{http_route="/api",route="api",le="256"} 0"#,
            r#"http_server_response_body_size_bytes_bucket{http_route="/api",route="api",le="1024"} 4"#,
            r#"http_server_response_body_size_bytes_sum{http_route="/api",route="api"} 4000"#,
        ],
    );
}

/// Two hosts may have routes of the same path; a route keeps its counts when it is given another one.
#[test]
fn series_of_the_standard_tell_path_and_route() {
    let metrics = metrics();
    let routes = ["a.example/", "b.example/", "none"].map(|name| match name {
        "none" => metrics.unrouted().clone(),
        name => metrics.route(name, "/"),
    });
    routes.iter().for_each(|route| route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO)));
    let name = "http_server_response_body_size_bytes_count";
    let of = |labels: &str, count: u32| format!("{name}{{{labels}}} {count}");
    let alone = [of(r#"http_route="/",route="b.example/""#, 1), of(r#"route="none""#, 1)];
    check(&metrics, &[&of(r#"http_route="/",route="a.example/""#, 1), &alone[0], &alone[1]]);
    let route = metrics.route("a.example/", "/new");
    check(&metrics, &[&of(r#"http_route="/",route="a.example/""#, 1), &alone[0], &alone[1]]);
    // Its configuration is in force.
    route.matches("/new");
    route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO));
    check(&metrics, &[&of(r#"http_route="/new",route="a.example/""#, 2), &alone[0], &alone[1]]);
    assert_eq!(metrics.text().lines().filter(|line| line.starts_with(name)).count(), 3);
}

/// What is made of the product of all labels has a bound: the page of 10,000 routes is to stay one that can be read.
#[test]
fn the_standard_s_histograms_tell_a_thousand_routes_apart() {
    let metrics = metrics();
    let routes: Vec<_> = (0..1500).map(|n| metrics.route(&format!("r{n}"), "/")).collect();
    routes.iter().for_each(|route| route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO)));
    let text = metrics.text();
    let of =
        |route: &str, name: &str| text.lines().filter(|line| line.starts_with(name) && line.contains(route)).count();
    let name = "http_server_response_body_size_bytes_count";
    // One of them is `none`, which has had no request.
    assert_eq!((of("r", name), of("\"r998\"", name), of("\"r999\"", name)), (1000, 1, 0));
    check(&metrics, &[r#"http_server_response_body_size_bytes_count{route="other"} 501"#]);
    assert_eq!(of("\"r1499\"", "http_requests_total"), 1);
}

/// Whatever an upstream answers, the number of series has a bound.
#[test]
fn statuses_beyond_the_table_are_one() {
    let metrics = metrics();
    let api = metrics.route("api", "/api");
    (200..300).for_each(|status| api.counts().record(&answered(status, Version::HTTP_11, Duration::ZERO)));
    check(&metrics, &[r#"http_requests_total{protocol="other",route="api",status="other"} 68"#]);
    let series = metrics.text().lines().filter(|line| line.starts_with("http_requests_total{")).count();
    assert_eq!(series, 33);
}

#[test]
fn the_process_describes_itself() {
    let metrics = metrics();
    let version = env!("CARGO_PKG_VERSION");
    check(&metrics, &["process_start_time_seconds 1000", &format!("tollgate_build_info{{version=\"{version}\"}} 1")]);
    let text = metrics.text();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "tollgate_memory_limit_bytes",
        "tollgate_cpu_limit_cores",
        "tollgate_uptime_seconds",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in:\n{text}");
    }
}

#[test]
fn one_object_serves_every_thread() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<Metrics>();
    assert_shared::<RouteMetrics>();
    assert_shared::<UpstreamMetrics>();
    assert_shared::<EndpointMetrics>();
}

/// When the one series of a counter began.
fn since(metrics: &Metrics, family: &families::Family) -> Option<SystemTime> {
    let gathered = metrics.gather();
    let set = gathered.sets().find(|set| set.family == family).unwrap();
    set.series[0].since
}

#[test]
fn what_goes_and_comes_back_says_that_it_begins_anew() {
    let (metrics, before) = (metrics(), crate::clock::system_time());
    let came = |family| {
        let route = metrics.route("things", "/things");
        let upstream = metrics.upstream("app");
        route.counts().record(&answered(200, Version::HTTP_11, Duration::ZERO));
        let since = since(&metrics, family).unwrap();
        // As long as somebody holds it, it is the same.
        drop((metrics.route("things", "/things"), metrics.upstream("app")));
        assert_eq!(self::since(&metrics, family), Some(since), "{}", family.name);
        drop((route, upstream));
        since
    };
    for family in [&families::REQUESTS, &families::SERVER_DURATION, &families::UPSTREAM_CONNECTIONS] {
        let (first, second) = (came(family), came(family));
        assert!(before <= first && first < second, "{}", family.name);
    }
    assert_eq!(since(&metrics, &families::H2_STREAMS_REFUSED), None);
}
