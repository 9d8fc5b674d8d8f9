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
pub async fn origin<F>(
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

pub async fn answers_all(mut peer: Frames<TcpStream>) -> Option<()> {
    loop {
        let stream = peer.request().await?;
        peer.answer(stream).await.ok()?;
    }
}

async fn edge_with(origin: &Origin, keys: &str) -> Edge {
    let keys = format!("protocol = \"h2\"\n{keys}");
    Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], &keys) + ROUTE).await
}

/// What is said to the request on a stream.
type Answering = fn(u32) -> Vec<u8>;

/// What the first connection says to the second request on it.
#[derive(Clone, Copy)]
struct Said {
    frames: Answering,
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

/// A connection whose other end has gone without a word is not used for ever.
#[tokio::test]
async fn a_connection_that_lets_a_request_wait_is_replaced() {
    let origin = origin(&[], |n, mut peer| async move {
        let first = peer.request().await?;
        peer.answer(first).await.ok()?;
        if n > 1 {
            return answers_all(peer).await;
        }
        while peer.next().await.is_some() {}
        None
    })
    .await;
    let keys = "fails_max = 0\nretry = { attempts = 1 }\ntimeout = { read = \"300ms\" }";
    let edge = edge_with(&origin, keys).await;
    for status in [200, 504, 200, 200] {
        assert_eq!(edge.get("/").await.status, status);
    }
    assert_eq!(origin.connections(), 2);
}

/// It is the request that is slow: others are answered meanwhile, and need no new connection for it.
#[tokio::test]
async fn a_connection_that_goes_on_answering_others_stays() {
    let waits = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&waits);
    let origin = origin(&[], move |_, mut peer| {
        let waits = Arc::clone(&count);
        async move {
            let first = peer.request().await?;
            peer.answer(first).await.ok()?;
            peer.request().await?;
            waits.fetch_add(1, Ordering::Relaxed);
            answers_all(peer).await
        }
    })
    .await;
    for limit in ["read = \"500ms\"", "attempt = \"500ms\"", "total = \"500ms\""] {
        let before = origin.connections();
        waits.store(0, Ordering::Relaxed);
        let edge =
            edge_with(&origin, &format!("fails_max = 0\nretry = {{ attempts = 1 }}\ntimeout = {{ {limit} }}")).await;
        assert_eq!(edge.get("/").await.status, 200);
        let others = async {
            until("the slow one", async || (waits.load(Ordering::Relaxed) == 1).then_some(())).await;
            edge.get("/").await.status
        };
        let (slow, other) = tokio::join!(edge.get("/"), others);
        assert_eq!((slow.status, other), (504, 200), "{limit}");
        assert_eq!(edge.get("/").await.status, 200, "{limit}");
        assert_eq!(origin.connections() - before, 1, "{limit}");
    }
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

/// What an endpoint refuses it is asked once more at most, over a new connection if the old one has ended, and else as a
/// retry. However many ask, none is sent again without end.
#[tokio::test]
async fn an_endpoint_that_refuses_all_is_asked_for_each_request_as_often_as_that_may_be_tried() {
    const REQUESTS: usize = 40;
    // Closes the connection with it, or not; retries; and streams for each request at most.
    let rows: [(&str, bool, usize, usize); 3] =
        [("refused", false, 1, 1), ("refused, with retries", false, 2, 2), ("left out", true, 1, 2)];
    for (name, closes, attempts, streams_max) in rows {
        let streams = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&streams);
        let origin = origin(&[], move |_, mut peer| {
            let count = Arc::clone(&count);
            async move {
                loop {
                    let stream = peer.request().await?;
                    count.fetch_add(1, Ordering::Relaxed);
                    let refusal = if closes { goaway(0, NO_ERROR) } else { rst_stream(stream, REFUSED_STREAM) };
                    peer.send(refusal).await.ok()?;
                    if closes {
                        return None;
                    }
                }
            }
        })
        .await;
        let keys = format!("fails_max = 0\nretry = {{ attempts = {attempts}, budget = \"100%\" }}");
        let edge = edge_with(&origin, &keys).await;
        let mut asked = Vec::new();
        for _ in 0..REQUESTS {
            let mut client = Client::connect(&edge, Via::H1).await;
            asked.push(tokio::spawn(async move { client.ask(request("POST", "/"), "buffered").await.status }));
        }
        for status in asked {
            assert_eq!(within(name, status).await.unwrap(), 502, "{name}");
        }
        let streams = streams.load(Ordering::Relaxed);
        assert!((1..=REQUESTS * streams_max).contains(&streams), "{name}: {streams} streams");
    }
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

/// Each has carried a request, and leaves the next one out.
#[tokio::test]
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

/// One connection, whose streams are answered with these frames.
async fn answering(frames: Answering) -> Origin {
    origin(&[], move |_, mut peer| async move {
        loop {
            let stream = peer.request().await?;
            peer.send(frames(stream)).await.ok()?;
        }
    })
    .await
}

fn response(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields.iter().copied()))
}

