//! Durations and sizes by ranges, counted on each thread for itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gathered::Histogram;

/// Ranges that durations are counted by, in microseconds: those of both tables below.
const FINE_US: [u64; 22] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 250_000, 300_000, 500_000, 750_000,
    1_000_000, 2_000_000, 2_500_000, 3_000_000, 5_000_000, 7_500_000, 10_000_000, 30_000_000,
];

/// The same in milliseconds.
pub const FINE_MS: [f64; FINE_US.len()] = {
    let (mut bounds, mut at) = ([0.0; FINE_US.len()], 0);
    while at < bounds.len() {
        bounds[at] = FINE_US[at] as f64 / 1e3;
        at += 1;
    }
    bounds
};

/// Bounds in seconds. A hit takes under 1 ms; 150 ms to 5 s are the limits that service levels and alert rules name, so
/// that they are answered exactly.
pub const OWN_S: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0];

/// Those that the conventions of OpenTelemetry ask for.
pub const STANDARD_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bounds of sizes in bytes: 256 B, and four times as much each, to 64 MiB.
pub const SIZES_BYTES: [f64; 10] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];
/// The first of them as a power of two, and how many powers each is further.
const SIZES_FROM: u32 = 8;
const SIZES_STEP: u32 = 2;

/// Bounds in seconds of what takes microseconds; 50 ms are what a cache may take.
pub const SHORT_S: [f64; 12] = [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 0.05, 0.25];
const SHORT_NS: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 50_000_000, 250_000_000];

/// How long things took. The sum stands beside the ranges that most are in.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Durations {
    sum_ns: AtomicU64,
    /// By range; the last has no bound.
    counts: [AtomicU64; FINE_US.len() + 1],
}

/// How large things were.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Sizes {
    sum: AtomicU64,
    counts: [AtomicU64; SIZES_BYTES.len() + 1],
}

/// How long short things took. Clones of a sum are plain numbers.
#[derive(Debug, Default)]
pub struct ShortTimes {
    counts: [AtomicU64; SHORT_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// What threads counted of one duration, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurationSum {
    counts: [u64; FINE_US.len() + 1],
    sum_ns: u128,
}

/// The same of sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SizeSum {
    counts: [u64; SIZES_BYTES.len() + 1],
    sum: u128,
}

/// The same of short times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShortSum {
    counts: [u64; SHORT_NS.len() + 1],
    pub sum_ns: u64,
}

