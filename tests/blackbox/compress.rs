//! Compression: who gets which coding of what, what the head says of it, and that nothing is held back or lost.

use std::io::Read as _;
use std::sync::Arc;

use async_compression::codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use http::Response;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::harness::*;

fn text(length: usize) -> String {
    (0..length).map(|n| char::from(b"{\"name\": \"value\", 0}"[(n * n / 7 + n / 100) % 20])).collect()
}

/// Reads a coding piece by piece.
struct Decoder(Option<Box<dyn DecodeV2>>);

impl Decoder {
    fn of(coding: &str) -> Self {
        Self(match coding {
            "gzip" => Some(Box::new(GzipDecoder::new())),
            "br" => Some(Box::new(BrotliDecoder::new())),
            "zstd" => Some(Box::new(ZstdDecoder::new())),
            _ => None,
        })
    }

    /// All that the bytes so far stand for.
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(decoder) = &mut self.0 else { return bytes.to_vec() };
        let mut input = PartialBuffer::new(bytes);
        let mut content = Vec::new();
        loop {
            let mut memory = vec![0; 64 * 1024];
            let mut piece = WriteBuffer::new_initialized(&mut memory);
            let ended = match input.unwritten() {
                [] => decoder.flush(&mut piece).map(|_| false).unwrap(),
                _ => decoder.decode(&mut input, &mut piece).unwrap(),
            };
            content.extend_from_slice(piece.written());
            if ended || (piece.written().is_empty() && input.unwritten().is_empty()) {
                return content;
            }
        }
    }
}

#[track_caller]
fn content(answer: &Answer) -> Vec<u8> {
    Decoder::of(answer.field("content-encoding")).read(&answer.body)
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut coded).unwrap();
    coded
}

fn accepting(path: &str, codings: &str) -> http::request::Builder {
    request("GET", path).header("accept-encoding", codings)
}

