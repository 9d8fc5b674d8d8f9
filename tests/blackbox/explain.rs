//! `tollgate explain`: what it says is what the proxy then does, over requests that are made by chance, and nothing is
//! changed by asking.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::*;

/// Requests of one run. Both numbers are fixed, so that a failure comes again.
const REQUESTS: usize = 400;
const SEED: u64 = 20_261_121;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// In place of what is another one each time.
const FRESH: &str = "(made for each request)";

/// Something of everything that decides over a request. `APP` and `SOLO` are for addresses.
const RICH: &str = r#"
[telemetry]
[compress]
min_size = "1KiB"
[rate_limit.few]
key = "header:x-key"
requests = 12
window = "1d"
headers = "both"
[upstream.app]
endpoints = APP
balance = "round-robin"
retry = { attempts = 1 }
[upstream.keyed]
endpoints = APP
balance = "hash"
hash_by = "path"
retry = { attempts = 1 }
[upstream.solo]
endpoints = ["SOLO"]
retry = { attempts = 1 }
[upstream.shut]
endpoints = ["SOLO"]
[[route]]
name = "root"
path = "/"
upstream = "app"
[[route]]
name = "keyed"
path = "/keyed"
upstream = "keyed"
host = "upstream"
[[route]]
name = "kept"
path = "/kept"
upstream = "solo"
cache = { default_ttl = "1h", key = { query_ignore = ["utm_*"] }, bypass = { query = ["fresh"], fields = ["x-pass"] } }
[[route]]
name = "plain"
path = "/kept/cookies"
upstream = "solo"
reflects_input = true
cache = { cookies = "ignore" }
[[route]]
name = "strip"
path = "/strip"
upstream = "app"
strip_prefix = "/strip"
host = "fixed.example"
compress = false
request = { set = { x-from = "edge", authorization = "Bearer of-the-edge" }, remove = ["cookie"] }
response = { set = { x-to = "client" }, remove = ["server"] }
[[route]]
name = "old"
path_regex = "^/old/([0-9]+)$"
upstream = "app"
rewrite = { regex = "^/old/([0-9]+)$", to = "/new?id=$1" }
[[route]]
name = "exact"
path_exact = "/exact"
text = "exactly"
[[route]]
name = "go"
path = "/go"
redirect = "https://{host}/gone{uri}"
[[route]]
name = "stub"
path_exact = "/stub"
status = "stub"
[[route]]
name = "inside"
path = "/inside"
allow = ["198.51.100.0/24"]
deny = ["198.51.100.7"]
upstream = "solo"
[[route]]
name = "small"
path = "/small"
body_max = "10B"
upstream = "solo"
[[route]]
name = "few"
path = "/few"
upstream = "solo"
rate_limit = ["few"]
[[route]]
name = "shut"
path = "/shut"
upstream = "shut"
fallback = { status = 200, text = "later" }
[[route]]
name = "shut-too"
path = "/shut/too"
upstream = "shut"
[[route]]
name = "of-host"
hosts = ["a.example", "*.b.example"]
path = "/"
upstream = "solo"
"#;

fn rich(app: &[&Origin], solo: &Origin) -> String {
    let endpoints: Vec<_> = app.iter().map(|origin| origin.address().to_string()).collect();
    RICH.replace("APP", &format!("{endpoints:?}")).replace("SOLO", &solo.address().to_string())
}

/// Answers by what the path says.
fn reply(request: &Request) -> Reply {
    let body = "the same line again and again\n".repeat(100);
    let answer = ok(body).field("content-type", "text/html").field("server", "origin");
    let has = |part: &str| request.target.contains(part);
    match () {
        () if has("stale") => answer.field("cache-control", "max-age=0").field("etag", "\"s\""),
        () if has("often") => {
            answer.field("cache-control", "max-age=0, stale-while-revalidate=1000").field("etag", "\"o\"")
        }
        () if has("always") => match request.fields.has("if-none-match") {
            true => ok("").status(304).field("etag", "\"a\""),
            false => answer.field("cache-control", "no-cache, max-age=60").field("etag", "\"a\""),
        },
        () if has("private") => answer.field("cache-control", "private"),
        () if has("vary") => answer.field("cache-control", "max-age=600").field("vary", "accept-language"),
        () if has("guess") => answer,
        () => answer.field("cache-control", "max-age=600").field("etag", "\"f\"").field("age", "3"),
    }
}

