//! A changed file is taken over while requests go on, whole or not at all.

use std::net::Ipv4Addr;
use std::sync::Arc;

use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::harness::*;

fn text(said: &str) -> String {
    Edge::standard(format!("[[route]]\npath = \"/\"\ntext = \"{said}\"\n"))
}

async fn says(edge: &Edge, said: &str) {
    until(said, async || (edge.get("/").await.text() == said).then_some(())).await;
}

#[tokio::test]
async fn a_saved_file_is_taken_over_however_it_was_saved() {
    let edge = Edge::verbatim(&text("one")).await;
    says(&edge, "one").await;
    edge.write_config(&text("renamed over"));
    says(&edge, "renamed over").await;
    std::fs::write(edge.config_path(), text("written into")).unwrap();
    says(&edge, "written into").await;
}

#[tokio::test]
async fn a_swapped_link_is_taken_over() {
    // As Kubernetes mounts a ConfigMap: the file is a link into a folder that is a link itself.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["one", "two"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("config.toml"), text(version)).unwrap();
    }
    std::os::unix::fs::symlink("one", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.toml", at("config.toml")).unwrap();
    let (new, data) = (at("..data_new"), at("..data"));
    let edge = Edge::in_folder(folder).await;
    says(&edge, "one").await;
    std::os::unix::fs::symlink("two", &new).unwrap();
    std::fs::rename(new, data).unwrap();
    says(&edge, "two").await;
}

#[tokio::test]
async fn an_included_file_is_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let part = folder.path().join("conf.d/part.toml");
    std::fs::write(&part, "[[route]]\npath = \"/\"\ntext = \"one\"\n").unwrap();
    let file = format!("include = [\"conf.d/*.toml\"]\n{}", Edge::standard(""));
    std::fs::write(folder.path().join("config.toml"), file).unwrap();
    let edge = Edge::in_folder(folder).await;
    says(&edge, "one").await;
    std::fs::write(&part, "[[route]]\npath = \"/\"\ntext = \"two\"\n").unwrap();
    says(&edge, "two").await;
    std::fs::write(part.with_file_name("new.toml"), "[[route]]\npath_exact = \"/\"\ntext = \"new\"\n").unwrap();
    says(&edge, "new").await;
}

#[tokio::test]
async fn without_a_watch_a_signal_or_the_command_is_needed() {
    let by_signal = |said: &str| format!("[server]\nreload = \"signal\"\n{}", text(said));
    let edge = Edge::verbatim(&by_signal("one")).await;
    edge.write_config(&by_signal("two"));
    assert_eq!(edge.status().await["config"]["generation"], 1);
    edge.signal(Signal::HUP);
    says(&edge, "two").await;
    edge.write_config(&by_signal("three"));
    edge.reload().await;
    assert_eq!(edge.get("/").await.text(), "three");
    assert_eq!(edge.status().await["config"]["generation"], 3);
}

#[tokio::test]
async fn a_bad_file_is_refused_and_the_old_one_goes_on() {
    let edge = Edge::verbatim(&format!("[server]\nreload = \"signal\"\n{}", text("good"))).await;
    edge.write_config("[[listen]]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntxt = \"typo\"\n");
    let output = edge.cli(&["reload"]).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["config.toml:5:1", "txt", "text"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert_eq!(edge.get("/").await.text(), "good");
    let status = edge.status().await;
    assert_eq!(status["config"]["generation"], 1);
    assert!(status["config"]["last_error"].as_str().unwrap().contains("txt"), "{status}");
    let metrics = edge.admin("/metrics").await;
    assert!(metrics.text().contains("tollgate_config_last_reload_successful 0"), "{}", metrics.text());
    edge.write_config(&format!("[server]\nreload = \"signal\"\n{}", text("better")));
    edge.reload().await;
    assert_eq!(edge.get("/").await.text(), "better");
    assert!(edge.status().await["config"]["last_error"].is_null());
}

#[tokio::test]
async fn a_listener_that_cannot_be_bound_refuses_the_whole_file() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let edge = Edge::verbatim(&text("old")).await;
    edge.write_config(&format!("{}[[listen]]\naddress = \"{address}\"\n", text("new")));
    let output = edge.cli(&["reload"]).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address.to_string()), "{output:?}");
    assert_eq!(edge.get("/").await.text(), "old");
}

