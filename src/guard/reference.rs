//! A second reading of the guard's rules, for tests: the whole input at once, by regular expressions, slow.
//! It names nothing of the crate, so that the fuzz target can use it as it is.

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use regex::bytes::Regex;

/// What some bytes of a client come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where each message ends that is whole.
    pub message_ends: Vec<usize>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the end of a message or of a line of one: more may come.
    Open,
    /// Within a line, whose verdict may or may not be clear from its beginning.
    PartialLine,
    Refused,
    Violated,
    Held,
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Request,
    Tunnel,
    Nothing,
}

/// What a part of a message came to: its length and what it says, or how the input ends in it.
type Part<T> = Result<(usize, T), End>;

const HEAD_MAX: usize = 32 * 1024;
const REQUEST_LINE_MAX: usize = 32 + 1 + 8192 + 1 + 8 + 2;

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new(concat!("(?s-u)^(?:", $text, ")$")).unwrap());
    };
}

pattern!(REQUEST_LINE, r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]{1,8192}) HTTP/1\.([01])\r\n");
pattern!(PATH, r#"/[A-Za-z0-9!"$%&'()*+,./:;=@\[\\\]^_{|}~-]*(?:\?[A-Za-z0-9!$%&'()*+,./:;=?@\[\\\]^_`{|}~-]*)?"#);
pattern!(ABSOLUTE, r"(?i:https?)://([^/?#]*)(.*)");
pattern!(AUTHORITY, r"(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._~!$&'()*+;=-]+)(?::([0-9]+))?");
pattern!(FIELD, r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*\r\n");
pattern!(
    SIZE_LINE,
    r#"([0-9A-Fa-f]{1,16})(;(?:[\t\x20!\x23-\x7e\x80-\xff]|"(?:[\t\x20!\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*")*)?\r\n"#
);
pattern!(DIGITS, "[0-9]+");

pub fn read(bytes: &[u8]) -> Reading {
    let mut message_ends = Vec::new();
    let mut at = 0;
    let end = loop {
        let (head_bytes, (body, then)) = match read_head(&bytes[at..]) {
            Ok(head) => head,
            Err(end) => break end,
        };
        let rest = &bytes[at + head_bytes..];
        let body_bytes = match body {
            Some(length) if length > rest.len() as u64 => break End::Open,
            Some(length) => length as usize,
            None => match read_chunked(rest) {
                Ok((body_bytes, ())) => body_bytes,
                Err(end) => break end,
            },
        };
        at += head_bytes + body_bytes;
        message_ends.push(at);
        match then {
            Then::Request => {}
            Then::Tunnel => break End::Held,
            Then::Nothing => break End::Ended,
        }
    };
    Reading { message_ends, end }
}

/// The length of the body is none when it is chunked.
fn read_head(bytes: &[u8]) -> Part<(Option<u64>, Then)> {
    let window = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut lines = window.split_inclusive(|&byte| byte == b'\n').peekable();
    lines.next_if(|line| line == b"\r\n");
    let Some(request_line) = lines.next() else { return Err(End::Open) };
    if request_line.len() > REQUEST_LINE_MAX {
        return Err(End::Refused);
    }
    if request_line.last() != Some(&b'\n') {
        return Err(End::PartialLine);
    }
    let request_line = REQUEST_LINE.captures(request_line).ok_or(End::Refused)?;
    let (method, target, is_http10) = (&request_line[1], &request_line[2], &request_line[3] == b"0");
    let authority = read_target(method, target).ok_or(End::Refused)?;
    let mut fields = Vec::new();
    for line in lines {
        if line == b"\r\n" {
            return conclude(method, is_http10, &fields)
                .map(|said| (line.as_ptr_range().end as usize - bytes.as_ptr() as usize, said));
        }
        if line.last() != Some(&b'\n') {
            return Err(if window.len() == HEAD_MAX { End::Refused } else { End::PartialLine });
        }
        let field = FIELD.captures(line).ok_or(End::Refused)?;
        fields.push((field[1].to_ascii_lowercase(), field[2].to_ascii_lowercase()));
        if fields.len() > 100 || !may_be_said(&fields, is_http10, authority.as_deref()) {
            return Err(End::Refused);
        }
    }
    Err(if window.len() == HEAD_MAX { End::Refused } else { End::Open })
}

/// The authority in a good target, in lower case, and empty if the target is of another form.
fn read_target(method: &[u8], target: &[u8]) -> Option<Option<Vec<u8>>> {
    if matches!(method, b"CONNECT" | b"TRACE") {
        return None;
    }
    if PATH.is_match(target) || (target == b"*" && method == b"OPTIONS") {
        return Some(None);
    }
    let parts = ABSOLUTE.captures(target)?;
    let mut path = parts[2].to_vec();
    if path.first() != Some(&b'/') {
        path.insert(0, b'/');
    }
    (is_authority(&parts[1]) && PATH.is_match(&path)).then(|| Some(parts[1].to_ascii_lowercase()))
}

fn is_authority(authority: &[u8]) -> bool {
    let Some(parts) = AUTHORITY.captures(authority) else { return false };
    let text = |group| parts.get(group).map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned());
    text(1).is_none_or(|address| address.parse::<Ipv6Addr>().is_ok())
        && text(2).is_none_or(|port| port.parse::<u128>().is_ok_and(|port| port < 65536))
}

type Fields = [(Vec<u8>, Vec<u8>)];

fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.0 == name.as_bytes()).map(|field| &field.1[..]).collect()
}

