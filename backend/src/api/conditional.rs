//! Decides whether a client has what it asks for already (RFC 9110 §13.1). It is told the tag, and makes none.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

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
        assert!(!has_already(&HeaderMap::new(), "\"a-1\"") && !is_of_another_state(&HeaderMap::new(), "\"a-1\""));
    }
}
