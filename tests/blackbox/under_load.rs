//! Endpoints that fail while good requests arrive in an open loop: not one of those fails, as long as there is anything
//! that could answer it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::*;
use crate::limits::Blackhole;

pub const PAGE: &str = "the page that every good request is answered with, to its last byte\n";

/// What the backend app says at `/bytes/1000`.
async fn thousand_bytes(edge: &Edge) -> bytes::Bytes {
    let answer = edge.get("/bytes/1000").await;
    assert_eq!((answer.status, answer.body.len()), (200, 1000));
    answer.body
}

fn replicas(health: &str) -> String {
    let run = "run = { command = [\"{self}\", \"backend\", \"--listen\", \"{address}\"], replicas = 3 }";
    format!("[upstream.app]\n{run}\nhealth = {{ interval = \"100ms\", {health} }}\n{ROUTE}")
}

/// Waits until all three are usable; what is known of them.
async fn three(edge: &Edge) -> Vec<Value> {
    until("three replicas", async || {
        let status = edge.status().await;
        let usable = status["upstreams"][0]["usable"] == 3;
        usable.then(|| status["replicas"].as_array().unwrap().clone())
    })
    .await
}

fn process(replica: &Value) -> Pid {
    Pid::from_raw(replica["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

/// The load itself: what is wrong with an answer does not escape it.
#[tokio::test]
async fn the_load_notices_each_kind_of_failure() {
    let rows: [(&'static str, &str); 5] = [
        ("HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n", ": 503 "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npag", "Cut in place of a response"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrage", "4 bytes that are not those of the body"),
        ("HTTP/1.1 200 OK\nContent-Length: 4\r\n\r\npage", "a bare LF"),
        ("", "Cut in place of a response"),
    ];
    for (said, failure) in rows {
        let origin = Origin::serves(move |mut connection| async move {
            connection.request().await;
            let _gone = connection.wire.send(said).await;
        })
        .await;
        let load = Arrivals::start(origin.address(), "/", "page", Connecting::EachTime);
        load.ends(3).await;
        let outcome = load.ended().await;
        assert!(outcome.answered.is_empty(), "{said:?}");
        assert!(outcome.failures.iter().all(|said| said.contains(failure)), "{said:?}: {:?}", outcome.failures);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_fails_no_get() {
    let edge = Edge::start(replicas("timeout = \"2s\"")).await;
    let before = three(&edge).await;
    let body = thousand_bytes(&edge).await;
    let load = Arrivals::start(edge.address(), "/bytes/1000", body, Connecting::Once);
    load.answers(100).await;
    kill_process(process(&before[0]), Signal::KILL).unwrap();
    until("another in its place", async || {
        let now = three(&edge).await;
        (!now.iter().any(|replica| replica["pid"] == before[0]["pid"])).then_some(())
    })
    .await;
    load.answers(100).await;
    load.succeeded().await;
}

/// Requests that wait for a replica that stands still move on when a probe has taken it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stands_still_holds_no_get_longer_than_its_health_check() {
    let edge = Edge::start(replicas("timeout = \"300ms\", unhealthy_after = 2")).await;
    let stopped = process(&three(&edge).await[0]);
    let body = thousand_bytes(&edge).await;
    let load = Arrivals::start(edge.address(), "/bytes/1000", body, Connecting::Once);
    load.answers(100).await;
    kill_process(stopped, Signal::STOP).unwrap();
    let since = Instant::now();
    until("the ejection", async || (edge.status().await["upstreams"][0]["usable"] == 2).then_some(())).await;
    let ejected_after = since.elapsed();
    until("an end of waiting", async || {
        let endpoints = edge.status().await["upstreams"][0]["endpoints"].clone();
        let out = endpoints.as_array().unwrap().iter().find(|endpoint| endpoint["state"] != "usable").cloned();
        (out?["in_flight"] == 0).then_some(())
    })
    .await;
    load.answers(200).await;
    // The read timeout is 30 seconds. What a busy machine adds to the ejection, it adds to both sides.
    let slowest = load.succeeded().await.slowest;
    assert!(slowest < ejected_after + Duration::from_secs(2), "{slowest:?} with an ejection after {ejected_after:?}");
    kill_process(stopped, Signal::CONT).unwrap();
    three(&edge).await;
}

/// Load over two endpoints, one of which is `bad`, until `met` says that it was met.
async fn beside(bad: SocketAddr, keys: &str, met: impl AsyncFn(&Edge) -> bool) {
    let well = Origin::replies(ok(PAGE)).await;
    let edge = Edge::start(upstream(&[well.address(), bad], keys) + ROUTE).await;
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
    until("the fault to be met", async || met(&edge).await.then_some(())).await;
    load.answers(200).await;
    load.succeeded().await;
    edge.in_flight(well.address(), 0).await;
    edge.in_flight(bad, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_into_a_black_hole_fail_no_get() {
    let hole = Blackhole::open().await;
    beside(hole.address, "timeout = { connect = \"200ms\" }", async |edge| {
        edge.endpoint(hole.address).await["state"] == "ejected"
    })
    .await;
}

/// G: garbage and truncated heads, and connections that end without a word. It comes back again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_answers_garbage_fails_no_get() {
    const FAULTS: [&str; 6] = [
        "",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Len",
        "HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "\0\0\0\0\0\0\0\0",
    ];
    let met = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&met);
    let bad = Origin::serves(move |mut connection| {
        let count = Arc::clone(&count);
        async move {
            if connection.request().await.is_some() {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let _gone = connection.wire.send(FAULTS[number % FAULTS.len()]).await;
            }
        }
    })
    .await;
    let keys = "fail_timeout = \"100ms\"\nfail_timeout_max = \"100ms\"";
    beside(bad.address(), keys, async |_| met.load(Ordering::Relaxed) >= 3 * FAULTS.len()).await;
}

/// G: a body that ends early ends early for its client, who sees that it did, and for nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_bodies_are_seen_by_those_who_asked_for_them_alone() {
    const CLIENTS: usize = 8;
    const EACH: usize = 25;
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            if request.target.starts_with("/cut") {
                let _gone = connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf a bo").await;
                return;
            }
            connection.reply(&ok(PAGE), false).await;
        }
    })
    .await;
    // Whoever asks for `/cut` brings the endpoint in no bad repute: it is the only one.
    let edge = Edge::before(&origin).await;
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let address = edge.address();
        clients.spawn(async move {
            for _ in 0..EACH {
                let mut client = Wire::new(tokio::net::TcpStream::connect(address).await.unwrap());
                client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                // Where nothing of the answer was passed on yet, an error page is as good.
                let whole = within("an end", client.response("GET")).await;
                assert!(whole.is_err() || whole.as_ref().unwrap().status == 502, "{whole:?}");
            }
        });
    }
    within("an end of each", clients.join_all()).await;
    load.answers(100).await;
    load.succeeded().await;
    edge.in_flight(origin.address(), 0).await;
}

