//! The SERVER span of a request, of what the access log is told of it, by the semantic conventions for HTTP. Pure.

use std::borrow::Cow;

use http::Version;
use tollgate_otlp::{Kind, Link, Span, Status, Value};

use super::{Moment, Recording, Trace};
use crate::telemetry::Entry;

/// A longer text is cut: a queue of spans is bounded by their number.
const TEXT_BYTES_MAX: usize = 1024;

pub fn span(entry: &Entry<'_>, (trace, recording): (&Trace, &Recording), link: Option<Link>, now: Moment) -> Span {
    let mut attributes = attributes(entry);
    if let Some(upstream) = &entry.upstream {
        attributes.push(("tollgate.upstream", text(upstream.name)));
        attributes.push(("tollgate.attempts", upstream.attempts.into()));
        if let Some(queued) = upstream.queued {
            attributes.push(("tollgate.queued_ms", Value::Float(queued.as_secs_f64() * 1e3)));
        }
    }
    let failed = entry.status >= 500;
    if let Some(reason) = entry.reason {
        attributes.push(("error.type", reason.into()));
    } else if failed {
        attributes.push(("error.type", entry.status.to_string().into()));
    }
    Span {
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        parent: recording.parent,
        parent_is_remote: recording.parent.is_some(),
        trace_state: recording.state.clone(),
        name: name(entry),
        kind: Kind::Server,
        start: now.wall.checked_sub(entry.duration).unwrap_or(now.wall),
        end: now.wall,
        attributes,
        links: link.into_iter().collect(),
        // What the client did wrong is no error of the server.
        status: if failed { Status::Error(entry.reason.unwrap_or_default().into()) } else { Status::Unset },
    }
}

fn attributes(entry: &Entry<'_>) -> Vec<(&'static str, Value)> {
    let (method, original) = method(entry.method);
    let mut attributes: Vec<(&'static str, Value)> = Vec::with_capacity(24);
    attributes.push(("http.request.method", method.into()));
    attributes.push(("url.path", text(entry.path)));
    attributes.push(("url.scheme", if entry.tls.is_some() { "https" } else { "http" }.into()));
    attributes.push(("http.response.status_code", entry.status.into()));
    attributes.push(("client.address", entry.client.to_string().into()));
    attributes.push(("network.peer.address", entry.peer.ip().to_string().into()));
    attributes.push(("network.peer.port", entry.peer.port().into()));
    attributes.push(("network.protocol.version", protocol_version(entry.version).into()));
    attributes.push(("http.response.body.size", count(entry.bytes_sent)));
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

/// The method and the pattern of the route: a name that few requests share would be no name.
fn name(entry: &Entry<'_>) -> Cow<'static, str> {
    let method = match method(entry.method) {
        (_, Some(_)) => "HTTP",
        (method, None) => method,
    };
    match entry.path_of_route {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    }
}

/// The method as the conventions know it, and as it came if they do not.
pub fn method(sent: &str) -> (&'static str, Option<&str>) {
    const KNOWN: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    match KNOWN.into_iter().find(|known| *known == sent) {
        Some(known) => (known, None),
        None => ("_OTHER", Some(sent)),
    }
}

pub fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

pub fn text(text: &str) -> Value {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned().into()
}

fn count(bytes: u64) -> Value {
    Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}
