//! HEAD: the head that GET would have, and nothing behind it (RFC 9110 §9.3.2).

use http::Response;

use crate::harness::*;

async fn origin() -> Origin {
    Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let is_chunked = request.target.contains("/chunked/");
            let framing = if is_chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 5" };
            let body = match (request.method.as_str(), is_chunked) {
                ("HEAD", _) => "",
                (_, true) => "5\r\nhello\r\n0\r\n\r\n",
                (_, false) => "hello",
            };
            connection.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await.unwrap();
        }
    })
    .await
}

const ROUTES: &str = r#"
[[route]]
path = "/app"
upstream = "app"
[[route]]
path = "/text"
text = "hello"
[[route]]
path = "/empty"
text = ""
[[route]]
path = "/moved"
redirect = "https://example.com/"
[[route]]
path = "/shut"
text = "hello"
deny = ["0.0.0.0/0"]
[[route]]
path = "/status"
status = "stub"
"#;

#[tokio::test]
async fn head_has_the_head_of_get_and_no_content() {
    let origin = origin().await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTES).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for (path, status, reason) in [
            ("/app", 200, None),
            ("/app/chunked", 200, None),
            ("/text", 200, None),
            ("/empty", 200, None),
            ("/moved", 308, None),
            ("/status", 200, None),
            ("/shut", 403, Some("access-denied")),
            ("/none", 404, Some("no-route")),
        ] {
            let path = format!("{path}/{via:?}");
            let get = client.get(&path).await;
            let head = client.ask(request("HEAD", &path), "").await;
            assert_eq!((get.status, head.status, &head.body[..]), (status, status, &b""[..]), "{path}");
            let length = |answer: &Answer| answer.fields.get("content-length").map(|value| value.len());
            match length(&head) {
                // That there is nothing need not be said.
                None => assert!(get.body.is_empty() || length(&get).is_none(), "{path}"),
                // The numbers of the status page grow.
                Some(digits) if path.starts_with("/status") => assert_eq!(Some(digits), length(&get)),
                Some(_) => assert_eq!(head.field("content-length"), get.field("content-length"), "{path}"),
            }
            assert_eq!(head.field("content-type"), get.field("content-type"), "{path}");
            let line = edge.log(|line| line["method"] == "HEAD" && line["path"] == path.as_str()).await;
            assert_eq!((line["reason"].as_str(), &line["bytes_sent"]), (reason, &0.into()), "{line}");
        }
    }
}

#[tokio::test]
async fn head_passes_to_an_upstream_of_http_2() {
    let origin = H2Origin::answers(|request| async move {
        let length = if request.uri().path() == "/known" { Some("5") } else { None };
        let response =
            length.into_iter().fold(Response::builder(), |head, length| head.header("content-length", length));
        response.body(Body::whole("")).unwrap()
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE).await;
    for via in Via::ALL {
        let mut client = Client::connect(&edge, via).await;
        for (path, length) in [("/known", "5"), ("/unknown", "")] {
            let path = format!("{path}?{via:?}");
            let head = client.ask(request("HEAD", &path), "").await;
            let seen = (head.status, head.field("content-length"), &head.body[..]);
            assert_eq!(seen, (200, length, &b""[..]), "{path}");
        }
    }
    let line = edge.log(|line| line["method"] == "HEAD").await;
    assert_eq!(line["reason"], serde_json::Value::Null, "{line}");
}
