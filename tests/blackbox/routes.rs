//! What a route does other than passing a request on as it came, and what is said when there is none.

use http_body::Frame;

use crate::harness::*;

#[tokio::test]
async fn a_route_can_answer_by_itself() {
    let edge = Edge::start(
        r#"
        [[route]]
        path_exact = "/robots.txt"
        text = "no\n"
        [[route]]
        path = "/teapot"
        text = "short and stout"
        code = 418
        [[route]]
        path = "/old"
        redirect = "https://new.example{uri}"
        [[route]]
        path = "/moved"
        redirect = "/at{path}"
        code = 302
        [[route]]
        path_exact = "/nginx_status"
        status = "stub"
        "#,
    )
    .await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        let text = client.get("/robots.txt").await;
        assert_eq!((text.status, text.text()), (200, "no\n"), "{via:?}");
        assert!(text.field("content-type").starts_with("text/plain"));
        assert_eq!(client.get("/robots.txt/below").await.status, 404);
        assert_eq!(client.get("/teapot/below").await.status, 418);
        assert_eq!(client.get("/teapots").await.status, 404);
        let redirect = client.get("/old/a%2fb?c=%20").await;
        assert_eq!((redirect.status, redirect.field("location")), (308, "https://new.example/old/a%2Fb?c=%20"));
        let redirect = client.get("/moved/x?y").await;
        assert_eq!((redirect.status, redirect.field("location")), (302, "/at/moved/x"));
        let stub = client.get("/nginx_status").await;
        assert!(stub.text().starts_with("Active connections: "), "{}", stub.text());
        assert!(stub.text().contains("server accepts handled requests"), "{}", stub.text());
    }
}

#[tokio::test]
async fn cleartext_is_redirected_to_tls_which_says_to_stay_there() {
    let routes = r#"
        [[route]]
        path = "/safe"
        text = "safe"
        [[route]]
        path = "/.well-known"
        text = "not for challenges"
        "#;
    let config = Edge::standard(routes)
        .replacen("\"127.0.0.1:0\"", "\"127.0.0.1:0\"\nhttps_redirect = 8443", 1)
        .replace("tls = true", "tls = true\nhsts = { max_age = \"1h\", include_subdomains = true }");
    let edge = Edge::verbatim(&config).await;
    for (path, location) in [
        ("/safe", "https://localhost:8443/safe"),
        ("/a/../no-route?c=d", "https://localhost:8443/no-route?c=d"),
        ("/.well-known/acme-challenge/token", "https://localhost:8443/.well-known/acme-challenge/token"),
    ] {
        let redirect = Client::connect(&edge, Via::H1).await.get(path).await;
        assert_eq!((redirect.status, redirect.field("location")), (308, location));
        assert_eq!(redirect.field("strict-transport-security"), "");
    }
    for via in [Via::TlsH1, Via::TlsH2] {
        let answer = Client::connect(&edge, via).await.get("/safe").await;
        assert_eq!(answer.text(), "safe");
        assert_eq!(answer.field("strict-transport-security"), "max-age=3600; includeSubDomains");
    }
}

/// The authority asks at port 80, and a redirect to a certificate that is not there yet helps nobody.
#[tokio::test]
async fn challenges_with_a_route_of_their_own_are_answered_in_cleartext() {
    let routes = r#"
        [[route]]
        path = "/"
        text = "safe"
        [[route]]
        path = "/.well-known/acme-challenge/"
        text = "proof"
        "#;
    let redirect = "\"127.0.0.1:0\"\nhttps_redirect = 443";
    let edge = Edge::verbatim(&Edge::standard(routes).replacen("\"127.0.0.1:0\"", redirect, 1)).await;
    for (path, status, said) in [
        ("/.well-known/acme-challenge/token", 200, "proof"),
        ("/.well-known/acme-challenge/../other", 308, "https://localhost/.well-known/other"),
        ("/.well-known/acme-challenge", 308, "https://localhost/.well-known/acme-challenge"),
        ("/", 308, "https://localhost/"),
    ] {
        let answer = Client::connect(&edge, Via::H1).await.get(path).await;
        let told = if status == 200 { answer.text() } else { answer.field("location") };
        assert_eq!((answer.status, told), (status, said), "{path}");
    }
}