/// A request as it is asked about and as it is sent.
struct Asked {
    method: &'static str,
    is_tls: bool,
    host: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: &'static str,
}

/// Chance with a seed.
struct Dice(fastrand::Rng);

impl Dice {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())]
    }

    fn once_in(&mut self, many: usize) -> bool {
        self.0.usize(..many) == 0
    }

    /// Half of all ask for a few things that are kept, so that some of them are.
    fn kept(&mut self) -> Asked {
        let path =
            self.one(&["x", "vary", "stale", "often", "often", "always", "guess", "cookies/x", "%78", "x?utm_a=1"]);
        let (method, mut fields) = (self.one(&["GET", "GET", "GET", "HEAD"]), self.fields());
        if !self.once_in(3) {
            fields.truncate(1);
        }
        Asked { method, is_tls: false, host: "localhost", target: format!("/kept/{path}"), fields, body: "" }
    }

    fn target(&mut self) -> String {
        let path = self.one(&[
            "/",
            "/a",
            "/a/../kept/x",
            "/%6bept/x",
            "/kept",
            "/kept/./x",
            "/kept/x",
            "/kept/vary",
            "/kept/stale",
            "/kept/often",
            "/kept/always",
            "/kept/private",
            "/kept/guess",
            "/kept/cookies/x",
            "/kept/cookies/guess",
            "/kept//x",
            "/kept/%2e%2e/a",
            "/keyed/1",
            "/keyed/2",
            "/keyed/%41",
            "/strip",
            "/strip/a%2fb",
            "/strip/%c3%a9",
            "/old/12",
            "/old/12x",
            "/old/%31",
            "/exact",
            "/exact/",
            "/go",
            "/go/a%20b",
            "/stub",
            "/inside",
            "/inside/x",
            "/small",
            "/few",
            "/few/x",
            "/shut",
            "/shut/too",
            "//x",
            "/kept/%zz",
            "/kept/%00",
            "/a\\b",
            "/kept/x;y=1",
            "/kept/~x",
            "/kept/%7Ex",
        ]);
        let query = self.one(&["", "", "", "?q=1", "?utm_a=2", "?q=1&utm_b=3", "?fresh=1", "?", "?q=%zz"]);
        format!("{path}{query}")
    }

    fn fields(&mut self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        let values: &[(&str, &[&str])] = &[
            (
                "accept-encoding",
                &["gzip", "br, gzip", "zstd;q=0.5, gzip", "identity", "*;q=0", "gzip;q=x", "deflate, gzip;q=1.0"],
            ),
            ("cookie", &["a=b", "theme=dark; a=b"]),
            ("authorization", &["Bearer x", "Basic eA=="]),
            (
                "cache-control",
                &["no-cache", "max-age=0", "max-stale", "only-if-cached", "no-store", "no-transform", "min-fresh=5"],
            ),
            ("range", &["bytes=0-9", "bytes=9999999-", "bytes=0-1,5-9"]),
            ("if-none-match", &["\"f\"", "\"a\", \"x\"", "*"]),
            ("if-match", &["\"f\""]),
            ("accept-language", &["de", "en, de;q=0.5"]),
            (
                "x-forwarded-for",
                &["198.51.100.9", "198.51.100.7", "203.0.113.1, 127.0.0.1", "nonsense", "198.51.100.9, x"],
            ),
            ("x-forwarded-proto", &["https", "gopher"]),
            ("forwarded", &["for=1.2.3.4"]),
            ("x-request-id", &["abc", "a b"]),
            ("traceparent", &[TRACEPARENT, TRACEPARENT, "00-0"]),
            ("tracestate", &["a=1"]),
            ("x-trace-id", &["1"]),
            ("te", &["trailers", "gzip"]),
            ("connection", &["x-hop", "te", "keep-alive"]),
            ("x-hop", &["1"]),
            ("x-key", &["one", "two"]),
            ("x-pass", &["1", "0"]),
            ("x-no-compression", &["1"]),
        ];
        for (name, values) in values {
            if self.once_in(5) {
                fields.push((*name, self.one(values).to_owned()));
            }
        }
        if self.once_in(25) {
            fields.push(
                self.one(&[
                    ("host", "b"),
                    ("x y", "1"),
                    ("content-length", "3, 3"),
                    ("expect", "more"),
                    ("x-odd", "\u{1}"),
                ])
                .into_field(),
            );
        }
        fields
    }

    fn asked(&mut self) -> Asked {
        let method = self.one(&[
            "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE", "TRACE",
        ]);
        let host = self.one(&[
            "localhost",
            "localhost",
            "localhost",
            "LOCALHOST.",
            "a.example",
            "x.b.example",
            "b.example",
            "-",
            "a_b:80",
        ]);
        let (target, mut fields) = (self.target(), self.fields());
        let body = match method {
            "POST" | "PUT" if !self.once_in(4) => self.one(&["abc", "more than ten bytes"]),
            _ => "",
        };
        if method == "POST" && self.once_in(4) {
            fields.push(("transfer-encoding", "chunked".to_owned()));
        } else if !body.is_empty() || method == "POST" {
            fields.push(("content-length", body.len().to_string()));
        }
        Asked { method, is_tls: self.once_in(6), host, target, fields, body }
    }
}

