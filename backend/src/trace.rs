//! Traces of the app: a request joins the trace that the proxy in front names (W3C Trace Context), a job that of the request
//! that left it. Each that is sampled has a span, and so have the statements and the calls of Redis that it makes.
//!
//! Spans go to a bounded queue, and from there to a collector, if the operator names one. Nothing here waits.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tollgate_otlp::{
    Counts, Exporter, Given, Health, Kind, Name, Parent, Queue, Sampler, Settings, Span, SpanId, TraceId, Value,
};

use crate::say;
use crate::secret::{NoRandomness, random};

/// Spans that wait have this long to reach the collector at the end.
const CLOSE_MAX: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// What the statements of this task are for.
    static CURRENT: Trace;
}

/// Who says what is recorded, and where it goes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tracing {
    sampler: Sampler,
    /// None: there is no collector.
    exporter: Option<Arc<Exporter>>,
}

/// What this replica does for one request or one job.
#[derive(Debug, Clone)]
pub struct Trace {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The span of the proxy, or that left the job, if there is one.
    pub parent_id: Option<SpanId>,
    is_sampled: bool,
    /// None if nothing is recorded.
    queue: Option<Arc<Queue>>,
}

/// A span that has ended.
pub struct Ended<'a> {
    pub kind: Kind,
    pub name: Name<'a>,
    pub begun: Instant,
    pub attributes: Vec<(&'static str, Value<'a>)>,
    /// Why it failed.
    pub fault: Option<String>,
}

