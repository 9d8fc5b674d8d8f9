//! The app's accounts through the edge over TLS: two replicas on one database, and a cache in front that must keep
//! what is private to itself.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::app::{self, Person, json};
use crate::harness::*;

const ME: &str = "/api/v1/users/me";

/// The name that somebody sees of himself.
async fn name(person: &mut Person) -> Value {
    let me = person.get(ME).await;
    assert_eq!(me.status, 200, "{}", me.text());
    json(&me)["display_name"].clone()
}

#[tokio::test]
async fn everybody_gets_his_own_profile_and_the_edge_keeps_none() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    for _ in 0..4 {
        assert_eq!((name(&mut ada).await, name(&mut bob).await), (json!("ada"), json!("bob")));
    }
    let me = ada.get(ME).await;
    assert_eq!(me.field("cache-control"), "private, max-age=300");
    assert!(!me.field("cache-status").contains("; hit"), "{}", me.field("cache-status"));
    let tag = me.field("etag").to_owned();
    let head = ada.request("GET", ME).header("if-none-match", &tag);
    let known = ada.client.ask(head, "").await;
    assert_eq!(
        (known.status, known.body.len(), known.field("etag")),
        (StatusCode::NOT_MODIFIED.as_u16(), 0, tag.as_str())
    );
    // Bob may know the tag of Ada's profile; what he is told is of his own.
    let head = bob.request("GET", ME).header("if-none-match", &tag);
    assert_eq!(json(&bob.client.ask(head, "").await)["user_name"], "bob");
    let nobody = Person::nobody(&edge).await.get(ME).await;
    assert_eq!((nobody.status, nobody.field("content-type")), (401, "application/problem+json"));
}

#[tokio::test]
async fn a_change_is_seen_at_once_whichever_replica_answers() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    for new in ["Ada Byron", "Ada King", "Ada Lovelace"] {
        // So that both replicas have the one before ready.
        name(&mut ada).await;
        name(&mut ada).await;
        assert_eq!(ada.ask("PATCH", ME, &json!({ "display_name": new })).await.status, 200);
        assert_eq!((name(&mut ada).await, name(&mut ada).await), (json!(new), json!(new)));
    }
}

#[tokio::test]
async fn a_session_that_has_ended_counts_at_no_replica() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let old = ada.refresh.clone();
    let grant = ada.ask("POST", "/api/v1/auth/refresh", &json!({ "refresh_token": old })).await;
    ada.take(&grant);
    assert_eq!(name(&mut ada).await, "ada");
    let answer = ada.ask("POST", "/api/v1/auth/logout", &json!({})).await;
    assert_eq!(answer.status, 204);
    for _ in 0..4 {
        let me = ada.get(ME).await;
        assert_eq!((me.status, json(&me)["code"].clone()), (401, json!("token-revoked")));
    }
    for token in [old, ada.refresh.clone()] {
        let refused = ada.ask("POST", "/api/v1/auth/refresh", &json!({ "refresh_token": token })).await;
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_through_the_edge() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let sessions = ada.get("/api/v1/users/me/sessions").await;
    let session = json(&sessions)["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/users/me/sessions/{session}");
    assert_eq!(bob.ask("DELETE", &path, &json!({})).await.status, 404);
    assert_eq!(name(&mut ada).await, "ada");
    assert_eq!(ada.ask("DELETE", &path, &json!({})).await.status, 204);
    assert_eq!(ada.get(ME).await.status, 401);
}

#[tokio::test]
async fn bad_input_comes_back_through_the_edge_with_its_field() {
    let edge = app::start().await;
    let mut client = Client::connect(&edge, Via::TlsH1).await;
    for (body, field) in
        [(r#"{"login": "ada"}"#, "password"), (r#"{"login": "a", "password": "b", "x": 1}"#, "x"), ("{", "")]
    {
        let head = request("POST", "/api/v1/auth/login").header("content-type", "application/json");
        let answer = client.ask(head, body).await;
        assert_eq!((answer.status, answer.field("content-type")), (400, "application/problem+json"));
        assert_eq!(json(&answer)["errors"][0]["field"], field);
    }
    for path in ["/openapi.json", "/docs", "/metrics"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
}
