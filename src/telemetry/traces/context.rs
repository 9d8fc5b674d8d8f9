//! The trace that a request belongs to, as the fields of a message say it (W3C Trace Context). Pure: whom to believe is
//! decided by the caller, and randomness is an argument.

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

/// The fields of a head that name a span, in place of those that the message came with. They are written with a head of
/// HTTP/1.1, beside its map: two or three fields put into that cost as much as all others together.
#[derive(Debug, Clone, Copy)]
pub struct SpanFields {
    trace_id: TraceId,
    span_id: SpanId,
    parent: ParentField,
    /// The state goes with its trace (§3.3).
    keeps_state: bool,
}

/// What becomes of `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParentField {
    Stays,
    /// The span is the parent of what the receiver does.
    Ours {
        is_sampled: bool,
    },
}

impl SpanFields {
    /// The span, for who is not to continue it.
    pub fn name(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id, parent: ParentField::Stays, keeps_state: true }
    }

    /// The same, and that it is the parent of what the receiver does.
    pub fn hand_on(trace_id: TraceId, span_id: SpanId, is_sampled: bool, keeps_state: bool) -> Self {
        Self { trace_id, span_id, parent: ParentField::Ours { is_sampled }, keeps_state }
    }

    /// Whether a field that the message came with gives way.
    pub fn replace(&self, name: &HeaderName) -> bool {
        match name.as_str() {
            "x-trace-id" | "x-span-id" => true,
            "traceparent" => self.parent != ParentField::Stays,
            "tracestate" => !self.keeps_state,
            _ => false,
        }
    }

    /// Appends the lines to a head.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (trace_id, span_id) = (self.trace_id.hex(), self.span_id.hex());
        let mut add = |parts: [&[u8]; 2]| parts.into_iter().for_each(|part| out.extend_from_slice(part));
        add([b"x-trace-id: ", &trace_id]);
        add([b"\r\nx-span-id: ", &span_id]);
        if let ParentField::Ours { is_sampled } = self.parent {
            add([b"\r\ntraceparent: ", &parent_text(&trace_id, &span_id, is_sampled)]);
        }
        add([b"\r\n", b""]);
    }

    /// Puts them among the other fields.
    pub fn insert(&self, fields: &mut HeaderMap) {
        let (trace_id, span_id) = (self.trace_id.hex(), self.span_id.hex());
        insert(fields, X_TRACE_ID, &trace_id);
        insert(fields, X_SPAN_ID, &span_id);
        if let ParentField::Ours { is_sampled } = self.parent {
            insert(fields, TRACEPARENT, &parent_text(&trace_id, &span_id, is_sampled));
        }
        if !self.keeps_state {
            fields.remove(TRACESTATE);
        }
    }
}

fn parent_text(trace_id: &[u8; 32], span_id: &[u8; 16], is_sampled: bool) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(trace_id);
    text[36..52].copy_from_slice(span_id);
    text[54] += u8::from(is_sampled);
    text
}

fn insert(fields: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    // Digits and hyphens stand in any field.
    if let Ok(value) = HeaderValue::from_bytes(text) {
        fields.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::write_field;

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
        fn what_is_handed_on_can_be_read(
            trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, is_sampled: bool, keeps_state: bool,
        ) {
            let handed = Parent { trace_id: TraceId::of(trace_id), span_id: SpanId::of(span_id), is_sampled };
            let theirs = fields(&[
                (&X_TRACE_ID, "theirs"), (&TRACEPARENT, "a"), (&TRACEPARENT, "b"), (&X_SPAN_ID, "c"), (&TRACESTATE, "d"),
            ]);
            let (trace_id, span_id) = (handed.trace_id, handed.span_id);
            let mut map = theirs.clone();
            SpanFields::hand_on(trace_id, span_id, is_sampled, keeps_state).insert(&mut map);
            prop_assert_eq!(parent(&map), Some(handed));
            prop_assert_eq!(map[X_TRACE_ID].to_str().unwrap(), trace_id.to_string());
            prop_assert_eq!(map[X_SPAN_ID].to_str().unwrap(), span_id.to_string());
            prop_assert_eq!((map.len(), map.contains_key(TRACESTATE)), (3 + usize::from(keeps_state), keeps_state));
            let mut named = theirs.clone();
            SpanFields::name(trace_id, span_id).insert(&mut named);
            prop_assert_eq!((named.len(), &named[X_SPAN_ID], &named[TRACEPARENT]), (5, &map[X_SPAN_ID], &theirs[TRACEPARENT]));
        }

        /// What is written beside a map is what would stand in it.
        #[test]
        fn lines_beside_the_map_say_the_same(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, kind in 0..3) {
            let (trace_id, span_id) = (TraceId::of(trace_id), SpanId::of(span_id));
            let added = match kind {
                0 => SpanFields::name(trace_id, span_id),
                kind => SpanFields::hand_on(trace_id, span_id, kind == 1, kind == 2),
            };
            let theirs = fields(&[
                (&X_TRACE_ID, "theirs"), (&TRACEPARENT, "a"), (&TRACEPARENT, "b"), (&X_SPAN_ID, "c"), (&TRACESTATE, "d"),
                (&http::header::HOST, "x"),
            ]);
            let mut text = Vec::new();
            for (name, value) in theirs.iter().filter(|(name, _)| !added.replace(name)) {
                write_field(name, value, &mut text);
            }
            added.write(&mut text);
            let mut map = theirs;
            added.insert(&mut map);
            let written = crate::header::rows::fields(&String::from_utf8(text).unwrap());
            prop_assert_eq!(written, map);
        }
    }
}
