//! A span as its maker hands it over, and the message that it becomes where it ends. Pure.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroU128};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::wire::Wire;

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
        hex(&self.bytes(), &mut text);
        text
    }

    fn bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    pub fn of(random: u64) -> Self {
        Self(NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN))
    }

    pub fn hex(self) -> [u8; 16] {
        let mut text = [0; 16];
        hex(&self.bytes(), &mut text);
        text
    }

    fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
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

/// One finished span, of what its maker has at hand.
#[derive(Debug)]
pub struct Span<'a> {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    /// The parent is of another process.
    pub parent_is_remote: bool,
    /// `tracestate` as it came.
    pub trace_state: &'a str,
    pub name: Name<'a>,
    pub kind: Kind,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<(&'static str, Value<'a>)>,
    pub link: Option<Link>,
    /// Why it failed, if it did; there may be nothing to say.
    pub error: Option<Cow<'a, str>>,
}

/// `GET /carts/{id}`: what is done, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(pub &'a str, pub Option<&'a str>);

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

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    /// A text as well.
    Address(IpAddr),
    Integer(i64),
    Float(f64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<IpAddr> for Value<'_> {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        self.1.map_or(Ok(()), |object| f.write_str(" ").and_then(|()| f.write_str(object)))
    }
}

impl Span<'_> {
    /// The message: `Span` of `opentelemetry/proto/trace/v1/trace.proto`.
    pub(crate) fn write(&self, message: &mut Wire) {
        message.bytes(1, &self.trace_id.bytes());
        message.bytes(2, &self.span_id.bytes());
        if !self.trace_state.is_empty() {
            message.bytes(3, self.trace_state.as_bytes());
        }
        if let Some(parent) = self.parent {
            message.bytes(4, &parent.bytes());
        }
        message.shown(5, self.name);
        message.integer(6, self.kind.number());
        message.fixed64(7, nanoseconds(self.start));
        message.fixed64(8, nanoseconds(self.end.max(self.start)));
        for (key, value) in &self.attributes {
            message.nested(9, |member| {
                member.bytes(1, key.as_bytes());
                member.nested(2, |any| value.write(any));
            });
        }
        if let Some(Link { trace_id, span_id }) = self.link {
            message.nested(13, |link| {
                link.bytes(1, &trace_id.bytes());
                link.bytes(2, &span_id.bytes());
                link.fixed32(6, flags(false));
            });
        }
        if let Some(why) = &self.error {
            message.nested(15, |status| {
                status.bytes(2, why.as_bytes());
                status.integer(3, StatusCode::Error as u64);
            });
        }
        message.fixed32(16, flags(self.parent_is_remote));
    }
}

impl Value<'_> {
    /// `AnyValue`.
    fn write(&self, message: &mut Wire) {
        match self {
            Self::Text(text) => message.bytes(1, text.as_bytes()),
            Self::Address(address) => message.shown(1, address),
            Self::Integer(number) => message.integer(3, number.cast_unsigned()),
            Self::Float(number) => message.fixed64(4, number.to_bits()),
        }
    }
}

impl Kind {
    fn number(self) -> u64 {
        let kind = match self {
            Self::Internal => SpanKind::Internal,
            Self::Server => SpanKind::Server,
            Self::Client => SpanKind::Client,
            Self::Producer => SpanKind::Producer,
            Self::Consumer => SpanKind::Consumer,
        };
        kind as u64
    }
}

