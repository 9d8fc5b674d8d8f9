//! Entity tags for what is not kept: private pages that clients have already are not sent again.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::harness::*;

/// An edge whose route has these keys.
async fn edge(origin: &Origin, keys: &str) -> Edge {
    Edge::start(upstream(&[origin.address()], "") + ROUTE + keys + "\n").await
}

fn page(length: usize) -> String {
    "a page ".repeat(length.div_ceil(7))[..length].to_owned()
}

fn knowing(tag: &str) -> http::request::Builder {
    request("GET", "/").header("if-none-match", tag).header("authorization", "Bearer x")
}

#[tokio::test]
async fn a_private_page_that_has_not_changed_is_not_sent_again() {
    for (keys, kept) in [("etag = true", false), ("etag = true\ncache = {}", true)] {
        for cache_control in ["private, max-age=5", "no-store", "no-cache"] {
            let reply = ok(page(3000)).field("cache-control", cache_control).field("content-type", "text/plain");
            let origin = Origin::replies(reply.field("set-cookie", "a=b")).await;
            let edge = edge(&origin, keys).await;
            for via in Via::ALL {
                let mut client = Client::connect(&edge, via).await;
                let first = client.ask(knowing("\"another\""), "").await;
                let tag = first.field("etag").to_owned();
                assert!(tag.len() == 24 && first.status == 200, "{first:?}");
                assert_eq!((first.text(), first.field("content-length")), (page(3000).as_str(), "3000"));
                let again = client.ask(knowing(&format!("\"another\", W/{tag}")), "").await;
                assert_eq!((again.status, again.field("etag"), again.text()), (304, tag.as_str(), ""), "{via:?}");
                assert_eq!((again.field("set-cookie"), again.field("content-type")), ("a=b", ""));
                let head = client.ask(request("HEAD", "/").header("if-none-match", &tag), "").await;
                assert_eq!((head.status, head.field("etag")), (200, ""), "of what is not read nothing is known");
            }
            assert_eq!(origin.count(), 12, "nothing is kept");
            let status = edge.get("/").await;
            assert_eq!(status.fields.contains_key("cache-status"), kept);
        }
    }
}

#[tokio::test]
async fn another_page_or_kind_of_page_has_another_tag() {
    let origin = Origin::answers(async |request| {
        let reply = ok(if request.target == "/other" { page(101) } else { page(100) });
        reply.field("content-type", if request.target == "/html" { "text/html" } else { "text/plain" })
    })
    .await;
    let edge = edge(&origin, "etag = {}").await;
    let mut tags = Vec::new();
    for path in ["/", "/other", "/html"] {
        tags.push(edge.get(path).await.field("etag").to_owned());
    }
    assert_eq!(edge.get("/").await.field("etag"), tags[0]);
    assert!(tags[0] != tags[1] && tags[0] != tags[2] && tags[1] != tags[2], "{tags:?}");
}

#[tokio::test]
async fn what_is_no_whole_page_or_has_a_validator_is_left_as_it_is() {
    let origin = Origin::answers(|request| async move {
        let reply = ok(page(if request.target == "/large" { 1025 } else { 1024 }));
        match request.target.as_str() {
            "/tagged" => reply.field("etag", "W/\"own\""),
            "/dated" => reply.field("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT"),
            "/missing" => reply.status(404),
            "/events" => reply.field("content-type", "text/event-stream"),
            _ => reply,
        }
    })
    .await;
    let on = edge(&origin, "etag = { body_max = \"1KiB\" }").await;
    for (method, path, expected) in [
        ("GET", "/tagged", "W/\"own\""),
        ("GET", "/dated", ""),
        ("GET", "/missing", ""),
        ("GET", "/events", ""),
        ("GET", "/large", ""),
        ("POST", "/", ""),
    ] {
        let answer = Client::connect(&on, Via::H1).await.ask(request(method, path), "").await;
        assert_eq!(answer.field("etag"), expected, "{method} {path}");
        assert!(answer.body.len() >= 1024, "{method} {path}");
    }
    assert_eq!(on.get("/").await.field("etag").len(), 24);
    let off = edge(&origin, "").await;
    assert_eq!(off.get("/").await.field("etag"), "");
}

