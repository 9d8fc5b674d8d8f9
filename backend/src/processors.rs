//! How much of its processors this process has used of late, as the kernel counts its time.

use std::io;
use std::time::{Duration, Instant};

/// Clock ticks a second in `/proc/self/stat`: a constant of Linux's interface to user space.
const TICKS_PER_SECOND: u64 = 100;
/// What the last look counts for, beside those before: at one a second, half of what is shown is of the last three.
const WEIGHT: f64 = 0.2;

/// Looked at again and again.
pub struct Processors {
    count: usize,
    last: Option<(Instant, Duration)>,
    /// From 0 to 1; None until two looks have shown it.
    share: Option<f64>,
}

impl Processors {
    pub fn new() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self { count, last: None, share: None }
    }

    /// The share of all that it may use.
    pub fn look(&mut self) -> Option<f64> {
        match used() {
            Ok(used) => self.note(Instant::now(), used),
            Err(_) => None,
        }
    }

    fn note(&mut self, now: Instant, used: Duration) -> Option<f64> {
        let (before, had) = self.last.replace((now, used))?;
        let all = now.saturating_duration_since(before).as_secs_f64() * self.count as f64;
        if all > 0.0 {
            let share = used.saturating_sub(had).as_secs_f64() / all;
            self.share = Some(self.share.map_or(share, |before| before + (share - before) * WEIGHT));
        }
        self.share
    }
}

/// The time of processors that this process has had.
pub fn used() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    used_by(&stat).ok_or_else(|| io::Error::other("the kernel does not tell the time of processors"))
}

/// The second field is a name that may hold spaces and parentheses; user and system time are the 14th and 15th.
fn used_by(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1_000 / TICKS_PER_SECOND)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_all_processors_of_late() {
        let begin = Instant::now();
        let mut processors = Processors { count: 2, last: None, share: None };
        let mut note = |second: u64, used_ms: u64| {
            let share = processors.note(begin + Duration::from_secs(second), Duration::from_millis(used_ms));
            share.map(|share| (share * 1000.0).round() / 10.0)
        };
        assert_eq!(note(0, 500), None);
        assert_eq!(note(1, 1_500), Some(50.0));
        assert_eq!(note(2, 1_500), Some(40.0));
        assert_eq!(note(3, 3_500), Some(52.0));
        assert_eq!(note(3, 3_500), Some(52.0));
    }

    #[test]
    fn time_from_stat() {
        let check = |stat, millis: Option<u64>| assert_eq!(used_by(stat), millis.map(Duration::from_millis), "{stat}");
        check("1 (tollgate) S 0 1 1 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 77 0 0", Some(3_000));
        check("1 (a) b) c) S 0 1 1 0 -1 4194560 9 0 0 0 1 0 0 0 20", Some(10));
        check("1 (tollgate) S 0 1", None);
        assert!(used().is_ok());
    }
}
