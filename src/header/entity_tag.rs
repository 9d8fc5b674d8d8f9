//! Entity tags: their syntax and their two comparisons (RFC 9110 §8.8.3). What the edge does to the tags of what it codes
//! is in [`etag`](super::etag).

use bytes::{BufMut, BytesMut};
use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What equality of two tags says about the bytes behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strength {
    Strong,
    Weak,
}

/// An entity tag; `opaque` is without its quotes. Equal values are the same text, which is neither of
/// the two comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityTag<'a> {
    pub strength: Strength,
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// None if it is malformed. White space inside of the quotes is let in, against the grammar: origins send it, and
    /// it does no harm.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(value.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// That of the `ETag` field. Several lines are none: nobody knows which is meant.
    pub fn of(fields: &'a HeaderMap) -> Option<Self> {
        Self::parse(single(fields, &ETAG)?.as_bytes())
    }

    /// A tag at the beginning of a text, and what follows it.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (strength, quoted) = match text {
            [b'W', b'/', quoted @ ..] => (Strength::Weak, quoted),
            quoted => (Strength::Strong, quoted),
        };
        let opaque = quoted.strip_prefix(b"\"")?;
        let (opaque, rest) = opaque.split_at(opaque.iter().position(|byte| *byte == b'"')?);
        Some((Self { strength, opaque }, rest.strip_prefix(b"\"")?))
    }

    /// Both name the same bytes.
    pub fn strongly_equals(&self, other: &EntityTag<'_>) -> bool {
        self.strength == Strength::Strong && other.strength == Strength::Strong && self.opaque == other.opaque
    }

    /// Both name the same content, perhaps in other bytes.
    pub fn weakly_equals(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// None for what no tag of a field can be.
    pub fn value(&self) -> Option<HeaderValue> {
        let mut out = BytesMut::new();
        self.write(&mut out);
        HeaderValue::from_maybe_shared(out.freeze()).ok()
    }

    /// As it stands in a field.
    pub fn write(&self, out: &mut BytesMut) {
        if self.strength == Strength::Weak {
            out.put_slice(b"W/");
        }
        out.put_u8(b'"');
        out.put_slice(self.opaque);
        out.put_u8(b'"');
    }
}

/// The well-formed tags in all lines of a list field.
pub fn list<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = EntityTag<'a>> {
    fields.get_all(name).iter().flat_map(|line| elements(line.as_bytes())).filter_map(Result::ok)
}

/// The elements of one line of a list field: tags, and the text of what is none, which ends at the next comma.
pub fn elements(line: &[u8]) -> impl Iterator<Item = Result<EntityTag<'_>, &[u8]>> {
    List(line)
}

struct List<'a>(&'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = Result<EntityTag<'a>, &'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let tag = EntityTag::take(text).map(|(tag, rest)| (tag, rest.trim_ascii_start()));
        // Commas within a tag belong to it.
        let after = tag.map_or(text, |(_, rest)| rest);
        let comma = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
        let (odd, rest) = after.split_at(comma);
        self.0 = rest.get(1..).unwrap_or_default();
        Some(match tag {
            Some((tag, _)) if odd.is_empty() => Ok(tag),
            _ => Err(text.get(..text.len() - rest.len()).unwrap_or_default().trim_ascii_end()),
        })
    }
}

/// A list of tags as one value, up to a number of bytes. None if there is none.
pub fn join<'a>(tags: impl IntoIterator<Item = EntityTag<'a>>, bytes_max: usize) -> Option<HeaderValue> {
    let mut out = BytesMut::new();
    for tag in tags {
        if out.len() + tag.opaque.len() + 6 > bytes_max {
            break;
        }
        if !out.is_empty() {
            out.put_slice(b", ");
        }
        tag.write(&mut out);
    }
    if out.is_empty() {
        return None;
    }
    HeaderValue::from_maybe_shared(out.freeze()).ok()
}

