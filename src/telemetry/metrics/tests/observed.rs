//! What other parts of the process know, as a scrape shows it.

use super::*;

/// An upstream with two endpoints, of which the second leaves when the first is down.
fn observe_app(metrics: &Metrics, up: Arc<std::sync::atomic::AtomicBool>, of_first: EndpointMetrics) {
    metrics.observe(move |to| {
        let is_up = up.load(Ordering::Relaxed);
        let sample = |port| EndpointSample {
            upstream: "app".into(),
            is_tls: false,
            address: ([10, 0, 0, 9], port).into(),
            state: if is_up { "usable" } else { "unhealthy" },
            is_up,
            in_flight: 7,
            requests_max: (port == 3000).then_some(200),
            requests: 5,
            failures: 2,
            ejections: 1,
            metrics: if port == 3000 { of_first.clone() } else { EndpointMetrics::default() },
        };
        let endpoints = if is_up { vec![sample(3000), sample(3001)] } else { vec![sample(3000)] };
        let breaker = Some(BreakerSample { state: "open", opened: 3, refused: 4 });
        let queue = QueueSample { requests_max: None, waiting: 1, waited: 2, waited_s: 0.5, full: 3, timed_out: 4 };
        UpstreamSample { name: "app".into(), breaker, queue, endpoints }.gather(to);
        let at = |unix_s| UNIX_EPOCH + Duration::from_secs(unix_s);
        let expiries = [("*.example.com", 6000), ("*.example.com", 5000), ("b.example", 7000)];
        gather_certificates(expiries.map(|(host, unix_s)| (host.to_owned(), at(unix_s))), to);
    });
}

#[test]
fn what_others_know_is_read_at_each_scrape() {
    let metrics = metrics();
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let endpoint = EndpointMetrics::default();
    observe_app(&metrics, Arc::clone(&up), endpoint.clone());
    endpoint.attempted(&Attempted {
        method: &Method::GET,
        version: Version::HTTP_2,
        outcome: Ok(StatusCode::NOT_FOUND),
        duration: Duration::from_millis(1),
    });
    endpoint.attempted(&Attempted {
        method: &Method::GET,
        version: Version::HTTP_11,
        outcome: Err(AttemptOutcome::TimedOut),
        duration: Duration::from_secs(9),
    });
    let (mut held, mut of_other) = (endpoint.hold(), endpoint.hold());
    held.set(5, 3);
    of_other.set(2, 2);
    check(
        &metrics,
        &[
            r#"tollgate_endpoint_up{endpoint="10.0.0.9:3000",upstream="app"} 1"#,
            r#"tollgate_endpoint_up{endpoint="10.0.0.9:3001",upstream="app"} 1"#,
            r#"tollgate_endpoint_state{endpoint="10.0.0.9:3000",state="usable",upstream="app"} 1"#,
            r#"tollgate_endpoint_state{endpoint="10.0.0.9:3000",state="drained",upstream="app"} 0"#,
            r#"tollgate_endpoint_requests_total{endpoint="10.0.0.9:3000",upstream="app"} 5"#,
            r#"tollgate_endpoint_failures_total{endpoint="10.0.0.9:3000",upstream="app"} 2"#,
            r#"tollgate_endpoint_ejections_total{endpoint="10.0.0.9:3000",upstream="app"} 1"#,
            r#"tollgate_endpoint_requests_max{endpoint="10.0.0.9:3000",upstream="app"} 200"#,
            r#"tollgate_upstream_in_flight{endpoint="10.0.0.9:3000",upstream="app"} 7"#,
            r#"tollgate_upstream_pool_connections{endpoint="10.0.0.9:3000",state="idle",upstream="app"} 5"#,
            r#"tollgate_upstream_pool_connections{endpoint="10.0.0.9:3000",state="used",upstream="app"} 2"#,
            r#"http_client_request_duration_seconds_count{error_type="404",http_request_method="GET",http_response_status_code="404",network_protocol_version="2",server_address="10.0.0.9",server_port="3000",upstream="app",url_scheme="http"} 1"#,
            r#"http_client_request_duration_seconds_sum{error_type="timed_out",http_request_method="GET",network_protocol_version="1.1",server_address="10.0.0.9",server_port="3000",upstream="app",url_scheme="http"} 9"#,
            r#"tollgate_breaker_state{state="open",upstream="app"} 1"#,
            r#"tollgate_breaker_state{state="half-open",upstream="app"} 0"#,
            r#"tollgate_breaker_opened_total{upstream="app"} 3"#,
            r#"tollgate_breaker_refused_total{upstream="app"} 4"#,
            r#"tollgate_upstream_queue_length{upstream="app"} 1"#,
            r#"tollgate_upstream_queued_total{upstream="app"} 2"#,
            r#"tollgate_upstream_queued_seconds_total{upstream="app"} 0.5"#,
            r#"tollgate_upstream_queue_refused_total{reason="upstream-full",upstream="app"} 3"#,
            r#"tollgate_upstream_queue_refused_total{reason="queue-timeout",upstream="app"} 4"#,
            r#"tollgate_certificate_expiry_timestamp_seconds{host="*.example.com"} 5000"#,
            r#"tollgate_certificate_expiry_timestamp_seconds{host="b.example"} 7000"#,
        ],
    );
    assert!(!metrics.text().contains("10.0.0.9:3001\"} 200"));
    up.store(false, Ordering::Relaxed);
    drop(held);
    check(
        &metrics,
        &[
            r#"tollgate_endpoint_up{endpoint="10.0.0.9:3000",upstream="app"} 0"#,
            r#"tollgate_upstream_pool_connections{endpoint="10.0.0.9:3000",state="idle",upstream="app"} 2"#,
            r#"tollgate_upstream_pool_connections{endpoint="10.0.0.9:3000",state="used",upstream="app"} 0"#,
        ],
    );
    assert!(!metrics.text().contains("10.0.0.9:3001"));
}

