//! Consistent hashing: the same key goes to the same endpoint, for as long as that is there.
//!
//! Each endpoint has a score for each key, and the best one has the key (weighted rendezvous hashing). When an endpoint
//! goes, its keys alone move, to all others by weight; when one comes, keys move to it alone. A ring needs a hundred
//! points an endpoint for a worse balance, and a table of Maglev is made anew with each change; the walk over the
//! endpoints is made for each request anyway, to see which of them are usable. Scores depend on the addresses and
//! nothing else, so all proxies with the same endpoints agree.

use super::least_connections::Load;

/// Chooses among `candidates`, each with its own [`hash`] and load. With `load_max`, in percent of the even share, a
/// key whose endpoint has more to do than that goes to its next one (bounded loads).
pub fn choose<T: Copy>(
    candidates: impl Iterator<Item = (T, u64, Load)> + Clone,
    key: u64,
    load_max: Option<u32>,
) -> Option<T> {
    let bound = load_max.map(|percent| Bound::of(candidates.clone().map(|(_, _, load)| load), percent));
    let fitting = candidates.clone().filter(|(_, _, load)| bound.is_none_or(|bound| bound.leaves_room(*load)));
    // The bound leaves room somewhere, but other workers may have taken it since it was drawn.
    first_of(fitting, key).or_else(|| first_of(candidates, key))
}

/// The best for the key.
fn first_of<T>(candidates: impl Iterator<Item = (T, u64, Load)>, key: u64) -> Option<T> {
    let scored = candidates.map(|(candidate, endpoint, load)| (candidate, score(key, endpoint, load.share)));
    scored.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(candidate, _)| candidate)
}

/// The time of the first of `share` events a second, drawn by key and endpoint. Who is first wins, and wins as often as
/// its share says.
fn score(key: u64, endpoint: u64, share: u32) -> f64 {
    // 53 bits are what a float holds; the half keeps zero out, whose logarithm there is not.
    let drawn = ((mixed(key ^ mixed(endpoint)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -drawn.ln() / f64::from(share.max(1))
}

/// The finalizer of SplitMix64: each bit of the result depends on each bit of the number.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Of a key or of the name of an endpoint; the same on all machines.
pub fn hash(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_128::oneshot(bytes) as u64
}

/// How much more than the even share an endpoint may carry.
#[derive(Clone, Copy)]
struct Bound {
    percent: u64,
    in_flight: u64,
    shares: u64,
}

impl Bound {
    fn of(loads: impl Iterator<Item = Load>, percent: u32) -> Self {
        let none = Self { percent: percent.into(), in_flight: 0, shares: 0 };
        loads.fold(none, |sum, load| Self {
            in_flight: sum.in_flight + load.in_flight as u64,
            shares: sum.shares + u64::from(load.share),
            ..sum
        })
    }

    /// Counting the request that is to come, and rounded up: there is room somewhere as long as `percent` is 100 or more.
    fn leaves_room(self, load: Load) -> bool {
        let even = u128::from(self.in_flight + 1) * u128::from(load.share) * u128::from(self.percent);
        let most = even.div_ceil(u128::from(self.shares.max(1)) * 100);
        (load.in_flight as u128) < most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::slow_start::WHOLE;

    /// Endpoints by number, with weights and requests in flight.
    fn chosen(endpoints: &[(u64, u32, usize)], key: u64, load_max: Option<u32>) -> Option<u64> {
        let candidate = |&(number, weight, in_flight): &(u64, u32, usize)| {
            let load = Load { in_flight, share: weight * WHOLE, begins: false };
            (number, hash(&number.to_be_bytes()), load)
        };
        choose(endpoints.iter().map(candidate), key, load_max)
    }

    fn idle(weights: &[u32]) -> Vec<(u64, u32, usize)> {
        weights.iter().enumerate().map(|(number, &weight)| (number as u64, weight, 0)).collect()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let endpoints = idle(&[1, 2, 1, 4]);
        let mut counts = [0usize; 4];
        for key in 0..8000u64 {
            counts[chosen(&endpoints, hash(&key.to_be_bytes()), None).unwrap() as usize] += 1;
        }
        for (count, weight) in counts.into_iter().zip([1, 2, 1, 4]) {
            assert!(count.abs_diff(1000 * weight) < 120, "{counts:?}");
        }
        assert_eq!(chosen(&[], 7, Some(125)), None);
    }

    #[test]
    fn a_bound_that_others_have_passed_meanwhile_leaves_a_choice() {
        let looks = std::cell::Cell::new(0);
        let candidate = |endpoint: u64| {
            looks.set(looks.get() + 1);
            let in_flight = if looks.get() <= 2 { 0 } else { 9 };
            (endpoint, endpoint, Load { in_flight, share: WHOLE, begins: false })
        };
        assert!(choose((0..2).map(candidate), 7, Some(100)).is_some());
    }

    /// The places of keys are part of what is promised: after an upgrade each is where it was.
    #[test]
    fn the_hash_is_the_same_everywhere() {
        assert_eq!(hash(b"127.0.0.1:3000"), 12_651_741_347_112_671_471);
        let load = Load { in_flight: 0, share: WHOLE, begins: false };
        let endpoints = [(0, 0, load), (1, 1, load), (2, 2, load)];
        let places: Vec<_> = (0..8).map(|key| choose(endpoints.into_iter(), key, None).unwrap()).collect();
        assert_eq!(places, [0, 1, 0, 0, 2, 1, 2, 1]);
    }

    proptest! {
        /// What moves when an endpoint goes are its own keys; when it comes, they come back to it.
        #[test]
        fn only_the_keys_of_who_is_gone_move(
            weights in prop::collection::vec(1u32..10, 2..12), gone: prop::sample::Index, key: u64,
        ) {
            let all = idle(&weights);
            let gone = gone.index(all.len()) as u64;
            let left: Vec<_> = all.iter().copied().filter(|endpoint| endpoint.0 != gone).collect();
            let (before, after) = (chosen(&all, key, None).unwrap(), chosen(&left, key, None).unwrap());
            prop_assert!(before == after || before == gone);
        }

        /// More weight draws keys from the others and gives none to them.
        #[test]
        fn more_weight_only_draws_keys(weights in prop::collection::vec(1u32..10, 2..12), more: prop::sample::Index, key: u64) {
            let before = idle(&weights);
            let mut after = before.clone();
            let more = more.index(after.len());
            after[more].1 += 3;
            let (was, is) = (chosen(&before, key, None).unwrap(), chosen(&after, key, None).unwrap());
            prop_assert!(was == is || is == more as u64);
        }

        /// With a bound there is always a place, and nobody gets more than the bound allows.
        #[test]
        fn a_bound_holds_and_leaves_a_place(
            endpoints in prop::collection::vec((1u32..10, 0usize..40), 1..10), key: u64, percent in 100u32..300,
        ) {
            let endpoints: Vec<_> =
                endpoints.into_iter().enumerate().map(|(number, (weight, load))| (number as u64, weight, load)).collect();
            let chosen = chosen(&endpoints, key, Some(percent)).unwrap();
            let (_, weight, load) = endpoints[chosen as usize];
            let total: usize = endpoints.iter().map(|endpoint| endpoint.2).sum::<usize>() + 1;
            let weights: u32 = endpoints.iter().map(|endpoint| endpoint.1).sum();
            let most = total as f64 * f64::from(weight) / f64::from(weights) * f64::from(percent) / 100.0;
            prop_assert!((load as f64) < most.ceil() + 1e-9);
        }
    }
}
