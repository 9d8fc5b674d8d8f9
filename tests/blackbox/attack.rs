//! What hostile or unlucky peers found: each row is a defect until it passes.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Response;
use rustix::process::Signal;
use tokio::net::TcpListener;

use crate::harness::*;
use crate::streams::slow_reader;

fn text(said: &str, more: &str) -> String {
    format!("{more}{}", Edge::standard(format!("[[route]]\npath = \"/\"\ntext = \"{said}\"\n")))
}

/// RFC 9113 §8.2.3: crumbs become one field before they leave HTTP/2.
#[tokio::test]
async fn cookie_crumbs_are_joined_for_http1() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = Client::connect(&edge, Via::H2).await;
    client.ask(request("GET", "/").header("cookie", "a=1").header("cookie", "b=2"), "").await;
    let crumbs: Vec<_> = origin.take().fields.all("cookie").map(str::to_owned).collect();
    assert_eq!(crumbs, ["a=1; b=2"]);
}

/// RFC 9112 §6.3: Transfer-Encoding overrides Content-Length, which must not be forwarded.
#[tokio::test]
async fn a_response_with_both_framings_is_not_cut() {
    let origin = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
            connection.wire.send(both).await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let answer = edge.get("/").await;
    assert!(answer.status == 502 || answer.text() == "0123456789", "{answer:?}");
}

/// The framing that goes upstream is the edge's own (A5), whatever the client's version.
#[tokio::test]
async fn lengths_over_http2_reach_the_origin_once() {
    let origin = Origin::serves(|mut connection| async move {
        if connection.request_head().await.is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut client = Client::connect(&edge, Via::H2).await;
    let head = request("POST", "/").header("content-length", "3").header("content-length", "3");
    let _refused = client.send(head.body(Body::whole("abc")).unwrap()).await.await;
    if origin.count() > 0 {
        assert_eq!(origin.take().fields.get("content-length"), "3");
    }
}

/// A connection that could not be made is none.
#[tokio::test]
async fn refused_connections_are_not_counted_as_opened() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let edge = Edge::start(upstream(&[dead], "") + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 502);
    let metrics = edge.admin("/metrics").await;
    let line = metrics.text().lines().find(|line| line.starts_with("tollgate_upstream_connections_total")).unwrap();
    assert!(line.ends_with(" 0"), "{line}");
}

/// The mistake stands in a file that only the refused version names.
#[tokio::test]
async fn correcting_a_newly_included_file_is_noticed() {
    let edge = Edge::verbatim(&text("one", "")).await;
    let part = edge.folder().join("part.toml");
    std::fs::write(&part, "[[route]]\npath = \"/x\"\ntxt = \"x\"\n").unwrap();
    edge.write_config(&text("two", "include = [\"part.toml\"]\n"));
    until("the refusal", async || edge.stderr().contains("is refused").then_some(())).await;
    std::fs::write(&part, "[[route]]\npath = \"/x\"\ntext = \"x\"\n").unwrap();
    until("the correction", async || (edge.get("/").await.text() == "two").then_some(())).await;
}

/// The first reload waits for a name; the second file is written while it does, right before its end.
#[tokio::test]
async fn a_file_that_is_saved_during_a_reload_is_taken_over() {
    let edge = Edge::verbatim(&text("one", "")).await;
    let dns = NameServer::says(Said::Nothing).await;
    let slow = "[upstream.slow]\nendpoints = [\"name.example:80\"]\n";
    let with_upstream = |said: &str| format!("{}{slow}{}", dns.config(), text(said, ""));
    let asked = dns.asked(1);
    edge.write_config(&with_upstream("two"));
    asked.await;
    edge.write_config(&with_upstream("three"));
    dns.say(Said::Addresses(vec![Ipv4Addr::LOCALHOST]));
    until("the last file", async || (edge.get("/").await.text() == "three").then_some(())).await;
}

/// B9: a window that stays shut is a client that takes nothing.
#[tokio::test]
async fn a_stream_without_window_is_given_up() {
    let origin = Origin::replies(ok("b".repeat(4 << 20))).await;
    let edge =
        Edge::start("[client]\nsend_timeout = \"300ms\"\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE)
            .await;
    let mut client = Client::connect(&edge, Via::H2).await;
    // The body is held and not read, so its window is spent.
    let _held = within("a head", client.send(request("GET", "/").body(Body::whole("")).unwrap()).await).await.unwrap();
    edge.in_flight(origin.address(), 1).await;
    edge.in_flight(origin.address(), 0).await;
}

/// An HTTP/2 connection that has gone silent must not be used for ever.
#[tokio::test]
async fn a_silent_http2_connection_is_replaced() {
    // Answers the first request of a connection; to the first connection it then says nothing more.
    let first = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let origin = H2Origin::answers(move |_| {
        let n = first.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            // Requests 1 and 2 meet the silence; whoever comes over a new connection later is answered.
            if n == 1 || n == 2 {
                std::future::pending::<()>().await;
            }
            Response::new(Body::whole("in"))
        }
    })
    .await;
    let keys = "protocol = \"h2\"\nfails_max = 0\nretry = { attempts = 1 }\ntimeout = { read = \"300ms\" }";
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..4 {
        edge.get("/").await;
    }
    let metrics = edge.admin("/metrics").await;
    let line = metrics.text().lines().find(|line| line.starts_with("tollgate_upstream_connections_total")).unwrap();
    assert!(!line.ends_with(" 1"), "two time-outs in a row and still the same connection: {line}");
}

/// A13: after a final response no more of the body is sent on.
#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "buffer = { request = \"0B\" }\n").await;
    let mut client = edge.raw().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n").await.unwrap();
    assert_eq!(within("an answer", client.response("POST")).await.unwrap().status, 200);
    let before = origin.bytes();
    // The edge may take it or close; it may not pass it on.
    let _closed = client.send(vec![b'x'; 4_000_000]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(origin.bytes() - before < 64 * 1024, "{} bytes went on after the answer", origin.bytes() - before);
}

/// `buffer.response` bounds what a slow client costs; the buffers of the codec count too.
#[tokio::test]
async fn slow_readers_cost_what_is_configured() {
    const CLIENTS: u64 = 50;
    let origin = Origin::replies(ok("b".repeat(16 << 20))).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "buffer = { response = \"64KiB\" }\n").await;
    let before = edge.rss_kib();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = slow_reader(&edge).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    origin.has(CLIENTS as usize).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = (edge.rss_kib().saturating_sub(before)) / CLIENTS;
    assert!(each < 512, "{each} KiB a slow reader with a buffer of 64 KiB");
}

