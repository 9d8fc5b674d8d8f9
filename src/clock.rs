//! The only reader of time.
//!
//! Decisions elsewhere take the time as an argument; whoever calls them reads it here. Monotonic time
//! follows the paused clock of tokio's tests. Wall time comes with the texts that logs write of it,
//! formatted once a second, because a line in a log must not cost a date's formatting.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use tokio::time::Instant;

/// Monotonic time, for everything that measures or limits.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time, for what is compared with dates that others wrote.
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Wall time in the local zone, one a thread: it remembers the last second that it formatted.
#[derive(Debug)]
pub struct Clock {
    zone: TimeZone,
    second: Cell<Second>,
}

/// One moment as logs write it.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    second: Second,
    millis: u16,
}

#[derive(Debug, Clone, Copy)]
struct Second {
    unix: i64,
    /// `21/Nov/2026:03:51:31 +0000`
    common: [u8; 26],
    /// `2026-11-21T03:51:31.000+00:00`
    rfc3339: [u8; 29],
}

impl Clock {
    /// A clock in the zone of the system (`TZ`, `/etc/localtime`).
    pub fn new() -> Self {
        Self::in_zone(TimeZone::system())
    }

    pub fn in_zone(zone: TimeZone) -> Self {
        let second = Cell::new(Second::format(0, &zone));
        Self { zone, second }
    }

    pub fn wall(&self) -> Wall {
        self.at(system_time())
    }

