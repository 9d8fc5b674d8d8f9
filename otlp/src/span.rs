//! A span as its maker hands it over, and the message that it becomes. Pure.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;

/// 32 hex digits, never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// 16 hex digits, never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

impl TraceId {
    /// Of random bits. All zeros is no id, and as improbable as any other.
    pub fn of(random: u128) -> Self {
        Self(NonZeroU128::new(random).unwrap_or(NonZeroU128::MIN))
    }

    pub fn hex(self) -> [u8; 32] {
        let mut text = [0; 32];
        hex(&self.0.get().to_be_bytes(), &mut text);
        text
    }
}

impl SpanId {
    pub fn of(random: u64) -> Self {
        Self(NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN))
    }

    pub fn hex(self) -> [u8; 16] {
        let mut text = [0; 16];
        hex(&self.0.get().to_be_bytes(), &mut text);
        text
    }
}

fn hex(bytes: &[u8], into: &mut [u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for (digits, byte) in into.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One finished span.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    /// The parent is of another process.
    pub parent_is_remote: bool,
    /// `tracestate` as it came.
    pub trace_state: String,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    pub links: Vec<Link>,
    pub status: Status,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            trace_id: TraceId::of(0),
            span_id: SpanId::of(0),
            parent: None,
            parent_is_remote: false,
            trace_state: String::new(),
            name: Cow::Borrowed(""),
            kind: Kind::Internal,
            start: UNIX_EPOCH,
            end: UNIX_EPOCH,
            attributes: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Another span that this one has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Status {
    #[default]
    Unset,
    Error(Cow<'static, str>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Shared(Arc<str>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Value>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// The message for a batch of spans of one process.
pub fn request(
    spans: impl Iterator<Item = Span>,
    resource: &[(String, String)],
    scope: &'static str,
) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(key, value)| member(key, Value::Text(value.clone().into()))).collect();
    let scope = InstrumentationScope {
        name: scope.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans =
        proto::ScopeSpans { scope: Some(scope), spans: spans.map(Into::into).collect(), ..Default::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![proto::ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![scope_spans],
            ..Default::default()
        }],
    }
}

impl From<Span> for proto::Span {
    fn from(span: Span) -> Self {
        let status = match span.status {
            Status::Unset => proto::Status::default(),
            Status::Error(message) => {
                proto::Status { message: message.into_owned(), code: proto::status::StatusCode::Error.into() }
            }
        };
        Self {
            trace_id: bytes_of_trace(span.trace_id),
            span_id: bytes_of_span(span.span_id),
            trace_state: span.trace_state,
            parent_span_id: span.parent.map(bytes_of_span).unwrap_or_default(),
            flags: flags(span.parent_is_remote),
            name: span.name.into_owned(),
            kind: proto::span::SpanKind::from(span.kind).into(),
            start_time_unix_nano: nanoseconds(span.start),
            end_time_unix_nano: nanoseconds(span.end.max(span.start)),
            attributes: span.attributes.into_iter().map(|(key, value)| member(key, value)).collect(),
            links: span.links.into_iter().map(Into::into).collect(),
            status: Some(status),
            ..Self::default()
        }
    }
}

impl From<Kind> for proto::span::SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
        }
    }
}

impl From<Link> for proto::span::Link {
    fn from(link: Link) -> Self {
        let (trace_id, span_id) = (bytes_of_trace(link.trace_id), bytes_of_span(link.span_id));
        Self { trace_id, span_id, flags: flags(false), ..Self::default() }
    }
}

/// Only what is sampled is exported; the rest says whether the parent is of another process.
fn flags(is_remote: bool) -> u32 {
    const SAMPLED: u32 = 1;
    let mut flags = SAMPLED | proto::SpanFlags::ContextHasIsRemoteMask as u32;
    if is_remote {
        flags |= proto::SpanFlags::ContextIsRemoteMask as u32;
    }
    flags
}

fn member(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

fn any(value: Value) -> AnyValue {
    let kind = match value {
        Value::Text(text) => AnyValueKind::StringValue(text.into_owned()),
        Value::Shared(text) => AnyValueKind::StringValue(text.as_ref().to_owned()),
        Value::Integer(number) => AnyValueKind::IntValue(number),
        Value::Float(number) => AnyValueKind::DoubleValue(number),
        Value::Bool(flag) => AnyValueKind::BoolValue(flag),
        Value::List(values) => AnyValueKind::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
            values: values.into_iter().map(any).collect(),
        }),
    };
    AnyValue { value: Some(kind) }
}

fn bytes_of_trace(id: TraceId) -> Vec<u8> {
    id.0.get().to_be_bytes().to_vec()
}

fn bytes_of_span(id: SpanId) -> Vec<u8> {
    id.0.get().to_be_bytes().to_vec()
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_text() {
        let (trace, span) = (TraceId::of(0x4bf92f3577b34da6a3ce929d0e0e4736), SpanId::of(0x00f067aa0ba902b7));
        assert_eq!(&trace.hex(), b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(&span.hex(), b"00f067aa0ba902b7");
        assert_eq!(span.to_string(), "00f067aa0ba902b7");
        assert_eq!((TraceId::of(0).to_string().len(), SpanId::of(0).0.get()), (32, 1));
    }

    #[test]
    fn a_span_becomes_its_message() {
        let span = Span {
            trace_id: TraceId::of(1),
            span_id: SpanId::of(2),
            parent: Some(SpanId::of(3)),
            parent_is_remote: true,
            trace_state: "a=1".to_owned(),
            name: "GET /x".into(),
            kind: Kind::Server,
            start: UNIX_EPOCH + std::time::Duration::from_nanos(5),
            // A clock that was set back.
            end: UNIX_EPOCH,
            attributes: vec![("url.path", "/x".into()), ("http.response.status_code", 200_u16.into())],
            links: vec![Link { trace_id: TraceId::of(7), span_id: SpanId::of(8) }],
            status: Status::Error("why".into()),
        };
        let message = request([span].into_iter(), &[("service.name".to_owned(), "edge".to_owned())], "scope");
        let resource = &message.resource_spans[0];
        assert_eq!(resource.resource.as_ref().unwrap().attributes[0], member("service.name", "edge".into()));
        let span = &resource.scope_spans[0].spans[0];
        assert_eq!(span.trace_id, 1_u128.to_be_bytes());
        assert_eq!(
            (span.span_id.as_slice(), span.parent_span_id.as_slice()),
            (&2_u64.to_be_bytes()[..], &3_u64.to_be_bytes()[..])
        );
        assert_eq!((span.flags, span.kind, span.trace_state.as_str()), (0x301, 2, "a=1"));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5, 5));
        assert_eq!(span.attributes[1], member("http.response.status_code", Value::Integer(200)));
        assert_eq!(span.links[0].span_id, 8_u64.to_be_bytes());
        assert_eq!(span.status.as_ref().map(|status| (status.code, status.message.as_str())), Some((2, "why")));
    }
}
