//! Counts, sizes and durations.

use std::time::Duration;

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::{Diagnostic, Problem};
use crate::config::section::Shape;
use crate::config::tree::{Kind, Node};
use crate::config::units;

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Decode for Count<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Integer { min: MIN.into(), max: MAX.into() }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = format!("a whole number from {MIN} to {MAX}");
        let Kind::Integer(number) = &node.kind else {
            let help = match &node.kind {
                Kind::Text(text) if text.parse::<u32>().is_ok() => Some(format!("write it without quotes: {text}")),
                _ => None,
            };
            decoder.mismatch(node, &expected, help);
            return None;
        };
        let fitting = number.and_then(|number| u32::try_from(number).ok());
        if let Some(number) = fitting.filter(|number| (MIN..=MAX).contains(number)) {
            return Some(Self(number));
        }
        let found = number.map_or("a number beyond 64 bits".to_owned(), |number| number.to_string());
        let message = format!("expected {expected}, found {found}");
        decoder.report(Diagnostic::error(node.origin, message).label(format!("expected {expected}")));
        None
    }
}

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    pub fn to_usize(self) -> usize {
        // 32 bits fit every platform this runs on.
        self.0 as usize
    }
}

/// A share of a whole, as in `"50%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Decode for Percent<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Text { what: "a share in percent", example: if MIN > 50 { "125%" } else { "50%" } }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = format!("a share from \"{MIN}%\" to \"{MAX}%\"");
        if let Kind::Integer(number) = node.kind {
            let fitting = number.and_then(|number| u32::try_from(number).ok()).filter(|n| (MIN..=MAX).contains(n));
            decoder.mismatch(node, &expected, fitting.map(|number| format!("shares carry a unit: \"{number}%\"")));
            return None;
        }
        decoder.text(node, &expected, |text| {
            let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
            let fitting = number.filter(|number| (MIN..=MAX).contains(number));
            let bare = text.trim().parse().ok().filter(|number| (MIN..=MAX).contains(number));
            fitting.map(Self).ok_or_else(|| {
                let problem = Problem::new(format!("`{text}` is not {expected}"));
                match bare {
                    Some(number) => problem.help(format!("did you mean \"{number}%\"?")),
                    None => problem,
                }
            })
        })
    }
}

/// `false`, or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrFalse<T>(pub Option<T>);

impl<T: Decode> Decode for OrFalse<T> {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::False, T::shape()])
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match node.kind {
            Kind::Bool(false) => Some(Self(None)),
            _ => T::decode(node, decoder).map(|value| Self(Some(value))),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// What does not fit the address space is cut to it.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Decode for Size {
    fn shape() -> Shape {
        Shape::Size
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = "a size such as \"64KiB\"";
        if let Kind::Integer(number) = node.kind {
            let help = with_unit(number, "B", |text| units::size(text).is_ok());
            decoder.mismatch(node, expected, help.map(|text| format!("sizes carry a unit: \"{text}\"")));
            return None;
        }
        decoder.text(node, expected, units::size).map(Self)
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Decode for Rate {
    fn shape() -> Shape {
        Shape::Rate
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = "a rate such as \"256B/s\"";
        if let Kind::Integer(number) = node.kind {
            let help = with_unit(number, "B/s", |text| units::rate(text).is_ok());
            decoder.mismatch(node, expected, help.map(|text| format!("rates carry a unit: \"{text}\"")));
            return None;
        }
        decoder.text(node, expected, units::rate).map(Self)
    }
}

impl Decode for Duration {
    fn shape() -> Shape {
        Shape::Duration
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = "a duration such as \"12s\"";
        if let Kind::Integer(number) = node.kind {
            let help = with_unit(number, "s", |text| units::duration(text).is_ok());
            decoder.mismatch(node, expected, help.map(|text| format!("durations carry a unit: \"{text}\"")));
            return None;
        }
        decoder.text(node, expected, units::duration)
    }
}

/// A bare number as it should have been written, if that would be right.
fn with_unit(number: Option<i64>, unit: &str, is_right: impl Fn(&str) -> bool) -> Option<String> {
    number.map(|number| format!("{number}{unit}")).filter(|text| is_right(text))
}

/// A duration that would make no sense as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Duration);

impl Decode for Limit {
    fn shape() -> Shape {
        Shape::Duration
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if !matches!(node.kind, Kind::Integer(Some(0))) {
            let duration = Duration::decode(node, decoder)?;
            if !duration.is_zero() {
                return Some(Self(duration));
            }
        }
        let zero = Diagnostic::error(node.origin, "this duration cannot be zero");
        decoder.report(zero.label("expected more than zero"));
        None
    }
}
