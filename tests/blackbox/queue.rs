//! Caps on what is in flight at an upstream and at its endpoints (P19), and the line in front of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::*;

/// Sends a request; its answer comes later.
async fn ask(edge: &Edge, path: &str) -> (Client, JoinHandle<Option<Answer>>) {
    let mut client = Client::connect(edge, Via::H1).await;
    let response = client.send(request("GET", path).body(Body::whole("")).unwrap()).await;
    (client, tokio::spawn(async move { Answer::read(response.await.ok()?).await.ok() }))
}

async fn answer(asked: JoinHandle<Option<Answer>>) -> Answer {
    within("an answer", asked).await.unwrap().unwrap()
}

/// Waits until so many are in the line.
async fn waiting(edge: &Edge, count: usize) {
    let what = format!("{count} in the line");
    until(&what, async || (edge.status().await["upstreams"][0]["queue"]["waiting"] == count).then_some(())).await;
}

/// Asks one after another, each when the one before is in the line.
async fn line_up(edge: &Edge, paths: &[&str]) -> Vec<(Client, JoinHandle<Option<Answer>>)> {
    let mut asked = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        asked.push(ask(edge, path).await);
        waiting(edge, number + 1).await;
    }
    asked
}

#[track_caller]
fn assert_refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (503, reason));
    assert_eq!(answer.field("retry-after"), "1");
}

