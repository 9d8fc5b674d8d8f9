//! The time limits of one worker, checked by one coarse sweep.
//!
//! A proxy sets and clears several limits a request and almost none of them ever fires. So setting one
//! is a single store: no clock is read, no timer is registered. The sweep looks at every limit once a
//! tick, notes when it first saw a setting, and wakes the owner of one that has stood too long. A limit
//! therefore fires up to two ticks late and never early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

use crate::clock;
use crate::pace::{Pace, Stalled, Terms};

/// How often the limits of a worker are looked at.
pub const TICK: Duration = Duration::from_millis(50);

const OFF: u64 = 0;
const EXPIRED: u64 = LIMIT_MASK;
const LIMIT_MASK: u64 = u32::MAX as u64 >> 1;
/// Beside the limit: it is of a connection that waits for nothing.
const IDLE: u64 = 1 << 31;

/// A limit that can be set, cleared and waited for. Clones are the same limit.
#[derive(Debug, Clone)]
pub struct Deadline(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    /// Upper half: a count of settings, so that the sweep sees a new one. Lower half: `IDLE` or not, and the limit
    /// in milliseconds, `OFF` or `EXPIRED`.
    setting: AtomicU64,
    waker: AtomicWaker,
}

impl Deadline {
    /// Starts the limit anew from now. It has one setter at a time; a limit over 24 days is cut to that.
    pub fn arm(&self, limit: Duration) {
        self.set(self.count().wrapping_add(1), 0, limit);
    }

    /// The same for a connection on which nothing is under way; the sweep may have to cut it short.
    pub fn arm_idle(&self, limit: Duration) {
        self.set(self.count().wrapping_add(1), IDLE, limit);
    }

    /// Counts on towards the limit from where it was disarmed; it begins anew by `arm` alone.
    pub fn resume(&self, limit: Duration) {
        self.set(self.count(), 0, limit);
    }

    fn count(&self) -> u64 {
        self.0.setting.load(Ordering::Relaxed) >> 32
    }

    fn set(&self, count: u64, kind: u64, limit: Duration) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).clamp(1, EXPIRED - 1);
        self.0.setting.store(count << 32 | kind | limit_ms, Ordering::Release);
    }

    pub fn disarm(&self) {
        let setting = self.0.setting.load(Ordering::Relaxed);
        self.0.setting.store(setting & !LIMIT_MASK | OFF, Ordering::Release);
    }

    pub fn is_armed(&self) -> bool {
        let limit = self.0.setting.load(Ordering::Relaxed) & LIMIT_MASK;
        limit != OFF && limit != EXPIRED
    }

    pub fn is_expired(&self) -> bool {
        self.0.setting.load(Ordering::Acquire) & LIMIT_MASK == EXPIRED
    }

    /// Ready once the limit has passed; it stays so until it is armed or disarmed.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.is_expired() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready once a peer that is waited for has been too slow for too long; `moved` says how much it has moved in all.
    /// The limit runs in steps of these terms, and is armed or resumed by who begins to wait.
    pub fn poll_stalled(
        &self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        terms: &Terms,
        mut moved: impl FnMut() -> i64,
    ) -> Poll<Stalled> {
        loop {
            ready!(self.poll_expired(cx));
            if let Err(stalled) = pace.look(moved(), terms.step(), terms) {
                return Poll::Ready(stalled);
            }
            self.arm(terms.step());
        }
    }

    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }
}

/// Every limit of one worker.
#[derive(Debug)]
pub struct Sweep {
    tracked: RefCell<Vec<Tracked>>,
    idle_max: Cell<Option<Duration>>,
    /// Limits of idle connections that were cut short since somebody asked.
    cut_short: Cell<u64>,
    last_tick: Cell<Instant>,
}

#[derive(Debug)]
struct Tracked {
    entry: Arc<Entry>,
    seen: u64,
    /// For how long it has stood, in all since it was armed.
    stood: Duration,
}

impl Sweep {
    pub fn new() -> Rc<Self> {
        let (idle_max, last_tick) = (Cell::new(None), Cell::new(clock::now()));
        Rc::new(Self { tracked: RefCell::default(), idle_max, cut_short: Cell::new(0), last_tick })
    }

    /// A new limit, off. It leaves the sweep with its last clone.
    pub fn deadline(&self) -> Deadline {
        let entry = Arc::new(Entry { setting: AtomicU64::new(OFF), waker: AtomicWaker::new() });
        let tracked = Tracked { entry: Arc::clone(&entry), seen: OFF, stood: Duration::ZERO };
        self.tracked.borrow_mut().push(tracked);
        Deadline(entry)
    }

    /// The time, to a tick, without a look at a clock.
    pub fn last_tick(&self) -> Instant {
        self.last_tick.get()
    }

    /// Idle connections have no longer than this from now on, those that are idle already too. None: as long as they
    /// were given.
    pub fn limit_idle(&self, limit: Option<Duration>) {
        self.idle_max.set(limit);
    }

    /// How many have had less time than they were given, since this was asked last.
    pub fn take_cut_short(&self) -> u64 {
        self.cut_short.take()
    }

