//! The rules as rows. The first word of many rows is the name of a test of the public suite of HTTP caching that asks
//! the same.

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
    assert_eq!(get(response).used("", 3), expected, "{name}: {response}");
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

#[test]
fn lifetimes_by_cache_control() {
    check("freshness-none", "", "no-lifetime");
    check("freshness-max-age", "cache-control: max-age=3600", "fresh");
    check("freshness-max-age-stale", "cache-control: max-age=2\ndate: {0}", "validate");
    check("freshness-max-age-0", "cache-control: max-age=0", "stale");
    for large in ["2147483647", "2147483648", "2147483649", "99999999999"] {
        check("freshness-max-age-max", &format!("cache-control: max-age={large}"), "fresh");
    }
    check("freshness-max-age-age", "date: {0}\ncache-control: max-age=3600\nage: 7200", "stale");
    check("freshness-max-age-date", "date: {-7200}\ncache-control: max-age=3600", "stale");
    check("freshness-max-age-expires", "cache-control: max-age=3600\nexpires: {-7200}\ndate: {0}", "fresh");
    check("freshness-max-age-expires-invalid", "cache-control: max-age=3600\nexpires: 0\ndate: {0}", "fresh");
    check("freshness-max-age-0-expires", "expires: {3600}\ncache-control: max-age=0\ndate: {0}", "stale");
    check("freshness-max-age-extension", "cache-control: foobar, max-age=3600", "fresh");
    check("freshness-max-age-negative", "cache-control: max-age=-3600", "stale");
    check("freshness-s-maxage-shared", "cache-control: s-maxage=3600", "fresh");
    check("freshness-max-age-s-maxage-shared-longer", "cache-control: max-age=3600, s-maxage=1", "validate");
    check("freshness-max-age-s-maxage-shared-shorter", "cache-control: max-age=1, s-maxage=3600", "fresh");
    check("", "expires: {-10}\ncache-control: max-age=0, s-maxage=3600", "fresh");
    // One directive without a meaning is not made good by another field (RFC 9111 §4.2.1).
    check("", "expires: {3600}\ndate: {0}\ncache-control: max-age=x", "stale");
    check("", "last-modified: {-86400}\ncache-control: max-age=1, max-age=2", "validate");
}

#[test]
fn lifetimes_by_expires() {
    check("freshness-expires-future", "expires: {2592000}\ndate: {0}", "fresh");
    check("freshness-expires-past", "expires: {-2592000}\ndate: {0}", "stale");
    check("freshness-expires-present", "expires: {0}\ndate: {0}", "stale");
    check("freshness-expires-old-date", "expires: {300}\ndate: {400}", "stale");
    check("freshness-expires-invalid", "expires: 0\ndate: {0}", "stale");
    check("freshness-expires-invalid-date", "date: foo\nexpires: {10}", "fresh");
    check("", "expires: {10}", "fresh");
    check("freshness-expires-age-slow-date", "date: {-10}\nexpires: {10}\nage: 25", "stale");
    check("freshness-expires-age-fast-date", "date: {10}\nexpires: {20}\nage: 15", "stale");
    check("freshness-expires-rfc850", "expires: Thursday, 18-Aug-50 02:01:18 GMT\ndate: {0}", "fresh");
    check("freshness-expires-ansi-c", "expires: Thu Aug  8 02:01:18 2050\ndate: {0}", "fresh");
    check("freshness-expires-wrong-case-tz", "expires: Thu, 18 Aug 2050 02:01:18 gMT\ndate: {0}", "fresh");
    check("freshness-expires-invalid-utc", "expires: Thu, 18 Aug 2050 02:01:18 UTC\ndate: {0}", "stale");
    check("freshness-expires-invalid-2-digit-year", "expires: Thu, 18 Aug 50 02:01:18 GMT\ndate: {0}", "stale");
    check("", "expires: {10}\nexpires: {11}\ndate: {0}", "stale");
    check("", "expires: {10}\nexpires: {10}\ndate: {0}", "fresh");
    // An explicit time leaves nothing to guess (RFC 9111 §4.2.2).
    check("", "expires: 0\nlast-modified: {-86400}", "validate");
    fresh_for(&get("expires: {20}\ndate: {-5}"), 20, Basis::Expires);
    fresh_for(&get("expires: {20}\ndate: {5}"), 15, Basis::Expires);
    fresh_for(&get("expires: Sun, 21 Nov 9286 04:46:39 GMT"), 1 << 31, Basis::Expires);
}

