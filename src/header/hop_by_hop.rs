//! Fields that end at this hop (RFC 9110 §7.6.1), and what they asked for.
//!
//! `Connection` may name further fields, but not those that the edge or the origin relies upon: a
//! client could otherwise have `X-Forwarded-For` or `Authorization` removed behind the back of the rule
//! that set or checked it.

use http::header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::list;

/// All of them, `TE` and `Trailer`, which may be passed on, first.
static ENDING_HERE: [HeaderName; 11] = [
    TE,
    TRAILER,
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    // Of `Upgrade: h2c`, which RFC 9113 has given up.
    HeaderName::from_static("http2-settings"),
    // They concern a client and its forward proxy; credentials for one must not reach an origin.
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Whether the other side of this hop can carry trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    /// `TE: trailers` and `Trailer` stay. On HTTP/1.1, `Connection: TE` is left to the sender.
    Forward,
    Drop,
}

/// The protocol that a request asks to change to, or that a 101 response changes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    WebSocket,
    /// The value of the `Upgrade` field to send on.
    Other(HeaderValue),
}

impl Upgrade {
    /// For the `Upgrade` field of the other side.
    pub fn value(&self) -> HeaderValue {
        match self {
            Self::WebSocket => HeaderValue::from_static("websocket"),
            Self::Other(value) => value.clone(),
        }
    }
}

/// Asks the other side for an upgrade, or tells it of one.
pub fn announce_upgrade(fields: &mut HeaderMap, upgrade: Option<&Upgrade>) {
    if let Some(upgrade) = upgrade {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, upgrade.value());
    }
}

