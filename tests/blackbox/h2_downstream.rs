//! Clients of HTTP/2: what is refused, which fields and trailers reach the origin, and streams that take nothing.

use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::harness::frames::*;
use crate::harness::*;
use crate::streams::bulk;

type Fields = Vec<(String, Vec<u8>)>;

/// A request with these fields behind, or in place of, the ordinary ones.
fn fields<V: AsRef<[u8]>>(set: &[(&str, V)]) -> Fields {
    let mut fields: Fields =
        pseudo("POST", "/").iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    for (name, value) in set {
        match fields.iter_mut().find(|(known, _)| name.starts_with(':') && known == name) {
            Some((_, old)) => *old = value.as_ref().to_vec(),
            None => fields.push(((*name).to_owned(), value.as_ref().to_vec())),
        }
    }
    fields
}

/// How a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    By(u16),
    /// Malformed (RFC 9113 §8.1.1).
    ByReset,
    /// So malformed that the connection ends.
    ByEnd,
}

/// HEADERS with these fields, in as many frames as it takes.
fn head(stream: u32, fields: &Fields) -> Vec<u8> {
    const PIECE: usize = 16_000;
    let block = block(fields.iter().map(|(name, value)| (name, value)));
    let pieces = block.len().div_ceil(PIECE);
    let frames = block.chunks(PIECE).enumerate().map(|(n, piece)| {
        let kind = if n == 0 { HEADERS } else { CONTINUATION };
        frame(kind, if n + 1 == pieces { END_HEADERS } else { 0 }, stream, piece)
    });
    frames.flatten().collect()
}

/// What the edge answers to a request with these fields and three bytes.
async fn answer(client: &mut Frames<TcpStream>, stream: u32, fields: &Fields) -> Refused {
    client.send([head(stream, fields), frame(DATA, END_STREAM, stream, b"abc")].concat()).await.unwrap();
    let frame = within("an answer", client.of(stream)).await.expect("an answer before the end");
    match frame.kind {
        HEADERS => Refused::By(frame.status()),
        RST_STREAM => Refused::ByReset,
        GOAWAY => Refused::ByEnd,
        _ => panic!("{frame:?} for {fields:?}"),
    }
}

/// Each is refused in its way; the origin sees nothing of it, and a good one after it is answered.
async fn refuse(rows: impl IntoIterator<Item = (Fields, Refused)>) {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for (fields, expected) in rows {
        let shown: Vec<_> = fields.iter().map(|(name, value)| (name, value.escape_ascii().to_string())).collect();
        let shown = format!("{shown:.300?}");
        let mut client = Frames::connect(&edge, &[]).await;
        assert_eq!(answer(&mut client, 1, &fields).await, expected, "{shown}");
        assert_eq!(origin.count(), 0, "{shown} reached the origin");
        if expected == Refused::ByEnd {
            client = Frames::connect(&edge, &[]).await;
        }
        assert_eq!(answer(&mut client, 3, &self::fields::<&str>(&[])).await, Refused::By(200), "after {shown}");
        assert_eq!(origin.take().body, b"abc");
    }
}

fn row(name: &str, value: impl AsRef<[u8]>) -> Fields {
    fields(&[(name, value)])
}

/// What the guard refuses over HTTP/1.1, and what would be another request there.
#[tokio::test]
async fn what_is_refused_over_http1_is_refused() {
    let many: Vec<_> = (0..101).map(|_| ("x", "1")).collect();
    let crumbs: Vec<_> = (0..1000).map(|_| ("cookie", "a=b")).collect();
    let connect = vec![(":method".to_owned(), b"CONNECT".to_vec()), (":authority".to_owned(), b"a:443".to_vec())];
    let rows = [
        (fields(&many), 431),
        (fields(&crumbs), 431),
        (row("x", "a".repeat(40_000)), 431),
        (row(":path", format!("/{}", "a".repeat(8 * 1024))), 414),
        (connect, 405),
        (row(":method", "TRACE"), 405),
        (row(":scheme", "ftp"), 400),
        (row("x", " padded"), 400),
        (row("x", "padded\t"), 400),
        (fields(&[("content-length", "3"), ("content-length", "3")]), 400),
        (row("host", "other"), 400),
        (fields(&[("host", "localhost"), ("host", "localhost")]), 400),
        (row(":authority", "u@localhost"), 400),
        (row(":path", "*"), 400),
        (row(":path", "/%00"), 400),
        (row(":path", "/%zz"), 400),
        (row(":path", "/a\\b"), 400),
        (row("expect", "200-ok"), 417),
    ];
    refuse(rows.map(|(fields, status)| (fields, Refused::By(status)))).await;
}

