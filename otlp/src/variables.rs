//! The forms in which the standard's variables give lists, numbers and flags. Pure.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the standard's variables are asked for.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file that a variable names.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Variables of the environment, and what was wrong with those that were asked for.
pub struct Variables<'a> {
    surroundings: Surroundings<'a>,
    pub faults: Vec<String>,
    /// That variables name.
    pub files: Vec<PathBuf>,
}

impl<'a> Variables<'a> {
    pub fn new(surroundings: Surroundings<'a>) -> Self {
        Self { surroundings, faults: Vec::new(), files: Vec::new() }
    }

    /// An empty variable is as good as none.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.surroundings.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The one for the signal, else the one for all.
    pub fn of_signal(&self, signal: &str, name: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| self.text(&name).map(|text| (name, text)))
    }

    /// Anything but `true` is false.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    pub fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse::<u64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(name, &text, &format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// Up to a day.
    pub fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        self.number(name, 1..=86_400_000).map(Duration::from_millis)
    }

    /// The text of the file that it names; empty if that cannot be read.
    pub fn file(&mut self, name: &str, path: &str) -> String {
        self.files.push(path.into());
        (self.surroundings.read)(Path::new(path)).unwrap_or_else(|error| {
            self.faults.push(format!("{name}: cannot read {path}: {error}"));
            String::new()
        })
    }

    /// `key=value,key=value`, values percent-encoded.
    pub fn pairs(&mut self, name: &str, text: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').map(|(key, value)| (decoded(key.trim()), decoded(value.trim()))) {
                Some((Some(key), Some(value))) if !key.is_empty() => pairs.push((key, value)),
                // The text may hold a secret.
                _ => self.faults.push(format!("{name}: what is not `key=value`, percent-encoded, is left out")),
            }
        }
        pairs
    }

    /// Of a variable that is for others than us.
    pub fn unsupported(&mut self, name: &str, instead: &str) {
        if self.text(name).is_some() {
            self.faults.push(format!("{name} is not supported{instead}"));
        }
    }

    pub fn fault(&mut self, name: &str, text: &str, expected: &str) {
        self.faults.push(format!("{name}: `{text}` is not {expected}, and is passed over"));
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_pairs() {
        let check = |text: &str, expected: &[(&str, &str)], faults: usize| {
            let surroundings = Surroundings { variable: &|_| None, read: &|_| Ok(String::new()) };
            let mut variables = Variables::new(surroundings);
            let pairs = variables.pairs("X", text);
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(pairs, expected, "{text}");
            assert_eq!(variables.faults.len(), faults, "{text}");
        };
        check("", &[], 0);
        check("a=1", &[("a", "1")], 0);
        check(" a = 1 , b=x%20y%2C,", &[("a", "1"), ("b", "x y,")], 0);
        check("authorization=Basic%20eA==", &[("authorization", "Basic eA==")], 0);
        check("a", &[], 1);
        check("=1,b=2", &[("b", "2")], 1);
        check("a=%zz,b=%2,c=%ff", &[], 3);
    }
}
