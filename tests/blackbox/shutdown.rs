//! How the edge ends: what is open is finished, what waits is answered, and nothing takes for ever.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::cache::caching_in;
use crate::harness::*;

/// An origin that holds its answers, and how it is let go.
async fn held() -> (Origin, Arc<Semaphore>) {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::holds(&allowed, |request| request.target == "/held", |_| ok("done")).await;
    (origin, allowed)
}

#[tokio::test]
async fn what_is_open_is_finished_and_what_idles_is_closed() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let (origin, allowed) = held().await;
        let mut edge = Edge::before(&origin).await;
        let (mut busy, mut idle) = (Vec::new(), Vec::new());
        for via in Via::ALL {
            let mut client = Client::connect(&edge, via).await;
            assert_eq!(client.get("/").await.status, 200);
            let response = client.send(request("GET", "/held").body(Body::whole("")).unwrap()).await;
            busy.push((client, tokio::spawn(response)));
            let mut client = Client::connect(&edge, via).await;
            assert_eq!(client.get("/").await.status, 200);
            idle.push(client);
        }
        origin.has(12).await;
        edge.signal(signal);
        for client in idle {
            client.closed().await;
        }
        until("the port to be closed", async || TcpStream::connect(edge.address()).await.is_err().then_some(())).await;
        allowed.add_permits(4);
        for (client, response) in busy {
            let response = within("the answer", response).await.unwrap().unwrap();
            assert_eq!(Answer::read(response).await.unwrap().text(), "done");
            client.closed().await;
        }
        assert_eq!(edge.exit().await.code(), Some(0));
        assert_eq!(edge.logged("/held").await["status"], 200);
    }
}

