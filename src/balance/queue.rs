//! How much an upstream and its endpoints are given at a time, and the line of requests that wait for room.
//!
//! A [`Queue`] belongs to the upstream by its name: all workers share it, and all generations. It counts, and it wakes
//! who is first. Whether there is an endpoint for him is decided in [`choice`](super::choice), by himself, in his own
//! turn; so no place is ever held for somebody who has left.
//!
//! No wake-up is lost: who waits is in the line before he looks again, who gives a place back does so before he looks
//! at the line, and all four of these are in one order (`SeqCst`). Who leaves the line, for whatever reason, wakes the
//! next one, because two places that are given back at once wake the first one once.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::clock;
use crate::config;
use crate::lock::lock;
use crate::overload::crowd::Use;

/// The caps of an upstream, what is in flight there, and who waits.
#[derive(Debug, Default)]
pub struct Queue {
    /// 0 is no cap, as in the two fields of the configuration.
    requests_max: AtomicUsize,
    endpoint_requests_max: AtomicUsize,
    /// Of whom the caps are: a number that grows with each generation.
    generation: AtomicU64,
    /// How many are in the line; read wherever a place is given back.
    waiting: AtomicUsize,
    /// Requests that began while there was a cap of the upstream.
    in_flight: AtomicUsize,
    line: Mutex<Line>,
    waited: AtomicU64,
    waited_us: AtomicU64,
    full: AtomicU64,
    timed_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// By number: the first has the smallest.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The place of one request in the line, until it is dropped.
#[derive(Debug)]
pub struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
    woken: Arc<Notify>,
    since: Instant,
}

/// There are as many in the line as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineFull;

impl Queue {
    /// What the caps of a new generation are, and its number. Who waits looks again: there may be room now.
    pub(super) fn set_caps(&self, upstream: &config::Upstream) -> u64 {
        self.requests_max.store(upstream.requests_max, SeqCst);
        self.endpoint_requests_max.store(upstream.endpoint_requests_max, SeqCst);
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        self.wake();
        generation
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    pub(super) fn endpoint_requests_max(&self) -> usize {
        self.endpoint_requests_max.load(SeqCst)
    }

    /// How many of the places at an endpoint are taken.
    pub fn in_use_at(&self, endpoint: &Endpoint) -> Use {
        Use { used: endpoint.with_place(), max: self.endpoint_requests_max() }
    }

    /// Whether anything is capped.
    pub fn has_caps(&self) -> bool {
        self.requests_max.load(Relaxed) != 0 || self.endpoint_requests_max.load(Relaxed) != 0
    }

    /// Whether one more may be in flight at the upstream.
    pub fn has_room(&self) -> bool {
        let max = self.requests_max.load(SeqCst);
        max == 0 || self.in_flight.load(SeqCst) < max
    }

    /// Counts a request at the upstream, if that has a cap: then true, and [`Queue::leave`] is owed. None: it is full.
    pub(super) fn enter(&self) -> Option<bool> {
        let max = self.requests_max.load(SeqCst);
        if max == 0 {
            return Some(false);
        }
        let taken = self.in_flight.fetch_update(SeqCst, SeqCst, |count| (count < max).then_some(count + 1));
        taken.is_ok().then_some(true)
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }

    /// Who comes while others wait is not served before them.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Wakes who is first, if there is somebody: a place was given back, or an endpoint has come.
    pub(super) fn wake(&self) {
        if !self.is_empty() {
            self.wake_first();
        }
    }

    #[cold]
    fn wake_first(&self) {
        if let Some((_, first)) = lock(&self.line).waiting.first_key_value() {
            first.notify_one();
        }
    }

    /// Puts a request at the end of the line, in which there may be `max`.
    pub fn join(&self, max: usize) -> Result<Ticket<'_>, LineFull> {
        let ticket = {
            let mut line = lock(&self.line);
            if line.waiting.len() >= max {
                self.full.fetch_add(1, Relaxed);
                return Err(LineFull);
            }
            let (number, woken) = (line.next, Arc::new(Notify::new()));
            line.next += 1;
            line.waiting.insert(number, Arc::clone(&woken));
            self.waiting.store(line.waiting.len(), SeqCst);
            Ticket { queue: self, number, woken, since: clock::now() }
        };
        // The look again of who has just joined. It is for the first to take it.
        self.wake_first();
        Ok(ticket)
    }