const OK: (&str, &str) = (":status", "200");

/// RFC 9113 §8.1.1: malformed. No client gets to see any of it.
#[tokio::test]
async fn a_malformed_response_is_refused() {
    let rows: [(&str, Answering); 9] = [
        ("no status", |stream| response(stream, END_HEADERS | END_STREAM, &[("x", "1")])),
        ("101", |stream| response(stream, END_HEADERS | END_STREAM, &[(":status", "101")])),
        ("a bad status", |stream| response(stream, END_HEADERS | END_STREAM, &[(":status", "2OO")])),
        ("an upper-case name", |stream| response(stream, END_HEADERS | END_STREAM, &[OK, ("X-Upper", "1")])),
        ("CR in a value", |stream| response(stream, END_HEADERS | END_STREAM, &[OK, ("x", "a\rb")])),
        ("Connection", |stream| response(stream, END_HEADERS | END_STREAM, &[OK, ("connection", "close")])),
        ("Transfer-Encoding", |stream| {
            response(stream, END_HEADERS | END_STREAM, &[OK, ("transfer-encoding", "chunked")])
        }),
        ("two lengths", |stream| {
            let head = response(stream, END_HEADERS, &[OK, ("content-length", "5"), ("content-length", "5")]);
            [head, frame(DATA, END_STREAM, stream, b"hello")].concat()
        }),
        ("no length at all", |stream| {
            let head = response(stream, END_HEADERS, &[OK, ("content-length", "+5")]);
            [head, frame(DATA, END_STREAM, stream, b"hello")].concat()
        }),
    ];
    for (name, frames) in rows {
        let origin = answering(frames).await;
        let edge = edge_with(&origin, "fails_max = 0\nretry = { attempts = 1 }").await;
        for via in [Via::H1, Via::TlsH2] {
            let answer = Client::connect(&edge, via).await.get("/").await;
            assert_eq!(answer.status, 502, "{name} {via:?}: {answer:?}");
        }
    }
}

/// B3: the content is not as long as announced.
#[tokio::test]
async fn a_response_of_another_length_is_no_whole_response() {
    let rows: [(&str, Answering); 3] = [
        ("short", |stream| {
            let head = response(stream, END_HEADERS, &[OK, ("content-length", "5")]);
            [head, frame(DATA, END_STREAM, stream, b"hel")].concat()
        }),
        ("long", |stream| {
            let head = response(stream, END_HEADERS, &[OK, ("content-length", "5")]);
            [head, frame(DATA, END_STREAM, stream, b"hello!")].concat()
        }),
        ("none", |stream| response(stream, END_HEADERS | END_STREAM, &[OK, ("content-length", "5")])),
    ];
    for (name, frames) in rows {
        let origin = answering(frames).await;
        let edge = edge_with(&origin, "fails_max = 0\nretry = { attempts = 1 }").await;
        for via in Via::ALL {
            let mut client = Client::connect(&edge, via).await;
            let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
            if let Ok(answer) = within("an end", async { Answer::read(response.await?).await }).await {
                assert_eq!(answer.status, 502, "{name} {via:?} took a part for the whole: {answer:?}");
            }
        }
    }
}

pub fn early(stream: u32) -> Vec<u8> {
    response(stream, END_HEADERS, &[(":status", "103")])
}

#[tokio::test]
async fn interim_answers_are_taken() {
    let origin =
        answering(|stream| [early(stream).repeat(3), response(stream, END_HEADERS | END_STREAM, &[OK])].concat()).await;
    let edge = edge_with(&origin, "retry = { attempts = 1 }").await;
    assert_eq!(edge.get("/").await.status, 200);
}