/// Reloads by the control socket, without the command.
pub async fn reload(edge: &Edge) -> (u16, Value) {
    let stream = UnixStream::connect(edge.folder().join("tollgate.sock")).await.unwrap();
    let mut client = Client::over(Via::H1, stream).await.unwrap();
    let answer = client.ask(request(Method::POST.as_str(), "/reload"), "").await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_cost_no_request_and_no_connection() {
    let (one, two) = (Origin::replies(ok("one")).await, Origin::replies(ok("two")).await);
    let version = |n: usize| {
        let endpoints = [one.address(), two.address()];
        // Endpoints come and go, routes and limits change.
        let endpoints = if n.is_multiple_of(3) { &endpoints[..1] } else { &endpoints[..] };
        let extra = if n.is_multiple_of(2) { "[[route]]\npath = \"/extra\"\ntext = \"x\"\n" } else { "" };
        let server = "[server]\nreload = \"signal\"\n";
        let client = format!("[client]\nidle_timeout = \"{}s\"\n", 10 + n % 5);
        Edge::standard(format!("{server}{client}{}{ROUTE}{extra}", upstream(endpoints, "")))
    };
    let edge = Edge::verbatim(&version(0)).await;
    let load = Load::start(edge.address(), 6, Connecting::Once);
    load.answers(50).await;
    let mut over_h2 = Client::connect(&edge, Via::TlsH2).await;
    let mut refused = 0;
    for n in 1..=100 {
        let bad = n % 10 < 3;
        edge.write_config(&if bad {
            version(n).replacen("upstream = \"app\"", "upstream = \"ap\"", 1)
        } else {
            version(n)
        });
        let (status, outcome) = reload(&edge).await;
        assert_eq!(status, if bad { 422 } else { 200 }, "{outcome}");
        refused += usize::from(bad);
        load.answers(3).await;
        // Always the same connection.
        assert_eq!(over_h2.get("/").await.status, 200);
    }
    assert_eq!(refused, 30);
    load.succeeded().await;
}

#[tokio::test]
async fn a_request_sees_one_version_from_start_to_end() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::answers_once(&allowed, |_| ok("late")).await;
    let version = |n: &str| {
        let route =
            format!("{}{ROUTE}response = {{ set = {{ X-Version = \"{n}\" }} }}\n", upstream(&[origin.address()], ""));
        Edge::standard(format!("[server]\nreload = \"signal\"\n{route}"))
    };
    let edge = Edge::verbatim(&version("1")).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    let response = client.send(request("GET", "/").body(Body::whole("")).unwrap()).await;
    let response = tokio::spawn(response);
    origin.has(1).await;
    edge.write_config(&version("2"));
    edge.reload().await;
    allowed.add_permits(2);
    let before = within("the answer", response).await.unwrap().unwrap();
    let before = Answer::read(before).await.unwrap();
    let after = client.get("/").await;
    assert_eq!((before.field("x-version"), after.field("x-version")), ("1", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go_and_reset_no_one() {
    let listen = |address: &str| format!("[[listen]]\naddress = \"{address}\"\n");
    let rest =
        "[server]\nreload = \"signal\"\n[admin]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntext = \"in\"\n";
    let stays = listen("127.0.0.1:0");
    let edge = Edge::verbatim(&format!("{stays}{rest}")).await;
    let steady = Load::start(edge.address(), 2, Connecting::Once);
    for n in 0..4 {
        let configured = format!("127.0.0.{}:0", 10 + n % 2);
        edge.write_config(&format!("{stays}{}{rest}", listen(&configured)));
        edge.reload().await;
        let status = edge.status().await;
        let listeners = status["listeners"].as_array().unwrap();
        let added = listeners.iter().find(|listener| listener["configured"] == configured).unwrap();
        let added = added["bound"].as_str().unwrap().parse().unwrap();
        let crowd = Load::start(added, 8, Connecting::EachTime);
        crowd.answers(20).await;
        edge.write_config(&format!("{stays}{rest}"));
        edge.reload().await;
        until("the port to be closed", async || TcpStream::connect(added).await.is_err().then_some(())).await;
        crowd.succeeded().await;
    }
    steady.succeeded().await;
}

#[tokio::test]
async fn a_second_instance_is_told_that_the_address_is_in_use() {
    let edge = Edge::verbatim(&text("first")).await;
    let address = edge.address();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), text("second").replacen("127.0.0.1:0", &address.to_string(), 1))
        .unwrap();
    let Err(failed) = Edge::try_start(folder, "").await else { panic!("both listen on {address}") };
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let said = failed.stderr.to_lowercase();
    assert!(said.contains("address") && said.contains("in use") && said.contains(&address.to_string()), "{said}");
}

/// A log that hides all but errors, as some would have it in production.
const QUIET: &str = "level = \"error\"\naccess = { format = \"json\", path = \"access.log\" }\n";

fn quiet(said: &str) -> String {
    let config = format!("[server]\nreload = \"signal\"\n{}", text(said));
    let (head, _) = config.split_once("level =").unwrap();
    format!("{head}{QUIET}")
}

#[tokio::test]
async fn the_results_of_reloads_are_said_at_every_level() {
    let mut edge = Edge::verbatim(&quiet("one")).await;
    edge.write_config(&quiet("two"));
    edge.reload().await;
    edge.write_config(&quiet("three").replacen("text = ", "txt = ", 1));
    let output = edge.cli(&["reload"]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    edge.signal(Signal::TERM);
    edge.exit().await;
    let logged = edge.stderr();
    for part in ["configuration 2 is in force (Command)", "route /: text changed", "is refused", "draining", "stopped;"]
    {
        assert!(logged.contains(part), "{part} is not in {logged}");
    }
    // As `check` says it: the line, the mistake underlined, what was meant.
    for said in [told, logged] {
        for part in ["config.toml:5:1", "5 | txt = \"three\"", "| ^^^", "help: "] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
}

#[tokio::test]
async fn a_refused_file_does_not_move_the_access_log() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_signal = |more: &str| format!("[server]\nreload = \"signal\"\n{}{more}", text("in"));
    let edge = Edge::verbatim(&by_signal("")).await;
    let moved = by_signal(&format!("[[listen]]\naddress = \"{}\"\n", taken.local_addr().unwrap()));
    edge.write_config(&moved.replacen("access.log", "other.log", 1));
    assert_eq!(reload(&edge).await.0, 422);
    edge.get("/first").await;
    assert_eq!(edge.logged("/first").await["status"], 200);
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let workers = |count: usize| format!("[server]\nreload = \"signal\"\nworkers = {count}\n{}", text("in"));
    let edge = Edge::verbatim(&workers(1)).await;
    edge.write_config(&workers(2));
    // The second time the file is the one in force.
    for _ in 0..2 {
        let output = edge.cli(&["reload"]).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("workers 1 → 2: needs a restart"), "{told}");
    }
}

/// The mistake stands in a file that only the refused version names.
#[tokio::test]
async fn correcting_a_newly_included_file_is_noticed() {
    let edge = Edge::verbatim(&text("one")).await;
    let part = edge.folder().join("part.toml");
    std::fs::write(&part, "[[route]]\npath = \"/x\"\ntxt = \"x\"\n").unwrap();
    edge.write_config(&("include = [\"part.toml\"]\n".to_owned() + &text("two")));
    until("the refusal", async || edge.stderr().contains("is refused").then_some(())).await;
    std::fs::write(&part, "[[route]]\npath = \"/x\"\ntext = \"x\"\n").unwrap();
    says(&edge, "two").await;
}

/// The first reload waits for a name; the second file is written while it does, right before its end.
#[tokio::test]
async fn a_file_that_is_saved_during_a_reload_is_taken_over() {
    let edge = Edge::verbatim(&text("one")).await;
    let dns = NameServer::says(Said::Nothing).await;
    let slow = "[upstream.slow]\nendpoints = [\"name.example:80\"]\n";
    let with_upstream = |said: &str| format!("{}{slow}{}", dns.config(), text(said));
    let asked = dns.asked(1);
    edge.write_config(&with_upstream("two"));
    asked.await;
    edge.write_config(&with_upstream("three"));
    dns.say(Said::Addresses(vec![Ipv4Addr::LOCALHOST]));
    says(&edge, "three").await;
}