/// Connections are spread over the workers by the kernel, so this passes between workers, too.
#[tokio::test]
async fn first_come_is_first_served_whichever_worker_has_it() {
    for keys in ["requests_max = 1\nendpoint_requests_max = 0", "endpoint_requests_max = 1"] {
        let allowed = Arc::new(Semaphore::new(0));
        let origin = Origin::held(&allowed).await;
        let config = upstream(&[origin.address()], keys) + ROUTE;
        let edge = Edge::start(format!("[server]\nworkers = 2\n{config}")).await;
        let (_client, first) = ask(&edge, "/first").await;
        origin.has(1).await;
        let paths: Vec<String> = (0..12).map(|number| format!("/{number}")).collect();
        let asked = line_up(&edge, &paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(origin.take().target, "/first");
        for (number, path) in paths.iter().enumerate() {
            allowed.add_permits(1);
            origin.has(1).await;
            assert_eq!(origin.take().target, *path, "{keys}");
            waiting(&edge, paths.len() - number - 1).await;
            assert_eq!(edge.endpoint(origin.address()).await["in_flight"], 1, "one at a time");
        }
        allowed.add_permits(1);
        assert_eq!(answer(first).await.text(), "held");
        for (_client, asked) in asked {
            assert_eq!(answer(asked).await.text(), "held");
        }
        assert_eq!(edge.metric(r#"tollgate_upstream_queued_total{upstream="app"}"#).await, 12.0);
        assert!(edge.metric(r#"tollgate_upstream_queued_seconds_total{upstream="app"}"#).await > 0.0);
        assert!(edge.logged("/11").await["queued_ms"].as_f64().unwrap() > 0.0);
        assert!(edge.logged("/first").await["queued_ms"].is_null());
        edge.in_flight(origin.address(), 0).await;
    }
}

#[tokio::test]
async fn who_waits_for_too_long_and_who_finds_the_line_full_is_refused() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let keys = "requests_max = 1\nqueue = { requests_max = 1, timeout = \"1s\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    let (_client, first) = ask(&edge, "/first").await;
    origin.has(1).await;
    let begun = Instant::now();
    let waits = line_up(&edge, &["/waits"]).await.remove(0);
    assert_refused(&edge.get("/full").await, "upstream-full");
    assert_refused(&answer(waits.1).await, "queue-timeout");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(edge.logged("/waits").await["queued_ms"].as_f64().unwrap() >= 1000.0);
    assert_eq!(edge.logged("/waits").await["attempts"], 0);
    for reason in ["upstream-full", "queue-timeout"] {
        let name = format!(r#"tollgate_upstream_queue_refused_total{{reason="{reason}",upstream="app"}}"#);
        assert_eq!(edge.metric(&name).await, 1.0);
    }
    assert!(String::from_utf8(edge.cli(&["upstreams"]).await.stdout).unwrap().contains("WAITING"));
    allowed.add_permits(2);
    assert_eq!(answer(first).await.text(), "held");
    assert_eq!(edge.get("/").await.text(), "held");
    assert_eq!(origin.count(), 2, "nothing was sent for those that were refused");
}

#[tokio::test]
async fn without_a_queue_what_is_too_much_is_refused_at_once() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let keys = "endpoint_requests_max = 1\nqueue = false\nbreaker = { failures = 1 }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    let (_client, first) = ask(&edge, "/").await;
    origin.has(1).await;
    for _ in 0..3 {
        assert_refused(&edge.get("/full").await, "upstream-full");
    }
    allowed.add_permits(2);
    assert_eq!(answer(first).await.text(), "held");
    // It was no failure of the upstream: neither the breaker nor the endpoint's health has counted it.
    assert_eq!(edge.get("/").await.text(), "held");
    assert_eq!(edge.endpoint(origin.address()).await["failures"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_gives_up_its_place() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let edge = Edge::start(upstream(&[origin.address()], "requests_max = 1") + ROUTE).await;
    let (_client, first) = ask(&edge, "/first").await;
    origin.has(1).await;
    let mut asked = line_up(&edge, &["/leaves", "/stays"]).await;
    let stays = asked.pop().unwrap();
    asked.pop().unwrap().0.leave();
    waiting(&edge, 1).await;
    allowed.add_permits(2);
    assert_eq!(answer(first).await.text(), "held");
    assert_eq!(answer(stays.1).await.text(), "held");
    let line = edge.logged("/leaves").await;
    assert_eq!(line["reason"], "client-gone");
    assert!(line["queued_ms"].as_f64().unwrap() > 0.0, "{line}");
    assert_eq!(origin.count(), 2);
    // One in flight that leaves makes room as well.
    let (client, _asked) = ask(&edge, "/first").await;
    origin.has(3).await;
    let next = line_up(&edge, &["/next"]).await.remove(0);
    client.leave();
    origin.has(4).await;
    allowed.add_permits(2);
    assert_eq!(answer(next.1).await.text(), "held");
}

#[tokio::test]
async fn an_endpoint_that_is_full_is_passed_over() {
    let allowed = Arc::new(Semaphore::new(0));
    let (full, other) = (Origin::held(&allowed).await, Origin::replies(ok("other")).await);
    let keys = "endpoint_requests_max = 1\nbalance = \"hash\"\nhash_by = \"header:x-key\"";
    let edge = Edge::start(upstream(&[full.address(), other.address()], keys) + ROUTE).await;
    // A key of the first one.
    let mut key = 0;
    let held = until("a request at the first", async || {
        key += 1;
        let mut client = Client::connect(&edge, Via::H1).await;
        let head = request("GET", "/").header("x-key", key.to_string());
        let response = client.send(head.body(Body::whole("")).unwrap()).await;
        let asked = tokio::spawn(async move { Answer::read(response.await.ok()?).await.ok() });
        until("its place", async || (asked.is_finished() || full.count() == 1).then_some(())).await;
        (full.count() == 1).then_some((client, asked))
    })
    .await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let again = client.ask(request("GET", "/").header("x-key", key.to_string()), "").await;
    assert_eq!(again.text(), "other");
    allowed.add_permits(1);
    assert_eq!(answer(held.1).await.text(), "held");
}

#[tokio::test]
async fn a_reload_that_raises_the_cap_lets_those_in_who_wait() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let config = |max: usize| {
        let keys = format!("requests_max = {max}\nqueue = {{ timeout = \"1h\" }}");
        Edge::standard(upstream(&[origin.address()], &keys) + ROUTE)
    };
    let edge = Edge::verbatim(&config(1)).await;
    let (_client, first) = ask(&edge, "/first").await;
    origin.has(1).await;
    let asked = line_up(&edge, &["/a", "/b", "/c"]).await;
    edge.write_config(&config(3));
    edge.reload().await;
    origin.has(3).await;
    waiting(&edge, 1).await;
    edge.write_config(&config(0));
    edge.reload().await;
    origin.has(4).await;
    allowed.add_permits(4);
    assert_eq!(answer(first).await.text(), "held");
    for (_client, asked) in asked {
        assert_eq!(answer(asked).await.text(), "held");
    }
    edge.in_flight(origin.address(), 0).await;
}

/// Their generation knows the endpoint that is full alone. Who comes with the next one need not wait for it.
#[tokio::test]
async fn who_waits_since_before_a_reload_holds_up_nobody_who_may_go_elsewhere() {
    let allowed = Arc::new(Semaphore::new(0));
    let (full, other) = (Origin::held(&allowed).await, Origin::replies(ok("other")).await);
    let config = |addresses: &[SocketAddr]| {
        let keys = "endpoint_requests_max = 1\nqueue = { timeout = \"1h\" }";
        Edge::standard(upstream(addresses, keys) + ROUTE)
    };
    let edge = Edge::verbatim(&config(&[full.address()])).await;
    let (_client, held) = ask(&edge, "/held").await;
    full.has(1).await;
    let asked = line_up(&edge, &["/a", "/b"]).await;
    edge.write_config(&config(&[full.address(), other.address()]));
    edge.reload().await;
    assert_eq!(edge.get("/").await.text(), "other");
    waiting(&edge, 2).await;
    allowed.add_permits(3);
    assert_eq!(answer(held).await.text(), "held");
    for (_client, asked) in asked {
        assert_eq!(answer(asked).await.text(), "held");
    }
}

/// That its time out is over is an event for nobody.
#[tokio::test]
async fn who_waits_gets_an_endpoint_that_comes_back_by_the_clock() {
    let allowed = Arc::new(Semaphore::new(0));
    let slow = Origin::holds(&allowed, |request| request.target == "/held", |_| ok("slow")).await;
    let has_failed = Arc::new(AtomicBool::new(false));
    let failed = Arc::clone(&has_failed);
    let back = Origin::serves(move |mut connection| {
        let has_failed = Arc::clone(&failed);
        async move {
            while connection.request().await.is_some() {
                if !has_failed.swap(true, Ordering::Relaxed) || !connection.reply(&ok("back"), false).await {
                    return;
                }
            }
        }
    })
    .await;
    let keys = "endpoint_requests_max = 1\nqueue = { timeout = \"1h\" }\nretry = { attempts = 1 }\nfails_max = 1\n\
                fail_timeout = \"3s\"";
    let edge = Edge::start(upstream(&[slow.address(), back.address()], keys) + ROUTE).await;
    until("a failure", async || (edge.get("/").await.status == 502).then_some(())).await;
    let (_client, held) = ask(&edge, "/held").await;
    edge.in_flight(slow.address(), 1).await;
    let waits = ask(&edge, "/waits").await;
    assert_eq!(answer(waits.1).await.text(), "back");
    allowed.add_permits(1);
    assert!(["slow", "back"].contains(&answer(held).await.text()));
}

/// What the breaker said when they came does not hold for as long as they wait.
#[tokio::test]
async fn who_waits_asks_the_breaker_in_its_turn() {
    let allowed = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&allowed);
    let origin = Origin::answers(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            ok("").status(500)
        }
    })
    .await;
    let keys = "requests_max = 1\nqueue = { timeout = \"1h\" }\nbreaker = { failures = 1, open = \"1h\" }";
    // With one worker, what has failed is known before the next is let in.
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    let (_client, first) = ask(&edge, "/first").await;
    origin.has(1).await;
    let asked = line_up(&edge, &["/a", "/b", "/c"]).await;
    allowed.add_permits(1);
    assert_eq!(answer(first).await.status, 500);
    for (_client, asked) in asked {
        let answer = answer(asked).await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (503, "breaker-open"));
    }
    waiting(&edge, 0).await;
    assert_eq!(origin.count(), 1, "nothing was sent once it was open");
}

/// Who tries an upstream is the first that gets there, and not the first that came.
#[tokio::test]
async fn who_waits_does_not_hold_the_trial_of_a_half_open_breaker() {
    let allowed = Arc::new(Semaphore::new(0));
    let by_path = |request: Request| ok("").status(if request.target == "/fails" { 500 } else { 200 });
    let origin = Origin::holds(&allowed, |request| request.target == "/held", by_path).await;
    let config = |max: usize| {
        let breaker = "breaker = { failures = 1, share = \"1%\", open = \"100ms\" }";
        let keys = format!("requests_max = {max}\nqueue = {{ timeout = \"1h\" }}\n{breaker}");
        Edge::standard("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], &keys) + ROUTE)
    };
    let edge = Edge::verbatim(&config(2)).await;
    let (_client, held) = ask(&edge, "/held").await;
    origin.has(1).await;
    assert_eq!(edge.get("/fails").await.status, 500);
    edge.write_config(&config(1));
    edge.reload().await;
    let first = until("the pause to be over", async || {
        let (client, asked) = ask(&edge, "/first").await;
        let queue = async || edge.status().await["upstreams"][0]["queue"]["waiting"] == 1;
        until("a place in the line, or a refusal", async || (asked.is_finished() || queue().await).then_some(())).await;
        (!asked.is_finished()).then_some((client, asked))
    })
    .await;
    let second = ask(&edge, "/second").await;
    waiting(&edge, 2).await;
    allowed.add_permits(1);
    assert_eq!(answer(held).await.status, 200);
    assert_eq!(answer(first.1).await.status, 200);
    assert_eq!(answer(second.1).await.status, 200);
}

/// The endpoint works on it all the same, and the cache wants it.
#[tokio::test]
async fn a_fetch_for_the_cache_keeps_its_place_when_its_client_leaves() {
    let allowed = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&allowed);
    let origin = Origin::answers(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            ok("kept").field("cache-control", "max-age=60")
        }
    })
    .await;
    let keys = "requests_max = 1\nqueue = { timeout = \"1h\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE + "cache = {}\n").await;
    let (client, _first) = ask(&edge, "/kept").await;
    origin.has(1).await;
    client.leave();
    assert_eq!(edge.logged("/kept").await["reason"], "client-gone");
    let waits = line_up(&edge, &["/other"]).await.remove(0);
    assert_eq!((origin.count(), edge.endpoint(origin.address()).await["in_flight"].as_u64()), (1, Some(1)));
    allowed.add_permits(2);
    assert_eq!(answer(waits.1).await.text(), "kept");
    let kept = edge.get("/kept").await;
    assert!(kept.field("cache-status").starts_with("tollgate; hit"), "{kept:?}");
    assert_eq!(origin.count(), 2);
}

