//! What a coding, or its removal, changes in the head of a response (RFC 9110 §8.4, §8.8.3.3, §12.5.5).

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Coding;
use crate::header::{append_to_list, etag, list};

/// Fields that name the bytes of the content: RFC 9530, and what was there before it.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// For other clients the same content may be coded otherwise.
pub fn vary(fields: &mut HeaderMap) {
    let is_named = |element: &[u8]| element == b"*" || element.eq_ignore_ascii_case(b"accept-encoding");
    if !list(fields, &VARY).any(is_named) {
        append_to_list(fields, VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The content is about to be coded.
pub fn code(fields: &mut HeaderMap, coding: Coding) {
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
    forget_bytes(fields);
    if let Some(marked) = fields.get(ETAG).and_then(|tag| etag::coded(tag, coding)) {
        fields.insert(ETAG, marked);
    }
    vary(fields);
}

/// The content is about to be decoded.
pub fn decode(fields: &mut HeaderMap) {
    fields.remove(CONTENT_ENCODING);
    forget_bytes(fields);
    // It named the coded bytes; what it says of their meaning still holds (RFC 9110 §8.8.1).
    if let Some(tag) = fields.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        fields.insert(ETAG, weak);
    }
    vary(fields);
}

/// An origin that was asked by its own tag says that nothing has changed: the client is told so of the one it has.
pub fn validate(fields: &mut HeaderMap, validating: &etag::Validating, coding: Option<Coding>) {
    if let Some(marked) = fields.get(ETAG).and_then(|tag| validating.known_as(tag, coding)) {
        fields.insert(ETAG, marked);
        vary(fields);
    }
}

/// Takes out of trailers what names bytes that have become others.
pub fn settle_trailers(trailers: &mut HeaderMap) {
    for name in &DIGESTS {
        trailers.remove(name);
    }
}

/// Takes out what was true of the origin's bytes alone.
fn forget_bytes(fields: &mut HeaderMap) {
    fields.remove(CONTENT_LENGTH);
    fields.remove(ACCEPT_RANGES);
    for name in &DIGESTS {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows;

    #[track_caller]
    fn check(change: impl FnOnce(&mut HeaderMap), text: &str, expected: &str) {
        let mut fields = rows::fields(text);
        change(&mut fields);
        assert_eq!(rows::text(&fields), expected);
    }

    #[test]
    fn vary_is_merged() {
        check(vary, "", "vary: Accept-Encoding");
        check(vary, "Vary: Origin", "vary: Origin, Accept-Encoding");
        check(vary, "Vary: Origin\nVary: Cookie", "vary: Origin, Cookie, Accept-Encoding");
        check(vary, "Vary: origin, accept-ENCODING", "vary: origin, accept-ENCODING");
        check(vary, "Vary: *", "vary: *");
    }

    #[test]
    fn a_coded_head_says_nothing_of_the_bytes_before() {
        let text = "Content-Length: 9\nETag: \"x\"\nAccept-Ranges: bytes\nContent-MD5: a\nDigest: b\nContent-Digest: c\n\
                    Repr-Digest: d\nContent-Encoding: identity\nLast-Modified: then";
        let coded = "content-encoding: br\netag: \"x~br\"\nlast-modified: then\nvary: Accept-Encoding";
        check(|fields| code(fields, Coding::Br), text, coded);
        check(
            |fields| code(fields, Coding::Br),
            "ETag: W/\"x\"",
            "content-encoding: br\netag: W/\"x\"\nvary: Accept-Encoding",
        );
        let decoded = "etag: W/\"x\"\nlast-modified: then\nvary: Accept-Encoding";
        check(decode, text, decoded);
        check(decode, "ETag: W/\"x\"\nContent-Encoding: gzip", "etag: W/\"x\"\nvary: Accept-Encoding");
    }

    #[test]
    fn a_304_names_the_tag_that_the_client_has() {
        let validating = etag::Validating::by(&rows::fields("If-None-Match: \"x~gzip\""));
        let validated = |fields: &mut HeaderMap| validate(fields, &validating, Some(Coding::Zstd));
        check(validated, "ETag: \"x\"", "etag: \"x~gzip\"\nvary: Accept-Encoding");
        check(validated, "ETag: \"y\"", "etag: \"y\"");
        check(validated, "", "");
    }
}
