//! Lists by pages. The next page begins behind the last thing of this one, whatever came or went meanwhile; there are no
//! numbers of pages, which shift.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const LIMIT: u8 = 20;
const LIMIT_MAX: u8 = 100;
/// Longer than any place that this app has ever named.
const AFTER_BYTES_MAX: usize = 128;

/// Which part of a list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many at most: 1 to 100, and 20 if it is not said.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100)]
    limit: Limit,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    after: Option<After>,
}

/// How many at most.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
pub struct Limit(u8);

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl TryFrom<u8> for Limit {
    type Error = &'static str;

    fn try_from(limit: u8) -> Result<Self, Self::Error> {
        if (1..=LIMIT_MAX).contains(&limit) { Ok(Self(limit)) } else { Err("must be 1 to 100") }
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct After(String);

impl TryFrom<String> for After {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_place = |letter: char| letter.is_ascii_graphic();
        if text.len() <= AFTER_BYTES_MAX && !text.is_empty() && text.chars().all(is_place) {
            Ok(Self(text))
        } else {
            Err("must be the `next` of the page before")
        }
    }
}

impl PageQuery {
    /// For a list with parameters of its own.
    pub fn new(limit: Limit, after: Option<After>) -> Self {
        Self { limit, after }
    }

    /// How many rows to ask for: one more than the page has, which tells whether there is another.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit.0) + 1
    }

    /// Where it begins: behind this one.
    pub fn after(&self) -> Option<&str> {
        self.after.as_ref().map(|After(place)| place.as_str())
    }
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `after` for the next page; null if there is none.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page of so many rows as [`PageQuery::rows`] asked for. `place` names a thing in the order of the list.
    pub fn new(mut items: Vec<T>, query: &PageQuery, place: impl Fn(&T) -> String) -> Self {
        let limit = usize::from(query.limit.0);
        let is_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_last| is_more).map(place);
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_next_page_if_there_was_a_row_too_many() {
        let query = PageQuery { limit: Limit(2), after: None };
        assert_eq!(query.rows(), 3);
        for (rows, items, next) in
            [(vec![], vec![], None), (vec![1, 2], vec![1, 2], None), (vec![1, 2, 3], vec![1, 2], Some("2".to_owned()))]
        {
            let page = Page::new(rows, &query, ToString::to_string);
            assert_eq!((page.items, page.next), (items, next));
        }
    }
}