#[tokio::test]
async fn a_compressed_page_is_recognised_by_its_own_tag() {
    let origin =
        Origin::replies(ok(page(3000)).field("content-type", "text/html").field("cache-control", "private")).await;
    for keys in ["etag = true", "etag = true\ncache = true"] {
        let edge = edge(&origin, keys).await;
        let mut client = Client::connect(&edge, Via::H1).await;
        let plain = client.get("/").await.field("etag").to_owned();
        let coded = client.ask(request("GET", "/").header("accept-encoding", "gzip"), "").await;
        let tag = coded.field("etag").to_owned();
        assert_eq!(coded.field("content-encoding"), "gzip");
        assert_eq!(tag, format!("{}~gzip\"", &plain[..plain.len() - 1]));
        let again = client.ask(knowing(&tag).header("accept-encoding", "gzip"), "").await;
        assert_eq!((again.status, again.field("etag"), again.field("vary")), (304, tag.as_str(), "Accept-Encoding"));
    }
}

/// Sends a page in chunks; with `go`, each but the first when it is let go.
async fn chunked(chunks: Vec<String>, go: Option<Arc<Semaphore>>) -> Origin {
    let mut pieces = vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()];
    for chunk in chunks {
        pieces.last_mut().unwrap().push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        pieces.push(String::new());
    }
    pieces.last_mut().unwrap().push_str("0\r\n\r\n");
    let pieces = Arc::new(if go.is_some() { pieces } else { vec![pieces.concat()] });
    Origin::serves(move |mut connection| {
        let (pieces, go) = (Arc::clone(&pieces), go.clone());
        async move {
            while connection.request().await.is_some() {
                for (index, piece) in pieces.iter().enumerate() {
                    if let Some(go) = go.as_ref().filter(|_| index > 0) {
                        go.acquire().await.unwrap().forget();
                    }
                    connection.wire.send(piece).await.unwrap();
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_page_of_unknown_length_is_tagged_up_to_the_bound_and_streams_on_beyond_it() {
    for (length, is_tagged) in [(500, true), (600, false)] {
        let origin = chunked(vec![page(400), page(length - 400)], None).await;
        let edge = edge(&origin, "etag = { body_max = \"512B\" }").await;
        for via in [Via::H1, Via::H2] {
            let answer = Client::connect(&edge, via).await.get("/").await;
            assert_eq!(answer.body.len(), length, "{via:?}");
            assert_eq!(!answer.field("etag").is_empty(), is_tagged, "{via:?} {length}");
            assert_eq!(answer.field("content-length"), if is_tagged { "500" } else { "" }, "{via:?} {length}");
        }
    }
}

#[tokio::test]
async fn the_beginning_of_a_stream_is_not_held_back() {
    let go = Arc::new(Semaphore::new(0));
    let origin = chunked(vec!["one".to_owned(), "two".to_owned()], Some(Arc::clone(&go))).await;
    let edge = edge(&origin, "etag = true").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    let response = within("the head before the end", response).await.unwrap();
    assert!(!response.headers().contains_key("etag"));
    let mut body = response.into_body();
    assert_eq!(within("one", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "one");
    go.add_permits(2);
    assert_eq!(within("two", body.collect()).await.unwrap().to_bytes(), "two");
}

/// E7, where nothing has been sent yet: what broke off has no tag, and is no answer.
#[tokio::test]
async fn a_page_that_breaks_off_is_an_error() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let _gone = connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    })
    .await;
    let edge = edge(&origin, "etag = true").await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.field("etag"), answer.field("x-tollgate-reason")), (502, "", "body-truncated"));
}
