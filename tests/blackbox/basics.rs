//! A request and its response through the edge, by every protocol: what passes, what is added, what is
//! removed.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::harness::*;

#[tokio::test]
async fn a_get_passes_by_every_protocol() {
    let origin = Origin::replies(ok("hello").field("x-mine", "1")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.get("/a?b=c").await;
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{via:?}");
        assert_eq!(answer.field("x-mine"), "1");
        let request = origin.take();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b=c"));
        assert!(request.body.is_empty(), "{request:?}");
        assert!(!request.fields.has("transfer-encoding") && !request.fields.has("content-length"), "{request:?}");
    }
}

#[tokio::test]
async fn a_head_is_answered_with_the_length_and_no_body() {
    let origin = Origin::replies(ok("hello")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let answer = client.ask(request("HEAD", "/"), "").await;
        assert_eq!((answer.status, answer.field("content-length"), answer.text()), (200, "5", ""), "{via:?}");
        assert_eq!(origin.take().method, "HEAD");
        // The connection is still in step.
        assert_eq!(client.ask(request("GET", "/"), "").await.text(), "hello");
        origin.take();
    }
}

#[tokio::test]
async fn a_body_of_known_length_keeps_it() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    // Less, about as much and more than is read ahead.
    for size in [1, 65_536, 300_000] {
        let body: Bytes = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
        for via in Via::ALL {
            let answer = Client::connect(&edge, via).await.ask(request("POST", "/"), body.clone()).await;
            assert_eq!(answer.status, 200, "{via:?}");
            let request = origin.take();
            assert!(request.body == body, "{via:?}: another body of {} bytes", request.body.len());
            assert_eq!(request.fields.get("content-length"), size.to_string());
        }
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_on_in_chunks_as_it_comes() {
    let origin = Origin::replies(ok("done")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("PUT", "/").body(body).unwrap()).await;
        let before = origin.bytes();
        let feeding = async {
            feed.send(Frame::data("one ".into())).await.unwrap();
            // Nothing more comes until the first piece is at the origin.
            until("the first piece", async || (origin.bytes() > before).then_some(())).await;
            feed.send(Frame::data("two".into())).await.unwrap();
            drop(feed);
        };
        let ((), response) = tokio::join!(feeding, within("a response", response));
        assert_eq!(Answer::read(response.unwrap()).await.unwrap().text(), "done");
        let request = origin.take();
        assert_eq!(request.fields.get("transfer-encoding"), "chunked", "{via:?}");
        assert_eq!(request.body, b"one two");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let seen = request.trailers.get("x-sum").to_owned();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-back\r\n\r\n";
            let body = format!("2\r\nhi\r\n0\r\nx-back: {seen}\r\n\r\n");
            connection.wire.send(format!("{head}{body}")).await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let head = request("POST", "/").header("te", "trailers").header("trailer", "x-sum").header("connection", "te");
        let mut head = head.body(body).unwrap();
        if via.is_h2() {
            head.headers_mut().remove("connection");
        }
        let response = client.send(head).await;
        feed.send(Frame::data("data".into())).await.unwrap();
        feed.send(Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])))
            .await
            .unwrap();
        drop(feed);
        let answer = within("a response", async { Answer::read(response.await.unwrap()).await.unwrap() }).await;
        assert_eq!(answer.text(), "hi");
        assert_eq!(answer.trailers["x-back"], "42", "{via:?}");
        assert_eq!(origin.take().trailers.get("x-sum"), "42");
    }
}

#[tokio::test]
async fn a_body_is_framed_anew() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    let odd = "POST / HTTP/1.1\r\nhOsT:localhost\r\nTransfer-Encoding:  Chunked \r\n\r\n\
               0005;a=b;c=\"d\"\r\nhello\r\n1;x\r\n!\r\n000\r\n\r\n";
    client.send(odd).await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().status, 200);
    let request = origin.take();
    assert_eq!(request.body, b"hello!");
    assert_eq!(request.fields.get("transfer-encoding"), "chunked");
    assert_eq!(request.fields.get("host"), "localhost");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answers(async |request| ok(request.target)).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests).await.unwrap();
    for n in 0..20 {
        assert_eq!(client.response("GET").await.unwrap().text(), format!("/{n}"));
    }
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let origin = Origin::replies(ok("hello")).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let all = String::from_utf8(within("the close", client.rest()).await).unwrap();
    assert!(all.contains(" 200 ") && all.ends_with("\r\n\r\nhello"), "{all}");
    assert_eq!(origin.take().fields.get("via"), "1.0 tollgate");
}