/// RFC 9113 §8.1.1 and §8.2.
#[tokio::test]
async fn what_is_malformed_ends_its_stream_or_the_connection() {
    let resets = [
        (":authority", ""),
        (":path", ""),
        (":path", "a"),
        (":path", "/a b"),
        (":path", "http://other/"),
        ("content-length", "+3"),
        ("content-length", "3, 3"),
        ("content-length", "4"),
        ("content-length", "2"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        (":status", "200"),
    ];
    let ends = [
        (":method", "G T"),
        (":method", ""),
        (":unknown", "1"),
        ("X-Upper", "1"),
        ("a b", "1"),
        ("a:b", "1"),
        ("", "1"),
        ("\u{7f}", "1"),
        ("x", "a\rb"),
        ("x", "a\nb"),
        ("x", "a\0b"),
    ];
    let resets = resets.map(|(name, value)| (row(name, value), Refused::ByReset));
    let ends = ends.map(|(name, value)| (row(name, value), Refused::ByEnd));
    refuse(resets.into_iter().chain(ends)).await;
}

/// A20: over HTTP/1.1 a fragment is refused; here the codec has cut it off before anyone could disagree about it.
#[tokio::test]
async fn a_fragment_goes_no_further() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for (path, target) in [("/a#b", "/a"), ("/a?b#c", "/a?b")] {
        let mut client = Frames::connect(&edge, &[]).await;
        assert_eq!(answer(&mut client, 1, &fields(&[(":path", path)])).await, Refused::By(200), "{path}");
        assert_eq!(origin.take().target, target);
    }
}

/// B3 (RFC 9113 §8.1.1): a body that is shorter or longer than was announced ends its stream. What the origin has of it
/// is no whole request, and its connection carries no other.
#[tokio::test]
async fn b3_a_body_of_another_length_than_announced_ends_its_stream() {
    let announced = |flags| frame(HEADERS, END_HEADERS | flags, 1, &block(fields_of_length("5")));
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block([("x-sum", "1")]));
    let rows = [
        ("none, by its head", vec![announced(END_STREAM)]),
        ("none", vec![announced(0), frame(DATA, END_STREAM, 1, b"")]),
        ("short", vec![announced(0), frame(DATA, END_STREAM, 1, b"abc")]),
        ("short, in two", vec![announced(0), frame(DATA, 0, 1, b"ab"), frame(DATA, END_STREAM, 1, b"c")]),
        ("short, with trailers", vec![announced(0), frame(DATA, 0, 1, b"abc"), trailers]),
        ("long", vec![announced(0), frame(DATA, END_STREAM, 1, b"abcdef")]),
        ("long, in two", vec![announced(0), frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"def")]),
    ];
    for route in [ROUTE, STREAMED] {
        let origin = Origin::replies(ok("")).await;
        let edge = Edge::start(upstream(&[origin.address()], "") + route).await;
        for (name, sent) in &rows {
            let mut client = Frames::connect(&edge, &[]).await;
            client.send(sent.concat()).await.unwrap();
            let end = within(name, client.of(1)).await.unwrap();
            assert_eq!((end.kind, end.code()), (RST_STREAM, PROTOCOL_ERROR), "{name}");
            edge.in_flight(origin.address(), 0).await;
            assert_eq!(answer(&mut client, 3, &fields::<&str>(&[])).await, Refused::By(200), "after {name}");
            assert_eq!(origin.take().body, b"abc", "{name}");
        }
        assert_eq!(origin.count(), 0);
    }
}

