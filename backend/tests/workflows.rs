//! Workflows as a client meets them: the library, the check of a definition, and runs step by step.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use serde_json::{Value, json};

use server::{Answer, Server, add_workflow, number};

async fn start(server: &Server, token: &str, workflow: &str) -> String {
    let run = server.json("POST", &format!("/api/v1/workflows/{workflow}/runs"), token, &json!({})).await;
    assert_eq!(run.status, 201, "{}", run.text());
    run.json()["id"].as_str().unwrap().to_owned()
}

async fn confirm(server: &Server, token: &str, run: &str, step: u32) -> Answer {
    let path = format!("/api/v1/runs/{run}/steps/{step}");
    server.json("POST", &path, token, &json!({"confirmed": true})).await
}

async fn look(server: &Server, token: &str, run: &str, what: &str) -> Answer {
    server.as_user("GET", &format!("/api/v1/runs/{run}/{what}"), token).await
}

fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.json();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn workflows_are_listed_by_category_and_pages_searched_and_shown() {
    let server = Server::start().await;
    for (id, category, steps) in [("audit", "security", 2), ("build", "design", 3), ("check", "security", 1)] {
        add_workflow(server.folder(), id, category, steps).await;
    }
    let check = async |query: &str, expected: &[&str]| {
        assert_eq!(ids(&server.get(&format!("/api/v1/workflows{query}")).await), expected, "{query}");
    };
    check("", &["audit", "build", "check"]).await;
    check("?limit=2", &["audit", "build"]).await;
    check("?limit=2&after=build", &["check"]).await;
    check("?category=security", &["audit", "check"]).await;
    check("?category=security&limit=1&after=audit", &["check"]).await;
    check("?category=other", &[]).await;
    check("/search?q=build", &["build"]).await;
    check("/search?q=to+ch", &["check"]).await;
    check("/search?q=to&limit=2", &["audit", "build"]).await;
    check("/search?q=to&limit=2&after=build", &["check"]).await;
    check("/search?q=nothing", &[]).await;
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?category=A", "category"),
        ("?category=", "category"),
        ("?q=a", "q"),
        ("/search", "q"),
        ("/search?q=a&category=b", "category"),
    ] {
        server.get(&format!("/api/v1/workflows{query}")).await.blames(field);
    }
    let list = server.get("/api/v1/workflows?limit=1").await;
    let summary = json!({"id": "audit", "name": "To audit", "category": "security", "steps": 2});
    assert_eq!((list.field("cache-groups"), list.json()["items"][0].clone()), ("\"workflows\"", summary));
    let audit = server.get("/api/v1/workflows/audit").await;
    let step = json!({"sequence": 2, "title": "Step 2", "prompt": "Do 2.", "require_confirmation": true});
    assert_eq!((audit.field("cache-groups"), audit.json()["steps"][1].clone()), ("\"workflow-audit\"", step));
    assert!(audit.field("cache-control").starts_with("public"));
    server.get("/api/v1/workflows/none").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_definition_is_told_all_its_faults() {
    let server = Server::start().await;
    let judge = async |body: Value| server.json("POST", "/api/v1/workflows/validate", "", &body).await.json();
    let step = json!({"sequence": 1, "title": "Build", "prompt": "Build it.", "require_confirmation": true});
    let good = json!({"name": "Deploy", "description": "", "category": "operations", "steps": [step]});
    assert_eq!(judge(good).await, json!({"valid": true, "faults": []}));
    let faults = json!([
        {"field": "category", "detail": "is missing"},
        {"field": "steps[0].sequence", "detail": "must be 1, its place in the list"},
        {"field": "steps[0].title", "detail": "must be a text of 1 to 120 letters"},
        {"field": "steps[0].require_confirmation", "detail": "is missing"},
    ]);
    let bad = json!({"name": "n", "description": "", "steps": [{"sequence": 2, "title": "", "prompt": "p"}]});
    assert_eq!(judge(bad).await, json!({"valid": false, "faults": faults}));
    server.json("POST", "/api/v1/workflows/validate", "", &json!([])).await.blames("");
}

