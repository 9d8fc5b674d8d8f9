//! The log as it comes, for operators who follow it: lines in JSON, whatever the format and the target of the log are.
//!
//! While nobody follows, a request costs one look at a flag. Who follows has a queue with a bound; one that is slow to
//! read loses lines, which are counted for him, and holds up nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::filter::Wanted;
use super::format::{Entry, Formatter};
use crate::clock::Wall;

/// Who may follow at a time. Each costs every request that he wants to see a line.
const FOLLOWERS_MAX: usize = 4;
/// Lines that wait for one follower, at most, and their bytes: a line may be as long as a head.
const LINES_MAX: usize = 4096;
const QUEUED_BYTES_MAX: usize = 4 << 20;
/// What is handed over at once.
const HANDED_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Live {
    is_followed: AtomicBool,
    followers: ArcSwap<Vec<Arc<Follower>>>,
}

#[derive(Debug)]
struct Follower {
    wanted: Wanted,
    lines: mpsc::Sender<Bytes>,
    queued_bytes: AtomicUsize,
    /// Since it was looked at last.
    has_taken: AtomicBool,
    lost: AtomicU64,
}

/// The lines that one follower wanted to see.
#[derive(Debug)]
pub struct Following {
    live: Arc<Live>,
    follower: Arc<Follower>,
    lines: mpsc::Receiver<Bytes>,
}

/// Whether a follower still reads.
#[derive(Debug, Default)]
pub struct Reading(Weak<Follower>);

impl Reading {
    /// Whether he has taken something since the last look, or there was nothing to take. A follower who has left does not.
    pub fn goes_on(&self) -> bool {
        self.0.upgrade().is_some_and(|follower| {
            follower.has_taken.swap(false, Ordering::Relaxed) || follower.queued_bytes.load(Ordering::Relaxed) == 0
        })
    }
}

impl Live {
    /// None: there are too many already.
    pub fn follow(self: &Arc<Self>, wanted: Wanted) -> Option<Following> {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let follower = Arc::new(Follower {
            wanted,
            lines: sender,
            queued_bytes: AtomicUsize::new(0),
            has_taken: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        // It may be tried more than once.
        let before = self.followers.rcu(|followers| {
            let mut followers = Vec::clone(followers);
            if followers.len() < FOLLOWERS_MAX {
                followers.push(Arc::clone(&follower));
            }
            followers
        });
        if before.len() >= FOLLOWERS_MAX {
            return None;
        }
        self.is_followed.store(true, Ordering::Release);
        Some(Following { live: Arc::clone(self), follower, lines })
    }

    pub fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::Relaxed)
    }

    /// Makes the line once, for all who want it.
    pub fn offer(&self, entry: &Entry<'_>, formatter: &Formatter, wall: &Wall) {
        let mut line: Option<Bytes> = None;
        for follower in self.followers.load().iter().filter(|follower| follower.wanted.takes(entry)) {
            let line = line.get_or_insert_with(|| formatter.json_line(entry, wall).into());
            follower.offer(line);
        }
    }

    fn leave(&self, follower: &Arc<Follower>) {
        self.followers.rcu(|followers| {
            followers.iter().filter(|other| !Arc::ptr_eq(other, follower)).cloned().collect::<Vec<_>>()
        });
        if self.followers.load().is_empty() {
            self.is_followed.store(false, Ordering::Release);
            // One may have come in between.
            if !self.followers.load().is_empty() {
                self.is_followed.store(true, Ordering::Release);
            }
        }
    }
}