trait IntoField {
    fn into_field(self) -> (&'static str, String);
}

impl IntoField for (&'static str, &'static str) {
    fn into_field(self) -> (&'static str, String) {
        (self.0, self.1.to_owned())
    }
}

impl Asked {
    fn is_chunked(&self) -> bool {
        self.fields.iter().any(|(name, _)| *name == "transfer-encoding")
    }

    fn question(&self) -> Value {
        let scheme = if self.is_tls { "https" } else { "http" };
        json!({ "method": self.method, "url": format!("{scheme}://{}{}", self.host, self.target), "fields": self.fields })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| *name == "host") {
            text.push_str(&format!("host: {}\r\n", self.host));
        }
        self.fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str("\r\n");
        match self.is_chunked() {
            true if self.body.is_empty() => text.push_str("0\r\n\r\n"),
            true => text.push_str(&format!("{:x}\r\n{}\r\n0\r\n\r\n", self.body.len(), self.body)),
            false => text.push_str(self.body),
        }
        text.into_bytes()
    }

    /// What the edge answers.
    async fn send(&self, edge: &Edge) -> (u16, BTreeMap<String, String>, String) {
        let response = if self.is_tls {
            let mut wire = Wire::new(tls(edge, "localhost", &[b"http/1.1"]).await);
            let _refused_early = wire.send(self.bytes()).await;
            within("a response", wire.response(self.method)).await
        } else {
            let mut wire = edge.raw().await;
            let _refused_early = wire.send(self.bytes()).await;
            within("a response", wire.response(self.method)).await
        };
        let response = response.unwrap_or_else(|bad| panic!("{:?} to {:?}", bad, self.question()));
        let text = response.text();
        (response.status, joined(response.fields.0), text)
    }

    /// The fields as the edge reads them, each in one line.
    fn read(&self) -> BTreeMap<String, String> {
        let host = ("host".to_owned(), self.host.to_owned());
        let has_host = self.fields.iter().any(|(name, _)| *name == "host");
        let host = (!has_host).then_some(host).into_iter();
        joined(host.chain(self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))))
    }
}

fn joined(fields: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        let line = joined.entry(name).or_default();
        *line = if line.is_empty() { value } else { format!("{line}, {value}") };
    }
    joined
}

