//! `Cookie`: HTTP/2 may split it over several lines; elsewhere it is one (RFC 9113 §8.2.3).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Makes one line of the crumbs.
pub fn join(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(COOKIE, whole);
    }
}

/// The values of all cookies of that name: which one counts, applications see differently.
pub fn all<'a>(fields: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = fields.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{fields, text};
    use super::*;

    #[test]
    fn crumbs_become_one_line() {
        for (before, after) in [
            ("", ""),
            ("cookie: a=1", "cookie: a=1"),
            ("cookie: a=1; b=2\ncookie: c=3\ncookie: d=4", "cookie: a=1; b=2; c=3; d=4"),
        ] {
            let mut map = fields(before);
            join(&mut map);
            assert_eq!(text(&map), after);
        }
    }
}
