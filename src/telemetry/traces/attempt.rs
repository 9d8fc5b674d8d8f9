//! The CLIENT span of one attempt, from its choice of an endpoint to the head of the response, by the semantic
//! conventions for HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use http::{StatusCode, Version};
use tokio::time::Instant;
use tollgate_otlp::{Kind, Queue, Span, SpanId, Status, Value};

use super::{Moment, Trace, context, server};
use crate::clock;

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

/// An attempt under way. If it is dropped, whom it was for has left.
pub struct AttemptSpan {
    span: Span,
    queue: Arc<Queue>,
    begun: Instant,
}

impl Trace {
    /// Names the trace in the request that goes upstream, and begins a span if it is recorded.
    pub fn begin_attempt(&self, head: &mut Parts, sent: Sent<'_>) -> Option<AttemptSpan> {
        let Some(recording) = &self.recording else {
            self.hand_on(head, self.span_id);
            return None;
        };
        let span_id = SpanId::of(fastrand::u64(..));
        self.hand_on(head, span_id);
        let (method, _) = server::method(head.method.as_str());
        let span = Span {
            trace_id: self.trace_id,
            span_id,
            parent: Some(self.span_id),
            trace_state: recording.state.clone(),
            name: if method == "_OTHER" { "HTTP" } else { method }.into(),
            kind: Kind::Client,
            attributes: attributes(head, method, sent),
            ..Span::default()
        };
        Some(AttemptSpan { span, queue: Arc::clone(&recording.queue), begun: sent.begun })
    }

    /// Names the trace as an attempt would, which is not made.
    pub fn foretell(&self, head: &mut Parts) {
        self.hand_on(head, self.span_id);
    }

    fn hand_on(&self, head: &mut Parts, span_id: SpanId) {
        // The state goes with its trace (§3.3).
        if !self.is_continued {
            head.headers.remove(context::TRACESTATE);
        }
        context::hand_on(&mut head.headers, self.trace_id, span_id, self.is_sampled);
    }
}

fn attributes(head: &Parts, method: &'static str, sent: Sent<'_>) -> Vec<(&'static str, Value)> {
    let scheme = if sent.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
    // Without the query, which may hold secrets.
    let url = format!("{scheme}://{}{}", sent.endpoint, head.uri.path());
    let mut attributes = Vec::with_capacity(12);
    attributes.extend([
        ("http.request.method", method.into()),
        ("url.full", server::text(&url)),
        ("server.address", sent.endpoint.ip().to_string().into()),
        ("server.port", sent.endpoint.port().into()),
        ("network.protocol.version", server::protocol_version(sent.version).into()),
        ("tollgate.upstream", server::text(sent.upstream)),
    ]);
    if sent.resent > 0 {
        attributes.push(("http.request.resend_count", sent.resent.into()));
    }
    attributes
}

impl AttemptSpan {
    pub fn answered(mut self, status: StatusCode) {
        self.span.attributes.push(("http.response.status_code", status.as_u16().into()));
        if status.is_client_error() || status.is_server_error() {
            self.fail(status.as_str().to_owned().into(), "".into());
        }
    }

    pub fn failed(mut self, kind: &'static str, why: &impl ToString) {
        self.fail(kind.into(), why.to_string().into());
    }

    fn fail(&mut self, kind: Value, why: std::borrow::Cow<'static, str>) {
        self.span.attributes.push(("error.type", kind));
        self.span.status = Status::Error(why);
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        let mut span = std::mem::take(&mut self.span);
        let is_told = |name: &&'static str| matches!(*name, "error.type" | "http.response.status_code");
        if !span.attributes.iter().any(|(name, _)| is_told(name)) {
            span.attributes.push(("error.type", "abandoned".into()));
        }
        let now = Moment { at: clock::now(), wall: clock::system_time() };
        span.start = now.wall_of(self.begun);
        span.end = now.wall;
        self.queue.push([span]);
    }
}
