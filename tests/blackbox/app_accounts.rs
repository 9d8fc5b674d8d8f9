//! The app's accounts through the edge over TLS: two replicas on one database, and a cache in front that must keep
//! what is private to itself.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::*;

/// Everything may be kept that says so, or says nothing; it is for the app to say what must not.
const APP: &str = r#"
[upstream.app]
run = { command = ["{self}", "backend", "--listen", "{address}"], replicas = 2 }
balance = "round-robin"
health = { path = "/health", interval = "100ms", timeout = "2s" }
[[route]]
path = "/"
upstream = "app"
cache = { default_ttl = "300s" }
"#;

/// A client of the edge, over TLS and HTTP/2, with the token of whoever is signed in.
struct Person {
    client: Client,
    access: String,
    refresh: String,
}

impl Person {
    /// Registers and signs in.
    async fn new(edge: &Edge, name: &str) -> Self {
        let client = Client::connect(edge, Via::TlsH2).await;
        let mut person = Self { client, access: String::new(), refresh: String::new() };
        let registration = json!({
            "email": format!("{name}@example.com"), "user_name": name, "display_name": name, "password": "correct horse",
        });
        assert_eq!(person.ask("POST", "/api/v1/auth/register", &registration).await.status, 201);
        let grant =
            person.ask("POST", "/api/v1/auth/login", &json!({ "login": name, "password": "correct horse" })).await;
        person.take(&grant);
        person
    }

    fn take(&mut self, grant: &Answer) {
        assert_eq!(grant.status, 200, "{}", grant.text());
        let grant: Value = serde_json::from_slice(&grant.body).unwrap();
        let text = |name: &str| grant[name].as_str().unwrap().to_owned();
        (self.access, self.refresh) = (text("access_token"), text("refresh_token"));
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let head = request(method, path);
        if self.access.is_empty() { head } else { head.header("authorization", format!("Bearer {}", self.access)) }
    }

    async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let head = self.request(method, path).header("content-type", "application/json");
        self.client.ask(head, body.to_string()).await
    }

    async fn me(&mut self) -> Answer {
        let head = self.request("GET", "/api/v1/users/me");
        self.client.ask(head, "").await
    }

    async fn name(&mut self) -> Value {
        let me = self.me().await;
        assert_eq!(me.status, 200, "{}", me.text());
        json(&me)["display_name"].clone()
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until both replicas answer.
async fn start() -> Edge {
    let edge = Edge::start(APP).await;
    until("two replicas", async || (edge.status().await["upstreams"][0]["usable"] == 2).then_some(())).await;
    edge
}

#[tokio::test]
async fn everybody_gets_his_own_profile_and_the_edge_keeps_none() {
    let edge = start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    for _ in 0..4 {
        assert_eq!((ada.name().await, bob.name().await), (json!("ada"), json!("bob")));
    }
    let me = ada.me().await;
    assert_eq!(me.field("cache-control"), "private, max-age=300");
    assert!(!me.field("cache-status").contains("; hit"), "{}", me.field("cache-status"));
    let tag = me.field("etag").to_owned();
    let head = ada.request("GET", "/api/v1/users/me").header("if-none-match", &tag);
    let known = ada.client.ask(head, "").await;
    assert_eq!(
        (known.status, known.body.len(), known.field("etag")),
        (StatusCode::NOT_MODIFIED.as_u16(), 0, tag.as_str())
    );
    // Bob may know the tag of Ada's profile; what he is told is of his own.
    let head = bob.request("GET", "/api/v1/users/me");
    assert_eq!(json(&bob.client.ask(head, "").await)["user_name"], "bob");
    let nobody = Client::connect(&edge, Via::TlsH1).await.get("/api/v1/users/me").await;
    assert_eq!((nobody.status, nobody.field("content-type")), (401, "application/problem+json"));
}

#[tokio::test]
async fn a_change_is_seen_at_once_whichever_replica_answers() {
    let edge = start().await;
    let mut ada = Person::new(&edge, "ada").await;
    for name in ["Ada Byron", "Ada King", "Ada Lovelace"] {
        // So that both replicas have the one before ready.
        ada.name().await;
        ada.name().await;
        assert_eq!(ada.ask("PATCH", "/api/v1/users/me", &json!({ "display_name": name })).await.status, 200);
        assert_eq!((ada.name().await, ada.name().await), (json!(name), json!(name)));
    }
}

#[tokio::test]
async fn a_session_that_has_ended_counts_at_no_replica() {
    let edge = start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let old = ada.refresh.clone();
    let grant = ada.ask("POST", "/api/v1/auth/refresh", &json!({ "refresh_token": old })).await;
    ada.take(&grant);
    assert_eq!(ada.name().await, "ada");
    let answer = ada.ask("POST", "/api/v1/auth/logout", &json!({})).await;
    assert_eq!(answer.status, 204);
    for _ in 0..4 {
        let me = ada.me().await;
        assert_eq!((me.status, json(&me)["code"].clone()), (401, json!("token-revoked")));
    }
    for token in [old, ada.refresh.clone()] {
        let refused = ada.ask("POST", "/api/v1/auth/refresh", &json!({ "refresh_token": token })).await;
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_through_the_edge() {
    let edge = start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let sessions = ada.client.ask(ada.request("GET", "/api/v1/users/me/sessions"), "").await;
    let session = json(&sessions)["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/users/me/sessions/{session}");
    assert_eq!(bob.ask("DELETE", &path, &json!({})).await.status, 404);
    assert_eq!(ada.name().await, "ada");
    assert_eq!(ada.ask("DELETE", &path, &json!({})).await.status, 204);
    assert_eq!(ada.me().await.status, 401);
}

#[tokio::test]
async fn bad_input_comes_back_through_the_edge_with_its_field() {
    let edge = start().await;
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
