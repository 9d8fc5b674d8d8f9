//! Floods over HTTP/2 by an endpoint (B5, B7, B10, G): the connection is cut off, its endpoint has failed, and what others
//! do is not concerned.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::h2_upstream::{answers_all, early, origin};
use crate::harness::frames::*;
use crate::harness::*;

const GROWTH_KIB_MAX: u64 = 32 * 1024;
/// Far more frames than any budget has, and than the kernels between take.
const ROUNDS: usize = 2000;
const AT_ONCE: usize = 1000;

/// What is said on a stream.
type Said = fn(u32) -> Vec<u8>;

/// What it says first to a request, and then again and again.
#[derive(Clone, Copy)]
struct Flood(Said, Said);

/// Floods the first connection, and answers on all others.
async fn flooding(flood: Flood, closed: &Arc<AtomicUsize>) -> Origin {
    let closed = Arc::clone(closed);
    origin(&[], move |n, mut peer| {
        let closed = Arc::clone(&closed);
        async move {
            if n > 1 {
                return answers_all(peer).await;
            }
            let stream = peer.request().await?;
            peer.send(flood.0(stream)).await.ok()?;
            let piece = flood.1(stream).repeat(AT_ONCE);
            for _ in 0..ROUNDS {
                if peer.send(&piece).await.is_err() {
                    closed.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
            panic!("all of it was taken");
        }
    })
    .await
}

/// The upstream that floods, and another for `/other`.
fn config(flooding: &Origin, other: &Origin) -> String {
    let keys = "protocol = \"h2\"\nfails_max = 1\nfail_timeout = \"1s\"\nretry = { attempts = 1 }\n";
    let other = upstream(&[other.address()], "").replace("upstream.app", "upstream.other");
    let route = "[[route]]\npath = \"/other\"\nupstream = \"other\"\n";
    upstream(&[flooding.address()], keys) + &other + ROUTE + route
}

/// What became of the request that is flooded.
async fn asked(edge: &Edge) -> String {
    let mut client = Client::connect(edge, Via::H1).await;
    let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    match within("an end", async { Answer::read(response.await?).await }).await {
        Ok(answer) => answer.field("x-tollgate-reason").to_owned(),
        Err(_) => edge.logged("/").await["reason"].as_str().unwrap_or_default().to_owned(),
    }
}

/// What is in the log beside it is what the connection was cut for.
#[tokio::test]
async fn b5_b7_b10_g_an_endpoint_that_says_too_much_is_cut_off() {
    const NOTHING: Said = |_| Vec::new();
    const HEAD: Said = |stream| frame(HEADERS, END_HEADERS, stream, &[0x88]);
    const TRAILERS: Said = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block([("x", "y")]));
    let rows: [(&str, Flood, &str, &str); 11] = [
        ("PING", Flood(NOTHING, |_| frame(PING, 0, 0, &[0; 8])), "upstream-flood", "control-frames"),
        (
            "SETTINGS",
            Flood(NOTHING, |_| settings(&[(INITIAL_WINDOW_SIZE, 65_535)])),
            "upstream-flood",
            "control-frames",
        ),
        (
            "WINDOW_UPDATE",
            Flood(NOTHING, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
            "upstream-flood",
            "control-frames",
        ),
        ("PRIORITY", Flood(NOTHING, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])), "upstream-flood", "control-frames"),
        ("a frame that nobody knows", Flood(NOTHING, |_| frame(0xee, 0, 0, b"x")), "upstream-flood", "control-frames"),
        ("interim answers", Flood(NOTHING, early), "upstream-flood", "heads"),
        (
            "CONTINUATION",
            Flood(|stream| frame(HEADERS, 0, stream, &[0x88]), |stream| frame(CONTINUATION, 0, stream, b"")),
            "upstream-flood",
            "codec",
        ),
        ("empty DATA", Flood(HEAD, |stream| frame(DATA, 0, stream, b"")), "body-truncated", "codec"),
        ("PING beside a body", Flood(HEAD, |_| frame(PING, 0, 0, &[0; 8])), "body-truncated", "control-frames"),
        ("trailers", Flood(NOTHING, |stream| [HEAD(stream), TRAILERS(stream)].concat()), "upstream-flood", "heads"),
        ("resets", Flood(NOTHING, |stream| rst_stream(stream, CANCEL)), "upstream-flood", "resets"),
    ];
    let other = Origin::replies(ok("other")).await;
    for (name, flood, became, reason) in rows {
        let closed = Arc::new(AtomicUsize::new(0));
        let origin = flooding(flood, &closed).await;
        let edge = Edge::start(config(&origin, &other)).await;
        let before_kib = edge.rss_kib();
        let (found, beside) = tokio::join!(asked(&edge), edge.get("/other"));
        assert_eq!(beside.text(), "other", "{name}");
        until("the end of the flood", async || (closed.load(Ordering::Relaxed) == 1).then_some(())).await;
        let grown_kib = edge.rss_kib().saturating_sub(before_kib);
        assert!(grown_kib < GROWTH_KIB_MAX, "{name}: grown by {grown_kib} KiB");
        assert_eq!(edge.get("/other").await.text(), "other", "{name}");
        let cut = edge.metric("tollgate_upstream_h2_connections_cut_total{upstream=\"app\"}").await;
        assert_eq!(found, became, "{name}");
        assert!(edge.stderr().contains(&format!("reason=\"{reason}\"")), "{name}: {}", edge.stderr());
        let endpoint = edge.endpoint(origin.address()).await;
        assert_eq!(endpoint["failures"].as_u64(), Some(1), "{name}: {endpoint}");
        assert_eq!(cut, 1.0, "{name}");
        // Its time is over, and it is asked again.
        until("the next answer", async || (edge.get("/").await.status == 200).then_some(())).await;
        edge.in_flight(origin.address(), 0).await;
    }
}