#[test]
fn age_is_the_first_number_that_is_told() {
    let row = |name: &str, age: &str, expected: &str| {
        check(name, &format!("date: {{0}}\ncache-control: max-age=3600\nage: {age}"), expected);
    };
    row("age-parse-nonnumeric", "abc", "fresh");
    row("age-parse-negative", "-7200", "fresh");
    row("age-parse-float", "7200.0", "fresh");
    row("age-parse-large-minus-one", "2147483647", "stale");
    row("age-parse-large", "2147483648", "stale");
    row("age-parse-larger", "2147483649", "stale");
    row("age-parse-suffix", "7200, 0", "stale");
    row("age-parse-prefix", "0, 7200", "fresh");
    row("age-parse-suffix-twoline", "7200\nage: 0", "stale");
    row("age-parse-prefix-twoline", "0\nage: 7200", "fresh");
    row("age-parse-dup-0", "0, 0", "fresh");
    row("age-parse-dup-old", "3500\nage: 3500", "fresh");
    row("age-parse-parameter", "7200;foo=bar", "stale");
    row("age-parse-numeric-parameter", "7200;foo=111", "stale");
    row("", "", "fresh");
}

#[test]
fn age_counts_from_the_request() {
    // RFC 9111 §4.2.3: the age that is told was true when the request went out.
    let slow = Case { delay: Duration::from_secs(4), ..get("cache-control: max-age=60\nage: 10\ndate: {0}") };
    fresh_for(&slow, 46, Basis::MaxAge);
    // The apparent age is not added to it.
    fresh_for(&get("cache-control: max-age=60\nage: 10\ndate: {-15}"), 45, Basis::MaxAge);
    fresh_for(&get("cache-control: max-age=60\nage: 10\ndate: {-5}"), 50, Basis::MaxAge);
    fresh_for(&get("cache-control: max-age=60\ndate: {50}"), 60, Basis::MaxAge);
    // A Date before 1970 or beyond all numbers is as good as any.
    check("", "cache-control: max-age=60\ndate: Thu, 01 Jan 0001 00:00:00 GMT", "stale");
    check("", "cache-control: max-age=60\ndate: Fri, 31 Dec 9999 23:59:59 GMT", "fresh");
}

#[test]
fn lifetimes_that_are_guessed() {
    let dated = format!("last-modified: {{-{DAY}}}\ndate: {{0}}");
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(get(&dated).status(status).used("", 3), "fresh", "heuristic-{status}-cached");
    }
    for status in [201, 202, 302, 303, 307, 400, 403, 499, 500, 502, 503, 504, 599] {
        assert_eq!(get(&dated).status(status).used("", 3), "no-lifetime", "heuristic-{status}-not_cached");
        let public = format!("{dated}\ncache-control: public");
        assert_eq!(get(&public).status(status).used("", 3), "fresh", "heuristic-{status}-cached");
    }
    fresh_for(&get(&dated), DAY / 10, Basis::Heuristic);
    fresh_for(&get(&format!("last-modified: {{-{}}}\ndate: {{0}}", 365 * DAY)), DAY, Basis::Heuristic);
    fresh_for(&get("last-modified: {-1000}\ndate: {-10}"), 89, Basis::Heuristic);
    for nothing in ["last-modified: {5}\ndate: {0}", "last-modified: {0}\ndate: {0}", "last-modified: x"] {
        check("", nothing, "no-lifetime");
    }
    check("pragma-response-no-cache-heuristic", "last-modified: {-10000}\npragma: no-cache", "fresh");
    assert_eq!(get(&dated).rules(|rules| rules.heuristic = None).used("", 3), "no-lifetime");
}