/// A call may go on for hours and say little; its place is free once it has begun.
#[tokio::test]
async fn a_call_of_grpc_gives_its_place_back_once_begun() {
    let origin = H2Origin::answers(|request| async move {
        let is_call = request.uri().path() == "/call";
        let kind = if is_call { "application/grpc+proto" } else { "text/plain" };
        let (feed, body) = Body::fed();
        if is_call {
            tokio::spawn(async move { feed.closed().await });
        }
        http::Response::builder().header("content-type", kind).body(body).unwrap()
    })
    .await;
    let keys = "protocol = \"h2\"\nrequests_max = 1\nendpoint_requests_max = 1\nqueue = false";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H2).await;
    let call = client.send(request("POST", "/call").body(Body::whole("")).unwrap()).await;
    let call = within("a head", call).await.unwrap();
    assert_eq!(edge.get("/").await.status, 200, "there is room beside a call");
    edge.in_flight(origin.address(), 1).await;
    drop(call);
}

/// They stay open for hours and are no work; but they are still connections of their endpoint.
#[tokio::test]
async fn a_tunnel_and_a_stream_of_events_give_their_place_back_once_begun() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let (head, stays) = match request.target.as_str() {
                "/tunnel" => ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", true),
                "/events" => {
                    ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", true)
                }
                _ => ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            };
            connection.wire.send(head).await.unwrap();
            if stays {
                let _gone = connection.wire.rest().await;
                return;
            }
        }
    })
    .await;
    let keys = "requests_max = 1\nendpoint_requests_max = 1\nqueue = false";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    let mut held = Vec::new();
    for (open, asked) in [
        (1, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n"),
        (2, "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ] {
        let mut client = edge.raw().await;
        client.send(asked).await.unwrap();
        within("a head", client.response_head()).await.unwrap();
        held.push(client);
        assert_eq!(edge.get("/").await.status, 200, "there is room beside {asked}");
        edge.in_flight(origin.address(), open).await;
    }
    drop(held);
    edge.in_flight(origin.address(), 0).await;
    assert_eq!(edge.get("/").await.status, 200);
}

#[tokio::test]
async fn who_waits_hears_of_endpoints_that_go_and_come() {
    let allowed = Arc::new(Semaphore::new(0));
    let (slow, quick) = (Origin::held(&allowed).await, Origin::replies(ok("quick")).await);
    let keys = "endpoint_requests_max = 1\nqueue = { timeout = \"1h\" }";
    let edge = Edge::start(upstream(&[slow.address(), quick.address()], keys) + ROUTE).await;
    let drain = async |action: &str, origin: &Origin| {
        let address = origin.address().to_string();
        assert!(edge.cli(&["upstreams", action, "app", &address]).await.status.success());
    };
    drain("drain", &quick).await;
    let (_client, first) = ask(&edge, "/first").await;
    slow.has(1).await;
    let waits = line_up(&edge, &["/waits"]).await.remove(0);
    // One that comes back has room.
    drain("undrain", &quick).await;
    assert_eq!(answer(waits.1).await.text(), "quick");
    drain("drain", &quick).await;
    let waits = line_up(&edge, &["/waits"]).await.remove(0);
    // When there is none left there is nothing to wait for.
    drain("drain", &slow).await;
    assert_eq!(answer(waits.1).await.field("x-tollgate-reason"), "no-endpoint");
    allowed.add_permits(1);
    assert_eq!(answer(first).await.text(), "held");
}

/// What is stale is better than a refusal, and so is the route's own page.
#[tokio::test]
async fn stale_content_and_the_fallback_stand_in() {
    let allowed = Arc::new(Semaphore::new(1));
    let kept = ok("kept").field("cache-control", "max-age=60, stale-if-error=600").field("age", "60");
    let origin = Origin::answers_once(&allowed, move |_| kept.clone()).await;
    let keys = "requests_max = 1\nqueue = false";
    let edge =
        Edge::start(upstream(&[origin.address()], keys) + ROUTE + "cache = {}\nfallback = { text = \"later\" }\n")
            .await;
    assert_eq!(edge.get("/kept").await.text(), "kept");
    let (_client, held) = ask(&edge, "/held").await;
    origin.has(2).await;
    assert_eq!(edge.get("/kept").await.text(), "kept");
    let answered = edge.get("/other").await;
    assert_eq!((answered.status, answered.text()), (503, "later"));
    assert_eq!(origin.count(), 2);
    allowed.add_permits(1);
    assert_eq!(answer(held).await.text(), "kept");
}
