//! What the cache holds and did, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Metrics;

/// The cache at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CacheSample {
    pub stored_bytes: u64,
    pub stored_bytes_max: u64,
    pub fetching_bytes: u64,
    pub fetching_bytes_max: u64,
    pub routes: Vec<CachedRouteSample>,
}

/// One route, by its name in the config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CachedRouteSample {
    pub route: String,
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub purged: u64,
    /// Lookups that were timed, and how many seconds they took.
    pub timed: u64,
    pub timed_s: f64,
}

impl Metrics {
    /// Has the cache read at each scrape. Called once.
    pub fn observe_cache(&self, read: impl Fn() -> CacheSample + Send + Sync + 'static) {
        let read = Arc::new(read);
        let routes = Arc::clone(&read);
        let _requests = self
            .meter
            .u64_observable_counter("tollgate_cache_requests_total")
            .with_description("Requests that the cache was asked for, by route and outcome.")
            .with_callback(move |observer| {
                for sample in routes().routes {
                    for (outcome, count) in [("hit", sample.hits), ("miss", sample.misses)] {
                        let route = KeyValue::new("route", sample.route.clone());
                        observer.observe(count, &[route, KeyValue::new("outcome", outcome)]);
                    }
                }
            })
            .build();
        let counter = |name, description, value: fn(&CachedRouteSample) -> u64| {
            let read = Arc::clone(&read);
            let counter = self.meter.u64_observable_counter(name).with_description(description);
            let _counter = counter.with_callback(move |observer| by_route(&read(), value, observer)).build();
        };
        counter("tollgate_cache_evictions_total", "Responses that made room for others.", |sample| sample.evictions);
        counter("tollgate_cache_purged_total", "Responses that a hard purge took out.", |sample| sample.purged);
        let timed = "Lookups that were timed: one of 64.";
        counter("tollgate_cache_lookups_timed_total", timed, |sample| sample.timed);
        let seconds = Arc::clone(&read);
        let _seconds = self
            .meter
            .f64_observable_counter("tollgate_cache_lookups_timed_seconds_total")
            .with_description("How long the lookups took that were timed.")
            .with_callback(move |observer| {
                for sample in seconds().routes {
                    observer.observe(sample.timed_s, &[KeyValue::new("route", sample.route)]);
                }
            })
            .build();
        let gauge = |name, description, value: fn(&CachedRouteSample) -> u64| {
            let read = Arc::clone(&read);
            let gauge = self.meter.u64_observable_gauge(name).with_description(description);
            let _gauge = gauge.with_callback(move |observer| by_route(&read(), value, observer)).build();
        };
        gauge("tollgate_cache_entries", "Stored responses.", |sample| sample.entries);
        gauge("tollgate_cache_bytes", "Memory that stored responses hold.", |sample| sample.bytes);
        let memory = |name, description, value: fn(&CacheSample) -> [u64; 2]| {
            let read = Arc::clone(&read);
            let gauge = self.meter.u64_observable_gauge(name).with_description(description);
            let observed = gauge.with_callback(move |observer| {
                for (of, bytes) in ["stored", "fetching"].into_iter().zip(value(&read())) {
                    observer.observe(bytes, &[KeyValue::new("of", of)]);
                }
            });
            let _gauge = observed.build();
        };
        memory("tollgate_cache_memory_bytes", "Memory of the cache that is in use.", |sample| {
            [sample.stored_bytes, sample.fetching_bytes]
        });
        memory("tollgate_cache_memory_max_bytes", "Memory that the cache may use.", |sample| {
            [sample.stored_bytes_max, sample.fetching_bytes_max]
        });
    }
}

fn by_route(
    sample: &CacheSample,
    value: fn(&CachedRouteSample) -> u64,
    observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>,
) {
    for route in &sample.routes {
        observer.observe(value(route), &[KeyValue::new("route", route.route.clone())]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_cache_is_read_at_a_scrape() {
        let metrics = Metrics::new(UNIX_EPOCH).unwrap();
        metrics.observe_cache(|| CacheSample {
            stored_bytes: 10,
            stored_bytes_max: 20,
            fetching_bytes: 3,
            fetching_bytes_max: 4,
            routes: vec![CachedRouteSample {
                route: "/".to_owned(),
                entries: 1,
                bytes: 10,
                hits: 5,
                misses: 6,
                evictions: 7,
                purged: 8,
                timed: 2,
                timed_s: 0.5,
            }],
        });
        let text = metrics.encode().unwrap();
        for line in [
            r#"tollgate_cache_requests_total{outcome="hit",route="/"} 5"#,
            r#"tollgate_cache_requests_total{outcome="miss",route="/"} 6"#,
            r#"tollgate_cache_entries{route="/"} 1"#,
            r#"tollgate_cache_bytes{route="/"} 10"#,
            r#"tollgate_cache_evictions_total{route="/"} 7"#,
            r#"tollgate_cache_purged_total{route="/"} 8"#,
            r#"tollgate_cache_lookups_timed_total{route="/"} 2"#,
            r#"tollgate_cache_lookups_timed_seconds_total{route="/"} 0.5"#,
            r#"tollgate_cache_memory_bytes{of="stored"} 10"#,
            r#"tollgate_cache_memory_bytes{of="fetching"} 3"#,
            r#"tollgate_cache_memory_max_bytes{of="stored"} 20"#,
            r#"tollgate_cache_memory_max_bytes{of="fetching"} 4"#,
        ] {
            assert!(text.lines().any(|other| other == line), "no {line:?} in:\n{text}");
        }
    }
}