#[tokio::test]
async fn a_path_can_be_changed_on_its_way() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(
        upstream(&[origin.address()], "")
            + r#"
            [[route]]
            path = "/api"
            upstream = "app"
            strip_prefix = "/api"
            [[route]]
            path = "/users"
            upstream = "app"
            rewrite = { regex = "^/users/([0-9]+)$", to = "/user/$1/" }
            [[route]]
            path = "/find"
            upstream = "app"
            rewrite = { regex = "^/find/(.*)$", to = "/search?q=$1" }
            [[route]]
            path = "/"
            upstream = "app"
            "#,
    )
    .await;
    for (sent, seen) in [
        ("/api/v1?a=b", "/v1?a=b"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/apis", "/apis"),
        ("/users/7", "/user/7/"),
        ("/users/x", "/users/x"),
        ("/find/x", "/search?q=x"),
        ("/find/x?a=b", "/search?q=x&a=b"),
        ("/a/./b/../c//d", "/a/c//d"),
        ("/%61%2fb%7e", "/a%2Fb~"),
        ("/q?a/../b=%61", "/q?a/../b=%61"),
    ] {
        for via in [Via::H1, Via::TlsH2] {
            assert_eq!(Client::connect(&edge, via).await.get(sent).await.status, 200, "{sent} by {via:?}");
            assert_eq!(origin.take().target, seen, "{sent} by {via:?}");
        }
    }
}

/// What a rule makes of a good request is never the client's fault.
#[tokio::test]
async fn a_rewrite_that_makes_no_path_is_an_error_of_the_proxy() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(
        upstream(&[origin.address()], "")
            + r#"
            [[route]]
            path = "/"
            upstream = "app"
            rewrite = { regex = "^/api", to = "" }
            "#,
    )
    .await;
    let answer = Client::connect(&edge, Via::H1).await.get("/apis").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (500, "rewrite-failed"));
    assert_eq!(Client::connect(&edge, Via::H1).await.get("/api/x").await.status, 200);
}

#[tokio::test]
async fn fields_can_be_set_and_removed_both_ways() {
    let origin = Origin::replies(ok("").field("server", "inner").field("x-old", "1").field("x-old", "2")).await;
    let edge = Edge::start(
        upstream(&[origin.address()], "")
            + ROUTE
            + r#"
            host = "app.internal"
            request = { set = { X-Added = "yes", X-Client = "edge" }, remove = ["Cookie"] }
            response = { set = { X-Frame-Options = "DENY", X-Old = "new" }, remove = ["Server"] }
            "#,
    )
    .await;
    for via in Via::ALL {
        let head = request("GET", "/").header("cookie", "a=b").header("x-client", "me").header("x-client", "too");
        let answer = Client::connect(&edge, via).await.ask(head, "").await;
        assert_eq!((answer.field("x-frame-options"), answer.field("x-old")), ("DENY", "new"));
        assert_eq!(answer.field("server"), "", "{via:?}");
        let fields = origin.take().fields;
        assert_eq!((fields.get("x-added"), fields.get("x-client")), ("yes", "edge"));
        assert_eq!(fields.get("host"), "app.internal");
        assert!(!fields.has("cookie"));
    }
}

#[tokio::test]
async fn the_upstream_can_be_called_by_its_own_name() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "host = \"upstream\"\n").await;
    edge.get("/").await;
    let fields = origin.take().fields;
    assert_eq!(fields.get("host"), origin.address().to_string());
    assert_eq!(fields.get("x-forwarded-host"), "localhost");
}

