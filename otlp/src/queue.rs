//! Spans on their way: bounded, and never a wait for the side that adds; and the count of what became of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::span::Span;

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
    max: usize,
    batch_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Span>,
    /// Taken and not yet dealt with.
    taken: usize,
    is_closed: bool,
}

impl Queue {
    pub fn new(max: usize, batch_max: usize, counts: Arc<Counts>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), counts, max, batch_max }
    }

    /// Adds spans, or counts those for which there is no room.
    pub fn push(&self, spans: impl IntoIterator<Item = Span>) {
        let mut state = self.lock();
        let before = state.waiting.len();
        let (mut full, mut ended) = (0, 0);
        for span in spans {
            if state.is_closed {
                ended += 1;
            } else if state.waiting.len() + state.taken >= self.max {
                full += 1;
            } else {
                state.waiting.push(span);
            }
        }
        // Else it goes with the next, by time; the other side is not woken for each.
        let is_whole = before < self.batch_max && state.waiting.len() >= self.batch_max;
        drop(state);
        if is_whole {
            self.changed.notify_one();
        }
        for (why, spans) in [(Dropped::QueueFull, full), (Dropped::Ended, ended)] {
            if spans > 0 {
                self.counts.count_dropped(why, spans);
            }
        }
    }

    pub(crate) fn has_batch(&self) -> bool {
        self.lock().waiting.len() >= self.batch_max
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes all there is, in exchange for room.
    pub(crate) fn take(&self, into: &mut Vec<Span>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.waiting, into);
        state.taken += into.len();
    }

    /// So many of those that were taken are dealt with.
    pub(crate) fn done(&self, spans: usize) {
        let mut state = self.lock();
        state.taken = state.taken.saturating_sub(spans);
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Counts what is left, when nobody will take it any more.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.waiting).len() + std::mem::take(&mut state.taken);
        drop(state);
        self.counts.count_dropped(Dropped::Ended, left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No section leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let counts = Arc::<Counts>::default();
        let queue = Queue::new(3, 2, Arc::clone(&counts));
        let spans = |count| std::iter::repeat_with(Span::default).take(count);
        queue.push(spans(1));
        assert!(!queue.has_batch());
        queue.push(spans(4));
        assert!(queue.has_batch());
        assert_eq!(counts.dropped(Dropped::QueueFull), 2);
        let mut taken = Vec::new();
        queue.take(&mut taken);
        assert_eq!(taken.len(), 3);
        // What is on its way still counts.
        queue.push(spans(1));
        assert_eq!(counts.dropped(Dropped::QueueFull), 3);
        queue.done(2);
        queue.push(spans(3));
        assert_eq!(counts.dropped(Dropped::QueueFull), 4);
        queue.close();
        queue.push(spans(1));
        assert_eq!(counts.dropped(Dropped::Ended), 1);
        queue.give_up();
        assert_eq!(counts.dropped(Dropped::Ended), 4);
    }
}