/// The rules that can be broken before the head is whole.
fn may_be_said(fields: &Fields, is_http10: bool, authority: Option<&[u8]>) -> bool {
    let hosts = values(fields, "host");
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    hosts.len() <= 1
        && hosts.iter().all(|host| is_authority(host) && authority.is_none_or(|authority| authority == *host))
        && lengths.len() + codings.len() <= 1
        && lengths.iter().all(|length| read_length(length).is_some())
        && codings.iter().all(|coding| *coding == b"chunked" && !is_http10)
        && values(fields, "expect").iter().all(|expectation| *expectation == b"100-continue")
}

fn read_length(digits: &[u8]) -> Option<u64> {
    let text = DIGITS.is_match(digits).then(|| String::from_utf8_lossy(digits))?;
    text.parse::<i64>().ok().and_then(|length| u64::try_from(length).ok())
}

fn conclude(method: &[u8], is_http10: bool, fields: &Fields) -> Result<(Option<u64>, Then), End> {
    let length = values(fields, "content-length").first().and_then(|digits| read_length(digits));
    let has_host = !values(fields, "host").is_empty();
    let must_have_length = is_http10 && matches!(method, b"POST" | b"PUT" | b"PATCH");
    if (!has_host && !is_http10) || (must_have_length && length.is_none()) {
        return Err(End::Refused);
    }
    let connection = values(fields, "connection").join(&b","[..]);
    let options: Vec<_> = connection.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    let upgrade = values(fields, "upgrade").join(&b","[..]);
    let mut protocols = upgrade.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let may_change = protocols.any(|protocol| !protocol.is_empty() && protocol != b"h2c");
    let then = if !is_http10 && options.contains(&&b"upgrade"[..]) && may_change {
        Then::Tunnel
    } else if options.contains(&&b"close"[..]) || (is_http10 && !options.contains(&&b"keep-alive"[..])) {
        Then::Nothing
    } else {
        Then::Request
    };
    let is_chunked = !values(fields, "transfer-encoding").is_empty();
    Ok(((!is_chunked).then(|| length.unwrap_or(0)), then))
}

fn read_chunked(bytes: &[u8]) -> Part<()> {
    let (mut at, mut data, mut extensions) = (0, 0, 0);
    loop {
        let line = read_line(&bytes[at..])?;
        at += line.len();
        let parts = SIZE_LINE.captures(line).ok_or(End::Violated)?;
        let digits = String::from_utf8_lossy(&parts[1]).into_owned();
        let size = i64::from_str_radix(&digits, 16).map_err(|_| End::Violated)? as u64;
        extensions += parts.get(2).map_or(0, |extension| extension.len());
        if extensions > 16 * 1024 || at - data > 16 * 1024 + 2 * data {
            return Err(End::Violated);
        }
        if size == 0 {
            return read_trailers(&bytes[at..]).map(|(trailer_bytes, ())| (at + trailer_bytes, ()));
        }
        let rest = &bytes[at..];
        if size > rest.len() as u64 {
            return Err(End::Open);
        }
        data += size as usize;
        at += size as usize;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] => return Err(End::Open),
            [b'\r'] => return Err(End::PartialLine),
            _ => return Err(End::Violated),
        }
    }
}

fn read_trailers(bytes: &[u8]) -> Part<()> {
    let (mut at, mut fields) = (0, 0);
    loop {
        let line = read_line(&bytes[at..])?;
        at += line.len();
        if at > HEAD_MAX || fields > 100 {
            return Err(End::Violated);
        }
        if line == b"\r\n" {
            return Ok((at, ()));
        }
        if !FIELD.is_match(line) {
            return Err(End::Violated);
        }
        fields += 1;
    }
}

fn read_line(bytes: &[u8]) -> Result<&[u8], End> {
    match bytes.split_inclusive(|&byte| byte == b'\n').next() {
        None => Err(End::Open),
        Some(line) if line.last() == Some(&b'\n') => Ok(line),
        Some(_) => Err(End::PartialLine),
    }
}
