use std::time::Duration;

use http_body_util::Full;

use super::*;
use crate::admin::testing::{FakeProcess, rules};
use crate::config::{Balance, EndpointAddress, Keepalive, Source, Target as Address, Timeouts, Upstream};
use crate::rate_limit;

const LOCAL: Via = Via::Tcp { peer: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), local: LOOPBACK };
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const TOKEN: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");
const ADDRESS: &str = r#"{"address": "10.0.0.1:3000"}"#;

fn pool() -> Arc<Pool> {
    let second = Duration::from_secs(1);
    let endpoint = |last| EndpointAddress { target: Address::Socket(([10, 0, 0, last], 3000).into()), weight: 1 };
    let upstream = Upstream {
        name: "app".to_owned(),
        source: Source::Endpoints(vec![endpoint(1), endpoint(2)]),
        protocol: config::UpstreamProtocol::H1,
        tls: None,
        balance: Balance::LeastConnections,
        fails_max: 1,
        fail_timeout: second,
        fail_timeout_max: second,
        outlier: None,
        slow_start: None,
        hash_by: config::HashBy::ClientIp,
        hash_load_max: None,
        requests_max: 0,
        endpoint_requests_max: 0,
        queue: None,
        keepalive: Keepalive { connections: 1, requests: 1, idle: second },
        timeout: Timeouts {
            connect: second,
            send: second,
            read: second,
            tunnel_idle: second,
            total: None,
            attempt: None,
        },
        health: None,
        breaker: None,
        retry: config::Retry { attempts: 1, status: vec![], backoff: second, budget_percent: 20 },
    };
    Arc::new(Pool::new(&upstream, None))
}

fn process() -> FakeProcess {
    FakeProcess { pools: [("app".to_owned(), pool())].into(), ..FakeProcess::default() }
}

