//! Limits of time and of number: each one fires, and says that it did.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body::Frame;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::harness::*;
use crate::streams::{bulk, slow_reader};

/// The limit that a test is about; the others stay long.
async fn with_limit(origin: &Origin, client: &str, upstream_keys: &str) -> Edge {
    Edge::start(format!("[client]\n{client}\n") + &upstream(&[origin.address()], upstream_keys) + ROUTE).await
}

#[tokio::test]
async fn a_head_has_an_absolute_limit() {
    let origin = Origin::replies(ok("")).await;
    let edge = with_limit(&origin, "header_timeout = \"300ms\"", "").await;
    let mut silent = edge.raw().await;
    silent.send("GET / HTTP/1.1\r\nHo").await.unwrap();
    let response = within("408", silent.response("GET")).await.unwrap();
    assert_eq!((response.status, response.fields.get("connection")), (408, "close"));
    assert_eq!(response.fields.get("x-tollgate-reason"), "header-timeout");
    assert_eq!(within("the close", silent.rest()).await, b"");

    let mut over_tls = Wire::new(tls(&edge, "localhost", &[]).await);
    over_tls.send("GET / HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(within("408", over_tls.response("GET")).await.unwrap().status, 408);

    // A byte now and then does not win time.
    let mut trickle = edge.raw().await;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let dripping = async {
        trickle.send("GET / HTTP/1.1\r\nX: ").await?;
        loop {
            pace.tick().await;
            trickle.send("x").await?;
        }
        #[allow(unreachable_code)]
        Ok::<_, std::io::Error>(())
    };
    within("the edge to lose its patience", dripping).await.unwrap_err();
    assert_eq!(origin.bytes(), 0);
}

#[tokio::test]
async fn a_handshake_has_a_limit() {
    let origin = Origin::replies(ok("")).await;
    let edge = with_limit(&origin, "handshake_timeout = \"200ms\"", "").await;
    let mut silent = Wire::new(TcpStream::connect(edge.tls_address()).await.unwrap());
    // The start of a hello.
    silent.send(b"\x16\x03\x01").await.unwrap();
    within("the end of the handshake", silent.rest()).await;

    // C1: the limit is one for all of it, also if each byte of the hello comes in a segment of its own.
    let stream = TcpStream::connect(edge.tls_address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut dripping = Wire::new(stream);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 400]].concat();
    let to_the_end = async {
        for byte in hello {
            pace.tick().await;
            if dripping.send([byte]).await.is_err() {
                return;
            }
        }
        panic!("all of a hello was taken");
    };
    within("the edge to lose its patience", to_the_end).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::replies(ok("")).await;
    let edge = with_limit(&origin, "idle_timeout = \"200ms\"", "").await;
    for first in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = edge.raw().await;
        if !first.is_empty() {
            client.send(first).await.unwrap();
            assert_eq!(client.response("GET").await.unwrap().status, 200);
        }
        assert_eq!(within("the close", client.rest()).await, b"", "after {first:?}");
    }
    for via in [Via::H2, Via::TlsH2, Via::TlsH1] {
        let mut client = Client::connect(&edge, via).await;
        assert_eq!(client.get("/").await.status, 200);
        client.closed().await;
    }
}