    /// Counts a request that is refused because there is no line to wait in.
    pub fn count_full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    pub fn count_timed_out(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    pub fn status(&self) -> QueueStatus {
        let max = |max: &AtomicUsize| Some(max.load(Relaxed)).filter(|max| *max != 0);
        QueueStatus {
            requests_max: max(&self.requests_max),
            endpoint_requests_max: max(&self.endpoint_requests_max),
            waiting: self.waiting.load(Relaxed),
            waited: self.waited.load(Relaxed),
            waited_s: self.waited_us.load(Relaxed) as f64 / 1e6,
            full: self.full.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
        }
    }
}

impl Ticket<'_> {
    /// Ready when it is worth to look for an endpoint: at the first time after the request has become the first, or
    /// after [`Ticket::pass_on`] of the one before.
    pub async fn turn(&self) {
        self.woken.notified().await;
    }

    pub fn is_first(&self) -> bool {
        lock(&self.queue.line).waiting.first_key_value().is_some_and(|(first, _)| *first == self.number)
    }

    /// What is free is of no use for this request; the next one may look.
    pub fn pass_on(&self) {
        let line = lock(&self.queue.line);
        if let Some((_, next)) = line.waiting.range((Excluded(self.number), Unbounded)).next() {
            next.notify_one();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let waited = clock::now().saturating_duration_since(self.since);
        self.queue.waited.fetch_add(1, Relaxed);
        self.queue.waited_us.fetch_add(waited.as_micros() as u64, Relaxed);
        let mut line = lock(&self.queue.line);
        line.waiting.remove(&self.number);
        self.queue.waiting.store(line.waiting.len(), SeqCst);
        if let Some((_, first)) = line.waiting.first_key_value() {
            first.notify_one();
        }
    }
}

/// The caps and the line of an upstream, as metrics and the status page show them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueStatus {
    /// None: there is no cap.
    pub requests_max: Option<usize>,
    pub endpoint_requests_max: Option<usize>,
    pub waiting: usize,
    /// Requests that have waited, however it ended, and how long they did in sum.
    pub waited: u64,
    pub waited_s: f64,
    /// Requests that were refused because there was no place in the line either.
    pub full: u64,
    /// Requests that were refused because they had waited for too long.
    pub timed_out: u64,
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn the_first_is_woken_and_who_leaves_wakes_the_next() {
        let queue = Queue::default();
        queue.wake();
        let (first, second, third) = (queue.join(3).unwrap(), queue.join(3).unwrap(), queue.join(3).unwrap());
        assert_eq!(queue.join(3).unwrap_err(), LineFull);
        // Whoever joins has the first look again.
        assert!(poll!(pin!(first.turn())).is_ready());
        let (mut one, mut two, mut three) = (pin!(first.turn()), pin!(second.turn()), pin!(third.turn()));
        assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending() && poll!(&mut three).is_pending());
        queue.wake();
        assert!(poll!(&mut two).is_pending() && poll!(&mut one).is_ready());
        first.pass_on();
        assert!(poll!(&mut three).is_pending() && poll!(&mut two).is_ready());
        second.pass_on();
        assert!(poll!(&mut three).is_ready());
        third.pass_on();
    }

    #[tokio::test]
    async fn a_wake_up_is_not_lost_with_who_had_it() {
        let queue = Queue::default();
        let (first, second) = (queue.join(2).unwrap(), queue.join(2).unwrap());
        queue.wake();
        drop(first);
        assert!(poll!(pin!(second.turn())).is_ready());
        drop(second);
        assert!(queue.is_empty());
        assert_eq!(queue.status().full, 0);
    }
}
