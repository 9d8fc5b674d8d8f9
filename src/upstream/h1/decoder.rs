//! The body of a response: how far it goes, and what of the bytes is its data (RFC 9112 §6 and §7.1).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use memchr::{memchr, memchr_iter};

use super::head::{self, HeadError};
use crate::header::framing::{FramingError, Length};

/// The line of a chunk's size, extensions included, and each line of the trailers.
const LINE_BYTES_MAX: usize = 4 * 1024;
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 100;

/// Where in the body of a response the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// The line of a chunk's size comes next.
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end after a chunk's data comes next.
    ChunkEnd,
    Trailers,
    /// It ends with the connection.
    UntilClose,
    Ended,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not a chunk size")]
    ChunkSize,
    #[error("a chunk's data is not followed by a line end")]
    ChunkEnd,
    #[error("a chunk's line or the trailers are too long")]
    TooLong,
    #[error("a trailer: {0}")]
    Trailer(#[from] HeadError),
}

impl Decoder {
    /// For the response to a request with `method`.
    pub fn new<B>(method: &Method, response: &Response<B>, length: Length) -> Result<Self, FramingError> {
        let has_none =
            *method == Method::HEAD || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match length {
            // Who does not know chunks and passes them on has passed on somebody else's (RFC 9112 §6.1).
            Length::Chunked if response.version() < Version::HTTP_11 => return Err(FramingError::Coding),
            _ if has_none => Self::Ended,
            Length::Known(0) => Self::Ended,
            Length::Known(length) => Self::Length(length),
            Length::Chunked => Self::ChunkSize,
            Length::UntilClose => Self::UntilClose,
        })
    }

    /// Takes the next piece off `bytes`. None: the body has ended, or more bytes are needed.
    pub fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        loop {
            match *self {
                Self::Ended => return Ok(None),
                Self::UntilClose => return Ok(take(bytes, u64::MAX)),
                Self::Length(left) => {
                    let piece = take(bytes, left);
                    let left = left - taken(&piece);
                    *self = if left == 0 { Self::Ended } else { Self::Length(left) };
                    return Ok(piece);
                }
                Self::Chunk(left) => {
                    let piece = take(bytes, left);
                    let left = left - taken(&piece);
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Ok(piece);
                }
                Self::ChunkSize => {
                    let Some(line) = line(bytes)? else { return Ok(None) };
                    *self = match chunk_size(&line).ok_or(DecodeError::ChunkSize)? {
                        0 => Self::Trailers,
                        size => Self::Chunk(size),
                    };
                }
                Self::ChunkEnd => {
                    let Some(line) = line(bytes)? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(DecodeError::ChunkEnd);
                    }
                    *self = Self::ChunkSize;
                }
                Self::Trailers => {
                    let Some(fields) = trailers(bytes)? else { return Ok(None) };
                    *self = Self::Ended;
                    return Ok((!fields.is_empty()).then_some(Piece::Trailers(fields)));
                }
            }
        }
    }

    /// Bytes of data that are known to come.
    pub fn left(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Ended => Some(0),
            _ => None,
        }
    }
}

fn take(bytes: &mut BytesMut, left: u64) -> Option<Piece> {
    let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (length > 0).then(|| Piece::Data(bytes.split_to(length).freeze()))
}

fn taken(piece: &Option<Piece>) -> u64 {
    match piece {
        Some(Piece::Data(data)) => data.len() as u64,
        _ => 0,
    }
}

