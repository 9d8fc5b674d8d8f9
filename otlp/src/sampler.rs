//! Whether a trace is recorded, decided by its id alone, so that everyone who is asked decides alike. Pure.

use std::str::FromStr;

/// What decides for traces that begin here, and whether that holds for those that others have begun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Who continues a trace does as its parent does.
    pub follows_parent: bool,
    pub root: Root,
}

/// How many of the traces that begin here are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Root {
    All,
    None,
    /// From 0 to 1.
    Ratio(f64),
}

impl Sampler {
    /// The given share of what begins here, and of what continues what its parent decided.
    pub fn ratio(ratio: f64) -> Self {
        Self { follows_parent: true, root: Root::Ratio(ratio) }
    }

    /// `parent` is what the parent decided, if there is one.
    pub fn decide(&self, trace_id: u128, parent: Option<bool>) -> bool {
        match parent {
            Some(sampled) if self.follows_parent => sampled,
            _ => self.root.decide(trace_id),
        }
    }

    /// By the names of `OTEL_TRACES_SAMPLER` and the argument that goes with it.
    pub fn named(name: &str, argument: Option<&str>) -> Option<Self> {
        let (follows_parent, name) = match name.strip_prefix("parentbased_") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let root = match name {
            "always_on" => Root::All,
            "always_off" => Root::None,
            "traceidratio" => Root::Ratio(argument.map_or(Some(1.0), ratio)?),
            _ => return None,
        };
        Some(Self { follows_parent, root })
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self { follows_parent: true, root: Root::All }
    }
}

impl Root {
    /// As the other implementations of `TraceIdRatioBased` do it: the lower 63 bits of the id are a random number.
    fn decide(self, trace_id: u128) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Ratio(ratio) if ratio >= 1.0 => true,
            Self::Ratio(ratio) => ((trace_id as u64) >> 1) < (ratio.max(0.0) * (1_u64 << 63) as f64) as u64,
        }
    }
}

fn ratio(text: &str) -> Option<f64> {
    f64::from_str(text.trim()).ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samplers_by_name() {
        let check = |name, argument, expected| assert_eq!(Sampler::named(name, argument), expected, "{name}");
        let sampler = |follows_parent, root| Some(Sampler { follows_parent, root });
        check("always_on", None, sampler(false, Root::All));
        check("always_off", Some("1"), sampler(false, Root::None));
        check("traceidratio", Some("0.25"), sampler(false, Root::Ratio(0.25)));
        check("traceidratio", None, sampler(false, Root::Ratio(1.0)));
        check("parentbased_always_on", None, sampler(true, Root::All));
        check("parentbased_always_off", None, sampler(true, Root::None));
        check("parentbased_traceidratio", Some(" 0.5 "), sampler(true, Root::Ratio(0.5)));
        check("parentbased_traceidratio", Some("2"), None);
        check("parentbased_traceidratio", Some("half"), None);
        check("jaeger_remote", None, None);
        check("", None, None);
    }

    #[test]
    fn a_parent_decides_for_those_that_follow_it() {
        let check = |sampler: Sampler, parent, expected| assert_eq!(sampler.decide(u128::MAX, parent), expected);
        check(Sampler::ratio(0.0), Some(true), true);
        check(Sampler::ratio(1.0), Some(false), false);
        check(Sampler::ratio(1.0), None, true);
        check(Sampler::ratio(0.999), None, false);
        check(Sampler { follows_parent: false, root: Root::None }, Some(true), false);
        check(Sampler { follows_parent: false, root: Root::All }, Some(false), true);
    }

    proptest! {
        #[test]
        fn a_larger_share_takes_all_of_a_smaller_one(id: u128, one in 0.0..=1.0, other in 0.0..=1.0) {
            let (small, large) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(!Root::Ratio(small).decide(id) || Root::Ratio(large).decide(id));
            prop_assert!(!Root::Ratio(0.0).decide(id) && Root::Ratio(1.0).decide(id));
        }
    }
}
