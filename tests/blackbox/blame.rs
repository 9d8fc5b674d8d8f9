//! What counts against an endpoint, and what is its client's doing or nobody's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body::Frame;

use crate::harness::frames::*;
use crate::harness::*;

/// How often an attempt ended in this way.
async fn ended(edge: &Edge, outcome: &str) -> f64 {
    edge.metric(&format!("tollgate_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"app\"}}")).await
}

async fn blames_nobody(edge: &Edge, address: std::net::SocketAddr, name: &str) {
    assert_eq!(edge.endpoint(address).await["state"], "usable", "{name}");
    for outcome in ["broken", "timed_out", "connect_failed"] {
        assert_eq!(ended(edge, outcome).await, 0.0, "{name}: {outcome}");
    }
}

/// One failure ejects the endpoint.
async fn watchful_edge(origin: &Origin, keys: &str) -> Edge {
    let keys = format!("fails_max = 1\nretry = {{ attempts = 1 }}\n{keys}");
    Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], &keys) + ROUTE).await
}

/// Takes heads and bodies and says nothing, by either protocol; what it counts is heads.
async fn silent(protocol: &str) -> (Origin, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let (count, is_h2) = (Arc::clone(&heads), protocol == "h2");
    let origin = Origin::serves(move |mut connection| {
        let heads = Arc::clone(&count);
        async move {
            if !is_h2 {
                connection.request_head().await;
                heads.fetch_add(1, Ordering::Relaxed);
                connection.wire.rest().await;
                return;
            }
            let Some(mut peer) = Frames::accept(connection.wire, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await else {
                return;
            };
            peer.grant(0, 1 << 20).await.unwrap();
            while let Some(frame) = peer.next().await {
                heads.fetch_add(usize::from(frame.kind == HEADERS), Ordering::Relaxed);
            }
        }
    })
    .await;
    (origin, heads)
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_has_abandoned_its_request() {
    for protocol in ["h1", "h2"] {
        let (origin, heads) = silent(protocol).await;
        let edge = watchful_edge(&origin, &format!("protocol = \"{protocol}\"")).await;
        for (n, via) in Via::ALL.into_iter().enumerate() {
            let mut client = Client::connect(&edge, via).await;
            let path = format!("/{via:?}");
            let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
            let waiting = tokio::spawn(response);
            until("the request at the origin", async || (heads.load(Ordering::Relaxed) == n + 1).then_some(())).await;
            waiting.abort();
            client.leave();
            assert_eq!(edge.logged(&path).await["reason"], "client-gone");
            until("an abandoned attempt", async || (ended(&edge, "abandoned").await == (n + 1) as f64).then_some(()))
                .await;
            blames_nobody(&edge, origin.address(), &path).await;
        }
        edge.in_flight(origin.address(), 0).await;
    }
}

/// One endpoint had all of the time.
#[tokio::test]
async fn an_endpoint_that_uses_up_all_of_the_time_is_to_blame() {
    let (origin, _) = silent("h1").await;
    let keys = "fails_max = 2\nretry = { attempts = 1 }\ntimeout = { total = \"200ms\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    for state in ["usable", "failing"] {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (504, "total-timeout"));
        assert_eq!(edge.endpoint(origin.address()).await["state"], state);
    }
    assert_eq!(ended(&edge, "timed_out").await, 2.0);
}

/// The endpoint has had all that there is, and waits as the edge does.
#[tokio::test]
async fn a_client_whose_upload_takes_too_long_is_to_blame_and_not_the_endpoint() {
    for protocol in ["h1", "h2"] {
        let (origin, heads) = silent(protocol).await;
        for limit in ["attempt", "total"] {
            let keys = format!(
                "protocol = \"{protocol}\"\ntimeout = {{ {limit} = \"300ms\" }}\n\
                 breaker = {{ failures = 1, window = \"10s\", open = \"60s\" }}"
            );
            let edge = watchful_edge(&origin, &keys).await;
            let seen = heads.load(Ordering::Relaxed);
            for via in [Via::H1, Via::H2] {
                let name = format!("{limit} {protocol} {via:?}");
                let mut client = Client::connect(&edge, via).await;
                let (feed, body) = Body::fed();
                let response = client.send(request("POST", "/").body(body).unwrap()).await;
                feed.send(Frame::data("a".into())).await.unwrap();
                let response = within("an answer", response).await.unwrap();
                assert_eq!(response.headers()["x-tollgate-reason"], "body-too-slow", "{name}");
                assert_eq!(response.status(), 408, "{name}");
                blames_nobody(&edge, origin.address(), &name).await;
                assert_eq!(edge.status().await["upstreams"][0]["breaker"]["state"], "closed", "{name}");
            }
            assert_eq!(heads.load(Ordering::Relaxed), seen + 2);
        }
    }
}

/// An endpoint has time limits of its own. Whether it closes with a word or without, clients that dribble take no
/// endpoint out, and open no breaker.
#[tokio::test]
async fn an_endpoint_that_gives_up_on_a_dribbling_client_is_not_to_blame() {
    let impatient = Origin::serves(|mut connection| async move {
        let Some(head) = connection.request_head().await else { return };
        if head.method == "POST" {
            // It has had a part of the body.
            connection.wire.exact(1).await.unwrap();
        }
    })
    .await;
    let keys = "breaker = { failures = 1, window = \"10s\", open = \"60s\" }";
    let edge = watchful_edge(&impatient, keys).await;
    for (number, via) in [Via::H1, Via::H2].into_iter().enumerate() {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        feed.send(Frame::data("a".into())).await.unwrap();
        let response = within("an answer", response).await.unwrap();
        let reason = response.headers()["x-tollgate-reason"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), reason), (502, "upstream-closed-early"), "{via:?}");
        blames_nobody(&edge, impatient.address(), "a dribbling client").await;
        assert_eq!(edge.status().await["upstreams"][0]["breaker"]["state"], "closed");
        assert_eq!(ended(&edge, "abandoned").await, (number + 1) as f64);
    }
    // To one that has all of the request it is another matter.
    assert_eq!(edge.get("/").await.status, 502);
    assert_eq!(edge.status().await["upstreams"][0]["breaker"]["state"], "open");
}

