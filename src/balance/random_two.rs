//! Random two: of two endpoints drawn by weight, the one with less to do.
//!
//! Several proxies that share their endpoints don't all run to the same one, as they do when each looks for the least
//! loaded. This module only compares; the dice are thrown by who asks.

use super::least_connections::Load;

/// Chooses among `candidates`, which are walked a few times. `rolls` are two numbers of 64 random bits.
pub fn choose<T: Copy>(candidates: impl Iterator<Item = (T, Load)> + Clone, rolls: [u64; 2]) -> Option<T> {
    let total: u64 = candidates.clone().map(|(_, load)| u64::from(load.share)).sum();
    let drawn = at(candidates.clone().enumerate(), scaled(rolls[0], total));
    // Other workers may have moved the shares, or taken the last place of one, between the walks.
    let (index, first, load) = drawn.or_else(|| at(candidates.clone().enumerate(), 0))?;
    let others = candidates.enumerate().filter(|&(other, _)| other != index);
    let second = at(others, scaled(rolls[1], total.saturating_sub(load.share.into())));
    match second {
        Some((_, second, other)) if other.cmp(load).is_lt() => Some(second),
        _ => Some(first),
    }
}

/// A number below `total`, which is what 64 random bits are multiplied down to.
fn scaled(roll: u64, total: u64) -> u64 {
    ((u128::from(roll) * u128::from(total)) >> 64) as u64
}

/// Who has the place at `position`, when each has as many as its share.
fn at<T>(candidates: impl Iterator<Item = (usize, (T, Load))>, mut position: u64) -> Option<(usize, T, Load)> {
    for (index, (candidate, load)) in candidates {
        match position.checked_sub(load.share.into()) {
            None => return Some((index, candidate, load)),
            Some(rest) => position = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::slow_start::WHOLE;

    fn chosen(loads: &[(usize, u32)], rolls: [u64; 2]) -> Option<usize> {
        let load = |&(in_flight, weight): &(usize, u32)| Load { in_flight, share: weight * WHOLE, begins: false };
        choose(loads.iter().map(load).enumerate(), rolls)
    }

    #[test]
    fn two_are_drawn_and_the_less_loaded_is_chosen() {
        const LAST: u64 = u64::MAX;
        let check = |loads: &[(usize, u32)], rolls: [u64; 2], expected: usize| {
            assert_eq!(chosen(loads, rolls), Some(expected), "{loads:?} {rolls:?}");
        };
        check(&[(9, 1)], [5, 5], 0);
        check(&[(1, 1), (0, 1)], [0, 0], 1);
        check(&[(0, 1), (1, 1)], [LAST, LAST], 0);
        check(&[(5, 1), (0, 1), (3, 1)], [0, LAST], 2);
        check(&[(1, 1), (1, 1), (1, 1)], [LAST, 0], 2);
        check(&[(3, 4), (1, 1)], [LAST, 0], 0);
        assert_eq!(chosen(&[], [1, 2]), None);
    }

    #[test]
    fn what_changes_between_the_walks_leaves_a_choice() {
        let check = |expected: usize, share: fn(usize, usize) -> Option<u32>| {
            let looks = Cell::new(0);
            // `share` of an endpoint at the look of this number; None while it is full.
            let candidate = |endpoint| {
                looks.set(looks.get() + 1);
                Some((endpoint, Load { in_flight: 0, share: share(endpoint, looks.get())?, begins: false }))
            };
            assert_eq!(choose((0..2).filter_map(candidate), [u64::MAX, 0]), Some(expected));
        };
        check(0, |endpoint, look| (endpoint == 0 || look <= 2).then_some(WHOLE));
        check(1, |endpoint, _| (endpoint == 1).then_some(WHOLE));
        check(0, |endpoint, look| (endpoint == 0).then_some(if look <= 2 { 1 } else { WHOLE }));
    }

    proptest! {
        /// The most loaded of three or more is never chosen while it is alone in that.
        #[test]
        fn the_worst_is_never_chosen(loads in prop::collection::vec(0usize..50, 2..10), rolls: [u64; 2]) {
            let loads: Vec<_> = loads.into_iter().map(|load| (load, 1)).collect();
            let index = chosen(&loads, rolls).unwrap();
            let worst = loads.iter().map(|load| load.0).max().unwrap();
            let alone = loads.iter().filter(|load| load.0 == worst).count() == 1;
            prop_assert!(!alone || loads[index].0 < worst);
        }
    }
}
