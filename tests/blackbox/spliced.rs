//! Long content between bare sockets, which the edge moves without reading it: what arrives, what is counted, and what
//! becomes of each side when the other fails.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::harness::*;
use crate::streams::slow_reader;

const KIB: usize = 1024;
const LONG: usize = 200 * KIB;

/// The numbers below a prime, over and over: no buffer ends where they do. Two sizes begin at different ones.
fn content(size: usize) -> Vec<u8> {
    let numbers: Vec<u8> = (0..251).map(|at| ((at + size) % 251) as u8).collect();
    let mut content = numbers.repeat(size / numbers.len() + 1);
    content.truncate(size);
    content
}

fn head(size: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
}

/// How an origin writes its responses.
#[derive(Debug, Clone, Copy)]
enum Written {
    AtOnce,
    HeadFirst,
    InPieces(usize),
}

/// Answers with as many bytes as the path says.
async fn origin(how: Written) -> Origin {
    Origin::serves(move |mut connection| async move {
        while let Some(request) = connection.request().await {
            let size = request.target[1..].parse().unwrap();
            let whole = [head(size).into_bytes(), content(size)].concat();
            let pieces = match how {
                Written::AtOnce => vec![&whole[..]],
                Written::HeadFirst => vec![&whole[..head(size).len()], &whole[head(size).len()..]],
                Written::InPieces(bytes) => whole.chunks(bytes).collect(),
            };
            for piece in pieces {
                if connection.wire.send(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await
}

/// What an origin does after a part of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Leaves,
    FallsSilent,
}

/// Sends a part of a long response.
async fn part_of(sent: usize, then: Then) -> Origin {
    Origin::serves(move |mut connection| async move {
        connection.request().await;
        connection.wire.send(head(LONG)).await.unwrap();
        connection.wire.send(&content(LONG)[..sent]).await.unwrap();
        if then == Then::FallsSilent {
            connection.wire.rest().await;
        }
    })
    .await
}

/// One worker, so that there is one pipe to speak of.
async fn edge_before(origin: &Origin, client: &str, upstream_keys: &str) -> Edge {
    let server = format!("[server]\nworkers = 1\n[client]\n{client}\n");
    Edge::start(server + &upstream(&[origin.address()], upstream_keys) + ROUTE).await
}

fn get(path: impl std::fmt::Display) -> String {
    format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// The descriptors of the edge, and what each stands for.
fn descriptors(edge: &Edge) -> BTreeMap<u64, String> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", edge.pid().as_raw_nonzero())).unwrap();
    let described = folder.filter_map(|entry| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    });
    described.collect()
}

/// The pipes that the edge has both ends of.
fn pipes(edge: &Edge) -> usize {
    let mut ends = BTreeMap::<_, usize>::new();
    for target in descriptors(edge).into_values().filter(|target| target.starts_with("pipe:")) {
        *ends.entry(target).or_default() += 1;
    }
    ends.into_values().filter(|ends| *ends == 2).count()
}

#[tokio::test]
async fn content_of_every_length_arrives_as_it_was_sent() {
    let around = |size: usize| [size - 1, size, size + 1];
    let sizes = [[1, 100, 1000], around(8 * KIB), around(16 * KIB), around(24 * KIB), around(32 * KIB)].concat();
    let longer = [around(64 * KIB), around(128 * KIB), [LONG, 1 << 20, 5 << 20]].concat();
    for how in [Written::AtOnce, Written::HeadFirst, Written::InPieces(5000), Written::InPieces(33_000)] {
        let origin = origin(how).await;
        let edge = edge_before(&origin, "", "").await;
        for via in [Via::H1, Via::TlsH1, Via::H2] {
            let mut client = Client::connect(&edge, via).await;
            for size in sizes.iter().chain(&longer) {
                let answer = client.get(&format!("/{size}")).await;
                assert!(answer.body == content(*size), "{size} bytes {how:?} {via:?}: {} came", answer.body.len());
            }
        }
        assert_eq!(origin.connections(), 1, "{how:?}: the connection is used again");
    }
}

#[tokio::test]
async fn one_pipe_serves_all_and_only_who_needs_it() {
    let origin = origin(Written::AtOnce).await;
    let edge = edge_before(&origin, "", "").await;
    let before = pipes(&edge);
    Client::connect(&edge, Via::TlsH1).await.get(&format!("/{LONG}")).await;
    edge.get("/1000").await;
    assert_eq!(pipes(&edge), before, "neither TLS nor short content goes through a pipe");
    let clients = (1..=20).map(|n| {
        let (edge, size) = (&edge, LONG + 1000 * n);
        async move {
            let mut client = Client::connect(edge, Via::H1).await;
            for _ in 0..5 {
                assert!(client.get(&format!("/{size}")).await.body == content(size), "{size} bytes");
            }
        }
    });
    join_all(clients).await;
    assert_eq!(pipes(&edge), before + 1);
}

#[tokio::test]
async fn requests_that_wait_behind_it_are_answered_in_order() {
    let origin = origin(Written::InPieces(10_000)).await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = edge.raw().await;
    let sizes = [LONG, 10, 64 * KIB, LONG + 1, 0, 64 * KIB];
    client.send(sizes.map(get).concat()).await.unwrap();
    for size in sizes {
        let response = within("an answer", client.response("GET")).await.unwrap();
        assert!(response.body == content(size), "{size} bytes");
        let line = edge.logged(&format!("/{size}")).await;
        assert_eq!((&line["bytes_sent"], &line["reason"]), (&size.into(), &serde_json::Value::Null));
    }
}

#[tokio::test]
async fn a_head_request_and_what_has_no_content_pass_beside_it() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let status = if request.method == "GET" { "304 Not Modified" } else { "200 OK" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {LONG}\r\n\r\n");
            connection.wire.send(head).await.unwrap();
        }
    })
    .await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = edge.raw().await;
    for (method, status) in [("HEAD", 200), ("GET", 304), ("HEAD", 200)] {
        client.send(get("").replace("GET", method)).await.unwrap();
        assert_eq!(within("a head", client.response(method)).await.unwrap().status, status);
    }
}

