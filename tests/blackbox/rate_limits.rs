//! Rate limits: who is counted for himself, what is said to him, and that no more are let through than the file says.

use serde_json::Value;

use crate::harness::*;

const DAY: &str = "window = \"1d\"";

/// A route that answers by itself, with the limits of `tables`.
fn limited(names: &str, tables: &str) -> String {
    format!("{tables}\n[[route]]\nname = \"all\"\npath = \"/\"\ntext = \"hello\"\nrate_limit = [{names}]\n")
}

fn per_ip(requests: u32) -> String {
    limited("\"per-ip\"", &format!("[rate_limit.per-ip]\nrequests = {requests}\n{DAY}\n"))
}

/// A request that a trusted proxy passes on for `client`.
async fn ask_for(edge: &Edge, client: &str) -> Answer {
    let head = request("GET", "/").header("x-forwarded-for", client);
    Client::connect(edge, Via::H1).await.ask(head, "").await
}

async fn statuses(edge: &Edge, clients: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for client in clients {
        statuses.push(ask_for(edge, client).await.status);
    }
    statuses
}

async fn limit(edge: &Edge, name: &str) -> Value {
    let limits: Value = serde_json::from_slice(&edge.admin("/limits").await.body).unwrap();
    let found = limits.as_array().unwrap().iter().find(|limit| limit["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {limits}")).clone()
}

#[tokio::test]
async fn each_address_has_its_own_count_whatever_it_speaks() {
    let edge = Edge::start(per_ip(5)).await;
    for (n, via) in [(4, Via::H1), (3, Via::H2), (2, Via::TlsH1), (1, Via::TlsH2), (0, Via::H1)] {
        let answer = Client::connect(&edge, via).await.get("/").await;
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{via:?}");
        assert_eq!(answer.field("ratelimit-policy"), "\"per-ip\";q=5;w=86400");
        assert!(answer.field("ratelimit").starts_with(&format!("\"per-ip\";r={n};t=864")), "{answer:?}");
    }
    for via in Via::ALL {
        let answer = Client::connect(&edge, via).await.get("/?refused").await;
        assert_eq!(answer.status, 429, "{via:?}");
        assert!(answer.text().contains("reason: rate-limited"), "{}", answer.text());
        assert_eq!(answer.field("x-tollgate-reason"), "rate-limited");
        assert_eq!(answer.field("ratelimit-policy"), "\"per-ip\";q=5;w=86400");
        let retry_after: u32 = answer.field("retry-after").parse().unwrap();
        assert!((86_000..=86_488).contains(&retry_after), "{retry_after}");
        assert_eq!(answer.field("ratelimit"), format!("\"per-ip\";r=0;t={retry_after}"));
    }
    let line = edge.log(|line| line["query"] == "refused").await;
    assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(429), Some("rate-limited")));
    assert_eq!((line["rate_limit"].as_str(), line["route"].as_str()), (Some("per-ip"), Some("all")));
    assert_eq!(ask_for(&edge, "192.0.2.1").await.status, 200, "another client");
}

#[tokio::test]
async fn a_place_comes_back_when_its_request_is_as_old_as_the_window() {
    let edge = Edge::start(per_ip(2).replace("1d", "1s")).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(statuses(&edge, &["192.0.2.1", "192.0.2.1"]).await, [200, 200]);
    let mut refused = 0;
    until("a place", async || {
        let passed = ask_for(&edge, "192.0.2.1").await.status == 200;
        refused += usize::from(!passed);
        passed.then_some(())
    })
    .await;
    // What was asked before the first was answered counts from its own beginning.
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1) && refused > 0, "{:?}", begun.elapsed());
}

/// C6
#[tokio::test]
async fn addresses_of_one_ipv6_network_are_one_client() {
    let edge = Edge::start(per_ip(2)).await;
    let clients =
        ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3", "2001:db8:0:1::1", "::ffff:192.0.2.1", "192.0.2.1"];
    assert_eq!(statuses(&edge, &clients).await, [200, 200, 429, 200, 200, 200]);
    assert_eq!(statuses(&edge, &["192.0.2.1", "[2001:db8::4]:80"]).await, [429, 429]);
}

