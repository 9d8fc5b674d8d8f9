//! What is refused because there is too much of it: at once, with a reason, and only until there is room.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::*;

/// Sends a request; its answer comes later.
async fn ask(edge: &Edge, head: http::request::Builder) -> (Client, JoinHandle<Answer>) {
    let mut client = Client::connect(edge, Via::H1).await;
    let response = client.send(head.body(Body::whole("")).unwrap()).await;
    (client, tokio::spawn(async move { Answer::read(response.await.unwrap()).await.unwrap() }))
}

#[track_caller]
fn assert_refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (503, reason));
    assert_eq!(answer.field("retry-after"), "1");
}

#[tokio::test]
async fn requests_beyond_the_limit_of_the_proxy_are_refused_until_there_is_room() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let config = upstream(&[origin.address()], "") + ROUTE;
    let edge = Edge::start(format!("[server]\nrequests_max = 1\n{config}")).await;
    let (_client, first) = ask(&edge, request("GET", "/")).await;
    origin.has(1).await;
    for via in [Via::H1, Via::TlsH2] {
        let answer = Client::connect(&edge, via).await.get("/").await;
        assert_refused(&answer, "proxy-full");
    }
    allowed.add_permits(2);
    assert_eq!(within("the first", first).await.unwrap().text(), "held");
    // The first one's client has its answer before its place is free.
    until("room", async || (edge.get("/").await.text() == "held").then_some(())).await;
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_full_route_leaves_the_others_alone_and_stays_full_over_a_reload() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    // The page is for when the upstream brings nothing, and it has not been asked.
    let page = "fallback = { text = \"soon\", status = 200 }";
    let slow = format!("[[route]]\npath = \"/slow\"\nupstream = \"app\"\nrequests_max = 1\n{page}\n");
    let route = &(slow + "[[route]]\npath = \"/\"\ntext = \"here\"\n");
    let config = Edge::standard(upstream(&[origin.address()], "") + route);
    let edge = Edge::verbatim(&config).await;
    let (client, _first) = ask(&edge, request("GET", "/slow")).await;
    origin.has(1).await;
    assert_refused(&edge.get("/slow").await, "route-full");
    assert_eq!(edge.get("/").await.text(), "here");
    edge.write_config(&config.replace("here", "there"));
    edge.reload().await;
    assert_refused(&edge.get("/slow").await, "route-full");
    assert_eq!(edge.get("/").await.text(), "there");
    // A client that leaves makes room.
    client.leave();
    allowed.add_permits(2);
    until("room", async || (edge.get("/slow").await.status == 200).then_some(())).await;
}