#[test]
fn lifetimes_by_the_rules() {
    let default = |response| get(response).rules(|rules| rules.default_ttl = Some(Duration::from_secs(300)));
    fresh_for(&default("date: {-60}\nage: 100"), 300, Basis::Default);
    fresh_for(&default("last-modified: {-10000}"), 300, Basis::Default);
    fresh_for(&default("cache-control: max-age=5"), 5, Basis::MaxAge);
    for explicit in ["cache-control: max-age=0", "expires: 0", "cache-control: s-maxage=x"] {
        assert_eq!(default(explicit).used("", 3), "stale", "{explicit}");
    }
    assert_eq!(default("cache-control: no-store").used("", 3), "no-store");
    assert_eq!(default("cache-control: private").used("", 3), "private");
    assert_eq!(default("cache-control: no-cache").used("", 3), "no-lifetime");
    for status in [201, 302, 307, 404, 410, 500, 501] {
        assert_eq!(default("").status(status).used("", 3), "no-lifetime", "{status}");
    }
    let edge = |response| get(response).rules(|rules| rules.ttl_edge = Some(Duration::from_secs(1000)));
    fresh_for(&edge("cache-control: max-age=5\nage: 100\ndate: {-100}"), 1000, Basis::Rule);
    fresh_for(&edge("cache-control: max-age=0, must-revalidate"), 1000, Basis::Rule);
    fresh_for(&edge("expires: 0\nlast-modified: {-10}"), 1000, Basis::Rule);
    assert_eq!(edge("cache-control: no-store, max-age=5").used("", 3), "no-store");
    assert_eq!(edge("cache-control: private, max-age=5").used("", 3), "private");
    assert_eq!(edge("cache-control: no-cache\netag: \"a\"").used("", 3), "no-cache");
    assert_eq!(edge("cache-control: max-age=2").status(404).used("", 3), "validate");
    assert_eq!(edge("").request("authorization: x").used("", 3), "authorization");
    assert_eq!(edge("").status(500).used("", 3), "no-lifetime");
}

#[test]
fn what_a_response_says_against_storing() {
    check("cc-resp-private-shared", "cache-control: private, max-age=3600", "private");
    check("cc-resp-no-store", "cache-control: no-store", "no-store");
    check("cc-resp-no-store-fresh", "cache-control: max-age=10000, no-store\nexpires: {10000}\ndate: {0}", "no-store");
    check("other-set-cookie", "cache-control: max-age=3600\nset-cookie: a=b", "set-cookie");
    check("", "cache-control: max-age=3600, no-cache=\"Set-Cookie\"\nset-cookie: a=b", "fresh");
    check("", "cache-control: max-age=3600, private=\"x, set-cookie\"\nset-cookie: a=b", "fresh");
    check("", "cache-control: max-age=3600, private=\"x\"\nset-cookie: a=b", "set-cookie");
    check("vary-star", "cache-control: max-age=3600\nvary: *", "vary-any");
    check("", "cache-control: max-age=3600\nvary: accept\nvary: foo , * ,", "vary-any");
    check("", "cache-control: max-age=3600\nvary: accept", "fresh");
    let cookie = get("cache-control: max-age=3600\nset-cookie: a=b").rules(|rules| rules.store_set_cookie = true);
    assert_eq!(cookie.used("", 3), "fresh");
    check("pragma-response-no-cache", "cache-control: max-age=3600\npragma: no-cache", "fresh");
}

