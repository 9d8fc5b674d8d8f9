//! The tags of a response: what an origin calls it, so that it can be purged by that name.
//!
//! Decides which tags a response has. A response has all of its tags or is not stored: a purge by one that
//! was left out would pass it by, and it would be served for as long as it is fresh.

use std::str;

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// Tags and groups of one response, equal ones counted once.
pub const TAGS_MAX: usize = 128;
/// The length of one in bytes.
pub const TAG_LENGTH_MAX: usize = 1024;

/// Tags that are set apart by commas, as CDNs take them.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// By spaces, as Fastly takes them.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// By spaces or commas, as Varnish's vmod takes them.
const XKEY: HeaderName = HeaderName::from_static("xkey");
/// RFC 9875. What is in it holds for the origin that said it, and no other.
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

const SEPARATOR: char = '\n';

/// In one text, because there are as many of these as stored responses. None of them holds a line break, which
/// cannot be in a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label<'a> {
    Tag(&'a str),
    /// Of RFC 9875.
    Group(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TagsError {
    #[error("there are more than {TAGS_MAX} cache tags")]
    TooMany,
    #[error("a cache tag is longer than {TAG_LENGTH_MAX} bytes")]
    TooLong,
    #[error("a cache tag is not text")]
    NotText,
}

impl<'a> Label<'a> {
    pub fn name(self) -> &'a str {
        match self {
            Self::Tag(name) | Self::Group(name) => name,
        }
    }
}

impl Tags {
    /// What the fields of a response say.
    pub fn of(fields: &HeaderMap) -> Result<Self, TagsError> {
        let mut labels = Vec::new();
        for (field, separators) in [(CACHE_TAG, &[','][..]), (SURROGATE_KEY, &[' ']), (XKEY, &[' ', ','])] {
            for value in fields.get_all(field) {
                for tag in text(value)?.split(separators).map(str::trim).filter(|tag| !tag.is_empty()) {
                    add(&mut labels, Label::Tag(tag))?;
                }
            }
        }
        let groups = groups(fields, &CACHE_GROUPS);
        for group in &groups {
            add(&mut labels, Label::Group(group))?;
        }
        Ok(Self::from_labels(&labels))
    }

    fn from_labels(labels: &[Label<'_>]) -> Self {
        let mut text = String::new();
        for label in labels {
            text.push(match label {
                Label::Tag(_) => 't',
                Label::Group(_) => 'g',
            });
            text.push_str(label.name());
            text.push(SEPARATOR);
        }
        Self(text.into())
    }

    pub fn iter(&self) -> impl Iterator<Item = Label<'_>> {
        self.0.split_terminator(SEPARATOR).filter_map(|text| match text.split_at_checked(1)? {
            ("g", name) => Some(Label::Group(name)),
            (_, name) => Some(Label::Tag(name)),
        })
    }

    /// In bytes.
    pub fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

/// The groups that a response to an unsafe request takes out of the cache (RFC 9875 §3). They are groups of the
/// origin that was asked.
pub fn invalidated_groups(fields: &HeaderMap) -> Vec<String> {
    groups(fields, &CACHE_GROUP_INVALIDATION)
}

fn text(value: &HeaderValue) -> Result<&str, TagsError> {
    str::from_utf8(value.as_bytes()).map_err(|_| TagsError::NotText)
}

fn add<'a>(labels: &mut Vec<Label<'a>>, label: Label<'a>) -> Result<(), TagsError> {
    if labels.contains(&label) {
        return Ok(());
    }
    if label.name().len() > TAG_LENGTH_MAX {
        return Err(TagsError::TooLong);
    }
    if labels.len() == TAGS_MAX {
        return Err(TagsError::TooMany);
    }
    labels.push(label);
    Ok(())
}

/// A field that is a List of Strings. One that is not is as good as absent (RFC 9651 §4.2), and so are empty names.
fn groups(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut values = fields.get_all(name).iter().map(HeaderValue::as_bytes);
    let Some(first) = values.next() else { return Vec::new() };
    let joined = values.fold(first.to_vec(), |mut joined, value| {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
        joined
    });
    let mut groups = list_of_strings(&joined).unwrap_or_default();
    groups.retain(|group| !group.is_empty());
    groups
}

/// RFC 9651 §4.2.1 for a list whose members are strings. Parameters are read over.
fn list_of_strings(input: &[u8]) -> Option<Vec<String>> {
    let mut rest = input.trim_ascii_start();
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let string;
        (string, rest) = quoted(rest)?;
        strings.push(string);
        rest = after_parameters(rest)?.trim_ascii_start();
        match rest.strip_prefix(b",") {
            None if rest.is_empty() => return Some(strings),
            None => return None,
            Some(after) => {
                rest = after.trim_ascii_start();
                // A comma at the end is an error.
                if rest.is_empty() {
                    return None;
                }
            }
        }
    }
    Some(strings)
}

/// RFC 9651 §4.2.5.
fn quoted(input: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = input.strip_prefix(b"\"")?;
    let mut string = String::new();
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((string, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                if !matches!(escaped, b'"' | b'\\') {
                    return None;
                }
                string.push(char::from(*escaped));
                rest = after;
            }
            0x20..=0x7e => string.push(char::from(*byte)),
            _ => return None,
        }
    }
}

