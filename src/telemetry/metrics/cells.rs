//! Numbers that many threads add to, without sharing a cache line.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::SystemTime;

use crate::clock;
use crate::config::OTHERS;
use crate::lock::lock;

/// Threads beyond this number share a cell with another one: slower, and still right.
const SLOTS: usize = 64;

/// One `T` a thread, made when the thread first asks for it. Its references are counted in lines of their own before it.
#[derive(Debug)]
pub struct PerThread<T>([OnceLock<Arc<Apart<T>>>; SLOTS]);

/// Two lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(T);

/// Threads that have a slot, and so the slot of the next one.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SLOTS;
}

impl<T: Default> PerThread<T> {
    /// What this thread adds to.
    pub fn local(&self) -> &T {
        self.cell()
    }

    /// The same, to be kept by who counts often.
    pub fn share_local(&self) -> Arc<Apart<T>> {
        Arc::clone(self.cell())
    }

    fn cell(&self) -> &Arc<Apart<T>> {
        self.0[SLOT.with(|slot| *slot)].get_or_init(Arc::default)
    }

    /// What all threads added to, for a reader that sums it up. It looks at the slots that threads have, which are few.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let threads = THREADS.load(Ordering::Relaxed);
        self.0.iter().take(threads).filter_map(OnceLock::get).map(|cell| &cell.0)
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Default for PerThread<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; SLOTS])
    }
}

/// Values by a name from the config, each as long as somebody counts with it: a name that a reload removed goes with the
/// last request of the snapshots that had it. When it comes back later it counts from 0, as after a restart.
#[derive(Debug)]
pub struct ByName<T>(Mutex<Names<T>>);

#[derive(Debug)]
struct Names<T> {
    values: BTreeMap<Box<str>, Named<T>>,
    /// How many have come up to now.
    came: u64,
}

#[derive(Debug)]
struct Named<T> {
    /// How many had come before.
    came: u64,
    /// Its place among those in use. None: it came after the last scrape.
    number: Option<usize>,
    since: SystemTime,
    value: Weak<T>,
}

/// One that is in use.
#[derive(Debug)]
pub struct Known<T> {
    pub name: Box<str>,
    /// Its place among those in use.
    pub number: usize,
    /// When it came.
    pub since: SystemTime,
    pub value: Arc<T>,
}

/// Names at one time; later ones are one name, `OTHER`.
const NAMES_MAX: usize = 10_000;

/// The label of what exceeds a closed set.
pub const OTHER: &str = OTHERS;

impl<T: Default> ByName<T> {
    /// The value of a name, shared by all who ask while there is one. To be asked at a reload, not for each request.
    pub fn get(&self, name: &str) -> Arc<T> {
        let mut names = lock(&self.0);
        let Names { values, came } = &mut *names;
        if let Some(value) = values.get(name).and_then(|known| known.value.upgrade()) {
            return value;
        }
        if values.len() >= NAMES_MAX {
            // As long as the name for the rest is in use there was no room, and looking for it takes long.
            if let Some(other) = values.get(OTHER).and_then(|known| known.value.upgrade()) {
                return other;
            }
            values.retain(|_, known| known.value.strong_count() > 0);
        }
        let name = if values.len() < NAMES_MAX { name } else { OTHER };
        let value = Arc::default();
        let since = clock::system_time();
        values.insert(name.into(), Named { came: *came, number: None, since, value: Arc::downgrade(&value) });
        *came += 1;
        value
    }

    /// All that are in use, for a scrape, each with its number: less than there are, and its own for as long as it may be.
    /// The numbers of those that are gone go to the first of those that have a higher one.
    pub fn all(&self) -> Vec<Known<T>> {
        let mut names = lock(&self.0);
        names.values.retain(|_, known| known.value.strong_count() > 0);
        number(names.values.values_mut().collect());
        let in_use = names.values.iter().map(|(name, Named { number, since, value, .. })| {
            Some(Known { name: name.clone(), number: (*number)?, since: *since, value: value.upgrade()? })
        });
        in_use.flatten().collect()
    }
}