#[test]
fn what_a_request_says_against_storing() {
    let case = |request: &str| get("cache-control: max-age=3600").request(request).used("", 3);
    assert_eq!(case("cache-control: no-store"), "request-no-store");
    assert_eq!(case("cache-control: no-cache, max-age=0"), "fresh");
    assert_eq!(case("authorization: FOO"), "authorization", "other-authorization");
    assert_eq!(case("cookie: a=b"), "fresh", "other-cookie");
    assert_eq!(get("cache-control: max-age=3600").method("HEAD").used("", 3), "method");
    assert_eq!(get("cache-control: max-age=3600").method("PUT").used("", 3), "method");
}

#[test]
fn credentials_are_shared_only_where_the_response_says_so() {
    // RFC 9111 §3.5.
    let case = |value: &str| get(&format!("cache-control: {value}\ndate: {{0}}")).request("authorization: FOO");
    assert_eq!(case("max-age=3600, public").used("", 3), "fresh", "other-authorization-public");
    assert_eq!(case("max-age=3600, must-revalidate").used("", 3), "fresh", "other-authorization-must-revalidate");
    assert_eq!(case("s-maxage=3600").used("", 3), "fresh", "other-authorization-smaxage");
    assert_eq!(case("max-age=3600, proxy-revalidate").used("", 3), "authorization");
    assert_eq!(case("max-age=3600, immutable").used("", 3), "authorization");
    assert_eq!(case("public, private").used("", 3), "private");
    // Their other conditions hold too: nothing of it is used stale.
    for value in
        ["s-maxage=2, stale-while-revalidate=60, stale-if-error=60", "max-age=2, must-revalidate, stale-if-error=60"]
    {
        let terms = case(value).terms().unwrap();
        let later = Instant::now() + Duration::from_secs(3);
        assert_eq!(used(&terms, "max-stale", later), "validate", "{value}");
        assert!(!terms.usable_on_error(&directives("stale-if-error=60, max-stale"), later), "{value}");
    }
    // What the rules or a guess make of it is not what the response says.
    let by_rule = case("").rules(|rules| {
        rules.default_ttl = Some(Duration::from_secs(60));
        rules.ttl_edge = Some(Duration::from_secs(60));
        rules.ignore_cookie = true;
        rules.store_set_cookie = true;
    });
    assert_eq!(by_rule.used("", 3), "authorization");
}

#[test]
fn a_cookie_keeps_what_nobody_called_shareable_to_its_owner() {
    let cookie = |response: &str| get(response).request("cookie: session=1");
    let ttl = Some(Duration::from_secs(60));
    assert_eq!(cookie("last-modified: {-10000}").used("", 3), "cookie");
    assert_eq!(cookie("").rules(|rules| rules.default_ttl = ttl).used("", 3), "cookie");
    assert_eq!(cookie("").rules(|rules| rules.ttl_edge = ttl).used("", 3), "cookie");
    assert_eq!(cookie("cache-control: public").rules(|rules| rules.default_ttl = ttl).used("", 3), "fresh");
    assert_eq!(cookie("cache-control: max-age=5").rules(|rules| rules.ttl_edge = ttl).used("", 30), "fresh");
    let ignoring = cookie("").rules(|rules| (rules.default_ttl, rules.ignore_cookie) = (ttl, true));
    assert_eq!(ignoring.used("", 3), "fresh");
}

#[test]
fn what_nobody_called_shareable_answers_nobody_with_credentials() {
    let answers = |case: Case, request: &str| case.terms().unwrap().answers(&fields(request));
    let ttl = Some(Duration::from_secs(60));
    let default = || get("").rules(|rules| rules.default_ttl = ttl);
    let guessed = || get("last-modified: {-10000}");
    let explicit = || get("cache-control: max-age=5").rules(|rules| rules.ttl_edge = ttl);
    for request in ["cookie: session=1", "authorization: Bearer x"] {
        assert!(!answers(default(), request));
        assert!(!answers(guessed(), request));
        assert!(answers(explicit(), request));
        assert!(answers(get("cache-control: public\nlast-modified: {-10000}"), request));
        assert!(answers(get("cache-control: no-cache\netag: \"a\""), request));
    }
    assert!(answers(default(), "accept: */*") && answers(guessed(), "accept: */*"));
    let ignoring = || default().rules(|rules| rules.ignore_cookie = true);
    assert!(answers(ignoring(), "cookie: session=1"));
    assert!(!answers(ignoring(), "cookie: session=1\nauthorization: Bearer x"));
}

