//! `tollgate tail`: the access log as it comes, for those who may control.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::*;

const CONFIG: &str = "[[route]]\nname = \"all\"\npath = \"/\"\ntext = \"in\"\n\
                      [[route]]\nname = \"unseen\"\npath = \"/unseen\"\ntext = \"\"\naccess_log = false\n";

/// A command that follows, and its lines.
struct Tail {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    /// Follows, and waits until it does: then requests to `/begun` show up.
    async fn start(edge: &Edge, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("tail").args(arguments).arg("-c").arg(edge.config_path());
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut tail = Self { process, lines };
        let mut first = None;
        until("the first line", async || {
            edge.get("/begun").await;
            let line = tokio::time::timeout(std::time::Duration::from_millis(50), tail.lines.next_line()).await.ok()?;
            first = line.unwrap();
            first.as_ref().map(drop)
        })
        .await;
        tail
    }

    /// The next line that is not of the beginning.
    async fn next(&mut self) -> String {
        loop {
            let line = within("a line", self.lines.next_line()).await.unwrap().expect("it has ended");
            if !line.contains("/begun") {
                return line;
            }
        }
    }

    /// How it ended, and what it said of that.
    async fn end(mut self) -> (Option<i32>, String) {
        let code = within("the end", self.process.wait()).await.unwrap().code();
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        (code, said)
    }
}

#[tokio::test]
async fn requests_are_seen_as_they_end_whatever_the_log_is() {
    for log in
        ["format = \"json\", path = \"access.log\"", "format = \"combined\", path = \"stdout\"", "path = \"off\""]
    {
        let text = Edge::standard(CONFIG).replace("format = \"json\", path = \"access.log\"", log);
        let edge = Edge::verbatim(&text).await;
        let mut tail = Tail::start(&edge, &["--json"]).await;
        edge.get("/unseen").await;
        edge.get("/seen?q=1").await;
        let line: Value = serde_json::from_str(&tail.next().await).unwrap();
        assert_eq!((&line["path"], &line["query"]), (&"/seen".into(), &"q=1".into()), "{log}");
        assert_eq!((&line["status"], &line["route"]), (&200.into(), &"all".into()), "{log}");
        edge.get("/%").await;
        assert_eq!(serde_json::from_str::<Value>(&tail.next().await).unwrap()["reason"], "path-bad-percent");
    }
}

#[tokio::test]
async fn filters_are_for_who_gave_them() {
    let edge = Edge::start(CONFIG).await;
    let mut refused =
        Tail::start(&edge, &["--status", "4xx", "--status", "200", "--path-regex", "^/(begun|b|%)"]).await;
    let mut all = Tail::start(&edge, &["-f"]).await;
    // One after the other: lines of two workers come in any order.
    edge.get("/a").await;
    assert!(all.next().await.contains("localhost/a"), "it is for all");
    edge.get("/b").await;
    let line = refused.next().await;
    assert!(line.contains(" 200 ") && line.contains("localhost/b  [route all]"), "{line}");
    edge.get("/%").await;
    let line = refused.next().await;
    assert!(line.contains(" 400 ") && line.contains("[path-bad-percent]") && !line.contains('\x1b'), "{line}");
}

#[tokio::test]
async fn it_ends_with_enough_lines_with_ctrl_c_and_with_the_proxy() {
    let mut edge = Edge::start(CONFIG).await;
    let tail = Tail::start(&edge, &["--lines", "1"]).await;
    assert_eq!(tail.end().await, (Some(0), String::new()));
    let tail = Tail::start(&edge, &[]).await;
    let pid = rustix::process::Pid::from_raw(tail.process.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(tail.end().await, (Some(0), String::new()));
    let tail = Tail::start(&edge, &[]).await;
    edge.signal(rustix::process::Signal::TERM);
    assert_eq!(tail.end().await, (Some(0), "tollgate: the proxy has ended\n".to_owned()));
    assert!(edge.exit().await.success());
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_a_wrong_argument() {
    let edge = Edge::start(CONFIG).await;
    for (arguments, expected) in [
        (["tail", "--status", "6x"], "\"6x\" is not a status; expected a status such as 404, 5xx or 400-499"),
        (["tail", "--client", "me"], "\"me\" is not a network; expected an address or a network"),
        (["tail", "--path-regex", "("], "\"(\" is not a pattern; expected a regular expression"),
        (["tail", "--cache", "hits"], "\"hits\" is not a verdict of the cache; expected hit, stale, validated"),
        (["tail", "--reason", "refused"], "\"refused\" is not a reason code; expected a code such as connect-refused"),
        (["tail", "--lines", "0"], "0 is not in 1.."),
        (["tail", "--endpoint", "app"], "\"app\" is not an endpoint; expected an address such as"),
    ] {
        let output = edge.cli(&arguments).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn readers_do_not_see_who_asks_for_what() {
    let edge = Edge::start(CONFIG).await;
    let stream = tokio::net::TcpStream::connect(edge.admin_address()).await.unwrap();
    let mut reader = Client::over(Via::H1, stream).await.unwrap();
    assert_eq!(reader.ask(request("POST", "/log/follow"), "{}").await.status, 403);
}

/// What a proxy does with a reader that takes nothing.
#[tokio::test]
async fn who_is_let_go_by_a_proxy_that_lives_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let proxy = tokio::net::UnixListener::bind(&socket).unwrap();
    let answers = tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
        ] {
            let (stream, _) = proxy.accept().await.unwrap();
            let mut wire = Wire::new(stream);
            wire.send(answer).await.unwrap();
        }
    });
    let mut tail = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = within("the end", tail.args(["tail", "--socket"]).arg(&socket).output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the proxy let go and answers"), "{said}");
    answers.await.unwrap();
}
