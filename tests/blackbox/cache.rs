//! The cache as clients and origins see it: what is kept and for whom, what is said of it, and how many requests
//! an origin gets. Threats are named by their numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::harness::*;

/// An edge that keeps what `origin` sends, by these keys of the route's `cache`.
pub async fn caching(origin: &Origin, cache: &str) -> Edge {
    caching_in("", origin, cache).await
}

/// The same, with `[cache]` of its own.
pub async fn caching_in(section: &str, origin: &Origin, cache: &str) -> Edge {
    let route = format!("[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {{ {cache} }}\n");
    let before = format!("[server]\nworkers = 2\n[cache]\n{section}\n");
    Edge::start(before + &upstream(&[origin.address()], "retry = { attempts = 1 }\nendpoint_requests_max = 0") + &route)
        .await
}

/// What this cache says of an answer, without its name and the time that is left.
pub fn cache_status(answer: &Answer) -> String {
    let said = answer.field("cache-status");
    let Some(said) = said.strip_prefix("tollgate; ") else { panic!("not of this cache: {said:?}") };
    let kept = said.split("; ").filter(|part| !part.starts_with("ttl=") && !part.starts_with("detail="));
    kept.collect::<Vec<_>>().join("; ")
}

/// An origin whose answers count: `1`, `2`, …
async fn counting(reply: impl Fn(Request, usize) -> Reply + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::answers(move |request| std::future::ready(reply(request, count.fetch_add(1, Ordering::Relaxed) + 1))).await
}

fn numbered(number: usize) -> Reply {
    ok(number.to_string())
}

#[tokio::test]
async fn a_response_is_kept_for_everybody_and_over_every_protocol() {
    let origin = counting(|_, number| numbered(number).field("cache-control", "max-age=60").field("age", "7")).await;
    let edge = caching(&origin, "").await;
    for via in [Via::H1, Via::H2] {
        let mut client = Client::connect(&edge, via).await;
        let first = client.get(&format!("/{via:?}")).await;
        assert_eq!((cache_status(&first).as_str(), first.field("x-cache")), ("fwd=uri-miss; stored", "MISS"));
        let body = first.text().to_owned();
        let second = client.get(&format!("/{via:?}")).await;
        assert_eq!((cache_status(&second).as_str(), second.field("x-cache")), ("hit", "HIT"));
        assert_eq!(second.text(), body);
        assert!((7..60).contains(&second.field("age").parse::<u64>().unwrap()), "{second:?}");
        assert_eq!(second.field("via"), "1.1 tollgate");
        let head = client.ask(request("HEAD", &format!("/{via:?}")), "").await;
        assert_eq!((cache_status(&head).as_str(), head.field("content-length")), ("hit", "1"));
    }
    assert_eq!(origin.count(), 2);
    let mut tls = Client::connect(&edge, Via::TlsH2).await;
    assert_eq!(tls.get("/H1").await.text(), "3", "the scheme is in the key");
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    let check = async |name: &str, value: &str, cache: &str, why: &str| {
        let (name, value) = (name.to_owned(), value.to_owned());
        let origin = counting(move |_, number| numbered(number).field(&name, &value)).await;
        let edge = caching(&origin, cache).await;
        for number in ["1", "2"] {
            let answer = edge.get("/").await;
            assert_eq!(answer.text(), number, "{why}");
            assert!(!cache_status(&answer).contains("stored"), "{why}: {answer:?}");
        }
    };
    let cache = "default_ttl = \"300s\"";
    check("cache-control", "private, max-age=60", cache, "E5 private").await;
    check("cache-control", "no-store, max-age=60", cache, "E5 no-store").await;
    check("set-cookie", "id=1", cache, "E5 Set-Cookie").await;
    check("vary", "*", cache, "E5 Vary: *").await;
    check("vary", "x-forwarded-for", cache, "Vary on who the client is").await;
    check("x-any", "1", "", "without a lifetime").await;
    // A name is no reason.
    let origin = counting(|_, number| numbered(number).field("content-type", "text/css")).await;
    let edge = caching(&origin, "").await;
    for (number, path) in ["/account/x.css", "/account/x.css", "/account;x.css", "/account;x.css"].iter().enumerate() {
        assert_eq!(edge.get(path).await.text(), (number + 1).to_string(), "E4 {path}");
    }
}