/// A13: after a final response no more of the body is sent on, and the stream is closed.
#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    for via in Via::ALL {
        let reset = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reset);
        let origin = origin(&[], move |_, mut peer| {
            let reset = Arc::clone(&count);
            async move {
                while let Some(frame) = peer.next().await {
                    match frame.kind {
                        HEADERS => peer.answer(frame.stream).await.ok()?,
                        RST_STREAM => _ = reset.fetch_add(1, Ordering::Relaxed),
                        _ => {}
                    }
                }
                None
            }
        })
        .await;
        let patient = "[client]\nbody_timeout = \"60s\"\n[server]\nworkers = 1\n".to_owned();
        let keys = format!("protocol = \"h2\"\n{STRICT}");
        let edge = Edge::start(patient + &upstream(&[origin.address()], &keys) + ROUTE).await;
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        feed.send(http_body::Frame::data("a part".into())).await.unwrap();
        let answer = within("an early answer", async { Answer::read(response.await.unwrap()).await.unwrap() }).await;
        assert_eq!(answer.status, 200, "{via:?}");
        // The client has neither finished nor left.
        until("the end of the upload", async || (reset.load(Ordering::Relaxed) == 1).then_some(())).await;
        drop(feed);
        assert_eq!(edge.get("/").await.status, 200);
        assert_eq!(origin.connections(), 1, "{via:?}: the connection is sound");
        assert_eq!(edge.endpoint(origin.address()).await["state"], "usable", "{via:?}");
    }
}

/// The windows stay shut, which no socket shows.
#[tokio::test]
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

/// Small frames cost the codec more than they say, and it gives up a connection for it; those within the windows
/// that the edge has granted must not come to that.
#[tokio::test]
async fn many_small_frames_do_not_end_the_connection() {
    const FRAMES: usize = 5000;
    let origin = H2Origin::answers(|_| async {
        let (feed, body) = Body::fed();
        tokio::spawn(async move {
            for _ in 0..FRAMES {
                if feed.send(http_body::Frame::data("twenty bytes of data".into())).await.is_err() {
                    return;
                }
            }
        });
        http::Response::new(body)
    })
    .await;
    let keys = "protocol = \"h2\"\nretry = { attempts = 1 }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    // One that takes nothing, and others on the same connection.
    let mut held = Client::connect(&edge, Via::H2).await;
    let _held = within("a head", held.send(request("GET", "/").body(Body::whole("")).unwrap()).await).await.unwrap();
    for _ in 0..4 {
        assert_eq!(edge.get("/").await.body.len(), 20 * FRAMES);
    }
}

/// What the endpoint had sent when they left is no fault of its own, in however many pieces it comes.
#[tokio::test]
async fn clients_that_leave_together_do_not_end_the_connection_for_others() {
    const LEAVING: usize = 100;
    const PIECES: u8 = 5;
    let origin = origin(&[(MAX_CONCURRENT_STREAMS, 1000)], |_, mut peer| async move {
        let stays = peer.request().await?;
        peer.send(response(stays, END_HEADERS, &[OK])).await.ok()?;
        let mut leave = Vec::new();
        while leave.len() < LEAVING {
            let stream = peer.request().await?;
            peer.send(response(stream, END_HEADERS, &[OK])).await.ok()?;
            leave.push(stream);
        }
        for _ in 0..LEAVING {
            assert_eq!(peer.next().await?.kind, RST_STREAM);
        }
        for piece in 0..PIECES {
            let late = leave.iter().flat_map(|stream| frame(DATA, 0, *stream, b"late")).collect::<Vec<_>>();
            peer.send([late, frame(PING, 0, 0, &[piece; 8])].concat()).await.ok()?;
            while peer.any().await?.kind != PING {}
        }
        peer.send(frame(DATA, END_STREAM, stays, b"whole")).await.ok()?;
        answers_all(peer).await
    })
    .await;
    let edge = edge_with(&origin, "retry = { attempts = 1 }\nkeepalive = { requests = 1000 }").await;
    let (mut stays, mut leave) = (Frames::connect(&edge, &[]).await, Frames::connect(&edge, &[]).await);
    stays.send(get(1, "/")).await.unwrap();
    assert_eq!(within("a head", stays.of(1)).await.unwrap().status(), 200);
    let streams: Vec<u32> = (0..LEAVING as u32).map(|n| 2 * n + 1).collect();
    leave.send(streams.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<_>>()).await.unwrap();
    for _ in &streams {
        assert_eq!(within("a head", leave.next()).await.unwrap().status(), 200);
    }
    leave.send(streams.iter().flat_map(|stream| rst_stream(*stream, CANCEL)).collect::<Vec<_>>()).await.unwrap();
    let last = within("the end", stays.of(1)).await.unwrap();
    assert_eq!((last.kind, &last.payload[..]), (DATA, &b"whole"[..]));
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!(origin.connections(), 1);
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable");
}

/// Classes of statuses end at 5xx.
#[tokio::test]
async fn a_status_above_599_is_refused() {
    for (status, expected) in [(599, 599), (600, 502), (999, 502)] {
        let origin = H2Origin::answers(move |_| async move {
            http::Response::builder().status(status).body(Body::whole("x")).unwrap()
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
        assert_eq!(edge.get("/").await.status, expected, "{status}");
    }
}
