//! Upstreams of HTTP/1.1: responses in pieces, of every framing, and such that are none.

use crate::harness::*;

/// Answers every request with these bytes, of the body of a HEAD too, each in a write of its own; `close`
/// is the end of the connection after the first.
async fn dripping(bytes: &'static [u8], close: bool) -> Origin {
    Origin::serves(move |mut connection| async move {
        while connection.request().await.is_some() {
            for byte in bytes {
                if connection.wire.send([*byte]).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if close {
                return;
            }
        }
    })
    .await
}

struct Row {
    bytes: &'static [u8],
    method: &'static str,
    status: u16,
    body: &'static str,
    /// After two requests.
    connections: usize,
}

const fn row(bytes: &'static [u8], method: &'static str, said: (u16, &'static str), connections: usize) -> Row {
    Row { bytes, method, status: said.0, body: said.1, connections }
}

const RESPONSES: &[Row] = &[
    row(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", (200, "hello"), 1),
    row(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", (200, ""), 1),
    row(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "GET", (200, "hello"), 1),
    row(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        "GET",
        (200, "hello"),
        1,
    ),
    row(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 ;x=\"y\"\r\nhello\r\n0;z\r\nA: b\r\n\r\n",
        "GET",
        (200, "hello"),
        1,
    ),
    row(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET", (200, ""), 1),
    row(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "GET",
        (200, "hello"),
        1,
    ),
    row(b"HTTP/1.1 204 No Content\r\n\r\n", "GET", (204, ""), 1),
    row(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", (304, ""), 1),
    row(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", (200, ""), 1),
    row(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", (200, ""), 1),
    row(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "GET", (200, "hello"), 1),
    row(b"HTTP/1.1 599 Odd\r\nContent-Length: 5\r\n\r\nhello", "GET", (599, "hello"), 1),
    row(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", (200, "hello"), 2),
    row(b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\nhello", "GET", (200, "hello"), 2),
];

#[tokio::test]
async fn responses_are_understood_however_they_come() {
    for Row { bytes, method, status, body, connections } in RESPONSES {
        let shown = bytes.escape_ascii();
        let origin = dripping(bytes, false).await;
        let edge = Edge::before(&origin).await;
        let mut client = Client::connect(&edge, Via::H1).await;
        for _ in 0..2 {
            let answer = client.ask(request(method, "/"), "").await;
            assert_eq!((answer.status, answer.text()), (*status, *body), "{shown}");
        }
        assert_eq!(origin.connections(), *connections, "{shown}");
    }
    let until_close = dripping(b"HTTP/1.1 200 OK\r\n\r\nhello", true).await;
    let edge = Edge::before(&until_close).await;
    for via in Via::ALL {
        assert_eq!(Client::connect(&edge, via).await.get("/").await.text(), "hello", "{via:?}");
    }
}

/// G: what comes behind a response that has no content is nobody's.
#[tokio::test]
async fn content_where_there_is_none_is_not_the_next_response() {
    let evil: &[&'static [u8]] = &[
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ];
    for bytes in evil {
        let origin = Origin::serves(move |mut connection| async move {
            while connection.request().await.is_some() {
                connection.wire.send(bytes).await.unwrap();
            }
        })
        .await;
        let edge = Edge::before(&origin).await;
        let mut client = Client::connect(&edge, Via::H1).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.text(), "", "{}", bytes.escape_ascii());
        }
    }
}

/// G: a response that cannot be read to its end is never passed on as whole.
#[tokio::test]
async fn bad_bodies_are_no_whole_responses() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "5\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello!\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello\n0\r\n\r\n".to_owned(),
        "+5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "-5\r\nhello\r\n0\r\n\r\n".to_owned(),
        " 5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "\r\nhello\r\n0\r\n\r\n".to_owned(),
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n".to_owned(),
        "10000000000000005\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(10_000)),
        "5\r\nhello\r\n0\r\nA b\r\n\r\n".to_owned(),
        format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "x".repeat(100_000)),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "A: b\r\n".repeat(200)),
        "5\r\nhello\r\n0\r\n".to_owned(),
        "5\r\nhello\r\n0\r\nA: b\r\n".to_owned(),
    ] {
        let bytes = format!("{chunked}{body}");
        let shown = format!("{body:.60?}");
        let origin = Origin::serves(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                if connection.request().await.is_some() {
                    connection.wire.send(bytes).await.unwrap();
                }
            }
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], "fails_max = 0\nretry = { attempts = 1 }") + ROUTE).await;
        for via in Via::ALL {
            let mut client = Client::connect(&edge, via).await;
            let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
            if let Ok(answer) = within("an end", async { Answer::read(response.await?).await }).await {
                assert_eq!(answer.status, 502, "{shown} {via:?} took a part for the whole: {answer:?}");
            }
        }
    }
}

/// G: fields without end are capped.
#[tokio::test]
async fn heads_without_measure_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(300_000));
    let crowded = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "A: b\r\n".repeat(150));
    let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(100_000);
    for (bytes, reason) in
        [(long, "upstream-head-too-large"), (crowded, "upstream-protocol"), (endless, "upstream-head-too-large")]
    {
        let origin = Origin::serves(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                connection.request().await;
                let _cut = connection.wire.send(bytes).await;
                connection.wire.rest().await;
            }
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], "fails_max = 0\nretry = { attempts = 1 }") + ROUTE).await;
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (502, reason));
    }
}