/// D4
#[tokio::test]
async fn a_forged_address_is_no_way_around_a_limit() {
    let edge = Edge::start(per_ip(3) + "[client]\ntrusted = []\n").await;
    let forged = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1"];
    assert_eq!(statuses(&edge, &forged).await, [200, 200, 200, 429, 429]);
    let trusting = Edge::start(per_ip(2)).await;
    let forged = ["9.9.9.1, 192.0.2.1", "9.9.9.2, 192.0.2.1", "9.9.9.3, 192.0.2.1"];
    assert_eq!(statuses(&trusting, &forged).await, [200, 200, 429], "what the client wrote itself stands to the left");
}

#[tokio::test]
async fn every_method_counts_and_a_refusal_reaches_no_origin() {
    let origin = Origin::replies(ok("")).await;
    let config = upstream(&[origin.address()], "") + ROUTE + &format!("[rate_limit.a]\nrequests = 3\n{DAY}\n");
    let edge = Edge::start(config + "[client]\nrate_limit = [\"a\"]\n").await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for method in ["HEAD", "OPTIONS", "DELETE"] {
        assert_eq!(client.ask(request(method, "/"), "").await.status, 200, "{method}");
    }
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let answer = client.ask(request(method, "/"), "").await;
        assert_eq!((answer.status, answer.body.is_empty()), (429, method == "HEAD"), "{method}");
    }
    assert_eq!(origin.count(), 3);
}

/// A12: what follows of a body is not read as a request.
#[tokio::test]
async fn a_refused_request_with_a_body_ends_the_connection() {
    let edge = Edge::start(per_ip(1)).await;
    assert_eq!(edge.get("/").await.status, 200);
    let mut wire = edge.raw().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = wire.response("POST").await.unwrap();
    assert_eq!((answer.status, answer.fields.get("connection")), (429, "close"));
    assert_eq!(within("the end", wire.rest()).await, b"");
}

