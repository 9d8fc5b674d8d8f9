//! How much of its processors the process has used of late, and how many lines the log has lost: looked at every few
//! seconds, so that a health report tells of now and not of all the time since the start.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::access_log::AccessLog;
use crate::{clock, machine};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Lines that were lost longer ago are no news.
const LOG_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Lately {
    processors: Cell<Option<f64>>,
    /// What the log had lost in all, at the last looks.
    lost: RefCell<VecDeque<(Instant, u64)>>,
}

impl Lately {
    /// Looks again and again, for as long as it is polled.
    pub async fn watch(self: Rc<Self>, log: AccessLog) {
        let (mut at, mut used) = (clock::now(), machine::processor_time());
        loop {
            self.note_lost(at, log.dropped());
            tokio::time::sleep(LOOK_EVERY).await;
            let (before, had) = (std::mem::replace(&mut at, clock::now()), used);
            used = machine::processor_time();
            let spent = used.zip(had).map(|(used, had)| used.saturating_sub(had));
            self.processors.set(spent.map(|spent| share(spent, at.duration_since(before), machine::processors())));
        }
    }

    /// The share of its processors that the process has used; None until it is known.
    pub fn processors(&self) -> Option<f64> {
        self.processors.get()
    }

    /// Lines that were lost within the last minute, of `all` until now.
    pub fn lines_lost(&self, all: u64) -> u64 {
        let before = self.lost.borrow().front().map_or(0, |(_, count)| *count);
        all.saturating_sub(before)
    }

    fn note_lost(&self, now: Instant, all: u64) {
        let mut lost = self.lost.borrow_mut();
        lost.retain(|(at, _)| now.duration_since(*at) < LOG_WINDOW);
        lost.push_back((now, all));
    }
}

fn share(spent: Duration, of: Duration, processors: usize) -> f64 {
    let all = of.as_secs_f64() * processors as f64;
    if all > 0.0 { spent.as_secs_f64() / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_processors() {
        let s = Duration::from_secs;
        for (spent, of, processors, expected) in [(5, 5, 1, 1.0), (5, 5, 2, 0.5), (0, 5, 2, 0.0), (5, 0, 2, 0.0)] {
            assert_eq!(share(s(spent), s(of), processors), expected, "{spent} of {of} on {processors}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_news_for_a_minute() {
        let lately = Lately::default();
        let begin = clock::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(lately.lines_lost(3), 3);
        lately.note_lost(at(0), 0);
        lately.note_lost(at(5), 7);
        assert_eq!((lately.lines_lost(7), lately.lines_lost(9)), (7, 9));
        lately.note_lost(at(61), 7);
        assert_eq!((lately.lines_lost(7), lately.lines_lost(8)), (0, 1));
    }
}
