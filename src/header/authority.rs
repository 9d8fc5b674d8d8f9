//! Which host a request is for.
//!
//! The target and the `Host` field may both say it, and recipients differ in whom they believe; so both
//! must say the same (RFC 9112 §3.2.2, RFC 9113 §8.3.1). The names let in are those of the DNS and address
//! literals: narrower than RFC 3986, whose `a,b` or `a(b` no certificate, route or upstream could mean.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, Uri};
use thiserror::Error;

use super::Scheme;

/// Characters of a name, without a final dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// A host and its port, in one spelling: equal values are the same server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority<'a> {
    /// In lower case, without a final dot; an IPv6 address in brackets and in its shortest form.
    pub host: Cow<'a, str>,
    /// None is the default port of the scheme.
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Of parts that were an authority's before.
    pub fn from_parts(host: &'a str, port: Option<u16>) -> Self {
        Self { host: Cow::Borrowed(host), port }
    }

    pub fn into_owned(self) -> Authority<'static> {
        Authority { host: Cow::Owned(self.host.into_owned()), port: self.port }
    }

    /// None is the default port of the scheme.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Why it is not known which host is meant. The answer is always 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AuthorityError {
    #[error("the request names no host")]
    Missing,
    #[error("the request has more than one Host field")]
    Repeated,
    #[error("the host is not a name or an address with an optional port")]
    Invalid,
    #[error("the target and the Host field name different hosts")]
    Mismatch,
}

impl AuthorityError {
    #[cfg(test)]
    pub const ALL: &[Self] = &[Self::Missing, Self::Repeated, Self::Invalid, Self::Mismatch];

    /// A stable name for logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "host-missing",
            Self::Repeated => "host-repeated",
            Self::Invalid => "host-invalid",
            Self::Mismatch => "host-mismatch",
        }
    }
}

/// The host of a request, from `:authority` or an absolute target, and from `Host`. One of them must be
/// there, in HTTP/1.0 too: without a name a route by host could not be found.
pub fn effective<'a>(uri: &'a Uri, fields: &'a HeaderMap, scheme: Scheme) -> Result<Authority<'a>, AuthorityError> {
    let mut lines = fields.get_all(HOST).iter();
    let field = match (lines.next(), lines.next()) {
        (_, Some(_)) => return Err(AuthorityError::Repeated),
        (Some(line), None) => Some(line.to_str().map_err(|_| AuthorityError::Invalid)?),
        (None, None) => None,
    };
    let target = uri.authority().map(http::uri::Authority::as_str);
    match (target, field) {
        (None, None) => Err(AuthorityError::Missing),
        (Some(one), None) | (None, Some(one)) => parse(one, scheme),
        (Some(target), Some(field)) if target == field => parse(target, scheme),
        (Some(target), Some(field)) => {
            let target = parse(target, scheme)?;
            if target == parse(field, scheme)? { Ok(target) } else { Err(AuthorityError::Mismatch) }
        }
    }
}

/// Reads `host` or `host:port`.
pub fn parse(text: &str, scheme: Scheme) -> Result<Authority<'_>, AuthorityError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or(AuthorityError::Invalid)?;
            (ipv6(text, address)?, port)
        }
        None => {
            let (name, port) = text.split_at(memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len()));
            (dns_name(name)?, port)
        }
    };
    let port = port_number(port)?.filter(|port| *port != scheme.default_port());
    Ok(Authority { host, port })
}

/// The host and the port of an authority as it came, whatever it is.
pub fn split(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.parse().ok()),
        _ => (text, None),
    }
}

fn ipv6<'a>(text: &'a str, address: &'a str) -> Result<Cow<'a, str>, AuthorityError> {
    let parsed: Ipv6Addr = address.parse().map_err(|_| AuthorityError::Invalid)?;
    let shortest = format!("[{parsed}]");
    match text.get(..shortest.len()) {
        Some(same) if same == shortest => Ok(Cow::Borrowed(same)),
        _ => Ok(Cow::Owned(shortest)),
    }
}

fn dns_name(name: &str) -> Result<Cow<'_, str>, AuthorityError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // One look at each byte: this is done for every request.
    let (mut before, mut has_upper) = (b'.', false);
    for byte in name.bytes() {
        let is_end_of_label = byte == b'.' && before != b'.';
        if !is_end_of_label && !byte.is_ascii_alphanumeric() && byte != b'-' && byte != b'_' {
            return Err(AuthorityError::Invalid);
        }
        has_upper |= byte.is_ascii_uppercase();
        before = byte;
    }
    match () {
        () if before == b'.' || name.len() > NAME_BYTES_MAX => Err(AuthorityError::Invalid),
        () if has_upper => Ok(Cow::Owned(name.to_ascii_lowercase())),
        () => Ok(Cow::Borrowed(name)),
    }
}

