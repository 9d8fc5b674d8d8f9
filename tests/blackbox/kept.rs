//! Kept connections that the endpoint has closed meanwhile: what is sent again over a new one, and that neither
//! the endpoint nor the number of attempts pays for it.

use std::sync::Arc;

use tokio::sync::{Barrier, Semaphore, watch};

use crate::harness::*;

/// There is no second attempt, and one failure ejects the endpoint: whatever is spent or reported shows.
pub const STRICT: &str = "fails_max = 1\nretry = { attempts = 1 }";

async fn strict_edge(origin: &Origin) -> Edge {
    Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], STRICT) + ROUTE).await
}

/// Closes a connection that has carried a request when it has read one for `/stale` on it, and answers else. The
/// first `crowd` requests are answered together, so that each has a connection of its own.
async fn closes_when_asked(crowd: usize) -> Origin {
    let together = Arc::new(Barrier::new(crowd));
    let seats = Arc::new(Semaphore::new(crowd));
    Origin::serves(move |mut connection| {
        let (together, seats) = (Arc::clone(&together), Arc::clone(&seats));
        async move {
            let mut answered = 0;
            while let Some(request) = connection.request().await {
                if request.target == "/stale" && answered > 0 {
                    return;
                }
                if let Ok(seat) = seats.try_acquire() {
                    seat.forget();
                    together.wait().await;
                }
                connection.reply(&ok(""), request.method == "HEAD").await;
                answered += 1;
            }
        }
    })
    .await
}

/// The endpoint has the request and closes: it may have acted upon it.
#[tokio::test]
async fn a_connection_that_closes_upon_a_request_costs_what_may_be_repeated_nothing() {
    let origin = closes_when_asked(1).await;
    let edge = strict_edge(&origin).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for (method, body, status) in [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("OPTIONS", "", 200),
        ("DELETE", "", 200),
        ("PUT", "buffered", 200),
        ("POST", "buffered", 502),
        ("POST", "", 502),
        ("PATCH", "buffered", 502),
    ] {
        assert_eq!(client.get("/").await.status, 200, "before {method}");
        let (requests, connections) = (origin.count(), origin.connections());
        let answer = client.ask(request(method, "/stale"), body).await;
        assert_eq!(answer.status, status, "{method} {body:?}");
        let again = usize::from(status == 200);
        assert_eq!((origin.count() - requests, origin.connections() - connections), (1 + again, again), "{method}");
        let line = edge.log(|line| line["path"] == "/stale" && line["method"] == method).await;
        assert_eq!(line["attempts"], 1, "{line}");
        assert_eq!(edge.endpoint(origin.address()).await["state"], "usable", "after {method}");
    }
}