#[tokio::test]
async fn each_client_gets_the_coding_it_likes_best() {
    for length in [1024, 40_000, 200_000, 2_000_000] {
        let page = text(length);
        let reply = ok(page.clone()).field("content-type", "application/json").field("etag", "\"x\"");
        let origin = Origin::replies(reply.field("accept-ranges", "bytes")).await;
        let edge = Edge::before(&origin).await;
        for via in Via::ALL {
            let mut client = Client::connect(&edge, via).await;
            for (accepted, coding) in [
                ("gzip", "gzip"),
                ("gzip, deflate, br, zstd", "zstd"),
                ("gzip, deflate, br", "br"),
                ("zstd;q=0.5, x-gzip", "gzip"),
                ("identity;q=0, *;q=0.1", "zstd"),
                ("deflate", ""),
                ("gzip;q=0", ""),
                ("", ""),
            ] {
                let answer = client.ask(accepting("/", accepted), "").await;
                assert_eq!((answer.status, answer.field("content-encoding")), (200, coding), "{via:?} {accepted}");
                assert_eq!(answer.field("vary"), "Accept-Encoding");
                assert!(content(&answer) == page.as_bytes(), "{via:?} {accepted}");
                let is_coded = !coding.is_empty();
                assert_eq!(answer.field("etag"), if is_coded { format!("\"x~{coding}\"") } else { "\"x\"".to_owned() });
                assert_eq!(answer.field("accept-ranges"), if is_coded { "" } else { "bytes" });
                // What is read whole has a length.
                let announced = answer.field("content-length");
                let expected =
                    if is_coded && length > 256 * 1024 { String::new() } else { answer.body.len().to_string() };
                assert_eq!(announced, expected, "{via:?} {accepted}");
                assert!(!is_coded || answer.body.len() < length, "{via:?} {accepted}");
            }
        }
        let line = edge.log(|line| line["coding"] == "gzip").await;
        assert_eq!((&line["status"], &line["not_coded"]), (&200.into(), &serde_json::Value::Null));
        edge.log(|line| line["not_coded"] == "not-accepted").await;
        until("eight answers by gzip", async || {
            (edge.metric("tollgate_response_codings_total{outcome=\"gzip\"}").await == 8.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_better_left_alone_is_passed_on_with_its_reason() {
    let origin = Origin::answers(|request| async move {
        let kind = request.fields.get("x-kind").to_owned();
        let reply = ok(text(if kind == "small" { 1023 } else { 2000 }));
        let reply = if kind == "type" { reply } else { reply.field("content-type", "text/html; charset=utf-8") };
        match kind.as_str() {
            "no-transform" => reply.field("cache-control", "no-transform"),
            "range" => reply.status(206).field("content-range", "bytes 0-1999/5000"),
            "already-coded" => reply.field("content-encoding", "br"),
            "set-cookie" => reply.field("set-cookie", "a=b"),
            _ => reply,
        }
    })
    .await;
    let routes = "[[route]]\npath = \"/search\"\nupstream = \"app\"\nreflects_input = true\n\
                  [[route]]\npath = \"/off\"\nupstream = \"app\"\ncompress = false\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + routes).await;
    for via in [Via::H1, Via::TlsH2] {
        let mut client = Client::connect(&edge, via).await;
        for (path, name, value, reason) in [
            ("/", "x-kind", "", ""),
            ("/", "x-kind", "small", "small"),
            ("/", "x-kind", "type", "type"),
            ("/", "x-kind", "no-transform", "no-transform"),
            ("/", "x-kind", "range", "range"),
            ("/", "x-kind", "already-coded", "already-coded"),
            ("/", "x-kind", "set-cookie", "set-cookie"),
            ("/", "x-no-compression", "1", "switched-off"),
            ("/", "authorization", "Basic eDp5", "credentials"),
            ("/", "authorization", "Negotiate eDp5", "credentials"),
            ("/", "authorization", "Bearer eDp5", ""),
            ("/", "cookie", "a=b", ""),
            ("/search", "x-kind", "", ""),
            ("/search", "cookie", "a=b", "cookie"),
            ("/off", "x-kind", "", "off"),
        ] {
            let id = format!("{path}?{via:?}-{name}-{}", value.replace([' ', '='], "-"));
            let answer = client.ask(accepting(&id, "gzip").header(name, value), "").await;
            let of_origin = if value == "already-coded" { "br" } else { "" };
            let coding = if reason.is_empty() { "gzip" } else { of_origin };
            assert_eq!(answer.field("content-encoding"), coding, "{id}");
            assert!(reason.is_empty() || answer.body.starts_with(b"{"), "{id}");
            let query = id.split_once('?').unwrap().1;
            let line = edge.log(|line| line["path"] == path && line["query"] == query).await;
            let said = (line["coding"].as_str().unwrap_or_default(), line["not_coded"].as_str().unwrap_or_default());
            let expected = match reason {
                "" => ("gzip", ""),
                "off" => ("", ""),
                why => ("", why),
            };
            assert_eq!(said, expected, "{id}");
        }
    }
}

#[tokio::test]
async fn a_coded_event_is_there_before_the_next_one_is_sent() {
    let next = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&next);
    let origin = Origin::serves(move |mut connection| {
        let next = Arc::clone(&allowed);
        async move {
            connection.request().await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.wire.send(head).await.unwrap();
            for n in 0..5 {
                next.acquire().await.unwrap().forget();
                let event = format!("data: {n}\n\n");
                connection.wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await.unwrap();
            }
            connection.wire.send("0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        for coding in ["gzip", "br", "zstd"] {
            let mut client = Client::connect(&edge, via).await;
            let response = client.send(accepting("/", coding).body(Body::whole("")).unwrap()).await;
            let response = within("the head before any event", response).await.unwrap();
            assert_eq!(response.headers()["content-encoding"], coding);
            let (mut body, mut decoder) = (response.into_body(), Decoder::of(coding));
            for n in 0..5 {
                next.add_permits(1);
                let mut event = Vec::new();
                while event.is_empty() {
                    let frame = within("an event", body.frame()).await.unwrap().unwrap();
                    event = decoder.read(&frame.into_data().unwrap());
                }
                assert_eq!(event, format!("data: {n}\n\n").as_bytes(), "{via:?} {coding}");
            }
            let end = within("the end", body.collect()).await.unwrap().to_bytes();
            assert!(end.is_empty() || decoder.read(&end).is_empty(), "{via:?} {coding}");
        }
    }
}

#[tokio::test]
async fn a_body_that_dawdles_is_not_waited_for() {
    let rest = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&rest);
    let page = text(3000);
    let sent = page.clone();
    let origin = Origin::serves(move |mut connection| {
        let (rest, page) = (Arc::clone(&allowed), sent.clone());
        async move {
            while connection.request().await.is_some() {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3000\r\n\r\n";
                connection.wire.send(format!("{head}{}", &page[..1000])).await.unwrap();
                rest.acquire().await.unwrap().forget();
                connection.wire.send(&page[1000..]).await.unwrap();
            }
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for coding in ["gzip", "br", "zstd"] {
        let mut client = Client::connect(&edge, Via::H1).await;
        let response = client.send(accepting("/", coding).body(Body::whole("")).unwrap()).await;
        let response = within("the head before the end", response).await.unwrap();
        assert_eq!(response.headers().get("content-length"), None);
        let (mut body, mut decoder) = (response.into_body(), Decoder::of(coding));
        let mut content = Vec::new();
        while content.len() < 1000 {
            let frame = within("the beginning", body.frame()).await.unwrap().unwrap();
            content.extend(decoder.read(&frame.into_data().unwrap()));
        }
        rest.add_permits(1);
        let end = within("the end", body.collect()).await.unwrap().to_bytes();
        content.extend(decoder.read(&end));
        assert!(content == page.as_bytes(), "{coding}");
    }
}

/// Knows its page by `"x"` alone.
async fn validating() -> Origin {
    Origin::answers(|request| async move {
        let reply = if request.fields.get("if-none-match") == "\"x\"" { ok("").status(304) } else { ok(text(2000)) };
        reply.field("content-type", "text/html").field("etag", "\"x\"")
    })
    .await
}

#[tokio::test]
async fn the_tag_of_a_coded_content_is_recognised_when_it_comes_back() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let head = "ETag: \"x\"\r\nContent-Type: text/html\r\n";
            let response = match request.fields.get("if-none-match") {
                "\"x\"" => format!("HTTP/1.1 304 Not Modified\r\n{head}\r\n"),
                _ => format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2000\r\n\r\n{}", text(2000)),
            };
            connection.wire.send(response).await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for via in [Via::H1, Via::H2] {
        let mut client = Client::connect(&edge, via).await;
        for coding in ["gzip", "br", "zstd"] {
            let first = client.ask(accepting("/", coding), "").await;
            let tag = first.field("etag").to_owned();
            assert_eq!((first.status, tag.clone()), (200, format!("\"x~{coding}\"")));
            let again = client.ask(accepting("/", coding).header("if-none-match", &tag), "").await;
            assert_eq!((again.status, again.field("etag"), again.field("vary")), (304, &*tag, "Accept-Encoding"));
        }
        let plain = client.ask(accepting("/", "gzip").header("if-none-match", "\"x\""), "").await;
        assert_eq!((plain.status, plain.field("etag")), (304, "\"x\""));
        let other = client.ask(accepting("/", "gzip").header("if-none-match", "\"y~gzip\""), "").await;
        assert_eq!(other.status, 200);
    }
}

#[tokio::test]
async fn a_part_of_the_plain_content_never_continues_a_coded_one() {
    let origin = validating().await;
    let edge = Edge::before(&origin).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let check = async |client: &mut Client, tag: &str, expected: (&str, &str)| {
        let ask = accepting("/", "gzip").header("range", "bytes=500-").header("if-range", tag);
        assert_eq!(client.ask(ask, "").await.status, 200);
        let seen = origin.take().fields;
        assert_eq!((seen.get("range"), seen.get("if-range")), expected, "{tag}");
    };
    check(&mut client, "\"x~gzip\"", ("", "")).await;
    check(&mut client, "\"x\"", ("bytes=500-", "\"x\"")).await;
    let put = request("PUT", "/").header("if-match", "\"x~gzip\", \"z\"");
    client.ask(put, "").await;
    assert_eq!(origin.take().fields.get("if-match"), "\"x\", \"z\"");
}

#[tokio::test]
async fn head_says_what_get_would() {
    let origin = Origin::replies(ok(text(2000)).field("content-type", "text/html").field("etag", "\"x\"")).await;
    let own = format!("[[route]]\npath = \"/text\"\ntext = '{}'\n", text(2000));
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + &own).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for path in ["/", "/text"] {
            for coding in ["gzip", "br", ""] {
                let get = client.ask(accepting(path, coding), "").await;
                let head = client.ask(request("HEAD", path).header("accept-encoding", coding), "").await;
                assert_eq!((get.field("content-encoding"), &head.body[..]), (coding, &b""[..]), "{via:?} {path}");
                for name in ["content-encoding", "etag", "vary", "content-type"] {
                    assert_eq!(head.field(name), get.field(name), "{via:?} {path} {coding} {name}");
                }
                // A length that could only be known by coding is left out, never wrong.
                let length = head.field("content-length");
                assert!(length.is_empty() || length == get.field("content-length"), "{via:?} {path} {coding}");
            }
        }
    }
}

#[tokio::test]
async fn an_origins_gzip_is_decoded_only_for_who_cannot_take_it() {
    let page = text(300_000);
    let coded = gzipped(page.as_bytes());
    let reply = ok(coded.clone()).field("content-type", "text/html").field("content-encoding", "gzip");
    let origin = Origin::replies(reply.field("etag", "\"x\"").field("content-md5", "x")).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for accepted in ["gzip", "br, *;q=0.1"] {
            let answer = client.ask(accepting("/", accepted), "").await;
            assert_eq!((answer.field("content-encoding"), answer.field("etag")), ("gzip", "\"x\""), "{accepted}");
            assert_eq!(answer.field("vary"), "Accept-Encoding");
            assert!(answer.body == coded, "{via:?} {accepted}");
        }
        for refused in ["br", "gzip;q=0", ""] {
            let answer = client.ask(accepting("/", refused), "").await;
            let said =
                ["content-encoding", "etag", "content-md5", "vary", "content-length"].map(|name| answer.field(name));
            assert_eq!(said, ["", "W/\"x\"", "", "Accept-Encoding", ""], "{refused}");
            assert!(answer.body == page.as_bytes(), "{via:?} {refused}");
        }
        assert!(client.get("/").await.body == coded, "{via:?}: without the field any coding will do");
    }
    edge.log(|line| line["coding"] == "decoded").await;
}

#[tokio::test]
async fn a_bomb_and_broken_gzip_are_cut_off_visibly() {
    let mut broken = gzipped(text(300_000).as_bytes());
    let middle = broken.len() / 2;
    broken.truncate(middle);
    for body in [gzipped(&vec![0; 64 << 20]), broken] {
        let origin = Origin::replies(ok(body).field("content-encoding", "gzip")).await;
        let edge = Edge::before(&origin).await;
        for via in [Via::H1, Via::H2] {
            let path = format!("/{via:?}");
            let mut client = Client::connect(&edge, via).await;
            let pending = client.send(accepting(&path, "identity").body(Body::whole("")).unwrap()).await;
            let answer = within("the end", async { Answer::read(pending.await.unwrap()).await }).await;
            assert!(answer.is_err(), "{via:?}");
            assert_eq!(edge.logged(&path).await["reason"], "content-coding");
        }
    }
}

#[tokio::test]
async fn a_response_that_ends_early_is_no_whole_one() {
    let origin = Origin::serves(|mut connection| async move {
        if let Some(request) = connection.request().await {
            let announced = if request.target.starts_with("/large") { 1_000_000 } else { 3000 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {announced}\r\n\r\n");
            connection.wire.send(head + &text(announced / 2)).await.unwrap();
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        // Its head has not been sent.
        let path = format!("/small/{via:?}");
        let small = client.ask(accepting(&path, "gzip"), "").await;
        assert_eq!((small.status, small.field("content-encoding")), (502, ""), "{via:?}");
        assert_eq!(edge.logged(&path).await["reason"], "body-truncated");
        let path = format!("/large/{via:?}");
        let pending = client.send(accepting(&path, "gzip").body(Body::whole("")).unwrap()).await;
        assert!(within("the end", async { Answer::read(pending.await.unwrap()).await }).await.is_err(), "{via:?}");
        assert_eq!(edge.logged(&path).await["reason"], "body-truncated");
    }
}

#[tokio::test]
async fn the_configuration_says_what_is_coded() {
    let origin = Origin::answers(|request| async move {
        ok(text(2000)).field("content-type", if request.target == "/x" { "application/x" } else { "text/html" })
    })
    .await;
    let base = upstream(&[origin.address()], "") + ROUTE;
    let check = async |top: &str, route: &str, path: &str, expected: &str| {
        let edge = Edge::start(format!("{top}\n{base}{route}\n")).await;
        let answer = Client::connect(&edge, Via::H1).await.ask(accepting(path, "gzip, br, zstd"), "").await;
        assert_eq!(answer.field("content-encoding"), expected, "{top} {route} {path}");
    };
    check("", "", "/", "zstd").await;
    check("profile = \"development\"", "", "/", "").await;
    check("profile = \"staging\"", "compress = true", "/", "zstd").await;
    check("compress = true\nprofile = \"staging\"", "", "/", "zstd").await;
    check("compress = { codings = [\"gzip\", \"zstd\"] }", "", "/", "gzip").await;
    check("compress = { codings = [\"gzip\"] }", "compress = { codings = [\"br\"] }", "/", "br").await;
    check("", "compress = { min_size = \"2001B\" }", "/", "").await;
    check("", "", "/x", "").await;
    check("", "compress = { types = [\"application/*\"] }", "/x", "zstd").await;
    check("compress = { types = [\"*/*\"] }", "", "/x", "zstd").await;
}

#[tokio::test]
async fn trailers_of_an_upstream_come_after_the_coded_content() {
    let page = text(5000);
    let sent = page.clone();
    let origin = H2Origin::answers(move |_| {
        let page = sent.clone();
        async move {
            let (feed, body) = Body::fed();
            tokio::spawn(async move {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("server-timing", "db;dur=5".parse().unwrap());
                feed.send(http_body::Frame::data(page.into())).await.unwrap();
                feed.send(http_body::Frame::trailers(trailers)).await.unwrap();
            });
            let head = Response::builder().header("content-type", "text/html").header("content-length", "5000");
            head.body(body).unwrap()
        }
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
    for coding in ["gzip", "br", "zstd"] {
        let mut client = Client::connect(&edge, Via::H2).await;
        let answer = client.ask(accepting("/", coding).header("te", "trailers"), "").await;
        assert_eq!(answer.field("content-encoding"), coding);
        assert!(content(&answer) == page.as_bytes());
        assert_eq!(answer.trailers["server-timing"], "db;dur=5", "{coding}");
    }
}
