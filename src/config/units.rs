//! Durations and sizes as operators write them: a number and always a unit.
//!
//! What is suggested for a wrong text is right itself, and means what was written.

use std::time::Duration;

use super::diagnostics::Problem;

/// What a number with a unit can stand for.
struct Measure {
    expected: &'static str,
    /// Names and factors.
    units: &'static [(&'static str, u64)],
    listed: &'static str,
    max: u64,
    beyond: &'static str,
    /// The unit that another spelling stands for.
    meant: fn(&str) -> Option<&'static str>,
    show: fn(u64) -> String,
}

const DURATION: Measure = Measure {
    expected: "a duration such as \"12s\"",
    units: &[
        ("ms", 1),
        ("s", 1_000),
        ("min", 60_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
    ],
    listed: "ms, s, min, h, d and w",
    // Longer waits are taken for a slip; 10 years also keeps sums of durations far from overflow.
    max: 3_650 * 86_400_000,
    beyond: "is more than ten years",
    meant: |unit| match unit {
        "" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "mins" | "minute" | "minutes" => Some("min"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        "week" | "weeks" => Some("w"),
        "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    },
    show: |ms| show_duration(Duration::from_millis(ms)),
};

const SIZE: Measure = Measure {
    expected: "a size such as \"64KiB\"",
    units: &[
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ],
    listed: "B, KiB, MiB, GiB, TiB, KB, MB, GB and TB",
    // Lengths and offsets are signed 64-bit numbers in the system's interfaces.
    max: i64::MAX as u64,
    beyond: "is too large",
    meant: |unit| match unit {
        "" | "byte" | "bytes" => Some("B"),
        "k" | "ki" => Some("KiB"),
        "m" | "mi" => Some("MiB"),
        "g" | "gi" => Some("GiB"),
        "t" | "ti" => Some("TiB"),
        _ => None,
    },
    show: show_size,
};

/// `250ms`, `12s`, `5min` or `5m`, `1h`, `30d`, `1w`.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    DURATION.read(text).map(Duration::from_millis)
}

/// `256B`, `64KiB`, `10MiB`, `1GiB`, `1TiB`, and the decimal `KB`, `MB`, `GB`, `TB`.
pub fn size(text: &str) -> Result<u64, Problem> {
    SIZE.read(text)
}

/// A size each second: `256B/s`, `10KiB/s`.
pub fn rate(text: &str) -> Result<u64, Problem> {
    let Some(bytes) = text.strip_suffix("/s") else {
        let problem = Problem::new(format!("`{text}` is not a rate such as \"256B/s\""));
        return Err(match size(text) {
            Ok(_) => problem.help(format!("did you mean \"{text}/s\"?")),
            Err(_) => problem,
        });
    };
    size(bytes).map_err(|problem| match SIZE.exactly(bytes) {
        Some(meant) => Problem::new(format!("`{text}` is not one whole number and a unit"))
            .help(format!("did you mean \"{}\"?", show_rate(meant))),
        None => problem,
    })
}

/// `256B/s`.
pub fn show_rate(bytes: u64) -> String {
    format!("{}/s", show_size(bytes))
}

/// The shortest exact text: `90s`, `5min`, `1500ms`.
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 && ms > 60_000 => format!("{}min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// The shortest exact text in binary units: `10MiB`, `1000B`.
pub fn show_size(bytes: u64) -> String {
    let binary = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = binary.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    fitting.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

impl Measure {
    fn read(&self, text: &str) -> Result<u64, Problem> {
        let (digits, rest) = split_digits(text);
        if digits.is_empty() {
            return Err(Problem::new(format!("`{text}` is not {}", self.expected)));
        }
        let unit = rest.trim_start();
        if rest.starts_with(['.', ',', '_']) || unit.contains(|c: char| c.is_ascii_digit()) {
            let problem = Problem::new(format!("`{text}` is not one whole number and a unit"));
            return Err(match self.exactly(text) {
                Some(value) => problem.help(format!("did you mean \"{}\"?", (self.show)(value))),
                None => problem.help(format!("the units are {}", self.listed)),
            });
        }
        match self.factor(unit) {
            Some(factor) => self.times(digits, factor).ok_or_else(|| Problem::new(format!("`{text}` {}", self.beyond))),
            None => Err(self.unknown_unit(digits, unit)),
        }
    }

    fn factor(&self, unit: &str) -> Option<u64> {
        self.units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
    }

    fn times(&self, digits: &str, factor: u64) -> Option<u64> {
        digits.parse::<u64>().ok()?.checked_mul(factor).filter(|value| *value <= self.max)
    }

    fn unknown_unit(&self, digits: &str, unit: &str) -> Problem {
        let problem = Problem::new(if unit.is_empty() {
            "the unit is missing".to_owned()
        } else {
            format!("unknown unit `{unit}`")
        });
        let lower = unit.to_ascii_lowercase();
        let same = || self.units.iter().map(|(name, _)| *name).find(|name| name.to_ascii_lowercase() == lower);
        let meant = (self.meant)(&lower).or_else(same);
        let fits = |meant: &&str| self.factor(meant).and_then(|factor| self.times(digits, factor)).is_some();
        match meant.filter(fits) {
            Some(meant) => problem.help(format!("did you mean \"{digits}{meant}\"? The units are {}", self.listed)),
            None => problem.help(format!("the units are {}", self.listed)),
        }
    }

    /// What `1.5h`, `1_500ms` and `1h30min` stand for. `1.500s` may mean either of two things.
    fn exactly(&self, text: &str) -> Option<u64> {
        let mut rest = text.trim();
        let mut sum = 0_u64;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '_')?;
            let (whole, after) = rest.split_at(end);
            let (fraction, after) = match after.strip_prefix(['.', ',']) {
                Some(after) => {
                    Some(split_digits(after)).filter(|(digits, _)| !digits.is_empty() && digits.len() != 3)?
                }
                None => ("", after),
            };
            let unit = after.trim_start();
            let (unit, after) = unit.split_at(unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len()));
            let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            let digits = format!("{}{fraction}", whole.replace('_', ""));
            let scaled = digits.parse::<u64>().ok()?.checked_mul(self.factor(unit)?)?;
            let value = (scaled % scale == 0).then_some(scaled / scale)?;
            sum = sum.checked_add(value).filter(|sum| *sum <= self.max)?;
            rest = after.trim_start();
        }
        Some(sum)
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        let check = |text, expected: u64| assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        check("0s", 0);
        check("250ms", 250);
        check("12s", 12_000);
        check("5min", 300_000);
        check("5m", 300_000);
        check("1 h", 3_600_000);
        check("30d", 2_592_000_000);
        check("1w", 604_800_000);
    }

    #[test]
    fn sizes_carry_a_unit() {
        let check = |text, expected: u64| assert_eq!(size(text), Ok(expected), "{text}");
        check("0B", 0);
        check("256B", 256);
        check("64KiB", 65_536);
        check("10 MiB", 10 << 20);
        check("1GB", 1_000_000_000);
        check("1TiB", 1 << 40);
    }

    #[test]
    fn rates_are_sizes_a_second() {
        let check = |text, expected: u64| assert_eq!(rate(text), Ok(expected), "{text}");
        check("0B/s", 0);
        check("256B/s", 256);
        check("10 KiB/s", 10_240);
        let help = |text: &str| rate(text).unwrap_err().help.unwrap_or_default();
        assert_eq!(help("256B"), "did you mean \"256B/s\"?");
        assert_eq!(help("1.5KiB/s"), "did you mean \"1536B/s\"?");
        assert!(help("10k/s").contains("\"10KiB\""), "{}", help("10k/s"));
        for text in ["", "fast", "/s", "256", "256B/min"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_unit_is_named_with_the_one_that_was_meant() {
        let help = |error: Problem| error.help.unwrap_or(error.message);
        let check = |error, expected: &str| {
            let help = help(error);
            assert!(help.contains(expected), "{help}");
        };
        check(duration("12").unwrap_err(), "\"12s\"");
        check(duration("12sec").unwrap_err(), "\"12s\"");
        check(duration("2H").unwrap_err(), "\"2h\"");
        check(duration("3 parsecs").unwrap_err(), "the units are ms");
        check(duration("1.5s").unwrap_err(), "\"1500ms\"");
        check(duration("0.5h").unwrap_err(), "\"30min\"");
        check(duration("1,5 min").unwrap_err(), "\"90s\"");
        check(duration("1_500ms").unwrap_err(), "\"1500ms\"");
        check(duration("1h30min").unwrap_err(), "\"90min\"");
        check(duration("1h 30m").unwrap_err(), "\"90min\"");
        check(duration("1.5ms").unwrap_err(), "the units are ms");
        check(duration("1.500s").unwrap_err(), "the units are ms");
        check(duration("1.5").unwrap_err(), "the units are ms");
        check(duration("1.5parsecs").unwrap_err(), "the units are ms");
        check(duration("9999999999").unwrap_err(), "the units are ms");
        check(duration("5W").unwrap_err(), "\"5w\"");
        check(duration("soon").unwrap_err(), "such as \"12s\"");
        check(duration("-1s").unwrap_err(), "such as \"12s\"");
        check(duration("99999d").unwrap_err(), "ten years");
        check(duration("99999999999999999999s").unwrap_err(), "ten years");
        check(duration("99999999999999999999.5s").unwrap_err(), "the units are ms");
        check(size("10m").unwrap_err(), "\"10MiB\"");
        check(size("64k").unwrap_err(), "\"64KiB\"");
        check(size("1024").unwrap_err(), "\"1024B\"");
        check(size("1mb").unwrap_err(), "\"1MB\"");
        check(size("1KIB").unwrap_err(), "\"1KiB\"");
        check(size("1.5KiB").unwrap_err(), "\"1536B\"");
        check(size("1.5MiB").unwrap_err(), "\"1536KiB\"");
        check(size("0.5GB").unwrap_err(), "\"500000000B\"");
        check(size("1.5k").unwrap_err(), "the units are B");
        check(size("1.5B").unwrap_err(), "the units are B");
        check(size("1_024B").unwrap_err(), "\"1KiB\"");
        check(size("99999999T").unwrap_err(), "the units are B");
        check(size("").unwrap_err(), "such as \"64KiB\"");
        check(size("99999999TiB").unwrap_err(), "too large");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0..DURATION.max, bytes in 0..1_u64 << 50) {
            let shown = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(shown)), Ok(shown));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            prop_assert_eq!(rate(&show_rate(bytes)), Ok(bytes));
        }

        /// Whatever is suggested is right.
        #[test]
        fn suggestions_are_right(text in "[0-9]{1,12}[._,]?[0-9]{0,4} ?(ms|S|sec|min|H|d|w|k|Ki?B|M|gib|TB)?([0-9]{1,3}m)?") {
            let suggested = |problem: Problem| {
                let help = problem.help?;
                Some(help.split('"').nth(1)?.to_owned())
            };
            if let Some(meant) = duration(&text).err().and_then(suggested) {
                prop_assert!(duration(&meant).is_ok(), "{} {}", text, meant);
            }
            if let Some(meant) = size(&text).err().and_then(suggested) {
                prop_assert!(size(&meant).is_ok(), "{} {}", text, meant);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = (duration(&text), size(&text), rate(&text));
        }
    }
}
