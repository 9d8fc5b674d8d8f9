//! The rules as rows. The first word of many rows is the name of a test of the public suite of HTTP caching that asks
//! the same.

mod lifetimes;
mod storing;
mod uses;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use jiff::Timestamp;

use super::*;
use crate::cache::cache_control::Directives;
use crate::header::authority::{self, Authority};
use crate::header::{Scheme, rows};

/// 18 November 2026.
pub const NOW: u64 = 1_795_000_000;
const DAY: u64 = 24 * 60 * 60;

/// A request and its response, and when it came.
#[derive(Debug, Clone)]
pub struct Case {
    pub method: Method,
    pub request: HeaderMap,
    pub status: StatusCode,
    pub response: HeaderMap,
    pub rules: Rules,
    pub delay: Duration,
    pub at: Instant,
}

/// Fields; `{-10}` is the date ten seconds ago.
pub fn fields(text: &str) -> HeaderMap {
    let mut dated = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (seconds, after) = after.split_once('}').unwrap();
        dated += before;
        dated += &http_date(seconds.parse().unwrap());
        rest = after;
    }
    rows::fields(&(dated + rest))
}

pub fn http_date(after_now: i64) -> String {
    let time = Timestamp::from_second(NOW as i64 + after_now).unwrap();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub fn host() -> Authority<'static> {
    authority::parse("example.com", Scheme::Http).unwrap()
}

pub fn directives(asks: &str) -> Directives {
    let asks = if asks.is_empty() { String::new() } else { format!("cache-control: {asks}") };
    Directives::of_request(&fields(&asks))
}

/// The rules of `cache = {}`.
pub fn plain() -> Rules {
    Rules { heuristic: Some(Heuristic::default()), ..Rules::default() }
}

pub fn get(response: &str) -> Case {
    Case {
        method: Method::GET,
        request: HeaderMap::new(),
        status: StatusCode::OK,
        response: fields(response),
        rules: plain(),
        delay: Duration::ZERO,
        at: Instant::now(),
    }
}

impl Case {
    fn status(self, status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), ..self }
    }

    fn request(self, request: &str) -> Self {
        Self { request: fields(request), ..self }
    }

    fn rules(self, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = self.rules;
        change(&mut rules);
        Self { rules, ..self }
    }

    fn method(self, method: &str) -> Self {
        Self { method: Method::from_bytes(method.as_bytes()).unwrap(), ..self }
    }

    pub fn terms(&self) -> Result<Terms, Unstorable> {
        let host = host();
        let target = TargetUri { scheme: Scheme::Http, authority: &host, path: "/a/b", query: Some("c") };
        let exchanged = Exchanged {
            method: &self.method,
            target: &target,
            request: &self.request,
            status: self.status,
            response: &self.response,
        };
        terms(&exchanged, &self.rules, Times { asked: self.at, answered: self.at + self.delay, clock: clock() })
    }

    /// What becomes of a second request so many seconds later.
    pub fn used(&self, asks: &str, after: u64) -> &'static str {
        match self.terms() {
            Err(unstorable) => unstorable.code(),
            Ok(terms) => used(&terms, asks, self.at + self.delay + Duration::from_secs(after)),
        }
    }
}

pub fn used(terms: &Terms, asks: &str, now: Instant) -> &'static str {
    match terms.usable(&directives(asks), now) {
        Usable::Fresh => "fresh",
        Usable::Stale(Permit::WhileRevalidating) => "while-revalidating",
        Usable::Stale(Permit::Client) => "max-stale",
        Usable::Validate(Why::NoCache) => "no-cache",
        Usable::Validate(Why::Stale) => "validate",
        Usable::Validate(Why::Request) => "asked",
    }
}

/// A response to GET, asked for again after 3 s.
#[track_caller]
fn check(name: &str, response: &str, expected: &str) {
    check_case(name, &get(response), expected);
}

/// The same of another request, or by other rules.
#[track_caller]
fn check_case(name: &str, case: &Case, expected: &str) {
    assert_eq!(case.used("", 3), expected, "{name}: {case:?}");
}

/// How long it is fresh, from when it comes.
#[track_caller]
fn fresh_for(case: &Case, seconds: u64, basis: Basis) {
    let terms = case.terms().unwrap();
    let came = case.at + case.delay;
    assert_eq!(terms.basis(), basis);
    assert_eq!(terms.ttl(came), seconds as i64, "{:?}", case.response);
    if seconds > 0 {
        let last = came + Duration::from_secs(seconds) - Duration::from_millis(1);
        assert_eq!(used(&terms, "", last), "fresh");
    }
    assert_ne!(used(&terms, "", came + Duration::from_secs(seconds)), "fresh");
}
