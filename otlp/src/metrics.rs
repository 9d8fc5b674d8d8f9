//! The metrics of `opentelemetry_sdk`, pushed. Its reader calls from a thread of its own.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use prost::Message as _;
use tokio::runtime::Handle;

use crate::client::Client;
use crate::settings::Target;

/// For a `PeriodicReader`. Shut the reader down from a thread that does not drive `runtime`: it waits.
#[derive(Debug)]
pub struct MetricExporter {
    client: Client,
}

impl MetricExporter {
    pub fn new(target: Target, runtime: Handle) -> Self {
        Self { client: Client::new(target, runtime) }
    }
}

impl PushMetricExporter for MetricExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let message = ExportMetricsServiceRequest::from(metrics).encode_to_vec();
        let sent = self.client.export(message.into()).await;
        sent.map(drop).map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
