//! Series as one message of OTLP: the same that a scrape shows. Those of OpenTelemetry's conventions have the names and
//! attributes that these give them; all others are called as Prometheus has them.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::families::{Family, Kind};
use super::gathered::{Gathered, Series, Set, Value};

/// What the conventions call a metric, with its unit.
const STANDARD: [(&str, &str, &str); 4] = [
    ("http_server_request_duration_seconds", "http.server.request.duration", "s"),
    ("http_client_request_duration_seconds", "http.client.request.duration", "s"),
    ("http_server_request_body_size_bytes", "http.server.request.body.size", "By"),
    ("http_server_response_body_size_bytes", "http.server.response.body.size", "By"),
];

/// What they call a label, and whether its values are numbers.
const ATTRIBUTES: [(&str, &str, bool); 8] = [
    ("error_type", "error.type", false),
    ("http_request_method", "http.request.method", false),
    ("http_response_status_code", "http.response.status_code", true),
    ("http_route", "http.route", false),
    ("network_protocol_version", "network.protocol.version", false),
    ("server_address", "server.address", false),
    ("server_port", "server.port", true),
    ("url_scheme", "url.scheme", false),
];

/// `since`: when the counts began that do not say it themselves; `now`: when they were gathered.
pub fn message(
    gathered: &Gathered,
    (since, now): (SystemTime, SystemTime),
    resource: &[(String, String)],
) -> ExportMetricsServiceRequest {
    let times = Times { since: nanoseconds(since), now: nanoseconds(now) };
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = gathered.sets().map(|set| metric(set, times)).collect();
    let attributes = resource.iter().map(|(key, value)| attribute(key, text(value))).collect();
    let resource = Resource { attributes, ..Resource::default() };
    let scoped = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
    let of_resource =
        ResourceMetrics { resource: Some(resource), scope_metrics: vec![scoped], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

/// In nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Times {
    since: u64,
    now: u64,
}

impl Times {
    /// Of a series that came then.
    fn since(self, came: Option<SystemTime>) -> u64 {
        came.map_or(self.since, nanoseconds)
    }
}

fn metric(Set { family, series }: &Set, times: Times) -> Metric {
    let (name, unit) = called(family);
    let numbers = || series.iter().filter_map(|series| number(family, series, times)).collect();
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let data = match family.kind {
        Kind::Counter => metric::Data::Sum(Sum { data_points: numbers(), aggregation_temporality, is_monotonic: true }),
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => {
            let data_points = series.iter().filter_map(|series| histogram(family, series, times)).collect();
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality })
        }
    };
    let (name, unit) = (name.to_owned(), unit.to_owned());
    Metric { name, unit, description: family.help.to_owned(), data: Some(data), ..Metric::default() }
}

fn called(family: &Family) -> (&'static str, &'static str) {
    if let Some((_, name, unit)) = STANDARD.iter().find(|(known, ..)| *known == family.name) {
        return (name, unit);
    }
    let base = family.name.trim_end_matches("_total");
    let unit = match base.rsplit_once('_') {
        Some((_, "seconds")) => "s",
        Some((_, "bytes")) => "By",
        _ => "",
    };
    (family.name, unit)
}

fn is_standard(family: &Family) -> bool {
    STANDARD.iter().any(|(known, ..)| *known == family.name)
}

fn number(family: &Family, Series { labels, value, since }: &Series, times: Times) -> Option<NumberDataPoint> {
    let value = match value {
        Value::Whole(value) => number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX)),
        Value::Number(value) => number_data_point::Value::AsDouble(*value),
        Value::Histogram(_) => return None,
    };
    let start_time_unix_nano = if family.kind == Kind::Gauge { 0 } else { times.since(*since) };
    Some(NumberDataPoint {
        attributes: attributes(family, labels),
        start_time_unix_nano,
        time_unix_nano: times.now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(family: &Family, Series { labels, value, since }: &Series, times: Times) -> Option<HistogramDataPoint> {
    let Value::Histogram(histogram) = value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(family, labels),
        start_time_unix_nano: times.since(*since),
        time_unix_nano: times.now,
        count: histogram.count(),
        sum: Some(histogram.sum),
        bucket_counts: histogram.counts.clone(),
        explicit_bounds: histogram.bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(family: &Family, values: &[String]) -> Vec<KeyValue> {
    let labels = family.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let attributes = labels.map(|(label, value)| match ATTRIBUTES.iter().find(|(known, ..)| known == label) {
        Some((_, name, true)) => {
            // `other` is none.
            let value = value.parse().map_or_else(|_| text(value), any_value::Value::IntValue);
            attribute(name, value)
        }
        Some((_, name, false)) => attribute(name, text(value)),
        // Conventions of our own beside those, as spans have them.
        None if is_standard(family) => attribute(&format!("tollgate.{label}"), text(value)),
        None => attribute(label, text(value)),
    });
    attributes.collect()
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
