//! Answers that come before the end of the upload: the client gets its answer, and the upload ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::harness::frames::*;
use crate::harness::*;

const LARGE: usize = 40_000_000;

async fn refused<S: AsyncRead + AsyncWrite + Unpin>(mut client: Wire<S>, framing: &str, body: &[u8]) {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
    within("the edge to take all", client.send(body)).await.unwrap();
    let response = within("413", client.response("POST")).await.unwrap();
    assert_eq!((response.status, response.fields.get("connection")), (413, "close"), "{framing}");
    assert_eq!(within("the close", client.rest()).await, b"", "{framing}");
}

/// Many clients write all before they read; a reset would take the answer away from them (RFC 9112 §9.6).
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_all_before_reading_gets_its_413() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let body = vec![b'x'; LARGE];
    let length = format!("Content-Length: {LARGE}");
    let mut chunks = body
        .chunks(64 * 1024)
        .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect::<Vec<_>>()
        .concat();
    chunks.extend(b"0\r\n\r\n");
    refused(edge.raw().await, &length, &body).await;
    refused(Wire::new(tls(&edge, "localhost", &[]).await), &length, &body).await;
    assert_eq!(origin.bytes(), 0);
    refused(edge.raw().await, "Transfer-Encoding: chunked", &chunks).await;
    assert_eq!(origin.count(), 0, "a part was taken for the whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_http2_that_is_too_large_gets_its_413() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for via in [Via::H2, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        assert_eq!(client.ask(request("POST", "/"), vec![b'x'; LARGE]).await.status, 413, "{via:?}");
        // Of unknown length: it is found in the middle.
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        let feeding = async {
            let block = Bytes::from(vec![b'x'; 64 * 1024]);
            while feed.send(Frame::data(block.clone())).await.is_ok() {}
        };
        let (answer, ()) = tokio::join!(async { Answer::read(response.await.unwrap()).await.unwrap() }, feeding);
        assert_eq!(answer.status, 413, "{via:?}");
        assert_eq!(client.get("/").await.status, 200, "{via:?}: the connection is not to blame");
        assert_eq!(origin.take().method, "GET");
    }
}

/// RFC 9113 §8.1: a server that has answered may ask its client to stop; it must say that nothing is wrong, for some
/// clients throw the answer away otherwise.
#[tokio::test]
async fn an_upload_over_http2_is_ended_without_an_error() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"100KiB\"\n").await;
    for length in [Some("3000000"), None] {
        let mut client = Frames::connect(&edge, &[]).await;
        client.send(get(1, "/")).await.unwrap();
        assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
        let head = pseudo("POST", "/").into_iter().chain(length.map(|length| ("content-length", length)));
        client.send(frame(HEADERS, END_HEADERS, 3, &block(head))).await.unwrap();
        // No more than its window, which the edge has told by now.
        client.send(frame(DATA, 0, 3, &[b'x'; 16_000]).repeat(12)).await.unwrap();
        let answer = within("an answer", client.of(3)).await.unwrap();
        assert_eq!(answer.kind, HEADERS, "{length:?}: {answer:?}");
        assert_eq!(answer.status(), 413, "{length:?}");
        let content = within("its content", client.of(3)).await.unwrap();
        assert!(content.kind == DATA && content.ends_stream(), "{length:?}: {content:?}");
        let end = within("a word that it may stop", client.of(3)).await.unwrap();
        assert_eq!((end.kind, end.code()), (RST_STREAM, NO_ERROR), "{length:?}");
    }
}

async fn early(via: Via, content: &'static str) {
    let ended = Arc::new(Semaphore::new(0));
    let seen = Arc::clone(&ended);
    let origin = Origin::serves(move |mut connection| {
        let ended = Arc::clone(&seen);
        async move {
            while let Some(request) = connection.request_head().await {
                connection.reply(&ok(content).status(403), false).await;
                if request.method == "POST" {
                    connection.wire.rest().await;
                    return ended.add_permits(1);
                }
            }
        }
    })
    .await;
    let patient = "[client]\nbody_timeout = \"60s\"\n[server]\nworkers = 1\n".to_owned();
    let edge = Edge::start(patient + &upstream(&[origin.address()], "fails_max = 1") + ROUTE).await;
    let mut client = Client::connect(&edge, via).await;
    let (feed, body) = Body::fed();
    let response = client.send(request("POST", "/").body(body).unwrap()).await;
    feed.send(Frame::data("a part".into())).await.unwrap();
    let answer = within("an early answer", async { Answer::read(response.await.unwrap()).await.unwrap() }).await;
    assert_eq!((answer.status, answer.text()), (403, content), "{via:?}");
    // The client has neither finished nor left.
    within("the end of the upload", ended.acquire()).await.unwrap().forget();
    assert_eq!(edge.get("/").await.status, 403);
    assert_eq!(origin.connections(), 2, "{via:?}: the connection was used again");
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable", "{via:?}");
    drop(feed);
}

