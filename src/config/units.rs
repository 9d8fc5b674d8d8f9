//! Durations and sizes as operators write them: a number and always a unit.

use std::time::Duration;

use super::diagnostics::Problem;

const DURATION_UNITS: [(&str, u64); 7] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Longer waits are taken for a slip; 10 years also keeps sums of durations far from overflow.
const DURATION_MAX_MS: u64 = 3_650 * 86_400_000;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `250ms`, `12s`, `5min` or `5m`, `1h`, `30d`, `1w`.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = split(text, "a duration such as \"12s\"")?;
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = match unit.to_ascii_lowercase().as_str() {
            "" => Some("s"),
            "sec" | "secs" | "second" | "seconds" => Some("s"),
            "mins" | "minute" | "minutes" => Some("min"),
            "hr" | "hrs" | "hour" | "hours" => Some("h"),
            "day" | "days" => Some("d"),
            "msec" | "millis" | "milliseconds" => Some("ms"),
            lower => DURATION_UNITS.iter().map(|(name, _)| *name).find(|name| *name == lower),
        };
        return Err(unknown_unit(unit, number, meant, "ms, s, min, h and d"));
    };
    let ms = number.checked_mul(*factor).filter(|ms| *ms <= DURATION_MAX_MS);
    ms.map(Duration::from_millis)
        .ok_or_else(|| Problem { message: format!("`{text}` is more than ten years"), help: None })
}

/// `256B`, `64KiB`, `10MiB`, `1GiB`, `1TiB`, and the decimal `KB`, `MB`, `GB`, `TB`.
pub fn size(text: &str) -> Result<u64, Problem> {
    let (number, unit) = split(text, "a size such as \"64KiB\"")?;
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = match unit.to_ascii_lowercase().as_str() {
            "" | "b" | "byte" | "bytes" => Some("B"),
            "k" | "ki" | "kib" => Some("KiB"),
            "m" | "mi" | "mib" => Some("MiB"),
            "g" | "gi" | "gib" => Some("GiB"),
            "t" | "ti" | "tib" => Some("TiB"),
            lower => SIZE_UNITS.iter().map(|(name, _)| *name).find(|name| name.to_ascii_lowercase() == lower),
        };
        return Err(unknown_unit(unit, number, meant, "B, KiB, MiB, GiB, TiB, KB, MB, GB and TB"));
    };
    // Lengths and offsets are signed 64-bit numbers in the system's interfaces.
    let bytes = number.checked_mul(*factor).filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| Problem { message: format!("`{text}` is too large"), help: None })
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

fn split<'a>(text: &'a str, expected: &str) -> Result<(u64, &'a str), Problem> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(Problem { message: format!("`{text}` is not {expected}"), help: None });
    }
    if rest.starts_with(['.', ',', '_']) {
        let help = Some("use the next smaller unit: 1500ms in place of 1.5s".to_owned());
        return Err(Problem { message: format!("`{text}` is not a whole number and a unit"), help });
    }
    let number = digits.parse().map_err(|_| Problem { message: format!("`{text}` is too large"), help: None })?;
    Ok((number, rest.trim_start()))
}

fn unknown_unit(unit: &str, number: u64, meant: Option<&str>, units: &str) -> Problem {
    let message = if unit.is_empty() { "the unit is missing".to_owned() } else { format!("unknown unit `{unit}`") };
    let help = match meant {
        Some(meant) => format!("did you mean \"{number}{meant}\"? The units are {units}"),
        None => format!("the units are {units}"),
    };
    Problem { message, help: Some(help) }
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
        check(duration("1.5s").unwrap_err(), "1500ms");
        check(duration("soon").unwrap_err(), "such as \"12s\"");
        check(duration("-1s").unwrap_err(), "such as \"12s\"");
        check(duration("99999d").unwrap_err(), "ten years");
        check(duration("99999999999999999999s").unwrap_err(), "too large");
        check(size("10m").unwrap_err(), "\"10MiB\"");
        check(size("64k").unwrap_err(), "\"64KiB\"");
        check(size("1024").unwrap_err(), "\"1024B\"");
        check(size("1mb").unwrap_err(), "\"1MB\"");
        check(size("").unwrap_err(), "such as \"64KiB\"");
        check(size("99999999TiB").unwrap_err(), "too large");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0..DURATION_MAX_MS, bytes in 0..1_u64 << 50) {
            let shown = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(shown)), Ok(shown));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = (duration(&text), size(&text));
        }
    }
}
