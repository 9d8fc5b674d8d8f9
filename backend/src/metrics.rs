//! What is counted, for `/metrics`. Labels come from closed sets: routes as they are declared, names of queries, states.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Counter, Encoder as _, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use tollgate_otlp::{Counts, Dropped};

use crate::store::Usage;
use crate::{health, processors};

/// Seconds. The targets of the routes, from 80 ms to 3 s, stand among them.
const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
const QUERY_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// All series of one app. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

struct Series {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    signed_in: IntCounterVec,
    refused: IntCounterVec,
    active_users: IntGauge,
    query_seconds: HistogramVec,
    connections: IntGaugeVec,
    connections_max: IntGauge,
    queue_depth: IntGaugeVec,
    worked: IntCounterVec,
    redis_failures: IntCounter,
    process: Process,
}

/// What the kernel says of this process, under the names that Prometheus' own clients use.
struct Process {
    processor_seconds: Counter,
    resident_bytes: IntGauge,
}

impl Process {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let processor_seconds = Counter::new("process_cpu_seconds_total", "CPU time used, in user and system mode")?;
        let resident_bytes = IntGauge::new("process_resident_memory_bytes", "Memory held in RAM")?;
        let started = Gauge::new("process_start_time_seconds", "When the process was started, in seconds since 1970")?;
        started.set(jiff::Timestamp::now().as_millisecond() as f64 / 1e3);
        registry.register(Box::new(processor_seconds.clone()))?;
        registry.register(Box::new(resident_bytes.clone()))?;
        registry.register(Box::new(started))?;
        Ok(Self { processor_seconds, resident_bytes })
    }

    /// What cannot be read stays as it was.
    fn look(&self) {
        if let Ok(used) = processors::used() {
            self.processor_seconds.inc_by((used.as_secs_f64() - self.processor_seconds.get()).max(0.0));
        }
        if let Ok(Some(bytes)) = health::resident() {
            self.resident_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

/// What became of spans, under the names that the proxy has for its own. They are counted where they are sent.
fn spans(counts: &Counts) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let exported = IntCounter::new("tollgate_spans_exported_total", "Spans that the collector took")?;
    exported.inc_by(counts.exported());
    registry.register(Box::new(exported))?;
    let opts = Opts::new("tollgate_spans_dropped_total", "Spans that did not reach the collector, by reason");
    let dropped = IntCounterVec::new(opts, &["reason"])?;
    for why in Dropped::ALL {
        dropped.with_label_values(&[why.word()]).inc_by(counts.dropped(why));
    }
    registry.register(Box::new(dropped))?;
    Ok(registry)
}

impl Metrics {
    /// Those whose labels are known beforehand are there from the start, at zero, so that a rate can be told from the first.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
            registry.register(Box::new(histograms.clone()))?;
            Ok::<_, prometheus::Error>(histograms)
        };
        let redis_failures =
            IntCounter::new("redis_failures_total", "Calls that Redis did not answer in time or at all")?;
        registry.register(Box::new(redis_failures.clone()))?;
        let signed_in = counters("auth_success_total", "Sign-ins and renewals that succeeded", &["by"])?;
        for by in ["password", "refresh"] {
            signed_in.with_label_values(&[by]);
        }
        Ok(Self(Arc::new(Series {
            requests: counters("http_requests_total", "Requests answered", &["method", "route", "status"])?,
            request_seconds: histograms(
                "http_request_duration_seconds",
                "From the head of a request to the head of its response",
                &["route"],
                REQUEST_BUCKETS,
            )?,
            signed_in,
            refused: counters("auth_failure_total", "Sign-ins, renewals and tokens that were refused", &["reason"])?,
            active_users: gauge("active_users", "Users who signed in or renewed within 15 minutes, over all replicas")?,
            query_seconds: histograms(
                "db_query_duration_seconds",
                "Statements, with their wait",
                &["query"],
                QUERY_BUCKETS,
            )?,
            connections: gauges("db_pool_connections", "Connections of this replica to the database", &["state"])?,
            connections_max: gauge("db_pool_connections_max", "The most that there may be")?,
            queue_depth: gauges("queue_depth", "What waits, by queue", &["queue"])?,
            worked: counters("job_attempts_total", "Attempts at jobs, by what they came to", &["kind", "outcome"])?,
            redis_failures,
            process: Process::new(&registry)?,
            registry,
        })))
    }

    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        // A status has three digits, and a method that no route knows has not come here.
        let mut digits = itoa::Buffer::new();
        self.0.requests.with_label_values(&[method, route, digits.format(status)]).inc();
        self.0.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    pub fn queried(&self, query: &str, took: Duration) {
        self.0.query_seconds.with_label_values(&[query]).observe(took.as_secs_f64());
    }

    /// `by` is "password" or "refresh".
    pub fn signed_in(&self, by: &str) {
        self.0.signed_in.with_label_values(&[by]).inc();
    }

    /// `reason` is the code of the problem.
    pub fn refused(&self, reason: &str) {
        self.0.refused.with_label_values(&[reason]).inc();
    }

    pub fn active_users(&self, count: i64) {
        self.0.active_users.set(count);
    }

    /// The gauge of one queue, for its owner to move.
    pub fn queue(&self, name: &str) -> IntGauge {
        self.0.queue_depth.with_label_values(&[name])
    }

    /// `outcome` is "done", "failed", or "lost" to somebody else.
    pub fn worked(&self, kind: &str, outcome: &str) {
        self.0.worked.with_label_values(&[kind, outcome]).inc();
    }

    pub fn redis_failed(&self) {
        self.0.redis_failures.inc();
    }

    /// All series in the text format of Prometheus.
    pub fn text(&self, usage: Usage, counts: &Counts) -> Result<Vec<u8>, prometheus::Error> {
        let used = usage.open.saturating_sub(usage.idle);
        self.0.connections.with_label_values(&["idle"]).set(i64::from(usage.idle));
        self.0.connections.with_label_values(&["used"]).set(i64::from(used));
        self.0.connections_max.set(i64::from(usage.max));
        self.0.process.look();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        TextEncoder::new().encode(&spans(counts)?.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use tollgate_otlp::{Kind, Name, Queue, Span, SpanId, TraceId};

    use super::*;

    #[test]
    fn spans_that_are_lost_show() {
        let counts = Arc::<Counts>::default();
        let now = std::time::SystemTime::now();
        // There is room for none.
        Queue::new(0, 1, Arc::clone(&counts)).push(&Span {
            trace_id: TraceId::of(1),
            span_id: SpanId::of(1),
            parent: None,
            parent_is_remote: false,
            trace_state: "",
            name: Name("GET", None),
            kind: Kind::Server,
            start: now,
            end: now,
            attributes: Vec::new(),
            link: None,
            error: None,
        });
        let usage = Usage { open: 0, idle: 0, max: 1 };
        let text = String::from_utf8(Metrics::new().unwrap().text(usage, &counts).unwrap()).unwrap();
        for line in [
            "# TYPE tollgate_spans_exported_total counter",
            "tollgate_spans_exported_total 0",
            "tollgate_spans_dropped_total{reason=\"queue_full\"} 1",
            "tollgate_spans_dropped_total{reason=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line:?} in:\n{text}");
        }
    }
}
