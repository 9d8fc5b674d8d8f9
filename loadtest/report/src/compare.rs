//! What has become worse between two sets of runs, and how bad that is (L4): a p95 that rose by more than a fifth is a warning,
//! a share of failures that doubled is critical. Where runs are repeated, chance is told apart: failures that it may explain, such
//! as those of one run in three, are a warning.

use std::collections::BTreeSet;
use std::fmt;

use crate::document::{Block, Cell, Document};
use crate::plot::short;
use crate::run::Run;
use crate::statistics::Estimate;

const SLOWER: f64 = 1.2;
const FAILS_MORE: f64 = 2.0;
/// Below this share of failures a run is as good as free of them, and doubling says nothing.
const FAILED_MIN: f64 = 0.001;
/// Fewer samples have no p95 to speak of.
const SAMPLES_MIN: f64 = 100.0;
/// What is faster counts as this: no time has no logarithm.
const MS_MIN: f64 = 0.001;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Fine,
    Warning,
    Critical,
}

#[derive(Debug)]
struct Change {
    what: String,
    a: Figure,
    b: Figure,
    severity: Severity,
    /// Worse by the means alone.
    is_risen: bool,
}

/// The mean of all runs, and how it is told.
#[derive(Debug)]
struct Figure {
    /// None if it was not measured.
    mean: Option<f64>,
    told: String,
}

#[derive(Debug)]
pub struct Comparison {
    changes: Vec<Change>,
    title: String,
}

/// Runs of several kinds.
#[derive(Debug)]
pub struct NotComparable(Vec<String>);

impl fmt::Display for NotComparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the runs differ in type, scale, length, replicas or stores: {}", self.0.join("; "))
    }
}

impl Comparison {
    /// Runs of one type, at one scale: others have nothing to say of each other.
    pub fn between(a: &[Run], b: &[Run]) -> Result<Self, NotComparable> {
        let kinds: BTreeSet<_> = a.iter().chain(b).map(kind).collect();
        if kinds.len() != 1 {
            return Err(NotComparable(kinds.into_iter().collect()));
        }
        let commits = |runs: &[Run]| runs.iter().map(|run| run.about.commit.clone()).collect::<BTreeSet<_>>();
        let joined = |runs: &[Run]| commits(runs).into_iter().collect::<Vec<_>>().join(", ");
        let title = format!("From {} ({} runs) to {} ({} runs)", joined(a), a.len(), joined(b), b.len());
        let mut changes: Vec<_> = quantiles(a).into_iter().filter_map(|part| slower(a, b, part)).collect();
        changes.extend(failing(a, b));
        Ok(Self { changes, title })
    }

    pub fn severity(&self) -> Severity {
        self.changes.iter().map(|change| change.severity).max().unwrap_or(Severity::Fine)
    }

    pub fn document(&self) -> Document {
        let rows = self.changes.iter().map(|change| {
            let grown = match (change.a.mean, change.b.mean) {
                (Some(before), Some(after)) if before > 0.0 => format!("{:+.0} %", 100.0 * (after / before - 1.0)),
                _ => "–".to_owned(),
            };
            let said = match change.severity {
                Severity::Fine if change.is_risen => "perhaps chance",
                Severity::Fine => "",
                Severity::Warning => "warning",
                Severity::Critical => "**critical**",
            };
            let cells = [change.what.clone(), change.a.told.clone(), change.b.told.clone(), grown, said.to_owned()];
            cells.map(Cell::from).into()
        });
        let verdict = match self.severity() {
            Severity::Fine if self.changes.iter().any(|change| change.is_risen) => {
                "Nothing has become worse that chance does not explain."
            }
            Severity::Fine => "Nothing has become worse.",
            Severity::Warning => "Something has become slower, may fail more, or was not measured.",
            Severity::Critical => "More requests fail.",
        };
        let note = "Means of the runs, and between what they lie in 95 of 100 cases; of one or two nobody knows. Those of times are \
                    geometric: times differ by factors.";
        let table = Block::Table { head: vec!["figure", "before", "after", "change", ""], rows: rows.collect() };
        Document {
            title: self.title.clone(),
            blocks: vec![Block::Text(verdict.to_owned()), Block::Text(note.to_owned()), table],
        }
    }
}

