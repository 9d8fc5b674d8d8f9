//! Which endpoint gets a request: by what is in flight, in turn, by weight, by health, by what DNS says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use crate::harness::*;

#[tokio::test]
async fn the_endpoint_with_the_fewest_requests_in_flight_is_next() {
    let allowed = Arc::new(Semaphore::new(0));
    let (quick, slow) = (Origin::replies(ok("quick")).await, Origin::held(&allowed).await);
    let edge = Edge::start(upstream(&[quick.address(), slow.address()], "") + ROUTE).await;
    let mut waiting = Vec::new();
    for n in 1..=20 {
        let mut client = Client::connect(&edge, Via::H1).await;
        let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
        let response = tokio::spawn(async move { Answer::read(response.await.unwrap()).await.unwrap() });
        until("the request", async || (quick.count() + slow.count() == n).then_some(())).await;
        if slow.count() > waiting.len() {
            waiting.push((client, response));
        } else {
            assert_eq!(within("an answer", response).await.unwrap().text(), "quick");
        }
        edge.in_flight(quick.address(), 0).await;
    }
    assert_eq!(slow.count(), 1, "while one waits there the others go elsewhere");
    edge.in_flight(slow.address(), 1).await;
    allowed.add_permits(1);
    for (_client, response) in waiting {
        assert_eq!(within("an answer", response).await.unwrap().text(), "held");
    }
    edge.in_flight(slow.address(), 0).await;
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_body_has_ended() {
    let more = Arc::new(Semaphore::new(0));
    let body_allowed = Arc::clone(&more);
    let origin = Origin::serves(move |mut connection| {
        let more = Arc::clone(&body_allowed);
        async move {
            while connection.request().await.is_some() {
                connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap();
                more.acquire().await.unwrap().forget();
                let _client_left = connection.wire.send("world").await;
            }
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
        let response = within("the head", response).await.unwrap();
        edge.in_flight(origin.address(), 1).await;
        more.add_permits(1);
        assert_eq!(within("the body", Answer::read(response)).await.unwrap().text(), "helloworld", "{via:?}");
        edge.in_flight(origin.address(), 0).await;
    }
    // A client that leaves gives its place back too.
    let mut client = edge.raw().await;
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within("the head", client.exact(12)).await.unwrap();
    edge.in_flight(origin.address(), 1).await;
    drop(client);
    edge.in_flight(origin.address(), 0).await;
    let line = edge.logged("/left").await;
    assert_eq!(line["reason"], "client-gone", "{line}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_noticed() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let edge = Edge::before(&origin).await;
    for via in Via::ALL {
        let path = format!("/{via:?}");
        let mut client = Client::connect(&edge, via).await;
        let response = client.send(request("GET", &path).body(Body::whole("")).unwrap()).await;
        edge.in_flight(origin.address(), 1).await;
        drop(response);
        client.leave();
        edge.in_flight(origin.address(), 0).await;
        let line = edge.logged(&path).await;
        assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client-gone".into()), "{via:?}");
    }
}

#[tokio::test]
async fn round_robin_takes_each_in_turn() {
    let origins = [Origin::replies(ok("")).await, Origin::replies(ok("")).await, Origin::replies(ok("")).await];
    let addresses = origins.each_ref().map(Origin::address);
    let edge = Edge::start(upstream(&addresses, "balance = \"round-robin\"") + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..30 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origins.each_ref().map(Origin::count), [10, 10, 10]);
}

#[tokio::test]
async fn weights_share_the_requests_out() {
    let (heavy, light) = (Origin::replies(ok("")).await, Origin::replies(ok("")).await);
    let config = format!(
        "[upstream.app]\nbalance = \"round-robin\"\nendpoints = [{{ address = \"{}\", weight = 3 }}, \"{}\"]\n",
        heavy.address(),
        light.address()
    );
    let edge = Edge::start(config + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..40 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((heavy.count(), light.count()), (30, 10));
}

const HEALTH: &str = "health = { interval = \"50ms\", timeout = \"1s\", healthy_after = 2, unhealthy_after = 2";

/// An origin whose `/health` says what the switch says.
async fn switched(well: &Arc<AtomicBool>) -> Origin {
    let well = Arc::clone(well);
    Origin::answers(move |request| {
        let ill = request.target == "/health" && !well.load(Ordering::Relaxed);
        std::future::ready(if ill { ok("ill").status(503) } else { ok("well") })
    })
    .await
}

#[tokio::test]
async fn a_probe_takes_an_endpoint_out_and_brings_it_back() {
    let well = Arc::new(AtomicBool::new(true));
    let (origin, other) = (switched(&well).await, Origin::replies(ok("other")).await);
    let addresses = [origin.address(), other.address()];
    let keys = format!("balance = \"round-robin\"\n{HEALTH} }}");
    let edge = Edge::start(upstream(&addresses, &keys) + ROUTE).await;
    edge.endpoint_is(origin.address(), "usable").await;
    well.store(false, Ordering::Relaxed);
    edge.endpoint_is(origin.address(), "unhealthy").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "other");
    }
    well.store(true, Ordering::Relaxed);
    edge.endpoint_is(origin.address(), "usable").await;
    let both = [client.get("/").await, client.get("/").await];
    assert!(both.iter().any(|answer| answer.text() == "well"), "{both:?}");
}

#[tokio::test]
async fn a_request_that_waits_at_an_endpoint_moves_on_when_a_probe_takes_it_out() {
    let stuck = Origin::serves(|mut connection| async move {
        // Nothing is answered any more, probes included.
        while connection.request().await.is_some() {}
    })
    .await;
    let other = Origin::replies(ok("other")).await;
    let keys = "balance = \"round-robin\"\n\
                health = { interval = \"100ms\", timeout = \"200ms\", healthy_after = 1, unhealthy_after = 2 }";
    let edge = Edge::start(upstream(&[stuck.address(), other.address()], keys) + ROUTE).await;
    // One of the two meets the stuck endpoint, if it is not out already.
    let both = async { tokio::join!(edge.get("/"), edge.get("/")) };
    let (first, second) = within("both answers", both).await;
    assert_eq!((first.text(), second.text()), ("other", "other"));
    edge.endpoint_is(stuck.address(), "unhealthy").await;
}

#[tokio::test]
async fn when_all_probes_fail_the_config_decides() {
    for (policy, status) in [("use-all", 200), ("refuse", 503)] {
        let well = Arc::new(AtomicBool::new(false));
        let origin = switched(&well).await;
        let keys = format!("{HEALTH}, when_all_fail = \"{policy}\" }}");
        let edge = Edge::start(upstream(&[origin.address()], &keys) + ROUTE).await;
        edge.endpoint_is(origin.address(), "unhealthy").await;
        let answer = edge.get("/").await;
        assert_eq!(answer.status, status, "{policy}");
        if status == 503 {
            assert_eq!(answer.field("x-tollgate-reason"), "no-endpoint");
            assert!(!answer.field("retry-after").is_empty(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_drained_and_taken_back_by_command() {
    let (origin, other) = (Origin::replies(ok("this")).await, Origin::replies(ok("other")).await);
    let addresses = [origin.address(), other.address()];
    let edge = Edge::start(upstream(&addresses, "balance = \"round-robin\"") + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let address = origin.address().to_string();
    let drained = edge.cli(&["upstreams", "drain", "app", &address]).await;
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(edge.endpoint(origin.address()).await["state"], "drained");
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "other");
    }
    // It is the operator's word, which a reload does not take back.
    edge.reload().await;
    assert_eq!(client.get("/").await.text(), "other");
    let taken_back = edge.cli(&["upstreams", "undrain", "app", &address]).await;
    assert!(taken_back.status.success(), "{taken_back:?}");
    let both = [client.get("/").await, client.get("/").await];
    assert!(both.iter().any(|answer| answer.text() == "this"), "{both:?}");
    assert!(!edge.cli(&["upstreams", "drain", "app", "192.0.2.1:80"]).await.status.success());
}

/// Two origins on one port, which a name can stand for.
async fn neighbours() -> ([Origin; 2], [Ipv4Addr; 2], u16) {
    let reply = |text: &'static str| {
        move |mut connection: Connection| async move {
            while connection.request().await.is_some() {
                connection.reply(&ok(text), false).await;
            }
        }
    };
    let addresses = [Ipv4Addr::new(127, 0, 0, 4), Ipv4Addr::new(127, 0, 0, 5)];
    let first = Origin::serves_at(SocketAddr::from((addresses[0], 0)), reply("first")).await;
    let port = first.address().port();
    let second = Origin::serves_at(SocketAddr::from((addresses[1], port)), reply("second")).await;
    ([first, second], addresses, port)
}

fn named(dns: &NameServer, port: u16) -> String {
    dns.config() + &format!("[upstream.app]\nendpoints = [\"app.example:{port}\"]\n") + ROUTE
}

#[tokio::test]
async fn an_address_that_a_name_gains_gets_requests_whatever_its_ttl_says() {
    let ([_first, second], addresses, port) = neighbours().await;
    let dns = NameServer::says(Said::Addresses(vec![addresses[0]])).await;
    let edge = Edge::start(named(&dns, port)).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.text(), "first");
    }
    dns.say(Said::Addresses(addresses.to_vec()));
    until("a request to the new address", async || {
        assert_eq!(client.get("/").await.status, 200);
        (second.count() > 0).then_some(())
    })
    .await;
    // One that it loses gets none.
    dns.say(Said::Addresses(vec![addresses[1]]));
    until("the old address to be gone", async || {
        let both = [client.get("/").await, client.get("/").await, client.get("/").await];
        both.iter().all(|answer| answer.text() == "second").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_last_good_answer_is_kept_while_dns_fails() {
    let ([_first, _second], addresses, port) = neighbours().await;
    let dns = NameServer::says(Said::Addresses(vec![addresses[0]])).await;
    let edge = Edge::start(named(&dns, port)).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    assert_eq!(client.get("/").await.text(), "first");
    for failure in [Said::Failure, Said::NoSuchName] {
        dns.say(failure);
        dns.asked(4).await;
        assert_eq!(client.get("/").await.text(), "first");
    }
}

#[tokio::test]
async fn a_name_that_is_not_yet_known_does_not_stop_the_start() {
    let ([_first, _second], addresses, port) = neighbours().await;
    let dns = NameServer::says(Said::NoSuchName).await;
    let edge = Edge::start(named(&dns, port)).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (503, "no-endpoint"));
    dns.say(Said::Addresses(vec![addresses[0]]));
    until("the name to be known", async || (client.get("/").await.status == 200).then_some(())).await;
}
