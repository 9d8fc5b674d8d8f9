//! Upstreams of HTTP/2: streams that are refused, reset or left out, and connections that close, age or do not
//! come about.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Barrier;

use crate::harness::frames::*;
use crate::harness::*;
use crate::kept::STRICT;

/// Leaves each connection, numbered from 1, to `serve`.
async fn origin<F>(
    values: &'static [(u16, u32)],
    serve: impl Fn(usize, Frames<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Origin
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    Origin::serves(move |connection| {
        let (serve, count) = (serve.clone(), Arc::clone(&count));
        async move {
            if let Some(peer) = Frames::accept(connection.wire, values).await {
                serve(count.fetch_add(1, Ordering::Relaxed) + 1, peer).await;
            }
        }
    })
    .await
}

async fn answers_all(mut peer: Frames<TcpStream>) -> Option<()> {
    loop {
        let stream = peer.request().await?;
        peer.answer(stream).await.ok()?;
    }
}

async fn edge_with(origin: &Origin, keys: &str) -> Edge {
    let keys = format!("protocol = \"h2\"\n{keys}");
    Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], &keys) + ROUTE).await
}

/// What the first connection says to the second request on it.
#[derive(Clone, Copy)]
struct Said {
    frames: fn(u32) -> Vec<u8>,
    then_closes: bool,
}

async fn check(name: &str, said: Said, method: &str, status: u16) {
    let origin = origin(&[], move |n, mut peer| async move {
        let first = peer.request().await?;
        peer.answer(first).await.ok()?;
        if n == 1 {
            let second = peer.request().await?;
            peer.send((said.frames)(second)).await.ok()?;
            if said.then_closes {
                return None;
            }
        }
        answers_all(peer).await
    })
    .await;
    let edge = edge_with(&origin, STRICT).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    assert_eq!(client.get("/").await.status, 200);
    let answer = client.ask(request(method, "/second"), "buffered").await;
    assert_eq!(answer.status, status, "{name} and {method}: {}", answer.text());
    let line = edge.logged("/second").await;
    assert_eq!(line["attempts"], 1, "{name} and {method}");
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable", "{name} and {method}");
    assert_eq!(client.get("/").await.status, 200, "after {name} and {method}");
    assert_eq!(origin.connections(), 2, "{name} and {method}");
}

/// RFC 9113 §8.7 says what of it was not processed, and so may be sent again whatever it is.
#[tokio::test]
async fn a_stream_that_a_kept_connection_does_not_answer_is_sent_again_if_it_may_be() {
    let stays = |frames| Said { frames, then_closes: false };
    let closes = |frames| Said { frames, then_closes: true };
    let left_out = |stream: u32| goaway(stream - 2, NO_ERROR);
    for (name, said, get, post) in [
        ("a GOAWAY that leaves it out", stays(left_out), 200, 200),
        ("a GOAWAY that leaves it out, and the end", closes(left_out), 200, 200),
        ("a refused stream", stays(|stream| rst_stream(stream, REFUSED_STREAM)), 200, 200),
        ("a GOAWAY that includes it, and the end", closes(|stream| goaway(stream, INTERNAL_ERROR)), 200, 502),
        ("the end without a word", closes(|_| Vec::new()), 200, 502),
    ] {
        check(name, said, "GET", get).await;
        check(name, said, "POST", post).await;
    }
}

