//! How a newer response changes a stored one (RFC 9111 §3.2, §4.3.4, §4.3.5), and the fields that are not kept.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderValue, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, StatusCode};

use super::Rules;
use crate::header::hop_by_hop::{self, Trailers};

/// They describe the bytes of the stored body, which stay. Of 304 responses they often are about an empty one
/// (RFC 9111 §3.2 lets a cache keep what its stored response depends upon).
static OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// What a response to HEAD says about the stored response to GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadEffect {
    /// It is of the same representation: [`freshen`] it.
    Freshen,
    /// It is of another one: what is stored is stale from now on.
    Outdated,
    Nothing,
}

/// Whether a 304 is about this stored response (RFC 9111 §4.3.4), which alone was asked for. If not, the request has to
/// be sent again without the validators.
///
/// Tags are compared weakly: origins that code as they send weaken the tag of a 200 and not that of a 304.
pub fn concerns(stored: &HeaderMap, validated: &HeaderMap) -> bool {
    match (validated.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => opaque(new) == opaque(old),
        (Some(_), None) | (None, _) => same_or_absent(LAST_MODIFIED, stored, validated),
    }
}

/// Takes over what a 304, or a 200 to HEAD, says about a stored response.
///
/// `Set-Cookie` is for the one who asked: it is not stored unless the rules say so, and who sends the response adds it
/// for that client.
pub fn freshen(stored: &mut HeaderMap, validated: &HeaderMap, rules: &Rules) {
    let mut newer = validated.clone();
    hop_by_hop::remove(&mut newer, Trailers::Drop);
    // The stored response is as old as the newer one says, by its own clock.
    for name in [AGE, DATE] {
        stored.remove(name);
    }
    for name in newer.keys() {
        let keeps = OF_THE_BODY.contains(name) && (stored.contains_key(name) || *name != ETAG);
        if keeps || (*name == SET_COOKIE && !rules.store_set_cookie) {
            continue;
        }
        let mut lines = newer.get_all(name).iter().cloned();
        if let Some(first) = lines.next() {
            stored.insert(name.clone(), first);
        }
        for line in lines {
            stored.append(name.clone(), line);
        }
    }
}

/// Judges a response to HEAD beside the stored response to GET and the length of its body.
pub fn head_effect(status: StatusCode, head: &HeaderMap, stored: &HeaderMap, body_bytes: u64) -> HeadEffect {
    if status != StatusCode::OK {
        return HeadEffect::Nothing;
    }
    let same_length =
        head.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == body_bytes.to_string().as_bytes());
    let agrees = same_length && same_or_absent(ETAG, stored, head) && same_or_absent(LAST_MODIFIED, stored, head);
    // Without a validator nothing shows that the content is the one that is stored.
    let is_named = [ETAG, LAST_MODIFIED].iter().any(|name| head.contains_key(name) && stored.contains_key(name));
    match (agrees, is_named) {
        (true, true) => HeadEffect::Freshen,
        (true, false) => HeadEffect::Nothing,
        (false, _) => HeadEffect::Outdated,
    }
}

/// The newer response does not say otherwise.
fn same_or_absent(name: HeaderName, stored: &HeaderMap, newer: &HeaderMap) -> bool {
    newer.get(&name).is_none_or(|value| stored.get(&name) == Some(value))
}

