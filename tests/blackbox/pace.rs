//! How slowly a client may send and take, and what is not held to that (C2, C3).

use std::time::Duration;

use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::frames::{DATA, Frames, RST_STREAM, get};
use crate::harness::*;
use crate::streams::{bulk, slow_reader};

const BEAT: Duration = Duration::from_millis(20);

async fn with_client(origin: &Origin, client: &str) -> Edge {
    Edge::start(format!("[client]\n{client}\n") + &upstream(&[origin.address()], "") + ROUTE).await
}

/// C2: a byte now and then is no silence, and holds an endpoint all the same.
#[tokio::test]
async fn a_body_that_dribbles_is_given_up() {
    let origin = Origin::replies(ok("")).await;
    let edge = with_client(&origin, "body_timeout = \"400ms\"\nrate_min = \"100KiB/s\"").await;
    for framing in ["Content-Length: 9999", "Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let (mut reading, mut writing) = edge.raw().await.split();
        writing.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n270f\r\n")).await.unwrap();
        let dribble = async {
            while writing.send("a").await.is_ok() {
                tokio::time::sleep(BEAT).await;
            }
        };
        let response = tokio::select! {
            response = within("408", reading.response("POST")) => response.unwrap(),
            () = dribble => panic!("no answer"),
        };
        assert_eq!((response.status, response.fields.get("connection")), (408, "close"), "{framing}");
        assert_eq!(response.fields.get("x-tollgate-reason"), "body-too-slow", "{framing}");
    }
    for via in [Via::H2, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        let dribble = async {
            while feed.send(Frame::data("a".into())).await.is_ok() {
                tokio::time::sleep(BEAT).await;
            }
            std::future::pending::<()>().await;
        };
        let response = tokio::select! {
            response = within("408", response) => response.unwrap(),
            () = dribble => unreachable!("it waits"),
        };
        assert_eq!(response.status(), 408, "{via:?}");
        assert_eq!(response.headers()["x-tollgate-reason"], "body-too-slow", "{via:?}");
        assert_eq!(client.get("/").await.status, 200, "{via:?}: the connection is not to blame");
    }
    assert!(origin.count() == 2, "a part was taken for the whole");
}

/// What begins to be answered is a dialogue, as gRPC has it, and may have its pauses.
#[tokio::test]
async fn a_body_whose_answer_has_begun_has_no_rate() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        while let Ok(data) = connection.wire.chunk().await {
            let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
            connection.wire.send(chunk).await.unwrap();
            if data.is_empty() {
                break;
            }
        }
    })
    .await;
    let edge = with_client(&origin, "body_timeout = \"400ms\"\nrate_min = \"100KiB/s\"").await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = within("a head", client.send(request("POST", "/").body(body).unwrap()).await).await.unwrap();
        let talking = async {
            for _ in 0..60 {
                tokio::time::sleep(BEAT).await;
                feed.send(Frame::data("a".into())).await.unwrap();
            }
            drop(feed);
        };
        let ((), answer) = tokio::join!(talking, within("the end", Answer::read(response)));
        assert_eq!(answer.unwrap().text(), "a".repeat(60), "{via:?}");
    }
}

async fn sips<S: AsyncRead + AsyncWrite + Unpin>(edge: &Edge, mut client: S, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let sipping = async {
        while client.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {
            tokio::time::sleep(BEAT).await;
        }
    };
    tokio::select! {
        line = edge.logged(path) => assert_eq!(line["reason"], "client-too-slow", "{line}"),
        () = sipping => assert_eq!(edge.logged(path).await["reason"], "client-too-slow"),
    }
}