#[tokio::test]
async fn a_run_goes_step_by_step_to_its_end() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_workflow(server.folder(), "deploy", "operations", 3).await;
    let run = start(&server, &ada, "deploy").await;
    let complete = format!("/api/v1/runs/{run}/complete");
    let seen = async || {
        let next = look(&server, &ada, &run, "next").await.json();
        let progress = look(&server, &ada, &run, "progress").await.json();
        (next["step"]["sequence"].clone(), progress["done"].clone(), progress["percent"].clone())
    };
    for step in 1..=3 {
        assert_eq!(seen().await, (json!(step), json!(step - 1), json!((step - 1) * 100 / 3)));
        server.json("POST", &complete, &ada, &json!({})).await.is_problem(409, "steps-left");
        confirm(&server, &ada, &run, step + 1)
            .await
            .is_problem(if step < 3 { 409 } else { 404 }, if step < 3 { "not-yet" } else { "not-found" });
        // A repeat changes nothing.
        for _ in 0..2 {
            let done = confirm(&server, &ada, &run, step).await;
            assert_eq!((done.status.as_u16(), &done.json()["done"]), (200, &json!(step)));
            assert_eq!(done.field("cache-group-invalidation"), format!("\"run-{run}\""));
        }
    }
    assert_eq!(seen().await, (Value::Null, json!(3), json!(100)));
    assert_eq!(look(&server, &ada, &run, "progress").await.json()["completed_at"], Value::Null);
    let first = server.json("POST", &complete, &ada, &json!({})).await;
    assert_eq!(
        (first.status.as_u16(), first.field("cache-group-invalidation")),
        (200, format!("\"run-{run}\"").as_str())
    );
    assert!(first.json()["completed_at"].is_string());
    assert_eq!(server.json("POST", &complete, &ada, &json!({})).await.body, first.body);
    assert_eq!(look(&server, &ada, &run, "next").await.json()["completed"], true);
    assert_eq!(number(server.folder(), "select count(*) from run_steps").await, 3);
}

#[tokio::test]
async fn a_step_that_requires_it_is_confirmed() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_workflow(server.folder(), "deploy", "operations", 2).await;
    let run = start(&server, &ada, "deploy").await;
    let send = async |step: &str, body: Value| {
        server.json("POST", &format!("/api/v1/runs/{run}/steps/{step}"), &ada, &body).await
    };
    assert_eq!(send("1", json!({})).await.status, 200);
    send("2", json!({})).await.blames("confirmed");
    send("2", json!({"confirmed": false})).await.blames("confirmed");
    send("2", json!({"confirmed": "yes"})).await.blames("confirmed");
    send("2", json!({"confirmed": true, "note": "x"})).await.blames("note");
    for step in ["0", "-1", "3", "two", "9223372036854775808"] {
        send(step, json!({"confirmed": true})).await.is_problem(404, "not-found");
    }
    assert_eq!(send("2", json!({"confirmed": true})).await.json()["done"], 2);
}

#[tokio::test]
async fn of_many_that_do_a_step_at_once_one_does_it() {
    let server = Server::start().await;
    let beside = server.beside().await;
    let ada = server.signed_in("ada").await.access;
    add_workflow(server.folder(), "deploy", "operations", 3).await;
    let run = start(&server, &ada, "deploy").await;
    for step in 1..=3 {
        let attempts = (0..8).map(|number| confirm(if number % 2 == 0 { &server } else { &beside }, &ada, &run, step));
        for answer in futures_util::future::join_all(attempts).await {
            assert_eq!((answer.status.as_u16(), &answer.json()["done"]), (200, &json!(step)));
        }
    }
    assert_eq!(number(server.folder(), "select count(*) from run_steps").await, 3);
}

#[tokio::test]
async fn runs_are_their_owners_alone_and_asked_for_again_by_their_state() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let bob = server.signed_in("bob").await.access;
    add_workflow(server.folder(), "deploy", "operations", 2).await;
    let runs = [start(&server, &ada, "deploy").await, start(&server, &ada, "deploy").await];
    let page = server.as_user("GET", "/api/v1/runs?limit=1", &ada).await;
    assert_eq!((ids(&page), page.json()["next"].clone()), (vec![runs[1].clone()], json!(runs[1])));
    assert_eq!(ids(&server.as_user("GET", "/api/v1/runs", &bob).await), [""; 0]);
    let run = &runs[0];
    for what in ["progress", "next"] {
        look(&server, &bob, run, what).await.is_problem(404, "not-found");
        let seen = look(&server, &ada, run, what).await;
        assert_eq!((seen.field("cache-control"), seen.field("vary")), ("max-age=0, must-revalidate", "Authorization"));
        assert_eq!(seen.field("cache-groups"), format!("\"run-{run}\""));
        let bearer = format!("Bearer {ada}");
        let again = async || {
            let fields = [("authorization", bearer.as_str()), ("if-none-match", seen.field("etag"))];
            server.ask_with("GET", &format!("/api/v1/runs/{run}/{what}"), &fields, "").await
        };
        assert_eq!((again().await.status.as_u16(), again().await.body.len()), (304, 0));
        let step = if what == "progress" { 1 } else { 2 };
        assert_eq!(confirm(&server, &ada, run, step).await.status, 200);
        assert_eq!(again().await.status, 200);
    }
    confirm(&server, &bob, run, 1).await.is_problem(404, "not-found");
    server.json("POST", &format!("/api/v1/runs/{run}/complete"), &bob, &json!({})).await.is_problem(404, "not-found");
    server.json("POST", "/api/v1/workflows/none/runs", &ada, &json!({})).await.is_problem(404, "not-found");
}
