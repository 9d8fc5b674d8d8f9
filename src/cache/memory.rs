//! The memory of bodies that are being fetched, and of coded forms of those that are stored, counted against a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is taken of a limit. Clones are the same.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    used_bytes: AtomicU64,
    limit_bytes: AtomicU64,
}

/// Bytes that were granted; they are given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    bytes: u64,
}

impl Memory {
    pub fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Counts { used_bytes: AtomicU64::new(0), limit_bytes: AtomicU64::new(limit_bytes) }))
    }

    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { memory: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// The same for what can be done without: so much is left for the rest.
    pub fn reserve_leaving(&self, bytes: u64, left: u64) -> Option<Reservation> {
        let mut reservation = Reservation { memory: self.clone(), bytes: 0 };
        reservation.grow_leaving(bytes, left).then_some(reservation)
    }

    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes.load(Ordering::Relaxed)
    }

    /// What was granted stays so, above the new limit too.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.0.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }
}

impl Reservation {
    /// Asks for more as the body grows. False: there is no more, and what was granted stays.
    pub fn grow(&mut self, bytes: u64) -> bool {
        self.grow_leaving(bytes, 0)
    }

    fn grow_leaving(&mut self, bytes: u64, left: u64) -> bool {
        let limit = self.memory.limit_bytes().saturating_sub(left);
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        let granted = self.memory.0.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if granted {
            self.bytes += bytes;
        }
        granted
    }

    /// Gives back what is not used any more.
    pub fn shrink_to(&mut self, bytes: u64) {
        let unused = self.bytes.saturating_sub(bytes);
        self.memory.0.used_bytes.fetch_sub(unused, Ordering::Relaxed);
        self.bytes -= unused;
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.0.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_granted_comes_back() {
        let memory = Memory::new(100);
        let mut first = memory.reserve(60).unwrap();
        assert!(memory.reserve(41).is_none());
        assert!(memory.reserve(u64::MAX).is_none());
        assert!(!first.grow(41));
        assert!(first.grow(40));
        assert_eq!((first.bytes(), memory.used_bytes()), (100, 100));
        memory.set_limit(50);
        assert!(!first.grow(1));
        drop(first);
        assert_eq!(memory.used_bytes(), 0);
        assert!(memory.reserve(51).is_none());
        assert!(memory.reserve(50).is_some());
        assert_eq!(memory.used_bytes(), 0);
    }
}
