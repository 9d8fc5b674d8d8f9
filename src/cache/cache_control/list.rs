//! The syntax of `Cache-Control`: a list of tokens with an optional argument, which is a token or a quoted string
//! (RFC 9111 §5.2).

use http::HeaderValue;
use http::header::GetAll;

use super::{Argument, delta_seconds};

/// Hands over each directive with its name in lower case. What is no directive is passed over.
pub fn read(lines: GetAll<'_, HeaderValue>, mut directive: impl FnMut(&[u8], Argument)) {
    for line in lines {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let (element, after) = element(rest);
            rest = after;
            let (name, argument) = match element.iter().position(|byte| *byte == b'=') {
                Some(at) => (&element[..at], Some(&element[at + 1..])),
                None => (element, None),
            };
            let argument = argument.map_or(Argument::Absent, |text| read_argument(name, text));
            directive(&name.trim_ascii().to_ascii_lowercase(), argument);
        }
    }
}

/// The bytes before the next comma that is not inside of quotes, and those behind it. A quotation mark that is
/// never closed is a byte like others: what follows it still counts.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b',' => return (bytes[..at].trim_ascii(), &bytes[at + 1..]),
            b'"' => at += quoted_len(&bytes[at..]).unwrap_or(1),
            _ => at += 1,
        }
    }
    (bytes.trim_ascii(), &[])
}

/// With both quotation marks, if it is closed.
fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn read_argument(name: &[u8], text: &[u8]) -> Argument {
    // The grammar has no white space around `=`. Others differ in what they make of it, so it means nothing.
    if name.ends_with(b" ") || name.ends_with(b"\t") || text.starts_with(b" ") || text.starts_with(b"\t") {
        return Argument::Invalid;
    }
    // Both forms are accepted for every directive (RFC 9111 §5.2).
    let text = if quoted_len(text) == Some(text.len()) && text.first() == Some(&b'"') {
        unescape(&text[1..text.len() - 1])
    } else {
        text.to_vec()
    };
    delta_seconds(&text).map_or(Argument::Text(text), Argument::Seconds)
}

fn unescape(quoted: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        text.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    text
}
