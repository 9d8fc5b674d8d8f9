//! What an operator wants purged, read from JSON: `{"tag": "user:7", "soft": true}`.
//!
//! Each mistake is told with the field that it is in and what was expected there. Nothing is purged here.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cache::{Dependencies, Mode, Purge, TooMuch, What};
use crate::header::{Scheme, authority};
use crate::path;
use crate::pattern::Pattern;

/// What the body of a request has to be.
pub const SHAPE: &str = r#"one of {"url": "/a?b=c"}, {"prefix": "/a/"}, {"pattern": "/users/*"}, {"tag": "user:7"} and {"all": true}, with "host", "soft": true or "dry_run": true if wanted"#;
const KINDS: [&str; 5] = ["url", "prefix", "pattern", "tag", "all"];

const URL: &str = "a path with its query such as \"/a?b=c\", or a URL such as \"https://example.com/a?b=c\"";
const PREFIX: &str = "the beginning of a path such as \"/assets/\", without `.` and `..`";
const PATTERN: &str = "a path with `*` for any text such as \"/users/*\"; tags go into `tag`";
const TAG: &str = "a tag such as \"user:7\" or, with `*` for any text, \"user:*\"";
const HOST: &str = "a host such as \"example.com\" or \"example.com:8080\"";
const FLAG: &str = "true or false";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    host: Option<String>,
    what: What,
    is_soft: bool,
    pub is_dry_run: bool,
}

/// Why it is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub error: String,
    pub expected: &'static str,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Purged {
    /// Responses that are gone or stale now, or would be.
    pub matched: u64,
    pub mode: &'static str,
    pub dry_run: bool,
    pub host: Option<String>,
    /// What was asked for and all that depends on it.
    pub names: Vec<String>,
}

impl Order {
    pub fn read(body: &[u8]) -> Result<Self, Wrong> {
        let value: Value = serde_json::from_slice(body).map_err(|error| Wrong::new(error.to_string(), SHAPE))?;
        let Value::Object(fields) = value else {
            return Err(Wrong::new("the body is no JSON object".to_owned(), SHAPE));
        };
        let known = |name: &str| KINDS.contains(&name) || ["host", "soft", "dry_run"].contains(&name);
        if let Some(unknown) = fields.keys().find(|name| !known(name)) {
            return Err(Wrong::new(format!("there is no field {unknown:?}"), SHAPE));
        }
        let named: Vec<&str> = KINDS.into_iter().filter(|kind| fields.contains_key(*kind)).collect();
        let kind = match named.as_slice() {
            [kind] => *kind,
            [] => return Err(Wrong::new("it does not say what to purge".to_owned(), SHAPE)),
            [one, other, ..] => return Err(Wrong::new(format!("both {one:?} and {other:?} are given"), SHAPE)),
        };
        let (of_url, what) = what(kind, &fields)?;
        let host = text(&fields, "host", HOST)?.map(|text| host(text).ok_or_else(|| Wrong::value("host", text, HOST)));
        let host = match (host.transpose()?, of_url) {
            (Some(host), Some(other)) if host != other => {
                let expected = "the host of the URL, or none";
                return Err(Wrong::new(format!("\"host\" is {host:?}, and that of the URL {other:?}"), expected));
            }
            (host, of_url) => host.or(of_url),
        };
        Ok(Self { host, what, is_soft: flag(&fields, "soft")?, is_dry_run: flag(&fields, "dry_run")? })
    }

    /// With all that depends on it.
    pub fn purge(&self, dependencies: &Dependencies, now: SystemTime) -> Result<Purge, TooMuch> {
        Ok(Purge {
            host: self.host.as_deref().map(Into::into),
            what: dependencies.closure(vec![self.what.clone()])?,
            mode: if self.is_soft { Mode::Soft(now) } else { Mode::Hard },
        })
    }
}

impl Purged {
    pub fn new(purge: &Purge, matched: u64, dry_run: bool) -> Self {
        let mode = match purge.mode {
            Mode::Hard => "hard",
            Mode::Soft(_) => "soft",
        };
        let names = purge.what.iter().map(ToString::to_string).collect();
        Self { matched, mode, dry_run, host: purge.host.as_deref().map(str::to_owned), names }
    }
}

impl Wrong {
    fn new(error: String, expected: &'static str) -> Self {
        Self { error, expected }
    }

    fn value(field: &str, value: &str, expected: &'static str) -> Self {
        Self::new(format!("{field:?} is {value:?}"), expected)
    }
}

/// What is meant, and the host if a URL names one.
fn what(kind: &str, fields: &Map<String, Value>) -> Result<(Option<String>, What), Wrong> {
    let of = |expected| {
        let given = text(fields, kind, expected)?.unwrap_or_default();
        Ok((given, Wrong::value(kind, given, expected)))
    };
    Ok(match kind {
        "url" => {
            let (given, wrong) = of(URL)?;
            let (host, path_and_query) = url(given).ok_or(wrong)?;
            (host, What::Url(path_and_query.into()))
        }
        "prefix" => {
            let (given, wrong) = of(PREFIX)?;
            (None, What::Prefix(beginning(given).ok_or(wrong)?.into()))
        }
        "pattern" => {
            let (given, wrong) = of(PATTERN)?;
            let pattern = beginning(given).and_then(|given| Pattern::new(&given).ok());
            (None, What::Path(pattern.ok_or(wrong)?))
        }
        "tag" => {
            let (given, wrong) = of(TAG)?;
            (None, What::Tag(Pattern::new(given).map_err(|_| wrong)?))
        }
        _ if flag(fields, "all")? => (None, What::All),
        _ => return Err(Wrong::new("\"all\" is false".to_owned(), SHAPE)),
    })
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str, expected: &'static str) -> Result<Option<&'a str>, Wrong> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Wrong::new(format!("{name:?} is {other}"), expected)),
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, Wrong> {
    match fields.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(Wrong::new(format!("{name:?} is {other}"), FLAG)),
    }
}

