//! Whether an endpoint answers worse than the others, and whether they can do without it. This module only compares.

use std::time::Duration;

use super::tally::Counts;

/// When an endpoint answers so much worse than the others that it is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlier {
    pub share_percent: u32,
    /// With fewer requests in the window nothing is said.
    pub requests: u32,
    pub window: Duration,
    /// The share of all endpoints that may be out because of it.
    pub ejected_percent_max: u32,
}

/// The other endpoints of an upstream, when one of them is judged. Who is drained is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others {
    /// Those that would be left if this one went.
    pub usable: usize,
    pub out: usize,
}

impl Outlier {
    /// Whether an endpoint stands out: with its own bad answers, and against the others' in sum. When all fail alike, the
    /// fault is not the endpoint's, and taking it out would only load the others.
    pub fn stands_out(&self, own: Counts, others: Counts) -> bool {
        own.all() >= self.requests.into()
            && own.failed_percent() >= self.share_percent.into()
            && others.failed_percent() * 2 < own.failed_percent()
    }

    /// Whether one more may be out.
    pub fn may_eject(&self, others: Others) -> bool {
        let (out, all) = (others.out + 1, others.usable + others.out + 1);
        others.usable > 0 && out * 100 <= all * self.ejected_percent_max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTLIER: Outlier =
        Outlier { share_percent: 50, requests: 10, window: Duration::from_secs(10), ejected_percent_max: 50 };

    fn counts(answered: u64, failed: u64) -> Counts {
        Counts { answered, failed }
    }

    #[test]
    fn an_outlier_is_worse_than_the_others() {
        let check = |own: (u64, u64), others: (u64, u64), expected: bool| {
            let found = OUTLIER.stands_out(counts(own.0, own.1), counts(others.0, others.1));
            assert_eq!(found, expected, "{own:?} {others:?}");
        };
        check((5, 5), (100, 0), true);
        check((6, 5), (100, 0), false);
        check((4, 5), (100, 0), false);
        check((0, 10), (50, 50), false);
        check((0, 10), (51, 49), true);
        check((5, 5), (80, 20), true);
        check((5, 5), (70, 30), false);
        check((5, 5), (0, 0), true);
    }

    #[test]
    fn outliers_are_at_most_a_share_of_the_endpoints() {
        let check = |percent: u32, usable: usize, out: usize, expected: bool| {
            let outlier = Outlier { ejected_percent_max: percent, ..OUTLIER };
            assert_eq!(outlier.may_eject(Others { usable, out }), expected, "{percent} % of {usable} + {out} + 1");
        };
        check(50, 0, 0, false);
        check(50, 1, 0, true);
        check(50, 2, 0, true);
        check(50, 1, 1, false);
        check(50, 2, 1, true);
        check(100, 1, 9, true);
        check(100, 0, 9, false);
        check(10, 8, 0, false);
        check(10, 9, 0, true);
    }
}