#[tokio::test]
async fn a_lifetime_may_come_from_the_route_or_the_kind_of_content() {
    let origin = counting(|request, number| match request.target.as_str() {
        "/image" => numbered(number).field("content-type", "image/png"),
        _ => numbered(number),
    })
    .await;
    let rule = "[[cache.rule]]\ncontent_type = \"image/*\"\nttl = { edge = \"30d\", client = \"1h\" }";
    let edge = caching_in(rule, &origin, "default_ttl = \"300s\"").await;
    assert_eq!(edge.get("/").await.text(), "1");
    let hit = edge.get("/").await;
    assert_eq!((hit.text(), hit.field("cache-control")), ("1", ""));
    edge.get("/image").await;
    let image = edge.get("/image").await;
    assert_eq!(cache_status(&image), "hit");
    let told = image.field("cache-control").strip_prefix("max-age=").and_then(|age| age.parse::<u64>().ok());
    assert_eq!(told, Some(3600 + image.field("age").parse::<u64>().unwrap()));
    assert!(image.field("cache-status").contains("ttl=259"), "{image:?}");
    assert_eq!(origin.count(), 2);
}

/// Through every rule of a route: what one user is sent no other gets.
#[tokio::test]
async fn users_never_see_the_answers_of_each_other() {
    for cache in [
        "",
        "default_ttl = \"300s\"",
        "ttl = { edge = \"1h\" }",
        "ttl = { edge = \"1h\", client = \"1h\" }, default_ttl = \"1h\"",
        "stale_while_revalidate = \"1h\", stale_if_error = \"1h\", default_ttl = \"1h\"",
        "cookies = \"bypass\", default_ttl = \"300s\"",
        "key = { query_keep = [] }, default_ttl = \"300s\"",
    ] {
        let origin = Origin::answers(async |request| {
            let users = ["authorization", "cookie"].map(|name| request.fields.get(name).to_owned());
            ok(users.concat())
        })
        .await;
        let edge = caching(&origin, cache).await;
        for field in ["authorization", "cookie"] {
            for user in ["alice", "bob", "alice", ""] {
                let head = request("GET", "/").header(field, user);
                let answer = Client::connect(&edge, Via::H1).await.ask(head, "").await;
                assert_eq!(answer.text(), user, "{field} with {cache:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn cookies_that_do_not_matter_go_neither_way() {
    let origin = counting(|request, number| {
        assert!(!request.fields.has("cookie"), "{request:?}");
        numbered(number).field("set-cookie", "id=1")
    })
    .await;
    let edge = caching(&origin, "cookies = \"ignore\", default_ttl = \"300s\"").await;
    for user in ["a=1", "a=2"] {
        let answer = Client::connect(&edge, Via::H2).await.ask(request("GET", "/").header("cookie", user), "").await;
        assert_eq!((answer.text(), answer.field("set-cookie")), ("1", ""));
    }
}

#[tokio::test]
async fn a_response_to_a_user_is_kept_if_the_origin_says_that_it_is_for_all() {
    let origin = counting(|_, number| numbered(number).field("cache-control", "public, max-age=60")).await;
    let edge = caching(&origin, "").await;
    for user in ["alice", "bob"] {
        let head = request("GET", "/").header("authorization", user);
        assert_eq!(Client::connect(&edge, Via::H1).await.ask(head, "").await.text(), "1");
    }
}

#[tokio::test]
async fn a_variant_is_for_requests_that_ask_alike() {
    let origin = counting(|request, number| {
        let language = request.fields.get("accept-language").to_owned();
        ok(format!("{language}{number}")).field("vary", "Accept-Language").field("cache-control", "max-age=60")
    })
    .await;
    let edge = caching(&origin, "").await;
    let ask = async |language: &str| {
        let head = request("GET", "/").header("accept-language", language);
        let answer = Client::connect(&edge, Via::H1).await.ask(head, "").await;
        (answer.text().to_owned(), cache_status(&answer))
    };
    let row = |body: &str, status: &str| (body.to_owned(), status.to_owned());
    assert_eq!(ask("de").await, row("de1", "fwd=uri-miss; stored"));
    assert_eq!(ask("en").await, row("en2", "fwd=vary-miss; stored"));
    assert_eq!(ask("de").await, row("de1", "hit"));
    assert_eq!(ask("en").await, row("en2", "hit"));
}

#[tokio::test]
async fn what_is_stale_is_validated() {
    let origin = counting(|request, number| {
        let reply = numbered(number).field("cache-control", "max-age=60").field("etag", "\"v1\"");
        match request.fields.get("if-none-match") {
            "\"v1\"" => ok("").status(304).field("cache-control", "max-age=60").field("x-said", "later"),
            _ => reply.field("age", "60"),
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(cache_status(&edge.get("/").await), "fwd=uri-miss; stored");
    let validated = edge.get("/").await;
    assert_eq!((validated.status, validated.text()), (200, "1"));
    assert_eq!(cache_status(&validated), "fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.field("x-said"), "later");
    let hit = edge.get("/").await;
    assert_eq!((cache_status(&hit).as_str(), hit.text()), ("hit", "1"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_client_that_has_it_is_told_so() {
    let origin = Origin::replies(ok("0123456789").field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    let first = edge.get("/").await;
    let tag = first.field("etag").to_owned();
    assert!(tag.starts_with('"'), "a validator is made where the origin gives none: {first:?}");
    let mut client = Client::connect(&edge, Via::H1).await;
    let same = client.ask(request("GET", "/").header("if-none-match", &tag), "").await;
    assert_eq!((same.status, same.text(), same.field("etag")), (304, "", tag.as_str()));
    let other = client.ask(request("GET", "/").header("if-none-match", "\"other\""), "").await;
    assert_eq!((other.status, other.text()), (200, "0123456789"));
    let part = client.ask(request("GET", "/").header("range", "bytes=2-4"), "").await;
    assert_eq!((part.status, part.text(), part.field("content-range")), (206, "234", "bytes 2-4/10"));
    let part = client.ask(request("GET", "/").header("range", "bytes=2-4").header("if-range", "\"other\""), "").await;
    assert_eq!((part.status, part.text()), (200, "0123456789"));
    let none = client.ask(request("GET", "/").header("range", "bytes=10-"), "").await;
    assert_eq!((none.status, none.field("content-range")), (416, "bytes */10"));
    let several = client.ask(request("GET", "/").header("range", "bytes=0-0,-1"), "").await;
    assert_eq!(several.status, 206);
    assert!(several.field("content-type").starts_with("multipart/byteranges; boundary="), "{several:?}");
    assert!(several.text().contains("Content-Range: bytes 9-9/10\r\n\r\n9\r\n"), "{several:?}");
    let many = (0..1300).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    let many = client.ask(request("GET", "/").header("range", format!("bytes={many}")), "").await;
    assert_eq!((many.status, many.text()), (206, "0123456789"), "E8: they are one when joined");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_change_makes_what_is_kept_invalid() {
    let origin = counting(|request, number| match request.method.as_str() {
        "GET" => numbered(number).field("cache-control", "max-age=60"),
        _ => ok("").field("location", "/list").status(201),
    })
    .await;
    let edge = caching(&origin, "").await;
    for path in ["/item", "/list", "/other"] {
        edge.get(path).await;
    }
    let changed = Client::connect(&edge, Via::H1).await.ask(request("POST", "/item"), "x").await;
    assert_eq!((changed.status, cache_status(&changed).as_str()), (201, "fwd=method"));
    assert_eq!(cache_status(&edge.get("/item").await), "fwd=uri-miss; stored");
    assert_eq!(cache_status(&edge.get("/list").await), "fwd=uri-miss; stored");
    assert_eq!(cache_status(&edge.get("/other").await), "hit");
}

#[tokio::test]
async fn parameters_that_do_not_count_do_not_reach_the_origin() {
    let origin = counting(|request, _| ok(request.target).field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "key = { query_ignore = [\"utm_*\", \"ref\"] }").await;
    assert_eq!(edge.get("/?utm_source=x&page=1&ref=y").await.text(), "/?page=1", "E2");
    assert_eq!(cache_status(&edge.get("/?page=1&utm_medium=z").await), "hit");
    assert_eq!(cache_status(&edge.get("/?page=2").await), "fwd=uri-miss; stored");
    assert_eq!(edge.get("/a?ref=1").await.text(), "/a");
}

#[tokio::test]
async fn requests_with_a_sign_are_passed_on() {
    let origin = counting(|_, number| numbered(number).field("cache-control", "max-age=60")).await;
    let signs = "bypass = { fields = [\"x-preview\"], cookies = [\"admin\"], query = [\"nocache\"] }";
    let edge = caching(&origin, signs).await;
    edge.get("/").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for (head, status) in [
        (request("GET", "/").header("x-preview", "1"), "fwd=bypass"),
        (request("GET", "/").header("x-preview", "0"), "hit"),
        (request("GET", "/").header("cookie", "a=b; admin=yes"), "fwd=bypass"),
        (request("GET", "/?nocache=1"), "fwd=bypass"),
        (request("POST", "/"), "fwd=method"),
    ] {
        assert_eq!(cache_status(&client.ask(head, "").await), status);
    }
    let with_body = client.ask(request("GET", "/"), "body").await;
    assert_eq!((with_body.text(), cache_status(&with_body).as_str()), ("6", "fwd=bypass"), "E2");
}

#[tokio::test]
async fn a_client_may_ask_for_nothing_but_what_is_kept() {
    let origin = Origin::replies(ok("").field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let only = || request("GET", "/").header("cache-control", "only-if-cached");
    assert_eq!(client.ask(only(), "").await.status, 504);
    assert_eq!(origin.count(), 0);
    client.get("/").await;
    assert_eq!(client.ask(only(), "").await.status, 200);
}

#[tokio::test]
async fn a_stale_response_is_better_than_none() {
    let failing = Arc::new(AtomicUsize::new(0));
    let fails = Arc::clone(&failing);
    let mut origin = Origin::answers(move |_| {
        let is_failing = fails.load(Ordering::Relaxed) > 0;
        std::future::ready(match is_failing {
            true => ok("broken").status(503),
            false => ok("good").field("cache-control", "max-age=60, stale-if-error=600").field("age", "60"),
        })
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(edge.get("/").await.text(), "good");
    failing.store(1, Ordering::Relaxed);
    let stale = edge.get("/").await;
    assert_eq!((stale.status, stale.text()), (200, "good"));
    assert_eq!(cache_status(&stale), "fwd=stale; fwd-status=503");
    origin.kill().await;
    assert_eq!(edge.get("/").await.text(), "good");
    assert_eq!(edge.get("/other").await.status, 502);
}

#[tokio::test]
async fn a_response_that_may_be_stale_for_a_while_is_validated_behind_the_clients_back() {
    let gate = Arc::new(Semaphore::new(1));
    let count = AtomicUsize::new(0);
    let origin = Origin::answers_once(&gate, move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => ok("old").field("cache-control", "max-age=60, stale-while-revalidate=600").field("age", "60"),
        _ => ok("new").field("cache-control", "max-age=60"),
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(edge.get("/").await.text(), "old");
    for _ in 0..3 {
        let stale = edge.get("/").await;
        assert_eq!((stale.text(), cache_status(&stale).as_str()), ("old", "hit"));
    }
    origin.has(2).await;
    gate.add_permits(1);
    until("the new one", async || (edge.get("/").await.text() == "new").then_some(())).await;
    assert_eq!(origin.count(), 2, "one at a time");
}

#[tokio::test]
async fn many_who_ask_for_the_same_are_one_request() {
    const CLIENTS: usize = 200;
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let origin = Origin::serves(move |mut connection| {
        let gate = Arc::clone(&gated);
        async move {
            while connection.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 200000\r\n\r\n";
                connection.wire.send(head).await.unwrap();
                connection.wire.send(vec![b'1'; 100_000]).await.unwrap();
                gate.acquire().await.unwrap().forget();
                connection.wire.send(vec![b'2'; 100_000]).await.unwrap();
            }
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let leader = Client::connect(&edge, Via::H1).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&edge, Via::H1).await);
    }
    let mut leader = leader;
    let pending = leader.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    let waits = tokio::spawn(pending);
    origin.has(1).await;
    leader.leave();
    waits.abort();
    let asked =
        join_all(clients.iter_mut().map(|client| client.send(request("GET", "/").body(Body::whole("")).unwrap())))
            .await;
    let asked: Vec<_> = asked.into_iter().map(tokio::spawn).collect();
    gate.add_permits(1);
    let mut bodies = Vec::new();
    for head in join_all(asked).await {
        let mut body = head.unwrap().unwrap().into_body();
        let first = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap().into_data().unwrap();
        assert!(first.iter().all(|byte| *byte == b'1'), "the first bytes flow before the last are there");
        bodies.push((first.len(), body));
    }
    gate.add_permits(1);
    for (read, body) in bodies {
        let rest = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        assert_eq!(read + rest.len(), 200_000);
    }
    assert_eq!(origin.count(), 1, "E13");
    assert_eq!(cache_status(&edge.get("/").await), "hit");
}

#[tokio::test]
async fn what_cannot_be_shared_does_not_line_up() {
    const CLIENTS: usize = 20;
    let together = Arc::new(tokio::sync::Barrier::new(CLIENTS - 1));
    let is_first = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let origin = Origin::answers(move |_| {
        let (together, is_first, gate) = (Arc::clone(&together), Arc::clone(&is_first), Arc::clone(&gated));
        async move {
            if is_first.fetch_add(1, Ordering::Relaxed) == 0 {
                gate.acquire().await.unwrap().forget();
            } else {
                together.wait().await;
            }
            ok("").field("cache-control", "private")
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let asked = (0..CLIENTS).map(|_| edge.get("/"));
    let open = async {
        origin.has(1).await;
        gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(join_all(asked), open);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(origin.count(), CLIENTS);
}

#[tokio::test]
async fn a_failure_is_for_all_who_wait() {
    const CLIENTS: usize = 20;
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let origin = Origin::serves(move |mut connection| {
        let gate = Arc::clone(&gated);
        async move {
            connection.request().await;
            gate.acquire().await.unwrap().forget();
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let asked = join_all((0..CLIENTS).map(|_| edge.get("/")));
    let fail = async {
        until("all wait", async || {
            let workers = edge.status().await["workers"].as_array().unwrap().clone();
            let busy: u64 = workers.iter().filter_map(|worker| worker["busy"].as_u64()).sum();
            (busy == CLIENTS as u64).then_some(())
        })
        .await;
        gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(asked, fail);
    assert!(answers.iter().all(|answer| answer.status == 502), "{answers:?}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn what_ends_early_is_cut_and_not_kept() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf";
        connection.wire.send(head).await.unwrap();
    })
    .await;
    let edge = caching(&origin, "").await;
    for count in 1..=2 {
        let mut client = Client::connect(&edge, Via::H1).await;
        let pending = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
        let response = pending.await.unwrap();
        assert!(Answer::read(response).await.is_err(), "E7: the client sees it");
        assert_eq!(origin.count(), count);
    }
}

#[tokio::test]
async fn what_turns_out_too_large_is_sent_and_not_kept() {
    const LENGTH: usize = 3_000_000;
    let origin = Origin::serves(|mut connection| async move {
        while connection.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
            connection.wire.send(head).await.unwrap();
            for _ in 0..LENGTH / 100_000 {
                let chunk = [&b"186a0\r\n"[..], &[b'x'; 100_000], b"\r\n"].concat();
                if connection.wire.send(chunk).await.is_err() {
                    return;
                }
            }
            connection.wire.send("0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let edge = caching_in("object_max = \"1MiB\"", &origin, "").await;
    for count in 1..=2 {
        let answer = edge.get("/").await;
        assert_eq!(answer.body.len(), LENGTH);
        assert_eq!(origin.count(), count);
    }
}

#[tokio::test]
async fn a_reload_keeps_what_is_kept() {
    let origin = counting(|_, number| numbered(number).field("cache-control", "max-age=60")).await;
    let edge = caching(&origin, "").await;
    edge.get("/").await;
    let config = std::fs::read_to_string(edge.config_path()).unwrap();
    edge.write_config(&config.replace("cache = {  }", "cache = { default_ttl = \"1s\" }"));
    edge.reload().await;
    assert_eq!(cache_status(&edge.get("/").await), "hit");
    edge.write_config(&config.replace("[cache]", "[cache]\nenabled = false"));
    edge.reload().await;
    let passed = edge.get("/").await;
    assert_eq!((passed.text(), passed.field("x-cache")), ("2", ""));
}

#[tokio::test]
async fn the_log_says_what_a_request_was_to_the_cache() {
    let origin = Origin::answers(async |request| {
        let reply = ok("").field("etag", "\"1\"");
        match (request.target.as_str(), request.fields.has("if-none-match")) {
            ("/old", false) => reply.field("cache-control", "max-age=60").field("age", "60"),
            (_, false) => reply.field("cache-control", "max-age=60"),
            (_, true) => ok("").status(304),
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for (method, path, role) in [
        ("GET", "/new", "miss"),
        ("GET", "/new", "hit"),
        ("GET", "/old", "miss"),
        ("GET", "/old", "validated"),
        ("POST", "/new", "bypass"),
    ] {
        client.ask(request(method, path).header("user-agent", role), "").await;
        let line = edge.log(|line| line["path"] == path && line["user_agent"] == role).await;
        assert_eq!(line["cache"], role, "{line}");
    }
}

#[tokio::test]
async fn what_is_kept_is_coded_once_and_sent_to_who_takes_it() {
    const BODY: usize = 20_000;
    let origin = Origin::replies(
        ok("compressible ".repeat(BODY / 13)).field("content-type", "text/plain").field("cache-control", "max-age=60"),
    )
    .await;
    let edge = caching(&origin, "").await;
    let mut client = Client::connect(&edge, Via::H2).await;
    let ask = async |client: &mut Client, coding: &str, tag: &str| {
        let head = request("GET", "/").header("accept-encoding", coding);
        client.ask(if tag.is_empty() { head } else { head.header("if-none-match", tag) }, "").await
    };
    let plain = ask(&mut client, "identity", "").await;
    assert_eq!((plain.field("content-encoding"), plain.field("vary")), ("", "Accept-Encoding"));
    let tag = plain.field("etag").to_owned();
    for coding in ["gzip", "br", "zstd"] {
        let first = ask(&mut client, coding, "").await;
        assert_eq!((cache_status(&first).as_str(), first.field("content-encoding")), ("hit", coding));
        assert!(first.body.len() < BODY / 10, "{first:?}");
        assert_eq!(first.field("content-length"), first.body.len().to_string());
        assert_ne!(first.field("etag"), tag, "E9: other bytes, another tag");
        let again = ask(&mut client, coding, "").await;
        assert_eq!((&again.body, again.field("etag")), (&first.body, first.field("etag")));
        let known = ask(&mut client, coding, first.field("etag")).await;
        assert_eq!((known.status, known.field("etag")), (304, first.field("etag")));
        let head = client.ask(request("HEAD", "/").header("accept-encoding", coding), "").await;
        assert_eq!(
            (head.field("content-encoding"), head.field("content-length")),
            (coding, first.field("content-length"))
        );
    }
    assert_eq!(ask(&mut client, "identity", "").await.body, plain.body);
    let part = client.ask(request("GET", "/").header("accept-encoding", "gzip").header("range", "bytes=0-3"), "").await;
    assert_eq!((part.status, part.text(), part.field("content-encoding")), (206, "comp", ""));
    assert_eq!(origin.count(), 1);
}

/// What the origin says when it is asked again counts as much as what it said first.
#[tokio::test]
async fn a_304_may_forbid_what_the_200_allowed() {
    for (name, value) in [("cache-control", "private"), ("cache-control", "no-store"), ("vary", "*"), ("vary", "x-any")]
    {
        let origin = Origin::answers(move |request| {
            let reply = ok("body").field("etag", "\"1\"");
            std::future::ready(match request.fields.has("if-none-match") {
                true => ok("").status(304).field(name, value),
                false => reply.field("cache-control", "max-age=60"),
            })
        })
        .await;
        let edge = caching(&origin, "").await;
        let mut client = Client::connect(&edge, Via::H1).await;
        client.get("/").await;
        let asked = client.ask(request("GET", "/").header("cache-control", "no-cache"), "").await;
        assert_eq!((asked.status, asked.text(), asked.field(name)), (200, "body", value));
        assert!(!cache_status(&asked).contains("stored"), "{asked:?}");
        assert_eq!(cache_status(&client.get("/").await), "fwd=uri-miss; stored", "{name}: {value}");
    }
}

#[tokio::test]
async fn a_sign_in_a_cookie_counts_also_where_cookies_do_not() {
    let origin = Origin::answers(async |request| ok(request.fields.get("cookie").to_owned())).await;
    let edge =
        caching(&origin, "cookies = \"ignore\", default_ttl = \"1h\", bypass = { cookies = [\"session\"] }").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for (cookie, seen) in [("a=1", ""), ("session=1", "session=1"), ("session=2", "session=2"), ("a=2", "")] {
        assert_eq!(client.ask(request("GET", "/").header("cookie", cookie), "").await.text(), seen, "{cookie}");
    }
}

#[tokio::test]
async fn a_stream_of_events_is_nobody_elses() {
    let origin = counting(|_, number| numbered(number).field("content-type", "text/event-stream")).await;
    let edge = caching(&origin, "default_ttl = \"300s\"").await;
    for number in ["1", "2"] {
        assert_eq!(edge.get("/").await.text(), number);
    }
}

/// Over HTTP/1.1 the head of most hits is lines that were made once, and over HTTP/2 it is made of fields.
#[tokio::test]
async fn a_hit_says_the_same_however_its_head_is_made() {
    const EDIT: &str = "response = { set = { x-edge = \"1\", etag = \"\\\"b\\\"\" }, remove = [\"link\"] }";
    let fields = |answer: &Answer| {
        let told = |name: &str| !["age", "cache-status", "date"].contains(&name);
        let lines = answer.fields.iter().filter(|(name, _)| told(name.as_str()));
        let mut lines: Vec<_> = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    };
    for (more, route, says, says_not) in [
        (("x-plain", "1"), "compress = false", "x-plain: 1", "x-edge"),
        (("x-plain", "1"), "", "link: <b>", "vary"),
        (("strict-transport-security", "max-age=9"), "", "strict-transport-security: max-age=9", "x-edge"),
        (("x-cache", "theirs"), "", "x-cache: HIT", "x-cache: theirs"),
        (("x-plain", "1"), EDIT, "etag: \"b\"", "link"),
        (("x-plain", "1"), "rate_limit = [\"any\"]", "ratelimit", "x-edge"),
        (("ratelimit", "theirs"), "rate_limit = [\"any\"]", "theirs", "x-edge"),
    ] {
        let reply = move |_, number| {
            let reply =
                numbered(number).field("cache-control", "max-age=60").field("date", "Sat, 06 Nov 2094 08:49:37 GMT");
            let reply = reply
                .field("link", "<a>")
                .field("link", "<b>")
                .field("etag", "\"a\"")
                .field("content-type", "image/png");
            reply.field(more.0, more.1)
        };
        let origin = counting(reply).await;
        let limit = "[rate_limit.any]\nrequests = 1000\nwindow = \"1h\"\n";
        let route = format!("[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {{}}\n{route}\n");
        let edge = Edge::start(limit.to_owned() + &upstream(&[origin.address()], "") + &route).await;
        let miss = edge.get("/").await;
        let mut found = Vec::new();
        for via in [Via::H1, Via::H1, Via::H2] {
            let hit = Client::connect(&edge, via).await.get("/").await;
            assert_eq!((cache_status(&hit).as_str(), hit.text()), ("hit", miss.text()), "{more:?} {route}");
            assert!(hit.field("age").parse::<u64>().is_ok() && !hit.field("date").is_empty(), "{hit:?}");
            found.push(fields(&hit).into_iter().filter(|line| !line.starts_with("ratelimit:")).collect::<Vec<_>>());
            let text = fields(&hit).join("\n");
            assert!(text.contains(says) && !text.contains(says_not), "{more:?} {route}: {text}");
        }
        assert!(found.iter().all(|lines| *lines == found[0]), "{more:?} {route}: {found:#?}");
    }
}