#[tokio::test]
async fn a_body_may_not_fall_silent() {
    let origin = Origin::replies(ok("")).await;
    let edge = with_limit(&origin, "body_timeout = \"200ms\"", "").await;
    // One that is read ahead, one that is too long for it, and one of unknown length.
    for framing in ["Content-Length: 10", "Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = edge.raw().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhe")).await.unwrap();
        let response = within("408", client.response("POST")).await.unwrap();
        assert_eq!((response.status, response.fields.get("connection")), (408, "close"), "{framing}");
        assert_eq!(within("the close", client.rest()).await, b"");
    }
    for via in [Via::H2, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        feed.send(Frame::data("he".into())).await.unwrap();
        assert_eq!(within("408", response).await.unwrap().status(), 408, "{via:?}");
        // The connection is not to blame.
        assert_eq!(client.get("/").await.status, 200);
    }
    assert!(origin.count() == 2, "a part was taken for the whole");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let origin = bulk().await;
    let edge = with_limit(&origin, "send_timeout = \"300ms\"", "").await;
    let mut client = slow_reader(&edge).await;
    client.send("GET /1024 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let line = edge.logged("/1024").await;
    assert_eq!(line["reason"], "client-send-timeout", "{line}");
    edge.in_flight(origin.address(), 0).await;
    assert!(within("the end", client.rest()).await.len() < 64 << 20);
}

#[tokio::test]
async fn an_endpoint_may_not_fall_silent_within_its_body() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = with_limit(&origin, "", "timeout = { read = \"300ms\" }").await;
    for via in Via::ALL {
        let path = format!("/{via:?}");
        let mut client = Client::connect(&edge, via).await;
        let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
        let whole = within("an end", async { Answer::read(response.await?).await }).await;
        assert!(whole.is_err() || whole.unwrap().status == 504, "{via:?} took a part for the whole");
        assert_eq!(edge.logged(&path).await["reason"], "read-timeout");
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_given_up() {
    let origin = Origin::serves(|connection| async move {
        let _open = connection;
        std::future::pending().await
    })
    .await;
    let keys = "timeout = { send = \"300ms\" }\nretry = { attempts = 1 }";
    let edge =
        Edge::start("[client]\nbody_max = \"1GiB\"\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    let mut client = edge.raw().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 256 << 20)).await.unwrap();
    let (block, mut sent) = (vec![b'x'; 1 << 20], 0);
    // The kernels between take some; then it stops until the edge gives up, and takes the rest to no purpose.
    while sent < 256 && within("the edge", client.send(&block)).await.is_ok() {
        sent += 1;
    }
    assert_eq!(within("a response", client.response("POST")).await.unwrap().status, 504);
    assert_eq!(edge.logged("/").await["reason"], "send-timeout");
}

/// An address whose queue of connections is full: the kernel answers no further SYN.
pub struct Blackhole {
    pub address: SocketAddr,
    _full: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        Self { address, _full: full, _queued: queued }
    }
}

#[tokio::test]
async fn connecting_has_a_limit() {
    let hole = Blackhole::open().await;
    let address = hole.address;
    let edge = Edge::start(upstream(&[address], "timeout = { connect = \"200ms\" }") + ROUTE).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (504, "connect-timeout"));
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let edge =
        Edge::start(String::from("[server]\nconnections_max = 4\n") + &upstream(&[origin.address()], "") + ROUTE).await;
    let mut inside = Vec::new();
    for _ in 0..4 {
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        inside.push(client);
    }
    origin.has(4).await;
    let mut waiting = edge.raw().await;
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let status = edge.status().await;
    assert_eq!((&status["connections"]["open"], &status["connections"]["max"]), (&4.into(), &4.into()));
    allowed.add_permits(5);
    for client in &mut inside {
        assert_eq!(within("an answer", client.response("GET")).await.unwrap().text(), "held");
    }
    // Which worker has the free place is up to the kernel.
    inside.clear();
    assert_eq!(within("a place", waiting.response("GET")).await.unwrap().text(), "held");
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let config = Edge::standard("[[route]]\npath = \"/\"\ntext = \"in\"\n");
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let edge = Edge::try_start(folder, "ulimit -n 192;").await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..250 {
        crowd.push(edge.raw().await);
    }
    assert_eq!(edge.admin("/livez").await.status, 200);
    let open = edge.status().await["connections"]["open"].as_u64().unwrap();
    assert!(open < 192, "{open} connections with 192 descriptors");
    drop(crowd);
    assert_eq!(edge.get("/").await.text(), "in");
}
