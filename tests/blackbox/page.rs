//! The live page: what a browser is given, and what it is told while it is open.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::*;

const TOKEN: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

/// What [`Edge::standard`] has, with control over TCP.
fn with_token(config: &str) -> String {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n";
    Edge::standard(config).replace(admin, &format!("{admin}control = {{ token = \"0123456789abcdef\" }}\n"))
}

/// A page that is open.
struct Page {
    events: Incoming,
    read: String,
    _client: Client,
}

impl Page {
    async fn open(edge: &Edge) -> Self {
        let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
        let mut client = Client::over(Via::H1, stream).await.unwrap();
        let head = request("GET", "/events").body(Body::whole("")).unwrap();
        let response = within("the events", client.send(head).await).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { events: response.into_body(), read: String::new(), _client: client }
    }

    /// The next event with its name; None at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (name, data) = event.split_once('\n').unwrap();
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                self.read = rest.to_owned();
                return Some((name, data));
            }
            let frame = within("an event", self.events.frame()).await?.unwrap();
            self.read.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// Reads until an event has what is looked for.
    #[track_caller]
    fn until(&mut self, wanted: &str, holds: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        within(wanted, async move {
            loop {
                let (name, data) = self.next().await.expect("more events");
                if name == wanted && holds(&data) {
                    return data;
                }
            }
        })
    }
}

/// The health of one check: the others depend on the machine.
fn check_of<'a>(state: &'a Value, name: &str) -> &'a Value {
    let checks = state["status"]["checks"].as_array().unwrap();
    &checks.iter().find(|check| check["name"] == name).unwrap()["status"]
}

async fn ask(edge: &Edge, line: (&str, &str), fields: &[(&str, &str)], body: &Value) -> Answer {
    let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
    let head = fields.iter().fold(request(line.0, line.1), |head, (name, value)| head.header(*name, *value));
    Client::over(Via::H1, stream).await.unwrap().ask(head, body.to_string()).await
}

/// H: no other host, no script but ours, no frame.
#[tokio::test]
async fn a_browser_is_given_a_page_that_needs_nobody_else() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    for (path, kind) in [("/", "text/html"), ("/live.css", "text/css"), ("/live.js", "text/javascript")] {
        let answer = edge.admin(path).await;
        assert_eq!((answer.status, answer.field("content-type")), (200, format!("{kind}; charset=utf-8").as_str()));
        assert_eq!(answer.field("x-content-type-options"), "nosniff");
        let policy = answer.field("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let other_hosts = answer.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!other_hosts.contains("http://") && !other_hosts.contains("https://"), "{path}");
    }
    let page = edge.admin("/").await;
    assert!(page.text().contains("live.css") && page.text().contains("live.js"), "{}", page.text());
    assert_eq!(ask(&edge, ("POST", "/"), &[], &Value::Null).await.status, 405);
    assert_eq!(ask(&edge, ("GET", "/events"), &[("host", "evil.example")], &Value::Null).await.status, 421);
}

#[tokio::test]
async fn numbers_move_with_requests() {
    let origin = Origin::answers(|request| {
        let status = if request.target.starts_with("/bad") { 500 } else { 200 };
        std::future::ready(ok("").status(status))
    })
    .await;
    let edge = Edge::start(upstream(&[origin.address()], "fails_max = 0") + ROUTE + "cache = {}\n").await;
    let mut page = Page::open(&edge).await;
    let (name, samples) = page.next().await.unwrap();
    assert!(name == "samples" && samples.is_array(), "{name} {samples}");
    let status = page.until("state", |state| check_of(state, "upstreams") == "healthy").await;
    assert_eq!(status["status"]["upstreams"][0]["endpoints"][0]["address"], origin.address().to_string());
    assert_eq!(page.until("limits", |_| true).await, json!([]));
    for path in ["/", "/bad"] {
        assert!(edge.get(path).await.status < 501);
    }
    let state = page.until("state", |state| state["routes"]["shown"][0]["p95_ms"].is_number()).await;
    assert!(state["sample"]["rate"].as_f64().unwrap() > 0.0, "{state}");
    let state = page.until("state", |state| state["routes"]["shown"][0]["server_error_ratio"] == 0.5).await;
    assert_eq!(state["routes"]["shown"][0]["route"], "/");
    // A page that comes later is shown what was.
    let (_, samples) = Page::open(&edge).await.next().await.unwrap();
    let rates = samples.as_array().unwrap().iter().map(|sample| sample["rate"].as_f64().unwrap());
    assert!(rates.sum::<f64>() > 0.5, "{samples}");
}

