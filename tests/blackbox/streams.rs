//! Messages that are long, slow or both ways at once: tunnels, events, gRPC, gigabytes, and clients that
//! read or write slowly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::harness::*;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Changes protocol, sends back four bytes at a time, and says goodbye once the other side has ended.
async fn echo() -> Origin {
    Origin::serves(|mut connection| async move {
        let request = connection.request().await.unwrap();
        assert_eq!((request.fields.get("connection"), request.fields.get("upgrade")), ("upgrade", "websocket"));
        connection.wire.send(SWITCH).await.unwrap();
        while let Ok(data) = connection.wire.exact(4).await {
            connection.wire.send(data).await.unwrap();
        }
        let _gone = connection.wire.send("bye").await;
    })
    .await
}

async fn talks<S: AsyncRead + AsyncWrite + Unpin>(mut client: Wire<S>) {
    client.send(UPGRADE).await.unwrap();
    let response = within("101", client.response("GET")).await.unwrap();
    assert_eq!((response.status, response.fields.get("upgrade")), (101, "websocket"));
    assert!(response.fields.get("connection").eq_ignore_ascii_case("upgrade"), "{response:?}");
    for said in ["ping", "pong", "\0\r\n\r"] {
        client.send(said).await.unwrap();
        assert_eq!(within("an echo", client.exact(4)).await.unwrap(), said.as_bytes());
    }
    client.shutdown().await.unwrap();
    assert_eq!(within("the end", client.rest()).await, b"bye");
}

#[tokio::test]
async fn a_tunnel_passes_both_ways_until_each_side_has_ended() {
    let origin = echo().await;
    let edge = Edge::before(&origin).await;
    talks(edge.raw().await).await;
    talks(Wire::new(tls(&edge, "localhost", &[b"http/1.1"]).await)).await;
    let line = edge.logged("/ws").await;
    assert_eq!((&line["status"], &line["bytes_sent"], &line["bytes_received"]), (&101.into(), &15.into(), &12.into()));
    edge.in_flight(origin.address(), 0).await;
}

#[tokio::test]
async fn a_silent_tunnel_is_closed_on_both_sides() {
    let origin = echo().await;
    let edge = Edge::start(upstream(&[origin.address()], "timeout = { tunnel_idle = \"200ms\" }") + ROUTE).await;
    let mut client = edge.raw().await;
    client.send(UPGRADE).await.unwrap();
    assert_eq!(within("101", client.response("GET")).await.unwrap().status, 101);
    within("the end of the tunnel", client.rest()).await;
    edge.in_flight(origin.address(), 0).await;
    assert_eq!(edge.logged("/ws").await["reason"], "tunnel-idle");
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    for head in ["Transfer-Encoding: chunked\r\n", "Connection: close\r\n"] {
        let chunked = head.starts_with("Transfer");
        let next = Arc::new(Semaphore::new(0));
        let allowed = Arc::clone(&next);
        let origin = Origin::serves(move |mut connection| {
            let next = Arc::clone(&allowed);
            async move {
                connection.request().await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{head}\r\n");
                connection.wire.send(head).await.unwrap();
                for n in 0..5 {
                    next.acquire().await.unwrap().forget();
                    let event = format!("data: {n}\n\n");
                    let event = if chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
                    connection.wire.send(event).await.unwrap();
                }
                if chunked {
                    connection.wire.send("0\r\n\r\n").await.unwrap();
                }
            }
        })
        .await;
        let edge = Edge::before(&origin).await;
        for via in Via::ALL {
            let mut client = Client::connect(&edge, via).await;
            let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
            let mut body = within("the head before any event", response).await.unwrap().into_body();
            for n in 0..5 {
                next.add_permits(1);
                let event = within("an event", body.frame()).await.unwrap().unwrap();
                assert_eq!(event.into_data().unwrap(), format!("data: {n}\n\n"), "{via:?}");
            }
            assert!(within("the end", body.collect()).await.unwrap().to_bytes().is_empty(), "{via:?}");
        }
    }
}

