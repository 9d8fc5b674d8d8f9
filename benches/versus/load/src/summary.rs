//! What is said of a run.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Summary {
    pub requests: u64,
    pub seconds: f64,
    /// Were due and not answered when the run gave up waiting; their time counts as if they had been answered then.
    pub unanswered: u64,
    /// TLS sessions that went on from an earlier one.
    pub resumed: u64,
    /// Requests that were asked again because their connection was closed.
    pub retried: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// How long each request took since it was due.
#[derive(Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        self.nanoseconds.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn count(&self) -> u64 {
        self.nanoseconds.len() as u64
    }

    pub fn sort(&mut self) {
        self.nanoseconds.sort_unstable();
    }

    /// The shortest that so great a share of all is not longer than, in microseconds. They have to be sorted.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let rank = (share * self.nanoseconds.len() as f64).ceil() as usize;
        let found = self.nanoseconds.get(rank.saturating_sub(1));
        found.map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let mut latencies = Latencies::default();
        for us in (1..=1000).rev() {
            latencies.add(Duration::from_micros(us));
        }
        latencies.sort();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|share| latencies.quantile_us(share)), [500.0, 990.0, 999.0, 1000.0]);
        assert_eq!(Latencies::default().quantile_us(0.5), 0.0);
    }
}
