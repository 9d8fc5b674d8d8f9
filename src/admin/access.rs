//! Who may read and who may control: rules over the head of a request and the way it came.
//!
//! A browser on the operator's machine reaches the loopback address too. So over TCP a request must name a host
//! that is ours, against names that an attacker points here (DNS rebinding), and control needs a token and
//! no foreign `Origin`, against forms that another site submits (CSRF). Over the control socket the rights of
//! its file have decided already, and no browser gets there.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use subtle::ConstantTimeEq as _;

use crate::config;

/// The way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Tcp {
        peer: IpAddr,
        /// The address that the peer connected to.
        local: IpAddr,
    },
    Socket,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The peer is in no network that may read.
    Network(IpAddr),
    /// `Host` is missing, doubled, malformed or not ours.
    Host(String),
    /// No token is configured, so that control is for the socket alone.
    SocketOnly,
    Token,
    Origin,
}

pub fn may_read(via: Via, head: &Parts, rules: &config::Admin) -> Result<(), Refusal> {
    let Via::Tcp { peer, local } = via else { return Ok(()) };
    let peer = peer.to_canonical();
    if !rules.allow.iter().any(|network| network.contains(&peer)) {
        return Err(Refusal::Network(peer));
    }
    let named = authority(head).ok_or_else(|| Refusal::Host(said(&head.headers, &HOST)))?;
    if is_ours(&named, local.to_canonical(), &rules.hosts) { Ok(()) } else { Err(Refusal::Host(named.to_string())) }
}

/// For a request that may read.
pub fn may_control(via: Via, head: &Parts, rules: &config::Admin) -> Result<(), Refusal> {
    let Via::Tcp { .. } = via else { return Ok(()) };
    let expected = rules.token.as_ref().ok_or(Refusal::SocketOnly)?;
    if !is_same_origin(head) {
        return Err(Refusal::Origin);
    }
    let given = single(&head.headers, &AUTHORIZATION).and_then(bearer).ok_or(Refusal::Token)?;
    // What the comparison takes tells the length at most.
    if given.as_bytes().ct_eq(expected.0.as_bytes()).into() { Ok(()) } else { Err(Refusal::Token) }
}

/// What the request is addressed to: `Host`, which a target in absolute form must agree with.
fn authority(head: &Parts) -> Option<Authority> {
    let host = single(&head.headers, &HOST)?.to_str().ok()?;
    let host: Authority = host.parse().ok().filter(|host: &Authority| !host.as_str().contains('@'))?;
    let agrees = head.uri.authority().is_none_or(|target| *target == host);
    agrees.then_some(host)
}

/// Any port is good: behind a forwarded port the client names that of its own side.
fn is_ours(named: &Authority, local: IpAddr, hosts: &[String]) -> bool {
    let host = named.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        return address.is_loopback() || address == local || hosts.iter().any(|ours| ours.parse() == Ok(address));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
}

