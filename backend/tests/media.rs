//! Media and playlists as a client meets them: items, the search for words, the order of playlists, and what caches are told.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use serde_json::{Value, json};

use server::{Answer, Server};

const PUBLIC: &str = "public, max-age=0, s-maxage=300";

/// What a field of all items of a page says, in their order.
fn of_items<'p>(page: &'p Value, field: &str) -> Vec<&'p str> {
    page["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

/// Adds an item and waits until nothing is left to derive; its path.
async fn settled(server: &Server, token: &str, title: &str) -> String {
    let added = server.add_media(token, title).await;
    let path = format!("/api/v1/media/{}", added["media"]["id"].as_str().unwrap());
    server.settled(&path).await;
    path
}

fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn place(server: &Server, token: &str, playlist: &str, item: &str, body: &Value) -> Answer {
    server.json("PUT", &format!("{playlist}/items/{item}"), token, body).await
}

/// All pages of a list, with what happens between two of them.
async fn walk(server: &Server, path: &str, mut between: impl AsyncFnMut()) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}{after}")).await.json();
        seen.extend(of_items(&page, "id").into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { return seen };
        after = format!("&after={next}");
        between().await;
    }
}

#[tokio::test]
async fn an_item_is_added_derived_changed_and_removed() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let body = json!({ "title": " A walk ", "description": "in the fog", "content_type": "Image/JPEG" });
    let added = server.json("POST", "/api/v1/media", &ada, &body).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let path = added.field("location").to_owned();
    let kinds: Vec<_> = added.json()["jobs"].as_array().unwrap().iter().map(|job| job["kind"].clone()).collect();
    assert_eq!(kinds, ["metadata", "thumbnail"]);

    let media = server.settled(&path).await;
    assert_eq!((&media["title"], &media["content_type"]), (&json!("A walk"), &json!("image/jpeg")));
    assert_eq!(media["metadata"], json!({ "kind": "image", "words": 5, "text_bytes": 16 }));
    assert_eq!(media["thumbnail"]["initials"], "AW");

    let changed = server.json("PATCH", &path, &ada, &json!({ "title": "Night" })).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["media"]["description"], "in the fog");
    let media = server.settled(&path).await;
    assert_eq!((&media["metadata"]["words"], &media["thumbnail"]["initials"]), (&json!(4), &json!("N")));

    assert_eq!(server.as_user("DELETE", &path, &ada).await.status, 204);
    server.get(&path).await.is_problem(404, "not-found");
    server.as_user("DELETE", &path, &ada).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn only_its_owner_changes_an_item() {
    let server = Server::start().await;
    let (ada, bob) = (server.signed_in("ada").await.access, server.signed_in("bob").await.access);
    let path = settled(&server, &ada, "mine").await;
    for body in [json!({ "title": "his" }), json!({})] {
        server.json("PATCH", &path, &bob, &body).await.is_problem(404, "not-found");
    }
    server.as_user("DELETE", &path, &bob).await.is_problem(404, "not-found");
    assert_eq!(server.get(&path).await.json()["title"], "mine");
}

#[tokio::test]
async fn a_change_of_a_version_that_is_over_is_refused() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let foreign = format!("Bearer {}", server.signed_in("bob").await.access);
    let bearer = format!("Bearer {ada}");
    let item = settled(&server, &ada, "one").await;
    let playlist = server.add_playlist(&ada, "list", false).await;
    let placed = format!("{playlist}/items/{}", id(&item));
    let ask = async |method: &str, path: &str, tag: &str, body: &Value| {
        let fields = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("if-match", tag)];
        server.ask_with(method, path, &fields, body.to_string()).await
    };
    for (thing, changes) in [
        (
            &playlist,
            vec![
                ("PATCH", &playlist, json!({ "name": "b" })),
                ("PUT", &placed, json!({})),
                ("DELETE", &placed, json!({})),
                ("DELETE", &playlist, json!({})),
            ],
        ),
        (&item, vec![("PATCH", &item, json!({ "title": "b" })), ("DELETE", &item, json!({}))]),
    ] {
        let mut tag = server.as_user("GET", thing, &ada).await.field("etag").to_owned();
        for (method, path, body) in changes {
            let old = tag.clone();
            // As a proxy makes it by compressing.
            let answer = ask(method, path, &format!("\"99.x\", W/{tag}"), &body).await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
            tag = server.as_user("GET", thing, &ada).await.field("etag").to_owned();
            if tag.is_empty() {
                ask(method, path, &old, &body).await.is_problem(404, "not-found");
                continue;
            }
            for wrong in [old.as_str(), "\"x\"", ""] {
                ask(method, path, wrong, &body).await.is_problem(412, "changed");
            }
            // Who may not change it learns nothing of its version.
            let fields =
                [("authorization", foreign.as_str()), ("content-type", "application/json"), ("if-match", &old)];
            server.ask_with(method, path, &fields, body.to_string()).await.is_problem(404, "not-found");
        }
    }
}

