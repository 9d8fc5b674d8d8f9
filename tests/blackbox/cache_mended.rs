//! What was once wrong with the cache and was mended: each of these dialogues failed.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::cache::{cache_status, caching, caching_in};
use crate::harness::*;

async fn ask(edge: &Edge, fields: &[(&str, &str)]) -> Answer {
    let head = fields.iter().fold(request("GET", "/"), |head, (name, value)| head.header(*name, *value));
    Client::connect(edge, Via::H1).await.ask(head, "").await
}

/// It comes in one piece with its head, before its first reader is there.
#[tokio::test]
async fn what_is_too_large_from_the_start_is_sent_whole() {
    const LENGTH: usize = 70_000;
    let origin = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
            let body = format!("{LENGTH:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(LENGTH));
            connection.wire.send(head.to_owned() + &body).await.unwrap();
        }
    })
    .await;
    let edge = caching(&origin, "object_max = \"1KiB\"").await;
    for _ in 0..10 {
        assert_eq!(edge.get("/").await.body.len(), LENGTH);
    }
}

/// Neither what a 304 says to one user, nor what it says is for one, is for others.
#[tokio::test]
async fn a_304_to_one_user_tells_others_nothing() {
    for said in ["max-age=60", "max-age=60, private=\"x-user\""] {
        let origin = Origin::answers(move |request| {
            let user = request.fields.get("authorization").to_owned();
            let reply = ok("page").field("etag", "\"1\"").field("cache-control", "max-age=60");
            std::future::ready(match request.fields.has("if-none-match") {
                true => ok("").status(304).field("cache-control", said).field("x-user", &user),
                false => reply.field("age", "60"),
            })
        })
        .await;
        let edge = caching(&origin, "").await;
        ask(&edge, &[]).await;
        ask(&edge, &[("authorization", "alice")]).await;
        for _ in 0..2 {
            assert!(!ask(&edge, &[]).await.field("x-user").contains("alice"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_head_without_validators_freshens_nothing() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let origin = Origin::answers(move |_| {
        let version = now.load(Ordering::Relaxed);
        std::future::ready(ok(version.to_string()).field("cache-control", "max-age=60").field("age", "60"))
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(edge.get("/").await.text(), "1");
    version.store(2, Ordering::Relaxed);
    Client::connect(&edge, Via::H1).await.ask(request("HEAD", "/"), "").await;
    assert_eq!(edge.get("/").await.text(), "2");
}

/// A date is the same for the plain bytes and the coded ones.
#[tokio::test]
async fn a_part_by_a_date_does_not_continue_what_is_coded() {
    let date = "Sat, 01 Jan 2000 00:00:00 GMT";
    let reply = ok("compressible ".repeat(1000)).field("content-type", "text/plain");
    let origin = Origin::replies(reply.field("last-modified", date).field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    let gzip = [("accept-encoding", "gzip")];
    assert_eq!(ask(&edge, &gzip).await.field("content-encoding"), "gzip");
    let part = ask(&edge, &[gzip[0], ("range", "bytes=10-19"), ("if-range", date)]).await;
    assert_eq!((part.status, part.field("content-encoding")), (200, "gzip"));
}

#[tokio::test]
async fn who_waits_for_an_answer_that_is_one_users_begins_anew() {
    const CLIENTS: usize = 20;
    let gate = Arc::new(Semaphore::new(0));
    let origin = Origin::answers_once(&gate, |_| ok("").field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    let user = ask(&edge, &[("authorization", "alice")]);
    let others = async {
        origin.has(1).await;
        let asked = join_all((0..CLIENTS).map(|_| edge.get("/")));
        let open = async {
            until("all wait", async || {
                let workers = edge.status().await["workers"].as_array().unwrap().clone();
                let busy: u64 = workers.iter().filter_map(|worker| worker["busy"].as_u64()).sum();
                (busy == CLIENTS as u64 + 1).then_some(())
            })
            .await;
            gate.add_permits(CLIENTS + 1);
        };
        tokio::join!(asked, open).0
    };
    let (_, answers) = tokio::join!(user, others);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(origin.count(), 2, "one for the user, and one for all others");
}

#[tokio::test]
async fn clients_are_told_another_lifetime_only_of_what_is_good() {
    let check = async |reply: Reply, told: &str| {
        let origin = Origin::replies(reply).await;
        let edge = caching(&origin, "ttl = { client = \"365d\" }").await;
        let answer = edge.get("/").await;
        assert!(answer.field("cache-control").starts_with(told), "{told}: {answer:?}");
    };
    check(ok("").field("cache-control", "max-age=5"), "max-age=315").await;
    check(ok("").field("cache-control", "max-age=5").status(404), "max-age=5").await;
    check(ok("").field("cache-control", "no-cache").field("etag", "\"1\""), "no-cache").await;
    let origin = Origin::replies(ok("").field("cache-control", "max-age=5, no-transform")).await;
    let edge = caching(&origin, "ttl = { client = \"365d\" }").await;
    assert!(edge.get("/").await.field("cache-control").ends_with(", no-transform"));
}

#[tokio::test]
async fn a_field_for_one_client_reaches_it_and_nobody_else() {
    let origin = Origin::answers(async |request| {
        let reply = ok("").field("cache-control", "max-age=60, no-cache=\"set-cookie\"");
        reply.field("set-cookie", request.fields.get("x-user"))
    })
    .await;
    let edge = caching(&origin, "").await;
    for user in ["alice", "bob"] {
        assert_eq!(ask(&edge, &[("x-user", user)]).await.field("set-cookie"), user);
    }
}

#[tokio::test]
async fn each_cookie_of_a_name_is_a_sign() {
    let origin = Origin::answers(async |request| {
        ok(request.fields.get("cookie").to_owned()).field("cache-control", "max-age=60")
    })
    .await;
    let edge = caching(&origin, "bypass = { cookies = [\"session\"] }").await;
    let signed = ask(&edge, &[("cookie", "session=; session=abc")]).await;
    assert_eq!(cache_status(&signed), "fwd=bypass");
}

#[tokio::test]
async fn a_change_elsewhere_is_named_by_the_query_that_counts() {
    let origin = Origin::answers(async |request| match request.method.as_str() {
        "POST" => ok("").status(303).field("location", "/?utm_x=1"),
        _ => ok("").field("cache-control", "max-age=60"),
    })
    .await;
    let edge = caching(&origin, "key = { query_ignore = [\"utm_*\"] }").await;
    edge.get("/").await;
    Client::connect(&edge, Via::H1).await.ask(request("POST", "/new"), "").await;
    assert_eq!(cache_status(&edge.get("/").await), "fwd=uri-miss; stored");
}

/// Coded forms are made again when they must; bodies on their way cannot wait.
#[tokio::test]
async fn coded_forms_leave_room_for_what_is_fetched() {
    let origin = Origin::answers(async |request| {
        // Random letters: half of their size is left when they are coded.
        let seed = request.target.len() as u64 * 7919 + request.target.bytes().map(u64::from).sum::<u64>();
        let mut random = fastrand::Rng::with_seed(seed);
        let body: String = (0..60_000).map(|_| char::from(random.alphanumeric() as u8)).collect();
        ok(body).field("content-type", "text/plain").field("cache-control", "max-age=600")
    })
    .await;
    let edge = caching_in("memory = \"4MiB\"\nobject_max = \"256KiB\"", &origin, "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for number in 0..40 {
        for coding in ["identity", "gzip", "zstd"] {
            client.ask(request("GET", &format!("/{number}")).header("accept-encoding", coding), "").await;
        }
    }
    assert_eq!(cache_status(&client.get("/another").await), "fwd=uri-miss; stored");
}

/// Its lifetime is over before its body is here: one fetches it anew, and the others join that one.
#[tokio::test]
async fn what_becomes_stale_while_it_comes_is_fetched_by_one() {
    let gate = Arc::new(Semaphore::new(0));
    let (gated, count) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::serves(move |mut connection| {
        let (gate, count) = (Arc::clone(&gated), Arc::clone(&count));
        async move {
            while connection.request().await.is_some() {
                // The first is fresh for a second.
                let age = if count.fetch_add(1, Ordering::Relaxed) == 0 { 59 } else { 0 };
                let head =
                    format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nage: {age}\r\ncontent-length: 8\r\n\r\n");
                connection.wire.send(head + "half").await.unwrap();
                gate.acquire().await.unwrap().forget();
                let _gone = connection.wire.send("half").await;
            }
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let ask = async || {
        let mut client = Client::connect(&edge, Via::H1).await;
        let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
        let response = within("a head", response).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        (client, response, status)
    };
    let mut open = vec![ask().await];
    let (client, response, status) = until("a fetch anew", async || {
        let answer = ask().await;
        (!answer.2.contains("collapsed")).then_some(answer)
    })
    .await;
    assert!(status.contains("stored"), "{status}");
    open.push((client, response, status));
    for _ in 0..10 {
        let answer = ask().await;
        assert!(answer.2.contains("collapsed"), "{}", answer.2);
        open.push(answer);
    }
    assert_eq!(origin.count(), 2);
    gate.add_permits(2);
    for (_client, response, _) in open {
        let whole = within("the rest", Answer::read(response)).await.unwrap();
        assert_eq!(whole.text(), "halfhalf");
    }
}

/// C5, and E13 with a bound: who asks for many things and leaves does not keep the origin at work.
#[tokio::test]
async fn fetches_that_their_clients_have_left_are_bounded() {
    const CLIENTS: usize = 300;
    const GO_ON: usize = 256;
    let origin = Origin::serves(|mut connection| async move { while connection.request().await.is_some() {} }).await;
    let edge = caching(&origin, "").await;
    let mut waiting = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&edge, Via::H1).await;
        let asked = client.send(request("GET", &format!("/{number}")).body(Body::whole("")).unwrap()).await;
        waiting.push((client, tokio::spawn(asked)));
    }
    origin.has(CLIENTS).await;
    edge.in_flight(origin.address(), CLIENTS).await;
    for (client, asked) in waiting {
        client.leave();
        asked.abort();
    }
    edge.in_flight(origin.address(), GO_ON).await;
}

#[tokio::test]
async fn a_part_varies_as_the_whole_does() {
    let reply = ok("compressible ".repeat(1000)).field("content-type", "text/plain");
    let origin = Origin::replies(reply.field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    assert_eq!(ask(&edge, &[]).await.field("vary"), "Accept-Encoding");
    let part = ask(&edge, &[("range", "bytes=0-9")]).await;
    assert_eq!((part.status, part.text(), part.field("vary")), (206, "compressib", "Accept-Encoding"));
}

/// A film is not sent from its beginning to who wants the middle of it.
#[tokio::test]
async fn a_part_of_what_is_too_large_is_had_at_once() {
    let origin = Origin::answers(async |request| {
        let reply = ok("x".repeat(5000)).field("cache-control", "max-age=60");
        match request.fields.get("range") {
            "bytes=10-19" => ok("x".repeat(10)).status(206).field("content-range", "bytes 10-19/5000"),
            _ => reply,
        }
    })
    .await;
    let edge = caching(&origin, "object_max = \"1KiB\"").await;
    for requests in [2, 3] {
        let part = ask(&edge, &[("range", "bytes=10-19")]).await;
        assert_eq!((part.status, part.field("content-range"), part.body.len()), (206, "bytes 10-19/5000", 10));
        assert_eq!(origin.count(), requests, "the key is marked from then on");
    }
}

/// The parts of the coded bytes are no parts of what this client is sent.
#[tokio::test]
async fn a_part_of_what_has_to_be_decoded_is_the_whole() {
    let mut coded = Vec::new();
    let page = "compressible ".repeat(1000);
    flate2::read::GzEncoder::new(page.as_bytes(), flate2::Compression::best()).read_to_end(&mut coded).unwrap();
    let reply = ok(coded).field("content-type", "text/plain").field("content-encoding", "gzip");
    let date = "Sat, 01 Jan 2000 00:00:00 GMT";
    let origin = Origin::replies(reply.field("last-modified", date).field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    for condition in [("if-range", date), ("x", "")] {
        let identity = ("accept-encoding", "identity");
        let whole = ask(&edge, &[("range", "bytes=10-19"), condition, identity]).await;
        assert_eq!((whole.status, whole.field("content-encoding")), (200, ""));
        assert!(whole.text() == page);
    }
    // Without a word on codings it takes any (RFC 9110 §12.5.3).
    for taken in [("accept-encoding", "gzip"), ("x", "")] {
        let part = ask(&edge, &[("range", "bytes=10-19"), taken]).await;
        assert_eq!((part.status, part.field("content-encoding"), part.body.len()), (206, "gzip", 10));
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn an_origin_is_not_asked_by_a_tag_that_it_does_not_know() {
    let reply = ok("page").field("cache-control", "max-age=60, stale-if-error=60").field("age", "60");
    let origin = Origin::replies(reply).await;
    let edge = caching(&origin, "").await;
    for _ in 0..2 {
        let answer = edge.get("/").await;
        assert_eq!(answer.text(), "page");
        assert!(!origin.take().fields.has("if-none-match"));
    }
}

/// Nobody reads what is validated behind a client's back, so what turns out too large to be kept is let go.
#[tokio::test]
async fn what_comes_behind_a_clients_back_and_is_too_large_is_let_go() {
    let count = Arc::new(AtomicUsize::new(0));
    let origin = Origin::serves(move |mut connection| {
        let count = Arc::clone(&count);
        async move {
            while connection.request().await.is_some() {
                if count.fetch_add(1, Ordering::Relaxed) == 0 {
                    let old =
                        ok("old").field("cache-control", "max-age=60, stale-while-revalidate=600").field("age", "60");
                    connection.reply(&old, false).await;
                    continue;
                }
                let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut sent = connection.wire.send(head).await;
                while sent.is_ok() {
                    sent = connection.wire.send(format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16))).await;
                }
            }
        }
    })
    .await;
    let edge = caching(&origin, "object_max = \"1KiB\"").await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.text(), "old");
    }
    origin.has(2).await;
    edge.in_flight(origin.address(), 0).await;
}

/// Java's client offers it with each request. It is ignored (RFC 9113 §3.1), and so it is no upgrade.
#[tokio::test]
async fn an_offer_of_h2c_does_not_pass_the_cache_by() {
    let origin = Origin::replies(ok("page").field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    let offer =
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")];
    assert_eq!(cache_status(&ask(&edge, &offer).await), "fwd=uri-miss; stored");
    assert_eq!(cache_status(&ask(&edge, &offer).await), "hit");
}

/// What was read of a response is in a large buffer, which its fields must not keep beside their copy of the content.
#[tokio::test]
async fn what_is_stored_takes_the_memory_that_it_is_charged_for() {
    const OBJECTS: usize = 1500;
    const BYTES: usize = 30_000;
    let reply = ok("x".repeat(BYTES)).field("cache-control", "max-age=60").field("x-a", "some").field("etag", "\"a\"");
    let origin = Origin::replies(reply).await;
    let edge = caching(&origin, "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut fill = async |what: &str, objects: usize| {
        for number in 0..objects {
            assert_eq!(client.get(&format!("/{what}{number}")).await.body.len(), BYTES);
        }
    };
    // What is needed once is there.
    fill("first", 50).await;
    let before = edge.rss_kib();
    fill("then", OBJECTS).await;
    let grown = (edge.rss_kib() - before) as usize * 1024;
    assert!(grown < OBJECTS * BYTES * 3 / 2, "{} bytes an object", grown / OBJECTS);
}

/// An answer of 304 that speaks of something else is asked for once more: where the client's requests go.
#[tokio::test]
async fn what_is_asked_again_stays_at_the_endpoint_of_its_client() {
    let origin = || {
        Origin::answers(|request| {
            let aged = ok("page").field("cache-control", "max-age=60").field("age", "60").field("etag", "\"1\"");
            let is_validated = request.fields.has("if-none-match");
            std::future::ready(if is_validated { ok("").status(304).field("etag", "\"2\"") } else { aged })
        })
    };
    let origins = [origin().await, origin().await, origin().await];
    let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\n";
    let edge = Edge::start(upstream(&origins.each_ref().map(Origin::address), "balance = \"hash\"") + route).await;
    for client in 0..20 {
        let path = format!("/{client}");
        for _ in 0..2 {
            let head = request("GET", &path).header("x-forwarded-for", format!("192.0.2.{client}"));
            assert_eq!(Client::connect(&edge, Via::H1).await.ask(head, "").await.text(), "page");
        }
        let asked = origins.each_ref().map(|origin| origin.targets().iter().filter(|target| **target == path).count());
        assert!(asked.contains(&3), "{path}: {asked:?}");
    }
}