/// Gives numbers to those that have none, or one that is not below their count.
fn number<T>(mut all: Vec<&mut Named<T>>) {
    let mut is_taken = vec![false; all.len()];
    for place in all.iter().filter_map(|named| named.number) {
        if let Some(is_taken) = is_taken.get_mut(place) {
            *is_taken = true;
        }
    }
    all.retain(|named| named.number.is_none_or(|place| place >= is_taken.len()));
    all.sort_by_key(|named| named.came);
    let free = (0..).zip(&is_taken).filter(|(_, is_taken)| !**is_taken);
    all.into_iter().zip(free).for_each(|(named, (place, _))| named.number = Some(place));
}

impl<T> ByName<T> {
    /// Shows all that are in use, in the order of their names, and clones none: for who looks often.
    pub fn each(&self, mut show: impl FnMut(&str, &T)) {
        for (name, value) in &lock(&self.0).values {
            if let Some(value) = value.value.upgrade() {
                show(name, &value);
            }
        }
    }
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(Mutex::new(Names { values: BTreeMap::new(), came: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Also where there are more threads than cells.
    #[test]
    fn who_keeps_the_cell_of_his_thread_counts_in_it() {
        let cells = PerThread::<AtomicU64>::default();
        thread::scope(|scope| {
            for _ in 0..SLOTS + 3 {
                scope.spawn(|| {
                    let kept = cells.share_local();
                    assert!(Arc::ptr_eq(&kept, &cells.share_local()));
                    kept.fetch_add(1, Ordering::Relaxed);
                    cells.local().fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        let sum: u64 = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, (SLOTS as u64 + 3) * 2);
    }

    #[test]
    fn names_are_bounded_and_keep_their_value_while_it_is_in_use() {
        let values = ByName::<AtomicU64>::default();
        let all: Vec<_> = (0..NAMES_MAX + 5).map(|n| values.get(&format!("n{n}"))).collect();
        all.iter().for_each(|value| _ = value.fetch_add(1, Ordering::Relaxed));
        assert_eq!(values.all().len(), NAMES_MAX + 1);
        assert_eq!(values.get("n7").load(Ordering::Relaxed), 1);
        assert_eq!(values.get(OTHER).load(Ordering::Relaxed), 5);
        drop(all);
        assert_eq!(values.all().len(), 0);
        assert_eq!(values.get("n7").load(Ordering::Relaxed), 0);
    }

    /// As when a reload gives all routes other names while requests still run on those before.
    #[test]
    fn numbers_of_names_that_are_gone_go_to_others() {
        let values = ByName::<AtomicU64>::default();
        let numbers = || {
            let mut all: Vec<_> =
                values.all().into_iter().map(|known| (known.number, known.name.into_string())).collect();
            all.sort();
            all
        };
        let named = |expected: &[&str]| {
            let expected: Vec<_> =
                expected.iter().enumerate().map(|(number, name)| (number, (*name).to_owned())).collect();
            assert_eq!(numbers(), expected);
        };
        let get = |names: &[&str]| names.iter().map(|name| values.get(name)).collect::<Vec<_>>();
        let before = get(&["c", "b", "a"]);
        named(&["c", "b", "a"]);
        let after = get(&["z", "y", "x"]);
        named(&["c", "b", "a", "z", "y", "x"]);
        drop(before);
        named(&["z", "y", "x"]);
        // Who has a number that may stay keeps it.
        let [z, y, x] = after.try_into().unwrap();
        drop(y);
        named(&["z", "x"]);
        let w = values.get("w");
        drop(z);
        named(&["w", "x"]);
        drop((x, w));
        assert!(values.all().is_empty());
    }

    #[test]
    fn names_that_are_gone_make_room() {
        let values = ByName::<AtomicU64>::default();
        for n in 0..NAMES_MAX + 5 {
            drop(values.get(&format!("n{n}")));
        }
        let last = values.get("last");
        assert_eq!(values.all().iter().map(|known| &*known.name).collect::<Vec<_>>(), ["last"]);
        drop(last);
    }
}
