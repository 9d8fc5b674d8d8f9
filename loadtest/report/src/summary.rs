//! What k6 counted: the data that it hands to `handleSummary`, written as JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Of a metric, its figures by their k6 names, such as `p(95)`.
#[derive(Debug, Default, Deserialize)]
pub struct Metric {
    #[serde(default)]
    values: BTreeMap<String, f64>,
    #[serde(default)]
    thresholds: BTreeMap<String, Threshold>,
}

#[derive(Debug, Deserialize)]
struct Threshold {
    ok: bool,
}

#[derive(Debug, Default, Deserialize)]
pub struct Summary {
    metrics: BTreeMap<String, Metric>,
}

/// Something that a run was held to.
#[derive(Debug, PartialEq)]
pub struct Target {
    /// Which metric of what, such as `http_req_duration{endpoint:login}`.
    pub metric: String,
    /// Such as `p(95)<1000`.
    pub expression: String,
    /// None if it was not measured: then it is met.
    pub measured: Option<f64>,
    pub is_met: bool,
}

impl Metric {
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// Of a trend; k6 calls the median by another name than other quantiles.
    pub fn quantile(&self, percent: &str) -> Option<f64> {
        if self.count() == 0.0 {
            return None;
        }
        if percent == "50" { self.value("med") } else { self.value(&format!("p({percent})")) }
    }

    /// How many samples a trend or counter has.
    pub fn count(&self) -> f64 {
        self.value("count").unwrap_or(0.0)
    }

    fn measured(&self, expression: &str) -> Option<f64> {
        let key = expression.split(['<', '>', '=']).next().unwrap_or_default();
        if key == "p(50)" { self.value("med") } else { self.value(key) }
    }
}

impl Summary {
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.get(name)
    }

    /// The parts of a metric by the values of a tag, such as all endpoints; those without samples are left out.
    pub fn by_tag(&self, name: &str, tag: &str) -> Vec<(&str, &Metric)> {
        let prefix = format!("{name}{{{tag}:");
        let parts = self.metrics.iter().filter_map(|(key, metric)| {
            let value = key.strip_prefix(&prefix)?.strip_suffix('}')?;
            (metric.count() > 0.0).then_some((value, metric))
        });
        parts.collect()
    }

    /// The share of requests that failed, of all or of a part of them, such as `endpoint:login`.
    pub fn failed(&self, part: Option<&str>) -> f64 {
        let name = part.map_or("http_req_failed".to_owned(), |part| format!("http_req_failed{{{part}}}"));
        self.metric(&name).and_then(|metric| metric.value("rate")).unwrap_or(0.0)
    }

    /// What the run was held to. What every figure fulfils is there only so that k6 keeps the part apart.
    pub fn targets(&self) -> Vec<Target> {
        let of = |(name, metric): (&String, &Metric)| {
            let is_trend = metric.values.contains_key("med");
            let is_measured = !is_trend || metric.count() > 0.0;
            let targets = metric.thresholds.iter().filter(|(expression, _)| !expression.ends_with(">=0"));
            let targets = targets.map(|(expression, threshold)| Target {
                metric: name.clone(),
                expression: expression.clone(),
                measured: metric.measured(expression).filter(|_figure| is_measured),
                is_met: threshold.ok,
            });
            targets.collect::<Vec<_>>()
        };
        self.metrics.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const SUMMARY: &str = r#"{"metrics": {
        "http_req_duration": {"type": "trend", "values": {"med": 3, "p(75)": 4, "p(90)": 6, "p(95)": 8, "p(99)": 20, "p(99.9)": 40, "max": 50, "count": 200},
            "thresholds": {"p(50)<500": {"ok": true}, "p(95)<7": {"ok": false}}},
        "http_req_duration{endpoint:login}": {"type": "trend", "values": {"med": 30, "p(95)": 80, "p(99)": 90, "max": 99, "count": 20},
            "thresholds": {"p(95)<1000": {"ok": true}}},
        "http_req_duration{endpoint:order}": {"type": "trend", "values": {"med": 0, "p(95)": 0, "max": 0, "count": 0},
            "thresholds": {"p(95)<2000": {"ok": true}, "max>=0": {"ok": true}}},
        "http_req_duration{stage:1}": {"type": "trend", "values": {"med": 3, "p(95)": 8, "p(99)": 20, "max": 50, "count": 200}},
        "http_reqs": {"type": "counter", "values": {"count": 200, "rate": 20}},
        "http_reqs{status:200}": {"type": "counter", "values": {"count": 190, "rate": 19}},
        "http_reqs{status:503}": {"type": "counter", "values": {"count": 10, "rate": 1}},
        "http_req_failed": {"type": "rate", "values": {"rate": 0.05, "passes": 10, "fails": 190}},
        "hit_ms": {"type": "trend", "values": {"med": 1, "p(95)": 2, "count": 90}},
        "miss_ms": {"type": "trend", "values": {"med": 5, "p(95)": 7, "count": 10}}
    }}"#;

    #[test]
    fn parts_are_found_by_their_tag() {
        let summary = Summary::parse(SUMMARY).unwrap();
        let names = |tag| summary.by_tag("http_req_duration", tag).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names("endpoint"), ["login"]);
        assert_eq!(names("stage"), ["1"]);
        assert_eq!(summary.failed(None), 0.05);
        assert_eq!(summary.failed(Some("endpoint:login")), 0.0);
    }

    #[test]
    fn targets_tell_what_was_measured() {
        let summary = Summary::parse(SUMMARY).unwrap();
        let targets = summary.targets();
        let found =
            targets.iter().map(|each| (each.expression.as_str(), each.measured, each.is_met)).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("p(50)<500", Some(3.0), true),
                ("p(95)<7", Some(8.0), false),
                ("p(95)<1000", Some(80.0), true),
                ("p(95)<2000", None, true),
            ]
        );
    }
}
