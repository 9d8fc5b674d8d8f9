//! Entity tags of coded responses (RFC 9110 §8.8.3.3): `"x"` of an origin is `"x~gzip"` once the edge has coded the content.
//!
//! The mark is taken off again when the tag comes back in a precondition, so that the origin, which knows nothing
//! of it, recognises its own. A weak tag names what a content means and not its bytes, so it stays as it is.

use bytes::BytesMut;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::entity_tag::{self, EntityTag};
use crate::config::Coding;

/// Between the origin's tag and the name of the coding.
const MARK: u8 = b'~';

/// The tag of the same content in a coding; None if it stays as it is, because it is weak or no tag.
pub fn coded(tag: &HeaderValue, coding: Coding) -> Option<HeaderValue> {
    let opaque = tag.as_bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let marked = [b"\"", opaque, &[MARK], coding.word().as_bytes(), b"\""].concat();
    HeaderValue::from_bytes(&marked).ok()
}

/// What the origin's tag was before [`coded`], and the coding; None if it bears no mark.
fn origin_of(tag: EntityTag<'_>) -> Option<(EntityTag<'_>, Coding)> {
    let mark = tag.opaque.iter().rposition(|byte| *byte == MARK)?;
    let (opaque, name) = (tag.opaque.get(..mark)?, tag.opaque.get(mark + 1..)?);
    let coding = Coding::ALL.into_iter().find(|coding| name == coding.word().as_bytes())?;
    Some((EntityTag { opaque, ..tag }, coding))
}

/// Takes the marks off the preconditions of a request, for its way upstream.
pub fn take_off_marks(request: &mut HeaderMap) {
    for name in [IF_NONE_MATCH, IF_MATCH] {
        unmark_list(request, &name);
    }
    // A part of the origin's bytes does not continue what a client has of the coded ones: it gets the whole. A date is
    // the same for both.
    let may_be_of_coded = |value: &HeaderValue| {
        let is_tag = value.as_bytes().starts_with(b"\"") || value.as_bytes().starts_with(b"W/");
        !is_tag || EntityTag::parse(value.as_bytes()).and_then(origin_of).is_some()
    };
    if request.get(IF_RANGE).is_some_and(may_be_of_coded) {
        request.remove(IF_RANGE);
        request.remove(RANGE);
    }
}

/// The marked tags by which a client asks for a validation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validating(Vec<(HeaderValue, Coding)>);

impl Validating {
    pub fn by(request: &HeaderMap) -> Self {
        if !has_marks(request, &IF_NONE_MATCH) {
            return Self::default();
        }
        let marked = entity_tag::list(request, &IF_NONE_MATCH).filter_map(origin_of);
        Self(marked.filter_map(|(origin, coding)| Some((origin.value()?, coding))).collect())
    }

    /// The tag as the client knows it, if the origin's answer names the tag of what the client has. Of several,
    /// the one of the coding that this client would be sent now.
    pub fn known_as(&self, tag: &HeaderValue, coding: Option<Coding>) -> Option<HeaderValue> {
        let same = || self.0.iter().filter(|(origin, _)| origin == tag).map(|(_, of)| *of);
        coded(tag, same().find(|of| Some(*of) == coding).or_else(|| same().next())?)
    }
}

fn has_marks(request: &HeaderMap, name: &HeaderName) -> bool {
    request.get_all(name).iter().any(|line| line.as_bytes().contains(&MARK))
}

