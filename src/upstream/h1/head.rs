//! The heads of HTTP/1.1: a request's is written, a response's is read (RFC 9112).

use std::io::Write;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use memchr::memchr_iter;

use super::lines::{self, AsLines, Lines, Passed};
use crate::header::framing::{self, FramingError, Length};
use crate::header::write_field;
use crate::upstream::Head;

/// No origin has a reason to send more, and hyper stops there, too.
const FIELDS_MAX: usize = 100;

/// Room for what the edge adds to a response.
const FIELDS_ADDED: usize = 4;

/// No class of statuses begins above (RFC 9110 §15).
const STATUS_MAX: u16 = 599;

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, and its absence says so.
    None,
    Length(u64),
    Chunked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the response head is not valid: {0}")]
    Syntax(httparse::Error),
    #[error("a field of the response is not valid")]
    Field,
    #[error("the status is no number from 100 to 599")]
    Status,
}

/// A response head.
#[derive(Debug)]
pub struct Received {
    /// Its fields are in the map, or lines.
    pub response: Response<Option<Lines>>,
    pub length: Result<Length, FramingError>,
    /// The endpoint will take another request on this connection.
    pub keeps_alive: bool,
}

impl Framing {
    /// A method that is expected to come with a body says so when it has none (RFC 9110 §8.6).
    pub fn of_none(method: &Method) -> Self {
        match *method {
            Method::POST | Method::PUT | Method::PATCH => Self::Length(0),
            _ => Self::None,
        }
    }
}

/// Appends the head of a request to `out`, and what goes beside its map. What the fields say of the framing, and of a
/// trace if there are names, is left out: it is said anew.
pub fn write(Head { parts, beside, names }: Head<'_>, framing: Framing, out: &mut Vec<u8>) {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &parts.headers {
        let is_said_anew = *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING;
        if !is_said_anew && !names.is_some_and(|names| names.replace(name)) {
            write_field(name, value, out);
        }
    }
    if let Some(beside) = beside {
        beside.write(out);
    }
    if let Some(names) = names {
        names.write(out);
    }
    match framing {
        Framing::None => {}
        // Writing to a vector does not fail.
        Framing::Length(length) => drop(write!(out, "content-length: {length}\r\n")),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Where the head ends that `bytes` begin with. `searched` is what earlier calls have looked at, so that a head
/// that comes byte by byte is looked at once.
pub fn end(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    // The line end that was last may be the one before the empty line.
    let from = searched.saturating_sub(2);
    let rest = bytes.get(from..).unwrap_or_default();
    for at in memchr_iter(b'\n', rest) {
        match rest.get(at + 1..).unwrap_or_default() {
            [b'\r', b'\n', ..] => return Some(from + at + 3),
            [b'\n', ..] => return Some(from + at + 2),
            _ => {}
        }
    }
    *searched = bytes.len();
    None
}

/// Whether a head can begin so: who speaks another protocol need not be waited for. Empty lines before it are passed over.
pub fn may_begin(bytes: &[u8]) -> bool {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.iter().skip(empty).zip(b"HTTP/1.").all(|(found, expected)| found == expected)
}

/// Reads a whole head. Its fields go into `room`, which is empty.
pub fn read(head: &Bytes, room: impl FnOnce() -> HeaderMap) -> Result<Received, HeadError> {
    let mut places = PLACES;
    let (begun, fields, _) = parse(head, &mut places)?.ok_or(HeadError::Syntax(httparse::Error::NewLine))?;
    let mut response = begun.map(|_| None);
    *response.headers_mut() = read_fields(head, fields, room())?;
    let keeps_alive = keeps_alive(response.headers(), response.version() == Version::HTTP_11);
    let length = framing::length_of_response(response.headers());
    Ok(Received { response, length, keeps_alive })
}

/// What a head is that is read where it stands.
pub enum InPlace {
    /// Its fields stay lines, and it takes so many bytes.
    Lines(Received, usize),
    /// Its fields are to be in a map, and it takes so many bytes.
    ForMap(usize),
    /// It has not come whole, or is none: who looks for its end finds out.
    Unclear,
}

/// Reads a head whose fields may stay lines, at the beginning of what has come.
pub fn read_in_place(come: &[u8], wanted: AsLines<'_>) -> InPlace {
    let mut places = PLACES;
    // The end of what begins with empty lines is theirs.
    let parsed = if come.starts_with(b"H") { parse(come, &mut places) } else { Ok(None) };
    let Ok(Some((begun, fields, bytes))) = parsed else { return InPlace::Unclear };
    let may_be_lines = begun.version() == Version::HTTP_11 && wanted.may_have(begun.status());
    let passed = if may_be_lines { lines::read(fields, wanted) } else { None };
    let Some(Passed { lines, length, keeps_alive }) = passed else { return InPlace::ForMap(bytes) };
    let response = begun.map(|()| Some(lines));
    InPlace::Lines(Received { response, length: Ok(length), keeps_alive }, bytes)
}

type Places<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

const PLACES: Places<'_> = [const { MaybeUninit::uninit() }; FIELDS_MAX];

/// A response without its fields, those, and how many bytes all of it takes. None if more is to come.
type Parsed<'f, 'b> = (Response<()>, &'f [httparse::Header<'b>], usize);

fn parse<'f, 'b>(bytes: &'b [u8], places: &'f mut Places<'b>) -> Result<Option<Parsed<'f, 'b>>, HeadError> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let end = match config.parse_response_with_uninit_headers(&mut parsed, bytes, places) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(HeadError::Syntax(error)),
    };
    let code = parsed.code.filter(|code| *code <= STATUS_MAX).ok_or(HeadError::Status)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| HeadError::Status)?;
    *response.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    Ok(Some((response, parsed.headers, end)))
}

