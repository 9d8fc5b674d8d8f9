//! What holds of all responses, whatever they say.

use std::time::{Duration, Instant};

use http::header::{AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::tests::{Case, directives, get, http_date, plain};
use super::*;
use crate::cache::cache_control::{DELTA_MAX, Directives, Scope};

/// Directives with numbers that matter to one another.
pub fn response_directives() -> impl Strategy<Value = String> {
    let flags = [
        "no-store",
        "no-cache",
        "no-cache=\"a\"",
        "private",
        "private=\"a\"",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
        "foo=\"max-age=9\"",
    ];
    let seconds = || select(vec![0, 1, 5, 60, 3600]);
    let timed = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    let timed =
        timed.map(|name| prop::option::weighted(0.3, seconds().prop_map(move |seconds| format!("{name}={seconds}"))));
    (subsequence(flags.to_vec(), 0..=2), timed).prop_map(|(flags, timed)| {
        let all: Vec<_> = flags.into_iter().map(str::to_owned).chain(timed.into_iter().flatten()).collect();
        all.join(", ")
    })
}

pub fn request_directives() -> impl Strategy<Value = String> {
    let seconds = || select(vec![1, 5, 60, 3600]);
    let limit = |name: &'static str| {
        prop::option::weighted(
            0.2,
            prop::option::of(seconds()).prop_map(move |argument| match argument {
                Some(seconds) => format!("{name}={seconds}"),
                None if name == "max-stale" => name.to_owned(),
                None => format!("{name}=2"),
            }),
        )
    };
    let no_cache = prop::option::weighted(0.1, Just("no-cache".to_owned()));
    (no_cache, ["max-age", "min-fresh", "max-stale", "stale-if-error"].map(limit)).prop_map(|(no_cache, limits)| {
        no_cache.into_iter().chain(limits.into_iter().flatten()).collect::<Vec<_>>().join(", ")
    })
}

fn dated(name: &'static str, at: Vec<i64>) -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.4, select(at).prop_map(move |at| format!("{name}: {}", http_date(at))))
}

pub fn responses() -> impl Strategy<Value = String> {
    let cache_control =
        prop::option::weighted(0.8, response_directives().prop_map(|said| format!("cache-control: {said}")));
    let age = prop::option::weighted(0.3, select(vec![0, 3, 50, 4000]).prop_map(|age| format!("age: {age}")));
    let rest = ["etag: \"a\"", "set-cookie: a=b", "vary: *", "pragma: no-cache"];
    let rest = rest.map(|line| prop::option::weighted(0.15, Just(line.to_owned())));
    (
        cache_control,
        age,
        dated("date", vec![-4000, -10, 0, 10]),
        dated("expires", vec![-10, 0, 20, 5000]),
        dated("last-modified", vec![-1_000_000, -1000, -20, 0, 10]),
        rest,
    )
        .prop_map(|(cache_control, age, date, expires, modified, rest)| {
            let lines = [cache_control, age, date, expires, modified].into_iter().chain(rest).flatten();
            lines.collect::<Vec<_>>().join("\n")
        })
}