/// As gRPC does it: what comes goes back frame by frame, and the status is in the trailers. Without a body
/// there is only a head.
async fn grpc() -> H2Origin {
    H2Origin::answers(|request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let response = Response::builder().header("content-type", "application/grpc");
        if request.uri().path() == "/nothing" {
            return response.header("grpc-status", "5").body(Body::whole("")).unwrap();
        }
        let (feed, body) = Body::fed();
        tokio::spawn(async move {
            let mut incoming = request.into_body();
            while let Some(Ok(frame)) = incoming.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                if !data.is_empty() && feed.send(Frame::data(data)).await.is_err() {
                    return;
                }
            }
            let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let _client_left = feed.send(Frame::trailers(status)).await;
        });
        response.body(body).unwrap()
    })
    .await
}

fn call(path: &str, body: Body) -> http::Request<Body> {
    request("POST", path).header("te", "trailers").header("content-type", "application/grpc").body(body).unwrap()
}

#[tokio::test]
async fn grpc_calls_pass_with_their_trailers() {
    let origin = grpc().await;
    let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
    for via in [Via::H2, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        let unary = client.send(call("/unary", Body::whole("hello"))).await;
        let answer = within("an answer", async { Answer::read(unary.await.unwrap()).await.unwrap() }).await;
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{via:?}");
        assert_eq!(answer.trailers["grpc-status"], "0");

        let nothing = client.send(call("/nothing", Body::whole(""))).await;
        let answer = within("an answer", async { Answer::read(nothing.await.unwrap()).await.unwrap() }).await;
        assert_eq!((answer.status, answer.field("grpc-status")), (200, "5"));

        let (feed, body) = Body::fed();
        let both_ways = client.send(call("/both", body)).await;
        let mut body = within("the head", both_ways).await.unwrap().into_body();
        for said in ["one", "two", "three"] {
            feed.send(Frame::data(said.into())).await.unwrap();
            let back = within("an answer to each message", body.frame()).await.unwrap().unwrap();
            assert_eq!(back.into_data().unwrap(), said, "{via:?}");
        }
        drop(feed);
        let trailers = within("the trailers", body.frame()).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }
}

#[tokio::test]
async fn any_client_may_speak_to_an_upstream_of_http_2() {
    let origin = H2Origin::answers(|request| async move {
        let seen = format!("{} {} {:?}", request.method(), request.uri(), request.version());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Body::whole([seen.as_bytes(), b" ", &body].concat()))
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.ask(request("PUT", "/x?y"), "body").await;
        assert_eq!(answer.text(), "PUT http://localhost/x?y HTTP/2.0 body", "{via:?}");
    }
}

const BLOCK: usize = 64 * 1024;

/// Sends or takes as many blocks as the path says.
pub async fn bulk() -> Origin {
    Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request_head().await {
            let bytes = request.target[1..].parse::<usize>().unwrap() * BLOCK;
            if request.method == "GET" {
                connection.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")).await.unwrap();
                let block = vec![b'x'; BLOCK];
                for _ in 0..bytes / BLOCK {
                    if connection.wire.send(&block).await.is_err() {
                        return;
                    }
                }
            } else {
                assert_eq!(request.fields.get("content-length"), bytes.to_string());
                connection.wire.discard(bytes).await.unwrap();
                connection.reply(&ok("taken"), false).await;
            }
        }
    })
    .await
}

