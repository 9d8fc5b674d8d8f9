//! The heads of HTTP/1.1: a request's is made of what the guard found, a response's is written (RFC 9112).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, response};

use crate::guard::{Complete, Lines};
use crate::header::{cookies, framing, write_field, write_integer};
use crate::proxy::Prepared;
use crate::spare;
use crate::telemetry::traces::SpanFields;

/// The status line needs a phrase for the sake of old readers.
const NO_PHRASE: &str = "Unknown";

/// What a request says about its response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    pub is_http10: bool,
    pub is_head: bool,
    pub keeps_alive: bool,
    pub takes_trailers: bool,
}

/// What is written into a response beside its fields.
#[derive(Debug)]
pub struct Stamp<'a> {
    /// For one that has none.
    pub date: &'a [u8; 29],
    /// In place of what others say of its trace; None if requests are not traced.
    pub names: Option<SpanFields>,
    /// In front of the fields.
    pub prepared: Option<Prepared>,
}

/// How the end of a response is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its head: there is no content.
    None,
    /// So many bytes are left.
    Length(u64),
    Chunked,
    UntilClose,
}

/// A response whose head is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Begun {
    pub framing: Framing,
    pub keeps_alive: bool,
    /// The connection carries nothing behind it.
    pub is_last: bool,
    /// Those that are announced.
    pub trailers: Vec<HeaderName>,
    /// Its body ended before it was to.
    pub is_cut: bool,
    /// All of it waits to be written, or is.
    pub is_queued: bool,
}

/// Reads the head of a request, with its cookies in one line. The guard takes nothing that a request cannot be made of:
/// None is not to be expected, and leaves some of it in `request`.
pub fn read<B>(head: &Bytes, lines: &Lines, complete: &Complete, request: &mut Request<B>) -> Option<()> {
    *request.method_mut() = Method::from_bytes(lines.method.of(head)).ok()?;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice_ref(lines.target.of(head))).ok()?;
    *request.version_mut() = if complete.is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut fields = spare::fields();
    fields.reserve(lines.fields.len());
    for (name, value) in &lines.fields {
        let name = HeaderName::from_bytes(name.of(head)).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value.of(head))).ok()?;
        fields.append(name, value);
    }
    cookies::join(&mut fields);
    *request.headers_mut() = fields;
    Some(())
}

/// Trailer fields, of a section that ends with its empty line.
pub fn trailers(section: &Bytes) -> Option<HeaderMap> {
    let mut parsed = [httparse::EMPTY_HEADER; crate::guard::FIELDS_MAX];
    let httparse::Status::Complete((_, parsed)) = httparse::parse_headers(section, &mut parsed).ok()? else {
        return None;
    };
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).ok()?;
        fields.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, value);
    }
    Some(fields)
}

