//! The breaker of an upstream (P20): it opens after failures, refuses at once, and one request at a time tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::harness::*;

/// An origin that fails as long as it is told to.
async fn failing(fails: &Arc<AtomicBool>) -> Origin {
    let fails = Arc::clone(fails);
    Origin::answers(move |_| {
        let status = if fails.load(Ordering::Relaxed) { 500 } else { 200 };
        async move { ok("").status(status) }
    })
    .await
}

/// The answer's status and reason.
async fn outcome(edge: &Edge, path: &str) -> (u16, String) {
    let answer = edge.get(path).await;
    let reason = answer.fields.get("x-tollgate-reason").map(|reason| reason.to_str().unwrap().to_owned());
    (answer.status, reason.unwrap_or_default())
}

fn refused() -> (u16, String) {
    (503, "breaker-open".to_owned())
}

async fn breaker_is(edge: &Edge, state: &str) {
    let what = format!("a breaker that is {state}");
    until(&what, async || (edge.status().await["upstreams"][0]["breaker"]["state"] == state).then_some(())).await;
}

#[tokio::test]
async fn it_opens_refuses_at_once_and_closes_after_an_answer() {
    let fails = Arc::new(AtomicBool::new(true));
    let origin = failing(&fails).await;
    let keys = "breaker = { failures = 3, window = \"10s\", open = \"1s\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..3 {
        breaker_is(&edge, "closed").await;
        assert_eq!(edge.get("/").await.status, 500);
    }
    let asked = (origin.count(), origin.connections());
    assert_eq!(edge.metric(r#"tollgate_breaker_state{state="open",upstream="app"}"#).await, 1.0);
    let answer = edge.get("/refused").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (503, "breaker-open"));
    assert_eq!(answer.field("retry-after"), "1");
    assert_eq!(edge.logged("/refused").await["reason"], "breaker-open");
    assert_eq!((origin.count(), origin.connections()), asked, "nothing is tried while it is open");
    let shown = edge.cli(&["upstreams"]).await;
    assert!(String::from_utf8(shown.stdout).unwrap().contains("BREAKER"));
    fails.store(false, Ordering::Relaxed);
    until("an answer after the pause", async || (edge.get("/").await.status == 200).then_some(())).await;
    breaker_is(&edge, "closed").await;
    assert_eq!(origin.count(), 4);
    assert_eq!(edge.metric(r#"tollgate_breaker_opened_total{upstream="app"}"#).await, 1.0);
    assert!(edge.metric(r#"tollgate_breaker_refused_total{upstream="app"}"#).await >= 1.0);
    for text in ["the breaker of app is open", "is half open", "is closed again"] {
        assert!(edge.stderr().contains(text), "{text}");
    }
}

#[tokio::test]
async fn half_open_a_single_request_is_let_through() {
    let (allowed, fails) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(true)));
    let (gate, failing) = (Arc::clone(&allowed), Arc::clone(&fails));
    let origin = Origin::answers(move |request| {
        let (gate, fails) = (Arc::clone(&gate), failing.load(Ordering::Relaxed));
        async move {
            if request.target == "/trial" {
                gate.acquire().await.unwrap().forget();
            }
            ok("").status(if fails { 500 } else { 200 })
        }
    })
    .await;
    let keys = "breaker = { failures = 2, window = \"10s\", open = \"100ms\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.status, 500);
    }
    // A trial whose client leaves is none; the next one that fails opens the breaker again.
    for leaves in [true, false] {
        let before = origin.count();
        let mut client = Client::connect(&edge, Via::H1).await;
        let trial = until("the trial", async || {
            let sent = client.send(request("GET", "/trial").body(Body::whole("")).unwrap()).await;
            let answer = tokio::spawn(sent);
            until("an answer or the request", async || (answer.is_finished() || origin.count() > before).then_some(()))
                .await;
            (origin.count() > before).then_some(answer)
        })
        .await;
        for n in 0..20 {
            assert_eq!(outcome(&edge, &format!("/{n}")).await, refused());
        }
        breaker_is(&edge, "half-open").await;
        assert_eq!(origin.count(), before + 1, "one request at a time");
        if leaves {
            client.leave();
            edge.in_flight(origin.address(), 0).await;
        } else {
            allowed.add_permits(2);
            assert_eq!(within("an answer", trial).await.unwrap().unwrap().status(), 500);
            breaker_is(&edge, "open").await;
        }
    }
    fails.store(false, Ordering::Relaxed);
    until("an answer after the pause", async || (edge.get("/").await.status == 200).then_some(())).await;
    breaker_is(&edge, "closed").await;
}

/// What the cache has is better than a refusal, where the route allows it.
#[tokio::test]
async fn what_is_stale_stands_in_while_it_is_open() {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let origin = Origin::answers(move |_| {
        let fails = told.load(Ordering::Relaxed);
        async move {
            if fails {
                ok("").status(500)
            } else {
                ok("kept").field("cache-control", "max-age=60, stale-if-error=600").field("age", "60")
            }
        }
    })
    .await;
    let keys = "breaker = { failures = 1, window = \"10s\", open = \"1h\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE + "cache = {}\n").await;
    assert_eq!(edge.get("/kept").await.text(), "kept");
    fails.store(true, Ordering::Relaxed);
    assert_eq!(edge.get("/other").await.status, 500);
    let asked = origin.count();
    let answer = edge.get("/kept").await;
    assert_eq!((answer.status, answer.text()), (200, "kept"));
    assert_eq!(outcome(&edge, "/other").await, refused());
    assert_eq!(origin.count(), asked);
}

#[tokio::test]
async fn a_reload_keeps_its_state_until_its_keys_change() {
    let fails = Arc::new(AtomicBool::new(true));
    let origin = failing(&fails).await;
    let config = |keys: &str| Edge::standard(upstream(&[origin.address()], keys) + ROUTE);
    let edge = Edge::verbatim(&config("breaker = { failures = 1, open = \"1h\" }")).await;
    assert_eq!(edge.get("/").await.status, 500);
    edge.write_config(&config("breaker = { failures = 1, open = \"1h\" }\nfails_max = 7"));
    edge.reload().await;
    assert_eq!(outcome(&edge, "/").await, refused());
    edge.write_config(&config("breaker = { failures = 2, open = \"1h\" }"));
    edge.reload().await;
    assert_eq!(edge.get("/").await.status, 500);
}

/// A trial that goes on for ever, for its client never ends what it sends, does not keep the others out for as long.
#[tokio::test]
async fn a_trial_that_does_not_end_is_not_the_last() {
    let fails = Arc::new(AtomicBool::new(true));
    let origin = failing(&fails).await;
    let keys = "breaker = { failures = 2, window = \"10s\", open = \"300ms\" }";
    let client = "[client]\nbody_timeout = \"10min\"\n".to_owned();
    let edge = Edge::start(client + &upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.status, 500);
    }
    fails.store(false, Ordering::Relaxed);
    let dribbling = until("the trial", async || {
        let mut client = edge.raw().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await.unwrap();
        // Who is refused hears so at once.
        let refused = tokio::time::timeout(Duration::from_millis(100), client.response("POST")).await;
        refused.is_err().then_some(client)
    })
    .await;
    breaker_is(&edge, "half-open").await;
    until("another trial", async || (edge.get("/").await.status == 200).then_some(())).await;
    breaker_is(&edge, "closed").await;
    drop(dribbling);
}