/// The fields, as slices of the bytes that they were parsed from.
pub fn read_fields(
    source: &Bytes,
    parsed: &[httparse::Header<'_>],
    mut fields: HeaderMap,
) -> Result<HeaderMap, HeadError> {
    fields.reserve(parsed.len() + FIELDS_ADDED);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Field)?;
        let value = HeaderValue::from_maybe_shared(source.slice_ref(field.value)).map_err(|_| HeadError::Field)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// RFC 9112 §9.3: `close` wins over all, and HTTP/1.0 has to say `keep-alive`.
fn keeps_alive(fields: &HeaderMap, is_http11: bool) -> bool {
    let mut keeps_alive = is_http11;
    for line in fields.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps_alive
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn written(request: http::request::Builder, framing: Framing) -> String {
        let mut out = Vec::new();
        let parts = &request.body(()).unwrap().into_parts().0;
        write(Head { parts, beside: None, names: None }, framing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_framed_anew() {
        let request = || Request::get("/a?b=c").header("host", "x").header("content-length", "9").header("te", "a");
        assert_eq!(written(request(), Framing::None), "GET /a?b=c HTTP/1.1\r\nhost: x\r\nte: a\r\n\r\n");
        assert_eq!(
            written(request().header("transfer-encoding", "gzip"), Framing::Length(3)),
            "GET /a?b=c HTTP/1.1\r\nhost: x\r\nte: a\r\ncontent-length: 3\r\n\r\n"
        );
        assert_eq!(
            written(Request::put("/"), Framing::Chunked),
            "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(written(Request::options("*"), Framing::None), "OPTIONS * HTTP/1.1\r\n\r\n");
        assert_eq!(
            (Framing::of_none(&Method::POST), Framing::of_none(&Method::GET)),
            (Framing::Length(0), Framing::None)
        );
    }

    fn check(head: &str, status: u16, keeps_alive: bool, fields: &[(&str, &str)]) {
        let received = read(&Bytes::copy_from_slice(head.as_bytes()), HeaderMap::new).unwrap();
        assert_eq!((received.response.status().as_u16(), received.keeps_alive), (status, keeps_alive), "{head}");
        let read: Vec<_> =
            received.response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(read, fields, "{head}");
    }

    #[test]
    fn responses_are_read() {
        check("HTTP/1.1 200 OK\r\n\r\n", 200, true, &[]);
        check("HTTP/1.1 200 OK\r\nA: b\r\nX-Y:  z \r\n\r\n", 200, true, &[("a", "b"), ("x-y", "z")]);
        check("HTTP/1.1 404\r\n\r\n", 404, true, &[]);
        check("HTTP/1.1 200 OK\nA: b\n\n", 200, true, &[("a", "b")]);
        check("HTTP/1.0 200 OK\r\n\r\n", 200, false, &[]);
        check("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", 200, true, &[("connection", "Keep-Alive")]);
        check("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", 200, false, &[("connection", "x, Close")]);
        check("HTTP/1.1 599 odd\r\n\r\n", 599, true, &[]);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for head in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 600 odd\r\n\r\n",
            "HTTP/1.1 999 odd\r\n\r\n",
            "hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc: d\r\n\r\n",
        ] {
            assert!(read(&Bytes::copy_from_slice(head.as_bytes()), HeaderMap::new).is_err(), "{head:?}");
        }
        let crowded = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert!(read(&crowded.into(), HeaderMap::new).is_err());
    }

    #[test]
    fn a_head_begins_with_its_version() {
        let check = |bytes: &str, expected| assert_eq!(may_begin(bytes.as_bytes()), expected, "{bytes:?}");
        for bytes in ["", "H", "HTTP/1.", "HTTP/1.1 2", "\r\n", "\r\nHTTP"] {
            check(bytes, true);
        }
        for bytes in ["S", "SSH-2.0", "HTTP/2", "http", " HTTP", "220 mail", "-ERR", "\0\0\u{12}\u{4}"] {
            check(bytes, false);
        }
    }

    proptest! {
        /// The end is found however the bytes come.
        #[test]
        fn the_end_does_not_depend_on_the_pieces(text in "[a\r\n]{0,40}", cut in 0usize..40) {
            let bytes = text.as_bytes();
            let whole = end(bytes, &mut 0);
            let mut searched = 0;
            let cut = cut.min(bytes.len());
            let found = end(&bytes[..cut], &mut searched).or_else(|| end(bytes, &mut searched));
            prop_assert_eq!(found, whole);
        }

        /// Whoever finds the end, it is the same, whatever comes behind it.
        #[test]
        fn lines_end_where_the_head_does(
            lines in prop::collection::vec("[a-c]: ?[a\t]{0,3}", 0..4),
            ends in prop::collection::vec("\r?\n", 6),
            behind in "[H\r\na: ]{0,9}",
        ) {
            let lines = ["HTTP/1.1 200"].into_iter().chain(lines.iter().map(String::as_str)).chain([""]);
            let head: String = lines.zip(&ends).flat_map(|(line, end)| [line, end]).collect();
            let read = |bytes: &str| match read_in_place(bytes.as_bytes(), AsLines { coded: None }) {
                InPlace::Lines(_, bytes) => Some(bytes),
                InPlace::ForMap(_) | InPlace::Unclear => None,
            };
            let whole = head.clone() + &behind;
            prop_assert_eq!((read(&whole), end(whole.as_bytes(), &mut 0)), (Some(head.len()), Some(head.len())));
            prop_assert!((0..head.len()).all(|cut| read(&head[..cut]).is_none()), "a part is no head");
        }
    }
}