#[tokio::test]
async fn of_many_who_change_one_version_one_does() {
    let one = Server::start().await;
    let other = one.beside().await;
    let bearer = format!("Bearer {}", one.signed_in("ada").await.access);
    let token = bearer.trim_start_matches("Bearer ").to_owned();
    let playlist = one.add_playlist(&token, "list", false).await;
    let item = settled(&one, &token, "one").await;
    for (path, body) in [(&playlist, json!({ "name": "b" })), (&item, json!({ "title": "b" }))] {
        let tag = one.as_user("GET", path, &token).await.field("etag").to_owned();
        let fields = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("if-match", &tag)];
        let changes = (0..20).map(|number| {
            let replica = if number % 2 == 0 { &one } else { &other };
            replica.ask_with("PATCH", path, &fields, body.to_string())
        });
        let answers = futures_util::future::join_all(changes).await;
        let refused = answers.iter().filter(|answer| answer.status == 412).count();
        let made = answers.iter().filter(|answer| answer.status.is_success()).count();
        assert_eq!((made, refused), (1, 19), "{path}");
    }
}

/// PostgreSQL would refuse to look for the first one, and no text is the second.
#[tokio::test]
async fn what_cannot_be_a_name_names_nothing() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let empty = json!({});
    for name in ["a%00b", "%FF", "%ED%A0%80"] {
        for path in ["media", "playlists", "products", "workflows", "jobs", "orders"] {
            let path = format!("/api/v1/{path}/{name}");
            server.as_user("GET", &path, &ada).await.is_problem(404, "not-found");
        }
        for (method, path) in [
            ("PATCH", format!("/api/v1/media/{name}")),
            ("PUT", format!("/api/v1/playlists/x/items/{name}")),
            ("PUT", format!("/api/v1/cart/items/{name}")),
            ("DELETE", format!("/api/v1/cart/items/{name}")),
            ("DELETE", format!("/api/v1/users/me/sessions/{name}")),
            ("POST", format!("/api/v1/runs/{name}/steps/1")),
        ] {
            server.json(method, &path, &ada, &empty).await.is_problem(404, "not-found");
        }
    }
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let item = settled(&server, &ada, "one").await;
    let playlist = server.add_playlist(&ada, "list", false).await;
    let placed = format!("{playlist}/items/{}", id(&item));
    for (method, path, body, field) in [
        ("POST", "/api/v1/media", json!({ "content_type": "a/b" }), "title"),
        ("POST", "/api/v1/media", json!({ "title": "", "content_type": "a/b" }), "title"),
        ("POST", "/api/v1/media", json!({ "title": "a", "content_type": "b" }), "content_type"),
        ("POST", "/api/v1/media", json!({ "title": "a", "content_type": "a/b", "description": 1 }), "description"),
        ("POST", "/api/v1/media", json!({ "title": "a", "content_type": "a/b", "owner": "bob" }), "owner"),
        ("PATCH", &item, json!({}), ""),
        ("PATCH", &item, json!({ "title": "\n" }), "title"),
        ("POST", "/api/v1/playlists", json!({}), "name"),
        ("POST", "/api/v1/playlists", json!({ "name": "a", "is_public": "yes" }), "is_public"),
        ("PATCH", &playlist, json!({ "name": "" }), "name"),
        ("PUT", &placed, json!({ "position": -1 }), "position"),
        ("PUT", &placed, json!({ "place": 1 }), "place"),
    ] {
        server.json(method, path, &ada, &body).await.blames(field);
    }
    for (path, field) in [
        ("/api/v1/media?limit=0", "limit"),
        ("/api/v1/media?page=2", "page"),
        ("/api/v1/media/search", "q"),
        ("/api/v1/media/search?q=%22", "q"),
        ("/api/v1/media/search?q=a&limit=101", "limit"),
        ("/api/v1/playlists?mine=maybe", "mine"),
    ] {
        server.get(path).await.blames(field);
    }
    server.as_user("GET", &format!("{playlist}?after=x"), &ada).await.blames("after");
}

