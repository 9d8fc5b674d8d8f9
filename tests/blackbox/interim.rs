//! Interim responses (RFC 9110 §15.2): what an endpoint says before its answer, and who hears it.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::harness::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n";
const FRESH: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nlast";

/// Sends `before`, and the answer once there is a permit.
async fn gated(before: &'static str, answer: &'static str) -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let seen = Arc::clone(&gate);
    let origin = Origin::serves(move |mut connection| {
        let gate = Arc::clone(&seen);
        async move {
            while connection.request().await.is_some() {
                connection.wire.send(before).await.unwrap();
                gate.acquire().await.unwrap().forget();
                connection.wire.send(answer).await.unwrap();
            }
        }
    })
    .await;
    (origin, gate)
}

async fn caching(origin: &Origin) -> Edge {
    Edge::start(upstream(&[origin.address()], "") + ROUTE + "cache = {}\n").await
}

/// Connections with a request in progress.
async fn busy(edge: &Edge) -> u64 {
    edge.status().await["workers"].as_array().unwrap().iter().filter_map(|worker| worker["busy"].as_u64()).sum()
}

async fn hears_as_it_comes<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Wire<S>, gate: &Semaphore) {
    client.send(GET).await.unwrap();
    let early = within("a hint before the answer", client.response("GET")).await.unwrap();
    assert_eq!(early.status, 103);
    let links: Vec<_> = early.fields.all("link").collect();
    assert_eq!(links, ["</a.css>; rel=preload", "</b.js>"]);
    assert_eq!(early.fields.get("via"), "1.1 tollgate");
    gate.add_permits(1);
    let answer = within("an answer", client.response("GET")).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "last".to_owned()));
    assert!(!answer.fields.has("link"));
}

#[tokio::test]
async fn hints_are_heard_before_the_answer_is_there() {
    let (origin, gate) = gated(EARLY, FRESH).await;
    let edge = Edge::before(&origin).await;
    let mut clear = edge.raw().await;
    for _ in 0..2 {
        hears_as_it_comes(&mut clear, &gate).await;
    }
    hears_as_it_comes(&mut Wire::new(tls(&edge, "localhost", &[]).await), &gate).await;
}

#[tokio::test]
async fn hints_are_for_who_began_the_fetch_and_are_not_kept() {
    let (origin, gate) = gated(EARLY, FRESH).await;
    let edge = caching(&origin).await;
    let mut leader = edge.raw().await;
    leader.send(GET).await.unwrap();
    assert_eq!(within("a hint", leader.response("GET")).await.unwrap().status, 103);
    let mut follower = edge.raw().await;
    follower.send(GET).await.unwrap();
    until("the second client to wait", async || (busy(&edge).await == 2).then_some(())).await;
    gate.add_permits(1);
    assert_eq!(within("an answer", leader.response("GET")).await.unwrap().status, 200);
    let others = within("an answer", follower.response("GET")).await.unwrap();
    assert_eq!((others.status, others.text()), (200, "last".to_owned()));
    let hit = edge.get("/").await;
    assert_eq!((hit.text(), hit.field("link"), hit.field("x-cache")), ("last", "", "HIT"), "E12");
    assert_eq!(origin.count(), 1);
}

/// What a client of HTTP/1.0 reads first is its answer.
#[tokio::test]
async fn nobody_else_is_told() {
    let (origin, gate) = gated(EARLY, FRESH).await;
    gate.add_permits(100);
    let edge = Edge::before(&origin).await;
    let mut old = edge.raw().await;
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let said = String::from_utf8(within("an answer", old.rest()).await).unwrap();
    assert!(
        said.starts_with("HTTP/1.0 200 OK\r\n") && said.ends_with("\r\n\r\nlast") && !said.contains("103"),
        "{said}"
    );
    for via in [Via::H2, Via::TlsH2] {
        let answer = Client::connect(&edge, via).await.get("/").await;
        assert_eq!((answer.status, answer.text()), (200, "last"), "{via:?}");
    }
}