/// Only what is sampled is exported; the rest says whether the parent is of another process.
fn flags(is_remote: bool) -> u32 {
    const SAMPLED: u32 = 1;
    let mut flags = SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32;
    if is_remote {
        flags |= SpanFlags::ContextIsRemoteMask as u32;
    }
    flags
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn named(name: &str) -> Span<'_> {
        Span {
            trace_id: TraceId::of(1),
            span_id: SpanId::of(2),
            parent: None,
            parent_is_remote: false,
            trace_state: "",
            name: Name(name, None),
            kind: Kind::Internal,
            start: UNIX_EPOCH,
            end: UNIX_EPOCH,
            attributes: Vec::new(),
            link: None,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1 as proto;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// What a collector reads.
    fn read(span: &Span<'_>) -> proto::Span {
        let mut message = Wire::default();
        span.write(&mut message);
        proto::Span::decode(message.0.as_slice()).unwrap()
    }

    fn member(key: &str, value: Any) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

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
            trace_state: "a=1",
            name: Name("GET", Some("/x")),
            kind: Kind::Server,
            start: UNIX_EPOCH + Duration::from_nanos(5),
            // A clock that was set back.
            end: UNIX_EPOCH,
            attributes: vec![("url.path", "/x".into()), ("http.response.status_code", 200_u16.into())],
            link: Some(Link { trace_id: TraceId::of(7), span_id: SpanId::of(8) }),
            error: Some("why".into()),
        };
        let expected = proto::Span {
            trace_id: 1_u128.to_be_bytes().to_vec(),
            span_id: 2_u64.to_be_bytes().to_vec(),
            parent_span_id: 3_u64.to_be_bytes().to_vec(),
            flags: 0x301,
            trace_state: "a=1".to_owned(),
            name: "GET /x".to_owned(),
            kind: 2,
            start_time_unix_nano: 5,
            end_time_unix_nano: 5,
            attributes: vec![
                member("url.path", Any::StringValue("/x".to_owned())),
                member("http.response.status_code", Any::IntValue(200)),
            ],
            links: vec![proto::span::Link {
                trace_id: 7_u128.to_be_bytes().to_vec(),
                span_id: 8_u64.to_be_bytes().to_vec(),
                flags: 0x101,
                ..Default::default()
            }],
            status: Some(proto::Status { message: "why".to_owned(), code: 2 }),
            ..Default::default()
        };
        assert_eq!(read(&span), expected);
        let plain = Span {
            parent: None,
            parent_is_remote: false,
            trace_state: "",
            name: Name("HTTP", None),
            link: None,
            error: None,
            ..span
        };
        let expected = proto::Span {
            parent_span_id: Vec::new(),
            flags: 0x101,
            trace_state: String::new(),
            name: "HTTP".to_owned(),
            links: Vec::new(),
            status: None,
            ..expected
        };
        assert_eq!(read(&plain), expected);
    }

    fn value() -> impl Strategy<Value = (Value<'static>, Any)> {
        prop_oneof![
            // A length has one byte up to 127, two up to 16383, and then three.
            prop_oneof![Just(0_usize), 1..300_usize, 16_300..16_400_usize].prop_map(|length| {
                let text = "x".repeat(length);
                (text.clone().into(), Any::StringValue(text))
            }),
            any::<i64>().prop_map(|number| (number.into(), Any::IntValue(number))),
            any::<f64>().prop_map(|number| (Value::Float(number), Any::DoubleValue(number))),
            any::<IpAddr>().prop_map(|address| (address.into(), Any::StringValue(address.to_string()))),
        ]
    }

    proptest! {
        #[test]
        fn values_of_any_size_are_read_as_they_were(values in proptest::collection::vec(value(), 0..5), why in ".{0,200}") {
            let (values, expected): (Vec<_>, Vec<_>) = values.into_iter().unzip();
            let span = Span {
                trace_state: &why,
                attributes: values.into_iter().map(|value| ("key", value)).collect(),
                error: Some(why.as_str().into()),
                name: Name(&why, Some(&why)),
                ..testing::named("")
            };
            let read = read(&span);
            let expected: Vec<_> = expected.into_iter().map(|value| member("key", value)).collect();
            prop_assert_eq!(read.attributes, expected);
            prop_assert_eq!(read.name, format!("{why} {why}"));
            prop_assert_eq!(read.status.map(|status| status.message), Some(why.clone()));
            prop_assert_eq!(read.trace_state, why);
        }
    }
}
