//! A head that passes as lines: where nothing on the way to a client looks at the fields of a response, they need no map.
//! Of the 36,000 instructions that a request took which is passed on, making that map and writing it again was 5,200 more than this.
//!
//! Names are in lower case as they are in a map, and so is the rest: what is said here of a head, the map would say. What
//! asks for more than that is read into one.

use http::StatusCode;

use crate::compress::negotiate;
use crate::config::TypePattern;
use crate::header::framing::{self, Length};
use crate::header::{hop_by_hop, is_of_edge, media_type, via};
use crate::spare;

/// Which responses may come as lines.
#[derive(Debug, Clone, Copy)]
pub struct AsLines<'a> {
    /// Responses of other media types. None if none is coded on its way.
    pub coded: Option<&'a [TypePattern]>,
}

/// The fields of a response as they are written, but for what tells its length.
#[derive(Debug)]
pub struct Lines {
    text: Vec<u8>,
    pub has_date: bool,
}

/// What is read of a head.
#[derive(Debug)]
pub struct Passed {
    pub lines: Lines,
    pub length: Length,
    pub keeps_alive: bool,
}

impl Lines {
    /// Appends them to a head, with the mark of this hop (RFC 9110 §7.6.3).
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text);
        for part in ["via: ", via::OF_HTTP_11, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        spare::keep_text(std::mem::take(&mut self.text));
    }
}

