//! Spans on their way: bounded, and never a wait for the side that adds; and the count of what became of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::span::Span;
use crate::wire::Wire;

/// As large as most are when they are written.
const SPAN_BYTES: usize = 1024;

/// Why a span is not at the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full: the collector is too slow, or not there.
    QueueFull,
    /// The collector could not be reached, or said no, more than once or for good.
    Failed,
    /// It took the message, and not all of its spans.
    Rejected,
    /// The exporter has ended.
    Ended,
}

impl Dropped {
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::Failed, Self::Rejected, Self::Ended];

    /// As a metric names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Ended => "ended",
        }
    }
}

/// What became of spans. One lives longer than the exporters that count in it.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counts {
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_exported(&self, spans: usize) {
        self.exported.fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, why: Dropped, spans: usize) {
        self.dropped[why as usize].fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// Spans that wait for an exporter.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// Told when a batch is whole, and at the end.
    pub(crate) changed: Notify,
    counts: Arc<Counts>,
    /// Spans that wait, that are taken and not yet dealt with, and that are being written.
    held: AtomicUsize,
    max: usize,
    batch_max: usize,
}

/// Spans for one message, as it has them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) spans: usize,
    pub(crate) message: Wire,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Taken and not yet dealt with.
    taken: usize,
    is_closed: bool,
}

impl Queue {
    pub fn new(max: usize, batch_max: usize, counts: Arc<Counts>) -> Self {
        let (state, changed, held) = (Mutex::default(), Notify::new(), AtomicUsize::new(0));
        Self { state, changed, counts, held, max, batch_max }
    }

    /// Adds a span, or counts it if there is no room.
    pub fn push(&self, span: &Span<'_>) {
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return self.counts.count_dropped(Dropped::QueueFull, 1);
        }
        // Beside the queue: others push as well.
        let mut message = Wire(Vec::with_capacity(SPAN_BYTES));
        span.write(&mut message);
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            self.held.fetch_sub(1, Ordering::Relaxed);
            return self.counts.count_dropped(Dropped::Ended, 1);
        }
        if state.waiting.back().is_none_or(|batch| batch.spans >= self.batch_max) {
            state.waiting.push_back(Batch::default());
        }
        let is_whole = state.waiting.back_mut().is_some_and(|batch| {
            batch.add(&message);
            batch.spans >= self.batch_max
        });
        drop(state);
        // Else it goes with the next, by time; the other side is not woken for each.
        if is_whole {
            self.changed.notify_one();
        }
    }

    pub(crate) fn has_batch(&self) -> bool {
        self.lock().waiting.front().is_some_and(|batch| batch.spans >= self.batch_max)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes all there is.
    pub(crate) fn take(&self) -> VecDeque<Batch> {
        let mut state = self.lock();
        let taken = std::mem::take(&mut state.waiting);
        state.taken += spans(&taken);
        taken
    }

    /// So many of those that were taken are dealt with.
    pub(crate) fn done(&self, spans: usize) {
        let mut state = self.lock();
        state.taken = state.taken.saturating_sub(spans);
        drop(state);
        self.held.fetch_sub(spans, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Counts what is left, when nobody will take it any more.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let left = spans(&std::mem::take(&mut state.waiting)) + std::mem::take(&mut state.taken);
        drop(state);
        self.held.fetch_sub(left, Ordering::Relaxed);
        self.counts.count_dropped(Dropped::Ended, left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No section leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Of `ScopeSpans`.
    const FIELD: u32 = 2;

    fn add(&mut self, span: &Wire) {
        self.spans += 1;
        self.message.bytes(Self::FIELD, &span.0);
    }
}

fn spans(batches: &VecDeque<Batch>) -> usize {
    batches.iter().map(|batch| batch.spans).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::testing::named;

    #[test]
    fn what_does_not_fit_is_counted() {
        let counts = Arc::<Counts>::default();
        let queue = Queue::new(3, 2, Arc::clone(&counts));
        let push = |count| (0..count).for_each(|_| queue.push(&named("x")));
        push(1);
        assert!(!queue.has_batch());
        push(4);
        assert!(queue.has_batch());
        assert_eq!(counts.dropped(Dropped::QueueFull), 2);
        let taken: Vec<_> = queue.take().iter().map(|batch| batch.spans).collect();
        assert_eq!(taken, [2, 1]);
        // What is on its way still counts.
        push(1);
        assert_eq!(counts.dropped(Dropped::QueueFull), 3);
        queue.done(2);
        push(3);
        assert_eq!(counts.dropped(Dropped::QueueFull), 4);
        queue.close();
        push(1);
        assert_eq!((counts.dropped(Dropped::QueueFull), counts.dropped(Dropped::Ended)), (5, 0));
        queue.done(1);
        push(1);
        assert_eq!(counts.dropped(Dropped::Ended), 1);
        queue.give_up();
        assert_eq!(counts.dropped(Dropped::Ended), 3);
        assert_eq!(queue.held.into_inner(), 0);
    }
}