const PART: usize = 200_000;

/// Sends a part of an upload that is too long to be read ahead, and breaks it off once the endpoint has its head.
async fn break_off(edge: &Edge, how: How, came: impl Future<Output = ()>) {
    let part = vec![b'x'; PART];
    match how {
        How::LeaveH1 | How::LeaveChunked | How::BadChunk => {
            let mut client = edge.raw().await;
            let framing = if how == How::LeaveH1 { "Content-Length: 1000000" } else { "Transfer-Encoding: chunked" };
            client.send(format!("POST /{how:?} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
            if how != How::LeaveH1 {
                client.send(format!("{:x}\r\n", PART)).await.unwrap();
            }
            client.send(part).await.unwrap();
            came.await;
            if how == How::BadChunk {
                client.send("\r\nno size\r\n").await.unwrap();
                assert_eq!(within("400", client.response("POST")).await.unwrap().status, 400);
            }
        }
        How::LeaveH2 => {
            let mut client = Client::connect(edge, Via::TlsH2).await;
            let (feed, body) = Body::fed();
            let response = tokio::spawn(client.send(request("POST", "/LeaveH2").body(body).unwrap()).await);
            feed.send(Frame::data(part.into())).await.unwrap();
            came.await;
            response.abort();
            client.leave();
        }
        How::ResetH2 | How::WrongLengthH2 => {
            let mut client = Frames::connect(edge, &[]).await;
            let path = format!("/{how:?}");
            let head = pseudo("POST", &path).into_iter().chain([("content-length", "1000000")]);
            client.send(frame(HEADERS, END_HEADERS, 1, &block(head))).await.unwrap();
            for piece in part[..64_000].chunks(16_000) {
                client.send(frame(DATA, 0, 1, piece)).await.unwrap();
            }
            came.await;
            let end = if how == How::ResetH2 { rst_stream(1, CANCEL) } else { frame(DATA, 1, 1, b"the end") };
            client.send(end).await.unwrap();
            edge.logged(&path).await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    LeaveH1,
    LeaveChunked,
    BadChunk,
    LeaveH2,
    ResetH2,
    WrongLengthH2,
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_blames_no_endpoint() {
    use How::*;
    for protocol in ["h1", "h2"] {
        for how in [LeaveH1, LeaveChunked, BadChunk, LeaveH2, ResetH2, WrongLengthH2] {
            let (origin, heads) = silent(protocol).await;
            let keys = format!("protocol = \"{protocol}\"");
            let edge = Edge::start(
                "[server]\nworkers = 1\n".to_owned()
                    + &upstream(&[origin.address()], &format!("fails_max = 1\nretry = {{ attempts = 1 }}\n{keys}"))
                    + ROUTE
                    + "buffer = { request = \"16KiB\" }\n",
            )
            .await;
            let came = until("the head at the origin", async || (heads.load(Ordering::Relaxed) == 1).then_some(()));
            break_off(&edge, how, came).await;
            let name = format!("{how:?} over {protocol}");
            edge.logged(&format!("/{how:?}")).await;
            edge.in_flight(origin.address(), 0).await;
            blames_nobody(&edge, origin.address(), &name).await;
            assert_eq!(ended(&edge, "abandoned").await, 1.0, "{name}");
        }
    }
}

/// The answer has begun when its upload breaks.
#[tokio::test]
async fn an_upload_that_breaks_beside_its_answer_blames_no_endpoint() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = watchful_edge(&origin, "").await;
    let begun = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (path, more) in [("/bad", Some("no size\r\n")), ("/gone", None)] {
        let mut client = edge.raw().await;
        client.send(format!("POST {path} {begun}")).await.unwrap();
        assert_eq!(within("a head", client.response_head()).await.unwrap().status, 200);
        assert_eq!(within("the first part", client.exact(10)).await.unwrap(), b"5\r\nfirst\r\n");
        match more {
            Some(bad) => {
                client.send(bad).await.unwrap();
                assert_eq!(within("the end", client.rest()).await, b"", "the answer was ended as if it were whole");
            }
            None => drop(client),
        }
        let line = edge.logged(path).await;
        assert_ne!(line["reason"], serde_json::Value::Null, "{line}");
        edge.in_flight(origin.address(), 0).await;
        blames_nobody(&edge, origin.address(), path).await;
    }
    let mut client = Frames::connect(&edge, &[]).await;
    let head = frame(HEADERS, END_HEADERS, 1, &block(pseudo("POST", "/reset")));
    client.send([head, frame(DATA, 0, 1, b"hello")].concat()).await.unwrap();
    assert_eq!(within("a head", client.of(1)).await.unwrap().status(), 200);
    client.send(rst_stream(1, CANCEL)).await.unwrap();
    assert_ne!(edge.logged("/reset").await["reason"], serde_json::Value::Null);
    edge.in_flight(origin.address(), 0).await;
    blames_nobody(&edge, origin.address(), "/reset").await;
}

/// Many streams fall silent in health; the limit ends them, and that is all.
#[tokio::test]
async fn a_response_that_falls_silent_blames_no_endpoint() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = watchful_edge(&origin, "timeout = { read = \"200ms\" }").await;
    for via in Via::ALL {
        let path = format!("/{via:?}");
        let mut client = Client::connect(&edge, via).await;
        let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
        let whole = within("an end", async { Answer::read(response.await.unwrap()).await }).await;
        assert!(whole.is_err(), "{via:?} took a part for the whole");
        assert_eq!(edge.logged(&path).await["reason"], "read-timeout");
        blames_nobody(&edge, origin.address(), &path).await;
    }
}

/// A response that breaks off is another thing.
#[tokio::test]
async fn a_response_that_breaks_off_is_the_endpoints_failure() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
    })
    .await;
    let edge = watchful_edge(&origin, "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    let _cut = within("an end", async { Answer::read(response.await?).await }).await;
    edge.endpoint_is(origin.address(), "failing").await;
}