async fn page_at(address: SocketAddr) -> Origin {
    Origin::serves_at(address, |mut connection| async move {
        while connection.request().await.is_some() {
            if !connection
                .reply(&ok(PAGE).field("cache-control", "max-age=60, stale-if-error=600").field("age", "60"), false)
                .await
            {
                return;
            }
        }
    })
    .await
}

/// While there is nobody, each is told so; nobody hangs, and nobody is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn all_down_and_back_refuses_with_a_reason_and_then_fails_no_get() {
    check_all_down("", |failures| {
        assert!(!failures.is_empty());
        let told = |failure: &String| failure.contains(": 502 connect-refused") || failure.contains(": 502 upstream-");
        assert!(failures.iter().all(told), "{failures:?}");
    })
    .await;
}

/// Where the route has something to show for it, nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn all_down_and_back_fails_no_get_where_what_is_stale_may_stand_in() {
    let keys = "cache = { key = { query_ignore = [\"arrival\"] } }\n";
    check_all_down(keys, |failures| assert!(failures.is_empty(), "{failures:?}")).await;
}

async fn check_all_down(route_keys: &str, meanwhile: impl Fn(&[String])) {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let mut origins = [page_at(anywhere).await, page_at(anywhere).await];
    let addresses = origins.each_ref().map(Origin::address);
    let keys = "health = { interval = \"100ms\", timeout = \"2s\" }\nfail_timeout = \"100ms\"";
    let edge = Edge::start(upstream(&addresses, keys) + ROUTE + route_keys).await;
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
    load.answers(50).await;
    for origin in &mut origins {
        origin.kill().await;
    }
    until("the status to say so", async || (edge.status().await["status"] == "unhealthy").then_some(())).await;
    load.ends(50).await;
    let back = [page_at(addresses[0]).await, page_at(addresses[1]).await];
    for address in addresses {
        edge.endpoint_is(address, "usable").await;
    }
    meanwhile(&load.ended().await.failures);
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
    load.answers(100).await;
    load.succeeded().await;
    drop(back);
}

/// Its health goes up and down with every probe; none of its answers to requests is bad.
#[tokio::test(flavor = "multi_thread")]
async fn health_that_flaps_ten_times_a_second_fails_no_get() {
    let steady = Origin::replies(ok(PAGE)).await;
    let flips = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&flips);
    let flapping = Origin::answers(move |request| {
        let is_bad = request.target == "/health" && counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        async move { ok(PAGE).status(if is_bad { 503 } else { 200 }) }
    })
    .await;
    let keys = "health = { interval = \"100ms\", healthy_after = 1, unhealthy_after = 1 }";
    let edge = Edge::start(upstream(&[steady.address(), flapping.address()], keys) + ROUTE).await;
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
    until("twenty turns", async || (flips.load(Ordering::Relaxed) >= 20).then_some(())).await;
    load.answers(200).await;
    load.succeeded().await;
    assert!(edge.stderr().matches("is healthy again").count() >= 5, "{}", edge.stderr());
    edge.in_flight(flapping.address(), 0).await;
}
