//! Every metric that there is: its name, kind, labels and meaning, in one list.
//!
//! `docs/metrics.md` is made of it, and a scrape and what is pushed by OTLP hold nothing else. Labels stand in the order of
//! their names; their values come from closed sets.

/// One metric, and the series that it has.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As the text format calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($section:literal { $($constant:ident: $kind:ident $name:literal [$($label:literal)*] $help:literal;)+ })+) => {
        $($(pub static $constant: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)+)+

        /// All of them by the headings that they stand under.
        #[cfg(test)]
        pub static SECTIONS: &[(&str, &[&Family])] = &[$(($section, &[$(&$constant),+])),+];
    };
}

families! {
    "Requests" {
        REQUESTS: Counter "http_requests_total" ["protocol" "route" "status"]
            "Requests answered, by route, status and protocol.";
        DURATION: Histogram "http_request_duration_seconds" ["route"]
            "From the first byte of a request to the last of its response.";
        SERVER_DURATION: Histogram "http_server_request_duration_seconds"
            ["error_type" "http_request_method" "http_response_status_code" "http_route" "network_protocol_version" "route" "url_scheme"]
            "The same by the conventions of OpenTelemetry.";
        REQUEST_SIZE: Histogram "http_server_request_body_size_bytes" ["http_route" "route"]
            "Bytes of request bodies that were read from clients; of a tunnel, all that was.";
        RESPONSE_SIZE: Histogram "http_server_response_body_size_bytes" ["http_route" "route"]
            "Bytes of response bodies, as coded, that were given to clients; of a tunnel, all that was.";
        IN_FLIGHT: Gauge "tollgate_requests_in_flight" []
            "Requests whose responses have not ended.";
        REQUEST_FAILURES: Counter "tollgate_request_failures_total" ["reason"]
            "Requests that failed, by reason.";
        GUARD_REFUSALS: Counter "tollgate_guard_refusals_total" ["reason"]
            "Requests refused for their framing, by reason.";
        RESPONSE_CODINGS: Counter "tollgate_response_codings_total" ["outcome"]
            "Responses of routes that compress, by coding or by why there is none.";
    }
    "Connections of clients" {
        CONNECTIONS: Gauge "tollgate_connections" ["protocol"]
            "Open connections.";
        CONNECTIONS_MAX: Gauge "tollgate_connections_max" []
            "Connections that there may be at a time.";
        CONNECTIONS_BUSY: Gauge "tollgate_connections_busy" []
            "Open connections with a request in progress.";
        CONNECTIONS_ACCEPTED: Counter "tollgate_connections_total" ["protocol"]
            "Connections accepted.";
        CONNECTIONS_REFUSED: Counter "tollgate_connections_refused_total" []
            "Connections closed because their address had too many.";
        HANDSHAKES: Counter "tollgate_tls_handshakes_total" ["result" "version"]
            "TLS handshakes with clients.";
        RESUMPTIONS: Counter "tollgate_tls_resumptions_total" ["version"]
            "Completed TLS handshakes that resumed an earlier session.";
        H2_CUT: Counter "tollgate_h2_connections_cut_total" ["reason"]
            "HTTP/2 connections that the edge cut off because they were too much, by reason.";
        H2_STREAMS_REFUSED: Counter "tollgate_h2_streams_refused_total" []
            "Streams refused because the heads of the open ones fill their connection's share.";
    }
    "Upstreams" {
        CLIENT_DURATION: Histogram "http_client_request_duration_seconds"
            ["error_type" "http_request_method" "http_response_status_code" "network_protocol_version" "server_address" "server_port" "upstream" "url_scheme"]
            "Attempts at an endpoint from their begin to the head of the response or the failure, by the conventions of OpenTelemetry.";
        ATTEMPTS: Counter "tollgate_upstream_requests_total" ["outcome" "upstream"]
            "Attempts at an upstream, by outcome.";
        RETRIES: Counter "tollgate_upstream_retries_total" ["cause" "upstream"]
            "Requests that were sent again, by what became of the attempt before.";
        BUDGET_EXHAUSTED: Counter "tollgate_upstream_retry_budget_exhausted_total" ["upstream"]
            "Requests that failed for want of a retry budget.";
        UPSTREAM_CONNECTIONS: Counter "tollgate_upstream_connections_total" ["upstream"]
            "Connections opened to an upstream.";
        UPSTREAM_H2_CUT: Counter "tollgate_upstream_h2_connections_cut_total" ["upstream"]
            "Connections of HTTP/2 to an upstream that were cut off because the endpoint said too much.";
        UPSTREAM_IN_FLIGHT: Gauge "tollgate_upstream_in_flight" ["endpoint" "upstream"]
            "Requests in flight at an endpoint.";
        ENDPOINT_REQUESTS_MAX: Gauge "tollgate_endpoint_requests_max" ["endpoint" "upstream"]
            "Requests that an endpoint may have at a time; none without such a limit.";
        POOL_CONNECTIONS: Gauge "tollgate_upstream_pool_connections" ["endpoint" "state" "upstream"]
            "Connections to an endpoint that are idle or used, as they were within the last second.";
        ENDPOINT_UP: Gauge "tollgate_endpoint_up" ["endpoint" "upstream"]
            "Whether an endpoint is given requests.";
        ENDPOINT_STATE: Gauge "tollgate_endpoint_state" ["endpoint" "state" "upstream"]
            "1 for the state that an endpoint is in.";
        ENDPOINT_REQUESTS: Counter "tollgate_endpoint_requests_total" ["endpoint" "upstream"]
            "Requests that an endpoint was given.";
        ENDPOINT_FAILURES: Counter "tollgate_endpoint_failures_total" ["endpoint" "upstream"]
            "Requests that failed by the fault of an endpoint.";
        ENDPOINT_EJECTIONS: Counter "tollgate_endpoint_ejections_total" ["endpoint" "upstream"]
            "Times that an endpoint was taken out by failures or probes.";
        BREAKER_STATE: Gauge "tollgate_breaker_state" ["state" "upstream"]
            "1 for the state that the breaker of an upstream is in.";
        BREAKER_OPENED: Counter "tollgate_breaker_opened_total" ["upstream"]
            "Times that a breaker opened.";
        BREAKER_REFUSED: Counter "tollgate_breaker_refused_total" ["upstream"]
            "Requests that a breaker refused.";
        UPSTREAM_REQUESTS_MAX: Gauge "tollgate_upstream_requests_max" ["upstream"]
            "Requests that an upstream may have at a time; none without such a limit.";
        QUEUE_LENGTH: Gauge "tollgate_upstream_queue_length" ["upstream"]
            "Requests that wait for room at an upstream.";
        QUEUED: Counter "tollgate_upstream_queued_total" ["upstream"]
            "Requests that have waited for room.";
        QUEUED_SECONDS: Counter "tollgate_upstream_queued_seconds_total" ["upstream"]
            "How long they have waited in sum.";
        QUEUE_REFUSED: Counter "tollgate_upstream_queue_refused_total" ["reason" "upstream"]
            "Requests that got no room.";
    }
    "Cache" {
        CACHE_REQUESTS: Counter "tollgate_cache_requests_total" ["outcome" "route"]
            "Requests of routes that keep responses, by what the cache was to them.";
        CACHE_LOOKUP: Histogram "tollgate_cache_lookup_duration_seconds" []
            "How long lookups took; one of 64 is timed.";
        CACHE_ENTRIES: Gauge "tollgate_cache_entries" ["route"]
            "Stored responses.";
        CACHE_BYTES: Gauge "tollgate_cache_bytes" ["route"]
            "Memory that stored responses hold.";
        CACHE_EVICTIONS: Counter "tollgate_cache_evictions_total" ["route"]
            "Responses that made room for others.";
        CACHE_PURGED: Counter "tollgate_cache_purged_total" ["route"]
            "Responses that a hard purge took out.";
        CACHE_MEMORY: Gauge "tollgate_cache_memory_bytes" ["of"]
            "Memory of the cache that is in use.";
        CACHE_MEMORY_MAX: Gauge "tollgate_cache_memory_max_bytes" ["of"]
            "Memory that the cache may use.";
    }
    "Rate limits" {
        LIMIT_REQUESTS: Counter "tollgate_rate_limit_requests_total" ["decision" "limit"]
            "Requests that a rate limit let through, refused, or in a dry run would have refused.";
        LIMIT_EVICTED: Counter "tollgate_rate_limit_evicted_total" ["limit"]
            "Counts that a rate limit forgot for want of room while they still said something.";
        LIMIT_KEYS: Gauge "tollgate_rate_limit_keys" ["limit"]
            "Keys that a rate limit has counts for.";
        LIMIT_KEYS_MAX: Gauge "tollgate_rate_limit_keys_max" ["limit"]
            "Keys that a rate limit has room for.";
    }
    "Configuration and certificates" {
        GENERATION: Gauge "tollgate_config_generation" []
            "Number of the config in use, from 1 at the start.";
        RELOAD_SUCCESSFUL: Gauge "tollgate_config_last_reload_successful" []
            "Whether the config in use is the latest.";
        RELOAD_AT: Gauge "tollgate_config_last_reload_timestamp_seconds" []
            "When the config in use was loaded, in seconds since 1970.";
        RELOADS: Counter "tollgate_reloads_total" ["result"]
            "Times that the config was read again.";
        CERTIFICATE_EXPIRY: Gauge "tollgate_certificate_expiry_timestamp_seconds" ["host"]
            "When a certificate expires, in seconds since 1970, by the first of its hosts.";
    }
    "The process" {
        BUILD: Gauge "tollgate_build_info" ["version"]
            "Always 1; the labels say what runs.";
        UPTIME: Gauge "tollgate_uptime_seconds" []
            "How long the process has been running.";
        WORKERS: Gauge "tollgate_workers" []
            "Threads that serve requests.";
        CPU_LIMIT: Gauge "tollgate_cpu_limit_cores" []
            "Processors that the process may use at a time.";
        MEMORY_LIMIT: Gauge "tollgate_memory_limit_bytes" []
            "Memory that the control group, or else the machine, lets the process have.";
        MEMORY_PRESSURE: Gauge "tollgate_memory_pressure" []
            "0: none; 1: the cache gives memory back; 2: new requests are refused.";
        RECOVERY_ACTIVE: Gauge "tollgate_recovery_active" ["action"]
            "1 while the edge acts by itself, by action.";
        RECOVERIES: Counter "tollgate_recovery_total" ["action"]
            "Times that the edge has acted by itself.";
        IDLE_CLOSED: Counter "tollgate_idle_connections_closed_total" ["side"]
            "Idle connections closed before their time.";
        LOG_DROPPED: Counter "tollgate_access_log_dropped_total" []
            "Lines of the access log that were not written.";
        SPANS_EXPORTED: Counter "tollgate_spans_exported_total" []
            "Spans that the collector has taken.";
        SPANS_DROPPED: Counter "tollgate_spans_dropped_total" ["reason"]
            "Spans that did not reach the collector, by reason.";
        PUSHES: Counter "tollgate_metrics_pushes_total" ["result"]
            "Times that the metrics were pushed to a collector; `partial` is without some that it rejected.";
        CPU: Counter "process_cpu_seconds_total" []
            "CPU time used, in user and system mode.";
        RESIDENT: Gauge "process_resident_memory_bytes" []
            "Memory held in RAM.";
        VIRTUAL: Gauge "process_virtual_memory_bytes" []
            "Address space in use.";
        THREADS: Gauge "process_threads" []
            "Threads of the process.";
        OPEN_FDS: Gauge "process_open_fds" []
            "Open file descriptors.";
        MAX_FDS: Gauge "process_max_fds" []
            "The limit of open file descriptors.";
        STARTED: Gauge "process_start_time_seconds" []
            "When the process was started, in seconds since 1970.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> impl Iterator<Item = &'static Family> {
        SECTIONS.iter().flat_map(|(_, families)| families.iter().copied())
    }

    /// The rules of Prometheus for names, as `promtool check metrics` holds them.
    #[test]
    fn names_and_labels_follow_the_rules() {
        let mut names = BTreeSet::new();
        for Family { name, kind, labels, help } in all() {
            assert!(names.insert(name), "{name} twice");
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)), "{name}");
            assert!(labels.is_sorted() && !labels.contains(&"le"), "{name}: {labels:?}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }
}
