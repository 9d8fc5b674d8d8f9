//! The SERVER span of a request, of what the access log is told of it, by the semantic conventions for HTTP. Pure.

use std::borrow::Cow;

use http::StatusCode;
use tollgate_otlp::{Kind, Link, Name, Span, Value};

use super::{Moment, Recording, Trace};
use crate::telemetry::Entry;
use crate::telemetry::semconv::{Error, method, protocol_version, server_error};

/// A longer text is cut: a queue of spans is bounded by their number.
const TEXT_BYTES_MAX: usize = 1024;

pub fn span<'a>(
    entry: &'a Entry<'_>,
    (trace, recording): (&Trace, &'a Recording),
    link: Option<Link>,
    now: Moment,
) -> Span<'a> {
    let mut attributes = attributes(entry);
    if let Some(upstream) = &entry.upstream {
        attributes.push(("tollgate.upstream", text(upstream.name)));
        attributes.push(("tollgate.attempts", upstream.attempts.into()));
        if let Some(queued) = upstream.queued {
            attributes.push(("tollgate.queued_ms", Value::Float(queued.as_secs_f64() * 1e3)));
        }
    }
    if let Some(status) = entry.rpc_status {
        attributes.push(("rpc.system.name", "grpc".into()));
        attributes.push(("rpc.response.status_code", status.into()));
    }
    if let Some(reason) = entry.reason {
        attributes.push(("tollgate.reason", reason.into()));
    }
    // What the client did wrong is no error of the server.
    let error = StatusCode::from_u16(entry.status)
        .map_or(Error::None, |status| server_error(status, entry.reason, entry.rpc_status));
    if let Some(kind) = error.kind() {
        attributes.push(("error.type", Value::Text(kind)));
    }
    Span {
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        parent: recording.parent,
        parent_is_remote: recording.parent.is_some(),
        trace_state: &recording.state,
        name: Name(name_of(entry.method), entry.path_of_route),
        kind: Kind::Server,
        start: now.wall.checked_sub(entry.duration).unwrap_or(now.wall),
        end: now.wall,
        attributes,
        link,
        // The attributes say why.
        error: (error != Error::None).then(Cow::default),
    }
}

fn attributes<'a>(entry: &'a Entry<'_>) -> Vec<(&'static str, Value<'a>)> {
    let (method, original) = method(entry.method);
    let mut attributes: Vec<(&'static str, Value<'_>)> = Vec::with_capacity(24);
    attributes.push(("http.request.method", method.into()));
    attributes.push(("url.path", text(entry.path)));
    attributes.push(("url.scheme", if entry.tls.is_some() { "https" } else { "http" }.into()));
    attributes.push(("http.response.status_code", entry.status.into()));
    attributes.push(("client.address", entry.client.into()));
    attributes.push(("network.peer.address", entry.peer.ip().into()));
    attributes.push(("network.peer.port", entry.peer.port().into()));
    attributes.push(("network.protocol.version", protocol_version(entry.version).into()));
    attributes.push(("http.response.body.size", count(entry.bytes_sent)));
    if let Some(port) = entry.port {
        attributes.push(("server.port", port.into()));
    }
    if entry.bytes_received > 0 {
        attributes.push(("http.request.body.size", count(entry.bytes_received)));
    }
    let optional = [
        ("http.request.method_original", original),
        ("http.route", entry.path_of_route),
        ("tollgate.route", entry.route),
        ("server.address", Some(entry.host).filter(|host| !host.is_empty())),
        ("tollgate.cache", entry.cache),
        ("tollgate.rate_limit", entry.rate_limit),
        ("tollgate.coding", entry.coding.map(|coding| coding.code())),
    ];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| Some((name, text(value?)))));
    let fields = [("user_agent.original", entry.user_agent), ("tollgate.request_id", entry.request_id)];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name, text(std::str::from_utf8(value?).ok()?))));
    attributes.extend(fields);
    attributes
}

/// A method in the name of a span, which stands beside the pattern of the route: what few requests share would be no name.
pub fn name_of(sent: &str) -> &'static str {
    match method(sent) {
        (_, Some(_)) => "HTTP",
        (method, None) => method,
    }
}

pub fn text(text: &str) -> Value<'_> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

fn count(bytes: u64) -> Value<'static> {
    Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}
