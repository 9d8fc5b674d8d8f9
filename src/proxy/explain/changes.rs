//! What the way upstream makes of the fields of a request, and the configuration of those of a response.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::shape::{Changed, Changes, Edits};
use crate::config::FieldEdits;
use crate::telemetry::traces::{TRACEPARENT, Trace, X_SPAN_ID, X_TRACE_ID};

/// In place of what only those may see who may read the file.
const CONCEALED: &str = "***";
/// In place of a value that is another one each time.
pub const FRESH: &str = "(made for each request)";

/// What became of the fields `before`. `conceals` says whose values are not told, `fresh` which are made anew.
pub fn changes(
    before: &HeaderMap,
    after: &HeaderMap,
    conceals: impl Fn(&HeaderName) -> bool,
    fresh: impl Fn(&HeaderName) -> bool,
) -> Changes {
    let told = |name: &HeaderName| match () {
        () if conceals(name) => CONCEALED.to_owned(),
        () if fresh(name) => FRESH.to_owned(),
        () => lines(after, name),
    };
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for name in after.keys() {
        let name_text = name.as_str().to_owned();
        if !before.contains_key(name) {
            added.push((name_text, told(name)));
        } else if fresh(name) || !before.get_all(name).iter().eq(after.get_all(name)) {
            changed.push(Changed { name: name_text, from: lines(before, name), to: told(name) });
        }
    }
    let removed = before.keys().filter(|name| !after.contains_key(*name)).map(|name| name.as_str().to_owned());
    let mut removed: Vec<_> = removed.collect();
    added.sort();
    removed.sort();
    changed.sort_by(|one, other| one.name.cmp(&other.name));
    Changes { target: String::new(), rewritten: false, added, changed, removed }
}

/// The values of a field, as one line.
fn lines(fields: &HeaderMap, name: &HeaderName) -> String {
    fields.get_all(name).iter().map(text).collect::<Vec<_>>().join(", ")
}

pub fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What is done to the fields of every response; clients see it anyway.
pub fn edits(edits: &FieldEdits, hsts: Option<&HeaderValue>, trace: Option<&Trace>) -> Edits {
    let set = edits.set.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
    let hsts = hsts.map(|value| ("strict-transport-security".to_owned(), text(value)));
    let mut names = HeaderMap::new();
    if let Some(trace) = trace {
        trace.name().insert(&mut names);
    }
    let told = |name: &HeaderName| if is_fresh(trace, name) { FRESH.to_owned() } else { lines(&names, name) };
    let names = names.keys().map(|name| (name.as_str().to_owned(), told(name)));
    Edits {
        set: set.chain(hsts).chain(names).collect(),
        removed: edits.remove.iter().map(|name| name.as_str().to_owned()).collect(),
    }
}

/// Whether a field names something that is made for each request: the span, and the trace if that begins here.
pub fn is_fresh(trace: Option<&Trace>, name: &HeaderName) -> bool {
    trace.is_some_and(|trace| {
        *name == X_SPAN_ID
            || *name == X_TRACE_ID && !trace.is_continued()
            || *name == TRACEPARENT && !trace.keeps_parent()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows::fields;

    #[test]
    fn what_is_added_changed_and_removed() {
        let before = fields("a: 1\nb: 1\nb: 2\nc: 1\nd: 1");
        let after = fields("a: 1\nb: 1\nb: 3\nd: 2\ne: 5\nf: secret\nx-request-id: 7");
        let secret = |name: &HeaderName| name == "f";
        let found = changes(&before, &after, secret, |name| name == "x-request-id");
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(found.added, [("e", "5"), ("f", CONCEALED), ("x-request-id", FRESH)].map(owned));
        let changed =
            |name: &str, from: &str, to: &str| Changed { name: name.into(), from: from.into(), to: to.into() };
        assert_eq!(found.changed, [changed("b", "1, 2", "1, 3"), changed("d", "1", "2")]);
        assert_eq!(found.removed, ["c"]);
    }
}