/// A line without its end, which is CRLF: a bare LF is where parsers differ.
fn line(bytes: &mut BytesMut) -> Result<Option<BytesMut>, DecodeError> {
    let end = memchr(b'\n', bytes);
    if end.unwrap_or(bytes.len()) > LINE_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let Some(end) = end else { return Ok(None) };
    let mut line = bytes.split_to(end + 1);
    if !line.ends_with(b"\r\n") {
        return Err(DecodeError::ChunkEnd);
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

/// Extensions mean nothing and go no further. Some origins pad the number with spaces.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let number = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let is_size = (1..=15).contains(&number.len()) && number.iter().all(u8::is_ascii_hexdigit);
    is_size.then(|| u64::from_str_radix(str::from_utf8(number).ok()?, 16).ok()).flatten()
}

fn trailers(bytes: &mut BytesMut) -> Result<Option<HeaderMap>, DecodeError> {
    if bytes.starts_with(b"\r\n") {
        drop(bytes.split_to(2));
        return Ok(Some(HeaderMap::new()));
    }
    let end = head::end(bytes, &mut 0);
    if end.unwrap_or(bytes.len()) > TRAILER_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let Some(end) = end else { return Ok(None) };
    let section = bytes.split_to(end).freeze();
    if memchr_iter(b'\n', &section).any(|at| at == 0 || section.get(at - 1) != Some(&b'\r')) {
        return Err(DecodeError::ChunkEnd);
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((used, _))) if used != section.len() => Err(HeadError::Field.into()),
        Ok(httparse::Status::Complete((_, fields))) => Ok(Some(head::read_fields(&section, fields, HeaderMap::new())?)),
        Ok(httparse::Status::Partial) => Err(HeadError::Field.into()),
        Err(error) => Err(HeadError::Syntax(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::framing;

    /// All data and trailers, the bytes given in pieces of `step`.
    fn decode(
        mut decoder: Decoder,
        bytes: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, HeaderMap, Decoder, usize), DecodeError> {
        let (mut data, mut fields, mut buffer) = (Vec::new(), HeaderMap::new(), BytesMut::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(piece) = decoder.decode(&mut buffer)? {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(trailers) => fields = trailers,
                }
            }
        }
        Ok((data, fields, decoder, buffer.len()))
    }

    fn check(decoder: Decoder, bytes: &str, data: &str, end: Decoder, unread: usize) {
        for step in 1..=bytes.len() {
            let (found, _, decoder, left) = decode(decoder, bytes.as_bytes(), step).unwrap();
            assert_eq!((found.as_slice(), decoder, left), (data.as_bytes(), end, unread), "{bytes:?} by {step}");
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        use Decoder::*;
        check(Length(5), "hello", "hello", Ended, 0);
        check(Length(5), "hello!", "hello", Ended, 1);
        check(Length(9), "hello", "hello", Length(4), 0);
        check(UntilClose, "hello", "hello", UntilClose, 0);
        check(ChunkSize, "5\r\nhello\r\n1 ;x=y\r\n!\r\n0\r\n\r\n", "hello!", Ended, 0);
        check(ChunkSize, "5\r\nhello\r\n0\r\n\r\nHTTP", "hello", Ended, 4);
        check(ChunkSize, "A\r\n0123456789\r\n", "0123456789", ChunkSize, 0);
        check(Ended, "x", "", Ended, 1);
    }

    #[test]
    fn trailers_come_last() {
        let (data, fields, decoder, _) = decode(Decoder::ChunkSize, b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", 3).unwrap();
        assert_eq!((data.as_slice(), decoder, fields["x-sum"].as_bytes()), (&b"a"[..], Decoder::Ended, &b"1"[..]));
    }

    #[test]
    fn bad_chunks_are_refused() {
        for (bytes, error) in [
            ("x\r\n", DecodeError::ChunkSize),
            ("\r\n", DecodeError::ChunkSize),
            ("-1\r\n", DecodeError::ChunkSize),
            ("+1\r\n", DecodeError::ChunkSize),
            ("0x1\r\n", DecodeError::ChunkSize),
            ("1 2\r\n", DecodeError::ChunkSize),
            ("1000000000000000\r\n", DecodeError::ChunkSize),
            ("1\n", DecodeError::ChunkEnd),
            ("1\r\nab\r\n", DecodeError::ChunkEnd),
            ("1\r\na\n", DecodeError::ChunkEnd),
            ("0\r\n\nX: y\r\n\r\n", DecodeError::ChunkEnd),
            ("0\r\nX: y\n\n", DecodeError::ChunkEnd),
        ] {
            assert_eq!(decode(Decoder::ChunkSize, bytes.as_bytes(), bytes.len()).map(drop), Err(error), "{bytes:?}");
        }
        // However they come.
        for step in [100, 1 << 20] {
            let line = format!("1;{}\r\nx", "x".repeat(LINE_BYTES_MAX));
            let trailers = format!("0\r\na: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
            for long in [line, trailers] {
                assert_eq!(decode(Decoder::ChunkSize, long.as_bytes(), step).map(drop), Err(DecodeError::TooLong));
            }
        }
        assert!(decode(Decoder::ChunkSize, b"0\r\na b\r\n\r\n", 100).is_err());
    }

    fn of(method: Method, status: u16, fields: &[(&str, &str)]) -> Result<Decoder, FramingError> {
        let response = fields
            .iter()
            .fold(Response::builder().status(status), |response, (name, value)| response.header(*name, *value));
        let response = response.body(()).unwrap();
        Decoder::new(&method, &response, framing::length_of_response(response.headers())?)
    }

    #[test]
    fn some_responses_have_no_body() {
        let length = [("content-length", "5")];
        assert_eq!(of(Method::GET, 200, &[]), Ok(Decoder::UntilClose));
        assert_eq!(of(Method::GET, 200, &length), Ok(Decoder::Length(5)));
        assert_eq!(of(Method::GET, 200, &[("content-length", "0")]), Ok(Decoder::Ended));
        assert_eq!(of(Method::HEAD, 200, &length), Ok(Decoder::Ended));
        assert_eq!(of(Method::GET, 204, &length), Ok(Decoder::Ended));
        assert_eq!(of(Method::GET, 304, &length), Ok(Decoder::Ended));
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(of(Method::HEAD, 200, &both), Err(FramingError::Both));
        let mut old = Response::builder().header("transfer-encoding", "chunked").body(()).unwrap();
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(Decoder::new(&Method::GET, &old, Length::Chunked), Err(FramingError::Coding));
    }

    proptest! {
        #[test]
        fn what_was_chunked_is_found_again(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8), step in 1usize..64) {
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend(format!("{:X}\r\n", part.len()).bytes());
                bytes.extend(part);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\nnext");
            let (data, _, decoder, left) = decode(Decoder::ChunkSize, &bytes, step).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert_eq!((decoder, left), (Decoder::Ended, 4));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'0'), any::<u8>()], 0..64), step in 1usize..64) {
            let _any = decode(Decoder::ChunkSize, &bytes, step);
        }
    }
}
