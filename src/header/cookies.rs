//! `Cookie`: HTTP/2 may split it over several lines; elsewhere it is one (RFC 9113 §8.2.3).

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::REQUEST_FIELDS_ADDED;

/// The places of so many crumbs may stay in the map.
const CRUMBS_FEW: usize = 8;

/// Makes one line of the crumbs. What they took goes with them.
pub fn join(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let were_few = crumbs.len() <= CRUMBS_FEW;
    let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..]))) else { return };
    fields.insert(COOKIE, whole);
    if !were_few {
        // The map keeps the places of repeated fields, for as long as it lives.
        let mut fewer = HeaderMap::with_capacity(fields.len() + REQUEST_FIELDS_ADDED);
        fewer.extend(std::mem::take(fields));
        *fields = fewer;
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

    #[test]
    fn many_crumbs_leave_the_other_fields_as_they_were() {
        let crumbs: String = (0..90).map(|n| format!("\ncookie: c{n}={n}")).collect();
        let mut map = fields(&format!("a: 1\nb: 2{crumbs}\na: 3\nc: 4"));
        join(&mut map);
        let whole: Vec<_> = (0..90).map(|n| format!("c{n}={n}")).collect();
        assert_eq!(map.get(COOKIE).unwrap(), &whole.join("; "));
        map.remove(COOKIE);
        let mut expected = fields("a: 1\nb: 2\na: 3\nc: 4");
        expected.remove(COOKIE);
        assert_eq!(map, expected);
    }
}