#[test]
fn cache_and_limits_are_read_at_a_scrape() {
    let metrics = metrics();
    metrics.observe(|to| {
        let times = ShortTimes::default();
        [2, 3, 100].into_iter().for_each(|micros| times.count(Duration::from_micros(micros)));
        let mut lookups = ShortSum::default();
        lookups.add(&times);
        let route = |route: &str| CachedRouteSample {
            route: route.to_owned(),
            entries: 1,
            bytes: 10,
            evictions: 7,
            purged: 8,
            outcomes: vec![("hit", 5), ("collapsed", 6)],
            lookups,
        };
        let routes = vec![route("/"), route("/a")];
        CacheSample { stored_bytes: 10, stored_bytes_max: 20, fetching_bytes: 3, fetching_bytes_max: 4, routes }
            .gather(to);
        let limit = "per-ip".to_owned();
        RateLimitSample { limit, allowed: 1, limited: 2, dry_run: 3, evicted: 4, keys: 5, keys_max: 6 }.gather(to);
    });
    check(
        &metrics,
        &[
            r#"tollgate_cache_requests_total{outcome="hit",route="/"} 5"#,
            r#"tollgate_cache_requests_total{outcome="collapsed",route="/a"} 6"#,
            r#"tollgate_cache_entries{route="/"} 1"#,
            r#"tollgate_cache_bytes{route="/"} 10"#,
            r#"tollgate_cache_evictions_total{route="/"} 7"#,
            r#"tollgate_cache_purged_total{route="/"} 8"#,
            r#"tollgate_cache_lookup_duration_seconds_bucket{le="0.000001"} 0"#,
            r#"tollgate_cache_lookup_duration_seconds_bucket{le="0.000005"} 4"#,
            r#"tollgate_cache_lookup_duration_seconds_count 6"#,
            r#"tollgate_cache_lookup_duration_seconds_sum 0.00021"#,
            r#"tollgate_cache_memory_bytes{of="stored"} 10"#,
            r#"tollgate_cache_memory_bytes{of="fetching"} 3"#,
            r#"tollgate_cache_memory_max_bytes{of="stored"} 20"#,
            r#"tollgate_cache_memory_max_bytes{of="fetching"} 4"#,
            r#"tollgate_rate_limit_requests_total{decision="allowed",limit="per-ip"} 1"#,
            r#"tollgate_rate_limit_requests_total{decision="limited",limit="per-ip"} 2"#,
            r#"tollgate_rate_limit_requests_total{decision="dry_run",limit="per-ip"} 3"#,
            r#"tollgate_rate_limit_evicted_total{limit="per-ip"} 4"#,
            r#"tollgate_rate_limit_keys{limit="per-ip"} 5"#,
            r#"tollgate_rate_limit_keys_max{limit="per-ip"} 6"#,
        ],
    );
}