/// Neither of another host nor of another kind of path, though the paths read the same.
#[tokio::test]
async fn a_full_route_leaves_the_same_path_elsewhere_alone() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let route = |keys: &str| {
        format!("[[route]]\nhosts = [{keys}\nrequests_max = 1\nrate_limit = [\"r\"]\nupstream = \"app\"\n")
    };
    let routes = ["\"a.test\"]\npath = \"/x\"", "\"b.test\"]\npath = \"/x\"", "\"b.test\"]\npath_exact = \"/x\""];
    let limit = "[rate_limit.r]\nkey = \"route\"\nrequests = 2\nwindow = \"1d\"\n";
    let edge = Edge::start(limit.to_owned() + &upstream(&[origin.address()], "") + &routes.map(route).concat()).await;
    let mut waiting = Vec::new();
    for (host, path) in [("a.test", "/x"), ("b.test", "/x/below"), ("b.test", "/x")] {
        let head = || request("GET", path).header("host", host);
        waiting.push(ask(&edge, head()).await);
        origin.has(waiting.len()).await;
        assert_refused(&Client::connect(&edge, Via::H1).await.ask(head(), "").await, "route-full");
    }
    let metrics = edge.admin("/metrics").await;
    for name in ["a.test/x", "b.test/x", "b.test=/x"] {
        assert!(metrics.text().contains(&format!("route=\"{name}\"")), "{name}");
    }
    allowed.add_permits(3);
    for (_client, answer) in waiting {
        assert_eq!(within("its answer", answer).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn one_client_does_not_take_the_place_of_the_others() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let edge =
        Edge::start(String::from("[client]\nrequests_max = 1\n") + &upstream(&[origin.address()], "") + ROUTE).await;
    let from = |address: &str| request("GET", "/").header("x-forwarded-for", address);
    let (_client, first) = ask(&edge, from("2001:db8::1")).await;
    origin.has(1).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    // C6: a subscriber has the whole network.
    let answer = client.ask(from("2001:db8::2"), "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(edge.log(|entry| entry["reason"] == "client-full").await["client"], "2001:db8::2");
    let (_other, second) = ask(&edge, from("2001:db8:0:1::1")).await;
    origin.has(2).await;
    allowed.add_permits(2);
    assert_eq!(within("the first", first).await.unwrap().status, 200);
    assert_eq!(within("the second", second).await.unwrap().status, 200);
}

/// C5.
#[tokio::test]
async fn connections_of_one_address_are_capped() {
    let origin = Origin::replies(ok("x")).await;
    let config = |trusted: &str| {
        format!("[client]\nconnections_max = 2\ntrusted = [{trusted}]\n") + &upstream(&[origin.address()], "") + ROUTE
    };
    let edge = Edge::start(config("")).await;
    let mut first = Client::connect(&edge, Via::H1).await;
    assert_eq!(first.get("/").await.status, 200);
    let mut second = Client::connect(&edge, Via::TlsH2).await;
    assert_eq!(second.get("/").await.status, 200);
    let mut third = edge.raw().await;
    assert_eq!(within("the close", third.rest()).await, b"");
    assert_eq!(edge.metric("tollgate_connections_refused_total").await, 1.0);
    assert_eq!(first.get("/").await.status, 200);
    first.leave();
    until("a place", async || {
        let mut client = Client::try_connect(&edge, Via::H1).await.ok()?;
        client.send(request("GET", "/").body(Body::whole("")).unwrap()).await.await.ok().map(drop)
    })
    .await;
    // A load balancer stands for many.
    let edge = Edge::start(config("\"127.0.0.0/8\"")).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&edge, Via::H1).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let allowed = Arc::new(Semaphore::new(2));
    let origin = Origin::held(&allowed).await;
    let server = "[server]\nconnections_max = 4\nidle_close_at = \"75%\"\n[client]\nidle_timeout = \"1h\"\n";
    let edge = Edge::start(String::from(server) + &upstream(&[origin.address()], "") + ROUTE).await;
    let mut idle = Client::connect(&edge, Via::H1).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut idle_h2 = Client::connect(&edge, Via::H2).await;
    assert_eq!(idle_h2.get("/").await.status, 200);
    let (_busy, asked) = ask(&edge, request("GET", "/")).await;
    origin.has(3).await;
    idle.closed().await;
    idle_h2.closed().await;
    allowed.add_permits(1);
    assert_eq!(within("the one that was busy", asked).await.unwrap().status, 200);
}

async fn stored(edge: &Edge) -> Value {
    edge.status().await["cache"].clone()
}

/// What is published is what decided.
async fn memory_as_judged(edge: &Edge) -> String {
    let status = edge.status().await;
    let checks = status["checks"].as_array().unwrap();
    let memory = checks.iter().find(|check| check["name"] == "memory").unwrap();
    let (value, limit) = (memory["value"].as_f64(), &memory["limit"]);
    let exceeds = |name: &str| limit[name].is_number() && value >= limit[name].as_f64();
    let by = if exceeds("unhealthy") {
        "unhealthy"
    } else if exceeds("degraded") {
        "degraded"
    } else {
        "healthy"
    };
    assert_eq!(memory["status"], by, "{memory}");
    by.to_owned()
}

#[tokio::test]
async fn over_the_hard_limit_of_memory_new_requests_are_refused() {
    let origin = Origin::replies(ok("x")).await;
    let config = |memory: &str| {
        Edge::standard(format!("[server]\nmemory = {{ {memory} }}\n") + &upstream(&[origin.address()], "") + ROUTE)
    };
    let edge = Edge::verbatim(&config("")).await;
    assert_eq!(edge.get("/").await.status, 200);
    edge.write_config(&config("hard = \"1MiB\""));
    edge.reload().await;
    let refused = until("a refusal", async || Some(edge.get("/").await).filter(|answer| answer.status != 200)).await;
    assert_refused(&refused, "memory-short");
    assert_eq!(edge.metric("tollgate_memory_pressure").await, 2.0);
    assert_eq!(memory_as_judged(&edge).await, "unhealthy");
    assert_eq!(edge.admin("/readyz").await.status, 503);
    // Over the soft limit alone.
    edge.write_config(&config("soft = \"1MiB\""));
    edge.reload().await;
    until("an answer", async || (edge.get("/").await.status == 200).then_some(())).await;
    assert_eq!(memory_as_judged(&edge).await, "degraded");
    assert_eq!(edge.admin("/readyz").await.status, 200);
    edge.write_config(&config(""));
    edge.reload().await;
    until("the next answer", async || (edge.get("/").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn over_the_soft_limit_the_cache_gives_memory_back_and_takes_it_again_later() {
    let origin = Origin::replies(ok(vec![b'x'; 256 * 1024]).field("cache-control", "max-age=600")).await;
    let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = true\n";
    let config = |memory: String| {
        Edge::standard(format!("[server]\nmemory = {{ {memory} }}\n") + &upstream(&[origin.address()], "") + route)
    };
    let edge = Edge::verbatim(&config(String::new())).await;
    for number in 0..64 {
        assert_eq!(edge.get(&format!("/{number}")).await.status, 200);
    }
    let full = stored(&edge).await;
    assert_eq!(full["entries"], 64);
    let soft = edge.rss_kib() - 4096;
    edge.write_config(&config(format!("soft = \"{soft}KiB\", hard = \"1TiB\"")));
    edge.reload().await;
    until("fewer entries", async || (stored(&edge).await["entries"].as_u64() < Some(64)).then_some(())).await;
    assert_eq!(edge.get("/0").await.status, 200);
    edge.write_config(&config(String::new()));
    edge.reload().await;
    let whole = &full["stored_bytes_max"];
    until("all of the memory", async || (stored(&edge).await["stored_bytes_max"] == *whole).then_some(())).await;
}

/// Filled as fast as it can be, between two looks at the memory that is used.
#[tokio::test]
async fn a_cache_that_is_filled_in_a_burst_stays_within_the_limits() {
    const OBJECTS: usize = 64;
    let origin = Origin::replies(ok(vec![b'x'; 1 << 20]).field("cache-control", "max-age=600")).await;
    let cache = "[cache]\nmemory = \"512MiB\"\n";
    let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = true\n";
    let config = |memory: String| {
        let server = format!("[server]\nmemory = {{ {memory} }}\n");
        Edge::standard(server + cache + &upstream(&[origin.address()], "") + route)
    };
    let edge = Edge::verbatim(&config(String::new())).await;
    let whole = stored(&edge).await["stored_bytes_max"].as_u64().unwrap();
    assert_eq!(edge.get("/").await.status, 200);
    let before = edge.rss_kib();
    let (soft, hard) = (before + (24 << 10), before + (48 << 10));
    edge.write_config(&config(format!("soft = \"{soft}KiB\", hard = \"{hard}KiB\"")));
    edge.reload().await;
    until("less than configured", async || {
        (stored(&edge).await["stored_bytes_max"].as_u64().unwrap() < whole).then_some(())
    })
    .await;
    edge.forget_peak();
    let mut clients = Vec::new();
    for first in 0..4 {
        let mut client = Client::connect(&edge, Via::H1).await;
        clients.push(tokio::spawn(async move {
            for number in (first..OBJECTS).step_by(4) {
                assert_eq!(client.get(&format!("/{number}")).await.status, 200);
            }
        }));
    }
    for client in clients {
        within("all of them", client).await.unwrap();
    }
    let peak = edge.peak_kib();
    assert!(peak < hard, "{peak} KiB of {hard}");
    // It is of use all the same.
    until("a hit", async || (edge.get("/").await.field("x-cache") == "HIT").then_some(())).await;
}