#[tokio::test]
async fn the_upstream_is_told_who_asks() {
    let origin = Origin::replies(ok("").field("via", "1.1 inner")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.get("/").await;
        let fields = origin.take().fields;
        let version = if via.is_h2() { "2.0" } else { "1.1" };
        assert_eq!(fields.get("via"), format!("{version} tollgate"));
        assert_eq!(fields.get("host"), "localhost");
        assert_eq!(fields.get("x-forwarded-for"), "127.0.0.1");
        assert_eq!(fields.get("x-forwarded-proto"), if via.is_tls() { "https" } else { "http" });
        assert_eq!(fields.get("x-forwarded-host"), "localhost");
        assert_eq!(fields.get("x-real-ip"), "127.0.0.1");
        let id = fields.get("x-request-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(answer.field("via"), "1.1 inner, 1.1 tollgate");
    }
}

const CLAIMS: [(&str, &str); 6] = [
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=192.0.2.7"),
    ("x-real-ip", "192.0.2.8"),
    ("x_forwarded_for", "192.0.2.9"),
    ("x-request-id", "mine"),
];

#[tokio::test]
async fn a_stranger_cannot_say_who_he_is() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start("[client]\ntrusted = []\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE).await;
    for via in Via::ALL {
        let head = CLAIMS.iter().fold(request("GET", "/"), |head, (name, value)| head.header(*name, *value));
        Client::connect(&edge, via).await.ask(head, "").await;
        let fields = origin.take().fields;
        assert_eq!(fields.get("x-forwarded-for"), "127.0.0.1", "{via:?}");
        assert_eq!(fields.get("x-forwarded-proto"), if via.is_tls() { "https" } else { "http" });
        assert_eq!(fields.get("x-real-ip"), "127.0.0.1");
        assert_ne!(fields.get("x-request-id"), "mine");
        assert!(!fields.has("forwarded") && !fields.has("x_forwarded_for"), "{fields:?}");
    }
}

#[tokio::test]
async fn a_trusted_peer_is_believed_and_the_log_names_the_client() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let head = CLAIMS.iter().fold(request("GET", "/trusted"), |head, (name, value)| head.header(*name, *value));
    Client::connect(&edge, Via::H1).await.ask(head, "").await;
    let fields = origin.take().fields;
    assert_eq!(fields.get("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
    assert_eq!(fields.get("x-forwarded-proto"), "https");
    assert_eq!(fields.get("x-real-ip"), "192.0.2.7");
    assert_eq!(fields.get("x-request-id"), "mine");
    let line = edge.logged("/trusted").await;
    assert_eq!((&line["client"], &line["request_id"]), (&"192.0.2.7".into(), &"mine".into()));
}

#[tokio::test]
async fn fields_of_one_hop_end_here() {
    let reply = ok("").field("connection", "x-away, keep-alive").field("x-away", "1").field("keep-alive", "timeout=9");
    let origin = Origin::replies(reply).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-hop, keep-alive, x-real-ip\r\nX-Hop: 1\r\nKeep-Alive: 9\r\n\
                   Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nX-Kept: 1\r\n\r\n";
    client.send(request).await.unwrap();
    let response = client.response("GET").await.unwrap();
    assert!(!response.fields.has("x-away") && !response.fields.has("keep-alive"), "{response:?}");
    let fields = origin.take().fields;
    for gone in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        assert!(!fields.has(gone), "{gone} in {fields:?}");
    }
    assert_eq!((fields.get("x-kept"), fields.get("x-real-ip")), ("1", "127.0.0.1"));
}

#[tokio::test]
async fn an_authority_and_a_host_that_differ_are_refused() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for via in [Via::H2, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        assert_eq!(client.ask(request("GET", "/").header("host", "other"), "").await.status, 400, "{via:?}");
        assert_eq!(client.ask(request("GET", "/").header("host", "localhost"), "").await.status, 200, "{via:?}");
        assert_eq!(origin.take().fields.get("host"), "localhost");
    }
}

