//! The queues of upstreams, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Metrics;

/// The queue of one upstream at the moment of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSample {
    pub upstream: String,
    pub waiting: u64,
    pub waited: u64,
    pub waited_s: f64,
    pub full: u64,
    pub timed_out: u64,
}

impl Metrics {
    /// Has the queues read at each scrape. Called once.
    pub fn observe_queues(&self, read: impl Fn() -> Vec<QueueSample> + Send + Sync + 'static) {
        let read = Arc::new(read);
        let samples = Arc::clone(&read);
        let gauge = self.meter.u64_observable_gauge("tollgate_upstream_queue_length");
        let observed = gauge.with_description("Requests that wait for room at an upstream.").with_callback(move |to| {
            samples().into_iter().for_each(|sample| to.observe(sample.waiting, &[named(sample.upstream)]));
        });
        let _length = observed.build();
        let samples = Arc::clone(&read);
        let counter = self.meter.u64_observable_counter("tollgate_upstream_queued_total");
        let observed = counter.with_description("Requests that have waited for room.").with_callback(move |to| {
            samples().into_iter().for_each(|sample| to.observe(sample.waited, &[named(sample.upstream)]));
        });
        let _waited = observed.build();
        let samples = Arc::clone(&read);
        let counter = self.meter.f64_observable_counter("tollgate_upstream_queued_seconds_total");
        let observed = counter.with_description("How long they have waited in sum.").with_callback(move |to| {
            samples().into_iter().for_each(|sample| to.observe(sample.waited_s, &[named(sample.upstream)]));
        });
        let _waited_s = observed.build();
        let counter = self.meter.u64_observable_counter("tollgate_upstream_queue_refused_total");
        let observed = counter.with_description("Requests that got no room.").with_callback(move |to| {
            for sample in read() {
                let upstream = named(sample.upstream);
                to.observe(sample.full, &[upstream.clone(), KeyValue::new("reason", "upstream-full")]);
                to.observe(sample.timed_out, &[upstream, KeyValue::new("reason", "queue-timeout")]);
            }
        });
        let _refused = observed.build();
    }
}

fn named(upstream: String) -> KeyValue {
    KeyValue::new("upstream", upstream)
}
