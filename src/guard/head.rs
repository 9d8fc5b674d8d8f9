//! The checks of one request head, line by line as the lines become complete.
//!
//! A line is judged when its CRLF has arrived and never twice, so the verdict does not depend on how the
//! bytes were cut up on their way, and a client that waits for an answer to half a head gets one at once
//! when that half is bad already.

use std::ops::Range;

use memchr::memchr;

use super::class;
use super::reject::Reason;
use super::target;
use crate::header::framing;

/// The request line and all fields, with their line ends.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
pub const FIELDS_MAX: usize = 100;
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

const METHOD_BYTES_MAX: usize = 32;
const REQUEST_LINE_BYTES_MAX: usize = METHOD_BYTES_MAX + TARGET_BYTES_MAX + "  HTTP/1.1\r\n".len();

/// Lengths up to this are believed. No body is longer, and peers that count in signed integers would
/// read more as something else.
pub const BODY_BYTES_MAX: u64 = i64::MAX as u64;

/// A head that is whole and good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Its length with the empty line at its end, and with the one that may stand before it.
    pub bytes: usize,
    pub body: Body,
    pub then: Then,
    pub is_http10: bool,
    /// The body comes once it is asked for, or after a while (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// Trailers behind the response will be looked at (RFC 9110 §10.1.4).
    pub takes_trailers: bool,
}

/// Where the parts of a head stand in its bytes.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    pub method: Span,
    pub target: Span,
    /// Names, and values without the white space around them.
    pub fields: Vec<(Span, Span)>,
}

/// A range of bytes of a head, which is short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    bytes: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked,
}

/// What the bytes after a request are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    #[default]
    Request,
    /// Bytes of another protocol once the upgrade that was asked for is granted, and nothing before.
    Tunnel,
    /// Nothing: this was the client's last request on the connection (RFC 9112 §9.6).
    Nothing,
}

/// What the lines of a head so far have said.
#[derive(Debug, Clone, Default)]
pub struct Head {
    stage: Stage,
    /// Something other than the empty line before it has come.
    has_begun: bool,
    /// Where the first incomplete line begins.
    line_start: usize,
    /// How far the end of that line has been looked for.
    searched: usize,
    fields: usize,
    is_http10: bool,
    /// HTTP/1.0 and a method that comes with a body.
    must_have_length: bool,
    has_host: bool,
    /// Where the authority of an absolute-form target stands.
    authority: Option<Range<usize>>,
    content_length: Option<u64>,
    is_chunked: bool,
    connection: Connection,
    has_upgrade: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// One empty line may come before the request line (RFC 9112 §2.2).
    #[default]
    Start,
    RequestLine,
    Fields,
}

/// Options named in `Connection` fields.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Span {
    fn new(start: usize, part: &[u8]) -> Self {
        // Both are below `HEAD_BYTES_MAX`.
        Self { start: start as u16, bytes: part.len() as u16 }
    }

    /// Its part of the head.
    pub fn of(self, head: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        head.get(start..start + usize::from(self.bytes)).unwrap_or_default()
    }
}

impl Head {
    /// Looks at `bytes`, which begin where the head begins and hold all that has come of it. Each call
    /// gets the bytes of the call before, and more, and notes in `lines` what it finds. `None`: the head is not
    /// complete yet.
    pub fn inspect(&mut self, bytes: &[u8], lines: &mut Lines) -> Result<Option<Complete>, Reason> {
        let window = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        loop {
            let unsearched = window.get(self.searched..).unwrap_or_default();
            let line_end = memchr(b'\n', unsearched).map(|offset| self.searched + offset);
            let line = window.get(self.line_start..line_end.unwrap_or(window.len())).unwrap_or_default();
            if self.stage != Stage::Fields {
                self.check_start(line)?;
            }
            let Some(line_end) = line_end else { break };
            let line = line.strip_suffix(b"\r").ok_or(Reason::BareLf)?;
            match self.stage {
                Stage::Start if line.is_empty() => self.stage = Stage::RequestLine,
                Stage::Start | Stage::RequestLine => {
                    self.take_request_line(line, lines)?;
                    self.stage = Stage::Fields;
                }
                Stage::Fields if line.is_empty() => return self.finish(line_end + 1).map(Some),
                Stage::Fields => self.take_field(line, window, lines)?,
            }
            self.line_start = line_end + 1;
            self.searched = line_end + 1;
        }
        self.searched = window.len();
        if window.len() == HEAD_BYTES_MAX { Err(Reason::HeadTooLarge) } else { Ok(None) }
    }

    /// Whether anything of a request line has come.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Judges a request line, whole or not, by its first byte and its length. What is no HTTP/1 at all,
    /// such as a TLS hello, is told at once.
    fn check_start(&mut self, line: &[u8]) -> Result<(), Reason> {
        match line {
            [] => {}
            [b'\r'] if self.stage == Stage::Start => {}
            [b'\r', _, ..] if self.stage == Stage::Start => return Err(Reason::BareCr),
            [b'\r' | b' ' | b'\t', ..] => return Err(Reason::BadRequestLine),
            [byte, ..] if !class::is_token(*byte) => return Err(Reason::BadMethod),
            _ => self.has_begun = true,
        }
        if line.len() >= REQUEST_LINE_BYTES_MAX { Err(Reason::TargetTooLong) } else { Ok(()) }
    }

