//! A collector of spans, which it keeps.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;

use super::origin::{Origin, ok};
use super::{Edge, until};

/// OTLP over HTTP on a free port.
pub struct Collector {
    origin: Origin,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// A span, and the service that it is of.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub trace_id: String,
    pub span_id: String,
    /// Empty if it has none.
    pub parent: String,
    pub span: proto::Span,
}

impl Span {
    /// As text; empty if there is none.
    pub fn get(&self, name: &str) -> String {
        let attribute = self.span.attributes.iter().find(|attribute| attribute.key == name);
        match attribute.and_then(|attribute| attribute.value.clone()?.value) {
            None => String::new(),
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(other) => format!("{other:?}"),
        }
    }

    /// The spans that it links to.
    pub fn links(&self) -> Vec<String> {
        self.span.links.iter().map(|link| hex(&link.span_id)).collect()
    }

    pub fn is(&self, kind: proto::span::SpanKind) -> bool {
        self.span.kind == i32::from(kind)
    }

    pub fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == i32::from(proto::status::StatusCode::Error))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let seen = Arc::clone(&spans);
        let origin = Origin::answers(move |request| {
            match (request.method.as_str(), request.target.as_str()) {
                ("POST", "/v1/traces") => seen.lock().unwrap().extend(read(&request.body)),
                // They come each minute, and at the end of the process.
                ("POST", "/v1/metrics") => {}
                other => panic!("{other:?}"),
            }
            std::future::ready(ok(""))
        })
        .await;
        Self { origin, spans }
    }

    /// `[telemetry]` with this collector.
    pub fn table(&self, keys: &str) -> String {
        format!("[telemetry]\notlp = \"{}\"\n{keys}\n", self.url())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// Starts an edge that does not let spans wait for others.
    pub async fn edge(config: impl AsRef<str>) -> Edge {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), Edge::standard(config)).unwrap();
        let before = "export OTEL_BSP_SCHEDULE_DELAY=20;";
        Edge::try_start(folder, before).await.unwrap_or_else(|failed| panic!("the edge did not start: {failed:#?}"))
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// Waits until there are such spans, so many of them.
    #[track_caller]
    pub fn has(&self, count: usize, wanted: impl Fn(&Span) -> bool) -> impl Future<Output = Vec<Span>> {
        until("spans", async move || {
            let found: Vec<_> = self.spans().into_iter().filter(|span| wanted(span)).collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits for all spans of a trace, so many.
    #[track_caller]
    pub fn trace(&self, trace_id: &str, count: usize) -> impl Future<Output = Vec<Span>> {
        let trace_id = trace_id.to_owned();
        self.has(count, move |span| span.trace_id == trace_id)
    }
}

fn read(message: &[u8]) -> Vec<Span> {
    let message = ExportTraceServiceRequest::decode(message).unwrap();
    let mut spans = Vec::new();
    for resource in message.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let service = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
        let Some(Value::StringValue(service)) = service.value.unwrap().value else { panic!("no name of a service") };
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (trace_id, span_id) = (hex(&span.trace_id), hex(&span.span_id));
            spans.push(Span { service: service.clone(), trace_id, span_id, parent: hex(&span.parent_span_id), span });
        }
    }
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