/// What comes behind the content of a response is nobody's.
#[tokio::test]
async fn what_comes_behind_it_is_not_the_next_response() {
    let origin = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            let _closed = connection.wire.send([head(LONG).as_bytes(), &content(LONG), evil].concat()).await;
        }
    })
    .await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..10 {
        assert!(client.get("/").await.body == content(LONG));
    }
}

/// E7, also for what is not stored.
#[tokio::test]
async fn content_that_the_origin_cuts_short_is_cut_for_the_client() {
    for sent in [0, 1000, 20 * KIB, 100 * KIB, LONG - 1] {
        let origin = part_of(sent, Then::Leaves).await;
        let edge = edge_before(&origin, "", "fails_max = 0").await;
        let mut client = edge.raw().await;
        client.send(get("cut")).await.unwrap();
        let response = within("a head", client.response_head()).await.unwrap();
        assert_eq!(response.fields.get("content-length"), LONG.to_string());
        assert!(within("the end", client.rest()).await == content(LONG)[..sent], "{sent} bytes");
        let line = edge.logged("/cut").await;
        assert_eq!((&line["reason"], &line["bytes_sent"]), (&"body-truncated".into(), &sent.into()), "{line}");
        edge.in_flight(origin.address(), 0).await;
    }
}

#[tokio::test]
async fn an_origin_that_falls_silent_within_it_is_given_up() {
    let origin = part_of(100 * KIB, Then::FallsSilent).await;
    let edge = edge_before(&origin, "", "timeout = { read = \"200ms\" }").await;
    let mut client = edge.raw().await;
    client.send(get("silent")).await.unwrap();
    within("a head", client.response_head()).await.unwrap();
    assert!(within("the end", client.rest()).await == content(LONG)[..100 * KIB]);
    let line = edge.logged("/silent").await;
    assert_eq!((&line["reason"], &line["bytes_sent"]), (&"read-timeout".into(), &(100 * KIB).into()), "{line}");
    edge.in_flight(origin.address(), 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_it_frees_the_endpoint() {
    let origin = part_of(100 * KIB, Then::FallsSilent).await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = edge.raw().await;
    client.send(get("left")).await.unwrap();
    within("a head", client.response_head()).await.unwrap();
    within("a part", client.exact(100 * KIB)).await.unwrap();
    edge.in_flight(origin.address(), 1).await;
    drop(client);
    assert_eq!(edge.logged("/left").await["reason"], "client-gone");
    edge.in_flight(origin.address(), 0).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_within_it() {
    let origin = origin(Written::AtOnce).await;
    let edge = edge_before(&origin, "send_timeout = \"300ms\"", "").await;
    let mut client = slow_reader(&edge).await;
    client.send(get(64 << 20)).await.unwrap();
    assert_eq!(edge.logged(&format!("/{}", 64 << 20)).await["reason"], "client-send-timeout");
    edge.in_flight(origin.address(), 0).await;
    let came = within("the end", client.rest()).await;
    assert!(came.len() < 64 << 20);
}

/// C3: what they have not taken waits in memory, and neither in a pipe nor at the endpoint.
#[tokio::test]
async fn clients_that_read_late_hold_neither_the_endpoint_nor_a_pipe_and_get_all_of_it() {
    let origin = origin(Written::AtOnce).await;
    let edge = edge_before(&origin, "", "").await;
    edge.get(&format!("/{LONG}")).await;
    let before = pipes(&edge);
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = slow_reader(&edge).await;
        client.send(get(LONG + n)).await.unwrap();
        clients.push(client);
    }
    origin.has(21).await;
    // None of them has read a byte yet.
    edge.in_flight(origin.address(), 0).await;
    assert_eq!(pipes(&edge), before);
    assert!(edge.get(&format!("/{LONG}")).await.body == content(LONG), "others are served as before");
    for (n, mut client) in clients.into_iter().enumerate() {
        let response = within("an answer", client.response("GET")).await.unwrap();
        assert!(response.body == content(LONG + n), "client {n}");
        client.send(get(10)).await.unwrap();
        assert_eq!(within("an answer", client.response("GET")).await.unwrap().body, content(10));
    }
}

/// A client that pauses in the middle, and one that takes a little at a time.
#[tokio::test]
async fn clients_that_read_now_and_then_get_all_of_it() {
    const SIZE: usize = 3 << 20;
    let origin = origin(Written::InPieces(100_000)).await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = slow_reader(&edge).await;
    client.send(get(SIZE)).await.unwrap();
    within("a head", client.response_head()).await.unwrap();
    let mut came = Vec::new();
    for step in [10, 100 * KIB, 1, 500 * KIB, 50 * KIB] {
        came.extend(within("a part", client.exact(step)).await.unwrap());
        // So long that it is behind.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    came.extend(within("the rest", client.exact(SIZE - came.len())).await.unwrap());
    assert!(came == content(SIZE));
    assert_eq!(edge.logged(&format!("/{SIZE}")).await["bytes_sent"], SIZE);
}

#[tokio::test]
async fn a_thousand_responses_leave_no_descriptor_behind() {
    let origin = origin(Written::AtOnce).await;
    let edge = edge_before(&origin, "", "keepalive = { connections = 0 }").await;
    edge.get(&format!("/{LONG}")).await;
    let rest = |edge: &Edge| descriptors(edge).len();
    let before = rest(&edge);
    for n in 0..250 {
        let whole = async {
            let mut client = Client::connect(&edge, Via::H1).await;
            for _ in 0..3 {
                assert_eq!(client.get(&format!("/{LONG}")).await.body.len(), LONG);
            }
        };
        let left = async {
            let mut client = edge.raw().await;
            client.send(get(LONG + n)).await.unwrap();
            within("a part", client.exact(KIB * (n % 190))).await.unwrap();
        };
        tokio::join!(whole, left);
    }
    until("the descriptors to be as before", async || (rest(&edge) <= before).then_some(())).await;
}

#[tokio::test]
async fn without_a_descriptor_for_a_pipe_all_is_read_and_written() {
    let origin = origin(Written::AtOnce).await;
    let edge = edge_before(&origin, "", "").await;
    let mut client = edge.raw().await;
    client.send(get(10)).await.unwrap();
    within("an answer", client.response("GET")).await.unwrap();
    let (before, open) = (pipes(&edge), descriptors(&edge));
    let lowest_free = (0..).find(|number| !open.contains_key(number));
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(edge.pid()), Resource::Nofile, Rlimit { current: lowest_free, maximum }).unwrap();
    client.send(get(LONG)).await.unwrap();
    assert!(within("an answer", client.response("GET")).await.unwrap().body == content(LONG));
    assert_eq!(pipes(&edge), before);
    prlimit(Some(edge.pid()), Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    client.send(get(LONG)).await.unwrap();
    assert!(within("an answer", client.response("GET")).await.unwrap().body == content(LONG));
    assert_eq!(pipes(&edge), before + 1);
}