    fn take_request_line(&mut self, line: &[u8], lines: &mut Lines) -> Result<(), Reason> {
        let mut parts = line.splitn(3, |&byte| byte == b' ');
        let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Reason::BadRequestLine);
        };
        if target.is_empty() {
            return Err(Reason::BadRequestLine);
        }
        if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(|&byte| class::is_token(byte)) {
            return Err(Reason::BadMethod);
        }
        self.is_http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'] => return Err(Reason::UnsupportedVersion),
            [b' ', ..] => return Err(Reason::BadRequestLine),
            _ => return Err(Reason::BadVersion),
        };
        // A tunnel to anywhere is what a forward proxy offers, and TRACE echoes credentials.
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Reason::MethodNotAllowed);
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(Reason::TargetTooLong);
        }
        let target_start = self.line_start + method.len() + 1;
        lines.method = Span::new(self.line_start, method);
        lines.target = Span::new(target_start, target);
        lines.fields.clear();
        self.authority = target::check_target(method, target)?
            .map(|authority| target_start + authority.start..target_start + authority.end);
        self.must_have_length = self.is_http10 && matches!(method, b"POST" | b"PUT" | b"PATCH");
        Ok(())
    }

    fn take_field(&mut self, line: &[u8], head: &[u8], lines: &mut Lines) -> Result<(), Reason> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Reason::TooManyFields);
        }
        let (name, value_start, value) = split_field(line)?;
        lines.fields.push((Span::new(self.line_start, name), Span::new(self.line_start + value_start, value)));
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.takes_trailers |= names_trailers(value);
                Ok(())
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value, head),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue = true;
                check_expect(value)
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.has_upgrade |= names_protocol(value);
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection.take(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn take_host(&mut self, value: &[u8], head: &[u8]) -> Result<(), Reason> {
        if self.has_host {
            return Err(Reason::RepeatedHost);
        }
        self.has_host = true;
        if !target::is_authority(value) {
            return Err(Reason::BadHost);
        }
        match self.authority.clone().and_then(|range| head.get(range)) {
            Some(authority) if !authority.eq_ignore_ascii_case(value) => Err(Reason::AuthorityMismatch),
            _ => Ok(()),
        }
    }

    fn take_content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.is_chunked {
            return Err(Reason::ClAndTe);
        }
        if self.content_length.is_some() {
            return Err(Reason::RepeatedContentLength);
        }
        let length = framing::length(value).filter(|&length| length <= BODY_BYTES_MAX);
        self.content_length = Some(length.ok_or(Reason::BadContentLength)?);
        Ok(())
    }

    fn take_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.content_length.is_some() {
            return Err(Reason::ClAndTe);
        }
        if self.is_http10 {
            return Err(Reason::TeInHttp10);
        }
        if self.is_chunked {
            return Err(Reason::RepeatedTe);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            let is_one_coding = !value.is_empty() && value.iter().all(|&byte| class::is_token(byte));
            return Err(if is_one_coding { Reason::UnknownTe } else { Reason::BadTe });
        }
        self.is_chunked = true;
        Ok(())
    }

    fn finish(&self, bytes: usize) -> Result<Complete, Reason> {
        if !self.has_host && !self.is_http10 {
            return Err(Reason::NoHost);
        }
        // RFC 1945 §8.3. Such a body would end where the connection ends.
        if self.must_have_length && self.content_length.is_none() {
            return Err(Reason::NoContentLength);
        }
        let body = if self.is_chunked { Body::Chunked } else { Body::Length(self.content_length.unwrap_or(0)) };
        let is_last = self.connection.close || (self.is_http10 && !self.connection.keep_alive);
        let then = if self.has_upgrade && self.connection.upgrade && !self.is_http10 {
            Then::Tunnel
        } else if is_last {
            Then::Nothing
        } else {
            Then::Request
        };
        Ok(Complete {
            bytes,
            body,
            then,
            is_http10: self.is_http10,
            expects_continue: self.expects_continue && !self.is_http10,
            takes_trailers: self.takes_trailers,
        })
    }
}

impl Connection {
    fn take(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(class::trim) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 §5), the value without its white space, and where it begins.
fn split_field(line: &[u8]) -> Result<(&[u8], usize, &[u8]), Reason> {
    let name_bytes = line.iter().position(|&byte| !class::is_token(byte)).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_bytes);
    let value = match (name_bytes, rest) {
        (0, [b' ' | b'\t', ..]) => return Err(Reason::ObsFold),
        (0, [b':', ..]) => return Err(Reason::EmptyFieldName),
        (_, [b':', value @ ..]) => value,
        (_, [b' ' | b'\t', ..]) => return Err(Reason::SpaceBeforeColon),
        (_, [b'\r', ..]) => return Err(Reason::BareCr),
        _ => return Err(Reason::BadFieldName),
    };
    if class::has_control(value) {
        return Err(if value.contains(&b'\r') { Reason::BareCr } else { Reason::ControlByte });
    }
    let value_start = name_bytes + 1 + value.iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
    Ok((name, value_start, class::trim(value)))
}

/// Whether an `Upgrade` names a protocol that could be granted. `h2c` is none any more (RFC 9113 §3.1), and
/// clients that offer it with each first request go on in HTTP/1.1.
fn names_protocol(value: &[u8]) -> bool {
    let mut protocols = value.split(|&byte| byte == b',').map(class::trim);
    protocols.any(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// Whether a `TE` takes trailers; of its codings none is offered.
fn names_trailers(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|coding| class::trim(coding).eq_ignore_ascii_case(b"trailers"))
}

fn check_expect(value: &[u8]) -> Result<(), Reason> {
    if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err(Reason::BadExpect) }
}
