//! `[telemetry]`.

use crate::config::decode::{Decode, Decoder, Field, Map};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, Value};
use crate::config::section::{Key, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{CollectorUrl, FilePath, Limit, SecretText, Share};
use tollgate_otlp::{Compression, Protocol};

section! {
    /// Traces and metrics by OpenTelemetry. With this table, requests have a trace and a span, which stand in the access log, in `x-trace-id` and `x-span-id` of the response, and in `traceparent` of the request that goes upstream. Where a key is not given, the standard's variables are asked (`OTEL_EXPORTER_OTLP_…`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`); `OTEL_SDK_DISABLED=true` ends all export.
    Telemetry "[telemetry]" {
        /// The collector; the path of the signal (`/v1/traces`, `/v1/metrics`) is appended.
        otlp: Option<Setting<CollectorUrl>> = Absent("`OTEL_EXPORTER_OTLP_ENDPOINT`, or nothing is exported");
        /// How it is spoken to; for gRPC the usual port is 4317.
        protocol: Option<Setting<Protocol>> = Absent("`OTEL_EXPORTER_OTLP_PROTOCOL`, or `http/protobuf`");
        /// The share of traces that begin here and are recorded. Who continues a trusted peer's trace does as that peer does.
        sample: Option<Setting<Share>> = Absent("`OTEL_TRACES_SAMPLER`, or `0.1`");
        /// Push the metrics as well, beside `/metrics` of the admin listener.
        metrics: Setting<bool> = Value("true");
        /// How often.
        metrics_interval: Option<Setting<Limit>> = Absent("`OTEL_METRIC_EXPORT_INTERVAL`, or `60s`");
        /// Fields that each message carries, such as `authorization`.
        headers: Setting<Map<SecretText>> = Value("{}");
        /// How messages are made smaller.
        compression: Option<Setting<Compression>> = Absent("`OTEL_EXPORTER_OTLP_COMPRESSION`, or `none`");
        /// PEM file of the roots that are trusted.
        ca: Option<Setting<FilePath>> = Absent("`OTEL_EXPORTER_OTLP_CERTIFICATE`, or those of the system");
        /// For one message with its answer.
        timeout: Option<Setting<Limit>> = Absent("`OTEL_EXPORTER_OTLP_TIMEOUT`, or `10s`");
        /// `service.name`.
        service: Option<Setting<String>> = Absent("`OTEL_SERVICE_NAME`, or `tollgate`");
        /// Further attributes of the process, such as `deployment.environment.name`.
        resource: Setting<Map<String>> = Value("{}");
    }
}
