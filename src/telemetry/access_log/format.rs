//! How one request becomes one line. Pure: no clock, no file, and no allocation once `out` is warm.
//!
//! Whatever a peer sent, the result is one line that ends with a line feed, without control codes, and
//! (as JSON) valid UTF-8. Its length is bounded by what the limits of a head let in.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{StatusCode, Version};

use super::escape;
use super::redact::Redact;
use crate::clock::Wall;
use crate::compress::Outcome;
use crate::config::{self, AccessFormat, TlsVersion};
use tollgate_otlp::{SpanId, TraceId};

/// What is known of a request at the end of its response.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The client as the trusted peers name it.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    pub method: &'a str,
    /// Without a port; empty if there was none.
    pub host: &'a str,
    /// If the request said it.
    pub port: Option<u16>,
    pub path: &'a str,
    /// Without its question mark.
    pub query: Option<&'a str>,
    pub version: Version,
    pub status: u16,
    /// The reason code of a request that failed or was refused.
    pub reason: Option<&'static str>,
    /// What a call of gRPC came to, by name; None of what is none, and of one that ended before that was said.
    pub rpc_status: Option<&'static str>,
    /// The rate limit that refused the request, or in a dry run would have.
    pub rate_limit: Option<&'a str>,
    /// What the request was to the cache, on routes that keep responses.
    pub cache: Option<&'static str>,
    /// What became of the coding of the response, on routes that compress.
    pub coding: Option<Outcome>,
    /// From the complete head to the last byte of the response.
    pub duration: Duration,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// The route's name in the config.
    pub route: Option<&'a str>,
    /// Its path or pattern there.
    pub path_of_route: Option<&'a str>,
    pub upstream: Option<UpstreamEntry<'a>>,
    pub request_id: Option<&'a [u8]>,
    /// None if requests are not traced.
    pub trace: Option<(TraceId, SpanId)>,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub tls: Option<TlsVersion>,
}

/// The part of an entry that a proxied request adds.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamEntry<'a> {
    pub name: &'a str,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    pub attempts: u32,
    /// How long it waited for room at the upstream; None if it did not.
    pub queued: Option<Duration>,
    /// From the start of the first attempt to the head of the response.
    pub head_after: Option<Duration>,
}

/// Writes lines in one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatter {
    format: AccessFormat,
    redact: Redact,
}

impl Formatter {
    pub fn new(config: &config::AccessLog) -> Self {
        Self { format: config.format, redact: Redact::new(&config.redact) }
    }

    /// Appends the line of `entry`, its line feed included.
    pub fn write(&self, entry: &Entry<'_>, wall: &Wall, out: &mut Vec<u8>) {
        match self.format {
            AccessFormat::Line => self.line(entry, wall, out),
            AccessFormat::Json => self.json(entry, wall, out),
            AccessFormat::Combined => self.combined(entry, wall, out),
        }
        out.push(b'\n');
    }

    /// The line in JSON, whatever the format is.
    pub fn json_line(&self, entry: &Entry<'_>, wall: &Wall) -> Vec<u8> {
        let mut line = Vec::new();
        self.json(entry, wall, &mut line);
        line.push(b'\n');
        line
    }