async fn transfer(blocks: usize, vias: &[Via]) {
    let origin = bulk().await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"2GiB\"\n").await;
    let path = format!("/{blocks}");
    for via in vias {
        let mut client = Client::connect(&edge, *via).await;
        assert_eq!(client.get("/1").await.body.len(), BLOCK);
        let before = edge.rss_kib();
        let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
        let mut body = within("the head", response).await.unwrap().into_body();
        let mut received = 0;
        while let Some(frame) = within("data", body.frame()).await {
            received += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(received, blocks * BLOCK, "{via:?}");

        let (feed, body) = Body::fed();
        let head = request("POST", &path).header("content-length", blocks * BLOCK);
        let response = client.send(head.body(body).unwrap()).await;
        let block = Bytes::from(vec![b'y'; BLOCK]);
        let feeding = async {
            for _ in 0..blocks {
                within("the edge to take data", feed.send(Frame::data(block.clone()))).await.unwrap();
            }
            drop(feed);
        };
        let ((), response) = tokio::join!(feeding, response);
        assert_eq!(Answer::read(response.unwrap()).await.unwrap().text(), "taken", "{via:?}");
        let grown = edge.rss_kib().saturating_sub(before);
        assert!(grown < 32 * 1024, "{via:?}: {grown} KiB for bodies that pass through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_little_memory() {
    transfer(1024, &[Via::H2, Via::TlsH1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_passes_each_way_in_little_memory() {
    transfer(16 * 1024, &[Via::H1, Via::TlsH2]).await;
}

/// A client whose kernel takes little ahead of it.
pub async fn slow_reader(edge: &Edge) -> Wire<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Wire::new(socket.connect(edge.address()).await.unwrap())
}

#[tokio::test]
async fn slow_readers_do_not_hold_the_endpoint() {
    const CLIENTS: usize = 200;
    let body = "b".repeat(48 * 1024);
    let origin = Origin::replies(ok(body.clone())).await;
    let edge = Edge::before(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = slow_reader(&edge).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    origin.has(CLIENTS).await;
    // None of them has read a byte yet.
    edge.in_flight(origin.address(), 0).await;
    for mut client in clients {
        assert_eq!(within("a body", client.response("GET")).await.unwrap().text(), body);
    }
}

/// `buffer.response` bounds what a slow client costs; the buffers of the codecs count too.
#[tokio::test]
async fn slow_readers_cost_what_is_configured() {
    const CLIENTS: u64 = 50;
    let origin = Origin::replies(ok("b".repeat(16 << 20))).await;
    let limit = "[client]\nsend_timeout = \"1s\"\n".to_owned();
    let buffer = "buffer = { response = \"64KiB\" }\n";
    let edge = Edge::start(limit + &upstream(&[origin.address()], "") + ROUTE + buffer).await;
    let before = edge.rss_kib();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = slow_reader(&edge).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    origin.has(CLIENTS as usize).await;
    // By the time that they are given up, everything that may be held for them has been.
    let mut most = 0;
    until("the end of all", async || {
        most = most.max(edge.rss_kib());
        (edge.endpoint(origin.address()).await["in_flight"] == 0).then_some(())
    })
    .await;
    let each = most.saturating_sub(before) / CLIENTS;
    assert!(each < 512, "{each} KiB a slow reader with a buffer of 64 KiB");
}

#[tokio::test]
async fn slow_writers_do_not_hold_the_endpoint() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    assert_eq!(edge.get("/quick").await.status, 200);
    assert_eq!((origin.take().target.as_str(), origin.connections()), ("/quick", 1));
    client.send("world").await.unwrap();
    assert_eq!(within("an answer", client.response("POST")).await.unwrap().status, 200);
    assert_eq!(origin.take().body, b"helloworld");
}

/// A client that waits for a slow endpoint has not fallen behind: each part reaches it when it comes.
#[tokio::test]
async fn a_body_that_pauses_goes_on() {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 100000"] {
        let origin = Origin::serves(move |mut connection| async move {
            connection.request().await;
            connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nfirst\r\n")).await.unwrap();
            // So long that the edge has stopped to look for more.
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

/// Whoever reads nothing for a while is slow, and in a tunnel only silence on both sides is too long.
#[tokio::test]
async fn a_tunnel_outlasts_an_endpoint_that_pauses() {
    const BYTES: usize = 16 << 20;
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        connection.wire.send(head).await.unwrap();
        // Longer than `timeout.send`, with the buffers between full.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        connection.wire.exact(BYTES).await.unwrap();
        connection.wire.send("all of it").await.unwrap();
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "timeout = { send = \"300ms\" }") + ROUTE).await;
    let mut client = edge.raw().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert_eq!(within("101", client.response_head()).await.unwrap().status, 101);
    within("the edge to take all", client.send(vec![b'x'; BYTES])).await.unwrap();
    assert_eq!(within("an answer", client.exact(9)).await.unwrap(), b"all of it");
}
