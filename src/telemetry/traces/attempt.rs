//! The CLIENT span of one attempt, from its choice of an endpoint to the head of the response, by the semantic
//! conventions for HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{StatusCode, Version};
use tokio::time::Instant;
use tollgate_otlp::{Kind, Name, Span, SpanId, TraceId, Value};

use super::{Moment, Recording, SpanFields, Trace, server};
use crate::clock;
use crate::telemetry::semconv::{Error, client_error, method, protocol_version};

/// What is known of an attempt when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub endpoint: SocketAddr,
    pub upstream: &'a str,
    pub is_tls: bool,
    pub version: Version,
    /// How often the request has been sent before.
    pub resent: u32,
    pub begun: Instant,
}

/// An attempt under way. It is over when it is dropped: if nothing was said of it, whom it was for has left.
pub struct AttemptSpan<'a> {
    trace_id: TraceId,
    span_id: SpanId,
    /// The SERVER span.
    parent: SpanId,
    recording: Arc<Recording>,
    sent: Sent<'a>,
    method: &'static str,
    /// Without the query, which may hold secrets.
    url: String,
    outcome: Outcome,
}

enum Outcome {
    Abandoned,
    Answered(StatusCode),
    Failed { kind: &'static str, why: String },
}

impl Trace {
    /// Begins a span, if it is recorded, and says which fields are to name it in the request that goes upstream.
    pub fn begin_attempt<'a>(&self, head: &Parts, sent: Sent<'a>) -> (SpanFields, Option<Box<AttemptSpan<'a>>>) {
        let Some(recording) = &self.recording else { return (self.hand_on(self.span_id), None) };
        let span_id = SpanId::of(fastrand::u64(..));
        let (method, _) = method(head.method.as_str());
        let scheme = if sent.is_tls { "https" } else { "http" };
        let outcome = Outcome::Abandoned;
        let span = AttemptSpan {
            trace_id: self.trace_id,
            span_id,
            parent: self.span_id,
            recording: Arc::clone(recording),
            sent,
            method,
            url: format!("{scheme}://{}{}", sent.endpoint, head.uri.path()),
            outcome,
        };
        // Few have one, and all would carry its size.
        (self.hand_on(span_id), Some(Box::new(span)))
    }

    /// As an attempt would name it, which is not made.
    pub fn foretell(&self) -> SpanFields {
        self.hand_on(self.span_id)
    }

    fn hand_on(&self, span_id: SpanId) -> SpanFields {
        if self.keeps_parent {
            return SpanFields::name(self.trace_id, span_id);
        }
        SpanFields::hand_on(self.trace_id, span_id, self.is_sampled, self.is_continued)
    }
}

impl AttemptSpan<'_> {
    pub fn answered(&mut self, status: StatusCode) {
        self.outcome = Outcome::Answered(status);
    }

    pub fn failed(&mut self, kind: &'static str, why: &impl ToString) {
        self.outcome = Outcome::Failed { kind, why: why.to_string() };
    }

    fn attributes(&self) -> Vec<(&'static str, Value<'_>)> {
        let sent = &self.sent;
        let mut attributes = Vec::with_capacity(12);
        attributes.extend([
            ("http.request.method", self.method.into()),
            ("url.full", server::text(&self.url)),
            ("server.address", sent.endpoint.ip().into()),
            ("server.port", sent.endpoint.port().into()),
            ("network.protocol.version", protocol_version(sent.version).into()),
            ("tollgate.upstream", server::text(sent.upstream)),
        ]);
        if sent.resent > 0 {
            attributes.push(("http.request.resend_count", sent.resent.into()));
        }
        attributes
    }
}

impl Drop for AttemptSpan<'_> {
    fn drop(&mut self) {
        let mut attributes = self.attributes();
        let (error, why) = match &self.outcome {
            Outcome::Abandoned => (Error::Code("abandoned"), ""),
            Outcome::Answered(status) => {
                attributes.push(("http.response.status_code", status.as_u16().into()));
                (client_error(*status), "")
            }
            Outcome::Failed { kind, why } => (Error::Code(kind), why.as_str()),
        };
        let error = error.kind().map(|kind| {
            attributes.push(("error.type", Value::Text(kind)));
            why.into()
        });
        let now = Moment { at: clock::now(), wall: clock::system_time() };
        self.recording.queue.push(&Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent: Some(self.parent),
            parent_is_remote: false,
            trace_state: &self.recording.state,
            name: Name(server::name_of(self.method), None),
            kind: Kind::Client,
            start: now.wall_of(self.sent.begun),
            end: now.wall,
            attributes,
            link: None,
            error,
        });
    }
}
