//! The canonical path: one spelling for all spellings of the same path.
//!
//! Router, rewrites, redirects and upstream all see this one string, so no part can be talked into another
//! reading than its neighbour; the access log alone shows the path as it came. Percent-encoded unreserved characters are decoded, all that
//! RFC 3986 does not allow in a path is encoded, hex digits are in upper case, and dot segments are
//! gone (RFC 3986 §6.2.2). `//` is kept, and so are `%2F` and `%5C`: decoding them would make a
//! separator out of what the sender wrote as data. It never sees a query, and it never gives `;` a
//! meaning: an upstream that cuts `;x` off a segment must refuse `..;` itself.

use std::borrow::Cow;

use thiserror::Error;

/// Why a path has no canonical form. The answer is always 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum PathError {
    #[error("the path does not begin with a slash")]
    NotRooted,
    #[error("a percent sign is not followed by two hex digits")]
    BadPercent,
    #[error("the path holds an encoded NUL")]
    Nul,
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path holds a control character or a space")]
    Control,
    #[error("the path holds `?` or `#`, which end a path")]
    Delimiter,
}

impl PathError {
    #[cfg(test)]
    pub const ALL: &[Self] =
        &[Self::NotRooted, Self::BadPercent, Self::Nul, Self::Backslash, Self::Control, Self::Delimiter];

    /// A stable name for logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotRooted => "path-not-rooted",
            Self::BadPercent => "path-bad-percent",
            Self::Nul => "path-nul",
            Self::Backslash => "path-backslash",
            Self::Control => "path-control",
            Self::Delimiter => "path-delimiter",
        }
    }
}

/// The canonical form of a path without its query. Borrowed, so without an allocation, when the path
/// is canonical already.
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, PathError> {
    match examine(raw.as_bytes())? {
        Form::Canonical => Ok(Cow::Borrowed(raw)),
        Form::Other => Ok(Cow::Owned(rebuild(raw))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Canonical,
    Other,
}

/// What a byte of a raw path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    Slash,
    Percent,
    /// RFC 3986 has no place for it in a path, yet clients send it: it is encoded.
    Encode,
    Refuse(PathError),
}

/// One load for each byte is all that an ordinary path costs.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Encode; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'\\' => Class::Refuse(PathError::Backslash),
        b'?' | b'#' => Class::Refuse(PathError::Delimiter),
        0..=b' ' | 0x7f => Class::Refuse(PathError::Control),
        // `sub-delims`, `:` and `@` of `pchar` (RFC 3986 §3.3).
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => Class::Plain,
        _ if is_unreserved(byte) => Class::Plain,
        _ => Class::Encode,
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Finds every error, and whether anything has to change.
fn examine(path: &[u8]) -> Result<Form, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotRooted);
    }
    let mut form = Form::Canonical;
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match CLASSES[usize::from(*byte)] {
            Class::Plain => {}
            Class::Slash if starts_with_dot_segment(tail) => form = Form::Other,
            Class::Slash => {}
            Class::Encode => form = Form::Other,
            Class::Refuse(error) => return Err(error),
            Class::Percent => {
                let (decoded, tail) = triplet(tail).ok_or(PathError::BadPercent)?;
                if decoded == 0 {
                    return Err(PathError::Nul);
                }
                let digits = rest.iter().take(2);
                if is_unreserved(decoded) || digits.clone().any(u8::is_ascii_lowercase) {
                    form = Form::Other;
                }
                rest = tail;
            }
        }
    }
    Ok(form)
}