/// Asks over the control socket, which may see everything.
async fn explain(edge: &Edge, question: &Value) -> Value {
    let stream = UnixStream::connect(edge.folder().join("tollgate.sock")).await.unwrap();
    let mut client = Client::over(Via::H1, stream).await.unwrap();
    let answer = client.ask(request("POST", "/explain"), question.to_string()).await;
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// What stands in the access log of the request with this name.
async fn logged(edge: &Edge, lines: &mut usize) -> Value {
    let path = edge.folder().join("access.log");
    let seen = *lines;
    *lines += 1;
    until("a line of the access log", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().nth(seen).filter(|line| line.ends_with('}')).and_then(|line| serde_json::from_str(line).ok())
    })
    .await
}

#[tokio::test]
async fn what_is_explained_is_what_is_done() {
    let one = Origin::answers(|request| std::future::ready(reply(&request))).await;
    let two = Origin::answers(|request| std::future::ready(reply(&request))).await;
    let solo = Origin::answers(|request| std::future::ready(reply(&request))).await;
    let edge = Edge::start(rich(&[&one, &two], &solo)).await;
    assert!(edge.cli(&["upstreams", "drain", "shut", &solo.address().to_string()]).await.status.success());
    let (mut dice, mut lines) = (Dice(fastrand::Rng::with_seed(SEED)), 0);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..REQUESTS {
        let mut asked = if dice.once_in(2) { dice.kept() } else { dice.asked() };
        asked.fields.push(("x-n", number.to_string()));
        let explained = explain(&edge, &asked.question()).await;
        let before = [&one, &two, &solo].map(|origin| origin.count());
        let (status, fields, text) = asked.send(&edge).await;
        let log = logged(&edge, &mut lines).await;
        let what = format!("request {number}: {}\nexplained {explained:#}\nlogged {log:#}", asked.question());
        let outcome = &explained["outcome"];
        *seen.entry(kind(&explained)).or_default() += 1;
        if let Some(expected) = outcome["status"].as_u64() {
            assert_eq!(u64::from(status), expected, "{what}");
        }
        assert_eq!(outcome["reason"], log["reason"], "{what}");
        if let (Some(reason), false) = (outcome["reason"].as_str(), asked.method == "HEAD" || text == "later") {
            assert!(text.contains(&format!("reason: {reason}")), "{text}\n{what}");
        }
        agrees_on_the_route(&explained, &log, &what);
        agrees_on_the_cache(&explained, &log, &fields, &what);
        agrees_on_the_coding(&explained, &log, status, asked.method, &what);
        agrees_with_the_client(&explained, &fields, &what);
        let after = [&one, &two, &solo].map(|origin| origin.count());
        match outcome["by"].as_str() {
            Some("origin") => {
                assert_eq!(explained["upstream"]["endpoints"][0]["address"], log["endpoint"], "{what}");
                let origins = [&one, &two, &solo];
                let origin = origins.iter().find(|origin| log["endpoint"] == origin.address().to_string()).unwrap();
                let name = number.to_string();
                let request = origin.requests().into_iter().find(|request| request.fields.get("x-n") == name);
                agrees_with_the_origin(&explained, &asked, &request.unwrap(), &what);
            }
            // What is validated behind the client's back may come at any time.
            Some(_) if explained["cache"]["verdict"] != "stale" => assert_eq!(after, before, "{what}"),
            _ => {}
        }
    }
    println!("{seen:#?}");
    // A run that is all of one kind would show nothing.
    for kind in
        ["refusal", "redirect", "route", "cache hit", "cache stale", "origin miss", "origin bypass", "origin off"]
    {
        assert!(seen.get(kind).is_some_and(|count| *count > 3), "too few of {kind}: {seen:#?}");
    }
}

fn kind(explained: &Value) -> String {
    let by = explained["outcome"]["by"].as_str().unwrap();
    match by {
        "origin" | "cache" => format!("{by} {}", explained["cache"]["verdict"].as_str().unwrap()),
        by => by.to_owned(),
    }
}

