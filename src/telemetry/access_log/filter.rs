//! Which requests somebody who follows the log wants to see. Decides by what is known of a request, before its line is
//! made.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::Entry;
use crate::{cache, error};

/// A pattern that takes more memory than this is none for a log.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// As it is asked for. What is not given is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// `404`, `5xx` or `400-499`; any of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the path begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A pattern that the path matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// By name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// An address or a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What the request was to the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// A reason code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The least that it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ms: Option<u64>,
}

/// A part of a filter makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}")]
pub struct FilterError {
    value: String,
    what: &'static str,
    pub expected: &'static str,
}

/// A filter, ready to be asked.
#[derive(Debug, Default)]
pub struct Wanted {
    filter: Filter,
    status: Vec<RangeInclusive<u16>>,
    path_regex: Option<Regex>,
    endpoint: Option<SocketAddr>,
    client: Option<IpNet>,
}

impl Filter {
    pub fn compile(self) -> Result<Wanted, FilterError> {
        let wrong = |value: &str, what, expected| FilterError { value: value.to_owned(), what, expected };
        let status = self
            .status
            .iter()
            .map(|text| statuses(text).ok_or_else(|| wrong(text, "a status", "a status such as 404, 5xx or 400-499")));
        let status = status.collect::<Result<_, _>>()?;
        let unknown = |text: &Option<String>, is_known: fn(&str) -> bool| text.clone().filter(|text| !is_known(text));
        if let Some(text) = unknown(&self.cache, |text| cache::Role::ALL.iter().any(|role| role.word() == text)) {
            let expected = "hit, stale, validated, miss, collapsed or bypass";
            return Err(wrong(&text, "a verdict of the cache", expected));
        }
        if let Some(text) = unknown(&self.reason, error::is_code) {
            return Err(wrong(&text, "a reason code", "a code such as connect-refused, of docs/troubleshooting.md"));
        }
        let path_regex = match &self.path_regex {
            None => None,
            Some(text) => {
                let pattern = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
                Some(pattern.map_err(|_| wrong(text, "a pattern", "a regular expression such as ^/api/"))?)
            }
        };
        let endpoint = match &self.endpoint {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| wrong(text, "an endpoint", "an address such as 10.0.0.1:3000"))?)
            }
        };
        let client = match &self.client {
            None => None,
            Some(text) => {
                let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                let expected = "an address or a network such as 192.0.2.0/24";
                Some(network.map_err(|_| wrong(text, "a network", expected))?)
            }
        };
        Ok(Wanted { status, path_regex, endpoint, client, filter: self })
    }
}

/// `404`, `5xx` or `400-499`.
fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=999).contains(status));
    if let Some((first, last)) = text.split_once('-') {
        return Some(status(first)?..=status(last)?).filter(|range| !range.is_empty());
    }
    match text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        Some(class) => {
            class.parse::<u16>().ok().filter(|class| (1..=9).contains(class)).map(|n| n * 100..=n * 100 + 99)
        }
        None => status(text).map(|status| status..=status),
    }
}

