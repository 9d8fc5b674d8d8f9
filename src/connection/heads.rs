//! What the heads of open streams may take, trailers included: those of one connection, and those of all.
//!
//! A worker takes from the process in steps, so that an ordinary request touches nothing that others touch. How a head
//! counts is the guard's to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::guard::HeadCost;

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

    /// The last quarter is for ordinary heads, so that those who attack with others do not keep everybody out.
    fn take(&self, bytes: usize, is_ordinary: bool) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let bytes_max = if is_ordinary { bytes_max } else { bytes_max - bytes_max / 4 };
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

    fn take(&self, bytes: usize, is_ordinary: bool) -> bool {
        let used = self.used.get() + bytes;
        let missing = used.saturating_sub(self.taken.get());
        if missing > 0 {
            // Near the end of the budget what is missing may fit where a step does not.
            let step = missing.next_multiple_of(STEP_BYTES);
            let Some(more) = [step, missing].into_iter().find(|more| self.budget.take(*more, is_ordinary)) else {
                return false;
            };
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
    /// The streams whose requests have a body, with what their trailers take.
    trailed: RefCell<Vec<(u32, Taken)>>,
}

/// Of the connection and of the process.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    on_connection: usize,
    in_process: usize,
}

/// Whose budget a head does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    OnConnection,
    InProcess,
}

impl Heads {
    pub fn new(share: Rc<Share>) -> Rc<Self> {
        Rc::new(Self { share, used: Cell::new(0), trailed: RefCell::default() })
    }

    /// Room for a head, until it is dropped.
    pub fn room(self: &Rc<Self>, head: HeadCost) -> Result<Room, NoRoom> {
        let mut room = Room::none(self);
        room.grow(head)?;
        Ok(room)
    }

    /// The request on `stream` has a body, and so it may have trailers until its stream ends.
    pub fn await_trailers(self: &Rc<Self>, stream: u32) -> Trailed {
        self.trailed.borrow_mut().push((stream, Taken::default()));
        Trailed { heads: Rc::clone(self), stream }
    }

    /// Takes room for a head that came on `stream`, if it can but be the trailers of a request.
    pub fn trail(&self, stream: u32, cost: impl FnOnce() -> HeadCost) -> Result<(), NoRoom> {
        let mut trailed = self.trailed.borrow_mut();
        let Some((_, taken)) = trailed.iter_mut().find(|(open, _)| *open == stream) else { return Ok(()) };
        taken.add(self.take(cost())?);
        Ok(())
    }

    fn take(&self, head: HeadCost) -> Result<Taken, NoRoom> {
        let (taken, is_ordinary) = match head {
            HeadCost::Ordinary(bytes) => (Taken { on_connection: bytes, in_process: bytes }, true),
            HeadCost::Large { on_connection, in_process } => (Taken { on_connection, in_process }, false),
        };
        let used = self.used.get() + taken.on_connection;
        if used > CONNECTION_BYTES_MAX {
            return Err(NoRoom::OnConnection);
        }
        if !self.share.take(taken.in_process, is_ordinary) {
            return Err(NoRoom::InProcess);
        }
        self.used.set(used);
        Ok(taken)
    }

    fn give_back(&self, taken: Taken) {
        self.used.set(self.used.get() - taken.on_connection);
        self.share.give_back(taken.in_process);
    }
}

impl Taken {
    fn add(&mut self, more: Self) {
        self.on_connection += more.on_connection;
        self.in_process += more.in_process;
    }
}

/// A stream that may have trailers. What they take is given back when it is dropped.
#[derive(Debug)]
pub struct Trailed {
    heads: Rc<Heads>,
    stream: u32,
}

impl Drop for Trailed {
    fn drop(&mut self) {
        let mut trailed = self.heads.trailed.borrow_mut();
        if let Some(at) = trailed.iter().position(|(stream, _)| *stream == self.stream) {
            let (_, taken) = trailed.swap_remove(at);
            self.heads.give_back(taken);
        }
    }
}

/// Taken from a connection, its worker and the process.
#[derive(Debug)]
pub struct Room {
    heads: Rc<Heads>,
    taken: Taken,
}

impl Room {
    /// To grow.
    pub fn none(heads: &Rc<Heads>) -> Self {
        Self { heads: Rc::clone(heads), taken: Taken::default() }
    }

