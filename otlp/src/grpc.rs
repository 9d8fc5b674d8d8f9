//! gRPC, as far as one message and its answer need it: the frame around each, and the status behind. Pure.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use prost::Message as _;

/// A flag and the length.
const PREFIX_BYTES: usize = 5;

/// The message in its frame.
pub fn frame(message: &[u8], is_compressed: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(is_compressed.into());
    // Batches are bounded far below 4 GiB.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The message of a frame; None if it is not whole, or compressed, which was not asked for.
pub fn unframe(mut framed: Bytes) -> Option<Bytes> {
    let (&[flag, a, b, c, d], rest) = framed.split_first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (flag == 0 && rest.len() == length).then(|| framed.split_off(PREFIX_BYTES))
}

/// What the server says of a call, beside the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: u32,
    pub message: String,
    /// The pause that it asks for, if it says that the call may be tried again. It may be none.
    pub retry: Option<Duration>,
}

/// Binary fields have no padding, and some servers send it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `google.rpc.Status`, of which the rest stands in fields of its own.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// In the trailers, or in the head if there is nothing else.
pub fn status(fields: &HeaderMap) -> Option<Status> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    let retry = text("grpc-status-details-bin").and_then(retry);
    Some(Status { code, message: text("grpc-message").unwrap_or_default().to_owned(), retry })
}

fn retry(details: &str) -> Option<Duration> {
    let Details { details } = Details::decode(&*BASE64.decode(details).ok()?).ok()?;
    let info = details.into_iter().find(|detail| detail.kind.ends_with("/google.rpc.RetryInfo"))?;
    let Delay { seconds, nanos } = RetryInfo::decode(&*info.value).ok()?.delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0).min(999_999_999)))
}

/// Whether the same call may fare better later, by the list of the protocol of OTLP.
pub fn may_pass(code: u32, retry: Option<Duration>) -> bool {
    const CANCELLED: u32 = 1;
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const ABORTED: u32 = 10;
    const OUT_OF_RANGE: u32 = 11;
    const UNAVAILABLE: u32 = 14;
    const DATA_LOSS: u32 = 15;
    match code {
        CANCELLED | DEADLINE_EXCEEDED | ABORTED | OUT_OF_RANGE | UNAVAILABLE | DATA_LOSS => true,
        // A quota that is used up, or a message that is too large, stays so unless the server says otherwise.
        RESOURCE_EXHAUSTED => retry.is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_message_goes_in_a_frame_and_comes_out() {
        assert_eq!(frame(b"abc", false), &b"\0\0\0\0\x03abc"[..]);
        assert_eq!(frame(b"abc", true), &b"\x01\0\0\0\x03abc"[..]);
        for (framed, message) in [
            (&b"\0\0\0\0\x03abc"[..], Some(&b"abc"[..])),
            (b"\0\0\0\0\0", Some(b"")),
            (b"", None),
            (b"\0\0\0", None),
            (b"\0\0\0\0\x04abc", None),
            (b"\0\0\0\0\x02abc", None),
            (b"\x01\0\0\0\x03abc", None),
        ] {
            assert_eq!(unframe(Bytes::from_static(framed)).as_deref(), message, "{framed:?}");
        }
    }

    #[test]
    fn statuses() {
        let mut fields = HeaderMap::new();
        assert_eq!(status(&fields), None);
        fields.insert("grpc-status", HeaderValue::from_static("14"));
        fields.insert("grpc-message", HeaderValue::from_static("later"));
        let expected = Status { code: 14, message: "later".to_owned(), retry: None };
        assert_eq!(status(&fields), Some(expected.clone()));
        // RetryInfo of 1.5 s behind a BadRequest, of no time, and of less; and nothing of the kind.
        for (details, retry) in [
            (
                "CA4aKwopdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkJhZFJlcXVlc3QaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIARCAyrXuAQ==",
                Some(Duration::from_millis(1500)),
            ),
            ("GioKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8", Some(Duration::ZERO)),
            ("GjkKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SDQoLCP///////////wE", Some(Duration::ZERO)),
            ("CA4aKwopdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkJhZFJlcXVlc3Q", None),
            ("%%", None),
            ("", None),
        ] {
            fields.insert("grpc-status-details-bin", HeaderValue::try_from(details).unwrap());
            assert_eq!(status(&fields), Some(Status { retry, ..expected.clone() }), "{details}");
        }
    }

    #[test]
    fn what_may_pass() {
        let check = |code, retry: Option<u64>, expected| {
            assert_eq!(may_pass(code, retry.map(Duration::from_secs)), expected, "{code} {retry:?}");
        };
        check(14, None, true);
        check(3, Some(1), false);
        check(16, None, false);
        check(8, None, false);
        check(8, Some(0), true);
        check(8, Some(30), true);
    }
}
