//! HTTP-date (RFC 9110 §5.6.7) as the edge reads it: in its three forms, without regard to case (RFC 9111 §4.2).
//!
//! The day of the week is not checked against the date, because it decides nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// On average (Gregorian).
const YEAR_SECONDS: u64 = 31_556_952;

/// What a field with a date says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Date(SystemTime),
    /// No date, or several that differ.
    Nonsense,
}

impl Told {
    pub fn date(self) -> Option<SystemTime> {
        match self {
            Self::Date(date) => Some(date),
            Self::Nothing | Self::Nonsense => None,
        }
    }
}

/// Reads a field that holds one date.
pub fn field(fields: &HeaderMap, name: HeaderName, now: SystemTime) -> Told {
    let mut told = Told::Nothing;
    for line in fields.get_all(name) {
        told = match (told, parse(line.as_bytes(), now)) {
            (Told::Nothing, Some(date)) => Told::Date(date),
            (Told::Date(other), Some(date)) if other == date => told,
            _ => return Told::Nonsense,
        };
    }
    told
}

/// Reads a date. An obsolete form gives two digits of the year; they are of the latest such year that is not more
/// than 50 years after `now`.
pub fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii().to_ascii_lowercase();
    let words: Vec<_> = text.split(' ').collect();
    let (year, month, day, time) = match *words.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, time, "gmt"] if is_short(weekday.strip_suffix(',')?) => {
            (number(year, 4)?, month, number(day, 2)?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, time, "gmt"] if WEEKDAYS.contains(&weekday.strip_suffix(',')?) => {
            let [day, month, year] = split(date, '-')?;
            (full_year(number(year, 2)?, now), month, number(day, 2)?, time)
        }
        // Sun Nov  6 08:49:37 1994
        [weekday, month, "", day, time, year] if is_short(weekday) => (number(year, 4)?, month, number(day, 1)?, time),
        [weekday, month, day, time, year] if is_short(weekday) => (number(year, 4)?, month, number(day, 2)?, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let [hour, minute, second] = split(time, ':')?;
    // A leap second is the second before it.
    let second = number(second, 2).filter(|second| *second <= 60)?.min(59);
    let civil = DateTime::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        i8::try_from(number(hour, 2)?).ok()?,
        i8::try_from(number(minute, 2)?).ok()?,
        i8::try_from(second).ok()?,
        0,
    );
    let seconds = civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

fn is_short(weekday: &str) -> bool {
    weekday.len() == 3 && WEEKDAYS.iter().any(|name| name.starts_with(weekday))
}

fn split(text: &str, separator: char) -> Option<[&str; 3]> {
    let mut parts = text.split(separator);
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u32> {
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn full_year(two_digits: u32, now: SystemTime) -> u32 {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let this_year = u32::try_from(1970 + since_epoch / YEAR_SECONDS).unwrap_or(u32::MAX).min(9000);
    let latest = this_year + 50;
    let year = latest - latest % 100 + two_digits;
    if year > latest { year - 100 } else { year }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In 2026.
    const NOW: u64 = 1_795_000_000;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let seconds = parse(text.as_bytes(), now).map(|date| match date.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_secs() as i64,
            Err(before) => -(before.duration().as_secs() as i64),
        });
        assert_eq!(seconds, expected, "{text}");
    }

    #[test]
    fn three_forms_are_dates() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Wed Nov 16 08:49:37 1994", Some(784_975_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("Thu, 29 Feb 2024 23:59:60 GMT", Some(1_709_251_199));
        check("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599));
    }

    #[test]
    fn case_and_the_weekday_do_not_matter() {
        for text in [
            "THU, 18 Aug 2050 02:01:18 GMT",
            "thu, 18 AUG 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 gMT",
            "Mon, 18 Aug 2050 02:01:18 GMT",
            " Thu, 18 Aug 2050 02:01:18 GMT\t",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
        ] {
            check(text, Some(2_544_400_878));
        }
    }

    #[test]
    fn two_digits_are_at_most_50_years_ahead() {
        check("Sunday, 06-Nov-76 08:49:37 GMT", Some(3_371_878_177));
        check("Sunday, 06-Nov-77 08:49:37 GMT", Some(247_654_177));
        check("Sunday, 06-Nov-00 08:49:37 GMT", Some(973_500_577));
    }

    #[test]
    fn all_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:61 GMT",
            "Thu, 18 Aug 2050 24:00:00 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 00 Jan 2050 02:01:18 GMT",
            "Foo, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 8 02:01:18 2050",
            "18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug +050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        ] {
            check(text, None);
        }
    }
}
