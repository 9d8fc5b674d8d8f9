//! The app's media and playlists through the edge over TLS: what everybody sees is kept by the edge until it changes, and what
//! is for one person never is.

use serde_json::{Value, json};

use crate::harness::app::{self, Person, json};
use crate::harness::*;

/// Adds an item and waits until no job is left to change it; its path.
async fn add_media(person: &mut Person, title: &str) -> String {
    let body = json!({ "title": title, "content_type": "image/jpeg" });
    let added = person.ask("POST", "/api/v1/media", &body).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let path = added.field("location").to_owned();
    until("an item that is settled", async || {
        let media = person.get(&path).await;
        (json(&media)["is_settled"] == true).then_some(())
    })
    .await;
    path
}

async fn add_playlist(person: &mut Person, name: &str, is_public: bool) -> String {
    let added = person.ask("POST", "/api/v1/playlists", &json!({ "name": name, "is_public": is_public })).await;
    assert_eq!(added.status, 201, "{}", added.text());
    added.field("location").to_owned()
}

async fn put_into(person: &mut Person, playlist: &str, media: &str) {
    let item = media.rsplit('/').next().unwrap();
    let placed = person.ask("PUT", &format!("{playlist}/items/{item}"), &json!({})).await;
    assert_eq!(placed.status, 204, "{}", placed.text());
}

/// Whether an answer came out of the edge's cache without asking the app.
fn is_hit(answer: &Answer) -> bool {
    answer.field("cache-status").contains("; hit")
}

/// Asks until the edge answers by itself, which it does from the second time on.
async fn kept(person: &mut Person, path: &str) -> Value {
    let first = person.get(path).await;
    assert_eq!(first.status, 200, "{path}: {}", first.text());
    let second = person.get(path).await;
    assert!(is_hit(&second), "{path}: {}", second.field("cache-status"));
    assert_eq!(first.body, second.body);
    json(&second)
}

