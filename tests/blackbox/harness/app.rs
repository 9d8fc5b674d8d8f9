//! The backend app as the edge's own replicas, and people who use it over TLS.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Answer, Client, Edge, Via, request, until, within};

/// Two replicas on one database. The cache may keep whatever says so, or says nothing: it is for the app to say what must
/// not be kept.
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

/// Starts an edge before the app, and waits until both replicas answer.
pub async fn start() -> Edge {
    let edge = Edge::start(APP).await;
    until("two replicas", async || (edge.status().await["upstreams"][0]["usable"] == 2).then_some(())).await;
    edge
}

/// One whose database has what seeding makes.
pub async fn seeded() -> Edge {
    let edge = start().await;
    let mut seed = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    seed.args(["backend", "seed", "--size", "small"]);
    seed.env("TOLLGATE_DATA", edge.folder().join("data")).env("PASSWORD_COST", "8,1");
    let output = within("seeding", seed.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    edge
}

/// The name of the product or workflow that seeding made as this one.
pub fn seed(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

/// The body of an answer.
#[track_caller]
pub fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {} {}", answer.status, answer.text()))
}

/// A client of the edge, over TLS and HTTP/2, with the token of whoever is signed in.
pub struct Person {
    pub client: Client,
    pub access: String,
    pub refresh: String,
}

impl Person {
    /// Registers and signs in.
    pub async fn new(edge: &Edge, name: &str) -> Self {
        let mut person = Self::nobody(edge).await;
        let registration = json!({
            "email": format!("{name}@example.com"), "user_name": name, "display_name": name, "password": "correct horse",
        });
        assert_eq!(person.ask("POST", "/api/v1/auth/register", &registration).await.status, 201);
        let grant =
            person.ask("POST", "/api/v1/auth/login", &json!({ "login": name, "password": "correct horse" })).await;
        person.take(&grant);
        person
    }

    /// Somebody who is not signed in.
    pub async fn nobody(edge: &Edge) -> Self {
        let client = Client::connect(edge, Via::TlsH2).await;
        Self { client, access: String::new(), refresh: String::new() }
    }

    /// Goes on with these tokens.
    pub fn take(&mut self, grant: &Answer) {
        assert_eq!(grant.status, 200, "{}", grant.text());
        let grant = json(grant);
        let text = |name: &str| grant[name].as_str().unwrap().to_owned();
        (self.access, self.refresh) = (text("access_token"), text("refresh_token"));
    }

    /// The head of a request with the token.
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let head = request(method, path);
        if self.access.is_empty() { head } else { head.header("authorization", format!("Bearer {}", self.access)) }
    }

    /// A request with a body of JSON.
    pub async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let head = self.request(method, path).header("content-type", "application/json");
        self.client.ask(head, body.to_string()).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let head = self.request("GET", path);
        self.client.ask(head, "").await
    }
}