#[tokio::test]
async fn networks_are_let_in_and_kept_out_by_the_address_of_the_client() {
    let edge = Edge::start(
        r#"
        [[route]]
        path = "/inside"
        text = "in"
        allow = ["10.0.0.0/8", "2001:db8::/32"]
        [[route]]
        path = "/outside"
        text = "out"
        deny = ["10.1.0.0/16"]
        [[route]]
        path = "/both"
        text = "both"
        allow = ["10.0.0.0/8"]
        deny = ["10.1.0.0/16"]
        "#,
    )
    .await;
    let mut client = Client::connect(&edge, Via::H1).await;
    for (path, address, status) in [
        ("/inside", "10.9.9.9", 200),
        ("/inside", "2001:db8::1", 200),
        ("/inside", "11.0.0.1", 403),
        ("/outside", "10.1.2.3", 403),
        ("/outside", "10.2.2.3", 200),
        ("/both", "10.1.2.3", 403),
        ("/both", "10.2.2.3", 200),
        ("/both", "192.0.2.1", 403),
        // The first one is what the client claims, the last what its proxy saw.
        ("/inside", "10.9.9.9, 192.0.2.1", 403),
    ] {
        let answer = client.ask(request("GET", path).header("x-forwarded-for", address), "").await;
        assert_eq!(answer.status, status, "{path} from {address}");
    }
}

#[tokio::test]
async fn hosts_choose_routes() {
    let edge = Edge::start(
        r#"
        [[route]]
        hosts = ["a.example"]
        path = "/"
        text = "a"
        [[route]]
        hosts = ["*.example"]
        path = "/"
        text = "any"
        [[route]]
        path = "/shared"
        text = "shared"
        "#,
    )
    .await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for (host, path, status, text) in [
            ("a.example", "/", 200, "a"),
            ("A.Example:80", "/x", 200, "a"),
            ("b.example", "/", 200, "any"),
            ("b.other", "/shared", 200, "shared"),
        ] {
            let head = http::Request::get(format!("http://{host}{path}"));
            let answer = client.ask(head, "").await;
            assert_eq!((answer.status, answer.text()), (status, text), "{host}{path} by {via:?}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_its_announcement() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"10B\"\n").await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        assert_eq!(client.ask(request("POST", "/"), "exactly 10").await.status, 200);
        origin.take();
        let before = origin.bytes();
        let answer = Client::connect(&edge, via).await.ask(request("POST", "/"), "exactly 11.").await;
        assert_eq!(answer.status, 413, "{via:?}");
        assert_eq!(origin.bytes(), before, "{via:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut_where_it_is_noticed() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE + "body_max = \"10B\"\n").await;
    for (n, via) in Via::ALL.into_iter().enumerate() {
        let mut client = Client::connect(&edge, via).await;
        let (feed, body) = Body::fed();
        let response = client.send(request("POST", "/").body(body).unwrap()).await;
        let before = origin.bytes();
        feed.send(Frame::data("123456".into())).await.unwrap();
        until("the first piece", async || (origin.bytes() > before).then_some(())).await;
        feed.send(Frame::data("7890!".into())).await.unwrap();
        assert_eq!(within("a response", response).await.unwrap().status(), 413, "{via:?}");
        // The origin never saw the end of the body, so it cannot take it for whole.
        until(&format!("the cut of {via:?}"), async || (origin.cut() == n + 1).then_some(())).await;
        assert_eq!(origin.count(), 0);
    }
}

#[tokio::test]
async fn a_refusal_has_one_reason_for_the_client_and_for_the_log() {
    let edge = Edge::start("[[route]]\npath = \"/here\"\ntext = \"\"\n").await;
    for via in Via::ALL {
        let path = format!("/nowhere/{via:?}");
        let answer = Client::connect(&edge, via).await.get(&path).await;
        assert_eq!(answer.status, 404);
        let reason = answer.field("x-tollgate-reason");
        assert!(!reason.is_empty() && answer.text().contains(reason), "{reason}: {}", answer.text());
        let line = edge.logged(&path).await;
        assert_eq!((&line["status"], &line["reason"]), (&404.into(), &reason.into()));
    }
}

#[tokio::test]
async fn a_stranger_is_not_told_the_reason() {
    let edge = Edge::start("[[route]]\npath = \"/here\"\ntext = \"\"\n").await;
    let head = request("GET", "/nowhere").header("x-forwarded-for", "192.0.2.1");
    let answer = Client::connect(&edge, Via::H1).await.ask(head, "").await;
    assert_eq!((answer.status, answer.field("x-tollgate-reason")), (404, ""));
}