fn agrees_on_the_route(explained: &Value, log: &Value, what: &str) {
    let chosen: Vec<_> =
        explained["routes"].as_array().unwrap().iter().filter(|one| one["verdict"] == "chosen").collect();
    let name = chosen.first().map_or(&Value::Null, |route| &route["name"]);
    // A redirect to https is before any route; here is none.
    assert_eq!(name, &log["route"], "{what}");
    assert!(
        chosen.len() <= 1 && chosen.iter().all(|one| one["place"].as_str().unwrap().contains("config.toml:")),
        "{what}"
    );
    if !explained["client"].is_null() {
        assert_eq!(explained["client"]["address"], log["client"], "{what}");
    }
}

fn agrees_on_the_cache(explained: &Value, log: &Value, fields: &BTreeMap<String, String>, what: &str) {
    let cache = &explained["cache"];
    match (cache["verdict"].as_str(), log["cache"].as_str()) {
        (None | Some("off"), None) => {}
        (Some("miss"), Some("miss" | "validated")) => {}
        (Some(said), Some(done)) if said == done => {}
        _ => panic!("{what}"),
    }
    let told = fields.get("cache-status").map(|told| told.strip_prefix("tollgate; ").unwrap());
    if let (Some(said), Some(told)) = (cache["cache_status"].as_str(), told) {
        // Seconds may have passed.
        let plain =
            |text: &str| text.split("; ").filter(|part| !part.starts_with("ttl=")).collect::<Vec<_>>().join("; ");
        assert!(plain(told).starts_with(&plain(said)), "{told}\n{what}");
    }
}

fn agrees_on_the_coding(explained: &Value, log: &Value, status: u16, method: &str, what: &str) {
    let coding = &explained["coding"];
    if coding.is_null() || !explained["outcome"]["reason"].is_null() {
        return;
    }
    // Of what only the origin knows, the answers here have all but the status.
    if coding["needs"].is_null() || (status == 200 && method != "HEAD") {
        assert_eq!((&coding["coding"], &coding["not_coded"]), (&log["coding"], &log["not_coded"]), "{what}");
    }
}

fn agrees_with_the_client(explained: &Value, fields: &BTreeMap<String, String>, what: &str) {
    let set = explained["response"]["set"].as_array().unwrap();
    for (name, value) in set.iter().map(|one| (one[0].as_str().unwrap(), one[1].as_str().unwrap())) {
        let found = fields.get(name).unwrap_or_else(|| panic!("no {name}\n{what}"));
        assert!(value == FRESH || value == found, "{name}: {found}\n{what}");
    }
    for name in ["x-to", "x-trace-id", "x-span-id"] {
        assert_eq!(set.iter().any(|one| one[0] == name), fields.contains_key(name), "{name}\n{what}");
    }
}

fn agrees_with_the_origin(explained: &Value, asked: &Asked, seen: &Request, what: &str) {
    let changes = &explained["request"];
    assert_eq!(changes["target"], seen.target, "{what}");
    let mut expected = asked.read();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for removed in changes["removed"].as_array().unwrap() {
        assert!(expected.remove(removed.as_str().unwrap()).is_some(), "{removed}\n{what}");
    }
    for changed in changes["changed"].as_array().unwrap() {
        let before = expected.insert(text(&changed["name"]), text(&changed["to"]));
        assert_eq!(before.as_deref(), changed["from"].as_str(), "{what}");
    }
    for added in changes["added"].as_array().unwrap() {
        assert_eq!(expected.insert(text(&added[0]), text(&added[1])), None, "{what}");
    }
    let mut found = joined(seen.fields.0.clone());
    // The length of a body is told anew on each connection, and this name is made for each request.
    for fields in [&mut expected, &mut found] {
        for name in ["content-length", "transfer-encoding"] {
            fields.remove(name);
        }
    }
    for (name, length) in [("x-request-id", 32), ("x-trace-id", 32), ("x-span-id", 16), ("traceparent", 55)] {
        if expected.get(name).is_some_and(|value| value == FRESH) {
            let made = found.remove(name).filter(|made| Some(made) != asked.read().get(name));
            assert_eq!(made.map(|made| made.len()), Some(length), "{name}\n{what}");
            expected.remove(name);
        }
    }
    assert_eq!(found, expected, "{what}");
    assert_eq!(seen.method, asked.method, "{what}");
}