/// Removes the fields of a request or response that end here. The answer is the upgrade that they
/// stood for, if any; `h2c` is not one.
pub fn remove(fields: &mut HeaderMap, trailers: Trailers) -> Option<Upgrade> {
    // A message has one or two of them, so those are looked for, and not all eleven.
    let mut present = [false; ENDING_HERE.len()];
    for place in fields.keys().filter_map(|name| place(name.as_str().as_bytes())) {
        present[place] = true;
    }
    if !present.contains(&true) {
        return None;
    }
    let [has_te, _, has_connection, _, _, _, has_upgrade, ..] = present;
    let upgrade = if has_connection && has_upgrade { upgrade(fields) } else { None };
    for name in if has_connection { named_by_connection(fields) } else { Vec::new() } {
        fields.remove(name);
    }
    let takes_trailers = |coding: &[u8]| coding.eq_ignore_ascii_case(b"trailers");
    let forwards_te = has_te && trailers == Trailers::Forward && list(fields, &TE).any(takes_trailers);
    for (name, _) in ENDING_HERE.iter().zip(present).filter(|(_, present)| *present) {
        if trailers == Trailers::Drop || *name != TRAILER {
            fields.remove(name);
        }
    }
    if forwards_te {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

/// Whether the field of this name, in lower case, does.
pub fn ends_here(name: &[u8]) -> bool {
    place(name).is_some()
}

/// Where it stands among those that end here.
fn place(name: &[u8]) -> Option<usize> {
    Some(match name {
        b"te" => 0,
        b"trailer" => 1,
        b"connection" => 2,
        b"keep-alive" => 3,
        b"proxy-connection" => 4,
        b"transfer-encoding" => 5,
        b"upgrade" => 6,
        b"http2-settings" => 7,
        b"proxy-authenticate" => 8,
        b"proxy-authorization" => 9,
        b"proxy-authentication-info" => 10,
        _ => return None,
    })
}

/// `Upgrade` counts only if `Connection` says so (RFC 9110 §7.8).
fn upgrade(fields: &HeaderMap) -> Option<Upgrade> {
    if !list(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let protocols = list(fields, &UPGRADE).filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
    let mut joined = Vec::new();
    for protocol in protocols {
        if protocol.eq_ignore_ascii_case(b"websocket") {
            return Some(Upgrade::WebSocket);
        }
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(protocol);
    }
    if joined.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok().map(Upgrade::Other)
}

/// Empty, and without an allocation, for the usual `close`, `keep-alive` and `upgrade`.
fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    list(fields, &CONNECTION)
        .filter(|option| ![&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|own| option.eq_ignore_ascii_case(own)))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| !ends_here(name.as_str().as_bytes()) && !is_protected(name))
        .collect()
}

/// Fields meant for all recipients: naming one of them in `Connection` is an error of the sender at best
/// (RFC 9110 §7.6.1).
fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "www-authenticate"
            | "origin"
            | "date"
            | "location"
            | "vary"
            | "age"
            | "expires"
            | "etag"
            | "last-modified"
            | "range"
            | "expect"
            | "max-forwards"
            | "forwarded"
            | "via"
            | "x-real-ip"
            | "x-request-id"
            | "x-trace-id"
            | "x-span-id"
            | "traceparent"
            | "tracestate"
            | "strict-transport-security"
    ) || ["content-", "cache-", "if-", "accept", "access-control-", "sec-", "x-forwarded-"]
        .iter()
        .any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::super::rows::{fields, text};
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str) -> Option<Upgrade> {
        check_with(Trailers::Drop, before, after)
    }

    #[track_caller]
    fn check_with(trailers: Trailers, before: &str, after: &str) -> Option<Upgrade> {
        let mut map = fields(before);
        let upgrade = remove(&mut map, trailers);
        assert_eq!(text(&map), text(&fields(after)));
        upgrade
    }

    #[test]
    fn each_has_its_place() {
        for (at, name) in ENDING_HERE.iter().enumerate() {
            assert_eq!(place(name.as_str().as_bytes()), Some(at), "{name}");
        }
    }

    #[test]
    fn fields_of_the_connection_end_here() {
        check("host: a\naccept: */*", "host: a\naccept: */*");
        check("host: a\nconnection: close", "host: a");
        check("connection: keep-alive\nkeep-alive: timeout=5\nproxy-connection: keep-alive\nx: 1", "x: 1");
        check("connection: close\nconnection: X-Hop, , y\nx-hop: 1\nx-hop: 2\ny: 1\nz: 1", "z: 1");
        check("transfer-encoding: chunked\ncontent-type: a/b", "content-type: a/b");
        check(
            "proxy-authorization: Basic x\nproxy-authenticate: Basic\nauthorization: Basic y",
            "authorization: Basic y",
        );
        check("connection: \u{e9}, a b, x\nx: 1", "");
    }

    #[test]
    fn connection_cannot_name_what_others_rely_upon() {
        let kept = "host: a\ncontent-length: 1\nauthorization: x\ncookie: a=b\nx-forwarded-for: 1\nx-forwarded-prefix: /\n\
            x-real-ip: 1\nforwarded: for=1\nvia: 1.1 a\nx-request-id: 1\ncache-control: no-store\nif-match: \"a\"";
        let names: Vec<_> = kept.lines().map(|line| line.split(':').next().unwrap().to_uppercase()).collect();
        check(&format!("{kept}\nconnection: {}", names.join(",")), kept);
    }

    #[test]
    fn trailers_pass_when_both_sides_can() {
        let asked = "te: gzip, Trailers\ntrailer: x-sum\nconnection: te";
        check_with(Trailers::Forward, asked, "te: trailers\ntrailer: x-sum");
        check_with(Trailers::Drop, asked, "");
        check_with(Trailers::Forward, "te: gzip;q=1", "");
        check_with(Trailers::Forward, "trailer: x-sum", "trailer: x-sum");
    }

    #[test]
    fn upgrades() {
        let other = |value| Some(Upgrade::Other(HeaderValue::from_static(value)));
        for (before, expected) in [
            ("connection: Upgrade\nupgrade: WebSocket", Some(Upgrade::WebSocket)),
            ("connection: keep-alive, upgrade\nupgrade: h2c, websocket", Some(Upgrade::WebSocket)),
            ("connection: upgrade\nupgrade: foo/2, H2C\nupgrade: bar", other("foo/2, bar")),
            ("connection: upgrade, http2-settings\nupgrade: h2c\nhttp2-settings: AAMAAABk", None),
            ("connection: upgrade", None),
            ("upgrade: websocket", None),
            ("connection: close\nupgrade: websocket", None),
        ] {
            assert_eq!(check(before, ""), expected, "{before}");
        }
        assert_eq!(Upgrade::WebSocket.value(), "websocket");
    }
}
