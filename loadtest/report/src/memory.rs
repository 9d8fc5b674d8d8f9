//! How the memory of processes goes while as many users stay: a leak grows in every quarter alike, a cache that fills ever less.

use crate::run::{About, Run};

/// Fewer looks in a quarter say little.
const LOOKS_MIN: usize = 5;

/// A process while users neither come nor leave.
#[derive(Debug)]
pub struct Trend {
    pub role: String,
    /// What was resident, in MiB: the mean of each quarter of that time.
    pub quarters: [f64; 4],
    /// From the third quarter to the fourth, in MiB an hour.
    pub hourly: f64,
    /// And in bytes for each request that the edge answered meanwhile.
    pub a_request: f64,
}

/// From when to when most of the users stay, in seconds since the begin; the longest time if there are more. None in a run whose
/// users come and go all the time.
pub fn steady(about: &About) -> Option<(f64, f64)> {
    let mut at_s = 0.0;
    let mut users = 0;
    let mut longest: Option<(f64, f64)> = None;
    for stage in &about.stages {
        let end = at_s + stage.seconds;
        if stage.users == users && longest.is_none_or(|(from, to)| to - from < stage.seconds) {
            longest = Some((at_s, end));
        }
        (at_s, users) = (end, stage.users);
    }
    longest
}

/// Of each process that was there all that time. None without such a time, or with too few looks at it.
pub fn trends(run: &Run) -> Vec<Trend> {
    steady(&run.about).map_or_else(Vec::new, |within| {
        run.about.memory_peak_kib.keys().filter_map(|role| trend(run, role, within)).collect()
    })
}

fn trend(run: &Run, role: &str, (from, to): (f64, f64)) -> Option<Trend> {
    let length = (to - from) / 4.0;
    let quarter = |number: u8| {
        let begin = from + length * f64::from(number);
        let looks = run.about.samples.iter().filter(|sample| sample.at_s >= begin && sample.at_s < begin + length);
        let found: Vec<_> = looks.filter_map(|sample| Some((*sample.memory_kib.get(role)?, sample.requests))).collect();
        let count = found.len();
        let mean = |figure: fn(&(f64, f64)) -> f64| found.iter().map(figure).sum::<f64>() / count as f64;
        (count >= LOOKS_MIN).then(|| (mean(|look| look.0) / 1024.0, mean(|look| look.1)))
    };
    let [first, second, third, fourth] = [quarter(0)?, quarter(1)?, quarter(2)?, quarter(3)?];
    let grown = fourth.0 - third.0;
    Some(Trend {
        role: role.to_owned(),
        quarters: [first.0, second.0, third.0, fourth.0],
        hourly: grown * 3600.0 / length,
        a_request: grown * 1024.0 * 1024.0 / (fourth.1 - third.1).max(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;
    use crate::run::{Sample, Stage};

    /// A hundred users come in 10 s, stay for 400 s and leave; a request in 0.1 s.
    fn endurance(memory_mib: impl Fn(f64) -> f64) -> Run {
        let mut run = run();
        run.about.stages =
            [(10.0, 100), (400.0, 100), (10.0, 0)].map(|(seconds, users)| Stage { seconds, users }).into();
        let sample = |second: u32| {
            let at_s = f64::from(second);
            let memory_kib = [("edge".to_owned(), 1024.0 * memory_mib(at_s))].into();
            Sample { at_s, cpu_s: Default::default(), memory_kib, requests: 10.0 * at_s, failed: 0.0 }
        };
        run.about.samples = (1..=420).map(sample).collect();
        run
    }

    #[test]
    fn a_leak_is_told_by_the_hour_and_by_the_request() {
        // 36 MiB an hour, in 10 requests a second.
        let found = trends(&endurance(|at_s| 50.0 + at_s / 100.0));
        let [edge] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(edge.role, "edge");
        assert!((edge.hourly - 36.0).abs() < 0.01, "{edge:?}");
        assert!((edge.a_request - 1048.6).abs() < 0.1, "{edge:?}");
        assert!(edge.quarters.is_sorted(), "{edge:?}");
    }

    #[test]
    fn what_grows_while_users_come_is_none() {
        let found = trends(&endurance(|at_s| 50.0 + at_s.min(100.0)));
        assert_eq!(found.first().map(|edge| edge.hourly), Some(0.0), "{found:?}");
    }

    #[test]
    fn users_who_come_and_go_and_few_looks_have_no_trend() {
        assert_eq!(steady(&run().about), None);
        let mut few = endurance(|_| 50.0);
        few.about.samples.retain(|sample| sample.at_s % 50.0 == 0.0);
        assert!(trends(&few).is_empty());
    }
}