#[test]
fn which_statuses_are_stored() {
    for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599] {
        let fresh = get("expires: {100000}\nlast-modified: {0}\ndate: {0}").status(status);
        assert_eq!(fresh.used("", 3), "fresh", "status-{status}-fresh");
        let stale = get("expires: {-5000}\nlast-modified: {-100000}\ndate: {0}").status(status);
        assert_eq!(stale.used("", 3), "validate", "status-{status}-stale");
    }
    // Partial, conditional, about credentials, or forbidden by the RFC that defines them.
    for status in [100, 103, 206, 304, 401, 407, 408, 412, 416, 417, 421, 425, 426, 428, 429, 431, 511] {
        let rules =
            get("cache-control: max-age=60, public").rules(|rules| rules.ttl_edge = Some(Duration::from_secs(60)));
        assert_eq!(rules.status(status).used("", 3), "status", "{status}");
    }
}

#[test]
fn must_understand_is_for_statuses_that_are_understood() {
    let case = |status, value: &str| get(&format!("cache-control: {value}")).status(status).used("", 3);
    assert_eq!(case(599, "max-age=3600, must-understand"), "status", "status-599-must-understand");
    assert_eq!(case(599, "max-age=3600, no-store, must-understand"), "status");
    assert_eq!(case(299, "max-age=3600, must-understand"), "status");
    assert_eq!(case(200, "max-age=3600, no-store, must-understand"), "fresh", "status-200-must-understand");
    assert_eq!(case(302, "max-age=3600, no-store, must-understand"), "fresh");
    assert_eq!(case(200, "no-store, must-understand"), "no-lifetime");
    assert_eq!(case(200, "max-age=3600, private, must-understand"), "private");
}

#[test]
fn an_answer_to_post_can_be_one_to_get() {
    let post = |status, response: &str| get(response).status(status).method("POST").used("", 3);
    let located = "cache-control: max-age=3600\ncontent-location: ";
    for same in ["/a/b?c", "http://example.com/a/b?c", "//EXAMPLE.com:80/a/./b?c", "", "b?c", "?c", "#x"] {
        assert_eq!(post(200, &format!("{located}{same}")), "fresh", "method-POST: {same}");
    }
    for other in
        ["/a/b", "/a/b?d", "https://example.com/a/b?c", "//example.org/a/b?c", "/a/b?c\ncontent-location: /a/b?c"]
    {
        assert_eq!(post(200, &format!("{located}{other}")), "method", "{other}");
    }
    assert_eq!(post(200, "cache-control: max-age=3600"), "method");
    assert_eq!(post(201, &format!("{located}/a/b?c")), "method");
    assert_eq!(post(200, "last-modified: {-10000}\ncontent-location: /a/b?c"), "method");
}

#[test]
fn no_cache_means_validation_at_each_use() {
    check("cc-resp-no-cache", "cache-control: max-age=10000, no-cache\nexpires: {10000}\ndate: {0}", "stale");
    check("cc-resp-no-cache-revalidate", "cache-control: no-cache\netag: \"abcd\"", "no-cache");
    check("cc-resp-no-cache-revalidate-fresh", "cache-control: max-age=10000, no-cache\netag: \"abcd\"", "no-cache");
    check("", "cache-control: no-cache\nlast-modified: {-10000}", "no-cache");
    check("", "cache-control: no-cache\nlast-modified: x", "no-lifetime");
    // With names it is about those fields alone.
    check("headers-omit", "cache-control: no-cache=\"a\"\na: 1\nb: 2\ncache-control: max-age=3600\ndate: {0}", "fresh");
    let terms = get("cache-control: max-age=9, no-cache, stale-if-error=9, stale-while-revalidate=9\netag: \"a\"")
        .terms()
        .unwrap();
    assert_eq!(used(&terms, "max-stale", Instant::now()), "no-cache");
    assert!(!terms.usable_on_error(&directives("stale-if-error=60, max-stale"), Instant::now()));
}