impl Durations {
    pub fn count(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        count_in(&self.counts, FINE_US.partition_point(|bound| bound * 1_000 < nanos));
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// By range; the last has no bound.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many there were, and the nanoseconds that they took in all.
    pub fn total(&self) -> (u64, u64) {
        (self.counts().sum(), self.sum_ns.load(Ordering::Relaxed))
    }
}

impl Sizes {
    pub fn count(&self, bytes: u64) {
        count_in(&self.counts, size_range(bytes));
        if bytes > 0 {
            self.sum.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl ShortTimes {
    pub fn count(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        count_in(&self.counts, SHORT_NS.partition_point(|bound| *bound < nanos));
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The number of bits of what is below says how often the size goes beyond.
fn size_range(bytes: u64) -> usize {
    let bits = u64::BITS - bytes.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(SIZES_FROM).div_ceil(SIZES_STEP) as usize).min(SIZES_BYTES.len())
}

fn count_in(counts: &[AtomicU64], range: usize) {
    if let Some(count) = counts.get(range) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl DurationSum {
    pub fn add(&mut self, durations: &Durations) {
        add_all(&mut self.counts, &durations.counts);
        self.sum_ns += u128::from(durations.sum_ns.load(Ordering::Relaxed));
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns += other.sum_ns;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// By `bounds`, each of which is one of those that were counted by.
    pub fn histogram(&self, bounds: &'static [f64]) -> Histogram {
        let mut counts = vec![0; bounds.len() + 1];
        let mut at = 0;
        for (index, count) in self.counts.iter().enumerate() {
            let is_above = |bound: f64| FINE_US.get(index).is_none_or(|fine| *fine as f64 / 1e6 > bound);
            while bounds.get(at).is_some_and(|bound| is_above(*bound)) {
                at += 1;
            }
            if let Some(sum) = counts.get_mut(at) {
                *sum += count;
            }
        }
        Histogram { bounds, counts, sum: self.sum_ns as f64 / 1e9 }
    }
}

impl SizeSum {
    pub fn add(&mut self, sizes: &Sizes) {
        add_all(&mut self.counts, &sizes.counts);
        self.sum += u128::from(sizes.sum.load(Ordering::Relaxed));
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    pub fn histogram(&self) -> Histogram {
        Histogram { bounds: &SIZES_BYTES, counts: self.counts.into(), sum: self.sum as f64 }
    }
}

impl ShortSum {
    pub fn add(&mut self, times: &ShortTimes) {
        add_all(&mut self.counts, &times.counts);
        self.sum_ns += times.sum_ns.load(Ordering::Relaxed);
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns += other.sum_ns;
    }

    /// What came since `before`. None if less was counted than then: something that counted is gone.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let mut came = *self;
        for (count, before) in came.counts.iter_mut().zip(before.counts) {
            *count = count.checked_sub(before)?;
        }
        came.sum_ns = came.sum_ns.checked_sub(before.sum_ns)?;
        Some(came)
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// None of nothing.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns.checked_div(self.count()).map(Duration::from_nanos)
    }

    pub fn histogram(&self) -> Histogram {
        Histogram { bounds: &SHORT_S, counts: self.counts.into(), sum: self.sum_ns as f64 / 1e9 }
    }
}

fn add_all(sums: &mut [u64], counts: &[AtomicU64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::telemetry::metrics::cells::PerThread;

    use super::*;

    #[test]
    fn what_is_shown_was_counted_by() {
        let fine: Vec<f64> = FINE_US.iter().map(|bound| *bound as f64 / 1e6).collect();
        assert!(OWN_S.iter().chain(&STANDARD_S).all(|bound| fine.contains(bound)));
        assert!(fine.iter().all(|bound| OWN_S.contains(bound) || STANDARD_S.contains(bound)));
        let short: Vec<f64> = SHORT_NS.iter().map(|bound| *bound as f64 / 1e9).collect();
        assert_eq!(short, SHORT_S);
    }

    #[test]
    fn sizes_by_powers_of_four() {
        for (bytes, expected) in [(0, 0), (1, 0), (256, 0), (257, 1), (1024, 1), (1025, 2), (67_108_864, 9)] {
            assert_eq!(size_range(bytes), expected, "{bytes}");
        }
        assert_eq!((size_range(67_108_865), size_range(u64::MAX)), (10, 10));
    }

    /// How many of `values` a histogram has to have in each range.
    fn by_range(values: &[f64], bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        values.iter().for_each(|value| counts[bounds.iter().filter(|bound| *bound < value).count()] += 1);
        counts
    }

    proptest! {
        /// Whichever bounds are shown, and however many threads have counted.
        #[test]
        fn every_value_is_in_its_range(
            micros in prop::collection::vec(prop_oneof![0u64..20_000, 0u64..40_000_000, prop::sample::select(&FINE_US[..])], 0..60),
            bytes in prop::collection::vec(prop_oneof![0u64..5_000, any::<u64>().prop_map(|bits| bits >> 20)], 0..60),
            threads in 1usize..4,
        ) {
            let (durations, sizes) = (PerThread::<Durations>::default(), PerThread::<Sizes>::default());
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (durations, sizes, micros, bytes) = (&durations, &sizes, &micros, &bytes);
                    scope.spawn(move || {
                        let mine = |(index, _): &(usize, &u64)| index % threads == thread;
                        for (_, micros) in micros.iter().enumerate().filter(mine) {
                            durations.local().count(Duration::from_micros(*micros));
                        }
                        for (_, bytes) in bytes.iter().enumerate().filter(mine) {
                            sizes.local().count(*bytes);
                        }
                    });
                }
            });
            let (mut sum, mut size) = (DurationSum::default(), SizeSum::default());
            durations.iter().for_each(|durations| sum.add(durations));
            sizes.iter().for_each(|sizes| size.add(sizes));
            let seconds: Vec<f64> = micros.iter().map(|micros| *micros as f64 / 1e6).collect();
            for bounds in [&OWN_S[..], &STANDARD_S[..]] {
                prop_assert_eq!(sum.histogram(bounds).counts, by_range(&seconds, bounds));
            }
            let sizes: Vec<f64> = bytes.iter().map(|bytes| *bytes as f64).collect();
            prop_assert_eq!(size.histogram().counts, by_range(&sizes, &SIZES_BYTES));
            prop_assert_eq!(sum.sum_ns, micros.iter().map(|micros| u128::from(*micros) * 1_000).sum::<u128>());
            prop_assert_eq!(size.sum, bytes.iter().map(|bytes| u128::from(*bytes)).sum::<u128>());
        }
    }
}
