//! Section G: responses of upstreams that no edge may pass on, or not as they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::harness::*;

const ONCE: &str = "fails_max = 0\nretry = { attempts = 1 }";

/// Answers every request with these bytes, and leaves the connection open.
async fn says(bytes: String) -> Origin {
    Origin::serves(move |mut connection| {
        let bytes = bytes.clone();
        async move {
            while connection.request().await.is_some() {
                // The edge may have seen enough.
                let _cut = connection.wire.send(&bytes).await;
            }
        }
    })
    .await
}

/// A GET twice on one connection of a client: what it says, over how many connections to the origin.
async fn check(bytes: &str, status: u16, reason: &str, connections: usize) {
    let origin = says(bytes.to_owned()).await;
    let one_worker = "[server]\nworkers = 1\n".to_owned();
    let edge = Edge::start(one_worker + &upstream(&[origin.address()], ONCE) + ROUTE).await;
    for (n, via) in [Via::H1, Via::TlsH2].into_iter().enumerate() {
        let mut client = Client::connect(&edge, via).await;
        for _ in 0..2 {
            let answer = client.get("/").await;
            let found = (answer.status, answer.field("x-tollgate-reason"));
            assert_eq!(found, (status, reason), "{:?} {via:?}", bytes.get(..60).unwrap_or(bytes));
        }
        // The second client may find a connection that the first has left.
        let expected = if connections == 1 { 1 } else { (n + 1) * connections };
        assert_eq!(origin.connections(), expected, "{:?} {via:?}", bytes.get(..60).unwrap_or(bytes));
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn g_sixteen_interim_responses_are_taken_and_no_more() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    check(&(hint.repeat(16) + OK), 200, "", 1).await;
    check(&(hint.repeat(17) + OK), 502, "upstream-interim-limit", 2).await;
    check(&("HTTP/1.1 100 Continue\r\n\r\n".repeat(17) + OK), 502, "upstream-interim-limit", 2).await;
}

#[tokio::test]
async fn g_a_101_that_nobody_asked_for_is_a_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    check(switch, 502, "upstream-bad-upgrade", 2).await;
    check(&(switch.to_owned() + OK), 502, "upstream-bad-upgrade", 2).await;
    check("HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "upstream-bad-upgrade", 2).await;
}

#[tokio::test]
async fn g_a_status_line_is_one_or_the_response_is_none() {
    for line in [
        "HTTP/1.1 99",
        "HTTP/1.1 99 Low",
        "HTTP/1.1 2OO OK",
        "HTTP/1.1 20",
        "HTTP/1.1 600 High",
        "HTTP/1.1 1000 Long",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1  OK",
        "HTTP/1.1 200\u{b}OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/11 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "GET / HTTP/1.1",
        "200 OK",
    ] {
        check(&format!("{line}\r\nContent-Length: 2\r\n\r\nok"), 502, "upstream-protocol", 2).await;
    }
}

#[tokio::test]
async fn g_bytes_beyond_the_body_poison_the_connection() {
    for beyond in ["x", "\r\n", OK, "HTTP/1.1 100 Continue\r\n\r\n"] {
        check(&(OK.to_owned() + beyond), 200, "", 2).await;
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        check(&(chunked.to_owned() + beyond), 200, "", 2).await;
    }
}

#[tokio::test]
async fn g_a_connection_that_says_close_is_evicted() {
    for close in ["Connection: close", "Connection: Close", "Connection: x, close", "Connection: keep-alive, close"] {
        check(&format!("HTTP/1.1 200 OK\r\n{close}\r\nContent-Length: 2\r\n\r\nok"), 200, "", 2).await;
    }
    check("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "", 2).await;
    check("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "", 1).await;
}

#[tokio::test]
async fn g_truncated_and_garbled_heads_are_no_responses() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA\u{e9}: b\r\nContent-Length: 2\r\n\r\nok",
        "\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    ] {
        check(head, 502, "upstream-protocol", 2).await;
    }
}

/// What has no end is not waited for, nor kept.
#[tokio::test]
async fn g_fields_without_end_are_cut_off() {
    for (head, line) in [
        ("HTTP/1.1 200 OK\r\n", "A: b\r\n"),
        ("HTTP/1.1 200 OK\r\nA: ", "x"),
        ("HTTP/1.1 200 OK", " OK"),
        ("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n", "A: b\r\n"),
    ] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let origin = Origin::serves(move |mut connection| {
            let sent = Arc::clone(&count);
            async move {
                connection.request().await;
                connection.wire.send(head).await.unwrap();
                let part = line.repeat(1000);
                while connection.wire.send(&part).await.is_ok() {
                    sent.fetch_add(part.len(), Ordering::Relaxed);
                }
            }
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], ONCE) + ROUTE).await;
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (502, "upstream-head-too-large"), "{line:?}");
        edge.in_flight(origin.address(), 0).await;
    }
}