/// Nothing of a request is read ahead.
const STREAMED: &str = "[[route]]\npath = \"/\"\nupstream = \"app\"\nbuffer = { request = \"0B\" }\n";

fn fields_of_length(length: &str) -> Fields {
    fields(&[("content-length", length)])
}

fn sum() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])
}

async fn with_trailers(edge: &Edge, body: &str) -> Answer {
    let mut client = Client::connect(edge, Via::TlsH2).await;
    let (feed, fed) = Body::fed();
    let head = request("POST", "/").header("content-length", body.len());
    let head = head.header("te", "trailers").header("trailer", "x-sum");
    let response = client.send(head.body(fed).unwrap()).await;
    feed.send(Frame::data(body.to_owned().into())).await.unwrap();
    feed.send(Frame::trailers(sum())).await.unwrap();
    drop(feed);
    within("an answer", async { Answer::read(response.await.unwrap()).await.unwrap() }).await
}

/// HTTP/1.1 has trailers after chunks alone (RFC 9112 §7.1.2), so the length that the client announced goes.
#[tokio::test]
async fn trailers_after_a_known_length_reach_the_origin() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    assert_eq!(with_trailers(&edge, "hello").await.status, 200);
    let request = origin.take();
    assert_eq!((request.body.as_slice(), request.trailers.get("x-sum")), (&b"hello"[..], "1"));
    assert_eq!((request.fields.get("transfer-encoding"), request.fields.has("content-length")), ("chunked", false));
    assert_eq!((request.fields.get("te"), request.fields.get("connection")), ("trailers", "te"));

    let origin = H2Origin::answers(|request| async move {
        let (length, te) = (request.headers()["content-length"].clone(), request.headers()["te"].clone());
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let seen = format!("{length:?} {te:?} {:?} {}", trailers["x-sum"], body.to_bytes().escape_ascii());
        Response::new(Body::whole(seen))
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
    assert_eq!(with_trailers(&edge, "hello").await.text(), r#""5" "trailers" "1" hello"#);
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

/// A11: trailers come too late for what a head says.
#[tokio::test]
async fn trailers_cannot_say_what_only_a_head_may() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let names = ["content-length", "host", "authorization", "cookie", "x-sum"];
    let mut client = Frames::connect(&edge, &[]).await;
    let request_fields = fields(&[("te", "trailers"), ("trailer", "x-sum")]);
    let trailers = names.map(|name| (name, "9"));
    let request = [
        head(1, &request_fields),
        frame(DATA, 0, 1, b"abc"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)),
    ];
    client.send(request.concat()).await.unwrap();
    assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
    let request = origin.take();
    assert_eq!((request.body.as_slice(), request.trailers.get("x-sum")), (&b"abc"[..], "9"));
    assert_eq!(request.trailers.0.len(), 1, "{request:?}");
}

/// A body that is too long to wait for its end goes on with the length that was announced.
#[tokio::test]
async fn a_long_body_with_trailers_arrives_whole() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let body = "b".repeat(300_000);
    assert_eq!(with_trailers(&edge, &body).await.status, 200);
    assert_eq!(origin.take().body, body.as_bytes());
}