#[tokio::test]
async fn hits_of_the_cache_are_limited_and_do_not_remember_how_another_stood() {
    let origin = Origin::replies(ok("kept").field("cache-control", "max-age=60")).await;
    let config = upstream(&[origin.address()], "")
        + &ROUTE.replacen("path = \"/\"", "path = \"/\"\ncache = true\nrate_limit = [\"a\"]", 1)
        + &format!("[rate_limit.a]\nrequests = 2\n{DAY}\n");
    let edge = Edge::start(config).await;
    let told = async |client: &str| {
        let answer = ask_for(&edge, client).await;
        let left = answer.field("ratelimit").split(';').nth(1).unwrap_or_default().to_owned();
        (answer.status, answer.field("x-cache").to_owned(), left)
    };
    let expected = |status, cache: &str, left: &str| (status, cache.to_owned(), left.to_owned());
    assert_eq!(told("192.0.2.1").await, expected(200, "MISS", "r=1"));
    assert_eq!(told("192.0.2.1").await, expected(200, "HIT", "r=0"));
    assert_eq!(told("192.0.2.1").await, expected(429, "", "r=0"));
    assert_eq!(told("192.0.2.2").await, expected(200, "HIT", "r=1"));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_route_has_its_own_limits_those_of_client_or_none() {
    let routes = r#"
        [client]
        rate_limit = ["one"]
        [rate_limit.one]
        requests = 1
        window = "1d"
        [rate_limit.two]
        key = "header:X-Key"
        requests = 2
        window = "1d"
        headers = "both"
        [[route]]
        path = "/default"
        text = ""
        [[route]]
        path = "/free"
        text = ""
        rate_limit = []
        [[route]]
        path = "/keyed"
        text = ""
        rate_limit = ["two"]
        "#;
    let edge = Edge::start(routes).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let mut check = async |path: &str, key: Option<&str>, status: u16| {
        let mut head = request("GET", path);
        if let Some(key) = key {
            head = head.header("x-key", key);
        }
        let answer = client.ask(head, "").await;
        assert_eq!(answer.status, status, "{path} {key:?}");
        answer
    };
    check("/default", None, 200).await;
    check("/default", None, 429).await;
    assert_eq!(check("/free", None, 200).await.field("ratelimit"), "");
    for (key, statuses) in [(Some("a"), [200, 200, 429]), (Some("b"), [200, 200, 429]), (None, [200, 200, 429])] {
        for status in statuses {
            let answer = check("/keyed", key, status).await;
            assert_eq!(answer.field("x-ratelimit-limit"), "2");
            assert_ne!(answer.field("x-ratelimit-remaining"), "");
            assert_ne!(answer.field("x-ratelimit-reset"), "");
            assert!(answer.field("ratelimit").starts_with("\"two\";r="));
        }
    }
}

/// Whichever of the lines an application reads.
#[tokio::test]
async fn a_key_that_is_sent_beside_junk_is_no_way_around_its_limit() {
    let tables = format!("[rate_limit.keyed]\nkey = \"header:X-Key\"\nrequests = 2\n{DAY}\n");
    let edge = Edge::start(limited("\"keyed\"", &tables)).await;
    let mut passed = 0;
    for n in 0..6 {
        for lines in [
            vec!["secret".to_owned()],
            vec!["secret".to_owned(), n.to_string()],
            vec![n.to_string(), "secret".to_owned()],
        ] {
            let mut head = request("GET", "/").header("x-forwarded-for", "192.0.2.1");
            for line in lines {
                head = head.header("x-key", line);
            }
            passed += u32::from(Client::connect(&edge, Via::H1).await.ask(head, "").await.status == 200);
        }
    }
    assert_eq!(passed, 4, "two by the key and two by the address");
}

#[tokio::test]
async fn what_one_limit_refuses_uses_up_no_other() {
    let tables =
        format!("[rate_limit.per-ip]\nrequests = 1\n{DAY}\n[rate_limit.whole]\nkey = \"all\"\nrequests = 3\n{DAY}\n");
    let edge = Edge::start(limited("\"whole\", \"per-ip\"", &tables)).await;
    let clients = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    assert_eq!(statuses(&edge, &clients).await, [200, 429, 429, 429, 200, 200, 429]);
    let answer = ask_for(&edge, "192.0.2.5").await;
    let lines = |name: &str| {
        let lines = answer.fields.get_all(name).iter();
        lines.map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(lines("ratelimit-policy"), "\"per-ip\";q=1;w=86400, \"whole\";q=3;w=86400");
    assert!(lines("ratelimit").starts_with("\"per-ip\";r=1, \"whole\";r=0;t="), "{answer:?}");
}

#[tokio::test]
async fn a_burst_passes_at_once_and_the_rest_evenly() {
    let tables = "[rate_limit.smooth]\nalgorithm = \"gcra\"\nburst = 3\nrequests = 24\nwindow = \"1d\"\n";
    let edge = Edge::start(limited("\"smooth\"", tables)).await;
    assert_eq!(statuses(&edge, &["192.0.2.1"; 5]).await, [200, 200, 200, 429, 429]);
    let retry_after: u32 = ask_for(&edge, "192.0.2.1").await.field("retry-after").parse().unwrap();
    assert!((3_500..=3_600).contains(&retry_after), "{retry_after}");
}

#[tokio::test]
async fn a_dry_run_counts_and_refuses_nothing() {
    let edge = Edge::start(per_ip(1).replace(DAY, &format!("{DAY}\ndry_run = true"))).await;
    for _ in 0..3 {
        let answer = edge.get("/dry").await;
        assert_eq!((answer.status, answer.field("ratelimit"), answer.field("retry-after")), (200, "", ""));
    }
    let line = edge.log(|line| line["rate_limit"] == "per-ip").await;
    assert_eq!((line["status"].as_u64(), &line["reason"]), (Some(200), &Value::Null));
    let count =
        |decision: &str| format!("tollgate_rate_limit_requests_total{{decision=\"{decision}\",limit=\"per-ip\"}}");
    assert_eq!(edge.metric(&count("allowed")).await, 1.0);
    assert_eq!(edge.metric(&count("dry_run")).await, 2.0);
    assert_eq!(edge.metric(&count("limited")).await, 0.0);
}

#[tokio::test]
async fn who_is_exempt_is_not_limited() {
    let edge =
        Edge::start(per_ip(1).replace(DAY, &format!("{DAY}\nexempt = [\"127.0.0.0/8\", \"2001:db8::/32\"]"))).await;
    assert_eq!(statuses(&edge, &["2001:db8::1", "2001:db8::1", "192.0.2.1", "192.0.2.1"]).await, [200, 200, 200, 429]);
    for _ in 0..3 {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.field("ratelimit")), (200, ""));
    }
}