impl Follower {
    fn offer(&self, line: &Bytes) {
        let queued = self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if queued >= QUEUED_BYTES_MAX || self.lines.try_send(line.clone()).is_err() {
            self.forget(line);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn taken(&self, line: &Bytes) {
        self.has_taken.store(true, Ordering::Relaxed);
        self.forget(line);
    }

    fn forget(&self, line: &Bytes) {
        self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

impl Following {
    pub fn reading(&self) -> Reading {
        Reading(Arc::downgrade(&self.follower))
    }

    /// Whole lines, as many as there are at hand. Before those that come after a loss stands how many were lost.
    pub fn poll_lines(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Poll::Ready(Some(first)) = self.lines.poll_recv(cx) else { return Poll::Pending };
        let lost = self.follower.lost.swap(0, Ordering::Relaxed);
        let mut lines = if lost > 0 { format!("{{\"lost\":{lost}}}\n").into_bytes() } else { Vec::new() };
        self.follower.taken(&first);
        lines.extend_from_slice(&first);
        while lines.len() < HANDED_BYTES
            && let Ok(line) = self.lines.try_recv()
        {
            self.follower.taken(&line);
            lines.extend_from_slice(&line);
        }
        Poll::Ready(lines.into())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.live.leave(&self.follower);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{AccessFormat, AccessLog, LogTarget};
    use crate::telemetry::access_log::Filter;
    use crate::telemetry::access_log::testing::entry;

    fn offer(live: &Live, status: u16) {
        let config = AccessLog { format: AccessFormat::Combined, target: LogTarget::Off, redact: Vec::new() };
        let entry = Entry { status, ..entry() };
        live.offer(&entry, &Formatter::new(&config), &Clock::new().wall());
    }

    fn statuses(following: &mut Following) -> Vec<String> {
        let mut seen = Vec::new();
        while let Poll::Ready(lines) = following.poll_lines(&mut Context::from_waker(Waker::noop())) {
            let lines = String::from_utf8(lines.to_vec()).unwrap();
            seen.extend(lines.lines().map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line.get("lost").map_or_else(|| line["status"].to_string(), |lost| format!("lost {lost}"))
            }));
        }
        seen
    }

    fn wanted(status: &str) -> Wanted {
        Filter { status: vec![status.to_owned()], ..Filter::default() }.compile(super::super::testing::WORDS).unwrap()
    }

    #[test]
    fn each_sees_what_he_wants_as_long_as_he_follows() {
        let live = Arc::<Live>::default();
        assert!(!live.is_followed());
        let mut all = live.follow(Wanted::default()).unwrap();
        let mut failed = live.follow(wanted("5xx")).unwrap();
        assert!(live.is_followed());
        [200, 500, 404].into_iter().for_each(|status| offer(&live, status));
        assert_eq!(statuses(&mut all), ["200", "500", "404"]);
        assert_eq!(statuses(&mut failed), ["500"]);
        drop(all);
        assert!(live.is_followed());
        drop(failed);
        assert!(!live.is_followed());
    }

    #[test]
    fn who_is_slow_loses_lines_and_is_told() {
        let live = Arc::<Live>::default();
        let mut slow = live.follow(wanted("2xx")).unwrap();
        (0..LINES_MAX + 3).for_each(|_| offer(&live, 200));
        let seen = statuses(&mut slow);
        assert_eq!((seen.len(), seen[0].as_str()), (LINES_MAX + 1, "lost 3"));
        offer(&live, 204);
        assert_eq!(statuses(&mut slow), ["204"]);
    }

    #[test]
    fn who_does_not_read_is_told_from_who_has_nothing_to_read() {
        let live = Arc::<Live>::default();
        let mut following = live.follow(Wanted::default()).unwrap();
        let reading = following.reading();
        assert!(reading.goes_on() && reading.goes_on());
        offer(&live, 200);
        assert!(!reading.goes_on());
        statuses(&mut following);
        offer(&live, 200);
        assert!(reading.goes_on() && !reading.goes_on());
        drop(following);
        assert!(!reading.goes_on());
    }

    #[test]
    fn only_so_many_follow() {
        let live = Arc::<Live>::default();
        let mut all: Vec<_> = (0..FOLLOWERS_MAX).map(|_| live.follow(Wanted::default()).unwrap()).collect();
        assert!(live.follow(Wanted::default()).is_none());
        all.pop();
        assert!(live.follow(Wanted::default()).is_some());
    }
}
