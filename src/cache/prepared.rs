//! A hit over HTTP/1.1 whose head needs no map: what is stored is written as lines that are made once, and what is said of
//! it beside them. Four in ten instructions of a hit went into copying fields from map to map.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};

use super::cache_status::Said;
use super::deliver::{Wanted, wants_whole, whole_seconds};
use super::key::Key;
use super::stored::{Content, Stored};
use super::{Found, block, cache_status};
use crate::body::Body;
use crate::header::{is_of_edge, write_field, write_integer};

/// A longer content is worth a place of its own.
const BESIDE_LINES_MAX: usize = 4 * 1024;

/// Room for those of most responses.
const LINES_BYTES: usize = 1024;

/// The whole of a stored response, for a GET that is answered by it.
#[derive(Debug)]
pub struct Prepared {
    stored: Arc<Stored>,
    age_s: u64,
    said: Said,
}

impl Prepared {
    /// None if the request wants something else than the whole, or the answer would not be what the lines say.
    pub fn of(found: &Found, wanted: Wanted<'_>, (said, now): (Said, Instant)) -> Option<Self> {
        let stored = &found.stored;
        let is_whole = *wanted.method == Method::GET && wants_whole(wanted.fields);
        if stored.status != StatusCode::OK || !is_whole || !matches!(stored.content, Content::Whole(_)) {
            return None;
        }
        stored.lines.as_ref()?;
        Some(Self { stored: Arc::clone(stored), age_s: whole_seconds(found.terms().age(now)), said })
    }

    /// The response, but for what [`Prepared::write`] writes.
    pub fn response(&self) -> Response<Body> {
        Response::new(self.stored.content.body())
    }