/// Asks and gives status and body.
async fn ask(process: &FakeProcess, via: Via, line: &str, fields: &[(&str, &str)], body: &str) -> (u16, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:9900");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let answer = answer((process, &Live::default()), &rules(), via, request).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn pages_and_refusals() {
    let check = async |line: &str, fields: &[(&str, &str)], status: u16, part: &str| {
        let (found, body) = ask(&process(), LOCAL, line, fields, "").await;
        assert_eq!(found, status, "{line} {fields:?}: {body}");
        assert!(body.contains(part), "{line}: {body}");
    };
    check("GET /livez", &[], 200, "ok").await;
    check("HEAD /livez", &[], 200, "ok").await;
    check("GET /readyz", &[], 200, "ready").await;
    check("GET /status", &[], 200, r#""status":"healthy""#).await;
    check("GET /live.json", &[], 200, r#""routes":{"total":0,"#).await;
    check("POST /live.json", &[TOKEN], 405, "GET, HEAD").await;
    check("GET /live.json", &[("host", "evil.example")], 421, "admin.hosts").await;
    check("GET /metrics", &[], 200, "tollgate_build_info{version=").await;
    check("GET /upstreams", &[], 200, r#"[{"name":"app","usable":2,"#).await;
    check("GET /cache", &[], 200, r#""entries":0,"#).await;
    check("GET /cache/purge", &[TOKEN], 405, "POST").await;
    check("POST /cache/purge", &[], 403, "token").await;
    check("GET /", &[], 200, "<!doctype html>").await;
    check("HEAD /live.css", &[], 200, "--ground").await;
    check("POST /live.js", &[TOKEN], 405, "GET, HEAD").await;
    check("HEAD /events", &[], 405, "GET").await;
    check("GET /events", &[("host", "evil.example")], 421, "admin.hosts").await;
    check("GET /index.html", &[], 404, "/livez").await;
    check("GET /livez/", &[], 404, "/livez").await;
    check("POST /upstreams/app/pause", &[TOKEN], 404, "/upstreams/{name}/drain").await;
    check("POST /livez", &[TOKEN], 405, "GET, HEAD").await;
    check("GET /reload", &[TOKEN], 405, "POST").await;
    check("OPTIONS /reload", &[], 405, "POST").await;
    check("GET /livez", &[("host", "evil.example")], 421, "admin.hosts").await;
    check("POST /reload", &[], 403, "token").await;
    check("POST /reload", &[TOKEN, ("origin", "http://evil.example")], 403, "origin").await;
    check("POST /stop", &[], 403, "token").await;
    check("POST /upstreams/app/drain", &[], 403, "token").await;
}

#[tokio::test]
async fn what_may_be_read_may_be_explained() {
    let check = async |via: Via, line: &str, body: &str, status: u16, part: &str| {
        let (found, said) = ask(&process(), via, line, &[], body).await;
        assert_eq!(found, status, "{line} {body}: {said}");
        assert!(said.contains(part), "{line} {body}: {said}");
    };
    check(LOCAL, "GET /explain", "", 405, "POST").await;
    check(LOCAL, "POST /explain", "", 400, "EOF while parsing").await;
    check(LOCAL, "POST /explain", r#"{"method": "GET"}"#, 400, "missing field `url`").await;
    check(LOCAL, "POST /explain", r#"{"method": "GET", "url": "a", "x": 1}"#, 400, "unknown field `x`").await;
    check(LOCAL, "POST /explain", r#"{"method": "GET", "url": "a"}"#, 400, "is not explained here").await;
    check(LOCAL, "POST /explain", &" ".repeat((64 << 10) + 1), 413, "more than 64 KiB").await;
    let stranger = Via::Tcp { peer: [192, 0, 2, 1].into(), local: LOOPBACK };
    check(stranger, "POST /explain", r#"{"method": "GET", "url": "a"}"#, 403, "admin.allow").await;
}

#[tokio::test]
async fn the_log_is_followed_by_who_may_control() {
    let check = async |fields: &[(&str, &str)], body: &str, status: u16, part: &str| {
        let (found, said) = ask(&process(), LOCAL, "POST /log/follow", fields, body).await;
        assert_eq!(found, status, "{body}: {said}");
        assert!(said.contains(part), "{body}: {said}");
    };
    check(&[], "{}", 403, "token").await;
    check(&[TOKEN], "", 400, "EOF while parsing").await;
    check(&[TOKEN], r#"{"colour": "red"}"#, 400, "unknown field `colour`").await;
    check(&[TOKEN], r#"{"status": ["6x"]}"#, 400, "a status such as 404, 5xx").await;
    check(&[TOKEN], "{}", 503, "too many follow the log already").await;
}

#[tokio::test]
async fn draining_is_not_ready_and_still_live() {
    let process = process();
    process.draining.set(true);
    assert_eq!(ask(&process, LOCAL, "GET /readyz", &[], "").await, (503, "draining\n".to_owned()));
    assert_eq!(ask(&process, LOCAL, "GET /livez", &[], "").await.0, 200);
}

#[tokio::test]
async fn without_memory_for_requests_it_is_not_ready_and_still_live() {
    let process = process();
    process.refusing.set(true);
    assert_eq!(ask(&process, LOCAL, "GET /readyz", &[], "").await, (503, "memory-short\n".to_owned()));
    assert_eq!(ask(&process, LOCAL, "GET /livez", &[], "").await.0, 200);
}

#[tokio::test]
async fn a_stranger_reads_nothing() {
    let stranger = Via::Tcp { peer: [192, 0, 2, 1].into(), local: LOOPBACK };
    for line in ["GET /livez", "GET /status", "GET /nothing", "POST /stop"] {
        assert_eq!(ask(&process(), stranger, line, &[TOKEN], "").await.0, 403, "{line}");
    }
}

#[tokio::test]
async fn a_reload_says_what_came_of_it() {
    let check = async |outcome: Option<Outcome>, status: u16, part: &str| {
        let process = process();
        process.outcome.replace(outcome);
        let (found, body) = ask(&process, Via::Socket, "POST /reload", &[], "").await;
        assert_eq!(found, status, "{body}");
        assert!(body.contains(part), "{body}");
    };
    let changes = vec!["route / added".to_owned()];
    check(Some(Outcome::Applied { generation: 2, changes }), 200, r#""changes":["route / added"]"#).await;
    check(
        Some(Outcome::Refused { diagnostics: "bad".to_owned(), summary: String::new() }),
        422,
        r#""diagnostics":"bad""#,
    )
    .await;
    check(None, 503, "stopping").await;
}

#[tokio::test]
async fn stop_is_accepted() {
    let process = process();
    assert_eq!(ask(&process, LOCAL, "POST /stop", &[TOKEN], "").await.0, 202);
    assert!(process.stopped.get());
}

#[tokio::test]
async fn an_endpoint_is_drained_and_taken_back() {
    let process = process();
    let (status, body) = ask(&process, Via::Socket, "POST /upstreams/app/drain", &[], ADDRESS).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""usable":1"#) && body.contains(r#""state":"drained""#), "{body}");
    let (status, body) = ask(&process, LOCAL, "POST /upstreams/app/undrain", &[TOKEN], ADDRESS).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""usable":2"#), "{body}");
}

#[tokio::test]
async fn a_wrong_endpoint_is_told_what_would_be_right() {
    let check = async |line: &str, body: &str, status: u16, part: &str| {
        let (found, answer) = ask(&process(), Via::Socket, line, &[], body).await;
        assert_eq!(found, status, "{line} {body}: {answer}");
        assert!(answer.contains(part), "{answer}");
    };
    let drain = "POST /upstreams/app/drain";
    check("POST /upstreams/none/drain", ADDRESS, 404, "one of app").await;
    check(drain, r#"{"address": "10.0.0.9:3000"}"#, 404, "one of 10.0.0.1:3000, 10.0.0.2:3000").await;
    check(drain, r#"{"address": "app"}"#, 400, "invalid socket address").await;
    check(drain, r#"{"address": "10.0.0.1:3000", "force": true}"#, 400, "unknown field").await;
    check(drain, "", 400, "10.0.0.1:3000").await;
    check(drain, &" ".repeat(BODY_BYTES_MAX + 1), 413, "64 KiB").await;
}

#[tokio::test]
async fn a_purge_says_what_it_met_or_what_is_wrong() {
    let check = async |body: &str, status: u16, part: &str| {
        let process = FakeProcess { dependents: 1024, ..process() };
        let (found, answer) = ask(&process, Via::Socket, "POST /cache/purge", &[], body).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer.contains(part), "{answer}");
    };
    let all = r#"{"matched":0,"mode":"hard","dry_run":false,"host":null,"names":["all"]}"#;
    check(r#"{"all": true}"#, 200, all).await;
    check(r#"{"tag": "a", "soft": true, "dry_run": true}"#, 200, r#""mode":"soft","dry_run":true"#).await;
    check(r#"{"tag": 7}"#, 400, r#""error":"\"tag\" is 7","expected":"a tag such as"#).await;
    check(r#"{"tag": "many"}"#, 422, "at most 1024 names").await;
    check(&" ".repeat(BODY_BYTES_MAX + 1), 413, "64 KiB").await;
}

#[tokio::test]
async fn limits_are_shown_and_an_address_is_reset() {
    let window = Duration::from_secs(60);
    let quota = config::Quota {
        key: config::LimitKey::ClientIp,
        ipv6_prefix: 64,
        requests: 2,
        window,
        algorithm: config::Algorithm::Window,
    };
    let limit = config::RateLimit {
        name: "per-ip".to_owned(),
        quota,
        exempt: vec!["10.0.0.0/8".parse().unwrap()],
        dry_run: false,
        headers: config::LimitHeaders::Draft,
        keys_max: 10,
    };
    let limits = rate_limit::build(&[limit], None);
    let route = rate_limit::RouteLimits::of(&["per-ip".to_owned()], &limits).unwrap();
    for _ in 0..3 {
        let client = "192.0.2.1".parse().unwrap();
        let fields = http::HeaderMap::new();
        route.check(&rate_limit::Asked { client, fields: &fields, route: "/" }, clock::now());
    }
    let process = FakeProcess { rate_limits: limits, ..process() };
    let check = async |line: &str, fields: &[(&str, &str)], body: &str, status: u16, part: &str| {
        let (found, answer) = ask(&process, LOCAL, line, fields, body).await;
        assert_eq!(found, status, "{line}: {answer}");
        assert!(answer.contains(part), "{line}: {answer}");
    };
    check("GET /limits", &[], "", 200, r#""limited_now":1,"allowed":2,"limited":1,"dry_run_limited":0"#).await;
    check("GET /limits", &[], "", 200, r#""who":"192.0.2.1","used":2,"remaining":0"#).await;
    check("GET /limits/192.0.2.1", &[], "", 200, r#""state":"counted","who":"192.0.2.1","used":2"#).await;
    check("GET /limits/10.0.0.1", &[], "", 200, r#""state":"exempt""#).await;
    check("GET /limits/2001:db8::1", &[], "", 200, r#""who":"2001:db8::/64","used":0"#).await;
    check("GET /limits/nobody", &[], "", 400, "an address such as").await;
    check("POST /limits/reset", &[], r#"{"address": "192.0.2.1"}"#, 403, "token").await;
    check("POST /limits/reset", &[TOKEN], r#"{"address": "192.0.2"}"#, 400, "192.0.2.1").await;
    check("POST /limits/reset", &[TOKEN], r#"{"address": "192.0.2.1"}"#, 200, r#""used":0,"remaining":2"#).await;
}