#[tokio::test]
async fn what_concerns_one_hop_is_not_passed_on() {
    let early = "HTTP/1.1 102 Busy\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
        Transfer-Encoding: chunked\r\nContent-Length: 7\r\nSet-Cookie: a=1\r\nX-Inside: 2\r\nX-Named: 3\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 Odd\r\nX-Good: 4\r\n\r\n";
    let (origin, gate) = gated(early, FRESH).await;
    gate.add_permits(1);
    let edits = "response = { set = { X-Named = \"edge\" }, remove = [\"X-Inside\"] }\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + edits).await;
    let mut client = edge.raw().await;
    client.send(GET).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        let interim = within("a hint", client.response("GET")).await.unwrap();
        heard.push((interim.status, interim.fields.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()));
    }
    assert_eq!(heard, [(102, vec!["via".to_owned()]), (199, vec!["x-good".to_owned(), "via".to_owned()])]);
    let answer = within("an answer", client.response("GET")).await.unwrap();
    assert_eq!((answer.status, answer.fields.get("x-named")), (200, "edge"));
}

/// What purges the cache is said in an answer, and is between the endpoint and the edge.
#[tokio::test]
async fn what_an_endpoint_says_to_the_cache_is_not_passed_on() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nCache-Purge: tag:inside\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nCache-Purge: tag:inside\r\nContent-Length: 4\r\n\r\nlast";
    let (origin, gate) = gated(early, answer).await;
    gate.add_permits(1);
    let route = ROUTE.to_owned() + "cache = { purge_by_response = true }\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + &route).await;
    let mut client = edge.raw().await;
    client.send(GET).await.unwrap();
    for status in [103, 200] {
        let heard = within("a response", client.response("GET")).await.unwrap();
        assert_eq!((heard.status, heard.fields.has("cache-purge")), (status, false));
    }
}

/// 16 are as many as there may be (threats, section G).
#[tokio::test]
async fn a_client_is_told_no_more_than_sixteen() {
    for (count, status) in [(16, 200), (17, 502)] {
        let early: &str = EARLY.repeat(count).leak();
        let (origin, gate) = gated(early, FRESH).await;
        gate.add_permits(1);
        let edge = Edge::start(upstream(&[origin.address()], "retry = { attempts = 1 }") + ROUTE).await;
        let mut client = edge.raw().await;
        client.send(GET).await.unwrap();
        for _ in 0..16 {
            assert_eq!(within("a hint", client.response("GET")).await.unwrap().status, 103);
        }
        assert_eq!(within("an answer", client.response("GET")).await.unwrap().status, status);
    }
}

/// They promise nothing: another endpoint may answer in the end.
#[tokio::test]
async fn the_answer_may_be_another_endpoints() {
    let broken = Origin::serves(|mut connection| async move {
        if connection.request().await.is_some() {
            connection.wire.send(EARLY).await.unwrap();
        }
    })
    .await;
    let good = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.wire.send([&EARLY.replace("103", "104"), FRESH].concat()).await.unwrap();
        }
    })
    .await;
    let endpoints = upstream(&[broken.address(), good.address()], "balance = \"round-robin\"\nfails_max = 0\n");
    let edge = Edge::start(endpoints + ROUTE).await;
    let mut client = edge.raw().await;
    client.send(GET).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(within("a response", client.response("GET")).await.unwrap().status);
    }
    assert_eq!(heard, [103, 104, 200]);
}

/// A client that waits to be told to go on is told so by the edge, whatever the endpoint says before.
#[tokio::test]
async fn a_hint_does_not_stand_for_100() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.wire.send(EARLY).await.unwrap();
        connection.wire.exact(5).await.unwrap();
        connection.wire.send(FRESH).await.unwrap();
    })
    .await;
    let buffer = "buffer = { request = \"0B\" }\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + buffer).await;
    let mut client = edge.raw().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(within("an interim response", client.response("POST")).await.unwrap().status);
    }
    heard.sort_unstable();
    assert_eq!(heard, [100, 103]);
    client.send("hello").await.unwrap();
    assert_eq!(within("an answer", client.response("POST")).await.unwrap().status, 200);
}
