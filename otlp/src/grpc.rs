//! gRPC, as far as one message and its answer need it: the frame around each, and the status behind. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;

/// A flag and the length.
const PREFIX_BYTES: usize = 5;

/// The message, not compressed, in its frame.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
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
}

/// In the trailers, or in the head if there is nothing else.
pub fn status(fields: &HeaderMap) -> Option<Status> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    Some(Status { code, message: text("grpc-message").unwrap_or_default().to_owned() })
}

/// Whether the same call may fare better later, by the list of the protocol of OTLP.
pub fn may_pass(code: u32) -> bool {
    const CANCELLED: u32 = 1;
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const ABORTED: u32 = 10;
    const OUT_OF_RANGE: u32 = 11;
    const UNAVAILABLE: u32 = 14;
    const DATA_LOSS: u32 = 15;
    matches!(
        code,
        CANCELLED | DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | ABORTED | OUT_OF_RANGE | UNAVAILABLE | DATA_LOSS
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_message_goes_in_a_frame_and_comes_out() {
        assert_eq!(frame(b"abc"), &b"\0\0\0\0\x03abc"[..]);
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
        assert_eq!(status(&fields), Some(Status { code: 14, message: "later".to_owned() }));
        assert!(may_pass(14) && !may_pass(3) && !may_pass(16));
    }
}