#[test]
fn what_is_stale_already_is_stored_only_for_a_use() {
    check("", "cache-control: max-age=0", "stale");
    check("", "cache-control: max-age=0\netag: \"a\"", "validate");
    check("", "cache-control: max-age=0, stale-while-revalidate=60", "while-revalidating");
    check("", "cache-control: max-age=10, stale-if-error=60\nage: 20", "validate");
    check("", "cache-control: max-age=10, stale-if-error=60\nage: 70", "stale");
    check("", "cache-control: max-age=10, must-revalidate, stale-if-error=60\nage: 20", "stale");
    // Only with a tag, and no word on caching, each use would ask: nothing is gained, and users might be mixed up.
    check("", "etag: \"a\"", "no-lifetime");
}

#[test]
fn what_clients_want() {
    let case = |name: &str, response: &str, asks: &str, expected: &str| {
        assert_eq!(get(response).used(asks, 3), expected, "{name}: {asks}");
    };
    let fresh = "cache-control: max-age=3600";
    case("ccreq-ma0", fresh, "max-age=0", "asked");
    case("ccreq-ma1", fresh, "max-age=1", "asked");
    case("", fresh, "max-age=3", "fresh");
    case("ccreq-magreaterage", "cache-control: max-age=3600\nage: 1800", "max-age=600", "asked");
    case("ccreq-max-stale", "cache-control: max-age=1", "max-stale=1000", "max-stale");
    case("", "cache-control: max-age=1", "max-stale", "max-stale");
    case("", "cache-control: max-age=1", "max-stale=2", "max-stale");
    case("", "cache-control: max-age=1", "max-stale=1", "validate");
    case("ccreq-max-stale-age", "cache-control: max-age=1500\nage: 2000\netag: \"a\"", "max-stale=1000", "max-stale");
    case("ccreq-min-fresh", "cache-control: max-age=1500", "min-fresh=2000", "asked");
    case("ccreq-min-fresh-age", "cache-control: max-age=1500\nage: 1000", "min-fresh=1000", "asked");
    case("", "cache-control: max-age=1500", "min-fresh=1497", "fresh");
    case("ccreq-no-cache", fresh, "no-cache", "asked");
    case("", fresh, "no-cache, max-stale", "asked");
    case("", "cache-control: max-age=1, stale-while-revalidate=60", "no-cache", "validate");
    case("", "cache-control: max-age=1", "no-cache, max-stale", "validate");
    // What is stored already may be used (RFC 9111 §5.2.1.5).
    case("ccreq-no-store", fresh, "no-store", "fresh");
    // A limit without `max-stale` is a wish for what is fresh (RFC 9111 §5.2.1.1).
    case("", "cache-control: max-age=1, stale-while-revalidate=60", "max-age=60", "validate");
    case("", "cache-control: max-age=1, stale-while-revalidate=60", "max-age=60, max-stale", "while-revalidating");
    case("", "cache-control: max-age=1, stale-while-revalidate=60", "max-age=2, max-stale", "validate");
    case("", "cache-control: max-age=1, stale-while-revalidate=60", "min-fresh=0", "validate");
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=1"] {
        case("", &format!("cache-control: max-age=1, {strict}"), "max-stale", "validate");
    }
}

