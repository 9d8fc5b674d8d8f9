//! Who may ask for what: the table of routes, walked as `/openapi.json` gives it, so that a route that is added is
//! asked by everyone, too.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use server::{Answer, Server, add_product, add_workflow};

/// One operation as it is described.
struct Operation {
    method: String,
    path: String,
    policy: String,
    security: Value,
}

async fn operations(server: &Server) -> Vec<Operation> {
    let description = server.get("/openapi.json").await.json();
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                policy: operation["x-policy"].as_str().expect("every route says for whom it is").to_owned(),
                security: operation["security"].clone(),
            });
        }
    }
    operations
}

/// Somebody with a thing of every kind that can be owned.
struct Person {
    token: String,
    /// By the paths of routes that name a thing: the same with a thing of this person.
    paths: BTreeMap<&'static str, String>,
}

impl Person {
    async fn new(server: &Server, name: &str) -> Self {
        let token = server.signed_in(name).await.access;
        let sessions = server.as_user("GET", "/api/v1/users/me/sessions", &token).await.json();
        let session = sessions["items"][0]["id"].as_str().unwrap();
        assert_eq!(server.put_in_cart(&token, "desk", 1).await.status, 204);
        let order = server.order(&token, "k", "local-approve").await.json();
        let order = order["id"].as_str().unwrap();
        let run = server.json("POST", "/api/v1/workflows/deploy/runs", &token, &json!({})).await.json();
        let run = run["id"].as_str().unwrap();
        let media = server.add_media(&token, "of mine").await;
        let (item, job) = (media["media"]["id"].as_str().unwrap(), media["jobs"][0]["id"].as_str().unwrap());
        let playlist = server.add_playlist(&token, "mine", false).await;
        let in_playlist = format!("{playlist}/items/{item}");
        assert_eq!(server.json("PUT", &in_playlist, &token, &json!({})).await.status, 204);
        let paths = BTreeMap::from([
            ("/api/v1/users/me/sessions/{id}", format!("/api/v1/users/me/sessions/{session}")),
            ("/api/v1/products/{id}", "/api/v1/products/desk".to_owned()),
            ("/api/v1/cart/items/{product}", "/api/v1/cart/items/desk".to_owned()),
            ("/api/v1/orders/{id}", format!("/api/v1/orders/{order}")),
            ("/api/v1/orders/{id}/payment", format!("/api/v1/orders/{order}/payment")),
            ("/api/v1/workflows/{id}", "/api/v1/workflows/deploy".to_owned()),
            ("/api/v1/workflows/{id}/runs", "/api/v1/workflows/deploy/runs".to_owned()),
            ("/api/v1/runs/{id}/progress", format!("/api/v1/runs/{run}/progress")),
            ("/api/v1/runs/{id}/next", format!("/api/v1/runs/{run}/next")),
            ("/api/v1/runs/{id}/steps/{sequence}", format!("/api/v1/runs/{run}/steps/1")),
            ("/api/v1/runs/{id}/complete", format!("/api/v1/runs/{run}/complete")),
            ("/api/v1/media/{id}", format!("/api/v1/media/{item}")),
            ("/api/v1/playlists/{id}", playlist),
            ("/api/v1/playlists/{id}/items/{media}", in_playlist),
            ("/api/v1/jobs/{id}", format!("/api/v1/jobs/{job}")),
        ]);
        Self { paths, token }
    }

    /// The path of an operation, about a thing of this person if it is about one.
    fn path_of(&self, operation: &Operation) -> String {
        if !operation.path.contains('{') {
            return operation.path.clone();
        }
        let path = self.paths.get(operation.path.as_str());
        path.unwrap_or_else(|| panic!("say above which thing of a person {} is about", operation.path)).clone()
    }
}

/// Whether a policy lets strangers in, whether it looks at tokens, and how it is described.
fn rule(policy: &str) -> (bool, bool, Value) {
    match policy {
        "anonymous" => (true, false, Value::Null),
        "anyone" => (true, true, json!([{}, { "bearer": [] }])),
        "user" | "owner" => (false, true, json!([{ "bearer": [] }])),
        other => panic!("nobody knows the policy {other}"),
    }
}

async fn ask(server: &Server, operation: &Operation, path: &str, token: &str) -> Answer {
    match operation.method.as_str() {
        "GET" | "DELETE" if token.is_empty() => server.ask_with(&operation.method, path, &[], "").await,
        "GET" | "DELETE" => server.as_user(&operation.method, path, token).await,
        _ => server.json(&operation.method, path, token, &json!({})).await,
    }
}