    /// The same for a given moment; one before 1970 counts as 1970.
    pub fn at(&self, time: SystemTime) -> Wall {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        let mut second = self.second.get();
        if second.unix != unix {
            second = Second::format(unix, &self.zone);
            self.second.set(second);
        }
        Wall { second, millis: since_epoch.subsec_millis() as u16 }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Wall {
    /// `21/Nov/2026:03:51:31 +0000`, as in the common log format.
    pub fn common(&self) -> &[u8; 26] {
        &self.second.common
    }

    /// `2026-11-21T03:51:31.042+00:00`
    pub fn rfc3339(&self) -> [u8; 29] {
        let mut text = self.second.rfc3339;
        digits(&mut text[20..23], self.millis.into());
        text
    }
}

impl Second {
    fn format(unix: i64, zone: &TimeZone) -> Self {
        let timestamp = Timestamp::from_second(unix).unwrap_or(Timestamp::MAX);
        let local = zone.to_datetime(timestamp);
        let offset_s = zone.to_offset(timestamp).seconds();
        let sign = if offset_s < 0 { b'-' } else { b'+' };
        let offset_min = offset_s.unsigned_abs() / 60;
        let year = u32::from(local.year().unsigned_abs());
        let [month, day, hour, minute, second] =
            [local.month(), local.day(), local.hour(), local.minute(), local.second()]
                .map(|n| u32::from(n.unsigned_abs()));

        let mut common = *b"00/Jan/0000:00:00:00 +0000";
        digits(&mut common[0..2], day);
        common[3..6].copy_from_slice(month_name(month));
        digits(&mut common[7..11], year);
        digits(&mut common[12..14], hour);
        digits(&mut common[15..17], minute);
        digits(&mut common[18..20], second);
        common[21] = sign;
        digits(&mut common[22..24], offset_min / 60);
        digits(&mut common[24..26], offset_min % 60);

        let mut rfc3339 = *b"0000-00-00T00:00:00.000+00:00";
        digits(&mut rfc3339[0..4], year);
        digits(&mut rfc3339[5..7], month);
        digits(&mut rfc3339[8..10], day);
        digits(&mut rfc3339[11..13], hour);
        digits(&mut rfc3339[14..16], minute);
        digits(&mut rfc3339[17..19], second);
        rfc3339[23] = sign;
        digits(&mut rfc3339[24..26], offset_min / 60);
        digits(&mut rfc3339[27..29], offset_min % 60);
        Self { unix, common, rfc3339 }
    }
}

/// The date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), as it was when it was last renewed.
#[derive(Debug)]
pub struct HttpDate {
    unix: Cell<u64>,
    text: Cell<[u8; 29]>,
}

impl HttpDate {
    pub fn new() -> Self {
        let date = Self { unix: Cell::new(u64::MAX), text: Cell::new([b' '; 29]) };
        date.renew();
        date
    }

    /// To be called more often than once a second.
    pub fn renew(&self) {
        self.renew_at(system_time());
    }

    pub fn text(&self) -> [u8; 29] {
        self.text.get()
    }

    fn renew_at(&self, time: SystemTime) {
        let unix = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        if self.unix.replace(unix) == unix {
            return;
        }
        let timestamp = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
        let printed = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp.unwrap_or(Timestamp::MAX));
        if let Some(text) = printed.ok().and_then(|text| text.as_bytes().try_into().ok()) {
            self.text.set(text);
        }
    }
}

/// Writes `value` right-aligned with leading zeros; digits that do not fit are cut.
fn digits(into: &mut [u8], mut value: u32) {
    for place in into.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn month_name(month: u32) -> &'static [u8; 3] {
    match month {
        1 => b"Jan",
        2 => b"Feb",
        3 => b"Mar",
        4 => b"Apr",
        5 => b"May",
        6 => b"Jun",
        7 => b"Jul",
        8 => b"Aug",
        9 => b"Sep",
        10 => b"Oct",
        11 => b"Nov",
        _ => b"Dec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::Offset;

    fn check(unix_ms: u64, offset_s: i32, common: &str, rfc3339: &str) {
        let zone = TimeZone::fixed(Offset::from_seconds(offset_s).unwrap());
        let clock = Clock::in_zone(zone);
        // Twice: the second answer is the remembered one.
        for _ in 0..2 {
            let wall = clock.at(UNIX_EPOCH + Duration::from_millis(unix_ms));
            assert_eq!(std::str::from_utf8(wall.common()).unwrap(), common);
            assert_eq!(std::str::from_utf8(&wall.rfc3339()).unwrap(), rfc3339);
        }
    }

    #[test]
    fn moments_in_both_notations() {
        check(0, 0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00.000+00:00");
        check(1_795_233_091_042, 0, "21/Nov/2026:03:51:31 +0000", "2026-11-21T03:51:31.042+00:00");
        check(1_795_233_091_999, 19_800, "21/Nov/2026:09:21:31 +0530", "2026-11-21T09:21:31.999+05:30");
        check(1_795_233_091_001, -12_600, "21/Nov/2026:00:21:31 -0330", "2026-11-21T00:21:31.001-03:30");
        check(1_709_164_799_500, 0, "28/Feb/2024:23:59:59 +0000", "2024-02-28T23:59:59.500+00:00");
        check(1_709_164_800_000, 0, "29/Feb/2024:00:00:00 +0000", "2024-02-29T00:00:00.000+00:00");
    }

    #[test]
    fn dates_are_those_of_http() {
        let date = HttpDate::new();
        for (unix_s, text) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
        ] {
            date.renew_at(UNIX_EPOCH + Duration::from_secs(unix_s));
            assert_eq!(std::str::from_utf8(&date.text()).unwrap(), text);
        }
        date.renew_at(UNIX_EPOCH + Duration::from_secs(1 << 40));
    }

    #[test]
    fn a_new_second_is_formatted_anew_also_backwards() {
        let clock = Clock::in_zone(TimeZone::UTC);
        let at = |unix_s| *clock.at(UNIX_EPOCH + Duration::from_secs(unix_s)).common();
        assert_eq!(&at(59)[12..20], b"00:00:59");
        assert_eq!(&at(60)[12..20], b"00:01:00");
        assert_eq!(&at(59)[12..20], b"00:00:59");
    }

    #[test]
    fn moments_out_of_range_do_not_panic() {
        let clock = Clock::in_zone(TimeZone::UTC);
        assert_eq!(&clock.at(UNIX_EPOCH - Duration::from_secs(5)).common()[..], b"01/Jan/1970:00:00:00 +0000");
        clock.at(UNIX_EPOCH + Duration::from_secs(1 << 40));
    }
}
