//! The trace that a request belongs to, as the proxy in front says (W3C Trace Context). It reads and names; nothing is
//! exported from here.

use crate::secret::{NoRandomness, random_hex};

/// One span: what this replica does for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: String,
    pub span_id: String,
    /// The span of the proxy, if it named one.
    pub parent_id: Option<String>,
}

impl Trace {
    /// A span of what the span `parent_id` has left to do.
    pub fn below(trace_id: &str, parent_id: &str) -> Result<Self, NoRandomness> {
        let span_id = random_hex::<8>()?;
        Ok(Self { trace_id: trace_id.to_owned(), span_id, parent_id: Some(parent_id.to_owned()) })
    }

    /// Joins the trace of `traceparent`, or begins one if there is none that can be read.
    pub fn join(traceparent: Option<&str>) -> Result<Self, NoRandomness> {
        let span_id = random_hex::<8>()?;
        Ok(match traceparent.and_then(parse) {
            Some((trace_id, parent_id)) => {
                Self { trace_id: trace_id.to_owned(), span_id, parent_id: Some(parent_id.to_owned()) }
            }
            None => Self { trace_id: random_hex::<16>()?, span_id, parent_id: None },
        })
    }
}

/// The trace and the span in `00-<trace>-<span>-<flags>`.
fn parse(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = is_hex(version, 2) && is_id(trace_id, 32) && is_id(span_id, 16) && is_hex(flags, 2);
    // A later version may append parts, this one has none; ff is no version.
    (is_whole && version != "ff" && (version != "00" || parts.next().is_none())).then_some((trace_id, span_id))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// All zeros is no id.
fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_trace_is_joined_if_it_can_be_read() {
        for (field, is_joined) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what"), true),
            (format!("00-{TRACE}-{SPAN}-01-what"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-{SPAN}"), false),
            (String::new(), false),
        ] {
            let trace = Trace::join(Some(&field)).unwrap();
            assert_eq!(trace.trace_id == TRACE, is_joined, "{field}");
            assert_eq!(trace.parent_id.as_deref(), is_joined.then_some(SPAN), "{field}");
            assert_eq!((trace.trace_id.len(), trace.span_id.len()), (32, 16));
        }
    }
}
