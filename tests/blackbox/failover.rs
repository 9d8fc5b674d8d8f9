//! What becomes of a request whose endpoint fails: the next endpoint, or an answer that says why.

use crate::harness::*;

/// Does this with each connection once it has read a request.
async fn answering(raw: &'static [u8]) -> Origin {
    Origin::serves(move |mut connection| async move {
        if connection.request().await.is_some() {
            connection.wire.send(raw).await.unwrap();
        }
    })
    .await
}

const NEVER_OUT: &str = "balance = \"round-robin\"\nfails_max = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_three_endpoints_fails_no_get() {
    let mut origins = [Origin::replies(ok("")).await, Origin::replies(ok("")).await, Origin::replies(ok("")).await];
    let addresses = origins.each_ref().map(Origin::address);
    let edge = Edge::start(upstream(&addresses, "") + ROUTE).await;
    let load = Load::start(edge.address(), 8, Connecting::Once);
    load.answers(200).await;
    origins[1].kill().await;
    load.answers(500).await;
    load.succeeded().await;
    assert!(origins[0].count() > 100 && origins[2].count() > 100);
    edge.endpoint_is(addresses[1], "ejected").await;
}

#[tokio::test]
async fn a_refused_connection_leads_to_the_next_endpoint() {
    let (nobody, origin) = (deserted(), Origin::replies(ok("here")).await);
    let edge = Edge::start(upstream(&[nobody, origin.address()], NEVER_OUT) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    // No byte of it was sent, so even a POST may move on.
    for _ in 0..4 {
        assert_eq!(client.ask(request("POST", "/"), "sent once").await.text(), "here");
        assert_eq!(origin.take().body, b"sent once");
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        feed.send(http_body::Frame::data("streamed once".into())).await.unwrap();
        drop(feed);
        assert_eq!(within("an answer", response).await.unwrap().status(), 200);
        assert_eq!(origin.take().body, b"streamed once");
    }
    assert_eq!(edge.log(|line| line["attempts"] == 2).await["status"], 200);
}

#[tokio::test]
async fn what_is_safe_to_repeat_moves_on_and_a_post_does_not() {
    let (broken, origin) = (answering(b"").await, Origin::replies(ok("here")).await);
    let edge = Edge::start(upstream(&[broken.address(), origin.address()], NEVER_OUT) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let before = broken.count();
        for _ in 0..2 {
            assert_eq!(client.ask(request(method, "/"), "").await.status, 200, "{method}");
        }
        assert!(broken.count() > before, "{method} met no fault");
    }
    let before = broken.count() + origin.count();
    for method in ["POST", "PATCH"] {
        let mut refused = 0;
        for _ in 0..2 {
            let answer = client.ask(request(method, "/"), "").await;
            refused += usize::from(answer.status == 502);
        }
        assert_eq!(refused, 1, "{method} was sent again");
    }
    assert_eq!(broken.count() + origin.count(), before + 4);
}

/// G: bad status lines among them.
#[tokio::test]
async fn each_fault_has_a_status_and_a_reason() {
    let silent = Origin::serves(|mut connection| async move { while connection.request().await.is_some() {} }).await;
    let no_accept = Origin::serves(|_| async {}).await;
    let garbage = answering(b"SSH-2.0-OpenSSH\r\n\r\n").await;
    let banner = Origin::serves(|mut connection| async move {
        if connection.request().await.is_some() && connection.wire.send("SSH-2.0-OpenSSH\r\n").await.is_ok() {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let short_status = answering(b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n").await;
    let odd_status = answering(b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n").await;
    let high_status = answering(b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n").await;
    let closes = answering(b"").await;
    let half_head = answering(b"HTTP/1.1 200 OK\r\nContent-Len").await;
    let ambiguous = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello").await;
    let nobody = deserted();
    let rows = [
        (nobody, "", 502, "connect-refused"),
        (no_accept.address(), "", 502, "upstream-closed-early"),
        (closes.address(), "", 502, "upstream-closed-early"),
        (half_head.address(), "", 502, "upstream-closed-early"),
        (garbage.address(), "", 502, "upstream-protocol"),
        (banner.address(), "timeout = { read = \"1h\" }", 502, "upstream-protocol"),
        (short_status.address(), "", 502, "upstream-protocol"),
        (odd_status.address(), "", 502, "upstream-protocol"),
        (high_status.address(), "", 502, "upstream-protocol"),
        (ambiguous.address(), "", 502, "upstream-framing"),
        (silent.address(), "timeout = { read = \"200ms\" }", 504, "read-timeout"),
        (silent.address(), "timeout = { attempt = \"200ms\" }", 504, "attempt-timeout"),
        (silent.address(), "timeout = { total = \"200ms\" }", 504, "total-timeout"),
    ];
    let mut config = String::new();
    for (n, (address, keys, ..)) in rows.iter().enumerate() {
        config += &format!(
            "[upstream.u{n}]\nendpoints = [\"{address}\"]\nfails_max = 0\nretry = {{ attempts = 1 }}\n{keys}\n"
        );
        config += &format!("[[route]]\npath = \"/{n}\"\nupstream = \"u{n}\"\n");
    }
    let edge = Edge::start(config).await;
    for (n, (_, keys, status, reason)) in rows.iter().enumerate() {
        for via in [Via::H1, Via::TlsH2] {
            let path = format!("/{n}/{via:?}");
            let answer = Client::connect(&edge, via).await.get(&path).await;
            let found = (answer.status, answer.field("x-tollgate-reason"));
            assert_eq!(found, (*status, *reason), "{path} {keys}");
            assert!(answer.text().contains(reason));
            assert_eq!(edge.logged(&path).await["reason"], *reason);
        }
    }
}

/// RFC 9112 §6.3: a response ends in one place, or some receiver finds another one.
#[tokio::test]
async fn a_response_whose_end_is_ambiguous_is_refused() {
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 18446744073709551616",
        "Content-Length: ",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let origin = Origin::serves(move |mut connection| async move {
            while connection.request().await.is_some() {
                let body = "5\r\nhello\r\n0\r\n\r\n";
                let _closed = connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await;
            }
        })
        .await;
        let edge = Edge::start(upstream(&[origin.address()], "fails_max = 0\nretry = { attempts = 1 }") + ROUTE).await;
        for (n, via) in [Via::H1, Via::TlsH2].into_iter().enumerate() {
            let answer = Client::connect(&edge, via).await.get("/").await;
            assert_eq!(
                (answer.status, answer.field("x-tollgate-reason")),
                (502, "upstream-framing"),
                "{framing:?} {via:?}"
            );
            assert_eq!(origin.connections(), n + 1, "{framing:?}: what follows was taken for an answer");
        }
    }
}

/// RFC 9110 §8.6.
#[tokio::test]
async fn no_content_has_no_length() {
    let origin = answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.get("/").await;
        assert_eq!((answer.status, answer.fields.contains_key("content-length")), (204, false), "{via:?}");
    }
}

/// G: truncated bodies.
#[tokio::test]
async fn a_body_that_ends_early_ends_early_for_the_client_too() {
    let rows: [&'static [u8]; 2] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for raw in rows {
        let origin = answering(raw).await;
        let edge = Edge::before(&origin).await;
        for via in Via::ALL {
            let path = format!("/{via:?}");
            let mut client = Client::connect(&edge, via).await;
            let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
            // Where nothing of the answer was passed on yet, an error page is as good.
            if let Ok(answer) = within("an end", async { Answer::read(response.await?).await }).await {
                assert_eq!(answer.status, 502, "{via:?} took a part for the whole: {answer:?}");
            }
            assert_eq!(edge.logged(&path).await["reason"], "body-truncated");
        }
    }
}

/// G: they poison the connection.
#[tokio::test]
async fn bytes_beyond_an_answer_are_not_the_next_answer() {
    let origin =
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await;
    let edge = Edge::before(&origin).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "good");
    }
}

/// G.
#[tokio::test]
async fn interim_answers_are_taken_and_counted() {
    let few =
        answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    let edge = Edge::before(&few).await;
    assert_eq!(edge.get("/").await.text(), "ok");
    let endless = Origin::serves(|mut connection| async move {
        connection.request().await;
        while connection.wire.send("HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {}
    })
    .await;
    let edge = Edge::start(upstream(&[endless.address()], "retry = { attempts = 1 }\nfails_max = 0") + ROUTE).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (502, "upstream-interim-limit"));
}

/// G: `Connection: close` is obeyed.
#[tokio::test]
async fn a_connection_is_used_again_until_the_origin_says_close() {
    let origin = Origin::answers(async |request| if request.target == "/last" { ok("").close() } else { ok("") }).await;
    let edge = Edge::start(upstream(&[origin.address()], "keepalive = { requests = 5 }") + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(client.get("/last").await.status, 200);
    assert_eq!(origin.connections(), 2, "a connection carries five requests");
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(origin.connections(), 3, "that one was closed by the origin");
}

#[tokio::test]
async fn an_origin_that_closes_idle_connections_unasked_costs_no_get() {
    let origin = Origin::serves(|mut connection| async move {
        // The end of this scope is the end of the connection.
        connection.request().await;
        connection.reply(&ok("once"), false).await;
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "retry = { attempts = 1 }") + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..100 {
        assert_eq!(client.get("/").await.text(), "once");
    }
}

/// A connection that could not be made is none.
#[tokio::test]
async fn refused_connections_are_not_counted_as_opened() {
    let edge = Edge::start(upstream(&[deserted()], "") + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 502);
    assert_eq!(edge.metric(r#"tollgate_upstream_connections_total{upstream="app"}"#).await, 0.0);
}
