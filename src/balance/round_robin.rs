//! Smooth weighted round robin: nginx's order, over counters that all workers share.
//!
//! Each choice adds an endpoint's share to its credit, takes the one with the most and charges it the
//! sum of the shares. nginx does this under a lock. Here the credits are atomics without one: choices at
//! the same moment may swap their order, but whatever is added is charged, so the credits always sum to
//! zero and the proportions hold. Endpoints that are out share their turns among all others, which a
//! fixed sequence with a counter over it would not do.

use std::sync::atomic::{AtomicI64, Ordering};

/// What an endpoint is owed.
#[derive(Debug, Default)]
pub struct Credit(AtomicI64);

impl Clone for Credit {
    fn clone(&self) -> Self {
        Self(AtomicI64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// Chooses among `candidates`, each with its credit and share.
pub fn choose<'a, T>(candidates: impl Iterator<Item = (T, &'a Credit, u32)>) -> Option<T> {
    let mut best: Option<(T, &Credit, i64)> = None;
    let mut total = 0;
    for (candidate, credit, share) in candidates {
        let share = i64::from(share);
        let owed = credit.0.fetch_add(share, Ordering::Relaxed) + share;
        total += share;
        if best.as_ref().is_none_or(|&(_, _, most)| owed > most) {
            best = Some((candidate, credit, owed));
        }
    }
    let (chosen, credit, _) = best?;
    credit.0.fetch_sub(total, Ordering::Relaxed);
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credits(count: usize) -> Vec<Credit> {
        std::iter::repeat_with(Credit::default).take(count).collect()
    }

    fn turn(credits: &[Credit], weights: &[u32], out: Option<usize>) -> Option<usize> {
        let members = credits.iter().zip(weights).enumerate();
        choose(members.filter(|&(i, _)| Some(i) != out).map(|(i, (credit, &weight))| (i, credit, weight)))
    }

    #[test]
    fn the_order_is_that_of_nginx() {
        let check = |weights: &[u32], out: Option<usize>, expected: &str| {
            let credits = credits(weights.len());
            let order: String =
                (0..expected.len()).map(|_| char::from(b'a' + turn(&credits, weights, out).unwrap() as u8)).collect();
            assert_eq!(order, expected, "{weights:?} without {out:?}");
        };
        check(&[1], None, "aaa");
        check(&[1, 1, 1], None, "abcabc");
        check(&[5, 1, 1], None, "aabacaaaabacaa");
        check(&[4, 2, 1], None, "abacaba");
        check(&[1, 1, 1], Some(1), "acacac");
        check(&[2, 1, 1], Some(0), "bcbc");
        assert_eq!(turn(&[], &[], None), None);
    }

    #[test]
    fn choices_of_many_threads_keep_the_proportions() {
        let weights = [3, 2, 1];
        let credits = credits(3);
        let counts = [const { std::sync::atomic::AtomicUsize::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1500 {
                        counts[turn(&credits, &weights, None).unwrap()].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let owed: Vec<i64> = credits.iter().map(|credit| credit.0.load(Ordering::Relaxed)).collect();
        assert_eq!(owed.iter().sum::<i64>(), 0, "{owed:?}");
        for (count, weight) in counts.iter().zip(weights) {
            let (count, due) = (count.load(Ordering::Relaxed), 1000 * weight as usize);
            assert!(count.abs_diff(due) <= 50, "{count} instead of {due}");
        }
    }

    proptest! {
        #[test]
        fn each_round_is_in_exact_proportion(weights in prop::collection::vec(1u32..20, 1..10)) {
            let credits = credits(weights.len());
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() * 3 {
                counts[turn(&credits, &weights, None).unwrap()] += 1;
            }
            let due: Vec<u32> = weights.iter().map(|weight| weight * 3).collect();
            prop_assert_eq!(counts, due);
        }
    }
}
