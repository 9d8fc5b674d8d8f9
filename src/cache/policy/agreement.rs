//! A second opinion: the crate `http-cache-semantics` on what may be stored and what is fresh. Where it differs, a
//! section of an RFC says why.

use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, DATE, PRAGMA, SET_COOKIE};
use http::{Method, Request, Response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;

use super::properties::{cases, request_directives};
use super::tests::{Case, clock, directives, fields, get};
use super::*;
use crate::cache::cache_control::{Directives, Scope};

/// What one of them finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opinion {
    is_stored: bool,
    is_used: bool,
}

fn ours(case: &Case, asks: &str, after: Duration) -> Opinion {
    // It knows no bound.
    let heuristic = Some(Heuristic { max: Duration::MAX, ..Heuristic::default() });
    let case = Case { rules: Rules { heuristic, ..Rules::default() }, ..case.clone() };
    let Ok(terms) = case.terms() else { return Opinion { is_stored: false, is_used: false } };
    let usable = terms.usable(&directives(asks), case.at + after);
    Opinion { is_stored: true, is_used: matches!(usable, Usable::Fresh | Usable::Stale(_)) }
}

fn theirs(case: &Case, asks: &str, after: Duration) -> Opinion {
    let request = |method: &Method, fields: HeaderMap| {
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        *request.headers_mut() = fields;
        request
    };
    let mut response = Response::new(());
    *response.status_mut() = case.status;
    *response.headers_mut() = case.response.clone();
    let asked = request(&case.method, case.request.clone());
    let policy = CachePolicy::new_options(&asked, &response, clock(), CacheOptions::default());
    let asks = if asks.is_empty() { HeaderMap::new() } else { fields(&format!("cache-control: {asks}")) };
    let before = policy.before_request(&request(&Method::GET, asks), clock() + after);
    let is_stored = policy.is_storable();
    Opinion { is_stored, is_used: is_stored && matches!(before, BeforeRequest::Fresh(_)) }
}

/// Why this cache stores what the crate does not.
fn stored_by_us_alone(case: &Case) -> Option<&'static str> {
    let said = Directives::of_response(&case.response, &[]);
    if said.must_understand && said.no_store {
        return Some(
            "RFC 9111 §5.2.2.3: no-store beside must-understand is for caches that do not understand the status",
        );
    }
    if matches!(said.private, Scope::Fields(_)) {
        return Some("RFC 9111 §5.2.2.7: private with names is about fields");
    }
    matches!(case.status.as_u16(), 299 | 500 | 599)
        .then_some("RFC 9111 §3: a status has to be understood only if it is 206 or 304, or must-understand is there")
}

/// Why it does not store what the crate does.
fn stored_by_them_alone(case: &Case) -> Option<&'static str> {
    Some(match case.terms().err()? {
        Unstorable::Method if case.method == Method::HEAD => "RFC 9110 §9.3.2: it has no content to answer GET with",
        Unstorable::Method => "RFC 9110 §9.3.3: without Content-Location it answers no GET",
        Unstorable::Authorization if is_repeated(case) => "RFC 9111 §3.5: two values do not say must-revalidate",
        Unstorable::SetCookie => "RFC 9111 §7.3: a shared cache may hold what is sensitive",
        Unstorable::Cookie => "RFC 9111 §7.3, and §3 lets a cache guess and does not make it",
        Unstorable::VaryAny => "RFC 9111 §4.1: it matches no request",
        Unstorable::NoLifetime | Unstorable::Stale => "RFC 9111 §3, at its end: such responses are not useful to store",
        Unstorable::Status(_) if Directives::of_response(&case.response, &[]).must_understand => {
            "RFC 9111 §5.2.2.3: the status has to be understood"
        }
        _ => return None,
    })
}

/// The crate takes a directive with two values as `must-revalidate`.
fn is_repeated(case: &Case) -> bool {
    let said = case.response.get(CACHE_CONTROL).map_or("", |line| line.to_str().unwrap());
    ["no-cache", "private"].iter().any(|name| said.matches(name).count() > 1)
}

/// Why this cache uses what the crate does not.
fn used_by_us_alone(case: &Case, asks: &str, after: Duration) -> Option<&'static str> {
    if let Some(reason) = stored_by_us_alone(case) {
        return Some(reason);
    }
    let said = Directives::of_response(&case.response, &[]);
    if said.proxy_revalidate {
        return Some("RFC 9111 §5.2.2.8: it is about stale responses");
    }
    if matches!(said.no_cache, Scope::Fields(_)) {
        return Some("RFC 9111 §5.2.2.4: no-cache with names is about fields");
    }
    if said.immutable && asks.contains("max-age") {
        return Some("RFC 8246 §2: a reload without no-cache is answered");
    }
    if case.response.contains_key(PRAGMA) && !case.response.contains_key(CACHE_CONTROL) {
        return Some("RFC 9111 §5.4: Pragma means nothing in a response");
    }
    let usable = case.terms().ok()?.usable(&directives(asks), case.at + after);
    (usable == Usable::Stale(Permit::WhileRevalidating)).then_some("RFC 5861 §3: the crate does not know it")
}

