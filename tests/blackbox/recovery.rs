//! What the edge does by itself when memory, an upstream or connections are short: it can be switched off, and it shows.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::*;

/// What `/status` says of one action.
async fn recovery(edge: &Edge, action: &str) -> Value {
    let status = edge.status().await;
    let found = status["recovery"].as_array().unwrap().iter().find(|one| one["action"] == action);
    found.unwrap_or_else(|| panic!("no {action} in {status}")).clone()
}

/// Waits until an action has begun so often and goes on, and looks whether the metrics and `tollgate status` say so too.
async fn acts(edge: &Edge, action: &str, times: u64) {
    until("the action", async || {
        let found = recovery(edge, action).await;
        (found["active"] == true && found["times"].as_u64() >= Some(times)).then_some(())
    })
    .await;
    assert_eq!(edge.metric(&format!("tollgate_recovery_active{{action=\"{action}\"}}")).await, 1.0);
    assert!(edge.metric(&format!("tollgate_recovery_total{{action=\"{action}\"}}")).await >= times as f64);
    let shown = String::from_utf8(edge.cli(&["status"]).await.stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with(&action.replace('_', " "))).unwrap();
    assert!(line.contains("acts"), "{line}");
}

async fn rests(edge: &Edge, action: &str, enabled: bool) {
    until("the end of the action", async || (recovery(edge, action).await["active"] == false).then_some(())).await;
    assert_eq!(recovery(edge, action).await["enabled"], enabled);
    assert_eq!(edge.metric(&format!("tollgate_recovery_active{{action=\"{action}\"}}")).await, 0.0);
}

async fn closed(edge: &Edge, side: &str) -> f64 {
    edge.metric(&format!("tollgate_idle_connections_closed_total{{side=\"{side}\"}}")).await
}

/// Sends a request on a connection of its own.
async fn ask(edge: &Edge) -> (Client, JoinHandle<Answer>) {
    let mut client = Client::connect(edge, Via::H1).await;
    let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    (client, tokio::spawn(async move { Answer::read(response.await.unwrap()).await.unwrap() }))
}

async fn ask_all(edge: &Edge, origin: &Origin, count: usize) -> Vec<(Client, JoinHandle<Answer>)> {
    let mut asked = Vec::new();
    for _ in 0..count {
        asked.push(ask(edge).await);
    }
    origin.has(count).await;
    asked
}

#[tokio::test]
async fn short_of_memory_the_cache_gives_back_until_that_is_switched_off() {
    let origin = Origin::replies(ok(vec![b'x'; 256 * 1024]).field("cache-control", "max-age=600")).await;
    let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = true\n";
    let config = |memory: String| {
        Edge::standard(format!("[server]\nmemory = {memory}\n") + &upstream(&[origin.address()], "") + route)
    };
    let edge = Edge::verbatim(&config("false".to_owned())).await;
    for number in 0..64 {
        assert_eq!(edge.get(&format!("/{number}")).await.status, 200);
    }
    rests(&edge, "cache_memory", false).await;
    let whole = edge.status().await["cache"]["stored_bytes_max"].clone();
    let soft = edge.rss_kib() - 4096;
    edge.write_config(&config(format!("{{ soft = \"{soft}KiB\", hard = \"1TiB\" }}")));
    edge.reload().await;
    until("fewer entries", async || (edge.status().await["cache"]["entries"].as_u64() < Some(64)).then_some(())).await;
    let has_acted = async || (recovery(&edge, "cache_memory").await["times"].as_u64() >= Some(1)).then_some(());
    until("the action", has_acted).await;
    assert!(edge.metric("tollgate_recovery_total{action=\"cache_memory\"}").await >= 1.0);
    assert!(edge.stderr().contains("the cache gives memory back"), "{}", edge.stderr());
    // One byte is always too little.
    edge.write_config(&config("{ soft = \"1B\", hard = \"1TiB\" }".to_owned()));
    edge.reload().await;
    acts(&edge, "cache_memory", 1).await;
    edge.write_config(&config("false".to_owned()));
    edge.reload().await;
    rests(&edge, "cache_memory", false).await;
    until("all of it", async || (edge.status().await["cache"]["stored_bytes_max"] == whole).then_some(())).await;
}

