//! How far a long command is, as a line on stderr now and then.

use std::time::{Duration, Instant};

use crate::say;

const INTERVAL: Duration = Duration::from_secs(1);

pub struct Progress {
    what: &'static str,
    count: u32,
    begin: Instant,
    next: Instant,
}

impl Progress {
    pub fn new(what: &'static str, count: u32) -> Self {
        let begin = Instant::now();
        Self { what, count, begin, next: begin + INTERVAL }
    }

    /// Says so if the last time was a while ago, or if that is all.
    pub fn at(&mut self, done: u32) {
        let now = Instant::now();
        if done < self.count && now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let percent = u64::from(done) * 100 / u64::from(self.count.max(1));
        let seconds = now.duration_since(self.begin).as_secs_f64();
        say(format_args!("{}: {done} of {} ({percent} %) after {seconds:.1} s", self.what, self.count));
    }
}