/// Whether no page sent the request, or one of ours did. `Origin: null` is foreign.
fn is_same_origin(head: &Parts) -> bool {
    if !head.headers.contains_key(ORIGIN) {
        return true;
    }
    let origin = single(&head.headers, &ORIGIN).and_then(|origin| origin.to_str().ok()?.strip_prefix("http://"));
    match (origin, single(&head.headers, &HOST)) {
        (Some(origin), Some(host)) => origin.as_bytes().eq_ignore_ascii_case(host.as_bytes()),
        _ => false,
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// The value of a field that must not be repeated.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn said(fields: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn rules() -> config::Admin {
        config::Admin {
            address: ([127, 0, 0, 1], 9900).into(),
            hosts: vec!["admin.example".to_owned(), "192.0.2.7".to_owned()],
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            socket: None,
            token: Some(config::Secret(TOKEN.to_owned())),
        }
    }

    fn head(target: &str, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn tcp(peer: &str) -> Via {
        Via::Tcp { peer: peer.parse().unwrap(), local: "10.0.0.5".parse().unwrap() }
    }

    #[test]
    fn networks_that_may_read() {
        let check = |peer: &str, allowed: bool| {
            let result = may_read(tcp(peer), &head("/status", &[("host", "localhost")]), &rules());
            let expected = Err(Refusal::Network(peer.parse().unwrap()));
            assert_eq!(result, if allowed { Ok(()) } else { expected }, "{peer}");
        };
        check("127.0.0.1", true);
        check("127.9.9.9", true);
        check("::1", true);
        check("::ffff:127.0.0.1", true);
        check("10.1.2.3", true);
        check("11.1.2.3", false);
        check("2001:db8::1", false);
    }

    #[test]
    fn hosts_that_are_ours() {
        let check = |host: &str, ours: bool| {
            let result = may_read(tcp("127.0.0.1"), &head("/status", &[("host", host)]), &rules());
            assert_eq!(result.is_ok(), ours, "{host}: {result:?}");
        };
        check("localhost", true);
        check("LocalHost:9900", true);
        check("localhost.:9900", true);
        check("127.0.0.1:1234", true);
        check("[::1]:9900", true);
        check("[::ffff:127.0.0.1]", true);
        check("10.0.0.5:9900", true);
        check("192.0.2.7", true);
        check("admin.example", true);
        check("Admin.Example:9900", true);
        check("10.0.0.6:9900", false);
        check("evil.example", false);
        check("evil.example:9900", false);
        check("localhost.evil.example", false);
        check("evil.admin.example", false);
        check("localhost@evil.example", false);
        check("evil@localhost", false);
        check("localhost, evil.example", false);
        check("", false);
    }

    #[test]
    fn a_host_is_named_once_and_alike() {
        let check = |target: &str, fields: &[(&'static str, &str)], ours: bool| {
            let result = may_read(tcp("127.0.0.1"), &head(target, fields), &rules());
            assert_eq!(result.is_ok(), ours, "{target} {fields:?}");
        };
        check("/", &[], false);
        check("/", &[("host", "localhost"), ("host", "localhost")], false);
        check("http://localhost:9900/", &[("host", "localhost:9900")], true);
        check("http://evil.example/", &[("host", "localhost")], false);
        check("http://localhost/", &[("host", "evil.example")], false);
    }

    #[test]
    fn control_needs_the_token_and_no_foreign_origin() {
        let check = |fields: &[(&'static str, &str)], expected: Result<(), Refusal>| {
            assert_eq!(may_control(tcp("127.0.0.1"), &head("/reload", fields), &rules()), expected, "{fields:?}");
        };
        let host = ("host", "localhost:9900");
        let token = ("authorization", "Bearer 0123456789abcdef");
        check(&[host, token], Ok(()));
        check(&[host, ("authorization", "bearer 0123456789abcdef")], Ok(()));
        check(&[host], Err(Refusal::Token));
        check(&[host, token, token], Err(Refusal::Token));
        check(&[host, ("authorization", "Bearer 0123456789abcdeF")], Err(Refusal::Token));
        check(&[host, ("authorization", "Bearer 0123456789abcde")], Err(Refusal::Token));
        check(&[host, ("authorization", "Bearer 0123456789abcdef0")], Err(Refusal::Token));
        check(&[host, ("authorization", "Bearer ")], Err(Refusal::Token));
        check(&[host, ("authorization", "Basic 0123456789abcdef")], Err(Refusal::Token));
        check(&[host, ("authorization", "0123456789abcdef")], Err(Refusal::Token));
        check(&[host, token, ("origin", "http://localhost:9900")], Ok(()));
        check(&[host, token, ("origin", "http://localhost:9901")], Err(Refusal::Origin));
        check(&[host, token, ("origin", "https://localhost:9900")], Err(Refusal::Origin));
        check(&[host, token, ("origin", "http://evil.example")], Err(Refusal::Origin));
        check(&[host, token, ("origin", "null")], Err(Refusal::Origin));
        check(
            &[host, token, ("origin", "http://localhost:9900"), ("origin", "http://evil.example")],
            Err(Refusal::Origin),
        );
    }

    #[test]
    fn without_a_token_control_is_for_the_socket() {
        let rules = config::Admin { token: None, ..rules() };
        let request = head("/reload", &[("host", "localhost"), ("authorization", "Bearer ")]);
        assert_eq!(may_control(tcp("127.0.0.1"), &request, &rules), Err(Refusal::SocketOnly));
        assert_eq!(may_control(Via::Socket, &request, &rules), Ok(()));
        let from_anywhere = head("/reload", &[("host", "evil.example"), ("origin", "http://evil.example")]);
        assert_eq!(may_read(Via::Socket, &from_anywhere, &rules), Ok(()));
        assert_eq!(may_control(Via::Socket, &from_anywhere, &rules), Ok(()));
    }
}
