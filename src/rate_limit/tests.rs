use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::config::{LimitHeaders, LimitKey};

const MINUTE: Duration = Duration::from_secs(60);

fn config(name: &str, requests: u32) -> RateLimit {
    RateLimit {
        name: name.to_owned(),
        quota: Quota {
            key: LimitKey::ClientIp,
            ipv6_prefix: 64,
            requests,
            window: MINUTE,
            algorithm: Algorithm::Window,
        },
        exempt: Vec::new(),
        dry_run: false,
        headers: LimitHeaders::Draft,
        keys_max: 100,
    }
}

fn by(key: LimitKey, config: RateLimit) -> RateLimit {
    RateLimit { quota: Quota { key, ..config.quota }, ..config }
}

fn limits(configs: &[RateLimit]) -> RouteLimits {
    let names: Vec<String> = configs.iter().map(|config| config.name.clone()).collect();
    RouteLimits::of(&names, &build(configs, None)).unwrap()
}

/// A request of `/`, without fields, of this client.
fn ask(limits: &RouteLimits, client: &str, now: Instant) -> Verdict {
    limits.check(&Asked { client: client.parse().unwrap(), fields: &HeaderMap::new(), route: "/" }, now)
}

/// What the limits say of `count` requests, and the lines of fields after the last.
fn told(limits: &RouteLimits, count: usize) -> Vec<String> {
    let now = clock::now();
    let mut verdict = Verdict::default();
    for _ in 0..count {
        verdict = ask(limits, "192.0.2.1", now);
    }
    let mut fields = HeaderMap::new();
    limits.tell(&verdict, &mut fields);
    let mut lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn clients_are_told_as_the_draft_says() {
    let one = &[config("per-ip", 100)];
    assert_eq!(told(&limits(one), 1), [r#"ratelimit-policy: "per-ip";q=100;w=60"#, r#"ratelimit: "per-ip";r=99;t=60"#]);
    let few = &[config("per-ip", 2)];
    assert_eq!(
        told(&limits(few), 3),
        [r#"ratelimit-policy: "per-ip";q=2;w=60"#, r#"ratelimit: "per-ip";r=0;t=60"#, "retry-after: 60"]
    );
    let burst = RateLimit {
        quota: Quota { algorithm: Algorithm::Gcra { burst: 3 }, ..config("api", 60).quota },
        ..config("api", 60)
    };
    assert_eq!(
        told(&limits(&[burst, config("day", 10)]), 2),
        [
            r#"ratelimit-policy: "api";q=60;w=60"#,
            r#"ratelimit-policy: "day";q=10;w=60"#,
            r#"ratelimit: "api";r=1;t=1"#,
            r#"ratelimit: "day";r=8;t=60"#
        ]
    );
}

/// What is left is never more than the quota.
#[test]
fn a_burst_above_the_requests_of_its_window_is_told_as_a_longer_window() {
    let check = |requests, burst, expected: [&str; 4]| {
        let quota = Quota { algorithm: Algorithm::Gcra { burst }, ..config("api", requests).quota };
        let told = told(&limits(&[RateLimit { quota, headers: LimitHeaders::Both, ..config("api", requests) }]), 1);
        for line in expected {
            assert!(told.iter().any(|told| told.starts_with(line)), "{requests}, {burst}: {told:?} without {line}");
        }
    };
    check(
        60,
        3,
        [
            r#"ratelimit-policy: "api";q=60;w=60"#,
            r#"ratelimit: "api";r=2;"#,
            "x-ratelimit-limit: 60",
            "x-ratelimit-remaining: 2",
        ],
    );
    check(
        60,
        60,
        [
            r#"ratelimit-policy: "api";q=60;w=60"#,
            r#"ratelimit: "api";r=59;"#,
            "x-ratelimit-limit: 60",
            "x-ratelimit-remaining: 59",
        ],
    );
    check(
        60,
        100,
        [
            r#"ratelimit-policy: "api";q=100;w=100"#,
            r#"ratelimit: "api";r=99;"#,
            "x-ratelimit-limit: 100",
            "x-ratelimit-remaining: 99",
        ],
    );
    check(
        7,
        10,
        [
            r#"ratelimit-policy: "api";q=10;w=86"#,
            r#"ratelimit: "api";r=9;"#,
            "x-ratelimit-limit: 10",
            "x-ratelimit-remaining: 9",
        ],
    );
}

#[test]
fn clients_are_told_in_the_older_way_where_that_is_wanted() {
    let with = |headers, config| RateLimit { headers, ..config };
    assert!(told(&limits(&[with(LimitHeaders::Off, config("a", 5))]), 1).is_empty());
    assert_eq!(told(&limits(&[with(LimitHeaders::Off, config("a", 1))]), 2), ["retry-after: 60"]);
    let x = ["x-ratelimit-limit: 5", "x-ratelimit-remaining: 4", "x-ratelimit-reset: 60"];
    assert_eq!(told(&limits(&[with(LimitHeaders::X, config("a", 5)), with(LimitHeaders::X, config("b", 9))]), 1), x);
    assert_eq!(told(&limits(&[with(LimitHeaders::Both, config("a", 5))]), 1).len(), 5);
}

/// The origin has limits too, and its client has to hold to both.
#[test]
fn what_the_origin_says_of_its_own_limits_stays() {
    let limits = limits(&[config("a", 5)]);
    let mut fields = HeaderMap::new();
    fields.insert(HeaderName::from_static("ratelimit"), HeaderValue::from_static("\"app\";r=1"));
    limits.tell(&ask(&limits, "192.0.2.1", clock::now()), &mut fields);
    let lines: Vec<_> = fields.get_all("ratelimit").iter().collect();
    assert_eq!(lines, ["\"app\";r=1", "\"a\";r=4;t=60"]);
}

#[test]
fn what_one_limit_refuses_uses_up_no_other() {
    let configs = [config("narrow", 1), by(LimitKey::All, config("a-wide-one", 3))];
    let (limits, now) = (limits(&configs), clock::now());
    assert_eq!(limits.refusing(&ask(&limits, "192.0.2.1", now)), None);
    for _ in 0..10 {
        assert_eq!(limits.refusing(&ask(&limits, "192.0.2.1", now)), Some("narrow"));
    }
    for client in ["192.0.2.2", "192.0.2.3"] {
        assert_eq!(limits.refusing(&ask(&limits, client, now)), None, "the ten have used nothing of the wide one");
    }
    assert_eq!(limits.refusing(&ask(&limits, "192.0.2.4", now)), Some("a-wide-one"));
    let Some(limit) = limits.0.iter().find(|limit| limit.name() == "narrow") else { panic!() };
    assert_eq!(limit.totals().0, 3, "who was refused elsewhere has taken no place");
}

#[test]
fn the_longest_wait_is_told() {
    let hour = Duration::from_secs(3_600);
    let long = RateLimit { quota: Quota { window: hour, ..config("long", 1).quota }, ..config("long", 1) };
    let told = told(&limits(&[config("short", 1), long]), 2);
    assert!(told.contains(&"retry-after: 3600".to_owned()), "{told:?}");
}

#[test]
fn a_dry_run_refuses_nothing_and_uses_nothing_up() {
    let dry = RateLimit { dry_run: true, ..config("dry", 1) };
    let (limits, now) = (limits(&[dry, config("real", 3)]), clock::now());
    let verdicts: Vec<Verdict> = (0..4).map(|_| ask(&limits, "192.0.2.1", now)).collect();
    let refusing: Vec<_> = verdicts.iter().map(|verdict| limits.refusing(verdict)).collect();
    let logged: Vec<_> = verdicts.iter().map(|verdict| limits.to_be_logged(verdict)).collect();
    assert_eq!(refusing, [None, None, None, Some("real")]);
    assert_eq!(logged, [None, Some("dry"), Some("dry"), Some("real")]);
    let tallies: Vec<Tally> = limits.0.iter().map(|limit| limit.totals().1).collect();
    assert_eq!(tallies[0], Tally { allowed: 1, dry_run: 3, ..Tally::default() });
    assert_eq!(tallies[1], Tally { allowed: 3, limited: 1, ..Tally::default() });
    let mut fields = HeaderMap::new();
    limits.tell(&verdicts[1], &mut fields);
    assert_eq!(fields["ratelimit"], r#""real";r=1;t=60"#);
}

#[test]
fn who_is_exempt_is_neither_counted_nor_told() {
    let exempt = RateLimit { exempt: vec!["192.0.2.0/24".parse().unwrap()], ..config("a", 1) };
    let (limits, now) = (limits(&[exempt]), clock::now());
    for _ in 0..5 {
        let verdict = ask(&limits, "192.0.2.1", now);
        assert_eq!(limits.refusing(&verdict), None);
        let mut fields = HeaderMap::new();
        limits.tell(&verdict, &mut fields);
        assert!(fields.is_empty(), "{fields:?}");
    }
    assert_eq!(limits.0[0].totals(), (0, Tally::default()));
    assert_eq!(limits.0[0].of_address("192.0.2.1".parse().unwrap()), Reported::Exempt);
    assert_eq!(limits.refusing(&ask(&limits, "198.51.100.1", now)), None);
    assert_eq!(limits.refusing(&ask(&limits, "198.51.100.1", now)), Some("a"));
}

#[test]
fn counts_outlive_a_change_that_leaves_their_meaning() {
    let first = build(&[config("a", 5)], None);
    let kept = |changed: RateLimit| Arc::ptr_eq(&first["a"].counts, &build(&[changed], Some(&first))["a"].counts);
    let quota = config("a", 5).quota;
    assert!(kept(config("a", 5)));
    assert!(kept(RateLimit { dry_run: true, ..config("a", 5) }));
    assert!(kept(RateLimit { exempt: vec!["10.0.0.0/8".parse().unwrap()], ..config("a", 5) }));
    assert!(kept(RateLimit { keys_max: 7, headers: LimitHeaders::X, ..config("a", 5) }));
    assert!(!kept(config("a", 6)));
    assert!(!kept(by(LimitKey::All, config("a", 5))));
    assert!(!kept(RateLimit { quota: Quota { ipv6_prefix: 56, ..quota.clone() }, ..config("a", 5) }));
    assert!(!kept(RateLimit { quota: Quota { window: MINUTE * 2, ..quota.clone() }, ..config("a", 5) }));
    assert!(!kept(RateLimit { quota: Quota { algorithm: Algorithm::Gcra { burst: 1 }, ..quota }, ..config("a", 5) }));
    assert!(build(&[], Some(&first)).is_empty());
}

#[test]
fn operators_see_who_has_used_most() {
    let (limits, now) = (limits(&[config("a", 4)]), clock::now());
    for (client, count) in [("192.0.2.1", 1), ("2001:db8::1", 5), ("192.0.2.3", 3)] {
        for _ in 0..count {
            ask(&limits, client, now);
        }
    }
    let overview = limits.0[0].overview(&[]);
    let shown: Vec<_> =
        overview.most_used.iter().map(|one| (one.who.as_str(), one.standing.remaining, one.refused)).collect();
    assert_eq!(shown, [("2001:db8::/64", 0, 1), ("192.0.2.3", 1, 0), ("192.0.2.1", 3, 0)]);
    assert_eq!((overview.keys, overview.limited_now), (3, 1));
    let of = |client: &str| match limits.0[0].of_address(client.parse().unwrap()) {
        Reported::Counted(counted) => counted.standing.remaining,
        other => panic!("{other:?}"),
    };
    assert_eq!((of("192.0.2.3"), of("2001:db8::ffff"), of("203.0.113.1")), (1, 0, 4));
    assert!(limits.0[0].reset("2001:db8::2".parse().unwrap()));
    assert_eq!(of("2001:db8::1"), 4);
}

/// Locks are taken in the order of names, whatever order routes name them in.
#[test]
fn many_limits_at_once_from_many_threads() {
    let configs = [by(LimitKey::All, config("a", 1_000)), by(LimitKey::Route, config("b", 1_000)), config("c", 300)];
    let limits = build(&configs, None);
    let named = |names: &[&str]| {
        RouteLimits::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &limits).unwrap()
    };
    let routes = [named(&["a", "b", "c"]), named(&["c", "b", "a"]), named(&["b", "c", "a"])];
    let now = clock::now();
    let passed: usize = std::thread::scope(|scope| {
        let ask_all = |route: usize| {
            let (routes, client) = (&routes, format!("192.0.2.{}", route % 4));
            let passes = move |_: &usize| routes[route % 3].refusing(&ask(&routes[route % 3], &client, now)).is_none();
            scope.spawn(move || (0..2_000).filter(passes).count())
        };
        let threads: Vec<_> = (0..6).map(ask_all).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
}