#[tokio::test]
async fn the_names_of_a_trace_are_explained_for_request_and_response() {
    let origin = Origin::replies(ok("")).await;
    let nowhere = deserted();
    let start = async |keys: &str| {
        Edge::start(format!("[telemetry]\n{keys}{}{ROUTE}", upstream(&[origin.address()], ""))).await
    };
    let ask_of = async |edge: &Edge, method: &str, fields: &[(&str, &str)]| {
        explain(edge, &json!({ "method": method, "url": "http://localhost/", "fields": fields })).await
    };
    let parent = [("traceparent", TRACEPARENT), ("tracestate", "a=1")];
    let kept = ask_of(&start("").await, "GET", &parent).await;
    assert_eq!((&kept["request"]["changed"], &kept["request"]["removed"]), (&json!([]), &json!([])), "no collector");
    let edge = start(&format!("otlp = \"http://{nowhere}\"\nsample = 1\n")).await;
    let ask = async |method: &str, fields: &[(&str, &str)]| ask_of(&edge, method, fields).await;
    let of = |explained: &Value, name: &str| {
        let of = |list: &Value| list.as_array().unwrap().iter().find(|one| one[0] == name).map(|one| one[1].clone());
        (of(&explained["request"]["added"]), of(&explained["response"]["set"]))
    };
    let begun = ask("GET", &[]).await;
    for name in ["x-trace-id", "x-span-id"] {
        assert_eq!(of(&begun, name), (Some(json!(FRESH)), Some(json!(FRESH))), "{name}: {begun:#}");
    }
    assert_eq!(of(&begun, "traceparent"), (Some(json!(FRESH)), None));
    let continued = ask("GET", &parent).await;
    assert_eq!(of(&continued, "x-trace-id"), (Some(json!(TRACE_ID)), Some(json!(TRACE_ID))));
    assert_eq!(continued["request"]["changed"][0], json!({ "name": "traceparent", "from": TRACEPARENT, "to": FRESH }));
    assert_eq!(continued["request"]["removed"], json!([]));
    let broken = ask("GET", &[("traceparent", "00-1"), ("tracestate", "a=1")]).await;
    assert_eq!(broken["request"]["removed"], json!(["tracestate"]), "the state goes with its trace");
    assert_eq!(of(&ask("OPTIONS", &[]).await, "x-trace-id"), (None, None), "requests of OPTIONS have none");
}

#[tokio::test]
async fn asking_spends_nothing_and_moves_nothing() {
    let origin = Origin::answers(|request| std::future::ready(reply(&request))).await;
    let config = format!(
        "[rate_limit.two]\nrequests = 2\nwindow = \"1d\"\n{}[[route]]\npath = \"/\"\nupstream = \"app\"\n\
         rate_limit = [\"two\"]\ncache = true\nrequests_max = 1\n",
        upstream(&[origin.address()], "")
    );
    let edge = Edge::start(config).await;
    let ask =
        async |path: &str| explain(&edge, &json!({ "method": "GET", "url": format!("http://localhost{path}") })).await;
    for _ in 0..5 {
        let explained = ask("/x").await;
        assert_eq!((&explained["outcome"]["by"], &explained["cache"]["verdict"]), (&json!("origin"), &json!("miss")));
        assert_eq!(explained["rate_limits"][0]["state"]["remaining"], 2);
        assert_eq!(explained["in_flight"][0], json!({ "limit": "route.requests_max", "max": 1, "open": 0 }));
    }
    assert_eq!(edge.get("/x").await.field("ratelimit").split(';').nth(1), Some("r=1"));
    // A client has its answer a moment before its place is free.
    let is_free = async || (ask("/x").await["in_flight"][0]["open"] == 0).then_some(());
    until("the place to be free", is_free).await;
    let hit = ask("/x").await;
    assert_eq!((&hit["outcome"]["by"], &hit["outcome"]["status"]), (&json!("cache"), &json!(200)));
    assert_eq!((&hit["cache"]["rfc"], &hit["cache"]["age_s"]), (&json!("RFC 9111 §4.2"), &json!(3)));
    assert_eq!(hit["cache"]["variants"][0]["matches"], true);
    assert_eq!(edge.get("/x").await.field("ratelimit").split(';').nth(1), Some("r=0"));
    until("the place to be free", is_free).await;
    for _ in 0..3 {
        let refused = ask("/x").await;
        assert_eq!(
            (&refused["outcome"]["reason"], &refused["outcome"]["status"]),
            (&json!("rate-limited"), &json!(429))
        );
        assert!(refused["cache"].is_null() && refused["upstream"].is_null(), "it does not come so far: {refused:#}");
    }
    let limits: Value = serde_json::from_slice(&edge.admin("/limits").await.body).unwrap();
    assert_eq!((&limits[0]["allowed"], &limits[0]["limited"]), (&json!(2), &json!(0)), "nothing was counted");
    let cache: Value = serde_json::from_slice(&edge.admin("/cache").await.body).unwrap();
    assert_eq!((&cache["routes"][0]["hits"], &cache["routes"][0]["misses"]), (&json!(1), &json!(1)));
    assert_eq!(edge.endpoint(origin.address()).await["requests"], 1);
}

