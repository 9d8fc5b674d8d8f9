//! Decides whether a client has what it asks for already, and whether what it changes is still as it knows it (RFC 9110
//! §13.1).

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;

use super::{Caller, Problem};

/// The tag of what shows one version of a thing. The version is what changes of that thing are told apart by; `rest` tells
/// apart what else the answer shows.
pub fn tag(version: i64, rest: &str) -> String {
    format!("\"{version}.{rest}\"")
}

/// Of which versions of a thing a change speaks, as `If-Match` names them by its tags. What an answer shows beside the
/// thing itself, such as what jobs derive, is no change that anybody could undo unseen; and a version is the same in every
/// coding, so the weak tag that a proxy makes of ours by compressing will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is now.
    Any,
    OneOf(Vec<i64>),
}

impl Expected {
    pub fn of(fields: &HeaderMap) -> Self {
        if !fields.contains_key(IF_MATCH) || listed(fields, &IF_MATCH).any(|listed| listed == "*") {
            return Self::Any;
        }
        let version = |listed: &str| {
            let tag = listed.strip_prefix("W/").unwrap_or(listed).strip_prefix('"')?.strip_suffix('"')?;
            tag.split_once('.')?.0.parse().ok()
        };
        Self::OneOf(listed(fields, &IF_MATCH).filter_map(version).collect())
    }

    pub fn admits(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Who changes something, and of which state of it he speaks.
#[derive(Debug, Clone)]
pub struct Editor {
    pub caller: Caller,
    pub expected: Expected,
}

impl<S: Sync> FromRequestParts<S> for Editor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = <Caller as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self { caller, expected: Expected::of(&parts.headers) })
    }
}

/// Whether `If-None-Match` names `tag`, so that 304 is the answer.
pub fn has_already(fields: &HeaderMap, tag: &str) -> bool {
    // Strength does not count here (RFC 9110 §13.1.2).
    listed(fields, &IF_NONE_MATCH).any(|listed| listed == "*" || listed.trim_start_matches("W/") == tag)
}

/// Whether the client speaks of another state than that of `tag`, so that its change must not be made.
pub fn is_of_another_state(fields: &HeaderMap, tag: &str) -> bool {
    // Only a strong tag matches here (RFC 9110 §13.1.1).
    fields.contains_key(IF_MATCH) && !listed(fields, &IF_MATCH).any(|listed| listed == "*" || listed == tag)
}

fn listed<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f str> {
    let lines = fields.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), value.parse().unwrap())])
    }

    #[test]
    fn tags_are_compared_as_each_field_asks() {
        for (value, has, differs) in [
            ("\"a-1\"", true, false),
            ("W/\"a-1\"", true, true),
            ("\"a-0\", \"a-1\"", true, false),
            ("*", true, false),
            ("\"a-2\"", false, true),
            ("", false, true),
        ] {
            assert_eq!(has_already(&fields(&IF_NONE_MATCH, value), "\"a-1\""), has, "{value}");
            assert_eq!(is_of_another_state(&fields(&IF_MATCH, value), "\"a-1\""), differs, "{value}");
        }
        for (value, admitted) in [
            ("\"7.ab\"", &[7][..]),
            ("W/\"7.ab\", \"9.x\"", &[7, 9]),
            ("*", &[7, 8, 9]),
            ("\"8\", 9.x, \"x.9\", \"9", &[]),
            ("", &[]),
        ] {
            let expected = Expected::of(&fields(&IF_MATCH, value));
            let versions: Vec<_> = (7..10).filter(|version| expected.admits(*version)).collect();
            assert_eq!(versions, admitted, "{value}");
        }
        assert_eq!(Expected::of(&HeaderMap::new()), Expected::Any);
        assert!(Expected::of(&fields(&IF_MATCH, &tag(7, "ab"))).admits(7));
        assert!(!has_already(&HeaderMap::new(), "\"a-1\"") && !is_of_another_state(&HeaderMap::new(), "\"a-1\""));
    }
}