#[tokio::test]
async fn a_moved_log_goes_on_in_a_new_file_after_a_signal() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"\"\n").await;
    edge.get("/before").await;
    edge.logged("/before").await;
    let (log, moved) = (edge.folder().join("access.log"), edge.folder().join("access.log.1"));
    std::fs::rename(&log, &moved).unwrap();
    edge.signal(rustix::process::Signal::USR1);
    until("a new file", async || log.exists().then_some(())).await;
    edge.get("/after").await;
    edge.logged("/after").await;
    assert_eq!(std::fs::read_to_string(moved).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn the_log_tells_each_request_once() {
    let origin = Origin::replies(ok("four")).await;
    let edge = Edge::before(&origin).await;
    for (via, protocol, tls) in
        [(Via::H1, "HTTP/1.1", false), (Via::H2, "HTTP/2.0", false), (Via::TlsH1, "HTTP/1.1", true)]
    {
        let path = format!("/{via:?}");
        Client::connect(&edge, via).await.ask(request("POST", &path), "sent").await;
        let line = edge.logged(&path).await;
        assert_eq!(
            (&line["method"], &line["status"], &line["protocol"]),
            (&"POST".into(), &200.into(), &protocol.into())
        );
        assert_eq!((&line["bytes_sent"], &line["bytes_received"]), (&4.into(), &4.into()));
        assert_eq!((&line["upstream"], &line["attempts"]), (&"app".into(), &1.into()));
        assert_eq!(line["endpoint"], origin.address().to_string());
        assert_eq!(line.get("tls").is_some(), tls, "{line}");
        assert!(line.get("reason").is_none(), "{line}");
    }
    let log = std::fs::read_to_string(edge.folder().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
}

/// RFC 9112 §3.2.1.
#[tokio::test]
async fn a_target_without_a_path_gets_one() {
    let origin = Origin::answers(async |request| ok(request.target)).await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("GET http://localhost?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(client.response("GET").await.unwrap().body, b"/?a=1");
}

/// A response without content has no length, and is sent to its end (RFC 9110 §8.6).
#[tokio::test]
async fn what_has_no_content_is_complete_without() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"hello\"\ncode = 204\n").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for method in ["GET", "HEAD"] {
        let answer = client.ask(request(method, "/"), "").await;
        assert_eq!((answer.status, answer.field("content-length")), (204, ""), "{method}");
        let line = edge.log(|line| line["method"] == method).await;
        assert_eq!(line["reason"], serde_json::Value::Null, "{line}");
    }
}

/// What is wrong now may be right a moment later, and a 404 may be kept by who is told nothing (RFC 9110 §15.1).
#[tokio::test]
async fn error_pages_are_not_kept() {
    let mut gone = Origin::replies(ok("")).await;
    let route = |path: &str, keys: &str| format!("[[route]]\npath = \"{path}\"\n{keys}\n");
    let routes = [
        route("/gone", "upstream = \"app\""),
        route("/page", "upstream = \"app\"\nfallback = { text = \"later\" }"),
        route("/closed", "text = \"here\"\ndeny = [\"127.0.0.0/8\"]"),
    ];
    let edge = Edge::start(upstream(&[gone.address()], "") + &routes.concat()).await;
    gone.kill().await;
    for (method, path, status) in [
        ("GET", "/gone", 502),
        ("GET", "/page", 502),
        ("GET", "/closed", 403),
        ("GET", "/nowhere", 404),
        ("TRACE", "/", 405),
        ("GET", "/%00", 400),
    ] {
        for via in Via::ALL {
            let answer = Client::connect(&edge, via).await.ask(request(method, path), "").await;
            assert_eq!((answer.status, answer.field("cache-control")), (status, "no-store"), "{method} {path} {via:?}");
        }
    }
}
