//! Accounts as a client meets them: registering, signing in, the profile, sessions, and what a token is good for.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use server::{Answer, PASSWORD, Server, Tokens, registration};

/// One of bcrypt's own test vectors.
const BCRYPT_OF_ABC: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

async fn refresh(server: &Server, token: &str) -> Answer {
    server.json("POST", "/api/v1/auth/refresh", "", &json!({ "refresh_token": token })).await
}

async fn me(server: &Server, token: &str) -> Answer {
    server.as_user("GET", "/api/v1/users/me", token).await
}

async fn conditional(server: &Server, method: &str, user: &Tokens, condition: (&str, &str), body: &str) -> Answer {
    let bearer = format!("Bearer {}", user.access);
    let fields = [("authorization", bearer.as_str()), ("content-type", "application/json"), condition];
    server.ask_with(method, "/api/v1/users/me", &fields, body.to_owned()).await
}

#[tokio::test]
async fn people_sign_in_by_address_name_or_number() {
    let server = Server::start().await;
    let mut ada = registration("Ada");
    ada["phone"] = json!("+41 44 668 18 00");
    let answer = server.json("POST", "/api/v1/auth/register", "", &ada).await;
    assert_eq!((answer.status.as_u16(), answer.field("location")), (201, "/api/v1/users/me"));
    let profile = answer.json();
    assert_eq!((&profile["email"], &profile["user_name"]), (&json!("ada@example.com"), &json!("ada")));
    assert_eq!(profile["phone"], "+41446681800");
    assert!(!answer.text().contains("argon2") && !answer.text().contains(PASSWORD));
    for by in ["ada@example.com", "ADA@example.com", "ada", "Ada", "+41446681800", "+41 (44) 668-18-00"] {
        let tokens = Tokens::of(&server.login(by, PASSWORD).await);
        assert_eq!(me(&server, &tokens.access).await.json()["id"], profile["id"], "{by}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_nobody_are_answered_alike() {
    let server = Server::start().await;
    server.register("ada").await;
    server.register("eve").await;
    server::set_hash(server.folder(), "eve", BCRYPT_OF_ABC).await;
    let wrong = server.login("ada", "wrong horse").await;
    wrong.is_problem(401, "wrong-login");
    assert_eq!(wrong.field("www-authenticate"), "Bearer");
    let begin = Instant::now();
    let logins = ["ada", "eve", "bob@example.com", "+41446681801", "' or 1=1 --", ""];
    let answers = logins.map(|login| server.login(login, "wrong horse"));
    for (login, answer) in logins.iter().zip(futures_util::future::join_all(answers).await) {
        assert_eq!((answer.status, &answer.body), (wrong.status, &wrong.body), "{login}");
    }
    assert!(begin.elapsed() >= Duration::from_millis(500), "however soon it was known");
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("auth_failure_total{reason=\"wrong-login\"} 7"), "{}", metrics.text());
}

#[tokio::test]
async fn what_somebody_has_is_refused_by_its_name() {
    let server = Server::start().await;
    let mut ada = registration("ada");
    ada["phone"] = json!("+41446681800");
    assert_eq!(server.json("POST", "/api/v1/auth/register", "", &ada).await.status, 201);
    for (field, value) in [("email", "ADA@example.com"), ("user_name", "Ada"), ("phone", "+41 44 668 18 00")] {
        let mut bob = registration("bob");
        bob[field] = json!(value);
        let answer = server.json("POST", "/api/v1/auth/register", "", &bob).await;
        answer.is_problem(409, "taken");
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
    // Nothing of the attempts is left.
    server.register("bob").await;
    let bob = Tokens::of(&server.login("bob", PASSWORD).await);
    let answer = server.json("PATCH", "/api/v1/users/me", &bob.access, &json!({ "user_name": "ada" })).await;
    answer.is_problem(409, "taken");
}

#[tokio::test]
async fn bad_input_of_every_kind_names_the_field() {
    let server = Server::start().await;
    let with = |field: &str, value: Value| {
        let mut body = registration("ada");
        body[field] = value;
        body.to_string()
    };
    let without = |field: &str| {
        let mut body = registration("ada");
        body.as_object_mut().unwrap().remove(field);
        body.to_string()
    };
    for (field, body) in [
        ("email", with("email", json!("ada"))),
        ("email", with("email", json!(7))),
        ("email", with("email", json!(null))),
        ("email", without("email")),
        ("user_name", with("user_name", json!("a"))),
        ("user_name", without("user_name")),
        ("phone", with("phone", json!("123"))),
        ("display_name", with("display_name", json!("\n"))),
        ("password", with("password", json!("short"))),
        ("password", without("password")),
        ("role", with("role", json!("admin"))),
        ("version", with("version", json!(7))),
        ("", "[]".to_owned()),
        ("", "{".to_owned()),
    ] {
        let answer = server.post("/api/v1/auth/register", "application/json", body.clone()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errors"][0]["field"]), (400, &json!(field)), "{body}");
        assert!(!answer.text().contains("short"), "what was sent is not sent back");
    }
    let path = "/api/v1/auth/register";
    server.post(path, "text/plain", registration("ada").to_string()).await.is_problem(415, "not-json");
    server.post(path, "application/json", vec![b' '; (1 << 20) + 1]).await.is_problem(413, "body-too-large");
    server.get(path).await.is_problem(405, "method-not-allowed");
    server.get("/api/v1/nothing").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_profile_is_private_and_known_again() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let answer = me(&server, &ada.access).await;
    assert_eq!(answer.field("cache-control"), "private, max-age=300");
    assert_eq!(answer.field("vary"), "Authorization");
    let tag = answer.field("etag").to_owned();
    let again = conditional(&server, "GET", &ada, ("if-none-match", &tag), "").await;
    assert_eq!((again.status.as_u16(), again.body.len(), again.field("etag")), (304, 0, tag.as_str()));

    let bob = server.signed_in("bob").await;
    assert_eq!(conditional(&server, "GET", &bob, ("if-none-match", &tag), "").await.json()["user_name"], "bob");

    let change = json!({ "display_name": "Ada L.", "phone": "+41446681800" }).to_string();
    let changed = conditional(&server, "PATCH", &ada, ("if-match", &tag), &change).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["display_name"]), (200, &json!("Ada L.")));
    let late = conditional(&server, "PATCH", &ada, ("if-match", &tag), &change).await;
    late.is_problem(412, "changed");
    let now = conditional(&server, "GET", &ada, ("if-none-match", &tag), "").await;
    assert_eq!((now.status.as_u16(), &now.json()["phone"]), (200, &json!("+41446681800")));

    let without = server.json("PATCH", "/api/v1/users/me", &ada.access, &json!({ "phone": null })).await;
    assert_eq!((&without.json()["phone"], &without.json()["display_name"]), (&json!(null), &json!("Ada L.")));
    server.json("PATCH", "/api/v1/users/me", &ada.access, &json!({})).await.is_problem(400, "invalid-input");
}

#[tokio::test]
async fn a_change_at_one_replica_is_seen_at_the_others_at_once() {
    let one = Server::start().await;
    let other = one.beside().await;
    let ada = one.signed_in("ada").await;
    for name in ["A", "B", "C"] {
        assert_eq!(me(&other, &ada.access).await.status, 200);
        one.json("PATCH", "/api/v1/users/me", &ada.access, &json!({ "display_name": name })).await;
        assert_eq!(me(&other, &ada.access).await.json()["display_name"], name);
    }
}

#[tokio::test]
async fn a_profile_that_is_ready_costs_one_statement() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    me(&server, &ada.access).await;
    let before = server.statements().await;
    me(&server, &ada.access).await;
    assert_eq!(server.statements().await - before, 1);
}

