//! What a stranger tries on a cache, and what breaks behind it: poisoning, deception, truncation, storms. Each row
//! names its threat by its number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::cache::{cache_status, caching, caching_in};
use crate::harness::frames::*;
use crate::harness::*;

const FRESH: &str = "max-age=60";

/// An edge that trusts nobody's word about a client.
async fn among_strangers(origin: &Origin, cache: &str) -> Edge {
    trusting("[]", origin, cache).await
}

async fn trusting(peers: &str, origin: &Origin, cache: &str) -> Edge {
    caching_in(&format!("[client]\ntrusted = {peers}"), origin, cache).await
}

/// One GET with these fields, on a connection of its own.
async fn ask(edge: &Edge, path: &str, fields: &[(&str, &str)]) -> Answer {
    let head = fields.iter().fold(request("GET", path), |head, (name, value)| head.header(*name, *value));
    Client::connect(edge, Via::H1).await.ask(head, "").await
}

/// An origin that answers each request with what it was sent: the target, and what it holds of evil.
async fn reflecting() -> Origin {
    Origin::answers(async |request| {
        let evil = request.fields.0.iter().filter(|(_, value)| value.contains("evil"));
        ok(format!("{} {:?}", request.target, evil.collect::<Vec<_>>())).field("cache-control", FRESH)
    })
    .await
}

#[tokio::test]
async fn requests_for_different_things_have_different_keys() {
    let origin = Origin::answers(async |request| {
        let answer = format!("{} {}", request.fields.get("host"), request.target);
        ok(answer).field("cache-control", FRESH)
    })
    .await;
    let edge = among_strangers(&origin, "").await;
    let different = [
        ("a.test", "/b"),
        ("a.test", "/b?"),
        ("a.test", "/b?c"),
        ("a.test", "/b?c="),
        ("a.test", "/b?c=%3D"),
        ("a.test", "/b?C"),
        ("a.test", "/b?c&d"),
        ("a.test", "/b?d&c"),
        ("a.test", "/b%3Fc"),
        ("a.test", "/b/"),
        ("a.test", "/B"),
        ("a.test", "//b"),
        ("a.test", "/b/c"),
        ("a.test", "/b%2Fc"),
        ("a.test", "/b;c"),
        ("a.test", "/b%20"),
        ("a.test:81", "/b"),
        ("a.test.b", "/b"),
        ("b.test", "/b"),
        ("[::1]", "/b"),
        ("[::1]:81", "/b"),
    ];
    for status in ["fwd=uri-miss; stored", "hit"] {
        for (host, path) in different {
            let answer = ask(&edge, path, &[("host", host)]).await;
            assert_eq!((answer.text(), cache_status(&answer).as_str()), (&*format!("{host} {path}"), status), "E1");
        }
    }
    for (host, path) in
        [("A.Test", "/b"), ("a.test:80", "/b"), ("a.test.", "/b"), ("a.test", "/%62"), ("a.test", "/c/../b")]
    {
        let answer = ask(&edge, path, &[("host", host)]).await;
        assert_eq!(
            (answer.text(), cache_status(&answer).as_str()),
            ("a.test /b", "hit"),
            "E1: {host}{path} is the same"
        );
    }
    assert_eq!(origin.count(), different.len());
}

/// Fields that an origin may believe in place of host, path, method or address.
const CLAIMS: [&str; 18] = [
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-for",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-real-ip",
    "forwarded",
    "x_forwarded_host",
    "proxy",
];

#[tokio::test]
async fn what_a_stranger_claims_is_in_nobodys_answer() {
    let origin = reflecting().await;
    for cache in ["", "key = { fields = [\"x-forwarded-host\", \"x-forwarded-prefix\"] }"] {
        let edge = among_strangers(&origin, cache).await;
        for via in [Via::H1, Via::H2] {
            for name in CLAIMS {
                let path = format!("/{name}-{via:?}");
                let mut client = Client::connect(&edge, via).await;
                client.ask(request("GET", &path).header(name, "evil.test"), "").await;
                assert_eq!(edge.get(&path).await.text(), format!("{path} []"), "E2 {name}");
            }
        }
    }
}