#[tokio::test]
async fn pages_show_each_item_once_while_others_are_added() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let mut expected = Vec::new();
    for number in 0..11 {
        let added = server.add_media(&ada, &format!("item {number}")).await;
        expected.insert(0, added["media"]["id"].as_str().unwrap().to_owned());
    }
    for path in ["/api/v1/media?limit=3", "/api/v1/media/search?q=item&limit=3"] {
        let seen = walk(&server, path, async || {
            // Neither of them moves the others to another page.
            server.add_media(&ada, "another item").await;
            server.add_media(&ada, "another item").await;
        })
        .await;
        assert_eq!(seen[seen.len() - 11..], expected, "{path}");
        assert_eq!(seen.iter().collect::<std::collections::BTreeSet<_>>().len(), seen.len(), "{path}");
    }
}

#[tokio::test]
async fn the_next_page_is_found_although_the_item_that_it_follows_was_removed() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    for number in 0..9 {
        server.add_media(&ada, &format!("item {number}")).await;
    }
    for path in ["/api/v1/media?limit=3", "/api/v1/media/search?q=item&limit=3"] {
        let all = walk(&server, path, async || ()).await;
        let removed = format!("/api/v1/media/{}", all[2]);
        assert_eq!(server.as_user("DELETE", &removed, &ada).await.status, 204);
        let next = server.get(&format!("{path}&after={}", all[2])).await.json();
        assert_eq!(of_items(&next, "id"), all[3..6], "{path}");
        let none = server.get(&format!("{path}&after={}", all.last().unwrap())).await.json();
        assert_eq!((of_items(&none, "id").len(), &none["next"]), (0, &Value::Null), "{path}");
    }
}

#[tokio::test]
async fn a_search_finds_what_has_all_the_words() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    for (title, description) in [
        ("The quiet harbour", "Boats in the fog"),
        ("A quiet meadow", ""),
        ("Zürich", "Harbour? No: a lake (fog too)."),
    ] {
        let body = json!({ "title": title, "description": description, "content_type": "a/b" });
        assert_eq!(server.json("POST", "/api/v1/media", &ada, &body).await.status, 201);
    }
    let check = async |q: &str, expected: &[&str]| {
        let query: String = q.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = server.get(&format!("/api/v1/media/search?q={query}")).await;
        assert_eq!(answer.status, 200, "{q}: {}", answer.text());
        assert_eq!(of_items(&answer.json(), "title"), expected, "{q}");
    };
    check("quiet", &["A quiet meadow", "The quiet harbour"]).await;
    check("QUIET  fog", &["The quiet harbour"]).await;
    check("fog harbour", &["Zürich", "The quiet harbour"]).await;
    check("harb", &["Zürich", "The quiet harbour"]).await;
    check("harb fog", &[]).await;
    check("zürich", &["Zürich"]).await;
    check("zurich", &[]).await;
    check("quiet OR zürich", &[]).await;
    check("title:quiet\" -fog*", &[]).await;

    let path = server.get("/api/v1/media/search?q=meadow").await.json();
    let path = format!("/api/v1/media/{}", path["items"][0]["id"].as_str().unwrap());
    assert_eq!(server.json("PATCH", &path, &ada, &json!({ "title": "A loud meadow" })).await.status, 200);
    check("quiet", &["The quiet harbour"]).await;
    check("loud", &["A loud meadow"]).await;
    assert_eq!(server.as_user("DELETE", &path, &ada).await.status, 204);
    check("loud", &[]).await;
}

#[tokio::test]
async fn a_page_costs_as_many_statements_whatever_its_size() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let playlist = server.add_playlist(&ada, "all", true).await;
    for number in 0..12 {
        let item = settled(&server, &ada, &format!("item {number}")).await;
        assert_eq!(place(&server, &ada, &playlist, id(&item), &json!({})).await.status, 204);
        server.add_playlist(&ada, "another", true).await;
    }
    for (path, statements) in
        [("/api/v1/media", 1), ("/api/v1/media/search?q=item", 1), ("/api/v1/playlists", 1), (playlist.as_str(), 2)]
    {
        let join = if path.contains('?') { '&' } else { '?' };
        for limit in [1, 2, 12] {
            let before = server.statements().await;
            let page = server.get(&format!("{path}{join}limit={limit}")).await.json();
            assert_eq!(page["items"].as_array().unwrap().len(), limit, "{path}");
            assert_eq!(server.statements().await - before, statements, "{path} by {limit}");
        }
    }
}