/// The endpoint has failed at this one request; the connection is sound.
#[tokio::test]
async fn a_stream_that_is_reset_fails_alone() {
    let origin = origin(&[], |_, mut peer| async move {
        loop {
            let stream = peer.request().await?;
            match stream {
                3 => peer.send(rst_stream(3, INTERNAL_ERROR)).await.ok()?,
                5 => peer.send(rst_stream(5, CANCEL)).await.ok()?,
                _ => peer.answer(stream).await.ok()?,
            }
        }
    })
    .await;
    let edge = edge_with(&origin, "fails_max = 0\nretry = { attempts = 1 }").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for status in [200, 502, 502, 200, 200] {
        assert_eq!(client.get("/").await.status, status);
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(edge.metric(r#"tollgate_upstream_requests_total{outcome="broken",upstream="app"}"#).await, 2.0);
}

/// Between two requests: the next one goes over a new connection.
#[tokio::test]
async fn a_goaway_between_requests_costs_nothing() {
    let origin = origin(&[], |_, mut peer| async move {
        let stream = peer.request().await?;
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]);
        peer.send([answer, goaway(stream, NO_ERROR)].concat()).await.ok()?;
        // The connection stays open, and whatever comes is never answered.
        while peer.next().await.is_some() {}
        None
    })
    .await;
    let edge = edge_with(&origin, STRICT).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for method in ["GET", "POST", "GET", "POST", "PATCH"] {
        assert_eq!(client.ask(request(method, "/"), "buffered").await.status, 200, "{method}");
    }
    assert_eq!(origin.connections(), 5);
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable");
}

/// Refused on a new connection: this endpoint is full, and another one is asked, whatever the request is.
#[tokio::test]
async fn a_stream_refused_by_one_endpoint_goes_to_the_next() {
    let full = origin(&[], |_, mut peer| async move {
        loop {
            let stream = peer.request().await?;
            peer.send(rst_stream(stream, REFUSED_STREAM)).await.ok()?;
        }
    })
    .await;
    let free = origin(&[], |_, peer| answers_all(peer)).await;
    let keys = "protocol = \"h2\"\nbalance = \"round-robin\"\nfails_max = 0\n";
    let edge = Edge::start(upstream(&[full.address(), free.address()], keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for method in ["GET", "GET", "POST", "POST"] {
        assert_eq!(client.ask(request(method, "/"), "buffered").await.status, 200, "{method}");
    }
    assert!(full.connections() > 0);
    assert_eq!(edge.log(|line| line["method"] == "POST" && line["attempts"] == 2).await["status"], 200);
}

/// A request does not wait behind another one for a stream, if a connection of its own would do.
#[tokio::test]
#[ignore = "a known defect, not mended yet"]
async fn a_connection_that_is_full_from_the_start_is_not_waited_for() {
    let (waiting, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let count = Arc::clone(&waiting);
    let origin = origin(&[(MAX_CONCURRENT_STREAMS, 1)], move |_, mut peer| {
        let (waiting, together) = (Arc::clone(&count), Arc::clone(&together));
        async move {
            let stream = peer.request().await?;
            peer.settled().await?;
            waiting.fetch_add(1, Ordering::Relaxed);
            together.wait().await;
            peer.answer(stream).await.ok()?;
            answers_all(peer).await
        }
    })
    .await;
    let edge = edge_with(&origin, "").await;
    let second = async {
        until("the first request", async || (waiting.load(Ordering::Relaxed) == 1).then_some(())).await;
        edge.get("/").await
    };
    let (first, second) = tokio::join!(edge.get("/"), second);
    assert_eq!((first.status, second.status), (200, 200));
}

/// Each has carried a request, and leaves the next one out.
#[tokio::test]
#[ignore = "a known defect, not mended yet"]
async fn two_connections_that_go_away_do_not_use_up_the_attempts() {
    let (waiting, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let count = Arc::clone(&waiting);
    let origin = origin(&[(MAX_CONCURRENT_STREAMS, 1)], move |n, mut peer| {
        let (waiting, together) = (Arc::clone(&count), Arc::clone(&together));
        async move {
            if n == 1 {
                // By the next request the edge knows how many streams there are.
                let stream = peer.request().await?;
                peer.settled().await?;
                peer.answer(stream).await.ok()?;
            } else if n > 2 {
                return answers_all(peer).await;
            }
            let last = peer.request().await?;
            waiting.fetch_add(1, Ordering::Relaxed);
            together.wait().await;
            peer.answer(last).await.ok()?;
            peer.request().await?;
            peer.send(goaway(last, NO_ERROR)).await.ok()
        }
    })
    .await;
    let edge = edge_with(&origin, STRICT).await;
    assert_eq!(edge.get("/").await.status, 200);
    let other = async {
        until("the first of two", async || (waiting.load(Ordering::Relaxed) == 1).then_some(())).await;
        edge.get("/").await
    };
    let (one, other) = tokio::join!(edge.get("/"), other);
    assert_eq!((one.status, other.status, origin.connections()), (200, 200, 2));
    let answer = edge.get("/").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable");
}

/// The windows stay shut, which no socket shows.
#[tokio::test]
#[ignore = "a known defect, not mended yet"]
async fn an_endpoint_whose_window_stays_shut_is_given_up() {
    let origin = origin(&[], |_, mut peer| async move {
        while peer.next().await.is_some() {}
        None
    })
    .await;
    let keys = "retry = { attempts = 1 }\ntimeout = { send = \"300ms\", read = \"300ms\" }";
    let edge = edge_with(&origin, keys).await;
    for via in [Via::H1, Via::TlsH2] {
        let answer = Client::connect(&edge, via).await.ask(request("POST", "/"), vec![b'x'; 200_000]).await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (504, "send-timeout"), "{via:?}");
    }
    edge.in_flight(origin.address(), 0).await;
}

#[tokio::test]
async fn a_connection_carries_as_many_requests_as_it_may() {
    let origin = origin(&[], |_, peer| answers_all(peer)).await;
    let edge = edge_with(&origin, "keepalive = { requests = 2 }").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for n in 0..6 {
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(origin.connections(), n / 2 + 1);
    }
}

#[tokio::test]
async fn a_connection_that_idles_is_closed() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let origin = origin(&[], move |_, peer| {
        let closed = Arc::clone(&count);
        async move {
            answers_all(peer).await;
            closed.fetch_add(1, Ordering::Relaxed);
            None
        }
    })
    .await;
    let edge = edge_with(&origin, "keepalive = { idle = \"1s\" }").await;
    for n in 1..=2 {
        assert_eq!(edge.get("/").await.status, 200);
        assert_eq!(origin.connections(), n);
        until("the close", async || (closed.load(Ordering::Relaxed) == n).then_some(())).await;
    }
}

/// One connection is made at a time, and whoever waits for it waits no longer than for one of its own.
#[tokio::test]
async fn the_limit_of_connecting_includes_the_wait_for_others() {
    const CROWD: u32 = 8;
    let limit = Duration::from_millis(500);
    // A queue that is full: the kernel answers no further SYN.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    let keys = "protocol = \"h2\"\nfails_max = 0\nretry = { attempts = 1 }\ntimeout = { connect = \"500ms\" }";
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[address], keys) + ROUTE).await;
    let crowd: Vec<_> = (0..CROWD).map(|_| edge.get("/")).collect();
    let begin = tokio::time::Instant::now();
    for answer in futures_util::future::join_all(crowd).await {
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (504, "connect-timeout"));
    }
    assert!(begin.elapsed() < limit * (CROWD / 2), "{:?} for all of them", begin.elapsed());
}
