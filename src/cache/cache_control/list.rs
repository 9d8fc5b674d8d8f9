//! The syntax of `Cache-Control`: a list of tokens with an optional argument, which is a token or a quoted string
//! (RFC 9111 §5.2).

use std::borrow::Cow;

use http::HeaderValue;
use http::header::GetAll;

use super::{Argument, delta_seconds};

/// No name of a directive that this cache knows is longer.
const NAME_BYTES_MAX: usize = 24;

/// Hands over each directive with its name in lower case. What is no directive is passed over.
pub fn read(lines: GetAll<'_, HeaderValue>, mut directive: impl FnMut(&[u8], Argument<'_>)) {
    for line in lines {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let (element, after) = element(rest);
            rest = after;
            let mut halves = element.splitn(2, |byte| *byte == b'=');
            let (name, argument) = (halves.next().unwrap_or_default(), halves.next());
            let mut lower = [0; NAME_BYTES_MAX];
            let Some(known) = lower.get_mut(..name.trim_ascii().len()) else { continue };
            known.copy_from_slice(name.trim_ascii());
            known.make_ascii_lowercase();
            directive(known, argument.map_or(Argument::Absent, |text| read_argument(name, text)));
        }
    }
}

/// The bytes before the next comma that is not inside of quotes, and those behind it. A quotation mark that is
/// never closed is a byte like others: what follows it still counts.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    while let Some((byte, rest)) = bytes.get(end..).and_then(<[u8]>::split_first) {
        match byte {
            b',' => return (bytes.get(..end).unwrap_or_default().trim_ascii(), rest),
            b'"' => end += 1 + quoted_len(rest).unwrap_or(0),
            _ => end += 1,
        }
    }
    (bytes.trim_ascii(), &[])
}

/// How long a quoted string is from behind its first quotation mark to behind its last, if it has one.
fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn read_argument<'a>(name: &[u8], text: &'a [u8]) -> Argument<'a> {
    // The grammar has no white space around `=`. Others differ in what they make of it, so it means nothing.
    if name != name.trim_ascii_end() || text != text.trim_ascii_start() {
        return Argument::Invalid;
    }
    // Both forms are accepted for every directive (RFC 9111 §5.2).
    let text = match text {
        [b'"', rest @ ..] if quoted_len(rest) == Some(rest.len()) => unescape(rest.strip_suffix(b"\"").unwrap_or(rest)),
        token => Cow::Borrowed(token),
    };
    delta_seconds(&text).map_or(Argument::Text(text), Argument::Seconds)
}

fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    if !quoted.contains(&b'\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        text.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    Cow::Owned(text)
}
