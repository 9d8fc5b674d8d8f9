//! Numbers that many threads add to, without sharing a cache line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Threads beyond this number share a cell with another one: slower, and still right.
const SLOTS: usize = 64;

/// One `T` a thread, made when the thread first asks for it.
#[derive(Debug)]
pub struct PerThread<T>([OnceLock<Box<Apart<T>>>; SLOTS]);

/// Two lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

thread_local! {
    static SLOT: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS
    };
}

impl<T: Default> PerThread<T> {
    /// What this thread adds to.
    pub fn local(&self) -> &T {
        &self.0[SLOT.with(|slot| *slot)].get_or_init(Box::default).0
    }

    /// What all threads added to, for a reader that sums it up.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|cell| &cell.0)
    }
}

impl<T> Default for PerThread<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; SLOTS])
    }
}

/// Values, of which clones are the same one, by a name from the config. They stay when the name leaves the config, since a counter must not
/// start again when the name comes back.
#[derive(Debug, Default)]
pub struct ByName<T>(Mutex<BTreeMap<Box<str>, T>>);

/// Names kept over all reloads; later ones are one name, `OTHER`.
const NAMES_MAX: usize = 10_000;

/// The label of what exceeds a closed set.
pub const OTHER: &str = "other";

impl<T: Clone + Default> ByName<T> {
    pub fn get(&self, name: &str) -> T {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(name) {
            return value.clone();
        }
        let name = if values.len() < NAMES_MAX { name } else { OTHER };
        values.entry(name.into()).or_default().clone()
    }

    pub fn all(&self) -> Vec<(Box<str>, T)> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    #[test]
    fn what_every_thread_added_is_summed_up() {
        let cells = PerThread::<AtomicU64>::default();
        thread::scope(|scope| {
            for _ in 0..SLOTS + 3 {
                scope.spawn(|| (0..100).for_each(|_| _ = cells.local().fetch_add(1, Ordering::Relaxed)));
            }
        });
        let sum: u64 = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, (SLOTS as u64 + 3) * 100);
    }

    #[test]
    fn names_are_bounded_and_keep_their_value() {
        let values = ByName::<Arc<AtomicU64>>::default();
        for n in 0..NAMES_MAX + 5 {
            values.get(&format!("n{n}")).fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(values.all().len(), NAMES_MAX + 1);
        assert_eq!(values.get("n7").load(Ordering::Relaxed), 1);
        assert_eq!(values.get(OTHER).load(Ordering::Relaxed), 5);
    }
}
