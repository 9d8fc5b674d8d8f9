//! What is compressed, how, and how well: checked.

use std::fmt;

/// A content coding of RFC 9110 §8.4.1, RFC 7932 or RFC 8878.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    Zstd,
    Br,
    Gzip,
}

impl Coding {
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// In the order in which they are preferred; at least one.
    pub codings: Vec<Coding>,
    pub levels: Levels,
    /// The smallest length that is worth it, if the length is known.
    pub min_size: u64,
    pub types: Vec<TypePattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    pub gzip: u32,
    pub br: u32,
    pub zstd: u32,
}

impl Levels {
    pub fn of(&self, coding: Coding) -> u32 {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Br => self.br,
            Coding::Zstd => self.zstd,
        }
    }
}

/// Media types by name, in lower case: `application/json`, `text/*`, `application/*+json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypePattern {
    Exact(String),
    /// What stands before the star and behind it.
    Any(String, String),
}

impl TypePattern {
    /// `essence` is a media type without its parameters, in any case.
    pub fn matches(&self, essence: &[u8]) -> bool {
        match self {
            Self::Exact(name) => essence.eq_ignore_ascii_case(name.as_bytes()),
            Self::Any(before, after) => {
                let rest = essence.split_at_checked(before.len());
                rest.is_some_and(|(start, rest)| {
                    let end = rest.len().checked_sub(after.len()).and_then(|at| rest.get(at..));
                    start.eq_ignore_ascii_case(before.as_bytes())
                        && end.is_some_and(|end| end.eq_ignore_ascii_case(after.as_bytes()))
                })
            }
        }
    }
}

/// As the file writes it.
impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Any(before, after) => write!(f, "{before}*{after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_match_by_the_part_that_is_written() {
        let any = |before: &str, after: &str| TypePattern::Any(before.to_owned(), after.to_owned());
        let check = |pattern: TypePattern, essence: &str, expected| {
            assert_eq!(pattern.matches(essence.as_bytes()), expected, "{pattern} {essence}");
        };
        check(TypePattern::Exact("text/html".to_owned()), "Text/HTML", true);
        check(TypePattern::Exact("text/html".to_owned()), "text/htmlx", false);
        check(any("text/", ""), "text/css", true);
        check(any("text/", ""), "TEXT/", true);
        check(any("text/", ""), "tex", false);
        check(any("application/", "+json"), "application/hal+json", true);
        check(any("application/", "+json"), "application/json", false);
        check(any("application/", "+json"), "application/+jso", false);
        check(any("", ""), "image/png", true);
    }
}