#[tokio::test]
async fn many_such_connections_do_not_use_up_the_attempts() {
    const CROWD: usize = 5;
    let origin = closes_when_asked(CROWD).await;
    let edge = strict_edge(&origin).await;
    let crowd: Vec<_> = (0..CROWD).map(|_| edge.get("/")).collect();
    futures_util::future::join_all(crowd).await;
    assert_eq!(origin.connections(), CROWD);
    for _ in 0..CROWD {
        let answer = edge.get("/stale").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(edge.endpoint(origin.address()).await["state"], "usable");
    assert_eq!(edge.metric(r#"tollgate_upstream_requests_total{outcome="broken",upstream="app"}"#).await, 0.0);
}

/// What was sent in vain over a stale connection is no attempt, and nobody has abandoned it.
#[tokio::test]
async fn a_connection_that_was_closed_is_not_counted_as_an_attempt() {
    let origin = closes_when_asked(1).await;
    let edge = strict_edge(&origin).await;
    for path in ["/", "/stale"] {
        assert_eq!(edge.get(path).await.status, 200);
    }
    assert_eq!(edge.metric(r#"tollgate_upstream_requests_total{outcome="answered",upstream="app"}"#).await, 2.0);
    assert_eq!(edge.metric(r#"tollgate_upstream_requests_total{outcome="abandoned",upstream="app"}"#).await, 0.0);
}

/// An origin that closes all that it has when it is told to, and says so for each connection.
struct Restless {
    origin: Origin,
    close: watch::Sender<()>,
    closed: Arc<Semaphore>,
}

impl Restless {
    async fn new() -> Self {
        let (close, told) = watch::channel(());
        let closed = Arc::new(Semaphore::new(0));
        let count = Arc::clone(&closed);
        let origin = Origin::serves(move |mut connection| {
            let (mut told, closed) = (told.clone(), Arc::clone(&count));
            told.mark_unchanged();
            async move {
                loop {
                    tokio::select! {
                        _ = told.changed() => break,
                        request = connection.request() => match request {
                            Some(_) => _ = connection.reply(&ok(""), false).await,
                            None => return,
                        }
                    }
                }
                drop(connection);
                closed.add_permits(1);
            }
        })
        .await;
        Self { origin, close, closed }
    }

    async fn close(&self) {
        self.close.send(()).unwrap();
        within("the close", self.closed.acquire()).await.unwrap().forget();
    }
}

/// The endpoint has closed before the request comes, whether the edge knows that already or finds it with the
/// request: no byte of it has been acted upon.
#[tokio::test]
async fn a_connection_that_was_closed_before_costs_no_request_anything() {
    let restless = Restless::new().await;
    let edge = strict_edge(&restless.origin).await;
    let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nonce";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n";
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", length, chunked] {
        for at_once in [true, false] {
            let mut client = edge.raw().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert_eq!(within("an answer", client.response("GET")).await.unwrap().status, 200);
            let before = (restless.origin.count(), restless.origin.connections());
            let closing_and_asking = async {
                restless.close().await;
                client.send(request).await.unwrap();
            };
            if at_once {
                edge.paused(closing_and_asking).await;
            } else {
                closing_and_asking.await;
            }
            let answer = within("an answer", client.response("GET")).await.unwrap();
            assert_eq!(answer.status, 200, "at once: {at_once}, {request:?}");
            let after = (restless.origin.count(), restless.origin.connections());
            assert_eq!(after, (before.0 + 1, before.1 + 1), "at once: {at_once}, {request:?}");
            // The connection made for it is the next one that closes.
            drop(client);
            restless.close().await;
        }
    }
    assert_eq!(edge.endpoint(restless.origin.address()).await["state"], "usable");
}

#[tokio::test]
async fn a_connection_that_idles_is_closed() {
    let closed = Arc::new(Semaphore::new(0));
    let count = Arc::clone(&closed);
    let origin = Origin::serves(move |mut connection| {
        let closed = Arc::clone(&count);
        async move {
            while connection.request().await.is_some() {
                connection.reply(&ok(""), false).await;
            }
            closed.add_permits(1);
        }
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "keepalive = { idle = \"1s\" }") + ROUTE).await;
    for n in 1..=2 {
        assert_eq!(edge.get("/").await.status, 200);
        assert_eq!(origin.connections(), n);
        within("the close", closed.acquire()).await.unwrap().forget();
    }
}

/// Its endpoint was looked through for idle connections while the response was on its way.
#[tokio::test]
async fn a_connection_that_comes_back_after_a_long_response_is_closed_when_it_idles() {
    let closed = Arc::new(Semaphore::new(0));
    let count = Arc::clone(&closed);
    let origin = Origin::serves(move |mut connection| {
        let closed = Arc::clone(&count);
        async move {
            while connection.request().await.is_some() {
                connection.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                // Longer than two rounds of looking.
                let mut pace = tokio::time::interval(std::time::Duration::from_millis(250));
                for _ in 0..10 {
                    pace.tick().await;
                    connection.wire.send("1\r\nx\r\n").await.unwrap();
                }
                connection.wire.send("0\r\n\r\n").await.unwrap();
            }
            closed.add_permits(1);
        }
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "keepalive = { idle = \"1s\" }") + ROUTE).await;
    assert_eq!(edge.get("/").await.text(), "x".repeat(10));
    within("the close", closed.acquire()).await.unwrap().forget();
}

/// Else a load that comes and goes would open and close them all the time.
#[tokio::test]
async fn more_connections_than_are_kept_serve_the_next_crowd_and_are_closed_when_none_comes() {
    const CROWD: usize = 3;
    const CROWDS: usize = 4;
    let closed = Arc::new(Semaphore::new(0));
    let (together, count) = (Arc::new(Barrier::new(CROWD)), Arc::clone(&closed));
    let origin = Origin::serves(move |mut connection| {
        let (together, closed) = (Arc::clone(&together), Arc::clone(&count));
        async move {
            while connection.request().await.is_some() {
                together.wait().await;
                connection.reply(&ok(""), false).await;
            }
            closed.add_permits(1);
        }
    })
    .await;
    let keys = "keepalive = { connections = 1 }";
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..CROWDS {
        let answers = tokio::join!(edge.get("/"), edge.get("/"), edge.get("/"));
        assert_eq!([answers.0.status, answers.1.status, answers.2.status], [200; CROWD]);
    }
    let opened = origin.connections();
    assert!(opened < CROWD + (CROWDS - 1) * (CROWD - 1), "{opened} connections for {CROWDS} crowds of {CROWD}");
    let surplus = u32::try_from(opened - 1).unwrap();
    within("their close", closed.acquire_many(surplus)).await.unwrap().forget();
}
