//! The folder that a load test leaves behind, as one value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::exposition::{Exposition, quantile};
use crate::summary::Summary;

/// Routes of the app whose answers are for everybody, so that the edge may keep them.
const KEPT: [&str; 7] = [
    "/api/v1/media",
    "/api/v1/media/search",
    "/api/v1/media/{id}",
    "/api/v1/products/search",
    "/api/v1/products/{id}",
    "/api/v1/workflows",
    "/api/v1/workflows/{id}",
];

/// `run.json`: what `loadtest/run.py` knows of the run.
#[derive(Debug, Deserialize)]
pub struct About {
    #[serde(rename = "type")]
    pub kind: String,
    pub scale: f64,
    pub time: f64,
    pub replicas: u32,
    pub stores: String,
    pub stages: Vec<Stage>,
    /// In RFC 3339.
    pub begin: String,
    pub seconds: f64,
    pub machine: Machine,
    pub commit: String,
    pub k6: String,
    /// By role: edge, replica-1 and on, k6, postgres, redis, and others for the rest of the machine.
    pub cpu_s: BTreeMap<String, f64>,
    pub memory_peak_kib: BTreeMap<String, f64>,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
pub struct Stage {
    pub seconds: f64,
    /// At its end.
    pub users: u32,
}

#[derive(Debug, Deserialize)]
pub struct Machine {
    pub cores: u32,
    pub cpu: String,
    pub kernel: String,
}

/// One look at all processes.
#[derive(Debug, Deserialize)]
pub struct Sample {
    /// Since the begin.
    pub at_s: f64,
    /// By role, since the begin.
    pub cpu_s: BTreeMap<String, f64>,
    pub memory_kib: BTreeMap<String, f64>,
    /// That the edge has answered since it started, and those with 500 and above.
    pub requests: f64,
    pub failed: f64,
}

#[derive(Debug)]
pub struct Run {
    pub about: About,
    pub summary: Summary,
    pub before: Exposition,
    pub after: Exposition,
    /// What each replica said at the end.
    pub replicas: Vec<Exposition>,
}

impl Run {
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let place = |name: &'static str| move || format!("{name} in {}", folder.display());
        let replicas = (1..).map(|number| text(&format!("metrics-replica-{number}.txt"))).map_while(Result::ok);
        Ok(Self {
            about: serde_json::from_str(&text("run.json")?).with_context(place("run.json"))?,
            summary: Summary::parse(&text("summary.json")?).with_context(place("summary.json"))?,
            before: Exposition::parse(&text("metrics-before.txt")?),
            after: Exposition::parse(&text("metrics-after.txt")?),
            replicas: replicas.map(|text| Exposition::parse(&text)).collect(),
        })
    }

    /// The run of this folder, or all runs in folders within.
    pub fn read_all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        if folder.join("run.json").exists() {
            return Ok(vec![Self::read(folder)?]);
        }
        let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
        let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        folders.retain(|path| path.join("run.json").exists());
        folders.sort();
        if folders.is_empty() {
            bail!("{} is not the folder of a run, and none is in it", folder.display());
        }
        folders.iter().map(|path| Self::read(path)).collect()
    }

    /// By how much a counter of the edge has grown.
    pub fn growth(&self, name: &str, label: &str) -> f64 {
        self.after.sum(name, label) - self.before.sum(name, label)
    }

    /// All requests that k6 made.
    pub fn requests(&self) -> f64 {
        self.summary.metric("http_reqs").map_or(0.0, super::summary::Metric::count)
    }

    /// Answers that the edge had, and those that a replica had to give, of what is for everybody; none if nobody asked for that.
    pub fn hits_and_misses(&self) -> Option<(f64, f64)> {
        let count = |name: &str| self.summary.metric(name).map_or(0.0, super::summary::Metric::count);
        let (hits, misses) = (count("hit_ms"), count("miss_ms"));
        (hits + misses > 0.0).then_some((hits, misses))
    }

    pub fn hit_ratio(&self) -> Option<f64> {
        self.hits_and_misses().map(|(hits, misses)| hits / (hits + misses))
    }

    /// How long replicas took for what is for everybody, by their own clocks: the p95 in milliseconds.
    pub fn origin_p95_ms(&self) -> Option<f64> {
        let found = self.replicas.iter().flat_map(|each| each.buckets("http_request_duration_seconds", "route"));
        let kept = found.filter(|(route, _)| KEPT.contains(&route.as_str())).map(|(_, buckets)| buckets);
        let all = kept.reduce(|mut sums, more| {
            sums.iter_mut().zip(more).for_each(|(sum, (_, count))| sum.1 += count);
            sums
        })?;
        quantile(0.95, &all).map(|seconds| seconds * 1000.0)
    }

    /// By how much the p95 of misses, as the generator saw them, is above that.
    pub fn miss_above_origin_ms(&self) -> Option<f64> {
        Some(self.summary.metric("miss_ms")?.quantile("95")? - self.origin_p95_ms()?)
    }

    /// How long requests took at the edge, from their first byte to the last of their answer: by route, the samples that are
    /// at most each bound, in seconds.
    pub fn edge_times(&self) -> Vec<(String, Vec<(f64, f64)>)> {
        const NAME: &str = "http_request_duration_seconds";
        let before = self.before.buckets(NAME, "route");
        let grown = |(route, buckets): (String, Vec<(f64, f64)>)| {
            let earlier = before.iter().find(|(known, _)| *known == route).map(|(_, buckets)| buckets.as_slice());
            let was = |place: usize| earlier.and_then(|buckets| buckets.get(place)).map_or(0.0, |(_, count)| *count);
            let buckets = buckets.into_iter().enumerate().map(|(place, (bound, count))| (bound, count - was(place)));
            (route, buckets.collect())
        };
        self.after.buckets(NAME, "route").into_iter().map(grown).collect()
    }

    /// CPU time of a role for each request, in microseconds. `replica` stands for all of them.
    pub fn cpu_us(&self, role: &str) -> f64 {
        let processes = self.about.cpu_s.iter().filter(|(name, _)| is_of(name, role));
        let used = processes.fold(0.0, |sum, (_, used)| sum + used);
        if self.requests() > 0.0 { used * 1e6 / self.requests() } else { 0.0 }
    }

    /// The most memory that one process of a role had, in MiB.
    pub fn memory_peak_mib(&self, role: &str) -> Option<f64> {
        let peaks = self.about.memory_peak_kib.iter().filter(|(name, _)| is_of(name, role));
        peaks.map(|(_, kib)| kib / 1024.0).reduce(f64::max)
    }
}