/// RFC 9651 §4.2.3.2.
fn after_parameters(mut rest: &[u8]) -> Option<&[u8]> {
    while let Some(after) = rest.strip_prefix(b";") {
        let after = skip(after, |byte| byte == b' ');
        if !after.first()?.is_ascii_lowercase() && !after.starts_with(b"*") {
            return None;
        }
        let key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
        rest = skip(after, key);
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = match value.first()? {
                b'"' => quoted(value)?.1,
                // Tokens, numbers, bytes and booleans end where the next parameter or member begins.
                _ => skip(value, |byte| byte.is_ascii_graphic() && !b";,\"".contains(&byte)),
            };
            if rest.len() == value.len() {
                return None;
            }
        }
    }
    Some(rest)
}

fn skip(bytes: &[u8], skipped: impl Fn(u8) -> bool) -> &[u8] {
    let at = bytes.iter().position(|byte| !skipped(*byte)).unwrap_or(bytes.len());
    bytes.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        fields
    }

    #[test]
    fn tags_by_the_fields_that_name_them() {
        let check = |lines: &[(&str, &str)], expected: &[Label<'_>]| {
            assert_eq!(Tags::of(&fields(lines)).unwrap().iter().collect::<Vec<_>>(), expected, "{lines:?}");
        };
        use Label::{Group, Tag};
        check(&[], &[]);
        check(&[("cache-tag", "a, b,,c d ")], &[Tag("a"), Tag("b"), Tag("c d")]);
        check(&[("surrogate-key", " a  b,c ")], &[Tag("a"), Tag("b,c")]);
        check(&[("xkey", "a b, c,d")], &[Tag("a"), Tag("b"), Tag("c"), Tag("d")]);
        check(&[("cache-tag", "a"), ("cache-tag", "b"), ("xkey", "a")], &[Tag("a"), Tag("b")]);
        check(&[("cache-tag", "größe")], &[Tag("größe")]);
        check(&[("cache-groups", r#""a", "b c";p=1"#)], &[Group("a"), Group("b c")]);
        check(&[("cache-groups", "\"a\""), ("cache-groups", "\"b\"")], &[Group("a"), Group("b")]);
        check(&[("cache-groups", "\"a\""), ("cache-tag", "a")], &[Tag("a"), Group("a")]);
        check(&[("cache-groups", "\"a\", b"), ("cache-tag", "c")], &[Tag("c")]);
    }

    #[test]
    fn a_response_has_all_of_its_tags_or_none() {
        let check = |value: &str, expected: Result<usize, TagsError>| {
            assert_eq!(Tags::of(&fields(&[("cache-tag", value)])).map(|tags| tags.iter().count()), expected);
        };
        let numbered = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        check(&numbered(TAGS_MAX), Ok(TAGS_MAX));
        check(&numbered(TAGS_MAX + 1), Err(TagsError::TooMany));
        check(&"x,".repeat(TAGS_MAX + 1), Ok(1));
        check(&"x".repeat(TAG_LENGTH_MAX), Ok(1));
        check(&"x".repeat(TAG_LENGTH_MAX + 1), Err(TagsError::TooLong));
        let mut invalid = HeaderMap::new();
        invalid.insert("xkey", HeaderValue::from_bytes(b"a \xff").unwrap());
        assert_eq!(Tags::of(&invalid), Err(TagsError::NotText));
    }

    #[test]
    fn lists_of_strings() {
        let check = |input: &str, expected: Option<&[&str]>| {
            let expected = expected.map(|strings| strings.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
            assert_eq!(list_of_strings(input.as_bytes()), expected, "{input}");
        };
        check("", Some(&[]));
        check(r#""a""#, Some(&["a"]));
        check(r#"  "a" ,"b"  "#, Some(&["a", "b"]));
        check(r#""a\"b\\c""#, Some(&[r#"a"b\c"#]));
        check(r#""a";x;y=1;z="q,;\"";*t=?1, "b""#, Some(&["a", "b"]));
        check(r#""a";x=:YQ==:, "b""#, Some(&["a", "b"]));
        check(r#""a""b""#, None);
        check(r#""a","#, None);
        check(r#","a""#, None);
        check(r#""a"#, None);
        check(r#""a\n""#, None);
        check(r#""a";X"#, None);
        check(r#""a";"#, None);
        check(r#""a";x="#, None);
        check("a", None);
        check("1", None);
        check("(\"a\")", None);
        check("\"ä\"", None);
    }

    #[test]
    fn groups_that_a_response_takes_out() {
        let check = |value: &str, expected: &[&str]| {
            assert_eq!(invalidated_groups(&fields(&[("cache-group-invalidation", value)])), expected);
        };
        check(r#""news", "sport""#, &["news", "sport"]);
        check("news", &[]);
        check(r#""""#, &[]);
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic(value in proptest::collection::vec(32..=255_u8, 0..64)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            for name in [CACHE_TAG, SURROGATE_KEY, XKEY, CACHE_GROUPS] {
                let _ = Tags::of(&HeaderMap::from_iter([(name, value.clone())]));
            }
        }

        #[test]
        fn labels_come_back_as_they_went_in(names in proptest::collection::btree_set("[ -~]{1,9}", 0..9)) {
            let labels: Vec<_> = names.iter().enumerate()
                .map(|(n, name)| if n % 2 == 0 { Label::Tag(name) } else { Label::Group(name) }).collect();
            let tags = Tags::from_labels(&labels);
            prop_assert_eq!(tags.iter().collect::<Vec<_>>(), labels);
        }
    }
}