#[tokio::test]
async fn caches_are_told_what_is_for_whom_and_what_a_change_makes_old() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let path = settled(&server, &ada, "one").await;
    let playlist = server.add_playlist(&ada, "list", true).await;
    assert_eq!(place(&server, &ada, &playlist, id(&path), &json!({})).await.status, 204);
    let (item, list) = (format!("\"media-{}\"", id(&path)), format!("\"playlist-{}\"", id(&playlist)));
    let of_playlist = format!("{list}, \"playlist-counts\", {item}");
    for (asked, groups) in [
        ("/api/v1/media", "\"media\""),
        ("/api/v1/media/search?q=one", "\"media\""),
        (path.as_str(), item.as_str()),
        ("/api/v1/playlists", "\"playlists\", \"playlist-counts\""),
        (playlist.as_str(), of_playlist.as_str()),
    ] {
        let answer = server.get(asked).await;
        assert_eq!((answer.field("cache-control"), answer.field("cache-groups")), (PUBLIC, groups), "{asked}");
        let known = server.ask_with("GET", asked, &[("if-none-match", answer.field("etag"))], "").await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0), "{asked}");
        assert_eq!((known.field("cache-control"), known.field("cache-groups")), (PUBLIC, groups), "{asked}");
    }
    let invalidates = |answer: Answer, groups: &str| {
        assert!(answer.status.is_success(), "{}", answer.text());
        assert_eq!(answer.field("cache-group-invalidation"), groups);
    };
    let lists = format!("\"playlists\", {list}");
    invalidates(place(&server, &ada, &playlist, id(&path), &json!({ "position": 0 })).await, &lists);
    invalidates(server.as_user("DELETE", &format!("{playlist}/items/{}", id(&path)), &ada).await, &lists);
    invalidates(server.json("PATCH", &playlist, &ada, &json!({ "is_public": false })).await, &lists);
    invalidates(server.json("PATCH", &playlist, &ada, &json!({ "name": "secret" })).await, "");
    invalidates(server.as_user("DELETE", &playlist, &ada).await, "");
    let all = format!("\"media\", {item}");
    invalidates(server.json("PATCH", &path, &ada, &json!({ "title": "two" })).await, &all);
    invalidates(server.as_user("DELETE", &path, &ada).await, &format!("{all}, \"playlist-counts\""));
}

#[tokio::test]
async fn what_a_job_will_change_is_kept_only_to_be_validated() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let refuse = "create trigger refuse before insert on media_metadata begin select raise(abort, 'no'); end;";
    server::execute(server.folder(), refuse).await;
    let added = server.add_media(&ada, "one").await;
    let path = format!("/api/v1/media/{}", added["media"]["id"].as_str().unwrap());
    let playlist = server.add_playlist(&ada, "list", true).await;
    assert_eq!(place(&server, &ada, &playlist, id(&path), &json!({})).await.status, 204);
    for asked in ["/api/v1/media", "/api/v1/media/search?q=one", &path, &playlist] {
        assert_eq!(server.get(asked).await.field("cache-control"), "public, no-cache", "{asked}");
    }
}

#[tokio::test]
async fn a_private_playlist_is_its_owners_alone() {
    let server = Server::start().await;
    let (ada, bob) = (server.signed_in("ada").await.access, server.signed_in("bob").await.access);
    let secret = server.add_playlist(&ada, "secret", false).await;
    let open = server.add_playlist(&ada, "open", true).await;

    let own = server.as_user("GET", &secret, &ada).await;
    assert_eq!((&own.json()["playlist"]["name"], own.field("cache-control")), (&json!("secret"), "private, no-cache"));
    let bearer = format!("Bearer {ada}");
    let known = [("authorization", bearer.as_str()), ("if-none-match", own.field("etag"))];
    assert_eq!(server.ask_with("GET", &secret, &known, "").await.status, 304);
    server.as_user("GET", &secret, &bob).await.is_problem(404, "not-found");
    server.get(&secret).await.is_problem(404, "not-found");
    // Also to who has signed in, what is public is not sent as if it were for all.
    assert_eq!(server.as_user("GET", &open, &bob).await.field("cache-control"), "private, no-cache");

    let names = async |answer: Answer| {
        let page = answer.json();
        of_items(&page, "name").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(server.get("/api/v1/playlists").await).await, ["open"]);
    assert_eq!(names(server.as_user("GET", "/api/v1/playlists", &bob).await).await, ["open"]);
    assert_eq!(names(server.as_user("GET", "/api/v1/playlists?mine=true", &ada).await).await, ["open", "secret"]);
    assert!(names(server.as_user("GET", "/api/v1/playlists?mine=true", &bob).await).await.is_empty());
    server.get("/api/v1/playlists?mine=true").await.is_problem(401, "no-token");

    assert_eq!(server.json("PATCH", &open, &ada, &json!({ "is_public": false })).await.status, 204);
    server.get(&open).await.is_problem(404, "not-found");
    assert!(names(server.get("/api/v1/playlists").await).await.is_empty());
}