/// As stored responses spell it: without the default port of either scheme.
fn host(text: &str) -> Option<String> {
    let of = |scheme| authority::parse(text, scheme).ok();
    let host = of(Scheme::Https).filter(|host| host.port().is_none()).or_else(|| of(Scheme::Http))?;
    Some(host.to_string())
}

/// The host, if there is one, and the path as it is in keys, with its query.
fn url(text: &str) -> Option<(Option<String>, String)> {
    let absolute = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let (named, target) = match absolute {
        Some(rest) => {
            let (named, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(host(named)?), target)
        }
        None if text.starts_with('/') => (None, text),
        None => return None,
    };
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = path::canonical(if path.is_empty() { "/" } else { path }).ok()?;
    Some((named, with_query(path, query)))
}

/// The same for a part of a path, in which dot segments would mean that more is purged than is written.
fn beginning(text: &str) -> Option<String> {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let is_dots = |segment: &str| {
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        decoded == "." || decoded == ".."
    };
    if !path.starts_with('/') || path.split('/').any(is_dots) {
        return None;
    }
    Some(with_query(path::canonical(path).ok()?, query))
}

fn with_query(path: Cow<'_, str>, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(host: Option<&str>, what: What) -> Order {
        Order { host: host.map(str::to_owned), what, is_soft: false, is_dry_run: false }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn orders_that_are_understood() {
        let check = |body: &str, expected: Order| assert_eq!(Order::read(body.as_bytes()), Ok(expected), "{body}");
        check(r#"{"all": true}"#, order(None, What::All));
        check(r#"{"url": "/a?b=c"}"#, order(None, What::Url("/a?b=c".into())));
        check(r#"{"url": "/a/../%7eb?"}"#, order(None, What::Url("/~b?".into())));
        let url = |path: &str| order(Some("example.com"), What::Url(path.into()));
        check(r#"{"url": "https://Example.com:443/a#b"}"#, url("/a"));
        check(r#"{"url": "http://example.com?a"}"#, url("/?a"));
        check(r#"{"url": "http://example.com", "host": "example.com:80"}"#, url("/"));
        let other_port = order(Some("example.com:8080"), What::Url("/".into()));
        check(r#"{"url": "http://example.com:8080/"}"#, other_port);
        check(r#"{"prefix": "/%c3%bc/"}"#, order(None, What::Prefix("/%C3%BC/".into())));
        check(r#"{"prefix": "/a?b="}"#, order(None, What::Prefix("/a?b=".into())));
        check(r#"{"pattern": "/users/*"}"#, order(None, What::Path(pattern("/users/*"))));
        let soft = Order { is_soft: true, is_dry_run: true, ..order(Some("[::1]:8080"), What::Tag(pattern("user:*"))) };
        check(r#"{"tag": "user:*", "host": "[0::1]:8080", "soft": true, "dry_run": true}"#, soft);
        check(r#"{"all": true, "soft": false}"#, order(None, What::All));
    }

    #[test]
    fn a_mistake_is_told_with_its_field_and_what_was_expected() {
        let check = |body: &str, error: &str, expected: &str| {
            let wrong = Order::read(body.as_bytes()).unwrap_err();
            assert!(wrong.error.contains(error) && wrong.expected.contains(expected), "{body}: {wrong:?}");
        };
        check("", "EOF", "\"tag\"");
        check("[]", "no JSON object", "\"tag\"");
        check("{}", "what to purge", "\"tag\"");
        check(r#"{"tags": "a"}"#, "\"tags\"", "\"tag\"");
        check(r#"{"tag": "a", "url": "/"}"#, "both \"url\" and \"tag\"", "one of");
        check(r#"{"all": false}"#, "\"all\" is false", "one of");
        check(r#"{"all": 1}"#, "\"all\" is 1", "true or false");
        check(r#"{"tag": "a", "soft": "yes"}"#, "\"soft\" is \"yes\"", "true or false");
        check(r#"{"tag": ["a"]}"#, "\"tag\" is [\"a\"]", "a tag");
        check(r#"{"tag": ""}"#, "\"tag\" is \"\"", "a tag");
        check(r#"{"url": "a"}"#, "\"url\" is \"a\"", "a path with its query");
        check(r#"{"url": "ftp://a/"}"#, "\"url\"", "https://");
        check(r#"{"url": "https://a b/"}"#, "\"url\"", "https://");
        check(r#"{"url": "/%zz"}"#, "\"url\"", "a path");
        check(r#"{"prefix": "/a/.."}"#, "\"prefix\"", "without `.`");
        check(r#"{"prefix": "/a/%2E"}"#, "\"prefix\"", "without `.`");
        check(r#"{"pattern": "user:*"}"#, "\"pattern\"", "tags go into `tag`");
        check(r#"{"pattern": "/*********"}"#, "\"pattern\"", "`*`");
        check(r#"{"all": true, "host": "a/b"}"#, "\"host\" is \"a/b\"", "a host");
        check(r#"{"url": "http://a/", "host": "b"}"#, "that of the URL \"a\"", "the host of the URL");
    }

    #[test]
    fn a_soft_purge_is_of_the_moment() {
        let now = SystemTime::UNIX_EPOCH;
        let mut order = order(None, What::All);
        let none = Dependencies::default();
        assert_eq!(order.purge(&none, now).unwrap().mode, Mode::Hard);
        order.is_soft = true;
        assert_eq!(order.purge(&none, now).unwrap().mode, Mode::Soft(now));
    }
}
