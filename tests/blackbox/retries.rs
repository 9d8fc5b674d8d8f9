//! Requests that are sent again: which, where, when, and how often in all. And what the client gets when nobody
//! answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::harness::*;

const NEVER_OUT: &str = "balance = \"round-robin\"\nfails_max = 0\n";

/// Does this with each connection once it has read a head.
async fn on_head(raw: &'static [u8]) -> Origin {
    Origin::serves(move |mut connection| async move {
        if connection.request_head().await.is_some() {
            connection.wire.send(raw).await.unwrap();
        }
    })
    .await
}

/// Reads requests and never answers.
async fn silent() -> Origin {
    Origin::serves(|mut connection| async move {
        connection.request_head().await;
        connection.wire.rest().await;
    })
    .await
}

async fn retries(edge: &Edge, cause: &str) -> f64 {
    edge.metric(&format!("tollgate_upstream_retries_total{{cause=\"{cause}\",upstream=\"app\"}}")).await
}

/// G: retries live within a budget. Two retries were allowed to each of 1,500 requests; a fifth, a hundred and ten a second
/// are what is left of them.
#[tokio::test(flavor = "multi_thread")]
async fn g_the_budget_stops_a_storm_of_retries() {
    const REQUESTS: usize = 1500;
    let broken = [on_head(b"").await, on_head(b"").await, on_head(b"").await];
    let addresses = broken.each_ref().map(Origin::address);
    let keys = NEVER_OUT.to_owned() + "retry = { attempts = 3, backoff = \"0s\" }";
    let edge = Edge::start(upstream(&addresses, &keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    within("all answers", async {
        for _ in 0..REQUESTS {
            assert_eq!(client.get("/").await.status, 502);
        }
    })
    .await;
    let seen: usize = broken.iter().map(Origin::count).sum();
    // It took at most as long as a test waits.
    assert!(seen <= REQUESTS * 12 / 10 + 100 + 10 * 20, "{seen} requests reached an origin");
    assert!(seen >= REQUESTS + 100, "the budget allows more than {seen}");
    let exhausted = edge.metric("tollgate_upstream_retry_budget_exhausted_total{upstream=\"app\"}").await;
    assert!(exhausted > 0.0);
    assert_eq!(retries(&edge, "broken").await as usize, seen - REQUESTS);
}

/// What never reached an endpoint takes nothing from the budget.
#[tokio::test]
async fn connections_that_fail_are_passed_over_without_end() {
    let (nobody, origin) = (deserted(), Origin::replies(ok("")).await);
    let keys = NEVER_OUT.to_owned() + "retry = { attempts = 2, budget = \"0%\" }";
    let edge = Edge::start(upstream(&[nobody, origin.address()], &keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..600 {
        assert_eq!(client.ask(request("POST", "/"), "once").await.status, 200);
    }
    assert_eq!(origin.count(), 600);
    assert!(retries(&edge, "connect").await >= 300.0);
}

/// G: a request that is not idempotent is sent again only if no byte of it was sent.
#[tokio::test]
async fn g_a_post_is_never_sent_twice() {
    let rows: [(&str, &'static [u8], &str); 6] = [
        ("closed at the head", b"", ""),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-", ""),
        ("garbage", b"\x16\x03\x01\r\n\r\n", ""),
        ("a chosen status", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", ""),
        ("no answer for an attempt", b"HTTP/1.1 100 Continue\r\n\r\n", "timeout = { attempt = \"100ms\" }"),
        ("no answer at all", b"HTTP/1.1 100 Continue\r\n\r\n", "timeout = { read = \"100ms\" }"),
    ];
    for (name, raw, keys) in rows {
        let heads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heads);
        let serve = move |mut connection: Connection| {
            let heads = Arc::clone(&count);
            async move {
                if connection.request_head().await.is_some() {
                    heads.fetch_add(1, Ordering::Relaxed);
                    connection.wire.send(raw).await.unwrap();
                    if raw.starts_with(b"HTTP/1.1 100") {
                        connection.wire.rest().await;
                    }
                }
            }
        };
        let origins = [Origin::serves(serve.clone()).await, Origin::serves(serve).await];
        let addresses = origins.each_ref().map(Origin::address);
        let keys = format!("{NEVER_OUT}retry = {{ attempts = 5, status = \"503\", backoff = \"1ms\" }}\n{keys}");
        let edge = Edge::start(upstream(&addresses, &keys) + ROUTE).await;
        for (n, via) in Via::ALL.into_iter().enumerate() {
            for (m, method) in ["POST", "PATCH"].into_iter().enumerate() {
                let answer = Client::connect(&edge, via).await.ask(request(method, "/"), "content").await;
                assert!(answer.status >= 500, "{name} {via:?} {method}: {answer:?}");
                assert_eq!(heads.load(Ordering::Relaxed), 2 * n + m + 1, "{name}: {method} {via:?} was sent again");
            }
        }
        let before = heads.load(Ordering::Relaxed);
        edge.get("/").await;
        assert_eq!(heads.load(Ordering::Relaxed), before + 5, "{name}: a GET is");
    }
}

#[tokio::test]
async fn chosen_statuses_are_tried_elsewhere() {
    let busy = Origin::answers(async |request| match request.target.as_str() {
        "/500" => ok("broken").status(500),
        _ => ok("busy").status(503),
    })
    .await;
    let origin = Origin::replies(ok("here")).await;
    let keys = NEVER_OUT.to_owned() + "retry = { status = \"502-503\" }";
    let edge = Edge::start(upstream(&[busy.address(), origin.address()], &keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut statuses = [0; 600];
    for (method, path) in [("GET", "/"), ("PUT", "/"), ("GET", "/500"), ("POST", "/")] {
        for _ in 0..4 {
            let answer = client.ask(request(method, path), "").await;
            statuses[usize::from(answer.status)] += 1;
            assert!(method == "POST" || path != "/" || answer.text() == "here", "{method} {path}: {answer:?}");
        }
    }
    assert!(statuses[500] > 0 && statuses[503] > 0, "nothing else is");
    assert!(retries(&edge, "status").await >= 2.0);
    assert_eq!(edge.log(|line| line["attempts"] == 2).await["status"], 200);
}

/// What the last attempt came to is the answer, as the origin gave it.
#[tokio::test]
async fn a_chosen_status_is_passed_on_if_there_is_nothing_better() {
    let reply = || ok("all busy").status(503).field("retry-after", "7");
    let origins = [Origin::replies(reply()).await, Origin::replies(reply()).await];
    let addresses = origins.each_ref().map(Origin::address);
    let keys = NEVER_OUT.to_owned() + "retry = { attempts = 4, status = \"503\", backoff = \"1ms\" }";
    let edge = Edge::start(upstream(&addresses, &keys) + ROUTE).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text(), answer.field("retry-after")), (503, "all busy", "7"));
    assert_eq!((origins[0].count(), origins[1].count()), (2, 2), "they take turns");
    assert_eq!(edge.logged("/").await["attempts"], 4);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_moves_on_and_counts_against_its_endpoint() {
    let (stuck, origin) = (silent().await, Origin::replies(ok("here")).await);
    let keys = "balance = \"round-robin\"\nfails_max = 1\ntimeout = { attempt = \"100ms\" }";
    let edge = Edge::start(upstream(&[stuck.address(), origin.address()], keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "here");
    }
    assert_eq!(stuck.count(), 1);
    edge.endpoint_is(stuck.address(), "ejected").await;
    assert_eq!(retries(&edge, "timed_out").await, 1.0);
}

#[tokio::test]
async fn all_attempts_together_have_their_time() {
    let stuck = [silent().await, silent().await];
    let addresses = stuck.each_ref().map(Origin::address);
    let keys =
        |timeout| format!("{NEVER_OUT}retry = {{ attempts = 16, backoff = \"1ms\" }}\ntimeout = {{ {timeout} }}");
    let edge = Edge::start(upstream(&addresses, &keys("attempt = \"150ms\", total = \"400ms\"")) + ROUTE).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (504, "total-timeout"));
    let attempts = edge.logged("/").await["attempts"].as_u64().unwrap();
    assert!((2..=3).contains(&attempts), "{attempts}");
    // A pause that would outlast the time is not begun: the answer is what the attempt came to.
    let broken = on_head(b"").await;
    let keys = "fails_max = 0\nretry = { attempts = 2, backoff = \"10s\" }\ntimeout = { total = \"5s\" }";
    let edge = Edge::start(upstream(&[broken.address()], keys) + ROUTE).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (502, "upstream-closed-early"));
}

/// Breaks the first request for `/broken` off and answers all others; `begun` tells of the first.
async fn broken_once(begun: &Arc<Semaphore>, said: &'static str) -> Origin {
    let (begun, broken) = (Arc::clone(begun), Arc::new(AtomicUsize::new(0)));
    Origin::serves(move |mut connection| {
        let (begun, broken) = (Arc::clone(&begun), Arc::clone(&broken));
        async move {
            while let Some(request) = connection.request().await {
                if request.target == "/broken" && broken.fetch_add(1, Ordering::Relaxed) == 0 {
                    return begun.add_permits(1);
                }
                connection.reply(&ok(said), false).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_pause_holds_neither_the_worker_nor_the_endpoint() {
    let begun = Arc::new(Semaphore::new(0));
    let origin = broken_once(&begun, "here").await;
    let keys = "fails_max = 0\nretry = { attempts = 2, backoff = \"10s\" }";
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    for via in [Via::H1, Via::TlsH2] {
        let mut waiting = Client::connect(&edge, via).await;
        let response = waiting.send(request("GET", "/broken").body(Body::whole("")).unwrap()).await;
        let response = tokio::spawn(response);
        if via == Via::H1 {
            within("the first attempt", begun.acquire()).await.unwrap().forget();
        }
        edge.in_flight(origin.address(), 0).await;
        for _ in 0..20 {
            assert_eq!(edge.get("/other").await.text(), "here");
        }
        if via == Via::H1 {
            assert!(!response.is_finished(), "there was no pause");
            // A client that leaves ends the pause, too.
            response.abort();
            waiting.leave();
            assert_eq!(edge.logged("/broken").await["reason"], "client-gone");
        }
    }
}

/// A request keeps its generation: what waits for its retry is sent where it was meant to go.
#[tokio::test]
async fn a_retry_in_flight_outlives_a_reload() {
    let begun = Arc::new(Semaphore::new(0));
    let (old, new) = (broken_once(&begun, "old").await, Origin::replies(ok("new")).await);
    let keys = "fails_max = 0\nretry = { attempts = 2, backoff = \"3s\" }";
    let edge = Edge::start(upstream(&[old.address()], keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let response = client.send(request("GET", "/broken").body(Body::whole("")).unwrap()).await;
    within("the first attempt", begun.acquire()).await.unwrap().forget();
    edge.write_config(&Edge::standard(upstream(&[new.address()], "") + ROUTE));
    edge.reload().await;
    until("the new upstream", async || (edge.get("/").await.text() == "new").then_some(())).await;
    let answer = within("an answer", async { Answer::read(response.await.unwrap()).await.unwrap() }).await;
    assert_eq!((answer.status, answer.text()), (200, "old"));
    assert_eq!(edge.logged("/broken").await["attempts"], 2);
    // The series of the upstream goes on.
    assert_eq!(retries(&edge, "broken").await, 1.0);
}

const PAGE: &str = "<h1>Back soon</h1>";

#[tokio::test]
async fn a_page_stands_in_for_an_upstream_that_does_not_answer() {
    let (nobody, broken, stuck, origin) =
        (deserted(), on_head(b"").await, silent().await, Origin::replies(ok("here")).await);
    let refuses = "health = { interval = \"20ms\", unhealthy_after = 1, when_all_fail = \"refuse\" }";
    let rows = [
        (nobody, refuses, 503, "no-endpoint"),
        (nobody, "fails_max = 0", 502, "connect-refused"),
        (broken.address(), "fails_max = 0", 502, "upstream-closed-early"),
        (stuck.address(), "fails_max = 0\ntimeout = { read = \"100ms\" }", 504, "read-timeout"),
        (stuck.address(), "fails_max = 0\ntimeout = { attempt = \"100ms\" }", 504, "attempt-timeout"),
        (stuck.address(), "fails_max = 0\ntimeout = { total = \"100ms\" }", 504, "total-timeout"),
    ];
    let mut config = String::new();
    for (n, (address, keys, ..)) in rows.iter().enumerate() {
        config += &format!("[upstream.u{n}]\nendpoints = [\"{address}\"]\nretry = {{ backoff = \"1ms\" }}\n{keys}\n");
        for (path, page) in
            [("file", "file = \"page.html\", status = 503"), ("text", "text = \"soon\", content_type = \"text/x\"")]
        {
            config += &format!("[[route]]\npath = \"/{n}/{path}\"\nupstream = \"u{n}\"\nfallback = {{ {page} }}\n");
        }
    }
    let page = "fallback = { text = \"soon\" }\nbody_max = \"1B\"\n";
    config += &(upstream(&[origin.address()], "") + ROUTE + page);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.html"), PAGE).unwrap();
    std::fs::write(folder.path().join("config.toml"), Edge::standard(config)).unwrap();
    let edge = Edge::in_folder(folder).await;
    until("a refusal for want of endpoints", async || {
        (edge.get("/0/text").await.field("x-tollgate-reason") == "no-endpoint").then_some(())
    })
    .await;
    for (n, (_, keys, status, reason)) in rows.iter().enumerate() {
        for via in [Via::H1, Via::TlsH2] {
            let mut client = Client::connect(&edge, via).await;
            let file = client.get(&format!("/{n}/file")).await;
            assert_eq!((file.status, file.text(), file.field("retry-after")), (503, PAGE, "1"), "{keys} {via:?}");
            assert_eq!(file.field("content-type"), "text/html; charset=utf-8");
            assert_eq!((file.field("x-tollgate-reason"), file.field("cache-control")), (*reason, "no-store"));
            let path = format!("/{n}/text/{via:?}");
            let text = client.get(&path).await;
            assert_eq!((text.status, text.text(), text.field("content-type")), (*status, "soon", "text/x"), "{keys}");
            assert_eq!(edge.logged(&path).await["reason"], *reason);
            let head = client.ask(request("HEAD", &path), "").await;
            assert_eq!((head.status, head.text(), head.field("content-length")), (*status, "", "4"));
        }
    }
    // Neither the origin's own answers nor a client's faults are replaced.
    assert_eq!(edge.get("/").await.text(), "here");
    let refused = Client::connect(&edge, Via::H1).await.ask(request("POST", "/"), "too long").await;
    assert_eq!((refused.status, refused.field("x-tollgate-reason")), (413, "body-too-large"));
    std::fs::write(edge.folder().join("page.html"), "renewed").unwrap();
    until("the new page", async || (edge.get("/1/file").await.text() == "renewed").then_some(())).await;
}

/// First what is stale, then the page.
#[tokio::test]
async fn something_stale_is_better_than_the_page() {
    for (keys, status) in [
        ("health = { path = \"/health\", interval = \"20ms\", unhealthy_after = 1, when_all_fail = \"refuse\" }", 503),
        ("fails_max = 0", 502),
    ] {
        let stored = ok("kept").field("cache-control", "max-age=0, stale-if-error=600").field("etag", "\"1\"");
        let mut origin = Origin::replies(stored).await;
        let address = origin.address();
        let route = ROUTE.to_owned() + "cache = true\nfallback = { text = \"soon\" }\n";
        let edge = Edge::start(upstream(&[address], keys) + &route).await;
        assert_eq!(edge.get("/a").await.text(), "kept");
        origin.kill().await;
        until("the failure", async || (edge.get("/b").await.status == status).then_some(())).await;
        let stale = edge.get("/a").await;
        assert_eq!((stale.status, stale.text()), (200, "kept"), "{keys}");
        assert!(stale.field("cache-status").contains("stale-if-error"), "{stale:?}");
        assert_eq!(edge.get("/b").await.text(), "soon", "{keys}");
    }
}
