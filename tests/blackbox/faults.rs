//! What clients see while endpoints fail: nothing, as long as one is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::*;

async fn answers_at(address: SocketAddr) -> Origin {
    Origin::serves_at(address, |mut connection| async move {
        while let Some(request) = connection.request().await {
            let head_only = request.method == "HEAD";
            if !connection.reply(&ok("back"), head_only).await {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn all_endpoints_go_down_and_come_back() {
    let mut origins = [Origin::replies(ok("")).await, Origin::replies(ok("")).await, Origin::replies(ok("")).await];
    let addresses = origins.each_ref().map(Origin::address);
    // Nobody comes back by the end of a pause.
    let edge = Edge::start(upstream(&addresses, "fail_timeout = \"1h\"") + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 200);
    for origin in &mut origins {
        origin.kill().await;
    }
    for _ in 0..20 {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.field("x-tollgate-reason")), (502, "connect-refused"));
    }
    // The last one that is left is never out, so that what comes back is found.
    let mut states = Vec::new();
    for address in addresses {
        states.push(edge.endpoint(address).await["state"].as_str().unwrap().to_owned());
    }
    states.sort();
    assert_eq!(states, ["ejected", "ejected", "failing"]);
    assert_eq!(edge.status().await["status"], "degraded");
    let back = answers_at(addresses[1]).await;
    let load = Load::start(edge.address(), 4, Connecting::Once);
    load.answers(200).await;
    load.succeeded().await;
    edge.endpoint_is(addresses[1], "usable").await;
    assert!(back.count() >= 200);
}

#[tokio::test]
async fn an_only_endpoint_that_fails_is_still_asked() {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let origin = Origin::serves(move |mut connection| {
        let fails = told.load(Ordering::Relaxed);
        async move {
            while connection.request().await.is_some() {
                if fails || !connection.reply(&ok("well"), false).await {
                    return;
                }
            }
        }
    })
    .await;
    let keys = "fail_timeout = \"1h\"\nhealth = { interval = \"1h\", when_all_fail = \"refuse\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..5 {
        assert_eq!(edge.get("/").await.status, 502);
    }
    edge.endpoint_is(origin.address(), "failing").await;
    fails.store(false, Ordering::Relaxed);
    assert_eq!(edge.get("/").await.text(), "well");
    edge.endpoint_is(origin.address(), "usable").await;
}

#[tokio::test]
async fn an_endpoint_that_answers_errors_unlike_the_others_is_taken_out() {
    let (well, ill) = (Origin::replies(ok("")).await, Origin::replies(ok("").status(500)).await);
    let keys = "balance = \"round-robin\"\noutlier = { requests = 10 }\nfail_timeout = \"1h\"";
    let edge = Edge::start(upstream(&[well.address(), ill.address()], keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut failed = 0;
    for _ in 0..60 {
        failed += usize::from(client.get("/").await.status == 500);
    }
    assert_eq!((failed, ill.count()), (10, 10));
    edge.endpoint_is(ill.address(), "ejected").await;
    assert!(edge.stderr().contains("100 % of its answers are failures"), "{}", edge.stderr());
}

#[tokio::test]
async fn a_fault_of_the_whole_application_takes_no_endpoint_out() {
    let origins = [Origin::replies(ok("").status(500)).await, Origin::replies(ok("").status(500)).await];
    let addresses = origins.each_ref().map(Origin::address);
    let edge = Edge::start(upstream(&addresses, "outlier = { requests = 10 }") + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..60 {
        assert_eq!(client.get("/").await.status, 500);
    }
    for address in addresses {
        edge.endpoint_is(address, "usable").await;
    }
}

#[tokio::test]
async fn a_key_stays_at_its_endpoint_while_that_is_there() {
    let mut origins = [Origin::replies(ok("0")).await, Origin::replies(ok("1")).await, Origin::replies(ok("2")).await];
    let addresses = origins.each_ref().map(Origin::address);
    let rows = [("cookie:session", "cookie", "a=b; session="), ("header:x-user", "x-user", ""), ("path", "", "")];
    let mut config = String::new();
    for (n, (by, ..)) in rows.iter().enumerate() {
        let endpoints: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        config += &format!("[upstream.u{n}]\nendpoints = {endpoints:?}\nbalance = \"hash\"\nhash_by = \"{by}\"\n");
        config += &format!("[[route]]\npath = \"/{n}\"\nupstream = \"u{n}\"\n");
    }
    let edge = Edge::start(config).await;
    let places = async |n: usize, client: &mut Client| {
        let mut places = Vec::new();
        for key in 0..30 {
            let (_, name, before) = rows[n];
            let head = match name {
                "" => request("GET", &format!("/{n}/{key}?any={}", places.len())),
                name => request("GET", &format!("/{n}")).header(name, format!("{before}{key}")),
            };
            places.push(client.ask(head, "").await.text().to_owned());
        }
        places
    };
    let mut all = Vec::new();
    for (n, (by, ..)) in rows.iter().enumerate() {
        let first = places(n, &mut Client::connect(&edge, Via::H1).await).await;
        let again = places(n, &mut Client::connect(&edge, Via::TlsH2).await).await;
        assert_eq!(first, again, "{by}");
        for origin in ["0", "1", "2"] {
            assert!(first.iter().any(|place| place == origin), "{first:?}");
        }
        all.push(first);
    }
    origins[1].kill().await;
    for (n, before) in all.iter().enumerate() {
        let after = places(n, &mut Client::connect(&edge, Via::H1).await).await;
        for (before, after) in before.iter().zip(&after) {
            assert!(if before == "1" { after != "1" } else { after == before }, "{before} became {after}");
        }
    }
}

/// The edge itself writes the field that endpoints are chosen by.
#[tokio::test]
async fn a_key_may_be_what_the_edge_says() {
    let origins = [Origin::replies(ok("0")).await, Origin::replies(ok("1")).await, Origin::replies(ok("2")).await];
    let keys = "balance = \"hash\"\nhash_by = \"header:x-forwarded-host\"";
    let edge = Edge::start(upstream(&origins.each_ref().map(Origin::address), keys) + ROUTE).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut seen = std::collections::BTreeSet::new();
    for host in 0..20 {
        let mut ask =
            async || client.ask(request("GET", "/").header("host", format!("h{host}")), "").await.text().to_owned();
        let place = ask().await;
        for _ in 0..5 {
            assert_eq!(ask().await, place);
        }
        seen.insert(place);
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_client_stays_at_its_endpoint_by_its_address() {
    let origins = [Origin::replies(ok("0")).await, Origin::replies(ok("1")).await, Origin::replies(ok("2")).await];
    let keys = "balance = \"hash\"";
    let config = upstream(&origins.each_ref().map(Origin::address), keys) + ROUTE;
    // The address counts, and not the field that a route may take away.
    let config = config + "request = { remove = [\"x-real-ip\"] }\n[client]\ntrusted = [\"127.0.0.0/8\"]\n";
    let edge = Edge::start(config).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut seen = std::collections::BTreeSet::new();
    for last in 0..20 {
        let mut ask = async || {
            let head = request("GET", "/").header("x-forwarded-for", format!("192.0.2.{last}"));
            client.ask(head, "").await.text().to_owned()
        };
        let place = ask().await;
        assert_eq!(ask().await, place);
        seen.insert(place);
    }
    assert_eq!(seen.len(), 3);
}
