//! Series of one thing by a small key, made when their first value comes.
//!
//! What a key is made of comes from closed sets, but of their product only a part is ever seen. So the table fills as it
//! goes, and has a bound: whatever answers an upstream makes up, a thread has so many series of it.

use std::array;
use std::sync::OnceLock;

/// Keys that one thread tells apart; more are one.
pub const KEYS_MAX: usize = 32;

#[derive(Debug)]
#[repr(C)]
pub struct Table<K, T> {
    /// Most tables have one key, and what is counted under it is at hand with the table.
    first_key: OnceLock<K>,
    first: T,
    more: OnceLock<Box<More<K, T>>>,
}

#[derive(Debug)]
struct More<K, T> {
    others: [OnceLock<Box<(K, T)>>; KEYS_MAX - 1],
    rest: OnceLock<Box<T>>,
}

impl<K: Copy + Eq, T: Default> Table<K, T> {
    /// What is counted under a key.
    pub fn of(&self, key: K) -> &T {
        // Another thread may have taken a place meanwhile, if two share the table.
        if *self.first_key.get_or_init(|| key) == key {
            return &self.first;
        }
        let more = self.more.get_or_init(Box::default);
        for other in &more.others {
            let (held, value) = &**other.get_or_init(|| Box::new((key, T::default())));
            if *held == key {
                return value;
            }
        }
        more.rest.get_or_init(Box::default)
    }

    /// All that were counted; without a key those for which there was no room.
    pub fn iter(&self) -> impl Iterator<Item = (Option<K>, &T)> {
        let first = self.first_key.get().map(|key| (Some(*key), &self.first));
        let more = self.more.get().into_iter();
        let others = more.clone().flat_map(|more| more.others.iter().map_while(OnceLock::get));
        let rest = more.filter_map(|more| more.rest.get());
        first.into_iter().chain(others.map(|other| (Some(other.0), &other.1))).chain(rest.map(|rest| (None, &**rest)))
    }
}

impl<K, T: Default> Default for Table<K, T> {
    fn default() -> Self {
        Self { first_key: OnceLock::new(), first: T::default(), more: OnceLock::new() }
    }
}

impl<K, T> Default for More<K, T> {
    fn default() -> Self {
        Self { others: array::from_fn(|_| OnceLock::new()), rest: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn keys_beyond_the_table_are_counted_together() {
        let table = Table::<u16, AtomicU64>::default();
        for _ in 0..3 {
            (0..100).for_each(|key| _ = table.of(key).fetch_add(1, Ordering::Relaxed));
        }
        let counts: Vec<_> = table.iter().map(|(key, count)| (key, count.load(Ordering::Relaxed))).collect();
        assert_eq!(counts.len(), KEYS_MAX + 1);
        assert_eq!((counts[7], counts[KEYS_MAX]), ((Some(7), 3), (None, (100 - KEYS_MAX as u64) * 3)));
    }

    #[test]
    fn threads_that_share_a_table_lose_nothing() {
        let table = Table::<u16, AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|n| _ = table.of(n % 40).fetch_add(1, Ordering::Relaxed)));
            }
        });
        let all: u64 = table.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum();
        assert_eq!(all, 4000);
    }
}
