//! What became of spans, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use tollgate_otlp::{Counts, Dropped};

use super::Metrics;

impl Metrics {
    /// Has the spans counted that were exported and dropped. Called once.
    pub fn observe_spans(&self, counts: &Arc<Counts>) {
        let read = Arc::clone(counts);
        let _exported = self
            .meter
            .u64_observable_counter("tollgate_spans_exported_total")
            .with_description("Spans that the collector has taken.")
            .with_callback(move |observer| observer.observe(read.exported(), &[]))
            .build();
        let read = Arc::clone(counts);
        let _dropped = self
            .meter
            .u64_observable_counter("tollgate_spans_dropped_total")
            .with_description("Spans that did not reach the collector, by reason.")
            .with_callback(move |observer| {
                for why in Dropped::ALL {
                    observer.observe(read.dropped(why), &[KeyValue::new("reason", why.word())]);
                }
            })
            .build();
    }
}
