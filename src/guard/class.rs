//! The classes of bytes that the grammar of HTTP/1 is made of.

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const HOST: u8 = 8;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x80 {
        let alphanumeric = (byte as u8).is_ascii_alphanumeric();
        // RFC 9110 §5.6.2.
        if alphanumeric || contains(b"!#$%&'*+-.^_`|~", byte as u8) {
            table[byte] |= TOKEN;
        }
        // Looser than RFC 3986: these are the bytes with which browsers are known to call, and every one of
        // them is taken by `http::Uri`.
        if alphanumeric || contains(b"!\"$%&'()*+,-./:;=@[\\]^_{|}~", byte as u8) {
            table[byte] |= PATH;
        }
        if alphanumeric || contains(b"!$%&'()*+,-./:;=?@[\\]^_`{|}~", byte as u8) {
            table[byte] |= QUERY;
        }
        // A reg-name (RFC 3986 §3.2.2) without percent-encoding and without the comma, which joins two values.
        if alphanumeric || contains(b"-._~!$&'()*+;=", byte as u8) {
            table[byte] |= HOST;
        }
        byte += 1;
    }
    table
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

pub fn is_token(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

pub fn is_path(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & PATH != 0
}

pub fn is_query(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & QUERY != 0
}

pub fn is_host(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & HOST != 0
}

/// A control byte that a field value must not hold (RFC 9110 §5.5): all but the tab.
pub fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Whether any byte is a control byte. It looks at all of them, for then the compiler can take many at a time.
pub fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, &byte| found | is_control(byte))
}

/// Without the optional white space around a field value (RFC 9110 §5.6.3).
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