#[tokio::test]
async fn an_answer_of_http_1_while_draining_says_that_it_is_the_last() {
    let (origin, allowed) = held().await;
    let mut edge = Edge::before(&origin).await;
    let mut client = edge.raw().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    origin.has(1).await;
    edge.signal(Signal::TERM);
    until("the port to be closed", async || TcpStream::connect(edge.address()).await.is_err().then_some(())).await;
    allowed.add_permits(1);
    let response = within("the answer", client.response("GET")).await.unwrap();
    assert_eq!((response.text().as_str(), response.fields.get("connection")), ("done", "close"));
    assert_eq!(edge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn load_balancers_are_told_before_the_door_is_shut() {
    // So long that a busy machine asks three times in it.
    let config = "[server]\ndrain_delay = \"3s\"\n[[route]]\npath = \"/\"\ntext = \"in\"\n";
    let mut edge = Edge::start(config).await;
    assert_eq!(edge.admin("/readyz").await.status, 200);
    edge.signal(Signal::TERM);
    until("readyz to say no", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(edge.admin("/livez").await.status, 200);
    assert_eq!(edge.get("/").await.text(), "in");
    assert_eq!(edge.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_every_level_says_so() {
    let (origin, _allowed) = held().await;
    let config = Edge::standard(upstream(&[origin.address()], "") + ROUTE);
    let mut edge = Edge::verbatim(&config.replace("level = \"info\"", "level = \"error\"")).await;
    let mut client = edge.raw().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    origin.has(1).await;
    edge.signal(Signal::TERM);
    until("the port to be closed", async || TcpStream::connect(edge.address()).await.is_err().then_some(())).await;
    edge.signal(Signal::TERM);
    edge.exit().await;
    assert_eq!(within("the cut", client.rest()).await, b"");
    assert!(edge.stderr().contains("open connections were cut"), "{}", edge.stderr());
}

/// A thread that has something large to code does not see that the process ends, and nobody waits for it.
#[tokio::test]
async fn what_is_cut_is_logged_while_something_is_coded_aside() {
    let large: String = (0..48_000_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(n) >> 11) as u8 % 26)).collect();
    let page = ok(large).field("content-type", "text/plain").field("cache-control", "max-age=60");
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::holds(&allowed, |request| request.target == "/held", move |_| page.clone()).await;
    // More than the two seconds that are given to the log.
    let section = "memory = \"512MiB\"\nobject_max = \"64MiB\"\n[compress]\nlevel = { br = 6 }";
    let mut edge = caching_in(section, &origin, "").await;
    assert_eq!(edge.get("/large").await.status, 200);
    let mut client = edge.raw().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    origin.has(2).await;
    let mut reader = edge.raw().await;
    reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n").await.unwrap();
    let head = within("a head", reader.response_head()).await.unwrap();
    assert!(head.fields.get("cache-status").contains("hit"), "{head:?}");
    edge.signal(Signal::TERM);
    until("the port to be closed", async || TcpStream::connect(edge.address()).await.is_err().then_some(())).await;
    edge.signal(Signal::TERM);
    edge.exit().await;
    for path in ["/held", "/large"] {
        let line = edge.log(|line| line["path"] == path && line["reason"] == "drain-timeout").await;
        assert_eq!(line["protocol"], "HTTP/1.1", "{line}");
    }
}

#[tokio::test]
async fn a_tunnel_is_cut_when_time_is_up() {
    let origin = Origin::serves(|mut connection| async move {
        connection.request().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        connection.wire.send(switch).await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let config = "[server]\ndrain_timeout = \"300ms\"\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE;
    let mut edge = Edge::start(config).await;
    let mut client = edge.raw().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert_eq!(within("101", client.response("GET")).await.unwrap().status, 101);
    edge.signal(Signal::TERM);
    within("the cut", client.rest()).await;
    edge.exit().await;
    let line = edge.logged("/").await;
    assert_eq!((&line["status"], &line["reason"]), (&101.into(), &"drain-timeout".into()), "{line}");
}

/// It was not the client that left.
#[tokio::test]
async fn what_is_cut_when_time_is_up_is_logged_as_that() {
    let (origin, _allowed) = held().await;
    let begun = Origin::serves(|mut connection| async move {
        connection.request().await;
        connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na part").await.unwrap();
        connection.wire.rest().await;
    })
    .await;
    let other = upstream(&[begun.address()], "").replace("app", "begun");
    let route = "[[route]]\npath = \"/begun\"\nupstream = \"begun\"\n";
    let limit = "[server]\ndrain_timeout = \"300ms\"\n".to_owned();
    let mut edge = Edge::start(limit + &upstream(&[origin.address()], "") + &other + route + ROUTE).await;
    let mut held = Vec::new();
    for via in [Via::H1, Via::H2] {
        let mut client = Client::connect(&edge, via).await;
        let response = client.send(request("GET", "/held").body(Body::whole("")).unwrap()).await;
        held.push((client, tokio::spawn(response)));
    }
    origin.has(2).await;
    let mut client = edge.raw().await;
    client.send("GET /begun HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(within("a head", client.response_head()).await.unwrap().status, 200);
    edge.signal(Signal::TERM);
    edge.exit().await;
    for (path, protocol, status) in
        [("/held", "HTTP/1.1", 503), ("/held", "HTTP/2.0", 503), ("/begun", "HTTP/1.1", 200)]
    {
        let line = edge.log(|line| line["path"] == path && line["protocol"] == protocol).await;
        assert_eq!((&line["status"], &line["reason"]), (&status.into(), &"drain-timeout".into()), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_arrive_at_the_end_are_answered_or_refused() {
    for _ in 0..5 {
        let mut edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
        let crowd = Load::start(edge.address(), 16, Connecting::EachTime);
        crowd.answers(50).await;
        edge.signal(Signal::TERM);
        assert_eq!(edge.exit().await.code(), Some(0));
        crowd.succeeded().await;
    }
}

#[tokio::test]
async fn the_command_stops_it_too() {
    let mut edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    let output = edge.cli(&["stop"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(edge.exit().await.code(), Some(0));
}

/// A file that waits for a name.
fn waiting(dns: &NameServer) -> String {
    let slow = "[upstream.slow]\nendpoints = [\"name.example:80\"]\n";
    Edge::standard(format!("{}{slow}[[route]]\npath = \"/\"\ntext = \"in\"\n", dns.config()))
}

#[tokio::test]
async fn a_reload_does_not_hold_up_the_end() {
    let dns = NameServer::says(Said::Nothing).await;
    let mut edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    let asked = dns.asked(1);
    edge.write_config(&waiting(&dns));
    asked.await;
    edge.signal(Signal::TERM);
    assert_eq!(edge.exit().await.code(), Some(0));
    let said = edge.stderr();
    assert!(!said.contains("in force") && said.contains("stopped; every request was answered"), "{said}");
}

#[tokio::test]
async fn a_start_does_not_hold_up_the_end() {
    let dns = NameServer::says(Said::Nothing).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), waiting(&dns)).unwrap();
    let note = folder.path().join("pid");
    let asked = dns.asked(1);
    let before = format!("echo $$ > {};", note.display());
    let starting = tokio::spawn(async move { Edge::try_start(folder, &before).await.err() });
    asked.await;
    let pid = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = starting.await.unwrap().expect("it does not come up any more");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("serves"), "{ended:?}");
}

#[tokio::test]
async fn a_signal_that_means_nothing_here_is_survived() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    edge.signal(Signal::USR2);
    until("a word of it", async || edge.stderr().contains("SIGUSR2").then_some(())).await;
    assert_eq!(edge.get("/").await.text(), "in");
}

/// Connections that have not said what they speak, and one that has and says no more.
#[tokio::test]
async fn silent_connections_do_not_hold_up_the_end() {
    let origin = Origin::replies(ok("")).await;
    let patient =
        "[client]\nhandshake_timeout = \"60s\"\nheader_timeout = \"60s\"\n[server]\ndrain_timeout = \"60s\"\n";
    let mut edge = Edge::start(patient.to_owned() + &upstream(&[origin.address()], "") + ROUTE).await;
    let _before_tls = TcpStream::connect(edge.tls_address()).await.unwrap();
    let _before_preface = edge.raw().await;
    let _after_handshake = tls(&edge, "localhost", &[b"h2"]).await;
    let _after_handshake_of_h1 = tls(&edge, "localhost", &[b"http/1.1"]).await;
    edge.signal(Signal::TERM);
    assert_eq!(within("the end", edge.exit()).await.code(), Some(0));
}