#[tokio::test]
async fn a_reload_keeps_the_counts_unless_they_would_mean_something_else() {
    // Nobody else is to notice the change before it is asked what that was.
    let config = Edge::standard("[server]\nreload = \"signal\"\n".to_owned() + &per_ip(2));
    let edge = Edge::verbatim(&config).await;
    assert_eq!(statuses(&edge, &["192.0.2.1"; 3]).await, [200, 200, 429]);
    edge.write_config(&config.replace("hello", "hello again"));
    edge.reload().await;
    assert_eq!(statuses(&edge, &["192.0.2.1"]).await, [429]);
    edge.write_config(&config.replace("[rate_limit.per-ip]", "[rate_limit.per-ip]\nkeys_max = 10\nheaders = \"x\""));
    edge.reload().await;
    let answer = ask_for(&edge, "192.0.2.1").await;
    assert_eq!((answer.status, answer.field("x-ratelimit-remaining")), (429, "0"));
    edge.write_config(&config.replace("requests = 2", "requests = 4"));
    let said = edge.cli(&["reload"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("rate limit per-ip: requests 2 → 4"), "{said}");
    assert!(said.contains("rate limit per-ip: counting begins anew"), "{said}");
    assert_eq!(statuses(&edge, &["192.0.2.1"; 5]).await, [200, 200, 200, 200, 429]);
    edge.write_config(
        &config
            .replace("rate_limit = [\"per-ip\"]", "")
            .replace("[rate_limit.per-ip]\nrequests = 2\n", "")
            .replace(DAY, ""),
    );
    edge.reload().await;
    assert_eq!(statuses(&edge, &["192.0.2.1"]).await, [200]);
}

/// All workers count together: of many at once exactly so many pass.
#[tokio::test]
async fn a_thousand_at_once_are_counted_once() {
    const EXPECTED: usize = 300;
    let edge = Edge::start(per_ip(300) + "[server]\nworkers = 2\n").await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..50 {
        let mut client = Client::connect(&edge, if n % 2 == 0 { Via::H1 } else { Via::H2 }).await;
        asking.spawn(async move {
            let mut passed = 0;
            for _ in 0..20 {
                passed += usize::from(client.get("/").await.status == 200);
            }
            passed
        });
    }
    let passed: usize = within("a thousand answers", asking.join_all()).await.into_iter().sum();
    assert_eq!(passed, EXPECTED);
    assert_eq!(limit(&edge, "per-ip").await["limited"], 1_000 - EXPECTED);
}

/// C6: the table is bounded, and those who ask once do not give one that is limited its quota back.
#[tokio::test]
async fn a_full_table_forgets_the_stalest_and_refuses_nobody_for_it() {
    let edge = Edge::start(per_ip(2).replace(DAY, &format!("{DAY}\nkeys_max = 20"))).await;
    assert_eq!(statuses(&edge, &["192.0.2.1"; 3]).await, [200, 200, 429]);
    for n in 0..100 {
        assert_eq!(ask_for(&edge, &format!("2001:db8:{n:x}::1")).await.status, 200);
    }
    assert_eq!(statuses(&edge, &["192.0.2.1"]).await, [429]);
    let limit = limit(&edge, "per-ip").await;
    assert_eq!((limit["keys"].as_u64(), limit["keys_max"].as_u64()), (Some(20), Some(20)));
    assert_eq!(edge.metric("tollgate_rate_limit_evicted_total{limit=\"per-ip\"}").await, 81.0);
    assert_eq!(edge.metric("tollgate_rate_limit_keys{limit=\"per-ip\"}").await, 20.0);
}

#[tokio::test]
async fn operators_see_who_is_limited_and_can_forgive() {
    let edge = Edge::start(per_ip(2)).await;
    statuses(&edge, &["192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1"]).await;
    let said = async |command: &[&str]| {
        let output = edge.cli(command).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let list = said(&["limits"]).await;
    assert_eq!(list[1], "per-ip client-ip 2 in 86400 s 2 of 100000 1 3 1 0");
    assert!(list[4].starts_with("per-ip 192.0.2.1 2 0 86") && list[4].ends_with(" s 1"), "{list:?}");
    assert!(list[5].starts_with("per-ip 2001:db8::/64 1 1 86") && list[5].ends_with(" s 0"), "{list:?}");
    let show = said(&["limits", "show", "192.0.2.1"]).await;
    assert!(show[1].starts_with("per-ip 2 in 86400 s counted 192.0.2.1 2 0 86"), "{show:?}");
    let reset = said(&["limits", "reset", "192.0.2.1"]).await;
    assert_eq!(reset[1], "per-ip 2 in 86400 s counted 192.0.2.1 0 2 - 0");
    assert_eq!(statuses(&edge, &["192.0.2.1"]).await, [200]);
    let json: Value = serde_json::from_str(&said(&["limits", "show", "192.0.2.1", "--json"]).await.join("")).unwrap();
    assert_eq!((&json[0]["used"], &json[0]["state"]), (&Value::from(1), &Value::from("counted")));
}
