//! How many of something there are at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub struct Count(AtomicUsize);

/// One of them, counted until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Count>);

impl Count {
    /// None if there are `max` already. It never lets more in, whoever asks at the same time.
    pub fn enter(self: &Arc<Self>, max: usize) -> Option<Place> {
        enter(&self.0, max).then(|| Place(Arc::clone(self)))
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One more, unless there are `max` already.
pub fn enter(open: &AtomicUsize, max: usize) -> bool {
    // One addition is cheaper than a loop of comparisons while many threads come at once.
    let fits = open.fetch_add(1, Ordering::Relaxed) < max;
    if !fits {
        open.fetch_sub(1, Ordering::Relaxed);
    }
    fits
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_at_a_time() {
        let count = Arc::<Count>::default();
        let first = count.enter(2).unwrap();
        let _second = count.enter(2).unwrap();
        assert!(count.enter(2).is_none());
        drop(first);
        assert!(count.enter(2).is_some());
        // A smaller limit holds for those who come later.
        assert!(count.enter(1).is_none());
        assert_eq!(count.open(), 1);
    }

    #[test]
    fn threads_that_race_do_not_get_past_it() {
        let count = Arc::<Count>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let place = count.enter(2);
                        assert!(place.is_none() || count.open() >= 1);
                    }
                });
            }
        });
        assert_eq!(count.open(), 0);
    }
}