/// Appends the head of a response to `out`, whose body has `size` bytes if that is known. What its fields say of
/// the framing is said anew.
pub fn write(head: &response::Parts, size: Option<u64>, asked: Asked, stamp: &Stamp<'_>, out: &mut Vec<u8>) -> Begun {
    write_status_line(head.status, asked.is_http10, out);
    let framing = framing(head, size, asked);
    let mut begun = Begun {
        framing,
        keeps_alive: asked.keeps_alive,
        is_last: false,
        trailers: Vec::new(),
        is_cut: false,
        is_queued: false,
    };
    let (mut says_close, mut has_date) = (false, stamp.prepared.as_ref().is_some_and(Prepared::has_date));
    if let Some(prepared) = &stamp.prepared {
        prepared.write(out);
    }
    for (name, value) in &head.headers {
        match *name {
            // HEAD is told the length of what it does not get (RFC 9110 §9.3.2).
            CONTENT_LENGTH if !asked.is_head || has_no_length(head.status) => continue,
            TRANSFER_ENCODING => continue,
            TRAILER if framing != Framing::Chunked => continue,
            TRAILER => begun.trailers.extend(options(value).filter_map(|name| HeaderName::from_bytes(name).ok())),
            CONNECTION => says_close |= options(value).any(|option| option.eq_ignore_ascii_case(b"close")),
            DATE => has_date = true,
            _ if stamp.names.is_some_and(|names| names.replace(name)) => continue,
            _ => {}
        }
        write_field(name, value, out);
    }
    if let Some(names) = stamp.names {
        names.write(out);
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => write_length(length, out),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => begun.keeps_alive = false,
    }
    begun.keeps_alive &= !says_close;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        begun.keeps_alive = false;
    } else if !begun.keeps_alive && !says_close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if begun.keeps_alive && asked.is_http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    begun.is_last = !begun.keeps_alive && head.status != StatusCode::SWITCHING_PROTOCOLS;
    if !has_date {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(stamp.date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !asked.takes_trailers {
        begun.trailers.clear();
    }
    begun
}

/// Appends the head of an interim response, which is all of it. It needs no date (RFC 9110 §6.6.1).
pub fn write_interim(interim: &Response<()>, out: &mut Vec<u8>) {
    write_status_line(interim.status(), false, out);
    for (name, value) in interim.headers() {
        write_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §8.6.
fn has_no_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// RFC 9112 §6.3.
fn framing(head: &response::Parts, size: Option<u64>, asked: Asked) -> Framing {
    let has_none = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || asked.is_head;
    let announced = || head.headers.get(CONTENT_LENGTH).and_then(|value| framing::length(value.as_bytes()));
    match size {
        _ if has_none => Framing::None,
        Some(length) => Framing::Length(length),
        None => match announced() {
            Some(length) => Framing::Length(length),
            None if asked.is_http10 => Framing::UntilClose,
            None => Framing::Chunked,
        },
    }
}

fn write_status_line(status: StatusCode, is_http10: bool, out: &mut Vec<u8>) {
    if status == StatusCode::OK && !is_http10 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let version = if is_http10 { "HTTP/1.0 " } else { "HTTP/1.1 " };
    for part in [version, status.as_str(), " ", status.canonical_reason().unwrap_or(NO_PHRASE), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    write_integer(length, out);
    out.extend_from_slice(b"\r\n");
}

fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::{Machine, Step, client_bytes};

    const DATE_TEXT: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const STAMP: Stamp<'_> = Stamp { date: DATE_TEXT, names: None, prepared: None };
    const KEPT: Asked = Asked { is_http10: false, is_head: false, keeps_alive: true, takes_trailers: true };

    fn read(text: &[u8]) -> Option<Request<()>> {
        let mut machine = Machine::default();
        let Ok(Step::Head(complete)) = machine.step(text) else { return None };
        let head = Bytes::copy_from_slice(&text[..complete.bytes]);
        let mut request = Request::new(());
        super::read(&head, machine.lines(), &complete, &mut request).unwrap();
        Some(request)
    }

    #[test]
    fn a_request_is_what_its_lines_say() {
        let request =
            read(b"\r\nPOST /a?b HTTP/1.1\r\nhOst: x\r\nA:\r\nB: \t c d\t \r\nB:e\r\nTE: trailers\r\n\r\nbody")
                .unwrap();
        assert_eq!((request.method(), request.version()), (&Method::POST, Version::HTTP_11));
        assert_eq!(request.uri(), "/a?b");
        let fields: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(fields, [("host", "x"), ("a", ""), ("b", "c d"), ("b", "e"), ("te", "trailers")]);
        let request = read(b"OPTIONS http://a:80/ HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!((request.uri().host(), request.version()), (Some("a"), Version::HTTP_10));
    }

    #[test]
    fn trailers_are_read() {
        let fields = trailers(&Bytes::from_static(b"A: b\r\nc:  d \r\n\r\n")).unwrap();
        assert_eq!((fields.len(), fields["c"].as_bytes()), (2, &b"d"[..]));
        assert!(trailers(&Bytes::from_static(b"\r\n")).unwrap().is_empty());
    }

    fn written(response: response::Builder, size: Option<u64>, asked: Asked) -> (String, Framing, bool) {
        let mut out = Vec::new();
        let begun = write(&response.body(()).unwrap().into_parts().0, size, asked, &STAMP, &mut out);
        let text = String::from_utf8(out).unwrap().replace("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
        (text.replace("\r\n", "|"), begun.framing, begun.keeps_alive)
    }

    #[track_caller]
    fn check(response: response::Builder, size: Option<u64>, asked: Asked, expected: (&str, Framing, bool)) {
        let (text, framing, keeps_alive) = written(response, size, asked);
        assert_eq!((text.as_str(), framing, keeps_alive), expected);
    }

    #[test]
    fn a_response_is_framed_anew() {
        let ok = || Response::builder().header("a", "b").header("content-length", "9");
        let none = || Response::builder();
        check(ok(), Some(9), KEPT, ("HTTP/1.1 200 OK|a: b|content-length: 9||", Framing::Length(9), true));
        check(none(), Some(0), KEPT, ("HTTP/1.1 200 OK|content-length: 0||", Framing::Length(0), true));
        check(
            none(),
            Some(1 << 40),
            KEPT,
            ("HTTP/1.1 200 OK|content-length: 1099511627776||", Framing::Length(1 << 40), true),
        );
        check(none(), None, KEPT, ("HTTP/1.1 200 OK|transfer-encoding: chunked||", Framing::Chunked, true));
        check(ok(), None, KEPT, ("HTTP/1.1 200 OK|a: b|content-length: 9||", Framing::Length(9), true));
        check(
            none().status(404),
            Some(2),
            KEPT,
            ("HTTP/1.1 404 Not Found|content-length: 2||", Framing::Length(2), true),
        );
        check(
            none().status(599),
            Some(0),
            KEPT,
            ("HTTP/1.1 599 Unknown|content-length: 0||", Framing::Length(0), true),
        );
        check(none().status(204), Some(0), KEPT, ("HTTP/1.1 204 No Content||", Framing::None, true));
        check(ok().status(304), Some(0), KEPT, ("HTTP/1.1 304 Not Modified|a: b||", Framing::None, true));
        let head = Asked { is_head: true, ..KEPT };
        check(ok(), Some(0), head, ("HTTP/1.1 200 OK|a: b|content-length: 9||", Framing::None, true));
        check(none(), Some(0), head, ("HTTP/1.1 200 OK||", Framing::None, true));
        let switch = none().status(101).header("connection", "upgrade").header("upgrade", "x");
        check(
            switch,
            Some(0),
            KEPT,
            ("HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: x||", Framing::None, false),
        );
    }

    #[test]
    fn the_end_of_the_connection_is_announced() {
        let ok = || Response::builder();
        let last = Asked { keeps_alive: false, ..KEPT };
        check(
            ok(),
            Some(1),
            last,
            ("HTTP/1.1 200 OK|content-length: 1|connection: close||", Framing::Length(1), false),
        );
        let close = ok().header("connection", "x, Close");
        check(
            close,
            Some(1),
            KEPT,
            ("HTTP/1.1 200 OK|connection: x, Close|content-length: 1||", Framing::Length(1), false),
        );
        let old = Asked { is_http10: true, ..KEPT };
        check(
            ok(),
            Some(1),
            old,
            ("HTTP/1.0 200 OK|content-length: 1|connection: keep-alive||", Framing::Length(1), true),
        );
        check(ok(), None, old, ("HTTP/1.0 200 OK|connection: close||", Framing::UntilClose, false));
    }

    #[test]
    fn trailers_are_announced_to_those_who_take_them() {
        let response = || Response::builder().header("trailer", "a, B").header("trailer", "c").body(()).unwrap();
        for (asked, size, expected) in [
            (KEPT, None, vec!["a", "b", "c"]),
            (Asked { takes_trailers: false, ..KEPT }, None, vec![]),
            (KEPT, Some(1), vec![]),
        ] {
            let begun = write(&response().into_parts().0, size, asked, &STAMP, &mut Vec::new());
            assert_eq!(begun.trailers, expected);
        }
    }

    #[test]
    fn a_date_stands_in_every_response_once() {
        let mut out = Vec::new();
        let head = |response: response::Builder| response.body(()).unwrap().into_parts().0;
        write(&head(Response::builder()), None, KEPT, &STAMP, &mut out);
        write(&head(Response::builder().header("date", "then")), None, KEPT, &STAMP, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.matches("date: ").count(), text.matches("date: then\r\n").count()), (2, 1));
    }

    proptest! {
        #[test]
        fn what_the_guard_takes_is_a_request(bytes in client_bytes()) {
            let _any = read(&bytes);
        }
    }
}
