//! What is stored, and for whom.

use super::*;

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
    check_case("", &cookie, "fresh");
    check("pragma-response-no-cache", "cache-control: max-age=3600\npragma: no-cache", "fresh");
}

#[test]
fn what_a_request_says_against_storing() {
    let row = |name: &str, request: &str, expected: &str| {
        check_case(name, &get("cache-control: max-age=3600").request(request), expected);
    };
    row("", "cache-control: no-store", "request-no-store");
    row("", "cache-control: no-cache, max-age=0", "fresh");
    row("other-authorization", "authorization: FOO", "authorization");
    row("other-cookie", "cookie: a=b", "fresh");
    check_case("", &get("cache-control: max-age=3600").method("HEAD"), "method");
    check_case("", &get("cache-control: max-age=3600").method("PUT"), "method");
}

#[test]
fn credentials_are_shared_only_where_the_response_says_so() {
    // RFC 9111 §3.5.
    let case = |value: &str| get(&format!("cache-control: {value}\ndate: {{0}}")).request("authorization: FOO");
    check_case("other-authorization-public", &case("max-age=3600, public"), "fresh");
    check_case("other-authorization-must-revalidate", &case("max-age=3600, must-revalidate"), "fresh");
    check_case("other-authorization-smaxage", &case("s-maxage=3600"), "fresh");
    check_case("", &case("max-age=3600, proxy-revalidate"), "authorization");
    check_case("", &case("max-age=3600, immutable"), "authorization");
    check_case("", &case("public, private"), "private");
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
    check_case("", &by_rule, "authorization");
}

#[test]
fn a_cookie_keeps_what_nobody_called_shareable_to_its_owner() {
    let cookie = |response: &str| get(response).request("cookie: session=1");
    let ttl = Some(Duration::from_secs(60));
    check_case("", &cookie("last-modified: {-10000}"), "cookie");
    check_case("", &cookie("").rules(|rules| rules.default_ttl = ttl), "cookie");
    check_case("", &cookie("").rules(|rules| rules.ttl_edge = ttl), "cookie");
    check_case("", &cookie("cache-control: public").rules(|rules| rules.default_ttl = ttl), "fresh");
    assert_eq!(cookie("cache-control: max-age=5").rules(|rules| rules.ttl_edge = ttl).used("", 30), "fresh");
    let ignoring = cookie("").rules(|rules| (rules.default_ttl, rules.ignore_cookie) = (ttl, true));
    check_case("", &ignoring, "fresh");
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
        check_case(&format!("status-{status}-fresh"), &fresh, "fresh");
        let stale = get("expires: {-5000}\nlast-modified: {-100000}\ndate: {0}").status(status);
        check_case(&format!("status-{status}-stale"), &stale, "validate");
    }
    // Partial, conditional, about credentials, or forbidden by the RFC that defines them.
    for status in [100, 103, 206, 304, 401, 407, 408, 412, 416, 417, 421, 425, 426, 428, 429, 431, 511] {
        let rules =
            get("cache-control: max-age=60, public").rules(|rules| rules.ttl_edge = Some(Duration::from_secs(60)));
        check_case("", &rules.status(status), "status");
    }
}

#[test]
fn must_understand_is_for_statuses_that_are_understood() {
    let row = |name: &str, status, value: &str, expected: &str| {
        check_case(name, &get(&format!("cache-control: {value}")).status(status), expected);
    };
    row("status-599-must-understand", 599, "max-age=3600, must-understand", "status");
    row("", 599, "max-age=3600, no-store, must-understand", "status");
    row("", 299, "max-age=3600, must-understand", "status");
    row("status-200-must-understand", 200, "max-age=3600, no-store, must-understand", "fresh");
    row("", 302, "max-age=3600, no-store, must-understand", "fresh");
    row("", 200, "no-store, must-understand", "no-lifetime");
    row("", 200, "max-age=3600, private, must-understand", "private");
}

#[test]
fn an_answer_to_post_can_be_one_to_get() {
    let row = |name: &str, status, response: &str, expected: &str| {
        check_case(name, &get(response).status(status).method("POST"), expected);
    };
    let located = "cache-control: max-age=3600\ncontent-location: ";
    for same in ["/a/b?c", "http://example.com/a/b?c", "//EXAMPLE.com:80/a/./b?c", "", "b?c", "?c", "#x"] {
        row("method-POST", 200, &format!("{located}{same}"), "fresh");
    }
    for other in
        ["/a/b", "/a/b?d", "https://example.com/a/b?c", "//example.org/a/b?c", "/a/b?c\ncontent-location: /a/b?c"]
    {
        row("", 200, &format!("{located}{other}"), "method");
    }
    row("", 200, "cache-control: max-age=3600", "method");
    row("", 201, &format!("{located}/a/b?c"), "method");
    row("", 200, "last-modified: {-10000}\ncontent-location: /a/b?c", "method");
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
fn codes_are_distinct() {
    let codes: std::collections::BTreeSet<_> = Unstorable::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Unstorable::ALL.len());
    let of_the_request = Unstorable::ALL.iter().filter(|reason| reason.is_of_the_request());
    let codes: Vec<_> = of_the_request.map(|reason| reason.code()).collect();
    assert_eq!(codes, ["method", "request-no-store", "authorization", "cookie"]);
}
