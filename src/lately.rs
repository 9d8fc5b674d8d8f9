//! Signs of the health report that are looked at every few seconds: so that it tells of now and not of all the time since the
//! start, and so that nobody who asks for it waits for a disk. How a sign is, is judged elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::LogTarget;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::ShortSum;
use crate::worker::Shared;
use crate::{clock, machine};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What was counted longer ago is no news.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Lately {
    /// The share of its processors that the process has used.
    pub processors: Asked<f64>,
    /// What the log had lost in all, at the last looks.
    lost: RefCell<VecDeque<(Instant, u64)>>,
    /// What lookups of the cache had taken in all, at the last looks.
    lookups: RefCell<VecDeque<(Instant, ShortSum)>>,
    pub disk: Asked<Share>,
    pub memory: Asked<Share>,
    pub descriptors: Asked<Share>,
}

/// How much is used, and how much there may be; None where the system does not say it.
pub type Share = (Option<u64>, Option<u64>);

/// What the kernel is asked again and again, on a thread that may block: a disk that is gone can hold who asks for it for
/// ever. It is asked one thing at a time, so that such a disk holds one thread, however many want to know.
pub struct Asked<T>(Rc<Answers<T>>);

struct Answers<T> {
    last: Cell<Option<(T, Instant, Duration)>>,
    /// When it was asked what is not answered yet.
    waiting: Cell<Option<Instant>>,
}

/// What was found, how long ago, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<T> {
    pub found: T,
    pub age: Duration,
    pub took: Duration,
}

/// How a question stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing<T> {
    pub last: Option<Answer<T>>,
    /// How long the answer to the question after that one is waited for.
    pub waiting: Option<Duration>,
}

impl Lately {
    /// Looks again and again, for as long as it is polled. `file` is that of the configuration.
    pub async fn watch(self: Rc<Self>, shared: Shared, log: AccessLog, file: PathBuf) {
        let (mut at, mut used) = (clock::now(), machine::processor_time());
        self.begin(at);
        loop {
            self.note_lost(at, log.dropped());
            self.note_lookups(at, shared.cache.lookup_times());
            self.ask_kernel(&shared, &file);
            tokio::time::sleep(LOOK_EVERY).await;
            let (before, had) = (std::mem::replace(&mut at, clock::now()), used);
            used = machine::processor_time();
            if let Some(spent) = used.zip(had).map(|(used, had)| used.saturating_sub(had)) {
                self.processors.answer(at, share(spent, at.duration_since(before), machine::processors()));
            }
        }
    }

    /// The process counts from nothing, and what came before the first look is news too.
    fn begin(&self, now: Instant) {
        self.note_lost(now, 0);
        self.note_lookups(now, ShortSum::default());
    }

    fn ask_kernel(&self, shared: &Shared, file: &Path) {
        // The disk that the access log grows on, or else the one with the configuration.
        let file = match &shared.live.load().config.log.access.target {
            LogTarget::File(path) => path.clone(),
            LogTarget::Off | LogTarget::Stdout | LogTarget::Stderr => file.to_owned(),
        };
        self.disk.ask(move || {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            machine::disk(folder).unzip()
        });
        self.memory.ask(|| (machine::memory(), machine::memory_limit()));
        self.descriptors.ask(|| (machine::descriptors(), machine::descriptors_limit()));
    }

    /// Lines that were lost within the last minute, of `all` until now.
    pub fn lines_lost(&self, all: u64) -> u64 {
        let before = self.lost.borrow().front().map_or(0, |(_, count)| *count);
        all.saturating_sub(before)
    }

    /// What lookups took within the last minute, of `all` until now. None: it cannot be told, since routes are gone.
    pub fn lookups(&self, all: &ShortSum) -> Option<ShortSum> {
        let lookups = self.lookups.borrow();
        lookups.front().map_or(Some(*all), |(_, before)| all.since(before))
    }

    fn note_lookups(&self, now: Instant, all: ShortSum) {
        let mut lookups = self.lookups.borrow_mut();
        // What routes counted went with them, and it begins anew.
        if lookups.back().is_some_and(|(_, before)| all.since(before).is_none()) {
            lookups.clear();
        }
        lookups.retain(|(at, _)| now.duration_since(*at) < WINDOW);
        lookups.push_back((now, all));
    }

    fn note_lost(&self, now: Instant, all: u64) {
        let mut lost = self.lost.borrow_mut();
        lost.retain(|(at, _)| now.duration_since(*at) < WINDOW);
        lost.push_back((now, all));
    }
}