/// A limit is one, whether the bytes come in one packet or in many.
#[tokio::test]
async fn limits_do_not_depend_on_the_pieces() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, bytes) in [
        ("a head", format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(70_000))),
        ("an extension", format!("{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5000))),
        ("trailers", format!("{chunked}5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "x".repeat(20_000))),
    ] {
        let origin = Origin::serves(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                connection.request().await;
                let _cut = connection.wire.send(bytes).await;
                connection.wire.rest().await;
            }
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], "fails_max = 0\nretry = { attempts = 1 }") + ROUTE).await;
        for _ in 0..5 {
            let mut client = Client::connect(&edge, Via::H1).await;
            let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
            if let Ok(answer) = within("an end", async { Answer::read(response.await?).await }).await {
                assert_eq!(answer.status, 502, "{name}");
            }
        }
    }
}

/// The new protocol may begin in the packet of the 101.
#[tokio::test]
async fn a_tunnel_carries_what_came_with_the_101() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        connection.wire.send(switch).await.unwrap();
        let back = connection.wire.exact(4).await.unwrap();
        connection.wire.send(back).await.unwrap();
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    assert_eq!(within("101", client.response("GET")).await.unwrap().status, 101);
    assert_eq!(within("the first bytes", client.exact(5)).await.unwrap(), b"hello");
    client.send("back").await.unwrap();
    assert_eq!(within("the end", client.rest()).await, b"back");
}

/// What goes up is framed anew, whatever the client said of it and by which version.
#[tokio::test]
async fn each_request_has_one_framing() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for (method, body, length) in [
            ("GET", "", ""),
            ("GET", "content", "7"),
            ("DELETE", "", ""),
            ("POST", "", "0"),
            ("PUT", "", "0"),
            ("PATCH", "", "0"),
            ("POST", "content", "7"),
        ] {
            assert_eq!(client.ask(request(method, "/"), body).await.status, 200, "{via:?} {method}");
            let request = origin.take();
            let name = format!("{via:?} {method} {body:?}: {request:?}");
            assert_eq!(request.body, body.as_bytes(), "{name}");
            assert_eq!(
                (request.fields.get("content-length"), request.fields.has("transfer-encoding")),
                (length, false),
                "{name}"
            );
        }
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        for part in ["a", "", "bc"] {
            feed.send(http_body::Frame::data(part.into())).await.unwrap();
        }
        drop(feed);
        assert_eq!(within("an answer", response).await.unwrap().status(), 200, "{via:?}");
        let request = origin.take();
        assert_eq!(
            (request.body.as_slice(), request.fields.get("transfer-encoding")),
            (&b"abc"[..], "chunked"),
            "{via:?}"
        );
    }
}

/// RFC 9110 §15.5.22: the answer says which protocol it wants, and an upgrade to it passes the edge.
#[tokio::test]
async fn an_origin_that_requires_an_upgrade_says_to_what() {
    let said = ok("").status(426).field("connection", "upgrade").field("upgrade", "websocket, h2c");
    let origin = Origin::replies(said).await;
    let edge = Edge::before(&origin).await;
    let cached = Edge::start(upstream(&[origin.address()], "") + ROUTE + "cache = {}\n").await;
    for edge in [&edge, &cached] {
        let mut client = edge.raw().await;
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let answer = within("an answer", client.response("GET")).await.unwrap();
            let fields = answer.fields;
            assert_eq!((answer.status, fields.get("upgrade"), fields.get("connection")), (426, "websocket", "upgrade"));
        }
        // RFC 9113 §8.6.
        let answer = Client::connect(edge, Via::H2).await.get("/").await;
        assert_eq!((answer.status, answer.field("upgrade"), answer.field("connection")), (426, "", ""));
    }
}

/// RFC 9110 §6.6.1: of two dates, one would be taken by the client and the other by a cache.
#[tokio::test]
async fn of_two_dates_one_is_passed_on() {
    let (first, second) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT");
    let origin = Origin::replies(ok("").field("date", first).field("date", second)).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        assert_eq!(Client::connect(&edge, via).await.get("/").await.field("date"), first, "{via:?}");
    }
}

