//! What rate limits hold and did, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Metrics;

/// One limit at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateLimitSample {
    pub limit: String,
    pub allowed: u64,
    pub limited: u64,
    pub dry_run: u64,
    pub evicted: u64,
    pub keys: u64,
    pub keys_max: u64,
}

impl Metrics {
    /// Has the limits read at each scrape. Called once.
    pub fn observe_rate_limits(&self, read: impl Fn() -> Vec<RateLimitSample> + Send + Sync + 'static) {
        let read = Arc::new(read);
        let decisions = Arc::clone(&read);
        let _requests = self
            .meter
            .u64_observable_counter("tollgate_rate_limit_requests_total")
            .with_description("Requests that a rate limit let through, refused, or in a dry run would have refused.")
            .with_callback(move |observer| {
                for RateLimitSample { limit, allowed, limited, dry_run, .. } in decisions() {
                    for (decision, count) in [("allowed", allowed), ("limited", limited), ("dry_run", dry_run)] {
                        let limit = KeyValue::new("limit", limit.clone());
                        observer.observe(count, &[limit, KeyValue::new("decision", decision)]);
                    }
                }
            })
            .build();
        let evicted = Arc::clone(&read);
        let _evicted = self
            .meter
            .u64_observable_counter("tollgate_rate_limit_evicted_total")
            .with_description("Counts that a rate limit forgot for want of room while they still said something.")
            .with_callback(move |observer| {
                for sample in evicted() {
                    observer.observe(sample.evicted, &[KeyValue::new("limit", sample.limit)]);
                }
            })
            .build();
        let gauge = |name, description, value: fn(&RateLimitSample) -> u64| {
            let read = Arc::clone(&read);
            let gauge = self.meter.u64_observable_gauge(name).with_description(description);
            let observed = gauge.with_callback(move |observer| {
                for sample in read() {
                    observer.observe(value(&sample), &[KeyValue::new("limit", sample.limit)]);
                }
            });
            let _gauge = observed.build();
        };
        gauge("tollgate_rate_limit_keys", "Keys that a rate limit has counts for.", |sample| sample.keys);
        gauge("tollgate_rate_limit_keys_max", "Keys that a rate limit has room for.", |sample| sample.keys_max);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn limits_are_read_at_a_scrape() {
        let metrics = Metrics::new(UNIX_EPOCH).unwrap();
        metrics.observe_rate_limits(|| {
            let limit = "per-ip".to_owned();
            vec![RateLimitSample { limit, allowed: 1, limited: 2, dry_run: 3, evicted: 4, keys: 5, keys_max: 6 }]
        });
        let text = metrics.encode().unwrap();
        for line in [
            r#"tollgate_rate_limit_requests_total{decision="allowed",limit="per-ip"} 1"#,
            r#"tollgate_rate_limit_requests_total{decision="limited",limit="per-ip"} 2"#,
            r#"tollgate_rate_limit_requests_total{decision="dry_run",limit="per-ip"} 3"#,
            r#"tollgate_rate_limit_evicted_total{limit="per-ip"} 4"#,
            r#"tollgate_rate_limit_keys{limit="per-ip"} 5"#,
            r#"tollgate_rate_limit_keys_max{limit="per-ip"} 6"#,
        ] {
            assert!(text.lines().any(|other| other == line), "no {line:?} in:\n{text}");
        }
    }
}
