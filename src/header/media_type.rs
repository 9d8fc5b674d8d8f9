//! What the content of a message is, by its `Content-Type` (RFC 9110 §8.3).

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The media type without its parameters, as it was written; nothing if there is none.
pub fn essence(fields: &HeaderMap) -> &[u8] {
    essence_of(fields.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default())
}

/// The same of the field's value.
pub fn essence_of(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii()
}

/// Whether what has this media type stays open however little there is to do. The head of a call of gRPC comes with its first
/// message, or with its end if it has one answer.
pub fn is_stream(essence: &[u8]) -> bool {
    is_events(essence) || is_of_grpc(essence)
}

/// Whether it is a stream of events, which stays open and is silent for long.
pub fn has_events(fields: &HeaderMap) -> bool {
    is_events(essence(fields))
}

fn is_events(essence: &[u8]) -> bool {
    essence.eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether it is a call of gRPC, which may be a stream of messages for as long as both sides like.
pub fn is_grpc(fields: &HeaderMap) -> bool {
    is_of_grpc(essence(fields))
}

fn is_of_grpc(essence: &[u8]) -> bool {
    // What follows is a `+` and how messages are written, or `-web` (https://grpc.io/docs/guides/wire).
    essence.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// Whether its status stands in the trailers: gRPC-Web has it in the body.
pub fn is_grpc_with_trailers(fields: &HeaderMap) -> bool {
    let is_web = || essence(fields).get(16..20).is_some_and(|start| start.eq_ignore_ascii_case(b"-web"));
    is_grpc(fields) && !is_web()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows;

    #[test]
    fn events_by_their_media_type() {
        let check = |fields: &str, expected: bool| assert_eq!(has_events(&rows::fields(fields)), expected, "{fields}");
        check("content-type: text/event-stream", true);
        check("content-type: Text/Event-Stream ;charset=utf-8", true);
        check("content-type: text/event-streams", false);
        check("content-type: text/html; as=text/event-stream", false);
        check("accept: text/event-stream", false);
    }

    #[test]
    fn calls_of_grpc_by_their_media_type() {
        let check = |fields: &str, expected: bool| assert_eq!(is_grpc(&rows::fields(fields)), expected, "{fields}");
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC-web", "application/grpc;a=b"] {
            check(&format!("content-type: {kind}"), true);
        }
        check("content-type: application/json", false);
        check("content-type: application", false);
        check("te: application/grpc", false);
    }

    #[test]
    fn calls_of_grpc_that_end_with_trailers() {
        let check = |fields: &str, expected: bool| {
            assert_eq!(is_grpc_with_trailers(&rows::fields(fields)), expected, "{fields}");
        };
        for kind in ["application/grpc", "application/grpc+web", "application/grpc;a=-web", "Application/GRPC+proto"] {
            check(&format!("content-type: {kind}"), true);
        }
        for kind in ["application/grpc-web", "application/grpc-Web+proto", "application/grpc-web-text", "text/plain"] {
            check(&format!("content-type: {kind}"), false);
        }
    }
}
