//! The app's workflows through the edge over TLS: a library that the edge keeps, and runs that move step by step, seen at once
//! and by their owner alone.

use serde_json::{Value, json};

use crate::harness::app::{self, Person, json, seed};
use crate::harness::*;

impl Person {
    async fn start_run(&mut self, workflow: u32) -> String {
        let run = self.ask("POST", &format!("/api/v1/workflows/{}/runs", seed(workflow)), &json!({})).await;
        assert_eq!(run.status, 201, "{}", run.text());
        json(&run)["id"].as_str().unwrap().to_owned()
    }

    async fn confirm(&mut self, run: &str, step: i64) -> Answer {
        self.ask("POST", &format!("/api/v1/runs/{run}/steps/{step}"), &json!({"confirmed": true})).await
    }

    async fn look(&mut self, run: &str, what: &str) -> Answer {
        self.get(&format!("/api/v1/runs/{run}/{what}")).await
    }
}

#[tokio::test]
async fn the_library_comes_from_the_edge() {
    let edge = app::seeded().await;
    let mut nobody = Person::nobody(&edge).await;
    for path in [
        "/api/v1/workflows?category=security&limit=5".to_owned(),
        "/api/v1/workflows/search?q=login".to_owned(),
        format!("/api/v1/workflows/{}", seed(0)),
    ] {
        let first = nobody.get(&path).await;
        assert_eq!(first.status, 200, "{path}");
        let again = nobody.get(&path).await;
        assert!(again.field("cache-status").contains("; hit"), "{path}: {}", again.field("cache-status"));
        assert_eq!(again.body, first.body);
    }
}

#[tokio::test]
async fn what_is_next_is_seen_at_once_after_each_step() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let run = ada.start_run(2).await;
    let steps = json(&ada.look(&run, "progress").await)["steps"].as_i64().unwrap();
    for step in 1..=steps {
        // Often enough that both replicas and the edge have the state before.
        for _ in 0..3 {
            assert_eq!(json(&ada.look(&run, "next").await)["step"]["sequence"], step);
            assert_eq!(json(&ada.look(&run, "progress").await)["done"], step - 1);
        }
        assert_eq!(ada.confirm(&run, step).await.status, 200);
        // Once more, as by a client that had no answer.
        assert_eq!(json(&ada.confirm(&run, step).await)["done"], step);
    }
    assert_eq!(json(&ada.look(&run, "next").await)["step"], Value::Null);
    assert_eq!(ada.ask("POST", &format!("/api/v1/runs/{run}/complete"), &json!({})).await.status, 200);
    assert_eq!(json(&ada.look(&run, "next").await)["completed"], true);
    assert!(json(&ada.look(&run, "progress").await)["completed_at"].is_string());
}

#[tokio::test]
async fn the_edge_asks_whether_what_it_has_of_a_run_is_still_so_until_it_has_moved() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let (run, other) = (ada.start_run(2).await, ada.start_run(2).await);
    for (run, what) in [(&run, "next"), (&run, "progress"), (&other, "next"), (&other, "progress")] {
        for expected in ["fwd=uri-miss; stored", "fwd=stale; fwd-status=304; stored"] {
            let answer = ada.look(run, what).await;
            assert_eq!(answer.status, 200);
            assert!(answer.field("cache-status").contains(expected), "{what}: {}", answer.field("cache-status"));
        }
    }
    assert_eq!(ada.confirm(&run, 1).await.status, 200);
    for what in ["next", "progress"] {
        let moved = ada.look(&run, what).await;
        assert!(moved.field("cache-status").contains("miss; stored"), "{what}: {}", moved.field("cache-status"));
        let still = ada.look(&other, what).await;
        assert!(still.field("cache-status").contains("fwd-status=304"), "{what}: {}", still.field("cache-status"));
    }
}

#[tokio::test]
async fn nobody_sees_or_moves_the_run_of_another() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let run = ada.start_run(2).await;
    for what in ["next", "progress"] {
        for _ in 0..2 {
            let own = ada.look(&run, what).await;
            assert_eq!(own.status, 200);
            let path = format!("/api/v1/runs/{run}/{what}");
            let foreign = bob.request("GET", &path).header("if-none-match", own.field("etag"));
            assert_eq!(bob.client.ask(foreign, "").await.status, 404);
            let known = ada.request("GET", &path).header("if-none-match", own.field("etag"));
            assert_eq!(ada.client.ask(known, "").await.status, 304);
            assert_eq!(Person::nobody(&edge).await.look(&run, what).await.status, 401);
        }
    }
    assert_eq!(bob.confirm(&run, 1).await.status, 404);
    assert_eq!(bob.ask("POST", &format!("/api/v1/runs/{run}/complete"), &json!({})).await.status, 404);
    assert_eq!(json(&bob.get("/api/v1/runs").await)["items"], json!([]));
    assert_eq!(json(&ada.look(&run, "progress").await)["done"], 0);
    // Whoever has signed out sees nothing either, although the edge has it.
    assert_eq!(ada.ask("POST", "/api/v1/auth/logout", &json!({})).await.status, 204);
    assert_eq!(ada.look(&run, "next").await.status, 401);
}

#[tokio::test]
async fn what_workflows_refuse_comes_back_with_its_field() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let run = ada.start_run(2).await;
    for (path, field) in [("/api/v1/workflows?category=A", "category"), ("/api/v1/workflows/search", "q")] {
        let refused = ada.get(path).await;
        assert_eq!((refused.status, &json(&refused)["errors"][0]["field"]), (400, &json!(field)));
    }
    let early = ada.confirm(&run, 2).await;
    assert_eq!((early.status, &json(&early)["code"]), (409, &json!("not-yet")));
    let body = json!({"confirmed": true, "note": "x"});
    let unknown = ada.ask("POST", &format!("/api/v1/runs/{run}/steps/1"), &body).await;
    assert_eq!((unknown.status, &json(&unknown)["errors"][0]["field"]), (400, &json!("note")));
    let definition = json!({"name": "n", "description": "", "category": "c", "steps": [{}], "x": 1});
    let verdict = json(&ada.ask("POST", "/api/v1/workflows/validate", &definition).await);
    assert_eq!((&verdict["valid"], verdict["faults"].as_array().unwrap().len()), (&json!(false), 5));
}