pub fn cases() -> impl Strategy<Value = Case> {
    let requests = ["authorization: x", "cookie: a=b", "cache-control: no-store"];
    let request = requests.map(|line| prop::option::weighted(0.15, Just(line)));
    let request = request.prop_map(|lines| lines.into_iter().flatten().collect::<Vec<_>>().join("\n"));
    let status =
        prop_oneof![5 => Just(200), 5 => select(vec![204, 206, 299, 301, 302, 304, 404, 410, 416, 500, 501, 599])];
    let method = prop_oneof![9 => Just(Method::GET), 1 => select(vec![Method::HEAD, Method::POST, Method::PUT])];
    (responses(), request, status, method).prop_map(|(response, request, status, method)| Case {
        method,
        request: super::tests::fields(&request),
        status: StatusCode::from_u16(status).unwrap(),
        ..get(&response)
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let ttl = || prop::option::of(select(vec![0, 10, 300]).prop_map(Duration::from_secs));
    (ttl(), ttl(), ttl(), ttl(), any::<[bool; 3]>()).prop_map(|(default_ttl, ttl_edge, swr, sie, flags)| Rules {
        default_ttl,
        ttl_edge,
        stale_while_revalidate: swr,
        stale_if_error: sie,
        store_set_cookie: flags[0],
        ignore_cookie: flags[1],
        heuristic: flags[2].then(Heuristic::default),
        ..plain()
    })
}

fn after(case: &Case, millis: u64) -> Instant {
    case.at + case.delay + Duration::from_millis(millis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_must_not_be_stored_is_not(case in cases(), rules in rules()) {
        let case = Case { rules, ..case };
        let said = Directives::of_response(&case.response, &[]);
        let forbidden = (said.no_store && !said.must_understand)
            || said.private == Scope::All
            || case.request.contains_key("cache-control")
            || (case.request.contains_key("authorization")
                && !said.public && !said.must_revalidate && said.s_maxage.is_none())
            || (case.response.contains_key("set-cookie") && !case.rules.store_set_cookie)
            || case.response.get(VARY).is_some_and(|vary| vary == "*")
            || matches!(case.status.as_u16(), 206 | 304 | 416);
        prop_assert!(!forbidden || case.terms().is_err());
    }

    #[test]
    fn fresh_is_what_is_younger_than_its_lifetime(case in cases(), asks in request_directives(), millis in 0_u64..10_000_000) {
        let Ok(terms) = case.terms() else { return Ok(()) };
        let now = after(&case, millis);
        let is_young = terms.age(now) < terms.lifetime();
        prop_assert_eq!(is_young, terms.ttl(now) >= 0 && terms.age(now) != terms.lifetime());
        match terms.usable(&directives(&asks), now) {
            Usable::Fresh => prop_assert!(is_young),
            Usable::Stale(_) => prop_assert!(!is_young),
            Usable::Validate(_) => {}
        }
        // Without wishes, what is young is fresh, but for `no-cache`.
        let no_cache = Directives::of_response(&case.response, &[]).no_cache == Scope::All;
        prop_assert_eq!(terms.usable(&Directives::default(), now) == Usable::Fresh, is_young && !no_cache);
    }

    #[test]
    fn what_forbids_stale_use_forbids_it_always(case in cases(), asks in request_directives(), rules in rules(), millis in 0_u64..10_000_000) {
        let case = Case { rules, ..case };
        let Ok(terms) = case.terms() else { return Ok(()) };
        let said = Directives::of_response(&case.response, &[]);
        let now = after(&case, millis);
        let strict = said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some() || said.no_cache == Scope::All;
        if strict && terms.age(now) >= terms.lifetime() {
            prop_assert!(matches!(terms.usable(&directives(&asks), now), Usable::Validate(_)));
            prop_assert!(!terms.usable_on_error(&directives(&asks), now));
        }
    }

    #[test]
    fn time_only_makes_older(case in cases(), asks in request_directives(), millis in 0_u64..5_000_000, more in 0_u64..5_000_000) {
        let Ok(terms) = case.terms() else { return Ok(()) };
        let (now, later) = (after(&case, millis), after(&case, millis + more));
        prop_assert!(terms.age(now) <= terms.age(later) && terms.age(later) <= DELTA_MAX);
        prop_assert!(terms.ttl(now) >= terms.ttl(later));
        let rank = |now| match terms.usable(&directives(&asks), now) {
            Usable::Fresh => 0,
            Usable::Stale(Permit::WhileRevalidating) => 1,
            Usable::Stale(Permit::Client) => 2,
            Usable::Validate(_) => 3,
        };
        prop_assert!(rank(now) <= rank(later));
        let asks = directives(&asks);
        prop_assert!(terms.usable_on_error(&asks, now) || !terms.usable_on_error(&asks, later));
    }

    #[test]
    fn it_is_of_no_use_after_its_end(case in cases(), rules in rules(), more in 0_u64..10_000_000) {
        let Ok(terms) = (Case { rules, ..case }).terms() else { return Ok(()) };
        let end = terms.of_use_until().unwrap_or(terms.at) + Duration::from_millis(more);
        prop_assert!(matches!(terms.usable(&Directives::default(), end), Usable::Validate(_)));
        prop_assert!(!terms.usable_on_error(&Directives::default(), end));
    }

    #[test]
    fn a_304_twice_changes_what_it_changes_once(stored in responses(), validated in responses()) {
        let (mut once, validated) = (super::tests::fields(&stored), super::tests::fields(&validated));
        freshen(&mut once, &validated, &plain());
        let mut twice = once.clone();
        freshen(&mut twice, &validated, &plain());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_field_is_too_much(
        texts in prop::collection::vec(("[ -~\\t\u{80}-\u{ff}]{0,40}", 0_usize..9), 0..8), status in 100_u16..1000,
    ) {
        let names = [
            AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY,
            HeaderName::from_static("cdn-cache-control"),
        ];
        let mut response = HeaderMap::new();
        for (text, name) in &texts {
            let bytes: Vec<_> = text.chars().map(|letter| letter as u32 as u8).collect();
            response.append(names[*name].clone(), HeaderValue::from_bytes(&bytes).unwrap());
        }
        let mut stored = response.clone();
        freshen(&mut stored, &response, &plain());
        let _ = (concerns(&stored, &response), head_effect(StatusCode::OK, &response, &stored, 1));
        for method in [Method::GET, Method::POST] {
            let rules = Rules { targets: vec![names[8].clone()], ..plain() };
            let status = StatusCode::from_u16(status).unwrap();
            let case = Case { method, status, response: response.clone(), rules, ..get("") };
            if let Ok(terms) = case.terms() {
                let _ = (terms.usable(&Directives::of_request(&response), case.at), terms.ttl(case.at));
            }
        }
    }
}