/// Why it does not use what the crate does.
fn used_by_them_alone(case: &Case, asks: &str) -> Option<&'static str> {
    let said = Directives::of_response(&case.response, &[]);
    if case.response.contains_key(DATE) && case.terms().is_ok_and(|terms| terms.initial_age > Duration::ZERO) {
        return Some("RFC 9111 §4.2.3: the apparent age");
    }
    if said.s_maxage.is_some() && asks.contains("max-stale") {
        return Some("RFC 9111 §5.2.2.10: s-maxage has the meaning of proxy-revalidate");
    }
    if said.proxy_revalidate && asks.contains("max-stale") {
        return Some("RFC 9111 §5.2.2.8: it forbids what the crate permits, and the reverse");
    }
    if said.no_cache == Scope::All && asks.contains("max-stale") {
        return Some("RFC 9111 §5.2.2.4: no-cache is for clients that take stale responses too");
    }
    if said.immutable && said.max_age.is_none() {
        return Some("RFC 8246 gives no lifetime");
    }
    stored_by_them_alone(case)
}

#[track_caller]
fn agree(case: &Case, asks: &str, after: Duration) {
    let (ours, theirs) = (ours(case, asks, after), theirs(case, asks, after));
    let explained = match (ours.is_stored, theirs.is_stored) {
        (true, false) => stored_by_us_alone(case),
        (false, true) => stored_by_them_alone(case),
        _ => Some("agreed"),
    };
    assert!(explained.is_some(), "{ours:?} {theirs:?}: {} {} {:?}", case.method, case.status, case.response);
    let explained = match (ours.is_used, theirs.is_used) {
        (true, false) => used_by_us_alone(case, asks, after),
        (false, true) => used_by_them_alone(case, asks),
        _ => Some("agreed"),
    };
    assert!(explained.is_some(), "{asks} {after:?} {ours:?} {theirs:?}: {:?} {:?}", case.request, case.response);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    // Half seconds, because of a client's limit the crate takes the end as out and RFC 9111 §5.2.1.2 as in.
    #[test]
    fn the_crate_agrees_or_an_rfc_says_why(case in cases(), asks in request_directives(), after in 0_u64..8000) {
        agree(&case, &asks, Duration::from_millis(after * 1000 + 500));
    }
}

/// Each of the reasons is there for a response that shows it, and none is used up by others.
#[test]
fn where_the_crate_differs() {
    let soon = Duration::from_millis(500);
    let row = |case: &Case, asks: &str, by_us: bool, expected: &str| {
        let (ours, theirs) = (ours(case, asks, soon), theirs(case, asks, soon));
        assert_eq!((ours.is_used, theirs.is_used), (by_us, !by_us), "{expected}");
        let reason = if by_us { used_by_us_alone(case, asks, soon) } else { used_by_them_alone(case, asks) };
        assert!(reason.is_some_and(|reason| reason.contains(expected)), "{reason:?}");
    };
    row(&get("cache-control: max-age=9, no-store, must-understand"), "", true, "§5.2.2.3");
    row(&get("cache-control: max-age=9, private=\"a\""), "", true, "§5.2.2.7");
    row(&get("cache-control: max-age=9, proxy-revalidate"), "", true, "§5.2.2.8");
    row(&get("cache-control: max-age=9, no-cache=\"a\""), "", true, "§5.2.2.4");
    row(&get("cache-control: max-age=9, immutable"), "max-age=0", true, "RFC 8246");
    row(&get("cache-control: max-age=0, stale-while-revalidate=9"), "", true, "RFC 5861 §3");
    row(&get("expires: {9}\npragma: no-cache"), "", true, "§5.4");
    row(&get("cache-control: max-age=9\ndate: {-20}\netag: \"a\""), "", false, "§4.2.3");
    row(&get("cache-control: s-maxage=0, stale-if-error=9\netag: \"a\""), "max-stale", false, "§5.2.2.10");
    row(&get("cache-control: max-age=0, proxy-revalidate\netag: \"a\""), "max-stale", false, "§5.2.2.8");
    row(&get("cache-control: no-cache\netag: \"a\""), "max-stale", false, "§5.2.2.4");
    row(&get("cache-control: immutable"), "", false, "RFC 8246");
    let cookie = Case { request: fields("cookie: a=b"), ..get("last-modified: {-1000}") };
    assert!(cookie.request.contains_key(COOKIE) && !cookie.request.contains_key(AUTHORIZATION));
    row(&cookie, "", false, "§7.3");
    let set = get("cache-control: max-age=9, public\nset-cookie: a=b");
    assert!(set.response.contains_key(SET_COOKIE));
    row(&set, "", false, "§7.3");
}
