//! For what a stored response may be used.

use super::*;

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