impl<T: Copy + Send + 'static> Asked<T> {
    /// Asks, unless an answer is still waited for. It takes a `LocalSet`.
    fn ask(&self, look: impl FnOnce() -> T + Send + 'static) {
        if self.0.waiting.get().is_some() {
            return;
        }
        let (asked, begun) = (Self(Rc::clone(&self.0)), clock::now());
        self.0.waiting.set(Some(begun));
        tokio::task::spawn_local(async move {
            match tokio::task::spawn_blocking(look).await {
                Ok(found) => asked.answer(begun, found),
                Err(error) => tracing::error!("a look at the machine failed: {error}"),
            }
            asked.0.waiting.set(None);
        });
    }

    /// What was found by who began to look then.
    fn answer(&self, begun: Instant, found: T) {
        let now = clock::now();
        self.0.last.set(Some((found, now, now.duration_since(begun))));
    }

    pub fn standing(&self, now: Instant) -> Standing<T> {
        let waiting = self.0.waiting.get().map(|since| now.duration_since(since));
        let last = self.0.last.get();
        let last = last.map(|(found, at, took)| Answer { found, age: now.duration_since(at), took });
        Standing { last, waiting }
    }
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Rc::new(Answers { last: Cell::new(None), waiting: Cell::new(None) }))
    }
}

fn share(spent: Duration, of: Duration, processors: usize) -> f64 {
    let all = of.as_secs_f64() * processors as f64;
    if all > 0.0 { spent.as_secs_f64() / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use tokio::task::LocalSet;

    use super::*;
    use crate::telemetry::metrics::ShortTimes;

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

    #[tokio::test(start_paused = true)]
    async fn what_came_before_the_first_look_is_news() {
        let lately = Lately::default();
        let begin = clock::now();
        let slow = lookups(&[(1, Duration::from_millis(60))]);
        let told = || (lately.lines_lost(3), lately.lookups(&slow).and_then(|sum| sum.mean()));
        lately.begin(begin);
        for (seconds, expected) in [(0, (3, Some(Duration::from_millis(60)))), (61, (0, None))] {
            let at = begin + Duration::from_secs(seconds);
            lately.note_lost(at, 3);
            lately.note_lookups(at, slow);
            assert_eq!(told(), expected, "{seconds}");
        }
    }

    fn lookups(times: &[(u32, Duration)]) -> ShortSum {
        let counted = ShortTimes::default();
        times.iter().for_each(|(count, time)| (0..*count).for_each(|_| counted.count(*time)));
        let mut sum = ShortSum::default();
        sum.add(&counted);
        sum
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_are_those_of_a_minute_each_counted_once() {
        let lately = Lately::default();
        let (begin, us, ms) = (clock::now(), Duration::from_micros, Duration::from_millis);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mean = |all: &ShortSum| lately.lookups(all).and_then(|sum| sum.mean());
        let quick = lookups(&[(1_000, us(1))]);
        assert_eq!(mean(&quick), Some(us(1)), "before the first look all of them are new");
        lately.note_lookups(at(0), quick);
        assert_eq!(mean(&quick), None);
        // What has become slow shows, however many were quick before; and of the slow and the quick, each has its weight.
        assert_eq!(mean(&lookups(&[(1_000, us(1)), (10, ms(60))])), Some(ms(60)));
        let mixed = lookups(&[(1_030, us(1)), (10, us(5))]);
        assert_eq!(mean(&mixed), Some(us(2)));
        lately.note_lookups(at(5), mixed);
        assert_eq!(mean(&mixed), Some(us(2)));
        lately.note_lookups(at(61), mixed);
        assert_eq!(mean(&mixed), None);
        // A route has gone with its counts.
        let rest = lookups(&[(30, us(1))]);
        assert_eq!(mean(&rest), None);
        lately.note_lookups(at(66), rest);
        assert_eq!(mean(&lookups(&[(30, us(1)), (1, ms(60))])), Some(ms(60)));
    }

    /// As a disk that is gone: who wants to know neither waits nor takes another thread.
    #[tokio::test]
    async fn a_look_that_hangs_is_waited_for_by_one_thread() {
        let asked = Asked::<u64>::default();
        let looks = Arc::new(AtomicU32::new(0));
        let (answer, held) = mpsc::channel();
        let mut held = Some(held);
        LocalSet::new()
            .run_until(async {
                asked.ask(|| 7);
                let last = async || loop {
                    match asked.standing(clock::now()) {
                        Standing { last: Some(Answer { found, .. }), waiting: None } => return found,
                        _ => tokio::task::yield_now().await,
                    }
                };
                assert_eq!(last().await, 7);
                for _ in 0..1_000 {
                    let (looks, held) = (Arc::clone(&looks), held.take());
                    asked.ask(move || {
                        looks.fetch_add(1, Ordering::Relaxed);
                        held.and_then(|held| held.recv().ok()).unwrap_or(0)
                    });
                }
                let later = asked.standing(clock::now() + Duration::from_secs(60));
                assert_eq!(later.last.map(|answer| answer.found), Some(7), "what was found last stays");
                assert!(later.waiting >= Some(Duration::from_secs(60)), "{later:?}");
                answer.send(8).unwrap();
                assert_eq!(last().await, 8);
                assert_eq!(looks.load(Ordering::Relaxed), 1);
            })
            .await;
    }
}