/// The next of numbers that look random and are the same at every run (Knuth's MMIX).
fn roll(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

#[tokio::test]
async fn whatever_is_moved_a_playlist_keeps_its_items_in_the_order_that_was_asked_for() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let playlist = server.add_playlist(&ada, "list", true).await;
    let mut items = Vec::new();
    for number in 0..7 {
        let added = server.add_media(&ada, &format!("item {number}")).await;
        items.push(added["media"]["id"].as_str().unwrap().to_owned());
    }
    let (mut model, mut state): (Vec<String>, u64) = (Vec::new(), 7);
    for step in 0..80 {
        let item = items[roll(&mut state, items.len())].clone();
        let was_in = model.contains(&item);
        model.retain(|there| *there != item);
        if step % 5 == 4 && was_in {
            let taken = server.as_user("DELETE", &format!("{playlist}/items/{item}"), &ada).await;
            assert_eq!(taken.status, 204);
        } else {
            let position = roll(&mut state, 10);
            let body = if position == 9 { json!({}) } else { json!({ "position": position }) };
            model.insert(position.min(model.len()), item.clone());
            assert_eq!(place(&server, &ada, &playlist, &item, &body).await.status, 204);
        }
        assert_eq!(walk(&server, &format!("{playlist}?limit=3"), async || ()).await, model, "step {step}");
    }
    // What is removed is in no playlist any more, and leaves a gap that nobody sees.
    let first = model.remove(0);
    assert_eq!(server.as_user("DELETE", &format!("/api/v1/media/{first}"), &ada).await.status, 204);
    assert_eq!(walk(&server, &format!("{playlist}?limit=3"), async || ()).await, model);
    place(&server, &ada, &playlist, &first, &json!({})).await.is_problem(404, "not-found");
    server.as_user("DELETE", &format!("{playlist}/items/{first}"), &ada).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn moves_at_the_same_time_lose_nothing() {
    let server = Server::start().await;
    let other = server.beside().await;
    let ada = server.signed_in("ada").await.access;
    let playlist = server.add_playlist(&ada, "list", true).await;
    let mut items = Vec::new();
    for number in 0..6 {
        let added = server.add_media(&ada, &format!("item {number}")).await;
        items.push(added["media"]["id"].as_str().unwrap().to_owned());
    }
    let front = json!({ "position": 0 });
    let places = items.iter().chain(&items).enumerate().map(|(number, item)| {
        let replica = if number % 2 == 0 { &server } else { &other };
        place(replica, &ada, &playlist, item, &front)
    });
    for answer in futures_util::future::join_all(places).await {
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let mut seen = walk(&server, &format!("{playlist}?limit=3"), async || ()).await;
    seen.sort();
    assert_eq!(seen, items);
}

#[tokio::test]
async fn a_playlist_has_room_for_a_thousand() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let playlist = server.add_playlist(&ada, "list", true).await;
    let (first, last) = (settled(&server, &ada, "first").await, settled(&server, &ada, "last").await);
    assert_eq!(place(&server, &ada, &playlist, id(&first), &json!({})).await.status, 204);
    let fill = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 999)
        insert into media (id, owner_id, title, description, content_type, version, created_ms, changed_ms)
        select 'n' || i, owner_id, 'x', '', 'a/b', 1, 0, 0 from n, (select owner_id from media limit 1);
        insert into playlist_items select p.id, m.id, 1 + m.number from playlists p, media m where m.id like 'n%';";
    server::execute(server.folder(), fill).await;
    assert_eq!(server.get(&playlist).await.json()["playlist"]["items"], 1000);
    place(&server, &ada, &playlist, id(&last), &json!({})).await.is_problem(409, "playlist-full");
    assert_eq!(place(&server, &ada, &playlist, id(&first), &json!({ "position": 500 })).await.status, 204);
}
