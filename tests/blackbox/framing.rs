//! HTTP/1.1 that an edge must not accept, and what may not become of it: no byte of a refused request
//! reaches the origin, whole or cut in two at any place. The names of the rows are those of the attacks.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::*;

/// At most this many places of a long row are tried.
const CUTS_MAX: usize = 80;
const AT_A_TIME: usize = 16;

const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";

/// Each row as it is, over TLS, behind a good request, and cut in two.
async fn refuse_heads(rows: impl IntoIterator<Item = (impl AsRef<[u8]>, u16)>) {
    let origin = Origin::replies(ok("good")).await;
    let edge = Edge::before(&origin).await;
    let mut good = 0;
    for (row, status) in rows {
        let row = row.as_ref();
        let (name, before) = (row.escape_ascii().to_string(), origin.bytes());
        refused(edge.raw().await, row, b"", &name, status).await;
        refused(Wire::new(tls(&edge, "localhost", &[]).await), row, b"", &name, status).await;
        refused(raw_to(edge.either_address()).await, row, b"", &name, status).await;
        cut_everywhere(edge.address(), row, &name, status).await;
        assert_eq!(origin.bytes(), before, "{name} reached the origin");

        let mut client = edge.raw().await;
        client.send([GOOD.as_bytes(), row].concat()).await.unwrap();
        let first = within(&name, client.response("GET")).await.unwrap();
        assert_eq!((first.status, first.text()), (200, "good".to_owned()), "before {name}");
        refused(client, b"", b"", &name, status).await;
        good += 1;
        assert_eq!(origin.count(), good, "{name} reached the origin behind a good one");
    }
}

async fn cut_everywhere(address: std::net::SocketAddr, row: &[u8], name: &str, status: u16) {
    let step = row.len().div_ceil(CUTS_MAX);
    let mut open = JoinSet::new();
    for at in (1..row.len()).step_by(step) {
        let (first, second) = row.split_at(at);
        let (first, second, name) = (first.to_vec(), second.to_vec(), format!("{name} cut at {at}"));
        open.spawn(async move { refused(raw_to(address).await, &first, &second, &name, status).await });
        if open.len() >= AT_A_TIME {
            open.join_next().await.unwrap().unwrap();
        }
    }
    open.join_all().await;
}

async fn raw_to(address: std::net::SocketAddr) -> Wire<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Wire::new(stream)
}

/// The two pieces are answered by a refusal after which the connection is closed.
async fn refused<S>(mut client: Wire<S>, first: &[u8], second: &[u8], name: &str, status: u16)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    client.send(first).await.unwrap();
    if !second.is_empty() {
        tokio::task::yield_now().await;
        // The first piece may have been enough.
        let _closed = client.send(second).await;
    }
    let response = within(name, client.response("GET")).await.unwrap_or_else(|bad| panic!("{name}: {bad:?}"));
    assert_eq!((response.status, response.fields.get("connection")), (status, "close"), "{name}: {response:?}");
    let code = response.fields.get("x-tollgate-reason");
    assert!(!code.is_empty() && response.text().contains(code), "{name}: {response:?}");
    assert_eq!(within(name, client.rest()).await, b"", "{name}: more than a refusal");
}