impl Wanted {
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        let Filter { method, host, path, route, upstream, cache, reason, min_ms, .. } = &self.filter;
        let is = |wanted: &Option<String>, found: Option<&str>| match wanted {
            None => true,
            Some(wanted) => found == Some(wanted.as_str()),
        };
        let sent_to = entry.upstream.as_ref();
        (self.status.is_empty() || self.status.iter().any(|range| range.contains(&entry.status)))
            && is(method, Some(entry.method))
            && host.as_ref().is_none_or(|host| host.eq_ignore_ascii_case(entry.host))
            && path.as_ref().is_none_or(|path| entry.path.starts_with(path))
            && self.path_regex.as_ref().is_none_or(|pattern| pattern.is_match(entry.path))
            && is(route, entry.route)
            && is(upstream, sent_to.map(|upstream| upstream.name))
            && self.endpoint.is_none_or(|endpoint| sent_to.and_then(|upstream| upstream.endpoint) == Some(endpoint))
            && self.client.is_none_or(|network| network.contains(&entry.client))
            && is(cache, entry.cache)
            && is(reason, entry.reason)
            && min_ms.is_none_or(|least| entry.duration >= Duration::from_millis(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::UpstreamEntry;
    use crate::telemetry::access_log::testing;

    fn entry() -> Entry<'static> {
        let endpoint = Some(([10, 0, 0, 1], 3000).into());
        Entry {
            client: [192, 0, 2, 7].into(),
            host: "www.example.com",
            port: None,
            path: "/api/users",
            status: 502,
            reason: Some("connect-refused"),
            cache: Some("miss"),
            duration: Duration::from_millis(250),
            route: Some("api"),
            upstream: Some(UpstreamEntry { name: "app", endpoint, attempts: 1, queued: None, head_after: None }),
            ..testing::entry()
        }
    }

    #[test]
    fn every_part_has_to_fit() {
        let check = |filter: &str, expected: bool| {
            let wanted = serde_json::from_str::<Filter>(filter).unwrap().compile().unwrap();
            assert_eq!(wanted.takes(&entry()), expected, "{filter}");
        };
        check("{}", true);
        for (fits, does_not) in [
            (r#""status": ["502"]"#, r#""status": ["503"]"#),
            (r#""status": ["404", "5xx"]"#, r#""status": ["4xx", "500-501"]"#),
            (r#""status": ["500-502"]"#, r#""status": ["600-999"]"#),
            (r#""method": "GET""#, r#""method": "get""#),
            (r#""host": "WWW.example.com""#, r#""host": "example.com""#),
            (r#""path": "/api""#, r#""path": "api""#),
            (r#""path_regex": "users$""#, r#""path_regex": "^users""#),
            (r#""route": "api""#, r#""route": "ap""#),
            (r#""upstream": "app""#, r#""upstream": "other""#),
            (r#""endpoint": "10.0.0.1:3000""#, r#""endpoint": "10.0.0.1:3001""#),
            (r#""client": "192.0.2.0/24""#, r#""client": "192.0.3.0/24""#),
            (r#""client": "192.0.2.7""#, r#""client": "::1""#),
            (r#""cache": "miss""#, r#""cache": "hit""#),
            (r#""reason": "connect-refused""#, r#""reason": "no-route""#),
            (r#""min_ms": 250"#, r#""min_ms": 251"#),
        ] {
            check(&format!("{{{fits}}}"), true);
            check(&format!("{{{does_not}}}"), false);
            check(&format!("{{\"min_ms\": 0, {fits}}}").replace("\"min_ms\": 0, \"min_ms\"", "\"min_ms\""), true);
        }
        check(r#"{"status": ["5xx"], "route": "other"}"#, false);
    }

    #[test]
    fn every_verdict_and_every_code_can_be_asked_for() {
        for role in cache::Role::ALL {
            assert!(Filter { cache: Some(role.word().to_owned()), ..Filter::default() }.compile().is_ok(), "{role:?}");
        }
        for code in ["no-route", "cl-and-te", "path-nul", "client-gone"] {
            assert!(Filter { reason: Some(code.to_owned()), ..Filter::default() }.compile().is_ok(), "{code}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |filter: Filter, error: &str| assert_eq!(filter.compile().unwrap_err().to_string(), error);
        for status in ["", "5x", "xx", "0xx", "99", "1000", "500-400", "a-b"] {
            let filter = Filter { status: vec![status.to_owned()], ..Filter::default() };
            check(filter, &format!("{status:?} is not a status"));
        }
        let some = |text: &str| Some(text.to_owned());
        check(Filter { path_regex: some("("), ..Filter::default() }, "\"(\" is not a pattern");
        check(Filter { path_regex: some("(a{999}){999}"), ..Filter::default() }, "\"(a{999}){999}\" is not a pattern");
        check(Filter { cache: some("HIT"), ..Filter::default() }, "\"HIT\" is not a verdict of the cache");
        check(Filter { reason: some("refused"), ..Filter::default() }, "\"refused\" is not a reason code");
        check(Filter { endpoint: some("app:1"), ..Filter::default() }, "\"app:1\" is not an endpoint");
        check(Filter { client: some("me"), ..Filter::default() }, "\"me\" is not a network");
    }
}