/// What stands after the host. An empty port is the default one (RFC 3986 §6.2.3).
fn port_number(text: &str) -> Result<Option<u16>, AuthorityError> {
    if text.is_empty() || text == ":" {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').ok_or(AuthorityError::Invalid)?;
    // `parse` alone would let a plus sign in.
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Invalid);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(AuthorityError::Invalid),
        Ok(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::fields;
    use super::*;

    #[track_caller]
    fn check(target: &str, head: &str, expected: Result<(&str, Option<u16>), AuthorityError>) {
        let (uri, head) = (target.parse().unwrap(), fields(head));
        let found = effective(&uri, &head, Scheme::Https);
        let found = found.as_ref().map(|found| (&*found.host, found.port)).map_err(|error| *error);
        assert_eq!(found, expected, "{target} {head:?}");
    }

    #[test]
    fn target_and_field_agree() {
        check("/", "host: a", Ok(("a", None)));
        check("/", "host: A.Example.:8443", Ok(("a.example", Some(8443))));
        check("https://a/", "", Ok(("a", None)));
        check("https://a/", "host: a", Ok(("a", None)));
        check("https://a:443/", "host: A", Ok(("a", None)));
        check("https://a/", "host: a:", Ok(("a", None)));
        check("https://[::1]:9/", "host: [0:0::1]:9", Ok(("[::1]", Some(9))));
        check("https://a/", "host: b", Err(AuthorityError::Mismatch));
        check("https://a/", "host: a:80", Err(AuthorityError::Mismatch));
        check("https://a/", "host:", Err(AuthorityError::Invalid));
        check("https://u@a/", "host: a", Err(AuthorityError::Invalid));
        check("https://u@a/", "", Err(AuthorityError::Invalid));
        check("/", "", Err(AuthorityError::Missing));
        check("/", "host: a\nhost: a", Err(AuthorityError::Repeated));
        check("https://a/", "host: a\nhost: a", Err(AuthorityError::Repeated));
    }

    #[test]
    fn an_authority_in_its_parts() {
        for (text, expected) in [
            ("a", ("a", None)),
            ("A.:8443", ("A.", Some(8443))),
            ("a:", ("a", None)),
            ("a:70000", ("a", None)),
            ("[::1]", ("[::1]", None)),
            ("[::1]:9", ("[::1]", Some(9))),
            ("a:b", ("a:b", None)),
            ("", ("", None)),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_a_host() {
        for bad in [
            "",
            ":80",
            ".",
            "a..b",
            ".a",
            "a,b",
            "u@a",
            "a/b",
            "a b",
            "a\tb",
            "a?b",
            "a#b",
            "a%41",
            "a*",
            "é",
            "a:65536",
            "a:0",
            "a:+1",
            "a:-1",
            "a:1x",
            "a:000080",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]1",
            "[]",
            "[1.2.3.4]",
            "[::1%25lo]",
            "[v1.a]",
            "a\u{0}",
        ] {
            assert_eq!(parse(bad, Scheme::Http), Err(AuthorityError::Invalid), "{bad:?}");
        }
        assert!(parse(&"a".repeat(NAME_BYTES_MAX), Scheme::Http).is_ok());
        assert!(parse(&"a".repeat(NAME_BYTES_MAX + 1), Scheme::Http).is_err());
        for (good, host, port) in [
            ("1.2.3.4", "1.2.3.4", None),
            ("xn--a-0ga.example:80", "xn--a-0ga.example", None),
            ("my_app-1:65535", "my_app-1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:80", "[2001:db8::1]", None),
            ("[::FFFF:1.2.3.4]:1", "[::ffff:1.2.3.4]", Some(1)),
        ] {
            assert_eq!(parse(good, Scheme::Http), Ok(Authority { host: host.into(), port }), "{good}");
        }
    }

    #[test]
    fn the_usual_host_is_borrowed() {
        for usual in ["example.com", "example.com:8443", "[::1]:8443"] {
            assert!(matches!(parse(usual, Scheme::Https).unwrap().host, Cow::Borrowed(_)), "{usual}");
        }
    }

    proptest! {
        #[test]
        fn one_spelling_is_final(text in "\\PC{0,12}|[aB:.\\[\\]0-9]{0,12}|\\[[0-9a-f:.]{0,12}\\]:?[0-9]{0,3}") {
            if let Ok(authority) = parse(&text, Scheme::Http) {
                let again = parse(&authority.host, Scheme::Http);
                prop_assert_eq!(again, Ok(Authority { host: authority.host.clone(), port: None }));
            }
        }
    }
}