fn kind(run: &Run) -> String {
    let about = &run.about;
    format!("{} × {} × {}, {} replicas on {}", about.kind, about.scale, about.time, about.replicas, about.stores)
}

/// All requests, and each endpoint with samples enough.
fn quantiles(runs: &[Run]) -> Vec<String> {
    let endpoints = runs.iter().flat_map(|run| run.summary.by_tag("http_req_duration", "endpoint"));
    let names: BTreeSet<_> =
        endpoints.filter(|(_, metric)| metric.count() >= SAMPLES_MIN).map(|(name, _)| name.to_owned()).collect();
    let mut parts = vec!["http_req_duration".to_owned()];
    parts.extend(names.into_iter().map(|name| format!("http_req_duration{{endpoint:{name}}}")));
    parts
}

fn slower(a: &[Run], b: &[Run], part: String) -> Option<Change> {
    let endpoint = part.strip_prefix("http_req_duration{endpoint:").map(|rest| rest.trim_end_matches('}'));
    let samples_min = if endpoint.is_some() { SAMPLES_MIN } else { 1.0 };
    let p95 = |runs: &[Run]| {
        let measured = runs.iter().filter_map(|run| run.summary.metric(&part));
        let figures =
            measured.filter(|metric| metric.count() >= samples_min).filter_map(|metric| metric.quantile("95"));
        Estimate::of(&figures.map(|ms| ms.max(MS_MIN).ln()).collect::<Vec<_>>())
    };
    let what = format!("p95 of {}, ms", endpoint.unwrap_or("all"));
    let a = p95(a)?;
    // What is not looked at any more would pass for ever.
    let Some(b) = p95(b) else {
        let b = Figure { mean: None, told: "too few requests".to_owned() };
        return Some(Change { what, a: time(&a), b, severity: Severity::Warning, is_risen: true });
    };
    let severity = if b.is_above(SLOWER.ln(), 1.0, &a) { Severity::Warning } else { Severity::Fine };
    let is_risen = b.mean - a.mean > SLOWER.ln();
    Some(Change { what, a: time(&a), b: time(&b), severity, is_risen })
}

fn failing(a: &[Run], b: &[Run]) -> Option<Change> {
    let failed = |runs: &[Run]| {
        let shares: Vec<_> = runs.iter().map(|run| 100.0 * run.summary.failed(None)).collect();
        Estimate::of(&shares)
    };
    let (a, b) = (failed(a)?, failed(b)?);
    let is_risen = b.mean > 100.0 * FAILED_MIN && b.mean > FAILS_MORE * a.mean;
    let severity = match is_risen {
        true if b.is_above(0.0, FAILS_MORE, &a) => Severity::Critical,
        true => Severity::Warning,
        false => Severity::Fine,
    };
    Some(Change { what: "failed, %".to_owned(), a: share(&a), b: share(&b), severity, is_risen })
}

/// Of logarithms.
fn time(estimate: &Estimate) -> Figure {
    let mean = estimate.mean.exp();
    let between = |margin: f64| {
        let (least, most) = ((estimate.mean - margin).exp(), (estimate.mean + margin).exp());
        format!("{} ({}–{})", short(mean), short(least), short(most))
    };
    Figure { mean: Some(mean), told: estimate.margin().map_or_else(|| short(mean), between) }
}