/// A body without end is the client's to end; what is held of it meanwhile is what the client has not taken.
#[tokio::test]
async fn g_a_body_without_end_is_not_gathered() {
    const PART: usize = 1 << 20;
    for framing in ["Transfer-Encoding: chunked", "Connection: close"] {
        let (left, sent) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&left), Arc::clone(&sent));
        let origin = Origin::serves(move |mut connection| {
            let (ended, sent) = (Arc::clone(&ended), Arc::clone(&count));
            async move {
                connection.request().await;
                connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await.unwrap();
                let data = "x".repeat(PART);
                let part = if framing.ends_with("chunked") { format!("{PART:x}\r\n{data}\r\n") } else { data };
                while connection.wire.send(&part).await.is_ok() {
                    sent.fetch_add(PART, Ordering::Relaxed);
                }
                ended.add_permits(1);
            }
        })
        .await;
        let edge = Edge::before(&origin).await;
        let before = edge.rss_kib();
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        within("the head", client.response_head()).await.unwrap();
        within("a hundred MiB", client.discard(100 << 20)).await.unwrap();
        assert!(edge.rss_kib() < before + (32 << 10), "{framing}: {} KiB after {before}", edge.rss_kib());
        drop(client);
        within("the end of the fetch", left.acquire()).await.unwrap().forget();
        assert!(sent.load(Ordering::Relaxed) >= 100 << 20);
    }
}

/// An early response is passed on, and the connection is not used again: the rest of the request was not sent on it.
#[tokio::test]
async fn g_an_early_response_ends_its_connection() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.reply(&ok("enough").status(413), false).await;
        connection.wire.rest().await;
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], ONCE) + ROUTE).await;
    for (n, via) in Via::ALL.into_iter().enumerate() {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        feed.send(http_body::Frame::data("a part".into())).await.unwrap();
        let answer = within("an answer", async { Answer::read(response.await.unwrap()).await.unwrap() }).await;
        assert_eq!((answer.status, answer.text()), (413, "enough"), "{via:?}");
        assert_eq!(origin.connections(), n + 1, "{via:?}");
        drop(feed);
    }
}

/// F7: what an endpoint says in clear where TLS was to begin is no response.
#[tokio::test]
async fn f7_bytes_before_the_handshake_fail() {
    for bytes in [OK, "HTTP/1.1 100 Continue\r\n\r\n", "220 ready\r\n", "\0"] {
        let origin = Origin::serves(move |mut connection| async move {
            // They may be there before the ClientHello is.
            let _cut = connection.wire.send(bytes).await;
            connection.wire.rest().await;
        })
        .await;
        for protocol in ["h1", "h2"] {
            let keys = format!("tls = true\nprotocol = \"{protocol}\"\n{ONCE}");
            let edge = Edge::start(upstream(&[origin.address()], &keys) + ROUTE).await;
            let answer = edge.get("/").await;
            let found = (answer.status, answer.field("x-tollgate-reason"));
            assert_eq!(found, (502, "upstream-tls"), "{bytes:?} {protocol}");
        }
    }
}
