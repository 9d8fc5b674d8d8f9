//! Traces: which request has one, under which name, and the spans of those that are recorded.
//!
//! Whether a request is recorded is decided first of all; one that is not has its ids and costs no more. A recorded one
//! has a SERVER span, made of its entry for the access log when that is written, and a CLIENT span for each attempt.
//! They go to the bounded queue of [`Exporting`]; nothing here waits, and what the queue does not take is counted there.
//!
//! A CLIENT span ends with the head of the response, and a SERVER span with the last byte of its body. The conventions for
//! HTTP leave open whether a CLIENT span takes in the body, and ask that it does not where nobody may ever read that: here it
//! is the client of the edge who reads it, at his own pace, and who may leave. So the span tells how long the endpoint took to
//! answer, as `http.client.request.duration` does.

mod attempt;
mod context;
mod exporting;
mod server;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method};
use tokio::time::Instant;
use tollgate_otlp::{Link, Queue, Sampler, SpanId, TraceId};

pub use self::attempt::{AttemptSpan, Sent};
pub use self::context::{SpanFields, TRACEPARENT, X_SPAN_ID, X_TRACE_ID};
pub use self::exporting::Exporting;
use crate::config::Telemetry;
use crate::telemetry::Entry;

/// Decides for the requests of one generation of the configuration.
#[derive(Debug)]
pub struct Tracing {
    sampler: Sampler,
    /// None: there is no collector.
    queue: Option<Arc<Queue>>,
}

/// One request in its trace. Clones are the same.
#[derive(Debug, Clone)]
pub struct Trace {
    pub trace_id: TraceId,
    /// Of the SERVER span.
    pub span_id: SpanId,
    is_sampled: bool,
    /// It was begun by a peer that is believed.
    is_continued: bool,
    /// What goes upstream is below the peer's span: ours reaches no collector, and nobody has to know of it.
    keeps_parent: bool,
    /// None if nothing is recorded.
    recording: Option<Arc<Recording>>,
}

#[derive(Debug)]
struct Recording {
    /// The span of the peer that is believed.
    parent: Option<SpanId>,
    state: String,
    queue: Arc<Queue>,
}

/// Two clocks at the same moment. A span is timed by the one, and told by the other.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Instant,
    pub wall: SystemTime,
}

impl Moment {
    fn wall_of(&self, instant: Instant) -> SystemTime {
        self.wall.checked_sub(self.at.saturating_duration_since(instant)).unwrap_or(self.wall)
    }
}

impl Tracing {
    /// Spans go to `queue`, if the configuration names a collector.
    pub fn new(config: &Telemetry, queue: Option<&Arc<Queue>>) -> Self {
        let queue = queue.filter(|_| config.settings.traces.is_some()).map(Arc::clone);
        Self { sampler: config.sampler, queue }
    }

    /// The trace of a request: that of its peer, if `is_believed`, or one that begins here. Requests of OPTIONS, which
    /// browsers and probes send by themselves, have none.
    pub fn begin(&self, method: &Method, fields: &HeaderMap, is_believed: impl FnOnce() -> bool) -> Option<Trace> {
        if *method == Method::OPTIONS {
            return None;
        }
        let parent = context::parent(fields).filter(|_| is_believed());
        let trace_id = parent.map_or_else(|| TraceId::of(fastrand::u128(..)), |parent| parent.trace_id);
        let theirs = parent.map(|parent| parent.is_sampled);
        // Whoever exports nothing must not name a parent that is said to be recorded, nor change what others have decided.
        let is_sampled = match &self.queue {
            Some(_) => self.sampler.decide(trace_id.0.get(), theirs),
            None => theirs == Some(true),
        };
        let recording = self.queue.as_ref().filter(|_| is_sampled).map(|queue| {
            let state = if parent.is_some() { context::state(fields) } else { String::new() };
            Arc::new(Recording { parent: parent.map(|parent| parent.span_id), state, queue: Arc::clone(queue) })
        });
        let (span_id, is_continued) = (SpanId::of(fastrand::u64(..)), parent.is_some());
        let keeps_parent = recording.is_none() && theirs == Some(is_sampled);
        Some(Trace { trace_id, span_id, is_sampled, is_continued, keeps_parent, recording })
    }
}

impl Trace {
    /// Tells the client under which name the request is found.
    pub fn name(&self) -> SpanFields {
        SpanFields::name(self.trace_id, self.span_id)
    }

    /// Whether a peer that is believed has begun it. Otherwise its name was made here.
    pub fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// Whether `traceparent` goes on as it came.
    pub fn keeps_parent(&self) -> bool {
        self.keeps_parent
    }

    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    pub fn link(&self) -> Option<Link> {
        self.is_recorded().then_some(Link { trace_id: self.trace_id, span_id: self.span_id })
    }

    /// The request has ended; `now` is asked if that is recorded.
    pub fn ended(&self, entry: &Entry<'_>, link: Option<Link>, now: impl FnOnce() -> Moment) {
        if let Some(recording) = &self.recording {
            recording.queue.push(&server::span(entry, (self, recording), link, now()));
        }
    }
}

/// Takes off a response that may be stored, or whose request has no trace, the names that its origin gave it. On any other that is
/// passed on, ours replace them.
pub fn take_off_names(fields: &mut HeaderMap) {
    fields.remove(context::X_TRACE_ID);
    fields.remove(context::X_SPAN_ID);
}

#[cfg(test)]
mod tests;