/// To a client over HTTP/1.1 fields pass as lines where nobody looks at them, and over HTTP/2 they go through a map.
#[tokio::test]
async fn a_response_says_the_same_however_its_head_passes() {
    const NAMED: &[(&str, &str)] = &[("connection", "x-hop"), ("x-hop", "1")];
    for (more, route, says, says_not) in [
        (&[][..], "", "x-plain: 1\nx-plain: 2", "connection"),
        (&[("keep-alive", "timeout=5"), ("date", "second")], "", "date: first", "second"),
        (&[("via", "1.0 cdn")], "", "via: 1.0 cdn, 1.1 tollgate", "connection"),
        (NAMED, "", "x-plain: 1", "x-hop"),
        (&[("ratelimit", "theirs")], "rate_limit = [\"any\"]", "ratelimit: theirs", "connection"),
        (&[("content-type", "image/png")], "compress = true", "content-type: image/png", "vary"),
        (&[("content-type", "text/html")], "compress = true", "vary: accept-encoding", "connection"),
        (&[("etag", "\"own\"")], "etag = true", "etag: \"own\"", "connection"),
        (&[], "etag = true", "etag: ", "connection"),
        (&[], "response = { set = { x-plain = \"3\" } }", "x-plain: 3", "x-plain: 1"),
    ] {
        let mut reply = ok("x".repeat(2000)).field("date", "first").field("x-plain", "1").field("x-plain", "2");
        for (name, value) in more {
            reply = reply.field(name, value);
        }
        let origin = Origin::replies(reply).await;
        let limit = "[rate_limit.any]\nrequests = 1000\nwindow = \"1h\"\n";
        let config = format!("{limit}{}{ROUTE}{route}\n", upstream(&[origin.address()], ""));
        let edge = Edge::start(config).await;
        let mut found = Vec::new();
        for via in Via::ALL {
            let answer = Client::connect(&edge, via).await.get("/").await;
            assert_eq!((answer.status, answer.body.len()), (200, 2000), "{more:?} {route}");
            let told = |name: &str| !["ratelimit", "transfer-encoding", "content-length"].contains(&name);
            let all: Vec<_> =
                answer.fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let text: String = all.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            assert!(text.to_ascii_lowercase().contains(says) && !text.contains(says_not), "{more:?} {route}: {text}");
            let mut lines: Vec<_> = all.iter().filter(|(name, _)| told(name)).map(|line| format!("{line:?}")).collect();
            lines.sort();
            found.push(lines);
        }
        assert!(found.iter().all(|lines| *lines == found[0]), "{more:?} {route}: {found:#?}");
    }
}

/// However a head comes, its fields pass in the same order.
#[tokio::test]
async fn a_head_in_pieces_passes_as_one_that_is_whole() {
    const RESPONSE: &[u8] =
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX-Y: z\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello";
    let whole = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.wire.send(RESPONSE).await.unwrap();
        }
    })
    .await;
    let mut heads = Vec::new();
    for origin in [whole, dripping(RESPONSE, false).await] {
        let edge = Edge::before(&origin).await;
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = String::from_utf8(within("an answer", client.rest()).await).unwrap();
        heads.push(answer.lines().filter(|line| !line.starts_with("date")).map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(heads[0][..4], ["HTTP/1.1 200 OK", "set-cookie: a", "x-y: z", "set-cookie: b"]);
    assert_eq!(heads[0], heads[1]);
}

/// A head that is written is not kept beside its content, which may take as long as it likes.
#[tokio::test]
async fn a_response_that_lasts_holds_no_head() {
    const OPEN: u64 = 150;
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let large = "x".repeat(60_000);
        let head = format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        connection.wire.send(head).await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut open = Vec::new();
    let mut before = 0;
    for number in 0..OPEN + 20 {
        // What is needed once is there.
        if number == 20 {
            before = edge.rss_kib();
        }
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let head = within("a head", client.response_head()).await.unwrap();
        assert_eq!((head.status, head.fields.get("x-large").len()), (200, 60_000), "{number}");
        open.push(client);
    }
    let each = (edge.rss_kib() - before) / OPEN;
    assert!(each < 40, "{each} KiB a response");
}

/// However full the buffer is into which all but the last byte came, there is room for that one.
#[tokio::test]
async fn the_last_byte_may_come_alone() {
    const KIB: usize = 1024;
    for bytes in [100, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 72 * KIB] {
        for with_head in [true, false] {
            let head_of = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length:06}\r\n\r\n");
            // All but the last byte, alone or with the head, are as many as a buffer may hold.
            let length = if with_head { bytes - head_of(0).len() + 1 } else { bytes + 1 };
            let (last, comes) = tokio::sync::oneshot::channel();
            let comes = std::sync::Mutex::new(Some(comes));
            let origin = Origin::serves(move |mut connection| {
                let comes = comes.lock().unwrap().take();
                async move {
                    connection.request().await;
                    let body = vec![b'x'; length];
                    let whole = [head_of(length).as_bytes(), &body].concat();
                    connection.wire.send(&whole[..whole.len() - 1]).await.unwrap();
                    comes.unwrap().await.unwrap();
                    connection.wire.send(&whole[whole.len() - 1..]).await.unwrap();
                    connection.wire.rest().await;
                }
            })
            .await;
            let server = "[server]\nworkers = 1\n".to_owned();
            let edge = Edge::start(server + &upstream(&[origin.address()], "") + ROUTE).await;
            let mut client = edge.raw().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            within("a head", client.response_head()).await.unwrap();
            within("all but a byte", client.discard(length - 1)).await.unwrap();
            last.send(()).unwrap();
            assert_eq!(within("the last byte", client.exact(1)).await.unwrap(), b"x", "{bytes} bytes, {with_head}");
        }
    }
}
