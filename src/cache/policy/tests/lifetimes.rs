//! How long a response is fresh, and how old it is.

use super::*;

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
        check_case(&format!("heuristic-{status}-cached"), &get(&dated).status(status), "fresh");
    }
    for status in [201, 202, 302, 303, 307, 400, 403, 499, 500, 502, 503, 504, 599] {
        check_case(&format!("heuristic-{status}-not_cached"), &get(&dated).status(status), "no-lifetime");
        let public = format!("{dated}\ncache-control: public");
        check_case(&format!("heuristic-{status}-cached"), &get(&public).status(status), "fresh");
    }
    fresh_for(&get(&dated), DAY / 10, Basis::Heuristic);
    fresh_for(&get(&format!("last-modified: {{-{}}}\ndate: {{0}}", 365 * DAY)), DAY, Basis::Heuristic);
    fresh_for(&get("last-modified: {-1000}\ndate: {-10}"), 89, Basis::Heuristic);
    for nothing in ["last-modified: {5}\ndate: {0}", "last-modified: {0}\ndate: {0}", "last-modified: x"] {
        check("", nothing, "no-lifetime");
    }
    check("pragma-response-no-cache-heuristic", "last-modified: {-10000}\npragma: no-cache", "fresh");
    check_case("", &get(&dated).rules(|rules| rules.heuristic = None), "no-lifetime");
}

#[test]
fn lifetimes_by_the_rules() {
    let default = |response| get(response).rules(|rules| rules.default_ttl = Some(Duration::from_secs(300)));
    fresh_for(&default("date: {-60}\nage: 100"), 300, Basis::Default);
    fresh_for(&default("last-modified: {-10000}"), 300, Basis::Default);
    fresh_for(&default("cache-control: max-age=5"), 5, Basis::MaxAge);
    for explicit in ["cache-control: max-age=0", "expires: 0", "cache-control: s-maxage=x"] {
        check_case("", &default(explicit), "stale");
    }
    check_case("", &default("cache-control: no-store"), "no-store");
    check_case("", &default("cache-control: private"), "private");
    check_case("", &default("cache-control: no-cache"), "no-lifetime");
    for status in [201, 302, 307, 404, 410, 500, 501] {
        check_case("", &default("").status(status), "no-lifetime");
    }
    let edge = |response| get(response).rules(|rules| rules.ttl_edge = Some(Duration::from_secs(1000)));
    fresh_for(&edge("cache-control: max-age=5\nage: 100\ndate: {-100}"), 1000, Basis::Rule);
    fresh_for(&edge("cache-control: max-age=0, must-revalidate"), 1000, Basis::Rule);
    fresh_for(&edge("expires: 0\nlast-modified: {-10}"), 1000, Basis::Rule);
    check_case("", &edge("cache-control: no-store, max-age=5"), "no-store");
    check_case("", &edge("cache-control: private, max-age=5"), "private");
    check_case("", &edge("cache-control: no-cache\netag: \"a\""), "no-cache");
    check_case("", &edge("cache-control: max-age=2").status(404), "validate");
    check_case("", &edge("").request("authorization: x"), "authorization");
    check_case("", &edge("").status(500), "no-lifetime");
}

#[test]
fn a_targeted_field_counts_alone() {
    // The `cdn-…` of the suite.
    let row = |name: &str, response: &str, expected: &str| {
        let case = get(response).rules(|rules| rules.targets = vec![HeaderName::from_static("cdn-cache-control")]);
        check_case(name, &case, expected);
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
