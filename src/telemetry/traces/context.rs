//! The trace that a request belongs to, as the fields of a message say it (W3C Trace Context). Pure: whom to believe is
//! decided by the caller, and randomness is an argument.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_otlp::{Parent, SpanId, TraceId};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
pub const X_SPAN_ID: HeaderName = HeaderName::from_static("x-span-id");

/// As much as the recommendation asks everyone to pass on.
const STATE_BYTES_MAX: usize = 512;

/// Of the one `traceparent` that there is; None if it cannot be read (§3.2).
pub fn parent(fields: &HeaderMap) -> Option<Parent> {
    let mut lines = fields.get_all(TRACEPARENT).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Parent::parse(line.as_bytes()),
        _ => None,
    }
}

/// `tracestate` as it came, in one line; nothing if it is longer than has to be kept.
pub fn state(fields: &HeaderMap) -> String {
    let mut state = String::new();
    for line in fields.get_all(TRACESTATE).iter().filter_map(|line| line.to_str().ok()) {
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(line);
    }
    if state.len() > STATE_BYTES_MAX { String::new() } else { state }
}

/// Names a span in a head: its trace and itself.
pub fn name(fields: &mut HeaderMap, trace_id: TraceId, span_id: SpanId) {
    let mut text = [0; 48];
    text[..32].copy_from_slice(&trace_id.hex());
    text[32..].copy_from_slice(&span_id.hex());
    let text = Bytes::from_owner(text);
    insert(fields, X_TRACE_ID, text.slice(..32));
    insert(fields, X_SPAN_ID, text.slice(32..));
}

/// The same, and that it is the parent of what the receiver does.
pub fn hand_on(fields: &mut HeaderMap, trace_id: TraceId, span_id: SpanId, is_sampled: bool) {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(&trace_id.hex());
    text[36..52].copy_from_slice(&span_id.hex());
    text[54] += u8::from(is_sampled);
    // One piece of memory for three fields.
    let text = Bytes::from_owner(text);
    insert(fields, X_TRACE_ID, text.slice(3..35));
    insert(fields, X_SPAN_ID, text.slice(36..52));
    insert(fields, TRACEPARENT, text);
}

fn insert(fields: &mut HeaderMap, name: HeaderName, text: Bytes) {
    // Digits and hyphens stand in any field.
    if let Ok(value) = HeaderValue::from_maybe_shared(text) {
        fields.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn fields(lines: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append((*name).clone(), value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn of_two_parents_none_is_believed() {
        let field = format!("00-{TRACE}-{SPAN}-01");
        let parent = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (TRACEPARENT, HeaderValue::from_str(line).unwrap()));
            parent(&lines.collect()).map(|parent| (parent.trace_id.to_string(), parent.is_sampled))
        };
        assert_eq!(parent(&[&field]), Some((TRACE.to_owned(), true)));
        assert_eq!(parent(&[&field, &field]), None);
        assert_eq!(parent(&[&field, ""]), None);
        assert_eq!(parent(&[]), None);
    }

    #[test]
    fn state_goes_in_one_line_and_is_not_long() {
        assert_eq!(state(&fields(&[(&TRACESTATE, "a=1"), (&TRACESTATE, "b=2")])), "a=1,b=2");
        assert_eq!(state(&fields(&[(&TRACESTATE, &"a".repeat(513))])), "");
        assert_eq!(state(&HeaderMap::new()), "");
    }

    proptest! {
        #[test]
        fn what_is_handed_on_can_be_read(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, is_sampled: bool) {
            let handed = Parent { trace_id: TraceId::of(trace_id), span_id: SpanId::of(span_id), is_sampled };
            let mut map = fields(&[(&X_TRACE_ID, "theirs"), (&TRACEPARENT, "a"), (&TRACEPARENT, "b")]);
            hand_on(&mut map, handed.trace_id, handed.span_id, is_sampled);
            prop_assert_eq!(parent(&map), Some(handed));
            prop_assert_eq!(map[X_TRACE_ID].to_str().unwrap(), handed.trace_id.to_string());
            prop_assert_eq!(map[X_SPAN_ID].to_str().unwrap(), handed.span_id.to_string());
            let mut response = fields(&[(&X_SPAN_ID, "theirs"), (&X_SPAN_ID, "too")]);
            name(&mut response, handed.trace_id, handed.span_id);
            prop_assert_eq!(response.len(), 2);
            prop_assert_eq!(&response[X_SPAN_ID], &map[X_SPAN_ID]);
        }
    }
}