#[test]
fn immutable_holds_against_a_reload() {
    // RFC 8246 §2.
    let case = get("cache-control: max-age=60, immutable\netag: \"abcd\"");
    assert_eq!(case.used("max-age=0", 3), "fresh");
    assert_eq!(case.used("no-cache", 3), "asked");
    assert_eq!(case.used("min-fresh=60", 3), "asked");
    assert_eq!(case.used("", 60), "validate", "cc-resp-immutable-stale");
}

#[test]
fn stale_while_revalidate() {
    let case =
        |response: &str| get(response).rules(|rules| rules.stale_while_revalidate = Some(Duration::from_secs(30)));
    let row =
        |response: &str, after, expected: &str| assert_eq!(case(response).used("", after), expected, "{response}");
    row("cache-control: max-age=1, stale-while-revalidate=4\netag: \"abc\"", 0, "fresh");
    row("cache-control: max-age=1, stale-while-revalidate=4\netag: \"abc\"", 1, "while-revalidating");
    row("cache-control: max-age=1, stale-while-revalidate=4\netag: \"abc\"", 4, "while-revalidating");
    row("cache-control: max-age=1, stale-while-revalidate=4\netag: \"abc\"", 5, "validate");
    row("cache-control: max-age=1, stale-while-revalidate=0", 1, "validate");
    row("cache-control: max-age=1, stale-while-revalidate=x", 1, "validate");
    // A rule speaks where the response does not.
    row("cache-control: max-age=1", 30, "while-revalidating");
    row("cache-control: max-age=1", 31, "validate");
    row("cache-control: max-age=0\netag: \"a\"", 0, "validate");
    row("cache-control: max-age=10\nage: 10\netag: \"a\"", 0, "validate");
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=1"] {
        row(&format!("cache-control: max-age=1, {strict}"), 1, "validate");
        row(&format!("cache-control: max-age=1, stale-while-revalidate=60, {strict}"), 1, "validate");
    }
}

#[test]
fn stale_if_error() {
    let row = |response: &str, asks: &str, after, expected: bool| {
        let case = get(response);
        let now = case.at + Duration::from_secs(after);
        assert_eq!(
            case.terms().unwrap().usable_on_error(&directives(asks), now),
            expected,
            "{response} {asks} {after}"
        );
    };
    row("cache-control: max-age=2", "", 1, true);
    row("cache-control: max-age=2", "", 3, false);
    row("cache-control: max-age=2, stale-if-error=60", "", 61, true);
    row("cache-control: max-age=2, stale-if-error=60", "", 62, false);
    row("cache-control: max-age=2", "stale-if-error=10", 11, true);
    row("cache-control: max-age=2", "stale-if-error=10", 12, false);
    row("cache-control: max-age=2", "max-stale=10", 12, true);
    row("cache-control: max-age=2, stale-if-error=60", "max-age=0", 10, true);
    row("cache-control: max-age=2, stale-if-error=60", "no-cache", 10, false);
    row("cache-control: max-age=20", "no-cache", 10, false);
    // The `stale-close-…` of the suite.
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=2"] {
        row(&format!("cache-control: max-age=2, stale-if-error=60, {strict}"), "stale-if-error=60", 3, false);
    }
    let configured = |response: &str, after| {
        let case = get(response).rules(|rules| rules.stale_if_error = Some(Duration::from_secs(3600)));
        case.terms().unwrap().usable_on_error(&directives(""), case.at + Duration::from_secs(after))
    };
    assert!(configured("cache-control: max-age=2", 3601));
    assert!(!configured("cache-control: max-age=2", 3602));
    assert!(!configured("cache-control: max-age=2, stale-if-error=1", 3));
    assert!(!configured("cache-control: max-age=2, must-revalidate", 3));
    assert!(!configured("cache-control: max-age=0\netag: \"a\"", 0));
}

