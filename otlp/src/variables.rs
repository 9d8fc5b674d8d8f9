//! The forms in which the standard's variables give lists, numbers and flags. Pure.

use std::time::Duration;

/// Variables of the environment, and what was wrong with those that were asked for.
pub struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    pub faults: Vec<String>,
}

impl<'a> Variables<'a> {
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, faults: Vec::new() }
    }

    /// An empty variable is as good as none.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
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

    pub fn number(&mut self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.fault(name, &text, "a whole number");
        }
        number
    }

    pub fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        self.number(name).filter(|number| *number > 0).map(Duration::from_millis)
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
            let none = |_: &str| None;
            let mut variables = Variables::new(&none);
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