#[tokio::test]
async fn readers_do_not_see_what_the_file_sends_to_origins() {
    let origin = Origin::replies(ok("")).await;
    let route = "[[route]]\npath = \"/\"\nupstream = \"app\"\nrequest = { set = { x-secret = \"hunter2\" } }\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + route).await;
    let question = json!({ "method": "GET", "url": "http://localhost/" });
    let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
    let mut reader = Client::over(Via::H1, stream).await.unwrap();
    let read = reader.ask(request("POST", "/explain"), question.to_string()).await;
    assert_eq!(read.status, 200);
    assert!(read.text().contains("[\"x-secret\",\"***\"]") && !read.text().contains("hunter2"), "{}", read.text());
    assert!(explain(&edge, &question).await.to_string().contains("hunter2"), "who controls may see it");
    let elsewhere = request("POST", "/explain").header("host", "evil.example");
    let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
    let mut rebound = Client::over(Via::H1, stream).await.unwrap();
    assert_eq!(rebound.ask(elsewhere, question.to_string()).await.status, 421);
}

#[tokio::test]
async fn the_command_explains_the_running_proxy_and_a_file() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::start(upstream(&[origin.address()], "") + ROUTE).await;
    let text = async |arguments: &[&str]| {
        let output = edge.cli(arguments).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = text(&["explain", "GET", "http://localhost/a/../b", "-H", "Accept: */*"]).await;
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "by generation 1 of the running proxy",
        "which came as /a/../b",
        "127.0.0.1 (trusted)",
        "config.toml:",
        "takes any host; the longest prefix of the path",
        "off: the route keeps no responses",
        "added     x-forwarded-for: 127.0.0.1",
        &origin.address().to_string(),
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!said.contains('\x1b'), "no colours into a pipe: {said}");
    let (code, said, _) = text(&["explain", "--offline", "GET", "https://localhost/"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by the file, without a running proxy") && said.contains("unknown"), "{said}");
    let (_, said, _) = text(&["explain", "TRACE", "http://localhost/", "--json"]).await;
    let refused: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&refused["outcome"]["by"], &refused["outcome"]["status"]), (&json!("refusal"), &json!(405)));
    for (arguments, expected) in [
        (&["G T", "http://localhost/"][..], "\"G T\" is no method; expected a method such as GET"),
        (&["GET", "localhost/"][..], "\"localhost/\" is no URL; expected a URL such as"),
        (&["GET", "ftp://localhost/"][..], "\"ftp\" is not spoken here; expected http or https"),
        (&["GET", "http:///a"][..], "does not name a host"),
        (&["GET", "http://localhost/", "-H", "accept"][..], "a field has a colon in it"),
        (&["GET", "http://localhost/", "--listen", "192.0.2.1:1"][..], "there is no listener at 192.0.2.1:1 among"),
        (&["GET", "http://localhost/", "--client", "me"][..], "invalid"),
    ] {
        let (code, _, said) = text(&[&["explain"], arguments].concat()).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

/// What is explained of a request, and what is answered to it: status and reason.
async fn both(edge: &Edge, listen: &str, path: &str) -> ((u64, String, String), (u64, String, String)) {
    let address = edge.listener(listen);
    let question = json!({ "method": "GET", "url": format!("http://localhost{path}"), "listen": address });
    let outcome = explain(edge, &question).await["outcome"].take();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = (outcome["status"].as_u64().unwrap_or(200), text(&outcome["reason"]), text(&outcome["location"]));
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = Client::over(Via::H1, stream).await.unwrap().get(path).await;
    let (reason, location) = (answer.field("x-tollgate-reason"), answer.field("location"));
    (said, (answer.status.into(), reason.to_owned(), location.to_owned()))
}

#[tokio::test]
async fn redirects_to_https_are_explained_with_their_exception() {
    let config = "[[listen]]\naddress = \"127.0.0.4:0\"\nhttps_redirect = 8443\n\
                  [[route]]\npath = \"/\"\ntext = \"in\"\n\
                  [[route]]\npath = \"/.well-known/acme-challenge\"\ntext = \"proof\"\n";
    let edge = Edge::start(config).await;
    for path in ["/a?b", "/none", "/.well-known/acme-challenge/x", "/.well-known/x", "/%zz"] {
        let (said, done) = both(&edge, "127.0.0.4:0", path).await;
        assert_eq!(said, done, "{path}");
    }
    assert_eq!(both(&edge, "127.0.0.4:0", "/a?b").await.0.2, "https://localhost:8443/a?b");
    assert_eq!(both(&edge, "127.0.0.1:0", "/a?b").await.0, (200, String::new(), String::new()));
}

#[tokio::test]
async fn what_is_full_or_broken_is_explained_as_it_is_refused() {
    let allowed = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let origin = Origin::holds(
        &allowed,
        |request| request.target == "/held",
        |request| ok("").status(if request.target.starts_with("/broken") { 500 } else { 200 }),
    )
    .await;
    let endpoints = [origin.address().to_string()];
    let config = format!(
        "[upstream.app]\nendpoints = {endpoints:?}\nretry = {{ attempts = 1 }}\nendpoint_requests_max = 1\n\
         queue = false\nbreaker = {{ failures = 2, window = \"60s\", share = \"1%\", open = \"60s\" }}\n\
         [[route]]\nname = \"one\"\npath = \"/\"\nupstream = \"app\"\nrequests_max = 1\n\
         [[route]]\nname = \"more\"\npath = \"/more\"\nupstream = \"app\"\n\
         [[route]]\nname = \"broken\"\npath = \"/broken\"\nupstream = \"app\"\n"
    );
    let edge = Edge::start(config).await;
    let agree = async |path: &str, reason: &str| {
        let (said, done) = both(&edge, "127.0.0.1:0", path).await;
        assert_eq!((&said, said.1.as_str()), (&done, reason), "{path}");
    };
    agree("/more", "").await;
    let mut holder = Client::connect(&edge, Via::H1).await;
    let held = holder.send(request("GET", "/held").body(Body::whole("")).unwrap()).await;
    let held = tokio::spawn(held);
    edge.in_flight(origin.address(), 1).await;
    agree("/", "route-full").await;
    agree("/more", "upstream-full").await;
    allowed.add_permits(1);
    held.await.unwrap().unwrap();
    edge.in_flight(origin.address(), 0).await;
    agree("/more", "").await;
    for _ in 0..2 {
        assert_eq!(edge.get("/broken").await.status, 500);
        edge.in_flight(origin.address(), 0).await;
    }
    agree("/more", "breaker-open").await;
}