    /// Looks at the limits once a tick and does what else is due then, until there are no more ticks. One timer serves all: on
    /// a quiet machine waking up is most of what a worker costs.
    pub async fn run(&self, mut tick: impl AsyncFnMut() -> io::Result<()>, also: impl Fn()) -> io::Result<()> {
        loop {
            tick().await?;
            let now = clock::now();
            also();
            let passed = now.saturating_duration_since(self.last_tick.replace(now));
            let idle_max = self.idle_max.get();
            self.tracked.borrow_mut().retain_mut(|tracked| {
                if tracked.check(passed, idle_max) == Some(Fired::CutShort) {
                    self.cut_short.update(|count| count + 1);
                }
                Arc::strong_count(&tracked.entry) > 1
            });
        }
    }
}

/// How a limit came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fired {
    InTime,
    /// Before its own time, because idle connections have less of it for now.
    CutShort,
}

impl Tracked {
    /// None as long as it runs.
    fn check(&mut self, passed: Duration, idle_max: Option<Duration>) -> Option<Fired> {
        let setting = self.entry.setting.load(Ordering::Acquire);
        let limit_ms = setting & LIMIT_MASK;
        let seen = std::mem::replace(&mut self.seen, setting);
        if setting >> 32 != seen >> 32 {
            self.stood = Duration::ZERO;
            return None;
        }
        // One that was set since the last tick has not stood for all of it.
        if setting != seen || limit_ms == OFF || limit_ms == EXPIRED {
            return None;
        }
        let own = Duration::from_millis(limit_ms);
        let limit = idle_max.filter(|_| setting & IDLE != 0).map_or(own, |idle_max| own.min(idle_max));
        self.stood += passed;
        if self.stood < limit {
            return None;
        }
        // A setting made meanwhile wins: the exchange fails and the next tick sees it.
        let expired = setting & !LIMIT_MASK | EXPIRED;
        self.entry.setting.compare_exchange(setting, expired, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.entry.waker.wake();
        Some(if self.stood < own { Fired::CutShort } else { Fired::InTime })
    }
}

/// Runs a test beside a sweep, as a worker runs its connections.
#[cfg(test)]
pub async fn with_sweep<T>(test: impl AsyncFnOnce(Rc<Sweep>) -> T) -> T {
    let sweep = Sweep::new();
    // Of the runtime's clock, which tests pause.
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let tick = async || {
        ticks.tick().await;
        Ok(())
    };
    tokio::select! {
        _ = sweep.run(tick, || ()) => unreachable!("a sweep never ends"),
        result = test(Rc::clone(&sweep)) => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_armed_limit_fires_after_its_time_and_never_before() {
        with_sweep(async |sweep| {
            let deadline = sweep.deadline();
            let start = Instant::now();
            deadline.arm(Duration::from_millis(200));
            deadline.expired().await;
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(200) && took <= Duration::from_millis(200) + 2 * TICK, "{took:?}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn arming_again_starts_anew_and_disarming_ends_it() {
        with_sweep(async |sweep| {
            let deadline = sweep.deadline();
            for _ in 0..10 {
                deadline.arm(Duration::from_millis(200));
                tokio::time::sleep(Duration::from_millis(150)).await;
                assert!(!deadline.is_expired());
            }
            deadline.disarm();
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(!deadline.is_expired());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_resumed_counts_on() {
        with_sweep(async |sweep| {
            let (deadline, limit) = (sweep.deadline(), Duration::from_millis(200));
            for _ in 0..2 {
                let mut stood = Duration::ZERO;
                while !deadline.is_expired() {
                    deadline.resume(limit);
                    tokio::time::sleep(Duration::from_millis(120)).await;
                    stood += Duration::from_millis(120);
                    if !deadline.is_expired() {
                        deadline.disarm();
                        tokio::time::sleep(Duration::from_secs(10)).await;
                    }
                }
                assert!(stood >= limit && stood <= 3 * limit, "{stood:?}");
                deadline.arm(limit);
                deadline.disarm();
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn idle_limits_can_be_cut_short() {
        with_sweep(async |sweep| {
            let (idle, busy) = (sweep.deadline(), sweep.deadline());
            idle.arm_idle(Duration::from_secs(15));
            busy.arm(Duration::from_secs(15));
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(!idle.is_expired() && idle.is_armed());
            sweep.limit_idle(Some(Duration::from_secs(1)));
            tokio::time::sleep(2 * TICK).await;
            assert!(idle.is_expired() && !busy.is_expired());
            sweep.limit_idle(None);
            idle.arm_idle(Duration::from_secs(15));
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(!idle.is_expired());
            idle.disarm();
            assert!(!idle.is_armed());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_limit_leaves_the_sweep() {
        with_sweep(async |sweep| {
            let deadline = sweep.deadline();
            deadline.arm(Duration::from_secs(1));
            drop(deadline);
            tokio::time::sleep(2 * TICK).await;
            assert!(sweep.tracked.borrow().is_empty());
        })
        .await;
    }
}
