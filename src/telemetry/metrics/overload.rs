//! What was refused because there was too much, read at each scrape. Refused requests are counted by their reason.

use std::sync::Arc;

use super::Metrics;
use crate::overload::Overload;

impl Metrics {
    /// Called once. `connections_max` is what is in force.
    pub fn observe_overload(
        &self,
        overload: Arc<Overload>,
        connections_max: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        let _max = self
            .meter
            .u64_observable_gauge("tollgate_connections_max")
            .with_description("Connections that there may be at a time.")
            .with_callback(move |observer| observer.observe(connections_max() as u64, &[]))
            .build();
        let read = Arc::clone(&overload);
        let _refused = self
            .meter
            .u64_observable_counter("tollgate_connections_refused_total")
            .with_description("Connections closed because their address had too many.")
            .with_callback(move |observer| observer.observe(read.connections_refused(), &[]))
            .build();
        let _pressure = self
            .meter
            .u64_observable_gauge("tollgate_memory_pressure")
            .with_description("0: none; 1: the cache gives memory back; 2: new requests are refused.")
            .with_callback(move |observer| observer.observe(overload.pressure() as u64, &[]))
            .build();
    }
}