    pub fn grow(&mut self, head: HeadCost) -> Result<(), NoRoom> {
        self.taken.add(self.heads.take(head)?);
        Ok(())
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let Taken { on_connection, in_process } = self.taken;
        let kept = Taken { on_connection: on_connection.min(bytes), in_process: in_process.min(bytes) };
        self.heads.give_back(Taken {
            on_connection: on_connection - kept.on_connection,
            in_process: in_process - kept.in_process,
        });
        self.taken = kept;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::HeadCost::Ordinary;
    use super::*;

    const KIB: usize = 1024;

    fn large(bytes: usize) -> HeadCost {
        HeadCost::of_memory(bytes)
    }

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
        let held: Vec<_> = (0..16).map(|_| one.room(Ordinary(16 * KIB)).unwrap()).collect();
        assert_eq!(one.room(Ordinary(1)).unwrap_err(), NoRoom::OnConnection);
        let more: Vec<_> = (0..9).map(|_| other.room(Ordinary(16 * KIB)).unwrap()).collect();
        assert_eq!(other.room(Ordinary(1)).unwrap_err(), NoRoom::InProcess);
        drop(held);
        assert!(other.room(large(16 * KIB)).is_ok() && one.room(large(16 * KIB)).is_ok());
        drop(more);
    }

    #[test]
    fn large_heads_leave_room_for_ordinary_ones() {
        let (budget, share) = budget_of(512 * KIB);
        let connections: Vec<_> = (0..3).map(|_| Heads::new(Rc::clone(&share))).collect();
        let fill = |head| connections.iter().flat_map(move |heads| std::iter::from_fn(move || heads.room(head).ok()));
        let bombs: Vec<_> = fill(large(16 * KIB)).collect();
        assert_eq!((bombs.len(), taken(&budget)), (24, 384 * KIB));
        assert_eq!(connections[2].room(large(1)).unwrap_err(), NoRoom::InProcess);
        let ordinary: Vec<_> = fill(Ordinary(2 * KIB)).collect();
        assert_eq!(ordinary.len(), 64);
    }

    #[test]
    fn what_a_worker_does_not_use_is_for_the_others() {
        let (budget, share) = budget_of(512 * KIB);
        let heads = Heads::new(Rc::clone(&share));
        drop((0..16).map(|_| heads.room(Ordinary(16 * KIB)).unwrap()).collect::<Vec<_>>());
        assert!(taken(&budget) <= 2 * STEP_BYTES, "{}", taken(&budget));
        drop((heads, share));
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn what_was_sent_counts_less_on_its_connection_than_in_the_process() {
        let (budget, share) = budget_of(512 * KIB);
        let heads = Heads::new(share);
        let sent = HeadCost::Large { on_connection: 32 * KIB, in_process: 96 * KIB };
        let held: Vec<_> = std::iter::from_fn(|| heads.room(sent).ok()).collect();
        assert_eq!((held.len(), taken(&budget)), (4, 384 * KIB));
        drop(held);
        assert_eq!((heads.used.get(), heads.share.used.get()), (0, 0));
    }

    #[test]
    fn trailers_count_as_long_as_their_stream_is_open() {
        let (_, share) = budget_of(512 * KIB);
        let heads = Heads::new(share);
        let (one, other) = (heads.await_trailers(1), heads.await_trailers(3));
        heads.trail(1, || large(100 * KIB)).unwrap();
        heads.trail(3, || large(100 * KIB)).unwrap();
        assert_eq!(heads.trail(1, || large(100 * KIB)), Err(NoRoom::OnConnection));
        // Of a stream without a body, or which has ended.
        heads.trail(5, || large(100 * KIB)).unwrap();
        drop(one);
        heads.trail(1, || large(500 * KIB)).unwrap();
        assert_eq!(heads.used.get(), 100 * KIB);
        drop(other);
        assert_eq!((heads.used.get(), heads.share.used.get()), (0, 0));
    }

    #[test]
    fn room_is_shrunk_to_what_is_held() {
        let (_, share) = budget_of(512 * KIB);
        let heads = Heads::new(share);
        let mut room = heads.room(large(100 * KIB)).unwrap();
        for (bytes, used) in [(200 * KIB, 100 * KIB), (10 * KIB, 10 * KIB), (20 * KIB, 10 * KIB), (0, 0)] {
            room.shrink(bytes);
            assert_eq!((heads.used.get(), heads.share.used.get()), (used, used));
        }
    }

    proptest! {
        #[test]
        fn never_more_than_allowed_and_all_comes_back(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0..3_usize, 0..40 * KIB), 0..200),
        ) {
            let (budget, share) = budget_of(300 * KIB);
            let connections: Vec<_> = (0..3).map(|_| Heads::new(Rc::clone(&share))).collect();
            let mut held = std::collections::VecDeque::new();
            for (takes, is_large, connection, bytes) in steps {
                if takes {
                    let head = if is_large { large(bytes) } else { Ordinary(bytes) };
                    held.extend(connections[connection].room(head));
                } else {
                    held.pop_front();
                }
                let in_use: usize = held.iter().map(|room: &Room| room.taken.in_process).sum();
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
