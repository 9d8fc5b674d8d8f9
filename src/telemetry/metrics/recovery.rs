//! What the process does by itself when something is short, read at each scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Metrics;
use crate::overload::Overload;
use crate::overload::recovery::{Recovery, Side};

impl Metrics {
    /// Has the actions read at each scrape. Called once.
    pub fn observe_recovery(
        &self,
        overload: &Arc<Overload>,
        read: impl Fn(&Overload) -> [Recovery; 3] + Send + Sync + 'static,
    ) {
        let acting = Arc::clone(overload);
        let read = Arc::new(move || read(&acting));
        let actions = Arc::clone(&read);
        let gauge = self.meter.u64_observable_gauge("tollgate_recovery_active");
        let observed = gauge.with_description("1 while the edge acts by itself, by action.").with_callback(move |to| {
            actions().iter().for_each(|action| to.observe(action.active.into(), &[named(action)]));
        });
        let _active = observed.build();
        let counter = self.meter.u64_observable_counter("tollgate_recovery_total");
        let observed = counter.with_description("Times that the edge has acted by itself.").with_callback(move |to| {
            read().iter().for_each(|action| to.observe(action.times, &[named(action)]));
        });
        let _times = observed.build();
        let overload = Arc::clone(overload);
        let counter = self.meter.u64_observable_counter("tollgate_idle_connections_closed_total");
        let observed =
            counter.with_description("Idle connections closed before their time.").with_callback(move |to| {
                for (side, label) in [(Side::Client, "client"), (Side::Endpoint, "endpoint")] {
                    to.observe(overload.done.closed(side), &[KeyValue::new("side", label)]);
                }
            });
        let _closed = observed.build();
    }
}

fn named(recovery: &Recovery) -> KeyValue {
    KeyValue::new("action", recovery.action.label())
}