#[test]
fn a_targeted_field_counts_alone() {
    // The `cdn-…` of the suite.
    let row = |name: &str, response: &str, expected: &str| {
        let case = get(response).rules(|rules| rules.targets = vec![HeaderName::from_static("cdn-cache-control")]);
        assert_eq!(case.used("", 3), expected, "{name}: {response}");
    };
    row("cdn-max-age", "cdn-cache-control: max-age=3600", "fresh");
    row("cdn-max-age-max-plus", "cdn-cache-control: max-age=99999999999", "fresh");
    row("cdn-max-age-age", "date: {0}\ncdn-cache-control: max-age=3600\nage: 7200", "stale");
    row("cdn-max-age-space-before-equals", "cache-control: max-age=1\ncdn-cache-control: max-age =100", "validate");
    row("cdn-max-age-0", "cdn-cache-control: max-age=0", "stale");
    row("cdn-max-age-extension", "cdn-cache-control: foobar, max-age=3600", "fresh");
    row("cdn-max-age-expires", "cdn-cache-control: max-age=3600\nexpires: {-10000}\ndate: {0}", "fresh");
    row("cdn-max-age-0-expires", "cdn-cache-control: max-age=0\nexpires: {10000}\ndate: {0}", "stale");
    row("cdn-max-age-short-cc-max-age", "cache-control: max-age=1\ncdn-cache-control: max-age=3600", "fresh");
    row("cdn-max-age-long-cc-max-age", "cache-control: max-age=3600\ncdn-cache-control: max-age=1", "validate");
    row("cdn-private", "cdn-cache-control: private\ncache-control: max-age=10000\nexpires: {10000}", "private");
    row("cdn-no-cache", "cdn-cache-control: no-cache\ncache-control: max-age=10000\nexpires: {10000}", "no-lifetime");
    row("cdn-no-store-cc-fresh", "cache-control: max-age=10000\ncdn-cache-control: no-store", "no-store");
    row("cdn-fresh-cc-nostore", "cache-control: no-store\ncdn-cache-control: max-age=10000", "fresh");
    row(
        "cdn-cc-invalid-sh-type-unknown",
        "cdn-cache-control: max-age=10000, &&&&&\ncache-control: no-store",
        "no-store",
    );
    row("cdn-cc-invalid-sh-type-wrong", "cdn-cache-control: max-age=\"10000\"\ncache-control: no-store", "stale");
    // It does not say how long, and who does may not be listened to.
    row("", "cdn-cache-control: public\nexpires: {10000}", "no-lifetime");
    row("", "cdn-cache-control: public\nexpires: {10000}\nlast-modified: {-10000}", "fresh");
    // Meant for others.
    check("", "cdn-cache-control: max-age=3600", "no-lifetime");
    check("", "surrogate-control: max-age=3600", "no-lifetime");
}

#[test]
fn setting_the_wall_clock_changes_no_age() {
    // Only the monotonic clock is asked, and it can stand still or be late, as a test's.
    let case = get("cache-control: max-age=60\nage: 10");
    let terms = case.terms().unwrap();
    assert_eq!(terms.age(case.at).as_secs(), 10);
    assert_eq!(terms.age(case.at + Duration::from_millis(2_999)).as_secs(), 12);
    assert_eq!(terms.age(case.at - Duration::from_secs(5)).as_secs(), 10);
    assert_eq!(terms.ttl(case.at + Duration::from_millis(49_500)), 0);
    assert_eq!(terms.ttl(case.at + Duration::from_millis(50_500)), -1);
    assert_eq!(terms.ttl(case.at + Duration::from_secs(100)), -50);
    assert_eq!(terms.lifetime().as_secs(), 60);
}

#[test]
fn codes_are_distinct() {
    let codes: std::collections::BTreeSet<_> = Unstorable::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Unstorable::ALL.len());
    let of_the_request = Unstorable::ALL.iter().filter(|reason| reason.is_of_the_request());
    let codes: Vec<_> = of_the_request.map(|reason| reason.code()).collect();
    assert_eq!(codes, ["method", "request-no-store", "authorization", "cookie"]);
}