#[tokio::test]
async fn an_endpoint_that_dies_is_out_after_a_probe() {
    let (stays, mut dies) = (Origin::replies(ok("")).await, Origin::replies(ok("")).await);
    let health = "health = { path = \"/\", interval = \"500ms\", unhealthy_after = 1 }";
    let edge = Edge::start(upstream(&[stays.address(), dies.address()], health) + ROUTE).await;
    let mut page = Page::open(&edge).await;
    let usable = |state: &Value| state["status"]["upstreams"][0]["usable"].as_u64();
    page.until("state", |state| usable(state) == Some(2)).await;
    let address = dies.address().to_string();
    dies.kill().await;
    let state = page.until("state", |state| usable(state) == Some(1)).await;
    let endpoints = state["status"]["upstreams"][0]["endpoints"].as_array().unwrap();
    let dead = endpoints.iter().find(|endpoint| endpoint["address"] == address).unwrap();
    assert!(dead["state"] == "unhealthy" && dead["last_error"].is_string(), "{dead}");
    assert_eq!(check_of(&state, "upstreams"), "degraded");
}

#[tokio::test]
async fn a_replica_that_is_killed_is_shown_with_its_successor() {
    let config = "[upstream.app]\nrun = { command = [\"{self}\", \"backend\", \"--listen\", \"{address}\"], replicas = 1 }\n\
                  [[route]]\npath = \"/\"\nupstream = \"app\"\n";
    let edge = Edge::start(config).await;
    let mut page = Page::open(&edge).await;
    let replica = |state: &Value| state["status"]["replicas"][0].clone();
    let ready = page.until("state", |state| replica(state)["state"] == "ready").await;
    let pid = i32::try_from(replica(&ready)["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let next = page.until("state", |state| replica(state)["restarts"] == 1 && replica(state)["state"] == "ready").await;
    assert_ne!(replica(&next)["pid"], pid);
}

#[tokio::test]
async fn an_endpoint_is_drained_with_the_token_and_from_this_page_alone() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::verbatim(&with_token(&(upstream(&[origin.address()], "") + ROUTE))).await;
    let mut page = Page::open(&edge).await;
    let state =
        |wanted: &'static str| move |state: &Value| state["status"]["upstreams"][0]["endpoints"][0]["state"] == wanted;
    assert_eq!(page.until("state", state("usable")).await["control"], "token");
    let (drain, which) = ("/upstreams/app/drain", json!({ "address": origin.address() }));
    let host = edge.admin_address().to_string();
    let ours = format!("http://{host}");
    for (fields, expected) in [
        (&[("host", &*host), ("origin", &*ours)][..], 403),
        (&[("host", &*host), ("origin", "http://evil.example"), TOKEN], 403),
        (&[("host", &*host), ("origin", "null"), TOKEN], 403),
        (&[("host", &*host), ("origin", &*ours), TOKEN], 200),
    ] {
        let answer = ask(&edge, ("POST", drain), fields, &which).await;
        assert_eq!(answer.status, expected, "{fields:?}: {}", answer.text());
    }
    page.until("state", state("drained")).await;
    assert_eq!(ask(&edge, ("POST", "/upstreams/app/undrain"), &[TOKEN], &which).await.status, 200);
    page.until("state", state("usable")).await;
}

#[tokio::test]
async fn a_file_that_is_refused_is_shown_as_check_says_it() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    let mut page = Page::open(&edge).await;
    let config = |state: &Value| state["status"]["config"].clone();
    assert!(config(&page.until("state", |_| true).await)["last_diagnostics"].is_null());
    edge.write_config(&Edge::standard("[[route]]\npath = \"/\"\ntxt = \"<img src=x>\"\n"));
    let refused = page.until("state", |state| config(state)["last_diagnostics"].is_string()).await;
    let shown = config(&refused)["last_diagnostics"].as_str().unwrap().to_owned();
    let check = edge.cli(&["check"]).await;
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains(shown.trim()), "{said}\n\n{shown}");
    assert!(shown.contains("txt = \"<img src=x>\"") && shown.contains("^^^"), "{shown}");
    assert_eq!(check_of(&refused, "config"), "degraded");
    edge.write_config(&Edge::standard("[[route]]\npath = \"/\"\ntext = \"good\"\n"));
    page.until("state", |state| config(state)["last_diagnostics"].is_null()).await;
}

#[tokio::test]
async fn events_end_when_the_rules_change_and_when_the_process_drains() {
    let route = "[[route]]\npath = \"/\"\ntext = \"in\"\n";
    let mut edge = Edge::verbatim(&with_token(&format!("[server]\ndrain_delay = \"30s\"\n{route}"))).await;
    let to_end = async |mut page: Page| within("the end", async { while page.next().await.is_some() {} }).await;
    let page = Page::open(&edge).await;
    edge.write_config(&Edge::standard(format!("[server]\ndrain_delay = \"30s\"\n{route}")));
    to_end(page).await;
    let mut page = Page::open(&edge).await;
    assert_eq!(page.until("state", |_| true).await["control"], "socket_only");
    edge.signal(Signal::TERM);
    to_end(page).await;
    assert_eq!(edge.admin("/events").await.status, 503);
    edge.signal(Signal::TERM);
    edge.exit().await;
}