/// A request line may name a host of its own.
#[tokio::test]
async fn a_target_with_another_host_is_not_believed() {
    let origin =
        Origin::answers(async |request| ok(request.fields.get("host").to_owned()).field("cache-control", FRESH)).await;
    let edge = among_strangers(&origin, "").await;
    for head in [
        "GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.test\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test@evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test,evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:evil\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: evil.test\r\nHost: a.test\r\n\r\n",
    ] {
        let mut client = edge.raw().await;
        client.send(head).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().status, 400, "E2 {head:?}");
    }
    assert_eq!(ask(&edge, "/", &[("host", "a.test")]).await.text(), "a.test");
}

/// What `Connection` names does not reach the origin, so the response is not the one to a request that says it.
#[tokio::test]
async fn a_field_that_ends_at_the_edge_selects_nothing() {
    let origin = Origin::answers(async |request| {
        let tenant = request.fields.get("x-tenant").to_owned();
        ok(format!("for {tenant:?}")).field("cache-control", FRESH).field("vary", "x-tenant")
    })
    .await;
    for cache in ["", "key = { fields = [\"x-tenant\"] }"] {
        let edge = among_strangers(&origin, cache).await;
        ask(&edge, "/", &[("x-tenant", "one"), ("connection", "x-tenant")]).await;
        assert_eq!(ask(&edge, "/", &[("x-tenant", "one")]).await.text(), "for \"one\"", "E2 {cache:?}");
    }
}

