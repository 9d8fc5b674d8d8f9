//! What an upstream is told about the client.
//!
//! Upstreams believe fields such as `X-Forwarded-For`, so a stranger must not be able to write them: his
//! are dropped and rebuilt from what is known. A trusted peer's are kept where only it can know better.
//! Whom to trust is decided in `client_ip`.

use std::io::Write;
use std::net::IpAddr;

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Scheme, append_to_list, authority};
use crate::client_ip::ClientIp;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The longest text of an IPv6 address, with an embedded IPv4 one.
const ADDRESS_BYTES_MAX: usize = 45;

/// What this hop knows about a request.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    pub peer_address: IpAddr,
    /// The same, made by [`address_value`] once a connection.
    pub peer: &'a HeaderValue,
    pub client: ClientIp,
    pub scheme: Scheme,
    /// Host and port as the client sent them.
    pub host: &'a HeaderValue,
}

/// Drops claims that cannot be believed, but for those that [`tell`] writes anew.
pub fn drop_unbelieved(fields: &mut HeaderMap, via_trusted: bool) {
    // Nothing is collected in the usual case, and an empty `Vec` does not allocate.
    let dropped: Vec<HeaderName> = if via_trusted {
        fields.keys().filter(|name| is_never_passed(name)).cloned().collect()
    } else {
        fields.keys().filter(|name| is_claim(name) && !is_rewritten(name)).cloned().collect()
    };
    for name in dropped {
        fields.remove(name);
    }
}

/// Writes `X-Forwarded-For`, `-Proto`, `-Host` and `X-Real-IP`.
pub fn tell(fields: &mut HeaderMap, hop: &Hop<'_>) {
    if hop.client.via_trusted {
        append_to_list(fields, X_FORWARDED_FOR, hop.peer.clone());
        insert_unless(fields, X_FORWARDED_PROTO, is_scheme, || hop.scheme.value());
        insert_unless(fields, X_FORWARDED_HOST, |host| is_host(host, hop.scheme), || hop.host.clone());
        let client = hop.client.address;
        let is_peer = client == hop.peer_address.to_canonical();
        fields.insert(X_REAL_IP, if is_peer { hop.peer.clone() } else { address_value(client) });
    } else {
        fields.insert(X_FORWARDED_FOR, hop.peer.clone());
        fields.insert(X_FORWARDED_PROTO, hop.scheme.value());
        fields.insert(X_FORWARDED_HOST, hop.host.clone());
        fields.insert(X_REAL_IP, hop.peer.clone());
    }
}

/// The scheme and the host that a trusted peer names, where it can know better.
pub const NAMED_BY_PEERS: [HeaderName; 2] = [X_FORWARDED_PROTO, X_FORWARDED_HOST];

/// Drops all that [`drop_unbelieved`] will drop and [`tell`] write anew, whatever it knows of the hop.
pub fn drop_claims(fields: &mut HeaderMap, via_trusted: bool) {
    let is_dropped = |name: &&HeaderName| if via_trusted { is_never_passed(name) } else { is_claim(name) };
    let dropped: Vec<HeaderName> = fields.keys().filter(is_dropped).cloned().collect();
    for name in dropped {
        fields.remove(name);
    }
    if via_trusted {
        for name in &NAMED_BY_PEERS {
            if !fields.keys().any(|known| known == name) {
                continue;
            }
            let is_known = match only_line(fields, name) {
                Some(text) if *name == X_FORWARDED_PROTO => is_scheme(text),
                Some(text) => is_host(text, Scheme::Http),
                None => false,
            };
            if !is_known {
                fields.remove(name);
            }
        }
    }
}

/// An address as text, IPv4-mapped ones as IPv4.
pub fn address_value(address: IpAddr) -> HeaderValue {
    let mut buffer = [0; ADDRESS_BYTES_MAX];
    let mut rest = &mut buffer[..];
    // The buffer holds every address; a cut one would still be a valid value.
    let _ = write!(rest, "{}", address.to_canonical());
    let unused = rest.len();
    let text = buffer.get(..ADDRESS_BYTES_MAX - unused).unwrap_or_default();
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// What a field says about the client, the host, the path or the method that only a trusted peer may say.
pub(super) fn is_claim(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-forwarded-")
        || matches!(
            text,
            "forwarded"
                | "x-forwarded"
                | "x-real-ip"
                // Other names for the client's address.
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "true-client-ip"
                | "cf-connecting-ip"
                // Frameworks let these stand for the path or the host.
                | "x-original-url"
                | "x-original-uri"
                | "x-original-host"
                | "x-rewrite-url"
                // A trace that a stranger begins would mix with one's own, and choose what is sampled.
                | "x-trace-id"
                | "x-span-id"
                | "traceparent"
                | "tracestate"
        )
        || is_never_passed(name)
}

/// Dropped whoever sends it. A CGI upstream takes `X_Forwarded_For` for `X-Forwarded-For` and `Proxy` for
/// the variable `HTTP_PROXY`; a method override makes the upstream serve another method than the one that
/// was checked, limited and cached here.
fn is_never_passed(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(text, "proxy" | "x-http-method-override" | "x-http-method" | "x-method-override")
        || memchr::memchr(b'_', text.as_bytes()).is_some()
}

/// Replaced in any case, so there is no need to remove it first.
fn is_rewritten(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-real-ip")
}

/// Sets a field, unless it has one line that is good.
fn insert_unless(
    fields: &mut HeaderMap,
    name: HeaderName,
    is_good: impl Fn(&str) -> bool,
    value: impl FnOnce() -> HeaderValue,
) {
    match fields.entry(name) {
        Entry::Vacant(place) => {
            place.insert(value());
        }
        Entry::Occupied(mut lines) if only(lines.iter()).is_none_or(|line| !is_good(line)) => {
            lines.insert(value());
        }
        Entry::Occupied(_) => {}
    }
}

fn only_line<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    only(fields.get_all(name).iter())
}