async fn little_ahead(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// C3: a byte now and then does not hold a response.
#[tokio::test]
async fn a_client_that_sips_is_given_up() {
    let origin = bulk().await;
    let edge = with_client(&origin, "send_timeout = \"400ms\"\nrate_min = \"1MiB/s\"").await;
    sips(&edge, little_ahead(edge.address()).await, "/256").await;
    let over_tls = try_tls(little_ahead(edge.tls_address()).await, "localhost", &[]).await.unwrap();
    sips(&edge, over_tls, "/512").await;

    let mut client = Frames::connect(&edge, &[]).await;
    client.grant(0, 1 << 30).await.unwrap();
    client.send(get(1, "/64")).await.unwrap();
    let end = within("the end of the stream", async {
        loop {
            let frame = client.of(1).await.unwrap();
            if frame.kind != DATA {
                if frame.kind == RST_STREAM {
                    return frame;
                }
                continue;
            }
            tokio::time::sleep(BEAT).await;
            client.grant(1, 100).await.unwrap();
        }
    })
    .await;
    assert_eq!(end.kind, RST_STREAM);
    assert_eq!(edge.logged("/64").await["reason"], "client-too-slow");
    edge.in_flight(origin.address(), 0).await;
}

/// C3: what the kernel takes and cannot send is no response that was taken. Without a bound it would be all of this.
#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_before_the_kernel_has_it_all() {
    let origin = bulk().await;
    let edge = with_client(&origin, "send_timeout = \"300ms\"").await;
    let mut client = Wire::new(little_ahead(edge.address()).await);
    client.send("GET /32 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let logged = edge.logged("/32").await;
    assert_eq!(logged["reason"], "client-send-timeout", "{logged}");
    edge.in_flight(origin.address(), 0).await;
}

/// Who waits for its origin is not slow, however little comes.
#[tokio::test]
async fn what_has_little_to_say_has_no_rate() {
    let origin = Origin::serves(|mut connection| async move {
        let Some(request) = connection.request_head().await else { return };
        if request.target == "/tunnel" {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            connection.wire.send(switch).await.unwrap();
            while let Ok(byte) = connection.wire.exact(1).await {
                connection.wire.send(byte).await.unwrap();
            }
            return;
        }
        // Longer than any limit.
        tokio::time::sleep(Duration::from_millis(900)).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        connection.wire.send(head).await.unwrap();
        for _ in 0..30 {
            tokio::time::sleep(BEAT).await;
            connection.wire.send("data: x\n\n").await.unwrap();
        }
    })
    .await;
    let limits = "body_timeout = \"300ms\"\nsend_timeout = \"300ms\"\nrate_min = \"1GiB/s\"";
    let edge = with_client(&origin, limits).await;
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.get("/events").await;
        assert_eq!(answer.text(), "data: x\n\n".repeat(30), "{via:?}");
    }
    let mut tunnel = edge.raw().await;
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert_eq!(within("101", tunnel.response("GET")).await.unwrap().status, 101);
    for _ in 0..30 {
        tokio::time::sleep(BEAT).await;
        tunnel.send("x").await.unwrap();
        assert_eq!(within("an echo", tunnel.exact(1)).await.unwrap(), b"x");
    }
}

/// The kernel takes no write until a third of its buffer is free, and the client takes what is in there meanwhile.
#[tokio::test]
async fn a_steady_client_behind_a_large_buffer_is_not_silent() {
    let origin = bulk().await;
    let edge = with_client(&origin, "send_timeout = \"300ms\"").await;
    let mut client = TcpStream::connect(edge.address()).await.unwrap();
    client.write_all(b"GET /256 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut room, mut taken) = (vec![0; 16 * 1024], 0);
    // So much that what both kernels hold is taken several times over.
    while taken < 12 << 20 {
        let bytes = within("more", client.read(&mut room)).await.unwrap();
        assert!(bytes > 0, "cut off after {taken} bytes");
        taken += bytes;
        if taken > 4 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The end of a connection stands for the end of such a body, so it must not look like one.
#[tokio::test]
async fn a_cut_body_of_unknown_length_ends_with_a_reset() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na part\r\n";
        connection.wire.send(cut).await.unwrap();
    })
    .await;
    let edge = with_client(&origin, "").await;
    let mut clear = TcpStream::connect(edge.address()).await.unwrap();
    let mut over_tls = tls(&edge, "localhost", &[]).await;
    let clients: [&mut (dyn Duplex + Unpin); 2] = [&mut clear, &mut over_tls];
    for client in clients {
        client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let end = within("the end", client.read_to_end(&mut said)).await;
        assert!(end.is_err(), "it looks whole: {}", said.escape_ascii());
    }
}

trait Duplex: AsyncRead + AsyncWrite {}
impl<S: AsyncRead + AsyncWrite> Duplex for S {}

/// Its end stands behind more requests than are taken in.
#[tokio::test]
async fn a_client_that_leaves_behind_many_requests_is_noticed() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.rest().await;
    })
    .await;
    let edge = with_client(&origin, "").await;
    for over_tls in [false, true] {
        let path = format!("/{over_tls}");
        let requests =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n") + &"GET /next HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
        if over_tls {
            let mut client = Wire::new(tls(&edge, "localhost", &[]).await);
            client.send(requests).await.unwrap();
            client.shutdown().await.unwrap();
        } else {
            edge.raw().await.send(requests).await.unwrap();
        }
        assert_eq!(edge.logged(&path).await["reason"], "client-gone", "{path}");
    }
    edge.in_flight(origin.address(), 0).await;
}

/// A slow reader that is no slower than it may be gets all of it.
#[tokio::test]
async fn a_slow_client_that_keeps_the_rate_is_served() {
    let origin = bulk().await;
    let edge = with_client(&origin, "send_timeout = \"400ms\"\nrate_min = \"10KiB/s\"").await;
    let mut client = slow_reader(&edge).await;
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.response_head().await.unwrap();
    for _ in 0..32 {
        within("more", client.exact(4096)).await.unwrap();
        tokio::time::sleep(BEAT).await;
    }
    assert_eq!(edge.logged("/2").await["reason"], serde_json::Value::Null);
}