/// C1: the limit of the head counts for the first one of a connection, whatever comes before it.
#[tokio::test]
async fn a_first_head_that_does_not_end_is_given_up() {
    let origin = Origin::replies(ok("")).await;
    let edge =
        Edge::start("[client]\nheader_timeout = \"300ms\"\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE)
            .await;
    let begun = frame(HEADERS, END_STREAM, 1, &block(pseudo("GET", "/")));
    for (name, sent) in [("nothing", Vec::new()), ("a part", begun)] {
        let mut client = Frames::connect(&edge, &[]).await;
        client.send(sent).await.unwrap();
        while within(name, client.next()).await.is_some() {}
    }
    assert_eq!(origin.bytes(), 0);
}

/// C1: that limit ends with the first head, however soon it is answered; then a connection has its idle time.
#[tokio::test]
async fn a_first_request_that_is_answered_at_once_has_kept_the_limit_of_the_head() {
    let config =
        "[server]\nworkers = 1\n[client]\nheader_timeout = \"300ms\"\n[[route]]\npath = \"/\"\ntext = \"here\"\n";
    let edge = Edge::start(config).await;
    let mut client = Frames::connect(&edge, &[]).await;
    client.send(get(1, "/")).await.unwrap();
    assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
    // One that came later and says nothing has spent its time.
    let mut silent = Frames::connect(&edge, &[]).await;
    assert_eq!(within("its end", silent.next()).await.unwrap().kind, GOAWAY);
    client.send(get(3, "/")).await.unwrap();
    let next = within("another answer", client.of(3)).await.unwrap();
    assert_eq!((next.kind, next.stream), (HEADERS, 3), "{next:?}");
}

async fn impatient_edge(origin: &Origin) -> Edge {
    let client = "[client]\nsend_timeout = \"600ms\"\nidle_timeout = \"60s\"\n[server]\ndrain_timeout = \"60s\"\n";
    Edge::start(client.to_owned() + &upstream(&[origin.address()], "") + ROUTE).await
}

/// A client with one stream whose window is spent, and all of the connection's left.
async fn stalled(edge: &Edge) -> Frames<TcpStream> {
    let mut client = Frames::connect(edge, &[]).await;
    client.grant(0, 1 << 30).await.unwrap();
    client.send(get(1, "/64")).await.unwrap();
    let mut received = 0;
    while received < 65_535 {
        let frame = within("data", client.of(1)).await.unwrap();
        received += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    client
}

#[tokio::test]
async fn a_stalled_stream_is_given_up_and_the_others_go_on() {
    let origin = bulk().await;
    let edge = impatient_edge(&origin).await;
    let mut client = stalled(&edge).await;
    client.send(get(3, "/0")).await.unwrap();
    assert_eq!(within("an answer beside it", client.of(3)).await.unwrap().status(), 200);
    let end = within("the end of the stream", client.of(1)).await.unwrap();
    assert_eq!(end.kind, RST_STREAM, "{end:?}");
    client.send(get(5, "/0")).await.unwrap();
    assert_eq!(within("an answer after it", client.of(5)).await.unwrap().status(), 200);
    let line = edge.logged("/64").await;
    assert_eq!(line["reason"], "client-send-timeout", "{line}");
    edge.in_flight(origin.address(), 0).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_stalled_stream() {
    let origin = bulk().await;
    let mut edge = impatient_edge(&origin).await;
    let mut client = stalled(&edge).await;
    edge.signal(Signal::TERM);
    // It answers what it is asked, and grants nothing.
    while within("the end of the connection", client.next()).await.is_some() {}
    assert_eq!(edge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_is_gone() {
    let origin = bulk().await;
    let mut edge = impatient_edge(&origin).await;
    let _silent = stalled(&edge).await;
    edge.signal(Signal::TERM);
    assert_eq!(edge.exit().await.code(), Some(0));
}

/// Takes a megabyte in steps that are a third of the limit apart.
async fn steady_reader(step: u32, steps: u32) {
    let origin = bulk().await;
    let edge = impatient_edge(&origin).await;
    let mut client = stalled(&edge).await;
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let mut received = 0;
    for _ in 0..steps {
        pace.tick().await;
        client.grant(1, step).await.unwrap();
        let mut got = 0;
        while got < step as usize {
            let frame = within("data", client.of(1)).await.unwrap();
            assert_eq!(frame.kind, DATA, "after {received} bytes: {frame:?}");
            got += frame.payload.len();
        }
        received += got;
    }
    client.grant(1, 1 << 30).await.unwrap();
    while !within("the rest", client.of(1)).await.unwrap().ends_stream() {}
    assert_eq!(edge.logged("/64").await["reason"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_and_steadily_is_not_given_up() {
    steady_reader(16 * 1024, 8).await;
}
