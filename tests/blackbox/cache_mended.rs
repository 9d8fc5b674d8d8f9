//! What was once wrong with the cache and was mended: each of these dialogues failed.

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
    let gated = Arc::clone(&gate);
    let origin = Origin::answers(move |_| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await.unwrap().forget();
            ok("").field("cache-control", "max-age=60")
        }
    })
    .await;
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
