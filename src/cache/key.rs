//! Under which bytes a response is stored.
//!
//! A key holds the scheme, the host, the port, the path, the query and the chosen fields of a request, each with its
//! length before it: no part can reach into the next, so two different requests never have one key. The path
//! is the canonical one, and so is the host. Of the query, [`KeyRules::query`] gives what goes into the key, and the
//! same must go upstream: a parameter that the origin sees and the key does not is a way to poison the cache. For the
//! same reason parameters are compared as they are spelled, without decoding.
//!
//! A key knows no method: `HEAD` is answered by what `GET` stored. It is written into a buffer that is used
//! again, and a lookup by these bytes allocates nothing.

use std::borrow::{Borrow, Cow};
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{block, vary};
use crate::config::CachedQuery;
use crate::header::Scheme;

/// What of a request goes into its key, beside chosen fields.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub scheme: Scheme,
    /// As `header::authority` spells it.
    pub host: &'a str,
    /// None is the default port of the scheme.
    pub port: Option<u16>,
    /// The canonical path.
    pub path: &'a str,
    /// As it came, without `?`.
    pub query: Option<&'a str>,
}

/// Which parts of a request tell responses apart, beside scheme, host and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRules {
    pub query: CachedQuery,
    /// Their values are compared as those of a field that `Vary` names.
    pub fields: Vec<HeaderName>,
}

/// The bytes of a key, which many can share. That of a stored response is a part of its block: who keeps it keeps the lines and
/// what lies behind them, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Bytes);

/// What a key was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts<'a> {
    pub scheme: Scheme,
    pub host: &'a str,
    pub port: Option<u16>,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// Name and value of the chosen fields. None is one that the request did not have.
    pub fields: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl KeyRules {
    /// The query that is in the key, and that has to go upstream in place of the one that came. Borrowed if
    /// nothing changes.
    pub fn query<'a>(&self, raw: Option<&'a str>) -> Option<Cow<'a, str>> {
        let raw = raw?;
        if matches!(self.query, CachedQuery::All) || parameters(raw).all(|parameter| self.keeps(parameter)) {
            return Some(Cow::Borrowed(raw));
        }
        let kept: Vec<_> = parameters(raw).filter(|parameter| self.keeps(parameter)).collect();
        (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
    }

    fn keeps(&self, parameter: &str) -> bool {
        let name = name(parameter);
        match &self.query {
            CachedQuery::All => true,
            CachedQuery::Ignore(patterns) => !patterns.iter().any(|pattern| pattern.matches(name)),
            CachedQuery::Keep(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
        }
    }
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

fn name(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// Begins the key of a request in `out`, which is emptied first.
pub fn begin(out: &mut Vec<u8>, parts: &Parts<'_>, rules: &KeyRules) {
    out.clear();
    out.push(match parts.scheme {
        Scheme::Http => HTTP,
        Scheme::Https => HTTPS,
    });
    write_part(out, parts.host.as_bytes());
    out.extend_from_slice(&parts.port.unwrap_or(NO_PORT).to_be_bytes());
    write_part(out, parts.path.as_bytes());
    write_optional(out, rules.query(parts.query).as_deref().map(str::as_bytes));
}

/// Ends the key by the chosen fields of the request.
pub fn end(out: &mut Vec<u8>, fields: &HeaderMap, rules: &KeyRules) {
    for name in &rules.fields {
        // The name too: after a reload a route may choose another field, and its values are not those of this one.
        write_part(out, name.as_str().as_bytes());
        write_field(out, name, fields);
    }
}

const HTTP: u8 = b'h';
const HTTPS: u8 = b's';
/// No request is for port 0.
const NO_PORT: u16 = 0;

fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    write_length(out, part.len());
    out.extend_from_slice(part);
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, fields: &HeaderMap) {
    let mut length = 0_usize;
    if !vary::normalise(name, fields, |_| length += 1) {
        return write_optional(out, None);
    }
    write_length(out, length + 1);
    vary::normalise(name, fields, |byte| out.push(byte));
}

/// The length is one more than it is; zero is a part that is not there.
fn write_optional(out: &mut Vec<u8>, part: Option<&[u8]>) {
    write_length(out, part.map_or(0, |part| part.len() + 1));
    out.extend_from_slice(part.unwrap_or_default());
}

/// Seven bits a byte, the lowest first; all but the last byte have the highest bit set.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    out.push(length as u8);
}

impl Key {
    pub fn parts(&self) -> Option<KeyParts<'_>> {
        parts(&self.0)
    }
}