#[tokio::test]
async fn after_logout_no_token_of_the_session_counts_anywhere() {
    let one = Server::start().await;
    let other = one.beside().await;
    let ada = one.signed_in("ada").await;
    let second = Tokens::of(&one.login("ada", PASSWORD).await);
    let renewed = Tokens::of(&refresh(&one, &ada.refresh).await);
    assert_eq!(one.as_user("POST", "/api/v1/auth/logout", &renewed.access).await.status, 204);
    for server in [&one, &other] {
        for access in [&ada.access, &renewed.access] {
            me(server, access).await.is_problem(401, "token-revoked");
        }
        refresh(server, &renewed.refresh).await.is_problem(401, "wrong-refresh-token");
        assert_eq!(me(server, &second.access).await.status, 200, "another session goes on");
    }
}

#[tokio::test]
async fn a_refresh_token_counts_once_and_a_second_use_ends_the_session() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let next = Tokens::of(&refresh(&server, &ada.refresh).await);
    assert_eq!(me(&server, &next.access).await.status, 200);
    refresh(&server, &ada.refresh).await.is_problem(401, "refresh-token-reused");
    // Whoever of the two was the thief has nothing any more.
    refresh(&server, &next.refresh).await.is_problem(401, "wrong-refresh-token");
    for access in [&ada.access, &next.access] {
        me(&server, access).await.is_problem(401, "token-revoked");
    }
    refresh(&server, "no token").await.is_problem(401, "wrong-refresh-token");
}