fn share(estimate: &Estimate) -> Figure {
    let mean = short(estimate.mean);
    let told = estimate.margin().map_or(mean.clone(), |margin| format!("{mean} ± {}", short(margin)));
    Figure { mean: Some(estimate.mean), told }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;
    use crate::summary::Summary;

    /// A run with this p95 and this share of failures.
    fn with(p95: f64, failed: f64) -> Run {
        let json = format!(
            r#"{{"metrics": {{"http_req_duration": {{"values": {{"med": 1, "p(95)": {p95}, "count": 500}}}},
                "http_req_failed": {{"values": {{"rate": {failed}}}}}}}}}"#
        );
        Run { summary: Summary::parse(&json).unwrap(), ..run() }
    }

    #[test]
    fn slower_is_a_warning_and_more_failures_are_critical() {
        let check = |a: &[(f64, f64)], b: &[(f64, f64)], severity: Severity| {
            let runs =
                |figures: &[(f64, f64)]| figures.iter().map(|(p95, failed)| with(*p95, *failed)).collect::<Vec<_>>();
            assert_eq!(Comparison::between(&runs(a), &runs(b)).unwrap().severity(), severity, "{a:?} {b:?}");
        };
        check(&[(100.0, 0.0)], &[(119.0, 0.0005)], Severity::Fine);
        check(&[(100.0, 0.0)], &[(121.0, 0.0)], Severity::Warning);
        check(&[(100.0, 0.01)], &[(100.0, 0.019)], Severity::Fine);
        check(&[(100.0, 0.01)], &[(130.0, 0.021)], Severity::Critical);
        check(&[(100.0, 0.0)], &[(100.0, 0.002)], Severity::Critical);
        // One run of three that failed: perhaps by chance, but nobody is to miss it.
        check(&[(100.0, 0.0); 3], &[(100.0, 0.0), (100.0, 0.0), (100.0, 0.03)], Severity::Warning);
        check(&[(100.0, 0.0); 3], &[(100.0, 0.02), (100.0, 0.03), (100.0, 0.03)], Severity::Critical);
        // Far slower each time, and never alike: times differ by factors.
        check(
            &[(20.0, 0.0), (45.0, 0.0), (88.0, 0.0)],
            &[(3700.0, 0.0), (1100.0, 0.0), (4600.0, 0.0)],
            Severity::Warning,
        );
        check(&[(1.0, 0.0); 2], &[(0.0, 0.0); 2], Severity::Fine);
        // What is within chance is no change.
        check(&[(50.0, 0.0), (150.0, 0.0)], &[(80.0, 0.0), (170.0, 0.0)], Severity::Fine);
    }

    /// Runs that ask for nothing are not slow, and no reason to be content.
    #[test]
    fn what_is_not_measured_any_more_is_a_warning() {
        let asking = |count: u32| {
            let values = format!(r#"{{"values": {{"p(95)": 10, "count": {count}}}}}"#);
            let json = format!(
                r#"{{"metrics": {{"http_req_duration": {values}, "http_req_duration{{endpoint:login}}": {values}}}}}"#
            );
            (0..3).map(|_| Run { summary: Summary::parse(&json).unwrap(), ..run() }).collect::<Vec<_>>()
        };
        let severity = |a, b| Comparison::between(&asking(a), &asking(b)).unwrap().severity();
        assert_eq!(severity(200, 200), Severity::Fine);
        // Too few to speak of, as there were before.
        assert_eq!(severity(99, 3), Severity::Fine);
        assert_eq!(severity(200, 3), Severity::Warning);
        assert_eq!(severity(99, 0), Severity::Warning);
        let told = Comparison::between(&asking(200), &asking(0)).unwrap().document().markdown();
        assert!(told.contains("| too few requests | – | warning |"), "{told}");
    }

    #[test]
    fn runs_of_another_kind_are_not_compared() {
        let mut other = with(1.0, 0.0);
        other.about.scale = 1.0;
        let refused = Comparison::between(&[with(1.0, 0.0)], &[other]).unwrap_err().to_string();
        assert!(refused.contains("normal × 0.125") && refused.contains("normal × 1"), "{refused}");
    }

    #[test]
    fn the_comparison_reads_well() {
        let text = Comparison::between(&[with(100.0, 0.0)], &[with(130.0, 0.0)]).unwrap().document().markdown();
        assert!(text.contains("# From abc (1 runs) to abc (1 runs)"), "{text}");
        assert!(text.contains("| p95 of all, ms | 100 | 130 | +30 % | warning |"), "{text}");
        let runs = |times: [f64; 3]| times.map(|ms| with(ms, 0.0));
        let repeated = Comparison::between(&runs([50.0, 150.0, 86.6]), &runs([80.0, 170.0, 116.6]));
        let text = repeated.unwrap().document().markdown();
        assert!(text.contains("Nothing has become worse that chance does not explain."), "{text}");
        assert!(
            text.contains("| +35 % | perhaps chance |") && text.contains("| failed, % | 0 ± 0 | 0 ± 0 | – |  |"),
            "{text}"
        );
    }
}