fn starts_with_dot_segment(path: &[u8]) -> bool {
    matches!(path, [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// The byte that two hex digits stand for, and what follows them.
fn triplet(path: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = path else { return None };
    Some((hex_value(*high)? << 4 | hex_value(*low)?, rest))
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Spells every segment anew and leaves out the dot segments (RFC 3986 §5.2.4). Decoding comes first,
/// so `%2e%2E` is a dot segment too. Going above the root stays at the root.
fn rebuild(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 16);
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let start = out.len();
        out.push('/');
        spell(segment.as_bytes(), &mut out);
        let dropped = match out.get(start..) {
            Some("/.") => start,
            Some("/..") => out.get(..start).and_then(|kept| kept.rfind('/')).unwrap_or(0),
            _ => continue,
        };
        out.truncate(dropped);
        if is_last {
            out.push('/');
        }
    }
    out
}

fn spell(mut segment: &[u8], out: &mut String) {
    while let [byte, tail @ ..] = segment {
        segment = tail;
        match (CLASSES[usize::from(*byte)], triplet(tail)) {
            (Class::Percent, Some((decoded, tail))) => {
                segment = tail;
                if is_unreserved(decoded) { out.push(char::from(decoded)) } else { encode(decoded, out) }
            }
            (Class::Plain, _) => out.push(char::from(*byte)),
            _ => encode(*byte, out),
        }
    }
}

/// Adds `%XX`.
pub(crate) fn encode(byte: u8, out: &mut String) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let path = canonical(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!(path, expected, "{raw}");
        assert_eq!(matches!(path, Cow::Borrowed(_)), raw == expected, "{raw} is copied only when it changes");
    }

    #[test]
    fn one_spelling() {
        for same in [
            "/",
            "/a",
            "/a/",
            "//",
            "//a//b",
            "/a/b.c/..d/.e/f..",
            "/...",
            "/a%2Fb",
            "/a%5Cb",
            "/a%20b",
            "/a%25b",
            "/%252e%252e/",
            "/a:b@c!$&'()*+,;=",
            "/..;/a",
        ] {
            check(same, same);
        }
        check("/%61%7E%2D%2e%5f", "/a~-._");
        check("/a%2fb", "/a%2Fb");
        check("/%c3%a9", "/%C3%A9");
        check("/é", "/%C3%A9");
        check("/[id]|\"x\"", "/%5Bid%5D%7C%22x%22");
    }

    #[test]
    fn dot_segments() {
        check("/.", "/");
        check("/..", "/");
        check("/./", "/");
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/a/..", "/");
        check("/a/b/..", "/a/");
        check("/a/b/.", "/a/b/");
        check("/../../etc", "/etc");
        check("/a/b/c/./../../g", "/a/g");
        check("/a//../b", "/a/b");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e", "/");
        check("/%2e", "/");
        check("/a/..%2Fb", "/a/..%2Fb");
        check("/a/../%2e%2e/../b/", "/b/");
    }

    #[test]
    fn refused() {
        for (raw, error) in [
            ("", PathError::NotRooted),
            ("*", PathError::NotRooted),
            ("a/b", PathError::NotRooted),
            ("%2Fa", PathError::NotRooted),
            ("/%", PathError::BadPercent),
            ("/%4", PathError::BadPercent),
            ("/%4/1", PathError::BadPercent),
            ("/%zz", PathError::BadPercent),
            ("/%+1", PathError::BadPercent),
            ("/a%00", PathError::Nul),
            ("/a\\..\\b", PathError::Backslash),
            ("/a b", PathError::Control),
            ("/a\r\nb", PathError::Control),
            ("/a\x7f", PathError::Control),
            ("/a?b", PathError::Delimiter),
            ("/a#b", PathError::Delimiter),
        ] {
            assert_eq!(canonical(raw), Err(error), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_final(raw in "/([./a%é\\[]|%2[eEfF]|%[0-9a-fA-F]{2}|\\.\\.){0,24}") {
            if let Ok(path) = canonical(&raw) {
                let again = canonical(&path);
                prop_assert!(matches!(again, Ok(Cow::Borrowed(same)) if same == path), "{raw} gives {path}, then {again:?}");
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{raw} gives {path}");
            }
        }

        #[test]
        fn any_text_is_answered(raw in "\\PC{0,32}") {
            let _ = canonical(&raw);
        }

        /// RFC 3986 §6.2.2: how a path is encoded changes nothing, as long as no separator is hidden.
        #[test]
        fn encoding_is_no_difference(plain in "/[a-z./_~-]{0,16}", choices in any::<u32>()) {
            let encoded: String = plain
                .char_indices()
                .map(|(at, c)| match c {
                    c if c != '/' && choices >> (at % 32) & 1 == 1 => format!("%{:02x}", u32::from(c)),
                    c => c.to_string(),
                })
                .collect();
            prop_assert_eq!(canonical(&encoded), canonical(&plain));
        }
    }
}
