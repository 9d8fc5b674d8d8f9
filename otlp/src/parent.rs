//! What `traceparent` says (W3C Trace Context §3.2). Pure.

use std::num::{NonZeroU64, NonZeroU128};

use crate::span::{SpanId, TraceId};

/// `00-<32>-<16>-<2>`
const LENGTH: usize = 55;

/// What another one says of the trace and of its span, under which ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub is_sampled: bool,
}

impl Parent {
    /// None if it cannot be read.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f', ..] = known else { return None };
        let version = known.get(..2)?;
        // A later version may append parts, this one has none; ff is no version.
        let ends = if version == b"00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with(b"-") };
        if !ends || version == b"ff" || [2, 35, 52].iter().any(|at| known.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = NonZeroU128::new(number(known.get(3..35)?)?)?;
        let span_id = NonZeroU64::new(number(known.get(36..52)?)? as u64)?;
        let flags = number(known.get(53..)?)?;
        Some(Self { trace_id: TraceId(trace_id), span_id: SpanId(span_id), is_sampled: flags & 1 == 1 })
    }
}

/// Of hexadecimal digits, which are in lower case.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read_if_it_is_right() {
        for (field, expected) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-ff"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("00-{TRACE}-{SPAN}-01-what"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("0g-{TRACE}-{SPAN}-01"), None),
            (format!("0A-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-{SPAN}-0"), None),
            (format!("00-{TRACE}-{SPAN}-+1"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}_{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}_01"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (String::new(), None),
        ] {
            let read = Parent::parse(field.as_bytes());
            assert_eq!(read.map(|parent| parent.is_sampled), expected, "{field}");
            if let Some(parent) = read {
                assert_eq!((parent.trace_id.to_string(), parent.span_id.to_string()), (TRACE.into(), SPAN.into()));
            }
        }
    }

    proptest! {
        #[test]
        fn no_field_is_too_odd(text: Vec<u8>) {
            let _read = Parent::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, flags: u8) {
            let parent = Parent::parse(format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}").as_bytes());
            let (trace_id, span_id) = (TraceId::of(trace_id), SpanId::of(span_id));
            prop_assert_eq!(parent, Some(Parent { trace_id, span_id, is_sampled: flags & 1 == 1 }));
        }
    }
}
