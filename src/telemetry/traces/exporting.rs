//! What carries spans to the collector, for as long as the process lives: one queue and one task on the control thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tollgate_otlp::{Batching, Counts, Exporter, Health, Queue};

use crate::config::Telemetry;
use crate::telemetry::log::NOTICE;
use crate::telemetry::resource::resource;

/// The exporter of this process.
pub struct Exporting {
    counts: Arc<Counts>,
    exporter: Exporter,
}

impl Exporting {
    /// Starts the task on `runtime`. How large the queue is, a restart alone changes.
    pub fn start(telemetry: Option<&Telemetry>, runtime: &Handle) -> Self {
        let batching = telemetry.map_or(Batching::default(), |telemetry| telemetry.settings.batching);
        let counts = Arc::<Counts>::default();
        let exporter = Exporter::start(batching, "tollgate", Arc::clone(&counts), tell, runtime);
        let exporting = Self { counts, exporter };
        exporting.apply(telemetry);
        exporting
    }

    pub fn queue(&self) -> &Arc<Queue> {
        self.exporter.queue()
    }

    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Takes a configuration over: spans go where it says.
    pub fn apply(&self, telemetry: Option<&Telemetry>) {
        let target = telemetry.and_then(|telemetry| telemetry.settings.traces.clone());
        let resource = telemetry.map(resource).unwrap_or_default();
        self.exporter.apply(target, &resource);
    }

    /// Sends what there is, for so long.
    pub async fn close(&self, limit: Duration) {
        self.exporter.close(limit).await;
    }
}

/// Once a change, and not once a batch.
fn tell(health: Health) {
    match health {
        Health::Failing(why) => tracing::warn!("spans are not exported: {why}"),
        Health::Impaired(why) => tracing::warn!("spans are exported, but {why}"),
        Health::Recovered => tracing::info!(target: NOTICE, "spans are exported again"),
    }
}
