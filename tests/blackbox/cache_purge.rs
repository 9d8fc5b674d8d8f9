//! What operators and apps take out of the cache, and what is told of it.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::cache::{cache_status, caching, caching_in};
use crate::harness::*;

/// An origin whose answers are kept. `/users/7` has the tag `user:7`, and `/lists/7` the tag `list:7`.
async fn tagging() -> Origin {
    Origin::answers(async |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        let tag = path.trim_start_matches('/').replace("s/", ":");
        ok("").field("cache-control", "max-age=60").field("cache-tag", &tag)
    })
    .await
}

/// Has all of these kept.
async fn keep(edge: &Edge, paths: &[&str]) {
    for path in paths {
        assert_eq!(cache_status(&edge.get(path).await), "fwd=uri-miss; stored", "{path}");
    }
}

async fn is_kept(edge: &Edge, path: &str) -> bool {
    let only = request("GET", path).header("cache-control", "only-if-cached");
    Client::connect(edge, Via::H1).await.ask(only, "").await.status == 200
}

/// `tollgate cache purge`, and what it says.
async fn purge(edge: &Edge, arguments: &[&str]) -> Value {
    let output = edge.cli(&[&["cache", "purge", "--json"], arguments].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn kept(edge: &Edge) -> Value {
    serde_json::from_slice(&edge.admin("/cache").await.body).unwrap()
}

#[tokio::test]
async fn a_purge_takes_out_what_it_names_and_nothing_else() {
    let paths = ["/users/1", "/users/2", "/users/2?page=2", "/lists/1", "/~a"];
    let check = async |arguments: &[&str], gone: &[&str]| {
        let origin = tagging().await;
        let edge = caching(&origin, "").await;
        keep(&edge, &paths).await;
        let tried = purge(&edge, &[arguments, &["--dry-run"]].concat()).await;
        assert_eq!((&tried["matched"], &tried["dry_run"]), (&gone.len().into(), &true.into()), "{arguments:?}");
        for path in paths {
            assert!(is_kept(&edge, path).await, "{arguments:?}: {path}");
        }
        let purged = purge(&edge, arguments).await;
        assert_eq!(purged["matched"], gone.len(), "{arguments:?}: {purged}");
        for path in paths {
            assert_eq!(is_kept(&edge, path).await, !gone.contains(&path), "{arguments:?}: {path}");
        }
        let cache = kept(&edge).await;
        assert_eq!(cache["entries"], paths.len() - gone.len(), "{arguments:?}: {cache}");
        assert_eq!(cache["routes"][0]["purged"], gone.len(), "{arguments:?}: {cache}");
    };
    check(&["--url", "/users/2"], &["/users/2"]).await;
    check(&["--url", "/users/2?page=2"], &["/users/2?page=2"]).await;
    check(&["--url", "http://localhost/lists/../%7ea"], &["/~a"]).await;
    check(&["--url", "https://example.com/users/1"], &[]).await;
    check(&["--prefix", "/users/2"], &["/users/2", "/users/2?page=2"]).await;
    check(&["--pattern", "/*/1"], &["/users/1", "/lists/1"]).await;
    check(&["--tag", "user:2"], &["/users/2", "/users/2?page=2"]).await;
    check(&["--tag", "user:*", "--host", "LocalHost"], &["/users/1", "/users/2", "/users/2?page=2"]).await;
    check(&["--tag", "user:*", "--host", "example.com"], &[]).await;
    check(&["--all"], &paths).await;
}

#[tokio::test]
async fn a_soft_purge_has_the_origin_asked_first() {
    let origin = Origin::answers(async |request| match request.fields.get("if-none-match") {
        "\"1\"" => ok("").status(304),
        _ => ok("whole").field("etag", "\"1\"").field("cache-control", "max-age=60"),
    })
    .await;
    let edge = caching(&origin, "").await;
    keep(&edge, &["/"]).await;
    assert_eq!(purge(&edge, &["--all", "--soft"]).await["matched"], 1);
    assert_eq!(kept(&edge).await["entries"], 1);
    let validated = edge.get("/").await;
    assert_eq!((validated.text(), cache_status(&validated).as_str()), ("whole", "fwd=stale; fwd-status=304; stored"));
    assert_eq!(cache_status(&edge.get("/").await), "hit");
}

#[tokio::test]
async fn what_depends_on_it_goes_too_and_the_table_follows_the_file() {
    let origin = tagging().await;
    let table = r#"dependencies = { "user:*" = ["list:*"], "list:*" = ["/front"] }"#;
    let config = |table: &str| {
        let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\n";
        Edge::standard(format!("[cache]\n{table}\n{}{route}", upstream(&[origin.address()], "")))
    };
    let edge = Edge::verbatim(&config(table)).await;
    let paths = ["/users/1", "/users/2", "/lists/1", "/lists/2", "/front"];
    keep(&edge, &paths).await;
    let purged = purge(&edge, &["--tag", "user:1"]).await;
    assert_eq!(purged["matched"], 4, "{purged}");
    assert_eq!(purged["names"], serde_json::json!(["pattern /front", "tag list:*", "tag user:1"]));
    assert!(is_kept(&edge, "/users/2").await);

    edge.write_config(&config(r#"dependencies = { "user:*" = ["/front"] }"#));
    let said = edge.cli(&["reload"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("cache: dependencies of list:* removed"), "{said}");
    assert!(said.contains("cache: dependencies of user:* changed"), "{said}");
    keep(&edge, &["/users/1", "/lists/1", "/front"]).await;
    assert_eq!(purge(&edge, &["--tag", "user:1"]).await["matched"], 2);
    assert!(is_kept(&edge, "/lists/1").await);
}

#[tokio::test]
async fn a_purge_holds_for_what_is_being_fetched() {
    let gate = Arc::new(Semaphore::new(0));
    let old = ok("old").field("cache-control", "max-age=60").field("cache-tag", "user:7");
    let origin = Origin::answers_once(&gate, move |_| old.clone()).await;
    let edge = caching(&origin, "").await;
    let meanwhile = async {
        origin.has(1).await;
        assert_eq!(purge(&edge, &["--tag", "user:7"]).await["matched"], 0);
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(edge.get("/"), meanwhile);
    assert_eq!(answer.text(), "old");
    assert!(!is_kept(&edge, "/").await);
}

/// What was stale when it was purged is not what stands in for an origin that fails.
#[tokio::test]
async fn a_purge_holds_for_what_would_stand_in() {
    let gate = Arc::new(Semaphore::new(1));
    let origin = Origin::answers_once(&gate, |request| match request.fields.has("if-none-match") {
        true => ok("broken").status(503),
        false => {
            ok("old").field("cache-control", "max-age=60, stale-if-error=600").field("age", "60").field("etag", "\"1\"")
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(edge.get("/").await.text(), "old");
    let meanwhile = async {
        origin.has(2).await;
        assert_eq!(purge(&edge, &["--all"]).await["matched"], 1);
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(edge.get("/"), meanwhile);
    assert_eq!((answer.status, answer.text()), (503, "broken"), "{answer:?}");
}

/// What a POST brings is kept, unless somebody else has purged it meanwhile: its own purge is not meant.
#[tokio::test]
async fn a_purge_holds_for_the_answer_to_a_post() {
    for (is_purged, named) in [(false, ""), (true, "--url"), (true, "--prefix")] {
        let gate = Arc::new(Semaphore::new(0));
        let made = ok("made").field("cache-control", "max-age=60").field("content-location", "/item");
        let origin = Origin::answers_once(&gate, move |_| made.clone()).await;
        let edge = caching(&origin, "").await;
        let mut client = Client::connect(&edge, Via::H1).await;
        let meanwhile = async {
            origin.has(1).await;
            if is_purged {
                purge(&edge, &[named, "/item"]).await;
            }
            gate.add_permits(2);
        };
        let (answer, ()) = tokio::join!(client.ask(request("POST", "/item"), "x"), meanwhile);
        assert_eq!(answer.text(), "made");
        assert_eq!(is_kept(&edge, "/item").await, !is_purged, "{named}");
    }
}

#[tokio::test]
async fn an_app_may_purge_where_its_route_lets_it() {
    let origin = Origin::answers(async |request| match request.method.as_str() {
        "POST" => ok("").field("cache-purge", "user:*, /front"),
        _ => ok("").field("cache-control", "max-age=60").field("cache-tag", "user:7"),
    })
    .await;
    for may in [true, false] {
        let edge = caching(&origin, &format!("purge_by_response = {may}")).await;
        keep(&edge, &["/users/7", "/front"]).await;
        let other_host = || request("GET", "/users/7").header("host", "example.com");
        Client::connect(&edge, Via::H1).await.ask(other_host(), "").await;
        let answer = Client::connect(&edge, Via::H1).await.ask(request("POST", "/save"), "x").await;
        assert_eq!(answer.field("cache-purge").is_empty(), may, "{answer:?}");
        for path in ["/users/7", "/front"] {
            assert_eq!(is_kept(&edge, path).await, !may, "{path}");
        }
        let other = Client::connect(&edge, Via::H1).await.ask(other_host(), "").await;
        assert_eq!(cache_status(&other), "hit", "what another host answered stays");
    }
}

#[tokio::test]
async fn a_response_that_names_too_much_purges_its_host() {
    let names: Vec<_> = (0..65).map(|name| name.to_string()).collect();
    let origin = Origin::answers(move |request| {
        let reply = match request.target.strip_prefix("/save/").and_then(|count| count.parse().ok()) {
            Some(count) => ok("").field("cache-purge", &names[..count].join(",")),
            None => ok("").field("cache-control", "max-age=60"),
        };
        std::future::ready(reply)
    })
    .await;
    let edge = caching(&origin, "purge_by_response = true").await;
    keep(&edge, &["/"]).await;
    for (count, stays) in [(64, true), (65, false)] {
        Client::connect(&edge, Via::H1).await.ask(request("POST", &format!("/save/{count}")), "x").await;
        assert_eq!(is_kept(&edge, "/").await, stays, "{count}");
    }
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_swept_out() {
    let origin = Origin::answers(async |request| match request.method.as_str() {
        "POST" => ok("").field("cache-purge", "/users/*"),
        _ => ok("").field("cache-control", "max-age=60"),
    })
    .await;
    let edge = caching(&origin, "purge_by_response = true").await;
    keep(&edge, &["/users/1", "/users/2", "/front"]).await;
    Client::connect(&edge, Via::H1).await.ask(request("POST", "/save"), "x").await;
    until("the sweep", async || {
        let cache = kept(&edge).await;
        (cache["entries"] == 1 && cache["purges_in_force"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn new_limits_are_taken_over() {
    let origin = tagging().await;
    let config = |section: &str| {
        let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\n";
        let server = "[server]\nworkers = 2\n";
        Edge::standard(format!("{server}[cache]\n{section}\n{}{route}", upstream(&[origin.address()], "")))
    };
    let edge = Edge::verbatim(&config("")).await;
    keep(&edge, &["/users/1", "/users/2", "/users/3"]).await;
    assert_eq!(kept(&edge).await["stored_bytes_max"], 48 << 20);
    edge.write_config(&config("memory = \"32MiB\"\nobject_max = \"1MiB\"\nentries_max = 2"));
    edge.reload().await;
    let cache = kept(&edge).await;
    assert_eq!((&cache["stored_bytes_max"], &cache["fetching_bytes_max"]), (&(24 << 20).into(), &(8 << 20).into()));
    // Fewer shards would be of use now, and there is no way to that but a restart.
    edge.write_config(&config("memory = \"64MiB\"\nobject_max = \"24MiB\""));
    edge.reload().await;
    // The watch may have been first, and then the command had nothing to change: what either did is in the log.
    let said = edge.stderr();
    assert!(said.contains("largest responses, which are not kept until then: needs a restart"), "{said}");
    edge.write_config(&config("memory = \"8MiB\""));
    let refused = edge.cli(&["reload"]).await;
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("responses of 8MiB need a cache memory of 17MiB"), "{said}");
}

#[tokio::test]
async fn what_the_cache_did_is_told() {
    let origin = tagging().await;
    let edge = caching_in("", &origin, "").await;
    keep(&edge, &["/users/1", "/users/2"]).await;
    for _ in 0..3 {
        assert_eq!(cache_status(&edge.get("/users/1").await), "hit");
    }
    Client::connect(&edge, Via::H1).await.ask(request("POST", "/users/3"), "x").await;
    purge(&edge, &["--url", "/users/2"]).await;
    let status = edge.status().await;
    let route = &status["cache"]["routes"][0];
    let counts = ["entries", "hits", "misses", "evictions", "purged"].map(|name| route[name].as_u64().unwrap());
    assert_eq!(counts, [1, 3, 2, 0, 1], "{route}");
    assert_eq!((&route["route"], &route["hit_ratio"]), (&"/".into(), &0.6.into()));
    assert_eq!(route["bytes"], status["cache"]["stored_bytes"]);
    for (name, value) in [
        (r#"tollgate_cache_requests_total{outcome="hit",route="/"}"#, 3.0),
        (r#"tollgate_cache_requests_total{outcome="miss",route="/"}"#, 2.0),
        (r#"tollgate_cache_entries{route="/"}"#, 1.0),
        (r#"tollgate_cache_purged_total{route="/"}"#, 1.0),
        (r#"tollgate_cache_evictions_total{route="/"}"#, 0.0),
        (r#"tollgate_cache_memory_max_bytes{of="stored"}"#, f64::from(48 << 20)),
    ] {
        assert_eq!(edge.metric(name).await, value, "{name}");
    }
    // The first lookup of each worker is timed.
    let timed = edge.metric("tollgate_cache_lookup_duration_seconds_count").await;
    assert!((1.0..=2.0).contains(&timed) && route["lookup_us"].as_f64() > Some(0.0), "{timed} {route}");
    let shown = edge.cli(&["cache", "status"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("on: 1 response in ") && shown.contains("60.0 %"), "{shown}");
}

#[tokio::test]
async fn a_purge_that_is_not_understood_says_what_would_be() {
    let origin = tagging().await;
    let edge = caching(&origin, "").await;
    let output = edge.cli(&["cache", "purge", "--prefix", "users"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("\"prefix\" is \"users\"; expected the beginning of a path"), "{said}");
    let output = edge.cli(&["cache", "purge"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--tag"), "{said}");
    let stream = tokio::net::TcpStream::connect(edge.admin_address()).await.unwrap();
    let mut stranger = Client::over(Via::H1, stream).await.unwrap();
    assert_eq!(stranger.ask(request("POST", "/cache/purge"), "{\"all\": true}").await.status, 403);
}

/// `tollgate cache warm`, and what it reports.
async fn warm(edge: &Edge, arguments: &[&str]) -> Value {
    let output = edge.cli(&[&["cache", "warm", "--json"], arguments].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn what_is_asked_for_beforehand_is_there() {
    let origin = Origin::answers(async |request| match request.target.as_str() {
        "/sitemap.xml" => {
            let host = request.fields.get("host");
            let pages = ["a?b=1&amp;c=2", "b"].map(|page| format!("<url><loc>https://{host}/{page}</loc></url>"));
            ok(format!("<urlset>{}</urlset>", pages.concat()))
        }
        "/private" => ok("").field("cache-control", "private"),
        "/missing" => ok("").status(404),
        _ => ok("").field("cache-control", "max-age=60"),
    })
    .await;
    let edge = caching(&origin, "").await;
    let report = warm(&edge, &["/a?b=1&c=2", "/private", "/missing"]).await;
    assert_eq!((&report["fetched"], &report["fresh"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(report["not_kept"][0]["page"], "/private");
    assert_eq!(report["failed"][0], serde_json::json!({ "page": "/missing", "reason": "404 Not Found" }));

    let report = warm(&edge, &["--sitemap", "/sitemap.xml", "--concurrency", "2"]).await;
    assert_eq!((&report["fetched"], &report["fresh"]), (&1.into(), &1.into()), "{report}");
    let mut client = Client::connect(&edge, Via::TlsH1).await;
    let host = format!("localhost:{}", edge.tls_address().port());
    let page = client.ask(request("GET", "/b").header("host", host), "").await;
    assert_eq!(cache_status(&page), "hit");

    let line =
        |path: &str| format!("{{\"method\":\"GET\",\"host\":\"x.example\",\"path\":\"{path}\",\"status\":200}}\n");
    let log = edge.folder().join("asked.log");
    std::fs::write(&log, [line("/once"), line("/twice"), line("/twice")].concat()).unwrap();
    let report = warm(&edge, &["--from-access-log", log.to_str().unwrap(), "--top", "1"]).await;
    assert_eq!(report["fetched"], 1, "{report}");
    let mut client = Client::connect(&edge, Via::TlsH1).await;
    let page = client.ask(request("GET", "/twice").header("host", "x.example"), "").await;
    assert_eq!(cache_status(&page), "hit");

    let nothing = edge.cli(&["cache", "warm"]).await;
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

#[tokio::test]
async fn what_is_named_in_the_file_is_there_after_a_start() {
    let go = Arc::new(Semaphore::new(0));
    let healthy = Arc::clone(&go);
    let origin = Origin::answers(move |request| {
        let healthy = Arc::clone(&healthy);
        async move {
            match request.target.as_str() {
                "/health" => ok("").status(if healthy.available_permits() > 0 { 200 } else { 503 }),
                "/sitemap.xml" => ok("<urlset><url><loc>http://named.example/mapped</loc></url></urlset>"),
                "/missing" => ok("").status(404),
                _ => ok("").field("cache-control", "max-age=60"),
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let line = "{\"method\":\"GET\",\"host\":\"www.example.com\",\"path\":\"/asked\",\"status\":200}\n";
    std::fs::write(folder.path().join("asked.log"), line).unwrap();
    let warm = "pages = [\"/named?a=b\", \"/missing\"]\nsitemap = \"http://www.example.com/sitemap.xml\"\n\
                access_log = \"asked.log\"\nhost = \"www.example.com\"\nconcurrency = 2";
    let health = "health = { path = \"/health\", interval = \"50ms\", healthy_after = 1, unhealthy_after = 1 }";
    let before = format!("[cache.warm]\n{warm}\n{}", upstream(&[origin.address()], health));
    let config = Edge::standard(format!("{before}{ROUTE}cache = true\n"));
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let edge = Edge::in_folder(folder).await;
    edge.endpoint_is(origin.address(), "unhealthy").await;
    go.add_permits(1);
    let said =
        until("a report", async || Some(edge.stderr()).filter(|said| said.contains("the cache is warmed:"))).await;
    assert!(said.contains("3 fetched, 0 fresh already, 0 not kept, 1 failed"), "{said}");
    assert!(said.contains("failed: \"/missing\": 404 Not Found"), "{said}");
    for (via, host, path) in [
        (Via::TlsH1, "www.example.com", "/named?a=b"),
        (Via::TlsH1, "www.example.com", "/asked"),
        (Via::H1, "named.example", "/mapped"),
    ] {
        let page = Client::connect(&edge, via).await.ask(request("GET", path).header("host", host), "").await;
        assert_eq!(cache_status(&page), "hit", "{path}");
    }
}

#[tokio::test]
async fn a_reload_that_mends_an_upstream_is_what_the_warming_waits_for() {
    let wrong = Origin::replies(ok("").status(503)).await;
    let right = Origin::replies(ok("page").field("cache-control", "max-age=60")).await;
    let config = |origin: &Origin| {
        let health = "health = { path = \"/health\", interval = \"50ms\", healthy_after = 1, unhealthy_after = 1 }";
        let upstream = upstream(&[origin.address()], health);
        Edge::standard(format!("[cache.warm]\npages = [\"/page\"]\n{upstream}{ROUTE}cache = true\n"))
    };
    let edge = Edge::verbatim(&config(&wrong)).await;
    edge.endpoint_is(wrong.address(), "unhealthy").await;
    edge.write_config(&config(&right));
    edge.reload().await;
    let said =
        until("a report", async || Some(edge.stderr()).filter(|said| said.contains("the cache is warmed:"))).await;
    assert!(said.contains("1 fetched, 0 fresh already, 0 not kept, 0 failed"), "{said}");
}
