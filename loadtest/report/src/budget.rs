//! Budgets: what a run may take at most, written in a file. One that a run has no figure for is broken: a check that silently
//! does not run is worse than none.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::document::{Block, Cell, Document};
use crate::plot::short;
use crate::run::Run;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Of all requests.
    #[serde(default)]
    all: Budget,
    #[serde(default)]
    endpoint: BTreeMap<String, Budget>,
    /// CPU time a request in microseconds, by role.
    #[serde(default)]
    cpu_us: BTreeMap<String, f64>,
    /// The most memory of one process, by role.
    #[serde(default)]
    memory_mib: BTreeMap<String, f64>,
    hit_ratio_min: Option<f64>,
    /// By how much the p95 of misses may be above that of the replicas.
    miss_above_origin_ms: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    failed_max: Option<f64>,
}

#[derive(Debug, PartialEq)]
pub struct Verdict {
    what: String,
    budget: f64,
    measured: Option<f64>,
    pub is_kept: bool,
}

impl Budgets {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// At least one: a file without a budget would keep everything.
    pub fn verdicts(&self, run: &Run) -> anyhow::Result<Vec<Verdict>> {
        let mut verdicts = self.all.verdicts(run, "all requests", None);
        for (name, budget) in &self.endpoint {
            verdicts.extend(budget.verdicts(run, name, Some(&format!("endpoint:{name}"))));
        }
        for (role, us) in &self.cpu_us {
            let used = Some(run.cpu_us(role)).filter(|used| *used > 0.0);
            verdicts.push(at_most(format!("CPU of {role} a request, µs"), *us, used));
        }
        for (role, mib) in &self.memory_mib {
            verdicts.push(at_most(format!("memory of {role}, MiB"), *mib, run.memory_peak_mib(role)));
        }
        if let Some(ms) = self.miss_above_origin_ms {
            verdicts.push(at_most("p95 of misses above the origin's, ms".to_owned(), ms, run.miss_above_origin_ms()));
        }
        if let Some(budget) = self.hit_ratio_min {
            let measured = run.hit_ratio();
            let is_kept = measured.is_some_and(|ratio| ratio >= budget);
            verdicts.push(Verdict { what: "hit ratio, at least".to_owned(), budget, measured, is_kept });
        }
        ensure!(!verdicts.is_empty(), "there is no budget");
        Ok(verdicts)
    }
}

impl Budget {
    fn verdicts(&self, run: &Run, name: &str, part: Option<&str>) -> Vec<Verdict> {
        let metric = part.map_or("http_req_duration".to_owned(), |part| format!("http_req_duration{{{part}}}"));
        let quantile = |percent: &str| run.summary.metric(&metric)?.quantile(percent);
        let quantiles = [("50", self.p50_ms), ("95", self.p95_ms), ("99", self.p99_ms)];
        let limits = quantiles.into_iter().filter_map(|(percent, budget)| Some((percent, budget?)));
        let mut verdicts: Vec<_> =
            limits.map(|(percent, ms)| at_most(format!("p{percent} of {name}, ms"), ms, quantile(percent))).collect();
        if let Some(share) = self.failed_max {
            let is_asked = run.summary.metric(&metric).is_some_and(|metric| metric.count() > 0.0);
            verdicts.push(at_most(format!("failed of {name}"), share, is_asked.then(|| run.summary.failed(part))));
        }
        verdicts
    }
}

fn at_most(what: String, budget: f64, measured: Option<f64>) -> Verdict {
    Verdict { what, budget, measured, is_kept: measured.is_some_and(|figure| figure <= budget) }
}

pub fn document(verdicts: &[Verdict]) -> Document {
    let rows = verdicts.iter().map(|verdict| {
        let measured = verdict.measured.map_or("not measured".to_owned(), short);
        vec![verdict.what.clone().into(), short(verdict.budget).into(), measured.into(), Cell::Verdict(verdict.is_kept)]
    });
    let table = Block::Table { head: vec!["of", "budget", "measured", "verdict"], rows: rows.collect() };
    Document { title: "Budgets".to_owned(), blocks: vec![table] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;

    #[test]
    fn what_is_beyond_its_budget_or_was_not_measured_is_named() {
        let text = "hit_ratio_min = 0.8\nmiss_above_origin_ms = 5\n[all]\np95_ms = 8\nfailed_max = 0.01\n[endpoint.login]\np99_ms = 50\nfailed_max = 0\n\
                    [endpoint.order]\np95_ms = 2000\nfailed_max = 0.5\n[cpu_us]\nedge = 150\n[memory_mib]\nreplica = 59\n";
        let verdicts = toml::from_str::<Budgets>(text).unwrap().verdicts(&run()).unwrap();
        let found = verdicts.iter().map(|each| (each.what.as_str(), each.is_kept)).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("p95 of all requests, ms", true),
                ("failed of all requests", false),
                ("p99 of login, ms", false),
                ("failed of login", true),
                ("p95 of order, ms", false),
                ("failed of order", false),
                ("CPU of edge a request, µs", true),
                ("memory of replica, MiB", false),
                ("p95 of misses above the origin's, ms", false),
                ("hit ratio, at least", true),
            ]
        );
        assert!(document(&verdicts).markdown().contains("| p95 of order, ms | 2000 | not measured | **FAIL** |"));
    }

    #[test]
    fn a_key_that_is_not_known_is_refused() {
        assert!(toml::from_str::<Budgets>("[all]\np96_ms = 1\n").is_err());
    }

    #[test]
    fn a_file_without_a_budget_is_refused() {
        for text in ["", "[all]\n[endpoint.login]\n"] {
            assert!(toml::from_str::<Budgets>(text).unwrap().verdicts(&run()).is_err(), "{text:?}");
        }
    }
}
