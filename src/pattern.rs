//! Names with `*` in them, for what is purged: `/users/*`, `user:*`. The config holds some, and so does a purge.
//!
//! `*` stands for any text, the empty one and slashes included. There is no escape: a name that holds a `*`
//! itself is matched by that pattern too, so a purge is sooner too wide than too narrow.

use thiserror::Error;

/// More of them in one pattern make matching slow, and mean nothing that anybody wants.
const STARS_MAX: usize = 8;
const LENGTH_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {LENGTH_MAX} bytes")]
    TooLong,
    #[error("it has more than {STARS_MAX} `*`")]
    TooManyStars,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > LENGTH_MAX {
            return Err(PatternError::TooLong);
        }
        if text.bytes().filter(|byte| *byte == b'*').count() > STARS_MAX {
            return Err(PatternError::TooManyStars);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one name that it matches, if it has no `*`.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    pub fn matches(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return *self.0 == *name };
        let Some(mut name) = name.strip_prefix(start) else { return false };
        let mut rest = rest;
        // What stands between two stars may be taken at its first place; the last part has to end the name.
        while let Some((part, after)) = rest.split_once('*') {
            let Some(at) = name.find(part) else { return false };
            name = &name[at + part.len()..];
            rest = after;
        }
        name.ends_with(rest)
    }

    /// Whether there is a name that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        // `reached[j]`: what we have read of ours, and j bytes of theirs, can stand for the same text.
        let mut reached = vec![false; theirs.len() + 1];
        reached[0] = true;
        spread(&mut reached, theirs);
        for &byte in ours {
            let mut next = vec![false; theirs.len() + 1];
            for at in 0..=theirs.len() {
                let before = at.checked_sub(1);
                let their = before.and_then(|before| theirs.get(before));
                let from_before = before.is_some_and(|before| reached[before]);
                next[at] = if byte == b'*' {
                    // Ours stands for nothing, or for one more of what theirs can be.
                    reached[at] || before.is_some_and(|before| next[before])
                } else {
                    // Theirs is the same byte, or a star that stands for it.
                    their == Some(&byte) && from_before || their == Some(&b'*') && reached[at]
                };
                if their == Some(&b'*') {
                    next[at] |= before.is_some_and(|before| next[before]);
                }
            }
            reached = next;
        }
        reached[theirs.len()]
    }
}

/// A star of theirs may stand for nothing.
fn spread(reached: &mut [bool], theirs: &[u8]) {
    for (at, byte) in theirs.iter().enumerate() {
        if *byte == b'*' && reached[at] {
            reached[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn names_that_match() {
        let check = |text: &str, name: &str, expected: bool| {
            assert_eq!(pattern(text).matches(name), expected, "{text} {name}");
        };
        check("/users/7", "/users/7", true);
        check("/users/7", "/users/71", false);
        check("/users/*", "/users/7/posts", true);
        check("/users/*", "/users/", true);
        check("/users/*", "/users", false);
        check("*.css", "/a/b.css", true);
        check("*.css", "/a/b.css.map", false);
        check("/a/*/b", "/a/x/y/b", true);
        check("/a/*/b", "/a/b", false);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("*ab*ab", "ab", false);
        check("*ab*ab", "abab", true);
        check("*ab*b", "abxab", true);
        check("**", "", true);
        check("*", "anything", true);
        check("ü*", "u", false);
        check("ü*", "üb", true);
    }

    #[test]
    fn patterns_that_share_a_name() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(pattern(one).overlaps(&pattern(other)), expected, "{one} {other}");
            assert_eq!(pattern(other).overlaps(&pattern(one)), expected, "{other} {one}");
        };
        check("user:*", "user:7", true);
        check("user:*", "user:7*", true);
        check("user:*", "*:7", true);
        check("user:*", "playlist:*", false);
        check("user:7", "user:8", false);
        check("user:7", "user:7", true);
        check("a*b", "*c*", true);
        check("a*b", "a*c", false);
        check("*", "x", true);
        check("ab*", "a", false);
    }

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(Pattern::new(""), Err(PatternError::Empty));
        assert_eq!(Pattern::new(&"*a".repeat(9)), Err(PatternError::TooManyStars));
        assert_eq!(Pattern::new(&"a".repeat(LENGTH_MAX + 1)), Err(PatternError::TooLong));
    }

    /// The definition: a star takes nothing, or one more byte.
    fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => matches_by_definition(rest, name),
            (Some((b'*', rest)), Some((_, after))) => {
                matches_by_definition(rest, name) || matches_by_definition(pattern, after)
            }
            (Some((byte, rest)), Some((first, after))) => byte == first && matches_by_definition(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_follows_its_definition(text in "[ab*]{1,8}", name in "[ab*]{0,8}") {
            let Ok(pattern) = Pattern::new(&text) else { return Ok(()) };
            prop_assert_eq!(pattern.matches(&name), matches_by_definition(text.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn patterns_with_a_common_name_overlap(one in "[ab*]{1,6}", other in "[ab*]{1,6}") {
            let (Ok(one), Ok(other)) = (Pattern::new(&one), Pattern::new(&other)) else { return Ok(()) };
            // Patterns of six bytes that share a name share one of at most twelve.
            let mut names = vec![String::new()];
            for length in 0..12 {
                let longer: Vec<_> = names.iter().filter(|name| name.len() == length)
                    .flat_map(|name| [format!("{name}a"), format!("{name}b")]).collect();
                names.extend(longer);
            }
            let common = names.iter().any(|name| one.matches(name) && other.matches(name));
            prop_assert_eq!(one.overlaps(&other), common);
        }
    }
}