fn only<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> Option<&'a str> {
    let line = lines.next()?;
    if lines.next().is_some() { None } else { line.to_str().ok() }
}

fn is_scheme(text: &str) -> bool {
    text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("https")
}

fn is_host(text: &str, scheme: Scheme) -> bool {
    authority::parse(text, scheme).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::{fields, text};
    use super::*;

    const STRANGER: &str = "192.0.2.1";
    const PROXY: &str = "10.0.0.1";

    fn rewritten(before: &str, peer: &str, client: &str) -> HeaderMap {
        let mut map = fields(before);
        let peer_address: IpAddr = peer.parse().unwrap();
        let client = ClientIp { address: client.parse().unwrap(), via_trusted: peer == PROXY };
        let hop = Hop {
            peer_address,
            peer: &address_value(peer_address),
            client,
            scheme: Scheme::Https,
            host: &HeaderValue::from_static("a.example:8443"),
        };
        drop_unbelieved(&mut map, client.via_trusted);
        tell(&mut map, &hop);
        map
    }

    #[track_caller]
    fn check(before: &str, peer: &str, after: &str) {
        assert_eq!(text(&rewritten(before, peer, STRANGER)), text(&fields(after)), "{before}");
    }

    const FROM_STRANGER: &str = "x-forwarded-for: 192.0.2.1\nx-forwarded-proto: https\n\
        x-forwarded-host: a.example:8443\nx-real-ip: 192.0.2.1";

    #[test]
    fn a_strangers_claims_are_rebuilt() {
        check("", STRANGER, FROM_STRANGER);
        check(
            "x-forwarded-for: 127.0.0.1\nx-forwarded-for: 10.0.0.1\nx-forwarded-proto: http\nx-forwarded-host: evil\nx-real-ip: ::1",
            STRANGER,
            FROM_STRANGER,
        );
        check(
            "x-forwarded-prefix: /x\nx-forwarded-port: 1\nx-forwarded: 1\nforwarded: for=1\ntrue-client-ip: 1\nx-client-ip: 1\n\
             x-original-url: /admin\nx-rewrite-url: /admin\nx-trace-id: 1\nx-span-id: 1\ntraceparent: 00-1\ntracestate: a=1",
            STRANGER,
            FROM_STRANGER,
        );
        check("x_forwarded_for: 1\nx_any: 1\nproxy: evil\nx-http-method-override: DELETE", STRANGER, FROM_STRANGER);
        check("cookie: a=b\nx-any: 1", STRANGER, &format!("cookie: a=b\nx-any: 1\n{FROM_STRANGER}"));
    }

    #[test]
    fn a_trusted_peers_claims_are_kept_where_valid() {
        let own = "x-forwarded-for: 10.0.0.1\nx-forwarded-proto: https\nx-forwarded-host: a.example:8443\nx-real-ip: 192.0.2.1";
        check("", PROXY, own);
        check("x-real-ip: 1", PROXY, own);
        check("x-forwarded-proto: gopher\nx-forwarded-host: a,b", PROXY, own);
        check("x-forwarded-proto: http\nx-forwarded-proto: https", PROXY, own);
        check("x-forwarded-host: a\nx-forwarded-host: b", PROXY, own);
        check("proxy: evil\nx_real_ip: 1\nx-http-method-override: PUT", PROXY, own);
        let theirs = "x-forwarded-proto: http\nx-forwarded-host: b.example\nx-forwarded-prefix: /x\ntraceparent: 00-1\nforwarded: for=1";
        check(
            &format!("{theirs}\nx-forwarded-for: 203.0.113.5\nx-forwarded-for: 192.0.2.1"),
            PROXY,
            &format!("{theirs}\nx-forwarded-for: 203.0.113.5, 192.0.2.1, 10.0.0.1\nx-real-ip: 192.0.2.1"),
        );
    }

    #[test]
    fn addresses() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::1", "::1"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(address_value(address.parse().unwrap()), expected);
        }
    }

    proptest! {
        /// No field of a stranger leaves a trace in what an upstream believes.
        #[test]
        fn a_stranger_changes_nothing(
            rows in prop::collection::vec((
                "x-forwarded-(for|proto|host|port|prefix|[a-z]{1,4})|forwarded|x-real-ip|x-original-url|x_[a-z]{1,4}|proxy|traceparent",
                "[ -~]{0,12}",
            ), 0..8),
        ) {
            let before: Vec<_> = rows.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            prop_assert_eq!(text(&rewritten(&before.join("\n"), STRANGER, STRANGER)), text(&fields(FROM_STRANGER)));
        }
    }
}