#[tokio::test]
async fn of_many_renewals_at_once_one_succeeds() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let attempts = (0..8).map(|_| refresh(&server, &ada.refresh));
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

#[tokio::test]
async fn sessions_are_listed_by_pages_and_ended_by_their_owner_alone() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let bob = server.signed_in("bob").await;
    for _ in 0..4 {
        server.login("ada", PASSWORD).await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/users/me/sessions?limit=2".to_owned();
    loop {
        let page = server.as_user("GET", &path, &ada.access).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/users/me/sessions?limit=2&after={next}");
    }
    let ids: std::collections::BTreeSet<_> = seen.iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!((seen.len(), ids.len()), (5, 5));
    assert_eq!(seen.iter().filter(|session| session["current"] == true).count(), 1);

    let own = seen.iter().find(|session| session["current"] == true).unwrap();
    let path = format!("/api/v1/users/me/sessions/{}", own["id"].as_str().unwrap());
    server.as_user("DELETE", &path, &bob.access).await.is_problem(404, "not-found");
    assert_eq!(me(&server, &ada.access).await.status, 200);
    assert_eq!(server.as_user("DELETE", &path, &ada.access).await.status, 204);
    me(&server, &ada.access).await.is_problem(401, "token-revoked");

    for (query, field) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("after=", "after"), ("page=2", "page")]
    {
        server.as_user("GET", &format!("/api/v1/users/me/sessions?{query}"), &bob.access).await.blames(field);
    }
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_refused() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await;
    let elsewhere = Server::start().await.signed_in("ada").await;
    for (token, code) in [
        (String::new(), "no-token"),
        ("a.b.c".to_owned(), "wrong-token"),
        (format!("{}x", ada.access), "wrong-token"),
        (ada.refresh.clone(), "wrong-token"),
        (elsewhere.access, "wrong-token"),
    ] {
        me(&server, &token).await.is_problem(401, code);
    }
    server.get("/api/v1/users/me").await.is_problem(401, "no-token");
}

#[tokio::test]
async fn an_old_hash_is_replaced_at_the_next_sign_in() {
    let server = Server::start().await;
    server.register("ada").await;
    let dearer = server::settings(server.folder(), &["--password-cost", "16,1"]);
    let dearer = Server::with(dearer).await;
    let hash = async || server::stored_hash(server.folder(), "ada").await;
    assert!(hash().await.contains("m=8,t=1"));
    Tokens::of(&dearer.login("ada", PASSWORD).await);
    assert!(hash().await.contains("m=16,t=1"));

    server::set_hash(server.folder(), "ada", BCRYPT_OF_ABC).await;
    server.login("ada", "abd").await.is_problem(401, "wrong-login");
    Tokens::of(&server.login("ada", "abc").await);
    assert!(hash().await.starts_with("$argon2id$"));
    Tokens::of(&server.login("ada", "abc").await);
}