/// Its connection is from a time when there was another. It stays in, as the last one that is left.
#[tokio::test]
async fn an_endpoint_that_floods_after_a_reload_is_judged_among_those_that_are_left() {
    let floods = Arc::new(Notify::new());
    let flood = Arc::clone(&floods);
    let last = origin(&[], move |n, mut peer| {
        let flood = Arc::clone(&flood);
        async move {
            if n == 1 {
                let stream = peer.request().await?;
                peer.answer(stream).await.ok()?;
                flood.notified().await;
                let _cut = peer.send(frame(PING, 0, 0, &[0; 8]).repeat(2 * AT_ONCE)).await;
            }
            answers_all(peer).await
        }
    })
    .await;
    let other = origin(&[], |_, peer| answers_all(peer)).await;
    let keys = "protocol = \"h2\"\nbalance = \"round-robin\"\nfails_max = 1\nfail_timeout = \"60s\"\n";
    let of = |addresses: &[SocketAddr]| "[server]\nworkers = 1\n".to_owned() + &upstream(addresses, keys) + ROUTE;
    let edge = Edge::start(of(&[last.address(), other.address()])).await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.status, 200);
    }
    assert_eq!(last.connections(), 1);
    edge.write_config(&Edge::standard(of(&[last.address()])));
    edge.reload().await;
    floods.notify_one();
    let endpoint = async || Some(edge.endpoint(last.address()).await).filter(|it| it["failures"].as_u64() > Some(0));
    assert_eq!(until("the end of the flood", endpoint).await["state"], "failing");
    assert_eq!(edge.get("/").await.status, 200);
}

/// As a server in Go does whose handler reads 4 KiB at a time: both windows are opened again for each. Frames of DATA are as
/// large as it allows.
#[tokio::test]
async fn b10_windows_opened_for_each_part_of_an_upload_are_no_flood() {
    const LENGTH: usize = 16 << 20;
    const READ: u32 = 4096;
    const WINDOW: u32 = 1 << 20;
    for frames_max in [16 * 1024, 1 << 20] {
        let origin = origin(&[], move |_, mut peer| async move {
            peer.send(settings(&[(INITIAL_WINDOW_SIZE, WINDOW), (MAX_FRAME_SIZE, frames_max)])).await.ok()?;
            peer.grant(0, WINDOW).await.ok()?;
            let (mut got, mut unread) = (0, 0);
            loop {
                let frame = peer.next().await?;
                let length = if frame.kind == DATA { frame.payload.len() } else { 0 };
                (got, unread) = (got + length, unread + length as u32);
                if frame.ends_stream() {
                    assert_eq!(got, LENGTH);
                    peer.answer(frame.stream).await.ok()?;
                    got = 0;
                }
                let bytes = READ.to_be_bytes();
                let both = [frame.stream, 0].map(|stream| self::frame(WINDOW_UPDATE, 0, stream, &bytes)).concat();
                peer.send(both.repeat((unread / READ) as usize)).await.ok()?;
                unread %= READ;
            }
        })
        .await;
        let keys = "protocol = \"h2\"\nretry = { attempts = 1 }";
        let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE + "body_max = \"32MiB\"\n").await;
        for via in [Via::H1, Via::H2] {
            let mut client = Client::connect(&edge, via).await;
            let answer = client.ask(request("POST", "/"), vec![b'x'; LENGTH]).await;
            assert_eq!(answer.status, 200, "{via:?} {frames_max}: {}", answer.text());
        }
        assert!(!edge.stderr().contains("cut off"), "{frames_max}: {}", edge.stderr());
    }
}