/// What is no tag stays as it is: to leave it out would be to change what is asked.
fn unmark_list(request: &mut HeaderMap, name: &HeaderName) {
    if !has_marks(request, name) {
        return;
    }
    let mut lines = Vec::new();
    for line in request.get_all(name) {
        let mut unmarked = BytesMut::new();
        for element in entity_tag::elements(line.as_bytes()).filter(|element| *element != Err(b"")) {
            if !unmarked.is_empty() {
                unmarked.extend_from_slice(b", ");
            }
            match element {
                Ok(tag) => origin_of(tag).map_or(tag, |(origin, _)| origin).write(&mut unmarked),
                Err(text) => unmarked.extend_from_slice(text),
            }
        }
        lines.extend(HeaderValue::from_maybe_shared(unmarked.freeze()));
    }
    request.remove(name);
    for line in lines {
        request.append(name, line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::rows;

    #[test]
    fn a_strong_tag_is_marked_and_a_weak_one_is_not() {
        let check = |tag: &str, expected: Option<&str>| {
            let marked = coded(&HeaderValue::from_str(tag).unwrap(), Coding::Gzip);
            assert_eq!(marked.as_ref().map(|value| value.to_str().unwrap()), expected, "{tag}");
        };
        check("\"x\"", Some("\"x~gzip\""));
        check("\"\"", Some("\"~gzip\""));
        check("W/\"x\"", None);
        check("x", None);
        check("\"", None);
    }

    #[test]
    fn marks_are_taken_off_preconditions() {
        let check = |text: &str, expected: &str| {
            let mut fields = rows::fields(text);
            take_off_marks(&mut fields);
            assert_eq!(rows::text(&fields), expected, "{text}");
        };
        check("If-None-Match: \"x~gzip\"", "if-none-match: \"x\"");
        check(
            "If-None-Match: \"a,~b\", \"x~br\",\"y\" , W/\"z~zstd\"",
            "if-none-match: \"a,~b\", \"x\", \"y\", W/\"z\"",
        );
        check("If-None-Match: \"x~deflate\"", "if-none-match: \"x~deflate\"");
        check("If-None-Match: *", "if-none-match: *");
        check("If-Match: \"x~zstd\"", "if-match: \"x\"");
        check("If-Match: \"a~br\"\nIf-Match: \"b\"", "if-match: \"a\"\nif-match: \"b\"");
        check("If-None-Match: x~gzip\", ~gzip\"", "if-none-match: x~gzip\", ~gzip\"");
        check("If-Range: \"x~gzip\"\nRange: bytes=5-", "");
        check("If-Range: \"x\"\nRange: bytes=5-", "if-range: \"x\"\nrange: bytes=5-");
    }

    #[test]
    fn a_validated_tag_is_named_as_the_client_knows_it() {
        let check = |asked: &str, tag: &str, coding, expected: Option<&str>| {
            let found = Validating::by(&rows::fields(asked)).known_as(&HeaderValue::from_str(tag).unwrap(), coding);
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), expected, "{asked}");
        };
        let both = "If-None-Match: \"x~gzip\", \"x~br\", \"y~br\"";
        check(both, "\"x\"", Some(Coding::Br), Some("\"x~br\""));
        check(both, "\"x\"", Some(Coding::Zstd), Some("\"x~gzip\""));
        check(both, "\"x\"", None, Some("\"x~gzip\""));
        check(both, "\"z\"", Some(Coding::Br), None);
        check("If-None-Match: \"x\"", "\"x\"", Some(Coding::Br), None);
    }

    proptest! {
        #[test]
        fn what_is_marked_is_recognised(opaque in "[!#-~]{0,20}", coding in prop::sample::select(&Coding::ALL[..])) {
            let tag = HeaderValue::from_str(&format!("\"{opaque}\"")).unwrap();
            let marked = coded(&tag, coding).unwrap();
            let origin = EntityTag::parse(tag.as_bytes()).unwrap();
            prop_assert_eq!(EntityTag::parse(marked.as_bytes()).and_then(origin_of), Some((origin, coding)));
        }

        #[test]
        fn no_list_is_too_odd(line in "[ -~]{0,40}") {
            let mut fields = HeaderMap::new();
            fields.insert(IF_NONE_MATCH, HeaderValue::from_str(&line).unwrap());
            take_off_marks(&mut fields);
        }
    }
}