/// The fields stand in a good request.
fn fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn all<'a>(rows: &'a [&'a str], make: impl Fn(&str) -> String + 'a) -> impl Iterator<Item = (String, u16)> + 'a {
    rows.iter().map(move |row| (make(row), 400))
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_to_a2_ambiguous_and_unknown_codings() {
    let bad = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: ",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ];
    let unknown = ["Transfer-Encoding: xchunked", "Transfer-Encoding: identity"];
    refuse_heads(all(&bad, fields).chain(unknown.map(|row| (fields(row), 501)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_to_a6_fields_and_lengths() {
    let bad_fields = [
        "Content-Length : 5",
        "A: b\r\n c",
        "Content-Type:\r\n\ttext/plain",
        ": b",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: ",
        "Content-Length: 0x5",
        "Content-Length: 5, 5",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "A: b\rContent-Length: 5",
        "A: b\0",
    ];
    let bad_heads = [
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\n\r\nuntil I close",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    refuse_heads(all(&bad_fields, fields).chain(all(&bad_heads, str::to_owned))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_to_a20_expectations_hosts_and_targets() {
    let hosts = ["X: y", "Host: a\r\nHost: a", "Host: a,b", "Host: u@a", "Host: a/b", "Host: a:65536", "Host: "];
    let targets = ["/a#b", "/a?b#c", "http://b/", "http://a:81/", "*", "a", "ftp://a/", "http://u@a/"];
    let expectations = ["Expect: 200-ok", "Expect: 100-continue, x"];
    let rows = all(&hosts, |host| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"))
        .chain(all(&targets, |target| line(&format!("GET {target} HTTP/1.1"))))
        .chain(expectations.map(|row| (fields(row), 417)));
    refuse_heads(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_to_a23_request_lines_and_sizes() {
    let lines = [
        "GET /",
        "GET / http/1.1",
        "GET / HTTP/1.2",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / HTTP/1.1 ",
    ];
    let methods = ["CONNECT a:443 HTTP/1.1", "TRACE / HTTP/1.1"];
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(33_000));
    let long = line(&format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024)));
    let rows = all(&lines, line).chain(methods.map(|row| (line(row), 405))).chain([
        (line("GET / HTTP/2.0"), 505),
        (many, 431),
        (large, 431),
        (long, 414),
    ]);
    refuse_heads(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_to_a11_a_bad_body_never_ends_at_the_origin() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "0_5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "1\r\nx\r\n0\r\nA: b\n\r\n",
        "1\r\nx\r\n0\r\nA: b\r\n\n",
    ] {
        let (head, name) = ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body.escape_debug());
        let (name, whole) = (name.to_string(), format!("{head}{body}"));
        refused(edge.raw().await, whole.as_bytes(), b"", &name, 400).await;
        refused(Wire::new(tls(&edge, "localhost", &[]).await), whole.as_bytes(), b"", &name, 400).await;
        cut_everywhere(edge.address(), whole.as_bytes(), &name, 400).await;
        assert_eq!(origin.count(), 0, "{name} was whole at the origin");
    }
}

#[tokio::test]
async fn a8_and_a10_more_framing_than_data_is_cut_off() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let extension = format!("1;{}\r\nx\r\n", "a".repeat(1000));
    for (path, chunk) in [("/tiny", "1\r\nx\r\n"), ("/extensions", extension.as_str())] {
        let mut client = edge.raw().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(head).await.unwrap();
        let piece = chunk.repeat(1 + 60_000 / chunk.len());
        for _ in 0..100 {
            // The edge has closed.
            if client.send(&piece).await.is_err() {
                break;
            }
        }
        let line = edge.logged(path).await;
        assert_eq!(line["status"], 400, "{line}");
        assert!(line["bytes_received"].as_u64().unwrap() < 100_000, "{line}");
        assert_eq!(origin.count(), 0);
    }
}

#[tokio::test]
async fn a11_trailers_cannot_say_what_only_a_head_may() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1\r\nx\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: b\r\n\
                   Authorization: c\r\nCookie: d\r\nX-Sum: 1\r\n\r\n";
    client.send(request).await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().status, 200);
    let request = origin.take();
    for name in ["content-length", "transfer-encoding", "host", "authorization", "cookie"] {
        assert!(!request.trailers.has(name), "{request:?}");
    }
    assert_eq!(request.trailers.get("x-sum"), "1");
}

#[tokio::test]
async fn a12_an_unread_body_is_never_a_request() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(
        upstream(&[origin.address()], "")
            + ROUTE
            + "[[route]]\npath = \"/text\"\ntext = \"early\"\n[[route]]\npath = \"/shut\"\ntext = \"\"\ndeny = [\"0.0.0.0/0\"]\n",
    )
    .await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (path, status) in [("/text", 200), ("/shut", 403)] {
        // Short enough to be read to its end, and so long that it may not be.
        for times in [1, 100, 100_000] {
            let body = smuggled.repeat(times);
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            let mut client = edge.raw().await;
            client.send(&head).await.unwrap();
            let response = within("an early answer", client.response("POST")).await.unwrap();
            assert_eq!(response.status, status);
            let _closed = client.send(body + "GET /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            let rest = String::from_utf8(within("the close", client.rest()).await).unwrap();
            let answers = rest.matches("HTTP/1.1 ").count();
            assert!(answers == 0 || answers == 1 && rest.ends_with("early"), "{path} {times}: {rest}");
            assert_eq!(origin.bytes(), 0, "{path} {times}");
        }
    }
}

#[tokio::test]
async fn a12_an_early_answer_of_the_origin_is_passed_on_and_ends_both_connections() {
    let origin = Origin::serves(|mut connection| async move {
        if connection.request_head().await.is_some() {
            connection.reply(&ok("no").status(403), false).await;
            connection.wire.rest().await;
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    let response = within("an early answer", client.response("POST")).await.unwrap();
    assert_eq!((response.status, response.text()), (403, "no".to_owned()));
    let _closed = client.send("0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let rest = String::from_utf8(within("the close", client.rest()).await).unwrap();
    // Whether the rest of the body was in time or not: the next request has a connection of its own.
    assert!(rest.is_empty() || origin.connections() == 2, "{rest}");
}

#[tokio::test]
async fn a13_the_edge_answers_an_expectation() {
    let origin = Origin::replies(ok("got it")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"10B\"\n").await;
    let mut client = edge.raw().await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    assert_eq!(within("100", client.response("PUT")).await.unwrap().status, 100);
    client.send("hello").await.unwrap();
    assert_eq!(within("200", client.response("PUT")).await.unwrap().text(), "got it");
    let request = origin.take();
    assert_eq!(request.body, b"hello");
    assert!(!request.fields.has("expect"), "{request:?}");

    // A final answer at once: the body is never asked for.
    let before = origin.bytes();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    assert_eq!(within("413", client.response("PUT")).await.unwrap().status, 413);
    assert_eq!(within("the close", client.rest()).await, b"");
    assert_eq!(origin.bytes(), before);
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a14_bytes_behind_an_upgrade_wait_for_the_101() {
    let origin = Origin::serves(|mut connection| async move {
        let request = connection.request_head().await.unwrap();
        if request.target == "/ws" {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            connection.wire.send(switch).await.unwrap();
            assert_eq!(connection.wire.exact(26).await.unwrap(), b"GET /smuggled HTTP/1.1\r\n\r\n");
            connection.wire.send("tunnelled").await.unwrap();
        } else {
            connection.reply(&ok(""), false).await;
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send(format!("{UPGRADE}GET /smuggled HTTP/1.1\r\n\r\n")).await.unwrap();
    assert_eq!(within("101", client.response("GET")).await.unwrap().status, 101);
    assert_eq!(within("the tunnel", client.exact(9)).await.unwrap(), b"tunnelled");
    assert_eq!(origin.take().target, "/ws");
}

async fn declined<S: AsyncRead + AsyncWrite + Unpin>(mut client: Wire<S>, status: u16) {
    client.send(format!("{UPGRADE}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    let response = within("an answer", client.response("GET")).await.unwrap();
    assert_eq!((response.status, response.text()), (status, "no tunnel".to_owned()));
    assert_eq!(response.fields.get("connection"), "close");
    assert_eq!(within("the close", client.rest()).await, b"");
}

#[tokio::test]
async fn a15_an_upgrade_that_is_declined_is_an_ordinary_answer_and_the_last() {
    for status in [200, 404, 426] {
        let origin = Origin::replies(ok("no tunnel").status(status)).await;
        let edge = Edge::before(&origin).await;
        declined(edge.raw().await, status).await;
        assert_eq!(origin.take().target, "/ws");
        declined(Wire::new(tls(&edge, "localhost", &[]).await), status).await;
        assert_eq!(origin.take().target, "/ws");
    }
}

/// RFC 9113 §3.1 gave this upgrade up; it is ignored, and the connection is an ordinary one.
#[tokio::test]
async fn a16_an_offer_of_h2c_is_not_passed_on() {
    let origin = Origin::replies(ok("in")).await;
    let edge = Edge::before(&origin).await;
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA";
    for base in ["GET / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"] {
        let mut client = edge.raw().await;
        for _ in 0..2 {
            client.send(format!("{base}{offer}\r\n\r\n")).await.unwrap();
            let response = within("an answer", client.response("GET")).await.unwrap();
            assert_eq!((response.status, response.fields.get("connection")), (200, ""), "{base:?}");
            let request = origin.take();
            for name in ["upgrade", "http2-settings", "connection"] {
                assert!(!request.fields.has(name), "{request:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_was_not_asked_for_is_refused() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nGET / x").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    assert_eq!(edge.get("/").await.status, 502);
}

/// What was refused before it could be read is logged as that, under the name that the page gives the client.
#[tokio::test]
async fn a_refused_head_is_logged_without_an_invented_request() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
    let answer = within("an answer", client.response("GET")).await.unwrap();
    let page = answer.text();
    let id = page.lines().find_map(|line| line.strip_prefix("request: ")).unwrap();
    let entry = edge.logged("-").await;
    assert_eq!((entry["method"].as_str(), entry["reason"].as_str()), (Some("-"), Some("host-repeated")));
    assert_eq!(entry["request_id"].as_str(), Some(id));
}

/// What ends a body is on record with its request, and is not counted beside it.
#[tokio::test]
async fn a_refusal_is_counted_once() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nnonsense\r\n")
        .await
        .unwrap();
    within("the end", client.rest()).await;
    assert_eq!(edge.logged("/").await["reason"], "bad-chunk-size");
    assert_eq!(edge.metric("tollgate_guard_refusals_total{reason=\"bad-chunk-size\"}").await, 1.0);
}
