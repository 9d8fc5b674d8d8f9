//! The breakers of upstreams, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Metrics;

/// The breaker of one upstream at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSample {
    pub upstream: String,
    /// One of [`STATES`].
    pub state: &'static str,
    pub opened: u64,
    pub refused: u64,
}

const STATES: [&str; 3] = ["closed", "open", "half-open"];

impl Metrics {
    /// Has the breakers read at each scrape. Called once.
    pub fn observe_breakers(&self, read: impl Fn() -> Vec<BreakerSample> + Send + Sync + 'static) {
        let read = Arc::new(read);
        let samples = Arc::clone(&read);
        let _state = self
            .meter
            .u64_observable_gauge("tollgate_breaker_state")
            .with_description("1 for the state that the breaker of an upstream is in.")
            .with_callback(move |observer| {
                for sample in samples() {
                    for state in STATES {
                        let upstream = KeyValue::new("upstream", sample.upstream.clone());
                        observer.observe((state == sample.state).into(), &[upstream, KeyValue::new("state", state)]);
                    }
                }
            })
            .build();
        let counter = |name, description, value: fn(&BreakerSample) -> u64| {
            let read = Arc::clone(&read);
            let counter = self.meter.u64_observable_counter(name).with_description(description);
            let observed = counter.with_callback(move |observer| {
                for sample in read() {
                    let value = value(&sample);
                    observer.observe(value, &[KeyValue::new("upstream", sample.upstream)]);
                }
            });
            let _counter = observed.build();
        };
        counter("tollgate_breaker_opened_total", "Times that a breaker opened.", |sample| sample.opened);
        counter("tollgate_breaker_refused_total", "Requests that a breaker refused.", |sample| sample.refused);
    }
}
