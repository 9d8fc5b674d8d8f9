//! Least connections: the endpoint with the fewest requests in flight for its share.
//!
//! Equal ones take turns, each as often as its weight says, so an upstream with little to do still
//! spreads its requests. This module only compares numbers.

use super::slow_start::WHOLE;

/// What an endpoint carries, and what it is meant to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub in_flight: usize,
    /// Its weight in parts of [`WHOLE`], or less if it has just come; never 0.
    pub share: u32,
    /// It has not yet all that its weight says.
    pub begins: bool,
}

impl Load {
    /// `in_flight / share` compared crosswise, without dividing.
    pub fn cmp(self, other: Load) -> std::cmp::Ordering {
        let (ours, theirs) = (self.in_flight as u64, other.in_flight as u64);
        ours.saturating_mul(other.share.into()).cmp(&theirs.saturating_mul(self.share.into()))
    }

    pub fn is_idle_beginner(self) -> bool {
        self.begins && self.in_flight == 0
    }
}

/// Chooses among `candidates`, which are walked twice. `turn` grows by one with each choice of a pool; it
/// says whose turn it is among equals.
pub fn choose<T: Copy>(candidates: impl Iterator<Item = (T, Load)> + Clone, turn: usize) -> Option<T> {
    let mut least: Option<(T, Load)> = None;
    let mut tied_share: u64 = 0;
    for (candidate, load) in candidates.clone() {
        match least.map(|(_, best)| load.cmp(best)) {
            None | Some(std::cmp::Ordering::Less) => {
                least = Some((candidate, load));
                tied_share = load.share.into();
            }
            Some(std::cmp::Ordering::Equal) => tied_share += u64::from(load.share),
            Some(std::cmp::Ordering::Greater) => {}
        }
    }
    let (first, best) = least?;
    let mut position = (turn as u64).wrapping_mul(WHOLE.into()) % tied_share.max(1);
    for (candidate, load) in candidates.filter(|(_, load)| load.cmp(best).is_eq()) {
        match position.checked_sub(load.share.into()) {
            None => return Some(candidate),
            Some(rest) => position = rest,
        }
    }
    // Other workers have moved the counts between the two walks.
    Some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(loads: &[(usize, u32)], turn: usize) -> Option<usize> {
        let candidates =
            loads.iter().map(|&(in_flight, weight)| Load { in_flight, share: weight * WHOLE, begins: false });
        let candidates = candidates.enumerate();
        choose(candidates, turn)
    }

    /// How often each endpoint is chosen in `turns` choices that all see the same loads.
    fn counts(loads: &[(usize, u32)], turns: usize) -> Vec<usize> {
        let mut counts = vec![0; loads.len()];
        for turn in 0..turns {
            counts[chosen(loads, turn).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        let check = |loads: &[(usize, u32)], turns: usize, expected: &[usize]| {
            assert_eq!(counts(loads, turns), expected, "{loads:?}");
        };
        check(&[(0, 1)], 5, &[5]);
        check(&[(3, 1), (1, 1), (2, 1)], 5, &[0, 5, 0]);
        check(&[(0, 1), (0, 1), (0, 1)], 9, &[3, 3, 3]);
        check(&[(1, 1), (0, 1), (0, 1)], 8, &[0, 4, 4]);
        check(&[(2, 2), (1, 1)], 9, &[6, 3]);
        check(&[(3, 2), (1, 1)], 9, &[0, 9]);
        check(&[(1, 2), (1, 1)], 9, &[9, 0]);
        check(&[(0, 5), (0, 1)], 12, &[10, 2]);
        assert_eq!(chosen(&[], 7), None);
    }

    proptest! {
        #[test]
        fn none_is_less_loaded_than_the_chosen(
            loads in prop::collection::vec((0usize..50, 1u32..10), 1..20), turn: usize,
        ) {
            let (in_flight, weight) = loads[chosen(&loads, turn).unwrap()];
            for &(other, other_weight) in &loads {
                prop_assert!(in_flight as u64 * u64::from(other_weight) <= other as u64 * u64::from(weight));
            }
        }

        /// Requests that stay end up in proportion to the weights, at most one away from it.
        #[test]
        fn requests_that_stay_are_spread_by_weight(weights in prop::collection::vec(1u32..8, 1..8), rounds in 1usize..10) {
            let mut loads: Vec<_> = weights.iter().map(|&weight| (0, weight)).collect();
            let total: u32 = weights.iter().sum();
            for turn in 0..total as usize * rounds {
                let least = chosen(&loads, turn).unwrap();
                loads[least].0 += 1;
            }
            for (in_flight, weight) in loads {
                prop_assert_eq!(in_flight, weight as usize * rounds);
            }
        }
    }
}