    /// Appends the lines of its head, but for its length.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stored.lines.as_deref().unwrap_or_default());
        out.extend_from_slice(b"age: ");
        write_integer(self.age_s, out);
        out.extend_from_slice(b"\r\ncache-status: ");
        cache_status::write(&self.said, out);
        for part in ["\r\nx-cache: ", self.said.x_cache(), "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// What hits look at of a stored response, one behind the other: where there are many, each place of memory is a wait.
#[derive(Debug)]
pub struct Laid {
    pub key: Key,
    /// Of its fields, for a [`Prepared`]; none if it cannot be one.
    pub lines: Option<Bytes>,
    /// Behind the lines if it is small.
    pub content: Content,
}

/// A response as it is stored under `key`.
pub fn laid_out(key: &Key, status: StatusCode, fields: &HeaderMap, content: Content) -> Laid {
    let Content::Whole(whole) = &content else { return Laid { key: key.clone(), lines: None, content } };
    let small = match whole.pieces() {
        [all] if is_small(all) => Some(all),
        _ => None,
    };
    let (key, content_bytes) = (Borrow::<[u8]>::borrow(key), small.map_or(0, Bytes::len));
    let mut text = Vec::with_capacity(key.len() + LINES_BYTES + content_bytes);
    text.extend_from_slice(key);
    let key_end = text.len();
    let has_lines = status == StatusCode::OK && write_lines(fields, &mut text);
    let lines_end = text.len();
    text.extend_from_slice(small.map(Bytes::as_ref).unwrap_or_default());
    let text = block::of(&text);
    Laid {
        key: text.slice(..key_end).into(),
        lines: has_lines.then(|| text.slice(key_end..lines_end)),
        content: if small.is_some() { Content::Whole(text.slice(lines_end..).into()) } else { content },
    }
}

/// Whether [`laid_out`] copies it.
pub fn is_small(content: &[u8]) -> bool {
    (1..=BESIDE_LINES_MAX).contains(&content.len())
}

/// Appends the fields as lines, but for the length. False: the edge may have to say one of them itself, or there is no date.
fn write_lines(fields: &HeaderMap, out: &mut Vec<u8>) -> bool {
    if !fields.contains_key(DATE) || fields.keys().any(is_said_anew) {
        return false;
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        write_field(name, value, out);
    }
    true
}

/// What the edge writes into a response itself, and what concerns a connection.
fn is_said_anew(name: &HeaderName) -> bool {
    is_of_edge(name.as_str().as_bytes())
        || matches!(name.as_str(), "age" | "x-cache" | "connection" | "trailer" | "transfer-encoding" | "retry-after")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::header::rows;

    fn found(fields: &str) -> Found {
        let stored = (*Stored::of_body(b"hello")).clone();
        let fields = rows::fields(fields);
        let Laid { lines, content, .. } = laid_out(&stored.key, StatusCode::OK, &fields, stored.content);
        Found::from(Arc::new(Stored { fields, lines, content, ..stored }))
    }

    fn prepared(fields: &str, method: &Method, request: &str) -> Option<String> {
        let found = found(fields);
        let (request, now) = (rows::fields(request), crate::clock::now().into_std() + Duration::from_secs(7));
        let said = Said::Hit { ttl_s: 53, detail: None };
        let prepared = Prepared::of(&found, Wanted { method, fields: &request }, (said, now))?;
        let mut out = Vec::new();
        prepared.write(&mut out);
        Some(String::from_utf8(out).unwrap().replace("\r\n", "|"))
    }

    const PLAIN: &str = "date: then\ncontent-length: 5\nlink: a\nlink: b\ncache-status: origin; hit\nvia: 1.1 tollgate";

    #[test]
    fn what_is_stored_comes_first_and_then_what_is_said_of_it() {
        assert_eq!(
            prepared(PLAIN, &Method::GET, "accept: a").unwrap(),
            "date: then|link: a|link: b|cache-status: origin; hit|via: 1.1 tollgate|\
             age: 7|cache-status: tollgate; hit; ttl=53|x-cache: HIT|"
        );
    }

    #[test]
    fn a_small_content_lies_behind_the_lines_and_never_behind_those_of_before() {
        let (key, fields) = (Key::from(&b"a key"[..]), rows::fields(PLAIN));
        for (length, is_beside) in [(0, false), (1, true), (BESIDE_LINES_MAX, true), (BESIDE_LINES_MAX + 1, false)] {
            let all = Bytes::from(vec![b'a'; length]);
            let laid = laid_out(&key, StatusCode::OK, &fields, Content::Whole(all.clone().into()));
            let (lines, Content::Whole(whole)) = (laid.lines.unwrap(), laid.content) else { panic!("it is whole") };
            assert_eq!((&laid.key, whole.pieces()), (&key, &[all][..]));
            let key_range = Borrow::<[u8]>::borrow(&laid.key).as_ptr_range();
            assert_eq!(key_range.end, lines.as_ptr());
            assert_eq!(lines.as_ptr_range().end == whole.pieces()[0].as_ptr(), is_beside, "{length}");
            drop((lines, laid.key));
            for (status, fields) in [(StatusCode::OK, HeaderMap::new()), (StatusCode::NOT_FOUND, fields.clone())] {
                let next = laid_out(&key, status, &fields, Content::Whole(whole.clone()));
                let (None, Content::Whole(next)) = (next.lines, next.content) else { panic!("it is whole") };
                assert_eq!(next.pieces(), whole.pieces());
                assert_eq!(next.pieces()[0].as_ptr() != whole.pieces()[0].as_ptr(), is_beside, "{length}");
            }
        }
    }

    /// The same fields as by the map.
    #[test]
    fn it_says_what_the_map_would() {
        let (found, request) = (found(PLAIN), HeaderMap::new());
        let (now, said) = (crate::clock::now().into_std(), Said::Hit { ttl_s: 60, detail: None });
        let wanted = Wanted { method: &Method::GET, fields: &request };
        let mut out = Vec::new();
        Prepared::of(&found, wanted, (said, now)).unwrap().write(&mut out);
        let mut response = super::super::deliver(&found, wanted, now, || 0);
        super::super::annotate(response.headers_mut(), &said);
        response.headers_mut().remove(CONTENT_LENGTH);
        assert_eq!(rows::fields(&String::from_utf8(out).unwrap()), *response.headers());
    }

    #[test]
    fn what_is_not_the_whole_or_is_said_anew_goes_by_the_map() {
        for (fields, method, request) in [
            (PLAIN, Method::HEAD, ""),
            (PLAIN, Method::GET, "range: bytes=0-1"),
            (PLAIN, Method::GET, "if-none-match: \"a\""),
            (PLAIN, Method::GET, "if-modified-since: then"),
            ("link: a", Method::GET, ""),
            ("date: then\nstrict-transport-security: a", Method::GET, ""),
            ("date: then\nx-cache: HIT", Method::GET, ""),
            ("date: then\nratelimit-policy: a", Method::GET, ""),
            ("date: then\nx-ratelimit-limit: 1", Method::GET, ""),
        ] {
            assert_eq!(prepared(fields, &method, request), None, "{fields} {method} {request}");
        }
    }
}
