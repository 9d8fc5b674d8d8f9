//! What the heads of open streams may take: those of one connection, and those of all.
//!
//! A worker takes from the process in steps, so that an ordinary request touches nothing that others touch. How a head
//! counts is the guard's to say.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of one connection. More streams are refused.
const CONNECTION_BYTES_MAX: usize = 256 * 1024;
const STEP_BYTES: usize = 64 * 1024;

/// Of the whole process.
#[derive(Debug)]
pub struct HeadBudget {
    bytes_max: AtomicUsize,
    taken: AtomicUsize,
}

impl HeadBudget {
    pub fn new(bytes_max: u64) -> Arc<Self> {
        let budget = Self { bytes_max: AtomicUsize::new(0), taken: AtomicUsize::new(0) };
        budget.set_max(bytes_max);
        Arc::new(budget)
    }

    pub fn set_max(&self, bytes_max: u64) {
        self.bytes_max.store(usize::try_from(bytes_max).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= bytes_max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

/// What a worker has taken of it.
#[derive(Debug)]
pub struct Share {
    budget: Arc<HeadBudget>,
    taken: Cell<usize>,
    used: Cell<usize>,
}

impl Share {
    pub fn of(budget: Arc<HeadBudget>) -> Rc<Self> {
        Rc::new(Self { budget, taken: Cell::new(0), used: Cell::new(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used.get() + bytes;
        let missing = used.saturating_sub(self.taken.get());
        if missing > 0 {
            // Near the end of the budget what is missing may fit where a step does not.
            let step = missing.next_multiple_of(STEP_BYTES);
            let Some(more) = [step, missing].into_iter().find(|more| self.budget.take(*more)) else { return false };
            self.taken.set(self.taken.get() + more);
        }
        self.used.set(used);
        true
    }

    fn give_back(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
        let unused = self.taken.get() - self.used.get();
        // One step stays, or each request would take it anew.
        if unused >= 2 * STEP_BYTES {
            self.give_up(unused - STEP_BYTES);
        }
    }

    fn give_up(&self, bytes: usize) {
        self.taken.set(self.taken.get() - bytes);
        self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_up(self.taken.get());
    }
}

/// Those of one connection.
#[derive(Debug)]
pub struct Heads {
    share: Rc<Share>,
    used: Cell<usize>,
}

/// Whose budget a head does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    OnConnection,
    InProcess,
}

impl Heads {
    pub fn new(share: Rc<Share>) -> Rc<Self> {
        Rc::new(Self { share, used: Cell::new(0) })
    }

    /// Room for a head, until it is dropped.
    pub fn room(self: &Rc<Self>, bytes: usize) -> Result<Room, NoRoom> {
        let mut room = Room::none(self);
        room.grow(bytes)?;
        Ok(room)
    }
}

/// Taken from a connection, its worker and the process.
#[derive(Debug)]
pub struct Room {
    heads: Rc<Heads>,
    bytes: usize,
}

impl Room {
    /// To grow.
    pub fn none(heads: &Rc<Heads>) -> Self {
        Self { heads: Rc::clone(heads), bytes: 0 }
    }

    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let used = self.heads.used.get() + bytes;
        if used > CONNECTION_BYTES_MAX {
            return Err(NoRoom::OnConnection);
        }
        if !self.heads.share.take(bytes) {
            return Err(NoRoom::InProcess);
        }
        self.heads.used.set(used);
        self.bytes += bytes;
        Ok(())
    }

    pub fn empty(&mut self) {
        self.heads.used.set(self.heads.used.get() - self.bytes);
        self.heads.share.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.empty();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;

    fn budget_of(bytes_max: usize) -> (Arc<HeadBudget>, Rc<Share>) {
        let budget = HeadBudget::new(bytes_max as u64);
        let share = Share::of(Arc::clone(&budget));
        (budget, share)
    }

    fn taken(budget: &HeadBudget) -> usize {
        budget.taken.load(Ordering::Relaxed)
    }

    #[test]
    fn a_connection_has_its_bound_and_the_process_has_one() {
        let (_, share) = budget_of(400 * KIB);
        let (one, other) = (Heads::new(Rc::clone(&share)), Heads::new(share));
        let held: Vec<_> = (0..16).map(|_| one.room(16 * KIB).unwrap()).collect();
        assert_eq!(one.room(1).unwrap_err(), NoRoom::OnConnection);
        let more: Vec<_> = (0..9).map(|_| other.room(16 * KIB).unwrap()).collect();
        assert_eq!(other.room(1).unwrap_err(), NoRoom::InProcess);
        drop(held);
        assert!(other.room(16 * KIB).is_ok() && one.room(16 * KIB).is_ok());
        drop(more);
    }

    #[test]
    fn what_a_worker_does_not_use_is_for_the_others() {
        let (budget, share) = budget_of(512 * KIB);
        let heads = Heads::new(Rc::clone(&share));
        drop((0..16).map(|_| heads.room(16 * KIB).unwrap()).collect::<Vec<_>>());
        assert!(taken(&budget) <= 2 * STEP_BYTES, "{}", taken(&budget));
        drop((heads, share));
        assert_eq!(taken(&budget), 0);
    }

    proptest! {
        #[test]
        fn never_more_than_allowed_and_all_comes_back(
            steps in prop::collection::vec((any::<bool>(), 0..3_usize, 0..40 * KIB), 0..200),
        ) {
            let (budget, share) = budget_of(300 * KIB);
            let connections: Vec<_> = (0..3).map(|_| Heads::new(Rc::clone(&share))).collect();
            let mut held = std::collections::VecDeque::new();
            for (takes, connection, bytes) in steps {
                if takes {
                    held.extend(connections[connection].room(bytes));
                } else {
                    held.pop_front();
                }
                let in_use: usize = held.iter().map(|room: &Room| room.bytes).sum();
                prop_assert!(in_use <= taken(&budget) && taken(&budget) <= 300 * KIB);
                prop_assert!(connections.iter().all(|heads| heads.used.get() <= CONNECTION_BYTES_MAX));
            }
            drop(held);
            prop_assert!(connections.iter().all(|heads| heads.used.get() == 0));
            drop((connections, share));
            prop_assert_eq!(taken(&budget), 0);
        }
    }
}