/// A proxy in front says by which scheme and for which host the client came, and the origin believes it.
#[tokio::test]
async fn what_a_trusted_proxy_says_of_the_target_tells_requests_apart() {
    let origin = Origin::answers(async |request| {
        let [proto, host] = ["x-forwarded-proto", "x-forwarded-host"].map(|name| request.fields.get(name).to_owned());
        ok(format!("{proto}://{host}")).field("cache-control", FRESH)
    })
    .await;
    let edge = trusting("[\"127.0.0.0/8\"]", &origin, "").await;
    for (name, values) in [("x-forwarded-proto", ["http", "https"]), ("x-forwarded-host", ["one.test", "other.test"])] {
        for value in values {
            let answer = ask(&edge, &format!("/{name}"), &[(name, value)]).await;
            assert!(answer.text().contains(&format!("{value}:")) || answer.text().ends_with(value), "E2 {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_on_a_get_is_in_nobodys_answer() {
    let origin =
        Origin::answers(async |request| ok([b"<", &request.body[..], b">"].concat()).field("cache-control", FRESH))
            .await;
    let edge = among_strangers(&origin, "").await;
    for via in Via::ALL {
        let path = format!("/{via:?}");
        let mut client = Client::connect(&edge, via).await;
        let answer = client.ask(request("GET", &path), "evil").await;
        assert_eq!((answer.text(), cache_status(&answer).as_str()), ("<evil>", "fwd=bypass"), "E2 {via:?}");
        assert_eq!(client.get(&path).await.text(), "<>", "E2 {via:?}");
    }
}

#[tokio::test]
async fn the_raw_query_counts_unless_the_route_says_otherwise() {
    let origin = Origin::answers(async |request| ok(request.target).field("cache-control", FRESH)).await;
    let edge = among_strangers(&origin, "").await;
    for query in ["", "?", "?a=1", "?a=1&a=2", "?a=2&a=1", "?a=%31", "?A=1", "?a=1&", "?a=1;b=2", "?a=1%26b"] {
        assert_eq!(edge.get(&format!("/{query}")).await.text(), format!("/{query}"), "E3");
    }
    let edge = among_strangers(&origin, "key = { query_keep = [\"page\"] }").await;
    for query in ["?page=1&evil=1", "?evil=1&page=1", "?page=1&Page=2", "?pag%65=2&page=1", "?page=1;evil=1"] {
        // A spelling that the rule does not know by name does not get through to the origin either.
        let seen = edge.get(&format!("/{query}")).await;
        assert!(!seen.text().contains("&"), "E3 {seen:?}");
    }
    assert_eq!(edge.get("/?page=1").await.text(), "/?page=1", "E3");
}

/// What looks like a file to a cache is somebody's account to the application.
#[tokio::test]
async fn the_name_of_a_page_does_not_make_it_public() {
    let origin = Origin::answers(async |request| {
        ok(format!("account of {:?}", request.fields.get("cookie"))).field("content-type", "text/html")
    })
    .await;
    let forms = [
        "/account/x.css",
        "/account;x.css",
        "/account%3Bx.css",
        "/account%2Fx.css",
        "/account%3Fx.css",
        "/account%23x.css",
        "/account%0Ax.css",
        "/account?x.css",
        "/static/..%2Faccount",
        "/account/.css",
        "/account/x.js?x=.css",
        "/robots.txt",
    ];
    let rules = "[[cache.rule]]\ncontent_type = \"text/css\"\nttl = { edge = \"1h\" }\n[[cache.rule]]\n\
        content_type = \"image/*\"\ndefault_ttl = \"1h\"";
    for cache in ["", "default_ttl = \"300s\"", "ttl = { edge = \"1h\" }"] {
        let edge = caching_in(&format!("{rules}\n[client]\ntrusted = []"), &origin, cache).await;
        for path in forms {
            ask(&edge, path, &[("cookie", "victim=1")]).await;
            assert_eq!(edge.get(path).await.text(), "account of \"\"", "E4 {path} with {cache:?}");
            let other = ask(&edge, path, &[("cookie", "other=1")]).await;
            assert_eq!(other.text(), "account of \"other=1\"", "E4 {path} with {cache:?}");
        }
    }
}

/// An origin that names no lifetime but none at all has not said that others may have it.
#[tokio::test]
async fn a_lifetime_by_rule_is_not_for_those_who_say_who_they_are() {
    for said in [
        ("cache-control", "max-age=0"),
        ("cache-control", "max-age=0, must-revalidate"),
        ("cache-control", "s-maxage=0"),
        ("expires", "0"),
        ("cache-control", "no-cache"),
    ] {
        let origin = Origin::answers(move |request| {
            let users = ["authorization", "cookie"].map(|name| request.fields.get(name).to_owned());
            std::future::ready(ok(users.concat()).field(said.0, said.1))
        })
        .await;
        for cache in ["ttl = { edge = \"1h\" }", "default_ttl = \"1h\"", "stale_while_revalidate = \"1h\""] {
            let edge = among_strangers(&origin, cache).await;
            for name in ["authorization", "cookie"] {
                for user in ["alice", "bob", ""] {
                    let answer = ask(&edge, &format!("/{name}"), &[(name, user)]).await;
                    assert_eq!(answer.text(), user, "E5 {said:?} and {name} with {cache:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn statuses_that_are_of_one_request_are_not_kept() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = Origin::answers(move |request| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        let status = request.target.split('/').nth(1).unwrap().parse().unwrap();
        let reply = ok(number.to_string()).status(status);
        std::future::ready(match request.target.ends_with("fresh") {
            true => reply.field("cache-control", FRESH),
            false => reply,
        })
    })
    .await;
    let edge = caching(&origin, "default_ttl = \"300s\", ttl = { edge = \"1h\" }").await;
    let check = async |status: u16, said: &str, kept: bool| {
        let path = format!("/{status}/{said}");
        let first = edge.get(&path).await;
        let second = edge.get(&path).await;
        assert_eq!(first.status, status);
        assert_eq!(second.text() == first.text(), kept, "E12 {path}: {second:?}");
    };
    for status in [206, 401, 407, 408, 412, 416, 421, 425, 429, 431] {
        check(status, "fresh", false).await;
    }
    // Rules are about responses that succeed.
    for status in [400, 403, 404, 410, 500, 502, 503, 504] {
        check(status, "silent", false).await;
        check(status, "fresh", true).await;
    }
    check(200, "silent", true).await;
    check(301, "silent", true).await;
}

#[tokio::test]
async fn a_key_has_so_many_variants_and_no_more() {
    const VARIANTS: usize = 40;
    const KEPT: usize = 32;
    let origin = Origin::answers(async |request| {
        let version = request.fields.get("x-version").to_owned();
        ok(version).field("cache-control", FRESH).field("vary", "X-Version")
    })
    .await;
    let edge = caching(&origin, "").await;
    let get = async |number: usize| {
        let number = number.to_string();
        let answer = ask(&edge, "/", &[("x-version", &number)]).await;
        assert_eq!(answer.text(), number, "E6");
        cache_status(&answer)
    };
    for number in 0..VARIANTS {
        assert!(get(number).await.ends_with("miss; stored"), "E6");
    }
    for number in VARIANTS - KEPT..VARIANTS {
        assert_eq!(get(number).await, "hit", "E6");
    }
    assert_eq!(get(0).await, "fwd=vary-miss; stored", "E6");
}

#[tokio::test]
async fn a_coding_is_one_variant_however_it_is_spelled() {
    let origin = Origin::replies(ok("").field("cache-control", FRESH).field("vary", "Accept-Encoding")).await;
    let edge = caching(&origin, "").await;
    for accepted in ["gzip, br", "gzip,br", "GZIP , br", "gzip,\tBr"] {
        ask(&edge, "/", &[("accept-encoding", accepted)]).await;
    }
    assert_eq!(origin.count(), 1, "E6");
}

/// How a response ends before it is whole: what is sent at once, what when all clients read, and how the connection
/// closes.
#[derive(Clone, Copy)]
struct Cut {
    name: &'static str,
    begins: &'static str,
    ends: &'static str,
    is_reset: bool,
}

const CUTS: [Cut; 6] = [
    Cut {
        name: "a length that is too long",
        begins: "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf",
        ends: "",
        is_reset: false,
    },
    Cut {
        name: "a last chunk that is missing",
        begins: "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ends: "4\r\nmore\r\n",
        is_reset: false,
    },
    Cut {
        name: "the end within a chunk",
        begins: "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
        ends: "",
        is_reset: false,
    },
    Cut {
        name: "the end within the last chunk",
        begins: "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ends: "0\r\n",
        is_reset: false,
    },
    Cut {
        name: "no chunk",
        begins: "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ends: "x\r\n",
        is_reset: false,
    },
    Cut {
        name: "a reset in place of the end",
        begins: "HTTP/1.0 200 OK\r\ncache-control: max-age=60\r\n\r\nhalf",
        ends: "",
        is_reset: true,
    },
];

/// An origin that answers each connection by a part of a response and, for each permit, by its end; it counts them.
async fn cutting(cut: Cut, gate: &Arc<Semaphore>, count: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (gate, count) = (Arc::clone(gate), Arc::clone(count));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(cut.begins.as_bytes()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                stream.write_all(cut.ends.as_bytes()).await.unwrap();
                if cut.is_reset {
                    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
                }
            });
        }
    });
    address
}

/// All who read it see that it is cut, and nobody is sent it later.
async fn is_cut_for_all(name: &str, edge: &Edge, gate: &Semaphore, count: &AtomicUsize) {
    const CLIENTS: usize = 3;
    for fetches in 1..=2 {
        let mut heads = Vec::new();
        for via in [Via::H1, Via::H2, Via::TlsH2].iter().cycle().take(CLIENTS) {
            let mut client = Client::connect(edge, *via).await;
            // The scheme is in the key.
            let request = request("GET", "/").header("host", "localhost").body(Body::whole("")).unwrap();
            let head = within(name, client.send(request).await).await.unwrap();
            heads.push((client, head));
        }
        assert_eq!(count.load(Ordering::Relaxed), 2 * fetches, "E7 {name}: one for each scheme");
        gate.add_permits(2);
        for (_client, head) in heads {
            assert_eq!(head.status(), 200, "E7 {name}");
            let read = within(name, Answer::read(head)).await;
            assert!(read.is_err(), "E7 {name}: {read:?}");
        }
    }
}

#[tokio::test]
async fn a_response_that_is_cut_is_kept_in_no_form() {
    for cut in CUTS {
        let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::default());
        let address = cutting(cut, &gate, &count).await;
        let config = upstream(&[address], "retry = { attempts = 1 }\nfails_max = 0") + ROUTE + "cache = {}\n";
        let edge = Edge::start("[cache]\nenabled = true\n".to_owned() + &config).await;
        is_cut_for_all(cut.name, &edge, &gate, &count).await;
    }
}

/// How an origin of HTTP/2 ends a response before it is whole.
struct CutStream {
    name: &'static str,
    length: Option<&'static str>,
    end: fn(u32) -> Vec<u8>,
}

async fn is_cut_over_h2(cut: CutStream) {
    let CutStream { name, length, end } = cut;
    let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gated, counted) = (Arc::clone(&gate), Arc::clone(&count));
    let origin = Origin::serves(move |connection| {
        let (gate, count) = (Arc::clone(&gated), Arc::clone(&counted));
        async move {
            let Some(mut peer) = Frames::accept(connection.wire, &[]).await else { return };
            while let Some(stream) = peer.request().await {
                count.fetch_add(1, Ordering::Relaxed);
                let length = length.map(|length| ("content-length", length));
                let fields = [(":status", "200"), ("cache-control", FRESH)].into_iter().chain(length);
                let head = frame(HEADERS, END_HEADERS, stream, &block(fields));
                peer.send([head, frame(DATA, 0, stream, b"half")].concat()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                if peer.send(end(stream)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let keys = "protocol = \"h2\"\nretry = { attempts = 1 }\nfails_max = 0";
    let config = upstream(&[origin.address()], keys) + ROUTE + "cache = {}\n";
    let edge = Edge::start("[server]\nworkers = 1\n[cache]\nenabled = true\n".to_owned() + &config).await;
    for fetches in 1..=2 {
        let mut heads = Vec::new();
        for via in [Via::H1, Via::H2] {
            let mut client = Client::connect(&edge, via).await;
            let request = request("GET", "/").body(Body::whole("")).unwrap();
            let head = within(name, client.send(request).await).await.unwrap();
            heads.push((client, head));
        }
        assert_eq!(count.load(Ordering::Relaxed), fetches, "E7 {name}");
        gate.add_permits(1);
        for (_client, head) in heads {
            let read = within(name, Answer::read(head)).await;
            assert!(read.is_err(), "E7 {name}: {read:?}");
        }
    }
}

#[tokio::test]
async fn a_response_over_http_2_that_is_cut_is_kept_in_no_form() {
    let reset = |stream| rst_stream(stream, INTERNAL_ERROR);
    is_cut_over_h2(CutStream { name: "a reset", length: Some("10"), end: reset }).await;
    is_cut_over_h2(CutStream { name: "a reset without a length", length: None, end: reset }).await;
    let cancelled = |stream| rst_stream(stream, CANCEL);
    is_cut_over_h2(CutStream { name: "a cancelled stream", length: None, end: cancelled }).await;
    let early = |stream| frame(DATA, END_STREAM, stream, b"");
    is_cut_over_h2(CutStream { name: "an end that comes early", length: Some("10"), end: early }).await;
    let gone = |_| goaway(0, INTERNAL_ERROR);
    is_cut_over_h2(CutStream { name: "the end of the connection", length: None, end: gone }).await;
}

/// That code follows a whole response only (RFC 9113 §8.1), but hyper takes it for the end of any.
#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_is_not_whole() {
    let quiet = |stream| rst_stream(stream, NO_ERROR);
    is_cut_over_h2(CutStream { name: "no length", length: None, end: quiet }).await;
    is_cut_over_h2(CutStream { name: "a length", length: Some("10"), end: quiet }).await;
}

#[tokio::test]
async fn a_range_is_answered_right_or_not_at_all() {
    let reply = ok("0123456789").field("cache-control", FRESH).field("content-type", "text/plain");
    let origin = Origin::replies(reply).await;
    let edge = caching(&origin, "").await;
    let apart = (0..11).map(|at| format!("{}-{}", 2 * at, 2 * at)).collect::<Vec<_>>().join(",");
    let large = "9".repeat(300);
    let rows = [
        ("bytes=0-18446744073709551615", 206, "bytes 0-9/10"),
        ("bytes=0-18446744073709551616", 206, "bytes 0-9/10"),
        (&format!("bytes=5-{large}"), 206, "bytes 5-9/10"),
        (&format!("bytes=-{large}"), 206, "bytes 0-9/10"),
        ("bytes=18446744073709551615-", 416, "bytes */10"),
        (&format!("bytes={large}-"), 416, "bytes */10"),
        ("bytes=-0", 416, "bytes */10"),
        ("bytes=0-5,3-8,2-2", 206, "bytes 0-8/10"),
        ("bytes=9-9,0-8", 206, "bytes 0-9/10"),
        ("bytes=8-5", 200, ""),
        ("bytes=0-0,-", 200, ""),
        ("lines=0-0", 200, ""),
        (&format!("bytes={apart}"), 206, ""),
        (&format!("bytes={}", "0-,".repeat(1300)), 206, "bytes 0-9/10"),
    ];
    for round in ["missed", "stored"] {
        for (place, (range, status, part)) in rows.iter().enumerate() {
            let answer = ask(&edge, &format!("/{place}"), &[("range", range)]).await;
            let said = (answer.status, answer.field("content-range"));
            assert_eq!(said, (*status, *part), "E8 {round}: {range:.40}");
            if answer.status == 206 && !part.is_empty() {
                assert!("0123456789".contains(answer.text()) && !answer.text().is_empty(), "E8 {answer:?}");
            }
        }
    }
    assert_eq!(origin.count(), rows.len(), "E8: the whole is fetched, once");
    // More than ten parts: one of them lies in the body as a whole of eleven.
    let long = Origin::replies(ok("x".repeat(100)).field("cache-control", FRESH)).await;
    let edge = caching(&long, "").await;
    for round in ["missed", "stored"] {
        let answer = ask(&edge, "/", &[("range", &format!("bytes={apart}"))]).await;
        assert_eq!((answer.status, answer.body.len()), (200, 100), "E8 {round}");
    }
}

#[tokio::test]
async fn a_range_of_another_state_is_not_mixed_in() {
    const MODIFIED: &str = "Sat, 03 Jan 2026 00:00:00 GMT";
    let answers = async |fields: &[(&str, &str)], condition: &str| {
        let reply = fields
            .iter()
            .fold(ok("0123456789").field("cache-control", FRESH), |reply, (name, value)| reply.field(name, value));
        let origin = Origin::replies(reply).await;
        let edge = caching(&origin, "").await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses.push(ask(&edge, "/", &[("range", "bytes=0-1"), ("if-range", condition)]).await.status);
        }
        assert_eq!(statuses[0], statuses[1], "E9: on a miss as on a hit");
        statuses[0]
    };
    assert_eq!(answers(&[("etag", "\"a\"")], "\"a\"").await, 206, "E9");
    assert_eq!(answers(&[("etag", "\"a\"")], "\"b\"").await, 200, "E9");
    assert_eq!(answers(&[("etag", "W/\"a\"")], "W/\"a\"").await, 200, "E9");
    assert_eq!(answers(&[("etag", "\"a\"")], "W/\"a\"").await, 200, "E9");
    assert_eq!(answers(&[("etag", "W/\"a\"")], "\"a\"").await, 200, "E9");
    assert_eq!(answers(&[("last-modified", MODIFIED)], MODIFIED).await, 200, "E9: no `Date` tells it apart");
    assert_eq!(answers(&[("last-modified", MODIFIED)], "Sun, 04 Jan 2026 00:00:00 GMT").await, 200, "E9");
}

#[tokio::test]
async fn a_304_for_another_variant_freshens_nothing() {
    let origin = Origin::answers(async |request| {
        let language = request.fields.get("accept-language").to_owned();
        let other = format!("\"{language}-new\"");
        let said = |reply: Reply| reply.field("cache-control", FRESH).field("vary", "Accept-Language");
        match request.fields.has("if-none-match") {
            // It speaks of what this cache never had.
            true => said(ok("").status(304)).field("etag", &other),
            false => said(ok(language.clone())).field("etag", &format!("\"{language}\"")).field("age", "60"),
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    for count in [1, 3] {
        let answer = ask(&edge, "/", &[("accept-language", "de")]).await;
        assert_eq!((answer.status, answer.text(), answer.field("etag")), (200, "de", "\"de\""), "E12");
        assert_eq!(origin.count(), count, "E12: asked again, without a condition");
    }
    assert_eq!(ask(&edge, "/", &[("accept-language", "en")]).await.text(), "en", "E12");
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_not_kept() {
    let count = AtomicUsize::new(0);
    let origin = Origin::answers(move |_| {
        std::future::ready(match count.fetch_add(1, Ordering::Relaxed) {
            0 => ok("").status(304).field("cache-control", FRESH).field("etag", "\"a\""),
            _ => ok("right").field("cache-control", FRESH),
        })
    })
    .await;
    let edge = caching(&origin, "").await;
    edge.get("/").await;
    assert_eq!(edge.get("/").await.text(), "right", "E12");
}

#[tokio::test]
async fn a_head_makes_no_answer_to_a_get() {
    let origin = Origin::answers(async |request| {
        let reply = ok("").field("cache-control", FRESH).field("etag", "\"head\"");
        match request.method.as_str() {
            "HEAD" => reply,
            _ => ok("right").field("cache-control", FRESH).field("etag", "\"get\""),
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    for via in Via::ALL {
        let path = format!("/{via:?}");
        let mut client = Client::connect(&edge, via).await;
        client.ask(request("HEAD", &path), "").await;
        let answer = client.get(&path).await;
        assert_eq!((answer.text(), answer.field("etag")), ("right", "\"get\""), "E12 {via:?}");
        client.ask(request("HEAD", &path).header("cache-control", "no-cache"), "").await;
        let answer = client.get(&path).await;
        assert_eq!((answer.text(), answer.field("etag")), ("right", "\"get\""), "E12 {via:?}");
    }
}

#[tokio::test]
async fn an_age_beyond_reason_makes_nothing_fresh() {
    let check = async |age: &'static str, status: &str| {
        let origin = Origin::replies(ok("").field("cache-control", FRESH).field("age", age)).await;
        let edge = caching(&origin, "").await;
        edge.get("/").await;
        let answer = edge.get("/").await;
        assert_eq!(cache_status(&answer).split(';').next(), Some(status), "E12 Age: {age}");
        if status == "hit" {
            assert!(answer.field("age").parse::<u64>().is_ok_and(|age| age < 60), "E12 {answer:?}");
        }
    };
    for stale in ["60", "2147483648", "4294967296", "18446744073709551616", "99999999999999999999999", "60, 1"] {
        check(stale, "fwd=uri-miss").await;
    }
    // What is no number of seconds is as if it were not there (RFC 9111 §5.1).
    for nonsense in ["-1", "-18446744073709551615", "1e9", "old", ""] {
        check(nonsense, "hit").await;
    }
}

#[tokio::test]
async fn what_comes_before_a_response_is_not_kept() {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let early =
                "HTTP/1.1 103 Early Hints\r\ncache-control: max-age=60\r\nlink: </a>\r\nset-cookie: a=1\r\n\r\n";
            let last = match request.target.as_str() {
                "/kept" => "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nlast",
                _ => "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 4\r\n\r\nlast",
            };
            connection.wire.send([early, last].concat()).await.unwrap();
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    for _ in 0..2 {
        let answer = edge.get("/kept").await;
        assert_eq!((answer.text(), answer.field("set-cookie")), ("last", ""), "E12");
        assert_eq!(edge.get("/").await.text(), "last", "E12");
    }
    assert_eq!(origin.count(), 3);
}

/// The first of them leaves, and the others share one fetch, over whatever they speak.
#[tokio::test]
async fn a_thousand_who_ask_for_the_same_are_one_request() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 100;
    const HALF: usize = 8 * 1024;
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let origin = Origin::serves(move |mut connection| {
        let gate = Arc::clone(&gated);
        async move {
            while connection.request().await.is_some() {
                let head = format!("HTTP/1.1 200 OK\r\ncache-control: {FRESH}\r\ncontent-length: {}\r\n\r\n", 2 * HALF);
                connection.wire.send(head + &"1".repeat(HALF)).await.unwrap();
                gate.acquire().await.unwrap().forget();
                connection.wire.send("2".repeat(HALF)).await.unwrap();
            }
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let request = || request("GET", "/").body(Body::whole("")).unwrap();
    let mut leader = Client::connect(&edge, Via::H2).await;
    let waits = tokio::spawn(leader.send(request()).await);
    origin.has(1).await;
    waits.abort();
    leader.leave();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(&edge, Via::H2).await);
    }
    let mut asked = Vec::new();
    for client in &mut clients {
        for _ in 0..STREAMS {
            asked.push(client.send(request()).await);
        }
    }
    let heads = within("the heads", join_all(asked)).await;
    let mut bodies = Vec::new();
    for head in heads {
        let mut body = head.unwrap().into_body();
        let first: Bytes = within("the first bytes", body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert!(first.iter().all(|byte| *byte == b'1'), "E13: the first bytes flow before the last are there");
        bodies.push((first.len(), body));
    }
    gate.add_permits(1);
    for (length, body) in bodies {
        let rest = within("the rest", body.collect()).await.unwrap().to_bytes();
        let ones = rest.iter().take_while(|byte| **byte == b'1').count();
        assert_eq!((length + ones, rest.len() - ones), (HALF, HALF), "E13");
        assert!(rest[ones..].iter().all(|byte| *byte == b'2'), "E13");
    }
    assert_eq!(origin.count(), 1, "E13");
    assert_eq!(cache_status(&edge.get("/").await), "hit");
}

/// A cache that has no room left is passed by, and says so.
#[tokio::test]
async fn a_cache_without_room_is_no_failure() {
    const LENGTH: usize = 40_000;
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let origin = Origin::serves(move |mut connection| {
        let gate = Arc::clone(&gated);
        async move {
            while let Some(request) = connection.request().await {
                let body = "x".repeat(LENGTH);
                let head = format!("HTTP/1.1 200 OK\r\ncache-control: {FRESH}\r\ncontent-length: {LENGTH}\r\n\r\n");
                let (now, later) = body.split_at(LENGTH / 2);
                connection.wire.send(head + now).await.unwrap();
                if request.target == "/slow" {
                    gate.acquire().await.unwrap().forget();
                }
                connection.wire.send(later).await.unwrap();
            }
        }
    })
    .await;
    let edge = caching_in("memory = \"200KiB\"\nobject_max = \"40KiB\"", &origin, "").await;
    let mut slow = Client::connect(&edge, Via::H1).await;
    let head = slow.send(request("GET", "/slow").body(Body::whole("")).unwrap()).await;
    let head = within("the head", head).await.unwrap();
    for number in 0..3 {
        let answer = edge.get(&format!("/{number}")).await;
        assert_eq!((answer.status, answer.body.len()), (200, LENGTH));
        assert_eq!(cache_status(&answer), "fwd=uri-miss");
        assert!(answer.field("cache-status").ends_with("detail=no-room"), "{answer:?}");
    }
    gate.add_permits(1);
    assert_eq!(within("the slow one", Answer::read(head)).await.unwrap().body.len(), LENGTH);
    until("room", async || cache_status(&edge.get("/0").await).ends_with("stored").then_some(())).await;
    // And what does not fit in the end pushes out what was there, and breaks nothing.
    for round in 0..20 {
        let answer = edge.get(&format!("/round-{round}")).await;
        assert_eq!((answer.status, answer.body.len()), (200, LENGTH));
    }
}

/// More than may be kept is passed on by its length alone.
#[tokio::test]
async fn what_is_too_large_by_its_length_does_not_line_up() {
    let origin = Origin::replies(ok("x".repeat(50_000)).field("cache-control", FRESH)).await;
    let edge = caching_in("object_max = \"32KiB\"", &origin, "").await;
    for count in 1..=2 {
        let answer = edge.get("/").await;
        assert_eq!((answer.body.len(), origin.count()), (50_000, count));
        assert!(answer.field("cache-status").ends_with("detail=too-large"), "{answer:?}");
    }
}