/// What the first item of a list is called.
fn first(page: &Value) -> &str {
    page["items"][0]["title"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_change_of_media_is_seen_at_once_wherever_the_edge_had_kept_the_item() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut nobody = Person::nobody(&edge).await;
    let item = add_media(&mut ada, "fog").await;
    let playlist = add_playlist(&mut ada, "list", true).await;
    put_into(&mut ada, &playlist, &item).await;
    let search = "/api/v1/media/search?q=fog";
    for path in ["/api/v1/media", search, &item, &playlist] {
        kept(&mut nobody, path).await;
    }

    assert_eq!(ada.ask("PATCH", &item, &json!({ "title": "snow" })).await.status, 200);
    assert_eq!(first(&json(&nobody.get("/api/v1/media").await)), "snow");
    assert_eq!(first(&json(&nobody.get(search).await)), "");
    assert_eq!(json(&nobody.get(&item).await)["title"], "snow");
    assert_eq!(first(&json(&nobody.get(&playlist).await)), "snow");

    // What a job changes the edge is not told; it asks until there is none left.
    until("an item that is settled", async || {
        (json(&nobody.get(&item).await)["thumbnail"]["initials"] == "S").then_some(())
    })
    .await;
    until("a list of settled items", async || {
        let list = json(&nobody.get("/api/v1/media").await);
        (list["items"][0]["is_settled"] == true).then_some(())
    })
    .await;
    kept(&mut nobody, "/api/v1/media").await;

    assert_eq!(ada.ask("DELETE", &item, &json!({})).await.status, 204);
    assert_eq!(nobody.get(&item).await.status, 404);
    assert_eq!(json(&nobody.get("/api/v1/media").await)["items"], json!([]));
    let page = json(&nobody.get(&playlist).await);
    assert_eq!((&page["playlist"]["items"], &page["items"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn the_public_list_is_kept_until_something_is_added() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    for title in ["one", "two", "three"] {
        add_media(&mut ada, title).await;
        // A token makes no difference here: the list is the same for all.
        assert_eq!(first(&kept(&mut bob, "/api/v1/media").await), title);
        let again = bob.get("/api/v1/media").await;
        let known = bob.request("GET", "/api/v1/media").header("if-none-match", again.field("etag"));
        let known = bob.client.ask(known, "").await;
        assert_eq!((known.status, known.body.len(), is_hit(&known)), (304, 0, true));
    }
    let mut nobody = Person::nobody(&edge).await;
    assert_eq!(first(&kept(&mut nobody, "/api/v1/media").await), "three");
}

#[tokio::test]
async fn nobody_else_ever_gets_a_private_playlist() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let mut nobody = Person::nobody(&edge).await;
    let secret = add_playlist(&mut ada, "secret", false).await;
    for _ in 0..4 {
        let own = ada.get(&secret).await;
        assert_eq!((own.status, json(&own)["playlist"]["name"].clone()), (200, json!("secret")));
        assert!(!is_hit(&own), "{}", own.field("cache-status"));
        assert_eq!((bob.get(&secret).await.status, nobody.get(&secret).await.status), (404, 404));
        for person in [&mut bob, &mut nobody] {
            assert_eq!(json(&person.get("/api/v1/playlists").await)["items"], json!([]));
        }
        let own = ada.get("/api/v1/playlists?mine=true").await;
        assert_eq!(json(&own)["items"][0]["name"], "secret");
        assert_eq!(json(&bob.get("/api/v1/playlists?mine=true").await)["items"], json!([]));
        assert_eq!(nobody.get("/api/v1/playlists?mine=true").await.status, 401);
    }
}

#[tokio::test]
async fn what_is_private_is_never_kept_yet_has_its_304() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let secret = add_playlist(&mut ada, "secret", false).await;
    for path in [secret.as_str(), "/api/v1/playlists?mine=true"] {
        let first = ada.get(path).await;
        assert_eq!(first.field("cache-control"), "private, no-cache", "{path}");
        for _ in 0..2 {
            let known = ada.request("GET", path).header("if-none-match", first.field("etag"));
            let known = ada.client.ask(known, "").await;
            assert_eq!((known.status, known.body.len(), is_hit(&known)), (304, 0, false), "{path}");
        }
    }
    assert_eq!(ada.ask("PATCH", &secret, &json!({ "name": "still secret" })).await.status, 204);
    assert_eq!(json(&ada.get(&secret).await)["playlist"]["name"], "still secret");
}

#[tokio::test]
async fn a_playlist_that_was_public_is_gone_from_the_edge_once_it_is_private() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let mut nobody = Person::nobody(&edge).await;
    let item = add_media(&mut ada, "fog").await;
    let playlist = add_playlist(&mut ada, "open", true).await;
    assert_eq!(kept(&mut nobody, &playlist).await["items"], json!([]));
    assert_eq!(kept(&mut nobody, "/api/v1/playlists").await["items"][0]["items"], 0);

    put_into(&mut ada, &playlist, &item).await;
    assert_eq!(first(&kept(&mut nobody, &playlist).await), "fog");
    assert_eq!(kept(&mut nobody, "/api/v1/playlists").await["items"][0]["items"], 1);
    // Bob is known by his token, and so he is sent nothing that was kept.
    let his = bob.get(&playlist).await;
    assert_eq!((his.status, is_hit(&his)), (200, false));
    assert_eq!(first(&kept(&mut nobody, &playlist).await), "fog");

    assert_eq!(ada.ask("PATCH", &playlist, &json!({ "is_public": false })).await.status, 204);
    assert_eq!((bob.get(&playlist).await.status, nobody.get(&playlist).await.status), (404, 404));
    assert_eq!(json(&nobody.get("/api/v1/playlists").await)["items"], json!([]));
    assert_eq!(ada.get(&playlist).await.status, 200);
}

#[tokio::test]
async fn a_job_is_followed_by_its_owner_through_the_edge() {
    let edge = app::start().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    let added = ada.ask("POST", "/api/v1/media", &json!({ "title": "fog", "content_type": "a/b" })).await;
    for job in json(&added)["jobs"].as_array().unwrap() {
        let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
        until("a job that is done", async || (json(&ada.get(&path).await)["state"] == "done").then_some(())).await;
        assert_eq!(json(&ada.get(&path).await)["trace_id"], added.field("x-trace-id"));
        assert_eq!(bob.get(&path).await.status, 404);
        assert_eq!(Person::nobody(&edge).await.get(&path).await.status, 401);
    }
    until("a notification", async || {
        (json(&ada.get("/api/v1/notifications").await)["items"].as_array()?.len() == 1).then_some(())
    })
    .await;
    assert_eq!(json(&bob.get("/api/v1/notifications").await)["items"], json!([]));
}
