//! The app killed in the middle of its work: what was asked for once happens once, whoever repeats it.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use server::process::Replica;
use server::{Answer, Server, add_product, add_workflow, execute, number, try_ask};

const ROUNDS: i64 = 12;

/// A request to change something.
struct Asked {
    path: String,
    token: String,
    key: String,
    body: Value,
}

impl Asked {
    async fn send(&self, address: SocketAddr) -> Option<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let fields = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", self.key.as_str()),
        ];
        try_ask(address, ("POST", &self.path), &fields, self.body.to_string()).await.ok()
    }

    /// Sends it to a process that is killed at this moment.
    async fn send_and_kill(&self, folder: &Path, moment: Moment) {
        let mut replica = Replica::start(folder);
        let address = replica.address().parse().unwrap();
        let killed = async {
            match moment {
                Moment::Seen(sql, expected) => while number(folder, sql).await != expected {},
                Moment::Looks(count) => {
                    for _ in 0..count {
                        number(folder, "select count(*) from users").await;
                    }
                }
            }
            drop(replica);
        };
        tokio::join!(self.send(address), killed);
    }
}

/// When a process is killed.
#[derive(Clone, Copy)]
enum Moment {
    /// As soon as a query gives this number: it has done this much and has not answered yet, or only just.
    Seen(&'static str, i64),
    /// After so many looks at the database, wherever it is then.
    Looks(i64),
}

#[tokio::test]
async fn a_step_is_done_once_whoever_is_killed_while_doing_it() {
    let server = Server::start().await;
    let folder = server.folder();
    let token = server.signed_in("ada").await.access;
    add_workflow(folder, "deploy", "operations", u32::try_from(ROUNDS).unwrap()).await;
    let run = server.json("POST", "/api/v1/workflows/deploy/runs", &token, &json!({})).await.json();
    let run = run["id"].as_str().unwrap();
    for step in 1..=ROUNDS {
        let path = format!("/api/v1/runs/{run}/steps/{step}");
        let asked = Asked { path, token: token.clone(), key: String::new(), body: json!({"confirmed": true}) };
        let moment = if step % 2 == 0 { Moment::Seen("select done from runs", step) } else { Moment::Looks(step) };
        asked.send_and_kill(folder, moment).await;
        let steps = "select count(*) from run_steps";
        assert_eq!(number(folder, "select done from runs").await, number(folder, steps).await);
        let again = asked.send(server.address).await.unwrap();
        assert_eq!((again.status.as_u16(), &again.json()["done"]), (200, &json!(step)));
        assert_eq!(number(folder, steps).await, step);
    }
}

#[tokio::test]
async fn an_order_is_made_once_whoever_is_killed_while_making_it() {
    let server = Server::start().await;
    let folder = server.folder();
    let token = server.signed_in("ada").await.access;
    add_product(folder, "desk", 500, &[("zurich", 100)]).await;
    for round in 1..=ROUNDS {
        server.put_in_cart(&token, "desk", 1).await;
        let asked = Asked {
            path: "/api/v1/orders".to_owned(),
            token: token.clone(),
            key: format!("round-{round}"),
            body: json!({"payment_token": "local-approve"}),
        };
        let moment = match round % 3 {
            0 => Moment::Seen("select count(*) from orders", round),
            1 => Moment::Seen("select count(*) from order_keys", round),
            _ => Moment::Looks(round),
        };
        asked.send_and_kill(folder, moment).await;
        // As if the time of whoever died were over.
        execute(folder, "update order_keys set claimed_ms = claimed_ms - 5000 where answer is null").await;
        let again = asked.send(server.address).await.unwrap();
        assert_eq!(again.status, 201, "{}", again.text());
        for counted in
            ["select count(*) from orders", "select count(*) from payments", "select sum(quantity) from order_lines"]
        {
            assert_eq!(number(folder, counted).await, round, "{counted}");
        }
        assert_eq!(number(folder, "select on_hand from stock").await, 100 - round);
    }
}
