//! Whatever stands beside it: a `no-store`, a `private` and a `Set-Cookie` are heard, and how a list is divided into
//! lines changes nothing. Input: fields of a request, an empty line, fields of a response.
#![no_main]

mod fields;

use std::time::{Instant, SystemTime};

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tollgate::cache_parts::{DELTA_MAX, Directives, Exchanged, Rules, TargetUri, Terms, Times, terms};
use tollgate::header::Scheme;
use tollgate::header::authority::Authority;

const TARGET: HeaderName = HeaderName::from_static("cdn-cache-control");

fuzz_target!(|bytes: &[u8]| {
    let (request, response) = halves(bytes);
    let (request, response) = (fields::read(request), fields::read(response));
    for directives in [Directives::of_request(&request), Directives::of_response(&response, &[]), told(&response)] {
        let times = [directives.max_age, directives.s_maxage, directives.min_fresh];
        let windows = [directives.stale_while_revalidate, directives.stale_if_error];
        assert!(times.iter().chain(&windows).flatten().all(|time| *time <= DELTA_MAX));
    }

    // Several lines are one list (RFC 9110 §5.3). A quoted string that is open at the end of a line is an error.
    if !response.values().chain(request.values()).any(|value| value.as_bytes().contains(&b'"')) {
        assert_eq!(Directives::of_request(&joined(&request)), Directives::of_request(&request));
        assert_eq!(Directives::of_response(&joined(&response), &[]), Directives::of_response(&response, &[]));
    }

    // Where a targeted field counts, `Cache-Control` says nothing (RFC 9213 §2.2).
    if told(&response).targeted {
        let without = without(&response, &CACHE_CONTROL);
        assert_eq!(told(&without), told(&response));
    }

    for (name, value) in [(CACHE_CONTROL, "private"), (CACHE_CONTROL, "no-store"), (SET_COOKIE, "a=1")] {
        let word = [(name, HeaderValue::from_static(value))];
        let others = || response.iter().map(|(name, value)| (name.clone(), value.clone()));
        check_forbidden(&request, value, lines(word.clone().into_iter().chain(others())));
        check_forbidden(&request, value, lines(others().chain(word)));
    }
});

fn check_forbidden(request: &HeaderMap, word: &str, response: HeaderMap) {
    let directives = Directives::of_response(&response, &[]);
    assert!(directives.no_store || word != "no-store", "{response:?}");
    // `must-understand` lets a cache that does set `no-store` aside; `private` and `no-cache` with names of fields
    // have those taken off.
    let is_excused = directives.must_understand || word == "a=1" && mentions_cookie(&directives);
    assert!(is_excused || judge(request, &response).is_none(), "{response:?}");
}

fn mentions_cookie(directives: &Directives) -> bool {
    [&directives.private, &directives.no_cache].iter().any(|scope| format!("{scope:?}").contains("set-cookie"))
}

fn lines(fields: impl Iterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    fields.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn told(response: &HeaderMap) -> Directives {
    Directives::of_response(response, &[TARGET])
}

fn judge(request: &HeaderMap, response: &HeaderMap) -> Option<Terms> {
    let now = Instant::now();
    let times = Times { asked: now, answered: now, clock: SystemTime::UNIX_EPOCH };
    let authority = Authority::from_parts("localhost", None);
    let target = TargetUri { scheme: Scheme::Http, authority: &authority, path: "/", query: None };
    let exchanged = Exchanged { method: &Method::GET, target: &target, request, status: StatusCode::OK, response };
    terms(&exchanged, &Rules::default(), times).ok()
}

/// What stands before and after the first empty line.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (b"", bytes),
    }
}

fn without(fields: &HeaderMap, name: &HeaderName) -> HeaderMap {
    let mut fields = fields.clone();
    fields.remove(name);
    fields
}

/// Each field in one line.
fn joined(fields: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::new();
    for name in fields.keys() {
        let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        joined.insert(name.clone(), HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap());
    }
    joined
}