/// What the variables of OpenTelemetry say; `endpoint` wins over theirs.
pub fn settings(endpoint: Option<&str>) -> anyhow::Result<Settings> {
    let endpoint = match endpoint.map(|text| (text, text.parse().ok().filter(tollgate_otlp::is_absolute))) {
        None => None,
        Some((_, Some(uri))) => Some(uri),
        Some((text, None)) => {
            anyhow::bail!("{text} is not the URL of a collector: expected one such as http://127.0.0.1:4318")
        }
    };
    let defaults = [("service.name", "tollgate-backend"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let defaults = defaults.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let instance = ("service.instance.id".to_owned(), crate::secret::new_id());
    let defaults = defaults.into_iter().chain([instance]).collect();
    let given = Given { endpoint, defaults, ..Given::default() };
    let (settings, faults) = Settings::resolve(&given, &|name| std::env::var(name).ok());
    faults.iter().for_each(|fault| say(format_args!("{fault}")));
    Ok(settings)
}

impl Tracing {
    /// Within a runtime, which carries the spans.
    pub fn start(settings: &Settings) -> Self {
        let sampler = settings.sampler.unwrap_or_default();
        let exporter = settings.traces.clone().map(|target| {
            let runtime = tokio::runtime::Handle::current();
            let counts = Arc::<Counts>::default();
            let exporter = Exporter::start(settings.batching, "tollgate-backend", counts, tell, &runtime);
            exporter.apply(Some(target), &settings.resource);
            Arc::new(exporter)
        });
        Self { sampler, exporter }
    }

    /// Joins the trace of `traceparent`, or begins one if there is none that can be read.
    pub fn join(&self, traceparent: Option<&str>) -> Result<Trace, NoRandomness> {
        match traceparent.and_then(|text| Parent::parse(text.as_bytes())) {
            Some(parent) => self.trace(parent.trace_id, Some((parent.span_id, parent.is_sampled))),
            None => self.trace(TraceId::of(u128::from_be_bytes(random()?)), None),
        }
    }

    /// The same for what is asked again and again, by probes and scrapes: nothing of it is recorded unless the proxy does.
    pub fn join_quietly(&self, traceparent: Option<&str>) -> Result<Trace, NoRandomness> {
        let trace = self.join(traceparent)?;
        Ok(if trace.parent_id.is_some() { trace } else { Trace { is_sampled: false, queue: None, ..trace } })
    }

    /// A span of what another one has left to do, by what it said of itself: [`Trace::producer`].
    pub fn below(&self, trace_id: &str, producer: &str) -> Result<Trace, NoRandomness> {
        let (span_id, flags) = producer.split_once('-').unwrap_or((producer, "00"));
        self.join(Some(&format!("00-{trace_id}-{span_id}-{flags}")))
    }

    fn trace(&self, trace_id: TraceId, parent: Option<(SpanId, bool)>) -> Result<Trace, NoRandomness> {
        let is_sampled = self.sampler.decide(trace_id.0.get(), parent.map(|(_, is_sampled)| is_sampled));
        let exporter = self.exporter.as_ref().filter(|_| is_sampled);
        Ok(Trace {
            trace_id,
            span_id: new_span()?,
            parent_id: parent.map(|(span_id, _)| span_id),
            is_sampled,
            queue: exporter.map(|exporter| Arc::clone(exporter.queue())),
        })
    }

    /// Sends what there is.
    pub async fn close(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.close(CLOSE_MAX).await;
        }
    }
}

impl Trace {
    /// Does something on behalf of it.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// What a job that it leaves remembers of it: the span and the flags, as `traceparent` has them.
    pub fn producer(&self) -> String {
        format!("{}-{:02x}", self.span_id, u8::from(self.is_sampled))
    }

    pub fn is_recorded(&self) -> bool {
        self.queue.is_some()
    }

    /// It is over.
    pub fn ended(&self, ended: Ended<'_>) {
        self.push(self.span_id, self.parent_id, ended);
    }

    fn push(&self, span_id: SpanId, parent: Option<SpanId>, ended: Ended<'_>) {
        let Some(queue) = &self.queue else { return };
        let end = SystemTime::now();
        queue.push(&Span {
            trace_id: self.trace_id,
            span_id,
            parent,
            parent_is_remote: parent.is_some() && span_id == self.span_id,
            trace_state: "",
            name: ended.name,
            kind: ended.kind,
            start: end.checked_sub(ended.begun.elapsed()).unwrap_or(end),
            end,
            attributes: ended.attributes,
            link: None,
            error: ended.fault.map(Into::into),
        });
    }
}

/// A statement or a call of a store has ended, on behalf of what the task does; `fault` is what became of it otherwise.
pub fn asked(system: &'static str, operation: &'static str, begun: Instant, fault: Option<&dyn std::fmt::Display>) {
    let recorded = |trace: &Trace| {
        // Without randomness there is no span, and the request fares no worse.
        if let (true, Ok(span_id)) = (trace.is_recorded(), new_span()) {
            let mut attributes = vec![("db.system.name", system.into()), ("db.operation.name", operation.into())];
            attributes.extend(fault.map(|_| ("error.type", "_OTHER".into())));
            let fault = fault.map(ToString::to_string);
            let ended = Ended { kind: Kind::Client, name: Name(operation, None), begun, attributes, fault };
            trace.push(span_id, Some(trace.span_id), ended);
        }
    };
    // Beside requests and jobs there is nothing to be a part of.
    let _beside = CURRENT.try_with(recorded);
}

fn new_span() -> Result<SpanId, NoRandomness> {
    Ok(SpanId::of(u64::from_be_bytes(random()?)))
}

fn tell(health: Health) {
    match health {
        Health::Failing(why) => say(format_args!("spans are not exported: {why}")),
        Health::Recovered => say(format_args!("spans are exported again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_trace_is_joined_if_it_can_be_read() {
        for (field, is_joined) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what"), true),
            (format!("00-{TRACE}-{SPAN}-01-what"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-{SPAN}"), false),
            (format!("00-{TRACE}-{SPAN}-+1"), false),
            (String::new(), false),
        ] {
            let trace = Tracing::default().join(Some(&field)).unwrap();
            assert_eq!(trace.trace_id.to_string() == TRACE, is_joined, "{field}");
            let parent = trace.parent_id.map(|parent| parent.to_string());
            assert_eq!(parent.as_deref(), is_joined.then_some(SPAN), "{field}");
        }
    }

    #[test]
    fn probes_are_recorded_if_the_proxy_does() {
        let tracing = Tracing::default();
        let quiet = |field: Option<&str>| tracing.join_quietly(field).unwrap().is_sampled;
        assert!(tracing.join(None).unwrap().is_sampled && !quiet(None) && !quiet(Some("what")));
        assert!(quiet(Some(&format!("00-{TRACE}-{SPAN}-01"))) && !quiet(Some(&format!("00-{TRACE}-{SPAN}-00"))));
    }

    #[test]
    fn a_job_is_sampled_as_what_left_it() {
        for flags in ["00", "01"] {
            let producer = Tracing::default().join(Some(&format!("00-{TRACE}-{SPAN}-{flags}"))).unwrap();
            let job = Tracing::default().below(TRACE, &producer.producer()).unwrap();
            assert_eq!((job.trace_id, job.parent_id), (producer.trace_id, Some(producer.span_id)));
            assert_eq!((job.is_sampled, producer.is_sampled), (flags == "01", flags == "01"));
        }
        // As an earlier version has left it.
        assert!(!Tracing::default().below(TRACE, SPAN).unwrap().is_sampled);
    }
}