#[tokio::test]
async fn every_route_admits_those_it_is_for_and_nobody_else() {
    let server = Server::start().await;
    add_product(server.folder(), "desk", 500, &[("zurich", 1_000_000)]).await;
    add_workflow(server.folder(), "deploy", "operations", 2).await;
    let operations = operations(&server).await;
    assert!(operations.len() >= 20, "the table is not empty");
    for (number, operation) in operations.iter().enumerate() {
        // Some of them end a session or remove a thing, so everybody is new.
        let owner = Person::new(&server, &format!("owner{number}")).await;
        let other = Person::new(&server, &format!("other{number}")).await;
        let what = format!("{} {}", operation.method, operation.path);
        let path = owner.path_of(operation);
        let (is_open, looks, security) = rule(&operation.policy);

        let stranger = ask(&server, operation, &path, "").await;
        assert_eq!(stranger.status == 401 && stranger.json()["code"] == "no-token", !is_open, "{what}");
        assert_eq!(operation.security, security, "{what}");
        let forged = ask(&server, operation, &path, "a.b.c").await;
        assert_eq!(forged.status == 401, looks, "{what}: a token that proves nothing");
        if operation.policy == "owner" {
            assert_eq!(ask(&server, operation, &path, &other.token).await.status, 404, "{what} by another user");
        }
        let admitted = ask(&server, operation, &path, &owner.token).await;
        assert!(
            admitted.status != 401 && admitted.status != 404 && admitted.status.as_u16() < 500,
            "{what}: {}",
            admitted.text()
        );
        if looks {
            assert!(!admitted.field("cache-control").contains("public"), "{what}: it is for one person");
            assert_eq!(admitted.field("vary"), "Authorization", "{what}");
        }
    }
}

#[tokio::test]
async fn whoever_sends_a_token_to_a_route_for_anyone_is_known_by_it() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let me = server.as_user("GET", "/api/v1/users/me", &ada.access).await.json();
    let known = server.as_user("GET", "/api/v1", &ada.access).await;
    assert_eq!((&known.json()["user"], known.field("cache-control")), (&me["id"], "no-store"));
    assert_eq!(server.get("/api/v1").await.json()["user"], Value::Null);
}

#[tokio::test]
async fn everything_is_described_and_shown() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await;
    assert_eq!(description.field("content-type"), "application/json");
    let description = description.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let schemas = &description["components"]["schemas"];
    let mut references = Vec::new();
    collect(&description, &mut references);
    assert!(references.contains(&"Problem".to_owned()) && references.contains(&"Profile".to_owned()));
    for name in references {
        assert!(schemas[&name].is_object(), "there is no schema {name}");
    }
    let page = server.get("/docs").await;
    assert!(page.field("content-type").starts_with("text/html") && page.text().contains("/openapi.json"));
    assert!(!page.text().contains("http://") && !page.text().contains("https://"), "it loads nothing from elsewhere");
}

/// The names of all schemas that are referred to.
fn collect(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                    Some(schema) if name == "$ref" => names.push(schema.to_owned()),
                    _ => collect(field, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

#[tokio::test]
async fn a_browser_is_told_what_the_pages_of_an_origin_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(server::settings(folder.path(), &["--cors-origin", "https://app.example"])).await;
    let preflight = async |server: &Server, origin: &str| {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization"),
        ];
        server.ask_with("OPTIONS", "/api/v1/users/me", &fields, "").await
    };
    let answer = preflight(&server, "https://app.example").await;
    assert_eq!(answer.field("access-control-allow-origin"), "https://app.example");
    assert!(answer.field("access-control-allow-methods").contains("PATCH"));
    assert!(answer.field("access-control-allow-headers").contains("authorization"));
    assert_eq!(preflight(&server, "https://evil.example").await.field("access-control-allow-origin"), "");
    assert_eq!(preflight(&Server::start().await, "https://app.example").await.field("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_answer_names_the_trace_that_it_belongs_to() {
    let server = Server::start().await;
    let field = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = server.ask_with("GET", "/api/v1/users/me", &[("traceparent", field)], "").await;
    assert_eq!(answer.field("x-trace-id"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(answer.field("x-span-id").len(), 16);
    assert_ne!(answer.field("x-span-id"), "00f067aa0ba902b7");
}