/// The only line of a field that is no list.
pub fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use http::header::{IF_MATCH, IF_NONE_MATCH};

    use super::super::rows::fields;
    use super::*;

    fn strong(opaque: &str) -> EntityTag<'_> {
        EntityTag { strength: Strength::Strong, opaque: opaque.as_bytes() }
    }

    fn weak(opaque: &str) -> EntityTag<'_> {
        EntityTag { strength: Strength::Weak, opaque: opaque.as_bytes() }
    }

    #[test]
    fn one_tag() {
        for (value, expected) in [
            ("\"abc\"", Some(strong("abc"))),
            ("\"\"", Some(strong(""))),
            ("W/\"abc\"", Some(weak("abc"))),
            (" \"a,b\" ", Some(strong("a,b"))),
            ("\"a\\\"", Some(strong("a\\"))),
            ("\"a b\"", Some(strong("a b"))),
            ("\"\u{fc}\"", Some(strong("\u{fc}"))),
            ("", None),
            ("abc", None),
            ("\"", None),
            ("\"abc", None),
            ("abc\"", None),
            ("w/\"abc\"", None),
            ("W\"abc\"", None),
            ("W\\\"abc\"", None),
            ("W/ \"abc\"", None),
            ("W/", None),
            ("\"a\"b", None),
            ("\"a\" \"b\"", None),
            ("\"a\", \"b\"", None),
            ("*", None),
        ] {
            assert_eq!(EntityTag::parse(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(EntityTag::of(&fields("etag: \"a\"")), Some(strong("a")));
        assert_eq!(EntityTag::of(&fields("etag: \"a\"\netag: \"a\"")), None);
        assert_eq!(EntityTag::of(&fields("")), None);
    }

    /// The table of RFC 9110 §8.8.3.2.
    #[test]
    fn two_comparisons() {
        for (one, other, strongly, weakly) in [
            (weak("1"), weak("1"), false, true),
            (weak("1"), weak("2"), false, false),
            (weak("1"), strong("1"), false, true),
            (strong("1"), strong("1"), true, true),
            (strong("1"), strong("2"), false, false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(one.strongly_equals(&other), strongly, "{one:?} {other:?}");
                assert_eq!(one.weakly_equals(&other), weakly, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn lists_pass_over_what_is_malformed() {
        for (lines, expected) in [
            ("", vec![]),
            ("if-match: *", vec![]),
            ("if-match: \"a\"", vec![strong("a")]),
            ("if-match: \"a\",W/\"b\" ,, \"\"", vec![strong("a"), weak("b"), strong("")]),
            ("if-match: \"a,b\", \"c\"\nif-match: \"d\"", vec![strong("a,b"), strong("c"), strong("d")]),
            ("if-match: abc, \"a\"", vec![strong("a")]),
            ("if-match: \"a\" x, \"b\"", vec![strong("b")]),
            ("if-match: \"a\" \"b\"", vec![]),
            ("if-match: \"a, b", vec![]),
            ("if-match: W/, \"b\"", vec![strong("b")]),
            (",,,", vec![]),
        ] {
            let lines = if lines.contains(':') { fields(lines) } else { fields(&format!("if-match: {lines}")) };
            assert_eq!(list(&lines, &IF_MATCH).collect::<Vec<_>>(), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn lists_are_read_as_they_were_written(tags in vec((any::<bool>(), "[!#-~]{0,6}"), 1..6)) {
            let tags: Vec<_> = tags.iter().map(|(is_weak, opaque)| if *is_weak { weak(opaque) } else { strong(opaque) }).collect();
            let mut fields = HeaderMap::new();
            fields.insert(IF_MATCH, join(tags.iter().copied(), usize::MAX).unwrap());
            prop_assert_eq!(list(&fields, &IF_MATCH).collect::<Vec<_>>(), tags);
        }

        #[test]
        fn any_list_is_read_and_reading_it_again_changes_nothing(lines in vec("[\"W/,a~gzip *]{0,12}", 0..4)) {
            let mut fields = HeaderMap::new();
            for line in &lines {
                fields.append(IF_NONE_MATCH, line.parse().unwrap());
            }
            let tags: Vec<_> = list(&fields, &IF_NONE_MATCH).collect();
            let mut again = HeaderMap::new();
            if let Some(joined) = join(tags.iter().copied(), usize::MAX) {
                again.insert(IF_NONE_MATCH, joined);
            }
            prop_assert_eq!(list(&again, &IF_NONE_MATCH).collect::<Vec<_>>(), tags);
        }

        #[test]
        fn a_list_stays_in_its_bound(tags in vec("[a-c]{0,9}", 0..9), bytes_max in 0..60_usize) {
            let joined = join(tags.iter().map(|tag| weak(tag)), bytes_max);
            prop_assert!(joined.is_none_or(|joined| joined.len() <= bytes_max));
        }
    }
}