    /// `2026-11-21T03:51:31.042+00:00 INFO GET /x 200 OK - 1.234ms - 512 bytes`, and for a failure its
    /// reason code: ` - connect-failed`. At the end stands the trace, if there is one: ` - trace 4bf9…`.
    fn line(&self, entry: &Entry<'_>, wall: &Wall, out: &mut Vec<u8>) {
        out.extend_from_slice(&wall.rfc3339());
        out.push(b' ');
        out.extend_from_slice(match level(entry.status) {
            Level::Info => b"INFO ",
            Level::Warn => b"WARN ",
            Level::Error => b"ERROR ",
        });
        self.target(entry, out);
        out.push(b' ');
        number(entry.status.into(), out);
        if let Some(text) = StatusCode::from_u16(entry.status).ok().and_then(|status| status.canonical_reason()) {
            out.push(b' ');
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(b" - ");
        milliseconds(entry.duration, out);
        out.extend_from_slice(b"ms - ");
        number(entry.bytes_sent, out);
        out.extend_from_slice(b" bytes");
        if let Some(reason) = entry.reason {
            out.extend_from_slice(b" - ");
            out.extend_from_slice(reason.as_bytes());
        }
        if let Some((trace_id, _)) = entry.trace {
            out.extend_from_slice(b" - trace ");
            out.extend_from_slice(&trace_id.hex());
        }
    }

    /// nginx's `combined`, byte for byte. `$remote_user` is always absent: the proxy checks no
    /// passwords, so it vouches for no name.
    fn combined(&self, entry: &Entry<'_>, wall: &Wall, out: &mut Vec<u8>) {
        address(entry.client, out);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(wall.common());
        out.extend_from_slice(b"] \"");
        self.target(entry, out);
        out.push(b' ');
        out.extend_from_slice(protocol(entry.version).as_bytes());
        out.extend_from_slice(b"\" ");
        number(entry.status.into(), out);
        out.push(b' ');
        number(entry.bytes_sent, out);
        out.extend_from_slice(b" \"");
        match entry.referer {
            Some(referer) => self.redact.uri(referer, |piece| escape::plain(piece, out)),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b"\" \"");
        escape::plain(entry.user_agent.unwrap_or(b"-"), out);
        out.push(b'"');
    }

    /// One object a line. A member that has no value is left out; the others keep this order.
    fn json(&self, entry: &Entry<'_>, wall: &Wall, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(&wall.rfc3339());
        out.extend_from_slice(match level(entry.status) {
            Level::Info => b"\",\"level\":\"info\",\"client\":\"",
            Level::Warn => b"\",\"level\":\"warn\",\"client\":\"",
            Level::Error => b"\",\"level\":\"error\",\"client\":\"",
        });
        address(entry.client, out);
        out.extend_from_slice(b"\",\"peer\":\"");
        socket_address(entry.peer, out);
        member(b"\",\"method\":\"", entry.method, out);
        member(b"\",\"host\":\"", entry.host, out);
        member(b"\",\"path\":\"", entry.path, out);
        if let Some(query) = entry.query {
            out.extend_from_slice(b"\",\"query\":\"");
            self.redact.query(query.as_bytes(), |piece| escape::json(piece, out));
        }
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(protocol(entry.version).as_bytes());
        out.extend_from_slice(b"\",\"status\":");
        number(entry.status.into(), out);
        if let Some(reason) = entry.reason {
            member(b",\"reason\":\"", reason, out);
            out.push(b'"');
        }
        if let Some(limit) = entry.rate_limit {
            member(b",\"rate_limit\":\"", limit, out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"duration_ms\":");
        milliseconds(entry.duration, out);
        out.extend_from_slice(b",\"bytes_sent\":");
        number(entry.bytes_sent, out);
        out.extend_from_slice(b",\"bytes_received\":");
        number(entry.bytes_received, out);
        if let Some(cache) = entry.cache {
            out.extend_from_slice(b",\"cache\":\"");
            out.extend_from_slice(cache.as_bytes());
            out.push(b'"');
        }
        if let Some(coding) = entry.coding {
            let name: &[u8] = if matches!(coding, Outcome::Left(_)) { b",\"not_coded\":\"" } else { b",\"coding\":\"" };
            out.extend_from_slice(name);
            out.extend_from_slice(coding.code().as_bytes());
            out.push(b'"');
        }
        if let Some(route) = entry.route {
            member(b",\"route\":\"", route, out);
            out.push(b'"');
        }
        if let Some(upstream) = &entry.upstream {
            json_upstream(upstream, out);
        }
        self.json_fields(entry, out);
        out.push(b'}');
    }

    fn json_fields(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        if let Some(id) = entry.request_id {
            member(b",\"request_id\":\"", id, out);
            out.push(b'"');
        }
        if let Some((trace_id, span_id)) = entry.trace {
            out.extend_from_slice(b",\"trace_id\":\"");
            out.extend_from_slice(&trace_id.hex());
            out.extend_from_slice(b"\",\"span_id\":\"");
            out.extend_from_slice(&span_id.hex());
            out.push(b'"');
        }
        if let Some(referer) = entry.referer {
            out.extend_from_slice(b",\"referer\":\"");
            self.redact.uri(referer, |piece| escape::json(piece, out));
            out.push(b'"');
        }
        if let Some(agent) = entry.user_agent {
            member(b",\"user_agent\":\"", agent, out);
            out.push(b'"');
        }
        match entry.tls {
            Some(TlsVersion::Tls12) => out.extend_from_slice(b",\"tls\":\"TLSv1.2\""),
            Some(TlsVersion::Tls13) => out.extend_from_slice(b",\"tls\":\"TLSv1.3\""),
            None => {}
        }
    }

    /// Method, path and query.
    fn target(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        escape::plain(entry.method.as_bytes(), out);
        out.push(b' ');
        escape::plain(entry.path.as_bytes(), out);
        if let Some(query) = entry.query {
            out.push(b'?');
            self.redact.query(query.as_bytes(), |piece| escape::plain(piece, out));
        }
    }
}

fn json_upstream(upstream: &UpstreamEntry<'_>, out: &mut Vec<u8>) {
    member(b",\"upstream\":\"", upstream.name, out);
    if let Some(endpoint) = upstream.endpoint {
        out.extend_from_slice(b"\",\"endpoint\":\"");
        socket_address(endpoint, out);
    }
    out.extend_from_slice(b"\",\"attempts\":");
    number(upstream.attempts.into(), out);
    if let Some(queued) = upstream.queued {
        out.extend_from_slice(b",\"queued_ms\":");
        milliseconds(queued, out);
    }
    if let Some(head_after) = upstream.head_after {
        out.extend_from_slice(b",\"upstream_ms\":");
        milliseconds(head_after, out);
    }
}

/// What the status says of the request: the server failed, the client erred, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Info,
    Warn,
    Error,
}

fn level(status: u16) -> Level {
    match status {
        500.. => Level::Error,
        400.. => Level::Warn,
        _ => Level::Info,
    }
}

/// As nginx's `$server_protocol`.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn member(before: &[u8], value: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    escape::json(value.as_ref(), out);
}

fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            number(a.into(), out);
            for part in [b, c, d] {
                out.push(b'.');
                number(part.into(), out);
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => _ = write!(out, "{address}"),
    }
}

fn socket_address(socket: SocketAddr, out: &mut Vec<u8>) {
    match socket.ip() {
        ip @ IpAddr::V4(_) => address(ip, out),
        ip @ IpAddr::V6(_) => {
            out.push(b'[');
            address(ip, out);
            out.push(b']');
        }
    }
    out.push(b':');
    number(socket.port().into(), out);
}

/// `1.234`
fn milliseconds(duration: Duration, out: &mut Vec<u8>) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(micros / 1000, out);
    let fraction = (micros % 1000) as u16;
    out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10 % 10), digit(fraction % 10)]);
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn digit(value: u16) -> u8 {
    b'0' + value as u8
}
