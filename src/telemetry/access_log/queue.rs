//! The way from the workers to the writer thread: bounded, and never a wait for the side that adds.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sink::Sink;
use crate::lock::lock;

/// Lines that wait to be written, over all workers, in bytes.
const QUEUED_BYTES_MAX: usize = 8 << 20;
/// Empty buffers kept for the next batch.
const SPARE_MAX: usize = 64;
/// A buffer that one huge line has grown beyond this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Whole lines for one sink.
#[derive(Debug)]
pub struct Batch {
    pub sink: Arc<Sink>,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Told when there is something to take, and when the queue is closed or has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    closed: bool,
    ended: bool,
}

impl Queue {
    /// Hands a batch over and gives an empty buffer back, or the batch itself if there is no room.
    pub fn push(&self, batch: Batch) -> Result<Vec<u8>, Batch> {
        let mut state = self.lock();
        if state.closed || state.bytes + batch.bytes.len() > QUEUED_BYTES_MAX {
            return Err(batch);
        }
        state.bytes += batch.bytes.len();
        state.batches.push_back(batch);
        let spare = state.spare.pop().unwrap_or_default();
        drop(state);
        self.changed.notify_all();
        Ok(spare)
    }

    /// Waits for batches and moves all of them to `into`; false once the queue is closed and empty.
    pub fn take(&self, into: &mut VecDeque<Batch>) -> bool {
        let mut state = self.lock();
        while state.batches.is_empty() {
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut state.batches, into);
        true
    }

    /// Makes room for what was taken, and keeps its buffer.
    pub fn written(&self, mut buffer: Vec<u8>) {
        let mut state = self.lock();
        state.bytes -= buffer.len();
        if state.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            state.spare.push(buffer);
        }
    }

    /// No batch is accepted from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Said by the taker: it will take no more.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the taker has ended; false if that takes longer than `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: Vec<u8>) -> Batch {
        Batch { sink: Arc::new(Sink::null()), bytes }
    }

    #[test]
    fn a_full_queue_refuses_until_something_is_written() {
        let queue = Queue::default();
        let half = vec![b'x'; QUEUED_BYTES_MAX / 2];
        assert!(queue.push(batch(half.clone())).is_ok());
        assert!(queue.push(batch(half.clone())).is_ok());
        assert_eq!(queue.push(batch(b"one more".to_vec())).unwrap_err().bytes, b"one more");

        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken.len(), 2);
        // Taken is not yet written: a writer that hangs in a write keeps its bytes counted.
        assert!(queue.push(batch(b"one more".to_vec())).is_err());
        queue.written(taken.pop_front().unwrap().bytes);
        assert!(queue.push(batch(b"one more".to_vec())).is_ok());
    }

    #[test]
    fn buffers_come_back_empty_and_huge_ones_do_not() {
        let queue = Queue::default();
        for (capacity, comes_back) in [(100, true), (SPARE_BYTES_MAX, true), (SPARE_BYTES_MAX + 1, false)] {
            let mut bytes = Vec::with_capacity(capacity);
            bytes.push(b'x');
            assert!(queue.push(batch(bytes)).is_ok());
            let mut taken = VecDeque::new();
            queue.take(&mut taken);
            queue.written(taken.pop_front().unwrap().bytes);
            let spare = queue.push(batch(Vec::new())).unwrap();
            assert!(spare.is_empty());
            assert_eq!(spare.capacity() >= capacity, comes_back);
            queue.take(&mut taken);
        }
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_accepts_no_more() {
        let queue = Queue::default();
        assert!(queue.push(batch(b"a".to_vec())).is_ok());
        queue.close();
        assert!(queue.push(batch(b"b".to_vec())).is_err());
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken.pop_front().unwrap().bytes, b"a");
        assert!(!queue.take(&mut taken));
        assert!(!queue.wait_for_end(Duration::ZERO));
        queue.end();
        assert!(queue.wait_for_end(Duration::ZERO));
    }
}