#[tokio::test]
async fn the_rate_of_errors_opens_the_breaker_where_there_is_one() {
    let origin = Origin::replies(ok("").status(500)).await;
    let config = |keys: &str| Edge::standard(upstream(&[origin.address()], keys) + ROUTE);
    let edge = Edge::verbatim(&config("")).await;
    for _ in 0..3 {
        assert_eq!(edge.get("/").await.status, 500);
    }
    rests(&edge, "breaker", false).await;
    edge.write_config(&config("breaker = { failures = 2 }"));
    edge.reload().await;
    for status in [500, 500, 503] {
        assert_eq!(edge.get("/").await.status, status);
    }
    acts(&edge, "breaker", 1).await;
    // P20: a minute until it is half open.
    assert!(edge.stderr().contains("the breaker of app is open for 60s: 2 failures"), "{}", edge.stderr());
    // Another breaker in its place begins at nothing, and the count, which is one, goes on.
    edge.write_config(&config("breaker = { failures = 5 }"));
    edge.reload().await;
    rests(&edge, "breaker", true).await;
    assert_eq!(edge.metric("tollgate_recovery_total{action=\"breaker\"}").await, 1.0);
}

#[tokio::test]
async fn connections_to_an_endpoint_that_idle_are_closed_once_it_is_nearly_full() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let keys = "endpoint_requests_max = 8\nkeepalive = { idle = \"1h\" }";
    let config = |close_at: &str| {
        let server = format!("[server]\nworkers = 1\nidle_close_at = {close_at}\n");
        Edge::standard(server + &upstream(&[origin.address()], keys) + ROUTE)
    };
    let edge = Edge::verbatim(&config("false")).await;
    let asked = ask_all(&edge, &origin, 6).await;
    allowed.add_permits(2);
    edge.in_flight(origin.address(), 4).await;
    rests(&edge, "idle_connections", false).await;
    assert_eq!(closed(&edge, "endpoint").await, 0.0);
    edge.write_config(&config("\"50%\""));
    edge.reload().await;
    until("two that are closed", async || (closed(&edge, "endpoint").await == 2.0).then_some(())).await;
    acts(&edge, "idle_connections", 1).await;
    let text =
        format!("endpoint {} of app has 4 of 8 requests: connections to it that idle are closed", origin.address());
    assert!(edge.stderr().contains(&text), "{}", edge.stderr());
    allowed.add_permits(4);
    for (_client, answer) in asked {
        assert_eq!(within("an answer", answer).await.unwrap().text(), "held");
    }
    rests(&edge, "idle_connections", true).await;
    assert_eq!(closed(&edge, "client").await, 0.0);
}

#[tokio::test]
async fn nearly_as_many_clients_as_there_may_be_leave_nothing_idle() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let server = "[server]\nconnections_max = 4\nidle_close_at = \"75%\"\n[client]\nidle_timeout = \"1h\"\n";
    let keys = "endpoint_requests_max = 0\nkeepalive = { idle = \"1h\" }";
    let edge = Edge::start(server.to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    let asked = ask_all(&edge, &origin, 4).await;
    acts(&edge, "idle_connections", 1).await;
    allowed.add_permits(1);
    // Of the one that is answered; the three that are not are enough to go on.
    until("both sides", async || {
        ((closed(&edge, "client").await, closed(&edge, "endpoint").await) == (1.0, 1.0)).then_some(())
    })
    .await;
    assert!(edge.stderr().contains("4 of 4 connections are open: those that idle are closed"), "{}", edge.stderr());
    allowed.add_permits(3);
    for (_client, answer) in asked {
        assert_eq!(within("an answer", answer).await.unwrap().text(), "held");
    }
    rests(&edge, "idle_connections", true).await;
    assert!(edge.stderr().contains("there is room again"), "{}", edge.stderr());
}