/// Reads the head of a response of HTTP/1.1 that has content. None if its fields are to be in a map.
pub fn read(parsed: &[httparse::Header<'_>], wanted: AsLines<'_>) -> Option<Passed> {
    let mut lines = Lines { text: spare::text(), has_date: false };
    let (mut length, mut is_chunked, mut keeps_alive, mut has_type) = (None, false, true, false);
    for field in parsed {
        let (start, value) = (lines.text.len(), field.value);
        lines.text.extend(field.name.bytes().map(|byte| byte.to_ascii_lowercase()));
        let passes = match lines.text.get(start..)? {
            b"content-length" => {
                if length.replace(framing::length(value)?).is_some() {
                    return None;
                }
                false
            }
            b"connection" if value.eq_ignore_ascii_case(b"keep-alive") => false,
            b"connection" if value.eq_ignore_ascii_case(b"close") => {
                keeps_alive = false;
                false
            }
            b"keep-alive" => false,
            b"transfer-encoding" if !is_chunked && value.eq_ignore_ascii_case(b"chunked") => {
                is_chunked = true;
                false
            }
            // There is one (RFC 9110 §6.6.1).
            b"date" => !std::mem::replace(&mut lines.has_date, true),
            b"content-type" if !wanted.passes_type(value) => return None,
            b"content-type" => {
                has_type = true;
                true
            }
            name if wanted.looks_at(name, value) => return None,
            _ => true,
        };
        if !passes {
            lines.text.truncate(start);
            continue;
        }
        for part in [b": ", value, b"\r\n"] {
            lines.text.extend_from_slice(part);
        }
    }
    // Of what has no media type anything may be coded, too.
    if !has_type && !wanted.passes_type(b"") {
        return None;
    }
    let length = match (length, is_chunked) {
        (Some(_), true) => return None,
        (Some(length), false) => Length::Known(length),
        (None, true) => Length::Chunked,
        (None, false) => Length::UntilClose,
    };
    Some(Passed { lines, length, keeps_alive })
}

impl AsLines<'_> {
    /// Whether the head of a response with this status may be lines: there is content, no protocol to be told of, and nothing else
    /// than the media type for which it would not be coded.
    pub fn may_have(&self, status: StatusCode) -> bool {
        let has_none = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let looks_past_type = self.coded.is_some() && negotiate::looks_past_type(status);
        !has_none && status != StatusCode::UPGRADE_REQUIRED && !looks_past_type
    }

    /// Streams are told apart by their media type, and so is what may be coded.
    fn passes_type(&self, value: &[u8]) -> bool {
        let essence = media_type::essence_of(value);
        !media_type::is_stream(essence)
            && !self.coded.is_some_and(|coded| coded.iter().any(|pattern| pattern.matches(essence)))
    }

    fn looks_at(&self, name: &[u8], value: &[u8]) -> bool {
        name == b"via"
            || hop_by_hop::ends_here(name)
            || is_of_edge(name)
            || self.coded.is_some() && negotiate::looks_at(name, value)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{CONTENT_LENGTH, DATE};
    use http::{HeaderMap, Version};
    use proptest::prelude::*;

    use super::super::head::{self, InPlace};
    use super::*;
    use crate::header::hop_by_hop::Trailers;
    use crate::header::{via, write_field};

    const ANY: AsLines<'_> = AsLines { coded: None };

    fn passed(fields: &str, as_lines: AsLines<'_>) -> Option<String> {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", fields.replace('|', "\r\n"));
        let InPlace::Lines(received, bytes) = head::read_in_place(head.as_bytes(), as_lines) else { return None };
        assert_eq!(Some(bytes), head::end(head.as_bytes(), &mut 0));
        let mut out = Vec::new();
        received.response.into_body().unwrap().write(&mut out);
        Some(String::from_utf8(out).unwrap().replace("\r\n", "|"))
    }

    #[test]
    fn what_nobody_looks_at_passes_as_it_is() {
        assert_eq!(
            passed("Server: a|Content-Type: text/html|X-Y:  z |Connection: keep-alive|Keep-Alive: 5|ETag: \"b\"", ANY)
                .unwrap(),
            "server: a|content-type: text/html|x-y: z|etag: \"b\"|via: 1.1 tollgate|"
        );
        assert_eq!(passed("Date: a|Set-Cookie: b|Date: c", ANY).unwrap(), "date: a|set-cookie: b|via: 1.1 tollgate|");
        assert_eq!(passed("Content-Length: 5|A:", ANY).unwrap(), "a: |via: 1.1 tollgate|");
    }

    #[test]
    fn what_is_looked_at_is_read_into_a_map() {
        for fields in [
            "Via: 1.1 other",
            "Connection: x",
            "Connection: keep-alive, x",
            "Upgrade: h2c",
            "Trailer: a",
            "Transfer-Encoding: gzip",
            "Proxy-Authenticate: Basic",
            "Strict-Transport-Security: max-age=9",
            "X-Trace-Id: a",
            "RateLimit: \"a\";r=1",
            "X-RateLimit-Limit: 9",
            "Content-Type: text/event-stream; charset=utf-8",
            "Content-Type: application/grpc+proto",
            "Content-Length: a",
            "Content-Length: 5|Content-Length: 5",
            "Content-Length: 5|Transfer-Encoding: chunked",
            "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        ] {
            assert_eq!(passed(fields, ANY), None, "{fields}");
        }
    }

    #[test]
    fn what_may_be_coded_is_read_into_a_map() {
        let text = TypePattern::Any("text/".to_owned(), String::new());
        let types = [text, TypePattern::Exact("application/json".to_owned())];
        let coding = AsLines { coded: Some(&types) };
        for (fields, passes) in [
            ("Content-Type: image/png", true),
            ("Content-Type: Text/HTML; charset=utf-8", false),
            ("Content-Type: application/json", false),
            ("", true),
            ("Content-Type:", true),
            ("Content-Encoding: gzip", false),
            ("Content-Range: bytes 0-1/2", false),
            ("Signature-Input: a", false),
            ("Cache-Control: max-age=5", true),
            ("Cache-Control: max-age=5, No-Transform", false),
        ] {
            assert_eq!(passed(fields, coding).is_some(), passes, "{fields}");
            assert!(passed(fields, ANY).is_some(), "{fields}");
        }
    }

    #[test]
    fn statuses_without_content_and_old_versions_have_a_map() {
        let coding = AsLines { coded: Some(&[]) };
        for (status, passes) in [(200, true), (205, false), (206, false)] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!((coding.may_have(status), ANY.may_have(status)), (passes, true), "{status}");
        }
        for (start, passes) in [
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.1 500 Oh", true),
            ("HTTP/1.1 206 Part", true),
            ("HTTP/1.0 200 OK", false),
            ("HTTP/1.1 103 Early", false),
            ("HTTP/1.1 101 Switch", false),
            ("HTTP/1.1 204 None", false),
            ("HTTP/1.1 304 Same", false),
            ("HTTP/1.1 426 Upgrade", false),
        ] {
            let head = format!("{start}\r\na: b\r\n\r\n");
            let read = head::read_in_place(head.as_bytes(), ANY);
            assert_eq!(matches!(read, InPlace::Lines(..)), passes, "{start}");
        }
    }

    /// What is made of the map on its way to a client.
    fn by_map(received: head::Received) -> Vec<u8> {
        let mut fields = received.response.into_parts().0.headers;
        hop_by_hop::remove(&mut fields, Trailers::Forward);
        if let Some(date) = fields.get(DATE).cloned() {
            fields.insert(DATE, date);
        }
        via::append(&mut fields, Version::HTTP_11);
        let mut out = Vec::new();
        let told = fields.iter().filter(|(name, _)| **name != CONTENT_LENGTH);
        told.for_each(|(name, value)| write_field(name, value, &mut out));
        out
    }

    fn sorted(lines: &[u8]) -> Vec<&[u8]> {
        let mut lines: Vec<_> = lines.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        lines
    }

    proptest! {
        /// Whatever passes is what the map would say, with the same end, and the connection is kept alike.
        #[test]
        fn lines_say_what_the_map_would(fields in prop::collection::vec((
            "[Cc]onnection|keep-[Aa]live|DATE|[Cc]ontent-length|transfer-encoding|etag|server|te|via|X-a|set-cookie",
            "close|keep-alive|chunked|5|7| *[a-z\\x80-\\xff]{0,4} *",
        ), 0..7)) {
            let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
            for (name, value) in fields {
                text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            let head = Bytes::from([text.as_slice(), b"\r\n"].concat());
            if let InPlace::Lines(passed, _) = head::read_in_place(&head, ANY) {
                let plain = head::read(&head, HeaderMap::new).unwrap();
                prop_assert_eq!((passed.length, passed.keeps_alive), (plain.length, plain.keeps_alive));
                let mut out = Vec::new();
                passed.response.into_body().unwrap().write(&mut out);
                let expected = by_map(plain);
                prop_assert_eq!(sorted(&out), sorted(&expected));
            }
        }
    }
}
