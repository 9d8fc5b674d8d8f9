//! What the content of a message is, by its `Content-Type` (RFC 9110 §8.3).

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The media type without its parameters, as it was written; nothing if there is none.
pub fn essence(fields: &HeaderMap) -> &[u8] {
    let value = fields.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii()
}

/// Whether it is a stream of events, which stays open and is silent for long.
pub fn has_events(fields: &HeaderMap) -> bool {
    essence(fields).eq_ignore_ascii_case(b"text/event-stream")
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
}