/// Whether a process by this name has the role.
fn is_of(name: &str, role: &str) -> bool {
    name == role || name.strip_prefix(role).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::plot::short;
    use crate::summary::tests::SUMMARY;

    const ABOUT: &str = r#"{"type": "normal", "scale": 0.125, "time": 0.1, "replicas": 2, "stores": "sqlite",
        "stages": [{"seconds": 10, "users": 5}], "begin": "2026-11-21T22:00:00+00:00", "seconds": 10,
        "machine": {"cores": 2, "cpu": "A <fast> one", "kernel": "6"}, "commit": "abc", "k6": "k6 v1.1.0", "k6_status": 0,
        "cpu_s": {"edge": 0.02, "replica-1": 0.05, "replica-2": 0.05, "k6": 0.1},
        "memory_peak_kib": {"edge": 40960, "replica-1": 51200, "replica-2": 61440},
        "samples": [
            {"at_s": 0, "cpu_s": {"edge": 0}, "memory_kib": {"edge": 40000}, "requests": 10, "failed": 0},
            {"at_s": 5, "cpu_s": {"edge": 0.01}, "memory_kib": {"edge": 40000}, "requests": 110, "failed": 0},
            {"at_s": 10, "cpu_s": {"edge": 0.02}, "memory_kib": {"edge": 40960}, "requests": 210, "failed": 10}
        ]}"#;

    pub fn run() -> Run {
        let metrics = |hits: u32| {
            let outcome =
                |name: &str, count: u32| format!("tollgate_cache_requests_total{{outcome=\"{name}\"}} {count}\n");
            Exposition::parse(&(outcome("hit", hits) + &outcome("miss", hits / 3) + &outcome("bypass", hits)))
        };
        let bucket = |route: &str, count: u32| {
            let name = "http_request_duration_seconds_bucket";
            format!("{name}{{route=\"{route}\",le=\"0.001\"}} 0\n{name}{{route=\"{route}\",le=\"0.002\"}} {count}\n")
        };
        let replica = || Exposition::parse(&(bucket("/api/v1/media", 10) + &bucket("/api/v1/products/{id}", 10)));
        Run {
            about: serde_json::from_str(ABOUT).unwrap(),
            summary: Summary::parse(SUMMARY).unwrap(),
            before: metrics(0),
            after: metrics(90),
            replicas: vec![replica(), replica()],
        }
    }

    #[test]
    fn figures_are_of_the_run_alone_and_by_role() {
        let run = run();
        assert_eq!(run.hit_ratio(), Some(0.9));
        // 38 of 40 within the second bucket.
        assert_eq!(run.origin_p95_ms().map(short), Some("1.95".to_owned()));
        assert_eq!(run.miss_above_origin_ms().map(short), Some("5.05".to_owned()));
        assert_eq!(run.cpu_us("edge").round(), 100.0);
        assert_eq!(run.cpu_us("replica").round(), 500.0);
        assert_eq!(run.memory_peak_mib("replica"), Some(60.0));
        assert_eq!(run.memory_peak_mib("postgres"), None);
    }
}
