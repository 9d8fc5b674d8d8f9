//! Values of peers made safe for a line of a log.
//!
//! Whatever a peer sends, a value stays on its line, inside its quotes, and carries no terminal code.

/// Writes `value` as nginx does: a quote, a backslash and every byte outside of printable ASCII is `\xXX`.
pub fn plain(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|&byte| !PLAIN[usize::from(byte)]) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte)]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes `value` as the inside of a JSON string. A byte that is not UTF-8 becomes the text `\xXX`, so
/// that the line is always valid and the byte can still be read.
pub fn json(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().all(|&byte| PLAIN[usize::from(byte)]) {
        out.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_char(c, out));
        for &byte in chunk.invalid() {
            out.extend_from_slice(&[b'\\', b'\\', b'x', hex(byte >> 4), hex(byte)]);
        }
    }
}

fn json_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        c if deceives(c) => {
            let code = u32::from(c);
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                out.push(hex((code >> shift) as u8));
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Besides the control characters that JSON forbids: C1 codes drive terminals, U+2028 and U+2029 end lines for some
/// readers, and marks of direction make a line look like another one.
pub fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The digit of the lower four bits.
fn hex(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble & 0x0f)]
}

/// The bytes that every format writes as they are: printable ASCII without quote and backslash.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: &[u8], expected_plain: &str, expected_json: &str) {
        let mut out = Vec::new();
        plain(value, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected_plain, "plain {value:?}");
        let mut out = Vec::new();
        json(value, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected_json, "json {value:?}");
    }

    #[test]
    fn values_of_peers() {
        check(b"", "", "");
        check(b"curl/8.5 (x; y)", "curl/8.5 (x; y)", "curl/8.5 (x; y)");
        check(b"a\"b\\c", r"a\x22b\x5Cc", r#"a\"b\\c"#);
        check(b"a\r\nb", r"a\x0D\x0Ab", r"a\u000D\u000Ab");
        check(b"\x1b[2J\x00\x7f", r"\x1B[2J\x00\x7F", r"\u001B[2J\u0000\u007F");
        check("é".as_bytes(), r"\xC3\xA9", "é");
        check(b"\xc3(\xff", r"\xC3(\xFF", r"\\xC3(\\xFF");
        check("\u{9b}1m".as_bytes(), r"\xC2\x9B1m", r"\u009B1m");
        check("a\u{2028}\u{202e}b".as_bytes(), r"a\xE2\x80\xA8\xE2\x80\xAEb", r"a\u2028\u202Eb");
        check("😀".as_bytes(), r"\xF0\x9F\x98\x80", "😀");
    }

    proptest! {
        #[test]
        fn plain_can_be_read_back(value: Vec<u8>) {
            let mut out = Vec::new();
            plain(&value, &mut out);
            prop_assert!(out.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"'));
            prop_assert_eq!(unescape(&out), value);
        }

        #[test]
        fn json_gives_the_same_text_back(value: String) {
            let mut out = vec![b'"'];
            json(value.as_bytes(), &mut out);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }

        #[test]
        fn json_is_valid_for_any_bytes(value: Vec<u8>) {
            let mut out = vec![b'"'];
            json(&value, &mut out);
            out.push(b'"');
            serde_json::from_slice::<String>(&out).unwrap();
            prop_assert!(!out.iter().any(u8::is_ascii_control));
        }
    }

    fn unescape(mut text: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        while let Some((&byte, rest)) = text.split_first() {
            if byte == b'\\' {
                let digits = std::str::from_utf8(&rest[1..3]).unwrap();
                value.push(u8::from_str_radix(digits, 16).unwrap());
                text = &rest[3..];
            } else {
                value.push(byte);
                text = rest;
            }
        }
        value
    }
}