/// The endpoint closes an idle connection at the moment in which a streamed request is given to it.
#[tokio::test]
async fn a_streamed_body_survives_a_stale_connection() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            if request.method == "GET" {
                // Closed while the edge stands still.
                tokio::time::sleep(Duration::from_millis(150)).await;
                return;
            }
        }
    })
    .await;
    let edge =
        Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], "fails_max = 0") + ROUTE)
            .await;
    for _ in 0..5 {
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        within("an answer", client.response("GET")).await.unwrap();
        edge.signal(Signal::STOP);
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        edge.signal(Signal::CONT);
        let _any = within("an end", client.response("POST")).await;
    }
    assert!(!edge.stderr().contains("panicked"));
}

/// A client that waits for a slow endpoint has not fallen behind: each part reaches it when it comes.
#[tokio::test]
async fn a_body_that_pauses_goes_on() {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 100000"] {
        let origin = Origin::serves(move |mut connection| async move {
            connection.request().await;
            connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nfirst\r\n")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(400)).await;
            connection.wire.send("6\r\nsecond\r\n").await.unwrap();
            std::future::pending().await
        })
        .await;
        let edge = Edge::before(&origin).await;
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        within("a head", client.response_head()).await.unwrap();
        assert_eq!(within("the first part", client.exact(10)).await.unwrap(), b"5\r\nfirst\r\n");
        assert_eq!(within("the second part", client.exact(11)).await.unwrap(), b"6\r\nsecond\r\n", "{framing}");
    }
}