/// A13: after a final response no more of the body is sent on, and the rest is never taken for a request.
#[tokio::test]
async fn an_early_answer_of_the_origin_ends_the_upload() {
    let long: &str = "e".repeat(300_000).leak();
    for via in Via::ALL {
        early(via, "enough").await;
        early(via, long).await;
    }
}

/// The endpoint does not read on: the connection is reset behind its answer.
#[tokio::test]
async fn an_endpoint_that_refuses_an_upload_and_closes_is_heard() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.reply(&ok("too much").status(413).close(), false).await;
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "fails_max = 1") + ROUTE).await;
    for via in Via::ALL {
        for _ in 0..5 {
            let mut client = Client::connect(&edge, via).await;
            let answer = client.ask(request("POST", "/"), vec![b'x'; 4_000_000]).await;
            assert_eq!((answer.status, answer.text()), (413, "too much"), "{via:?}");
        }
    }
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable");
}

/// The endpoint answers while it reads, and its client reads after it has written: neither waits for the other.
async fn both_ways<S: AsyncRead + AsyncWrite + Unpin>(edge: &Edge, mut client: Wire<S>) {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(head).await.unwrap();
    within("the edge to take all", client.send(vec![b'x'; LARGE])).await.unwrap();
    let response = within("an answer", client.response("POST")).await.unwrap();
    assert_eq!((response.status, response.body.len()), (200, LARGE));
    assert_eq!(edge.logged("/").await["reason"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_and_an_upload_do_not_hold_each_other_up() {
    let origin = Origin::serves(move |mut connection| async move {
        connection.request_head().await;
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n");
        let answer = [head.as_bytes(), &vec![b'y'; LARGE]].concat();
        connection.both(answer, LARGE).await;
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"1GiB\"\n").await;
    both_ways(&edge, edge.raw().await).await;
    both_ways(&edge, Wire::new(tls(&edge, "localhost", &[]).await)).await;
}

/// A byte now and then does not keep a connection open whose last answer is given.
#[tokio::test]
async fn dripping_on_after_the_last_answer_is_cut_off() {
    let origin = Origin::replies(ok("")).await;
    let edge =
        Edge::start("[client]\nbody_timeout = \"200ms\"\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE)
            .await;
    for framing in ["Content-Length: 10000", "Content-Length: 10000000", "Transfer-Encoding: chunked"] {
        let mut client = edge.raw().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhe")).await.unwrap();
        assert_eq!(within("408", client.response("POST")).await.unwrap().status, 408, "{framing}");
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let dripping = async {
            while client.send("x").await.is_ok() {
                pace.tick().await;
            }
        };
        within("the edge to lose its patience", dripping).await;
    }
}

/// An endpoint's final answer to half a request is the last on the client's connection, which is told (RFC 9112 §9.6).
#[tokio::test]
async fn an_answer_that_cuts_the_request_says_that_it_is_the_last() {
    // One that comes with its head, and one that is too large for that.
    for content in ["too much", "e".repeat(300_000).leak()] {
        let origin = Origin::serves(move |mut connection| async move {
            connection.request_head().await;
            connection.reply(&ok(content).status(413), false).await;
            connection.wire.rest().await;
        })
        .await;
        let edge = Edge::before(&origin).await;
        let mut client = edge.raw().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
        let response = within("an answer", client.response("POST")).await.unwrap();
        assert_eq!((response.status, response.fields.get("connection")), (413, "close"), "{}", content.len());
        assert_eq!(within("the close", client.rest()).await, b"");
    }
}
