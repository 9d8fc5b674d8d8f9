//! The syntax of targeted fields: a Dictionary of Structured Fields (RFC 9651), whose members are directives
//! (RFC 9213 §2.1).
//!
//! Unlike in `Cache-Control`, one error makes the whole field as if it were not there. Values of a type that no
//! directive has are read to find the end of them, and mean nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use http::header::GetAll;

use super::{Argument, DELTA_MAX};

/// A value, or None for `?0`: the directive is not there.
type Value = Option<Argument<'static>>;

/// The members. None if the field is absent, empty or not a Dictionary.
pub fn read(lines: GetAll<'_, HeaderValue>) -> Option<BTreeMap<String, Value>> {
    let lines: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
    // Lines are one list (RFC 9651 §4.2).
    let text = lines.join(&b", "[..]);
    let members = Cursor(text.trim_ascii()).dictionary()?;
    (!members.is_empty()).then_some(members)
}

/// What is left to read. Each function takes a production of RFC 9651 §4.2 from its front, or fails.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn dictionary(&mut self) -> Option<BTreeMap<String, Value>> {
        let mut members = BTreeMap::new();
        while !self.0.is_empty() {
            let key = self.key()?;
            let value = if self.take(b'=') { self.value()? } else { Some(Argument::Absent) };
            self.parameters()?;
            // Of members with the same key the last one counts.
            members.insert(key, value);
            self.skip(b" \t");
            if self.0.is_empty() {
                break;
            }
            if !self.take(b',') {
                return None;
            }
            self.skip(b" \t");
            if self.0.is_empty() {
                return None;
            }
        }
        Some(members)
    }

    fn key(&mut self) -> Option<String> {
        if !matches!(self.0.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        let key = self.run(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        String::from_utf8(key.to_vec()).ok()
    }

    fn value(&mut self) -> Option<Value> {
        if self.take(b'(') {
            return self.inner_list().map(|()| Some(Argument::Invalid));
        }
        self.bare_item()
    }

    fn inner_list(&mut self) -> Option<()> {
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(());
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn bare_item(&mut self) -> Option<Value> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number().map(Some),
            b'"' => self.string().map(|text| Some(Argument::Text(text.into()))),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => Some(Some(Argument::Text(self.token().into()))),
            b'?' => self.boolean(),
            b':' => self.bytes().map(|()| Some(Argument::Invalid)),
            b'@' => {
                self.take(b'@');
                self.number().map(|_| Some(Argument::Invalid))
            }
            b'%' => self.display_string().map(|()| Some(Argument::Invalid)),
            _ => None,
        }
    }

    /// An Integer that is not negative is a number of seconds. A Decimal is none (RFC 9213 §2.1).
    fn number(&mut self) -> Option<Argument<'static>> {
        let negative = self.take(b'-');
        let whole = self.run(u8::is_ascii_digit);
        let fraction = if self.take(b'.') { Some(self.run(u8::is_ascii_digit)) } else { None };
        match fraction {
            None if (1..=15).contains(&whole.len()) => {}
            Some(digits) if (1..=12).contains(&whole.len()) && (1..=3).contains(&digits.len()) => {
                return Some(Argument::Invalid);
            }
            _ => return None,
        }
        if negative {
            return Some(Argument::Invalid);
        }
        let seconds = whole.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(Argument::Seconds(Duration::from_secs(seconds).min(DELTA_MAX)))
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        self.take(b'"');
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => text.push(self.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
                byte @ b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
    }

    fn token(&mut self) -> Vec<u8> {
        self.run(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(byte)).to_vec()
    }

    fn boolean(&mut self) -> Option<Value> {
        self.take(b'?');
        match self.next()? {
            b'1' => Some(Some(Argument::Absent)),
            b'0' => Some(None),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<()> {
        self.take(b':');
        self.run(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
        self.take(b':').then_some(())
    }

    fn display_string(&mut self) -> Option<()> {
        self.take(b'%');
        if !self.take(b'"') {
            return None;
        }
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'%' => {
                    for _ in 0..2 {
                        self.next().filter(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))?;
                    }
                }
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.0.first() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.run(|byte| bytes.contains(byte));
    }

    /// All bytes up to the first that is none of these.
    fn run(&mut self, belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !belongs(byte)).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at(end);
        self.0 = rest;
        run
    }
}