/// An entity tag without its mark of weakness.
fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes().trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows::{fields, text};

    fn freshened(stored: &str, validated: &str, rules: &Rules) -> String {
        let mut stored = fields(stored);
        freshen(&mut stored, &fields(validated), rules);
        text(&stored)
    }

    #[track_caller]
    fn check(stored: &str, validated: &str, expected: &str) {
        assert_eq!(freshened(stored, validated, &Rules::default()), text(&fields(expected)));
    }

    #[test]
    fn what_a_304_says_replaces_what_is_stored() {
        check("test-header: a\nx: 1", "date: 2", "test-header: a\nx: 1\ndate: 2");
        for name in [
            "test-header",
            "x-test-header",
            "content-foo",
            "cache-control",
            "content-location",
            "content-type",
            "content-security-policy",
            "clear-site-data",
            "expires",
            "public-key-pins",
            "x-frame-options",
            "vary",
            "last-modified",
        ] {
            check(&format!("{name}: a\n{name}: b"), &format!("{name}: c\n{name}: d"), &format!("{name}: c\n{name}: d"));
            check("", &format!("{name}: c"), &format!("{name}: c"));
        }
    }

    #[test]
    fn what_describes_the_stored_bytes_stays() {
        for name in
            ["content-length", "content-encoding", "content-md5", "content-range", "content-digest", "repr-digest"]
        {
            check(&format!("{name}: a"), &format!("{name}: b"), &format!("{name}: a"));
            check("", &format!("{name}: b"), "");
        }
        check("etag: \"a\"", "etag: W/\"a\"", "etag: \"a\"");
        check("last-modified: x", "last-modified: x\netag: \"a\"", "last-modified: x\netag: \"a\"");
    }

    #[test]
    fn what_ends_at_a_hop_is_not_stored() {
        check(
            "x: 1",
            "connection: close, x, y\ny: 1\nkeep-alive: 1\nte: a\ntransfer-encoding: chunked\nupgrade: a\n\
             proxy-authenticate: a\nproxy-authentication-info: a\nproxy-authorization: a\nproxy-connection: a\ntrailer: a",
            "x: 1",
        );
    }

    #[test]
    fn a_cookie_of_a_304_is_for_who_asked() {
        check("x: 1", "set-cookie: a=b", "x: 1");
        check("set-cookie: a=b", "set-cookie: c=d", "set-cookie: a=b");
        let rules = Rules { store_set_cookie: true, ..Rules::default() };
        assert_eq!(freshened("set-cookie: a=b", "set-cookie: c=d", &rules), "set-cookie: c=d");
    }

    #[test]
    fn the_age_begins_anew() {
        check("age: 500\ndate: 1\nx: 1", "x: 2", "x: 2");
        check("age: 500\ndate: 1", "age: 3\ndate: 2", "age: 3\ndate: 2");
    }

    #[test]
    fn a_304_may_be_about_another_response() {
        let check = |stored: &str, validated: &str, expected: bool| {
            assert_eq!(concerns(&fields(stored), &fields(validated)), expected, "{stored} / {validated}");
        };
        check("etag: \"a\"", "etag: \"a\"", true);
        check("etag: W/\"a\"", "etag: W/\"a\"", true);
        check("etag: W/\"a\"", "etag: \"a\"", true);
        check("etag: \"a\"\nlast-modified: 1", "etag: \"a\"\nlast-modified: 2", true);
        check("etag: \"abcdef\"", "etag: \"ghijkl\"", false);
        check("etag: \"a\"\nlast-modified: 1", "etag: \"b\"\nlast-modified: 1", false);
        check("etag: W/\"a\"", "etag: W/\"b\"", false);
        check("last-modified: 1", "last-modified: 1", true);
        check("last-modified: 1", "last-modified: 1\netag: \"a\"", true);
        check("last-modified: 1", "last-modified: 2", false);
        check("last-modified: 1", "last-modified: 2\netag: \"a\"", false);
        // It was asked for by the validators of this one alone.
        check("etag: \"a\"\nlast-modified: 1", "date: 1", true);
        check("etag: \"a\"\nlast-modified: 1", "last-modified: 1", true);
        check("", "", true);
    }

    #[test]
    fn a_head_freshens_or_outdates() {
        let check = |status, head: &str, expected: HeadEffect| {
            let stored = fields("etag: \"a\"\nlast-modified: 1");
            assert_eq!(
                head_effect(StatusCode::from_u16(status).unwrap(), &fields(head), &stored, 36),
                expected,
                "{head}"
            );
        };
        check(200, "cache-control: max-age=1000", HeadEffect::Nothing);
        check(200, "content-length: 36", HeadEffect::Nothing);
        check(200, "etag: \"a\"\nlast-modified: 1\ncontent-length: 36", HeadEffect::Freshen);
        check(200, "etag: \"b\"", HeadEffect::Outdated);
        check(200, "etag: W/\"a\"", HeadEffect::Outdated);
        check(200, "etag: \"a\"\nlast-modified: 2", HeadEffect::Outdated);
        for length in ["35", "360", "036", "x", ""] {
            check(200, &format!("etag: \"a\"\ncontent-length: {length}"), HeadEffect::Outdated);
        }
        for status in [204, 304, 404, 410, 500] {
            check(status, "etag: \"a\"", HeadEffect::Nothing);
        }
    }
}