/// What [`begin`] and [`end`] made a key of. None only for bytes that are not from there.
pub fn parts(key: &[u8]) -> Option<KeyParts<'_>> {
    let (scheme, rest) = key.split_first()?;
    let scheme = match *scheme {
        HTTP => Scheme::Http,
        HTTPS => Scheme::Https,
        _ => return None,
    };
    let mut rest = Reader(rest);
    let host = rest.text()?;
    let (port, after) = rest.0.split_first_chunk()?;
    rest.0 = after;
    let port = Some(u16::from_be_bytes(*port)).filter(|port| *port != NO_PORT);
    let path = rest.text()?;
    let query = match rest.optional()? {
        Some(query) => Some(std::str::from_utf8(query).ok()?),
        None => None,
    };
    let mut fields = Vec::new();
    while !rest.0.is_empty() {
        fields.push((rest.text()?, rest.optional()?));
    }
    Some(KeyParts { scheme, host, port, path, query, fields })
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(block::of(bytes))
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// As a URL. The chosen fields have no place in one.
impl fmt::Display for KeyParts<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.scheme.as_str(), self.host)?;
        if let Some(port) = self.port {
            write!(out, ":{port}")?;
        }
        out.write_str(self.path)?;
        self.query.map_or(Ok(()), |query| write!(out, "?{query}"))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn length(&mut self) -> Option<usize> {
        let mut length = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }

    fn part(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.part(length)?).ok()
    }

    fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        match self.length()? {
            0 => Some(None),
            length => Some(Some(self.part(length - 1)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::header::rows::fields;
    use crate::pattern::Pattern;

    fn patterns(names: &str) -> Vec<Pattern> {
        names.split(' ').map(|name| Pattern::new(name).unwrap()).collect()
    }

    fn rules(query: CachedQuery) -> KeyRules {
        KeyRules { query, ..KeyRules::default() }
    }

    fn key(parts: &Parts<'_>, fields: &HeaderMap, rules: &KeyRules) -> Key {
        let mut out = vec![b'x'];
        begin(&mut out, parts, rules);
        end(&mut out, fields, rules);
        Key::from(&out[..])
    }

    /// A key of a URL of `https`, without chosen fields.
    fn of(path: &str, query: Option<&str>) -> Key {
        let parts = Parts { scheme: Scheme::Https, host: "a.test", port: None, path, query };
        key(&parts, &HeaderMap::new(), &KeyRules::default())
    }

    #[track_caller]
    fn check(rules: &KeyRules, raw: Option<&str>, expected: Option<&str>) {
        let query = rules.query(raw);
        assert_eq!(query.as_deref(), expected, "{raw:?}");
        assert_eq!(matches!(query, Some(Cow::Owned(_))), raw != expected && expected.is_some(), "{raw:?} is copied");
        // What goes upstream is what is in the key.
        let fields = HeaderMap::new();
        let parts = Parts { scheme: Scheme::Http, host: "h", port: None, path: "/", query: raw };
        assert_eq!(key(&parts, &fields, rules).parts().unwrap().query, expected, "{raw:?} in the key");
    }

    #[test]
    fn the_raw_query_counts_unless_configured() {
        for raw in [None, Some(""), Some("a"), Some("b=1&a=2"), Some("&&"), Some("%61=1"), Some("a=\u{e9}")] {
            check(&KeyRules::default(), raw, raw);
        }
        for raw in [None, Some(""), Some("a=1")] {
            check(&rules(CachedQuery::Keep(Vec::new())), raw, None);
        }
    }

    #[test]
    fn ignored_parameters() {
        let rules = rules(CachedQuery::Ignore(patterns("utm_* fbclid")));
        for (raw, expected) in [
            ("utm_source=x", None),
            ("utm_", None),
            ("fbclid", None),
            ("a=1&utm_x=2&fbclid=3&b=4", Some("a=1&b=4")),
            ("fbclid2=1", Some("fbclid2=1")),
            ("UTM_x=1", Some("UTM_x=1")),
            ("", Some("")),
            ("&utm_x=1", Some("")),
            ("a=utm_x", Some("a=utm_x")),
            // Another spelling is another name: it stays, in the key and upstream.
            ("utm%5Fx=1", Some("utm%5Fx=1")),
            // `;` separates nothing here, so what an origin reads behind it is in the key or is not sent.
            ("a=1;utm_x=2", Some("a=1;utm_x=2")),
            ("utm_x=2;a=1", None),
        ] {
            check(&rules, Some(raw), expected);
        }
    }

    #[test]
    fn kept_parameters() {
        let rules = rules(CachedQuery::Keep(patterns("id page*")));
        for (raw, expected) in [
            ("id=1", Some("id=1")),
            ("id=1&id=2&x=3", Some("id=1&id=2")),
            ("page&page_size=5&pag=1", Some("page&page_size=5")),
            ("x=1", None),
            ("", None),
            ("i%64=1", None),
        ] {
            check(&rules, Some(raw), expected);
        }
        check(&rules, None, None);
    }

    #[test]
    fn parts_cannot_reach_into_each_other() {
        let all = [
            of("/a", None),
            of("/a", Some("")),
            of("/a?", None),
            of("/a", Some("b")),
            of("/ab", None),
            of("/a?b", None),
            of("/a", Some("b=1")),
            of("/a%3Fb", None),
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[..index] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn chosen_fields() {
        let rules = |names: &'static [&str]| KeyRules {
            fields: names.iter().copied().map(HeaderName::from_static).collect(),
            ..KeyRules::default()
        };
        let of = |text: &str, rules: &KeyRules| {
            let fields = fields(text);
            key(&Parts { scheme: Scheme::Http, host: "h", port: None, path: "/", query: None }, &fields, rules)
        };
        let device = rules(&["x-device"]);
        assert_eq!(of("x-device: a, b", &device), of("x-device: a\nx-device: b\nx: 1", &device));
        assert_ne!(of("x-device: a", &device), of("x-device: b", &device));
        assert_ne!(of("x-device:", &device), of("", &device));
        assert_ne!(of("x-device: a", &device), of("x-shape: a", &rules(&["x-shape"])));
        assert_ne!(of("", &device), of("", &rules(&[])));
        let both = of("x-b: 1", &rules(&["x-a", "x-b"]));
        assert_eq!(both.parts().unwrap().fields, [("x-a", None), ("x-b", Some(&b"1"[..]))]);
    }

    #[test]
    fn a_lookup_needs_the_bytes_only() {
        let (one, other) = (of("/a", None), of("/b", None));
        let stored = HashMap::from([(one.clone(), 1)]);
        assert_eq!(stored.get::<[u8]>(one.borrow()), Some(&1));
        assert_eq!(stored.get::<[u8]>(other.borrow()), None);
    }

    #[test]
    fn as_a_url() {
        let url = |key: Key| key.parts().unwrap().to_string();
        assert_eq!(url(of("/a%20b", Some("c=d"))), "https://a.test/a%20b?c=d");
        assert_eq!(url(of("/", Some(""))), "https://a.test/?");
        let parts = Parts { scheme: Scheme::Http, host: "[::1]", port: Some(8080), path: "/x", query: None };
        assert_eq!(url(key(&parts, &HeaderMap::new(), &KeyRules::default())), "http://[::1]:8080/x");
    }

    /// A request and the rules of its route. Few letters, so that parts are often alike.
    #[derive(Debug, Clone, PartialEq)]
    struct Case {
        https: bool,
        host: String,
        port: Option<u16>,
        path: String,
        query: Option<String>,
        device: Option<String>,
    }

    fn case() -> impl Strategy<Value = Case> {
        (
            any::<bool>(),
            "[ab]{0,3}",
            option::of(1..3_u16),
            "[/ab?]{0,4}",
            option::of("[ab&=]{0,4}"),
            option::of("[a,]{0,3}"),
        )
            .prop_map(|(https, host, port, path, query, device)| Case {
                https,
                host,
                port,
                path,
                query,
                device,
            })
    }

    impl Case {
        fn key(&self, rules: &KeyRules) -> Key {
            let mut fields = HeaderMap::new();
            if let Some(device) = &self.device {
                fields.insert("x-device", device.parse().unwrap());
            }
            let scheme = if self.https { Scheme::Https } else { Scheme::Http };
            let (host, path, query) = (&*self.host, &*self.path, self.query.as_deref());
            key(&Parts { scheme, host, port: self.port, path, query }, &fields, rules)
        }
    }

    fn any_rules() -> impl Strategy<Value = KeyRules> {
        let patterns = |names: Vec<String>| names.iter().map(|name| Pattern::new(name).unwrap()).collect();
        let names = || vec("[ab]{1,2}\\*?", 0..3).prop_map(patterns);
        let query = prop_oneof![
            Just(CachedQuery::All),
            names().prop_map(CachedQuery::Ignore),
            names().prop_map(CachedQuery::Keep),
        ];
        (query, any::<bool>()).prop_map(|(query, with_field)| {
            let fields = with_field.then(|| HeaderName::from_static("x-device")).into_iter().collect();
            KeyRules { query, fields }
        })
    }

    proptest! {
        #[test]
        fn different_requests_have_different_keys(one in case(), other in case()) {
            let rules = KeyRules { fields: vec![HeaderName::from_static("x-device")], ..KeyRules::default() };
            prop_assert_eq!(one.key(&rules) == other.key(&rules), one == other);
        }

        #[test]
        fn parts_are_what_was_written(case in case(), rules in any_rules()) {
            let key = case.key(&rules);
            let parts = key.parts().unwrap();
            prop_assert_eq!(parts.scheme == Scheme::Https, case.https);
            prop_assert_eq!((parts.host, parts.port, parts.path), (&*case.host, case.port, &*case.path));
            let query = rules.query(case.query.as_deref());
            prop_assert_eq!(parts.query, query.as_deref());
            let device = case.device.as_deref().map(str::as_bytes);
            prop_assert_eq!(parts.fields, rules.fields.iter().map(|name| (name.as_str(), device)).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_sent_upstream_has_the_same_key(case in case(), rules in any_rules()) {
            let sent = rules.query(case.query.as_deref()).map(Cow::into_owned);
            let again = Case { query: sent, ..case.clone() };
            prop_assert_eq!(again.key(&rules), case.key(&rules));
        }

        #[test]
        fn long_parts_are_counted_right(length in 0..40_000_usize) {
            let path = "/".repeat(length);
            let key = of(&path, None);
            prop_assert_eq!(key.parts().unwrap().path, path);
        }

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..40), scheme in "[hs]") {
            let mut bytes = bytes;
            Key::from(&bytes[..]).parts();
            bytes.splice(..0, scheme.bytes());
            Key::from(&bytes[..]).parts();
        }
    }
}
