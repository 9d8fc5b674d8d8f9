//! The listener for operators and the commands that speak to it.

use std::process::Output;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::*;

const TEXT: &str = "[[route]]\npath = \"/\"\ntext = \"in\"\n";

#[tokio::test]
async fn the_pages_say_how_it_is() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!(edge.get("/%").await.status, 400);
    assert_eq!((edge.admin("/livez").await.status, edge.admin("/readyz").await.status), (200, 200));
    assert_eq!(edge.admin("/nowhere").await.status, 404);
    let status = edge.status().await;
    // The machine may be short of something.
    assert!(["healthy", "degraded"].contains(&status["status"].as_str().unwrap()), "{status}");
    assert_eq!(status["config"]["generation"], 1);
    assert_eq!(status["pid"], edge.pid().as_raw_nonzero().get());
    assert_eq!(status["listeners"].as_array().unwrap().len(), 3);
    assert_eq!(status["upstreams"][0]["endpoints"][0]["requests"], 1);
    let metrics = edge.admin("/metrics").await;
    assert!(metrics.field("content-type").starts_with("text/plain"), "{metrics:?}");
    for name in [
        r#"http_requests_total{protocol="h1",route="/",status="200"} 1"#,
        "# TYPE http_request_duration_seconds histogram",
        "http_request_duration_seconds_bucket",
        r#"tollgate_upstream_requests_total{outcome="answered",upstream="app"} 1"#,
        "tollgate_upstream_in_flight",
        "tollgate_endpoint_up",
        "tollgate_connections",
        "tollgate_config_generation 1",
        "tollgate_certificate_expiry_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(metrics.text().contains(name), "{name} is not in\n{}", metrics.text());
    }
}

#[tokio::test]
async fn what_a_reload_removed_leaves_the_metrics() {
    let origin = Origin::replies(ok("")).await;
    let route = "[[route]]\npath = \"/\"\nname = \"removed\"\nupstream = \"app\"\n";
    let edge = Edge::start(upstream(&[origin.address()], "") + route).await;
    assert_eq!(edge.get("/").await.status, 200);
    let metrics = edge.admin("/metrics").await;
    assert!(metrics.text().contains("route=\"removed\"") && metrics.text().contains("upstream=\"app\""));
    edge.write_config(&Edge::standard(TEXT));
    edge.reload().await;
    assert_eq!(edge.get("/").await.text(), "in");
    until("the series are gone", async || {
        let metrics = edge.admin("/metrics").await;
        let left = metrics.text().contains("route=\"removed\"") || metrics.text().contains("upstream=\"app\"");
        (!left).then_some(())
    })
    .await;
}

#[tokio::test]
async fn strangers_and_other_names_are_turned_away() {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\nallow = [\"127.0.0.1/32\"]\n\
                 control = { token = \"0123456789abcdef\" }\n";
    let config = format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{admin}{TEXT}");
    let edge = Edge::verbatim(&config).await;
    let ask = async |method: &str, path: &str, fields: &[(&str, &str)]| {
        let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
        let head = fields.iter().fold(request(method, path), |head, (name, value)| head.header(*name, *value));
        Client::over(Via::H1, stream).await.unwrap().ask(head, "").await.status
    };
    let token = ("authorization", "Bearer 0123456789abcdef");
    assert_eq!(ask("GET", "/status", &[]).await, 200);
    assert_eq!(ask("GET", "/status", &[("host", "evil.example")]).await, 421);
    assert_eq!(ask("POST", "/reload", &[]).await, 403);
    assert_eq!(ask("POST", "/reload", &[("authorization", "Bearer 0123456789abcdeX")]).await, 403);
    assert_eq!(ask("POST", "/reload", &[token, ("origin", "http://evil.example")]).await, 403);
    assert_eq!(ask("GET", "/reload", &[token]).await, 405);
    assert_eq!(ask("POST", "/reload", &[token]).await, 200);

    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let stream = elsewhere.connect(edge.admin_address()).await.unwrap();
    let answer = Client::over(Via::H1, stream).await.unwrap().ask(request("GET", "/status"), "").await;
    assert_eq!(answer.status, 403);
}

/// `tollgate` with these arguments in an empty folder.
async fn tollgate(arguments: &[&str], config: Option<&str>) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
    }
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).current_dir(folder.path()).env_remove("TOLLGATE_CONFIG");
    said(&within("the command", command.output()).await.unwrap())
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn check_says_every_mistake_with_its_place() {
    let good = Edge::standard(TEXT);
    for arguments in [&["check"][..], &["-t"], &["check", "config.toml"]] {
        let (code, _, stderr) = tollgate(arguments, Some(&good)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    }
    let bad = "[[listen]]\naddress = \"nowhere\"\n[client]\nidle_timeout = \"15\"\nbody_mx = \"1MiB\"\n\
               [[route]]\npath = \"/\"\nupstream = \"ap\"\n[upstream.app]\nendpoints = [\"a:1\"]\n";
    let (code, stdout, stderr) = tollgate(&["check"], Some(bad)).await;
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    for part in [
        "config.toml:2:11",
        "nowhere",
        "config.toml:4:16",
        "15s",
        "config.toml:5:1",
        "body_max",
        "config.toml:8:12",
        "`app`",
    ] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
    let (code, _, stderr) = tollgate(&["check"], Some("[[listen]\n")).await;
    assert_eq!(code, Some(78));
    assert!(stderr.contains("config.toml:1:"), "{stderr}");
    let (code, stdout, _) = tollgate(&["check", "--json"], Some(bad)).await;
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["ok"]), (Some(78), &false.into()));
    assert!(report["diagnostics"].as_array().unwrap().len() >= 4, "{report}");
}

/// What `check` refuses, `run` refuses with the same exit status; and `check` leaves nothing behind.
#[tokio::test]
async fn check_looks_at_files_as_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    };
    pair("one");
    pair("two");
    std::fs::write(folder.path().join("no.pem"), "text").unwrap();
    let certificate = |host: &str, certificate: &str, key: &str| {
        format!("[[certificate]]\nhosts = [\"{host}\"]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
    };
    let upstream = "[upstream.app]\nendpoints = [\"127.0.0.1:1\"]\ntls = { ca = \"no.pem\" }\n\
                    [[route]]\npath = \"/app\"\nupstream = \"app\"\n";
    for (config, expected) in [
        (certificate("a.example", "one.pem", "two.key"), "one.pem: does not belong to the key in"),
        (certificate("b.example", "one.pem", "one.key"), "does not cover b.example"),
        (certificate("a.example", "no.pem", "one.key"), "no `BEGIN CERTIFICATE`"),
        (upstream.to_owned(), "upstream app:"),
        ("[log]\naccess = { path = \"none/access.log\" }\n".into(), "none/access.log: its folder"),
        ("[log]\naccess = { path = \".\" }\n".into(), "is a directory"),
        ("[admin]\naddress = \"127.0.0.1:0\"\ncontrol = { socket = \"none/s\" }\n".into(), "none/s: its folder"),
        ("[admin]\naddress = \"127.0.0.1:0\"\ncontrol = { socket = \"no.pem\" }\n".into(), "is no socket"),
    ] {
        let config = format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{TEXT}{config}");
        std::fs::write(folder.path().join("config.toml"), &config).unwrap();
        for command in ["check", "run"] {
            let mut tollgate = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
            tollgate.arg(command).current_dir(folder.path()).env_remove("TOLLGATE_CONFIG").kill_on_drop(true);
            let (code, _, stderr) = said(&within(command, tollgate.output()).await.unwrap());
            assert_eq!(code, Some(78), "{command} of\n{config}\n{stderr}");
            assert!(stderr.starts_with("error: "), "{command}: {stderr}");
            assert!(command == "run" || stderr.contains(expected), "{expected}: {stderr}");
        }
    }
    let (code, _, stderr) = tollgate(
        &["check"],
        Some(&(TEXT.to_owned() + "[[listen]]\naddress = \"127.0.0.1:0\"\n[log]\naccess = { path = \"new.log\" }\n")),
    )
    .await;
    assert_eq!(code, Some(0), "{stderr}");
}

#[tokio::test]
async fn check_shows_what_is_in_effect() {
    let (code, stdout, stderr) = tollgate(&["check", "--effective"], Some(&Edge::standard(TEXT))).await;
    assert_eq!(code, Some(0), "{stderr}");
    for part in ["header_timeout", "12s", "drain_timeout", "30s", "access.log"] {
        assert!(stdout.contains(part), "{part} is not in\n{stdout}");
    }
}

#[tokio::test]
async fn without_a_file_it_says_what_is_missing() {
    for arguments in [&["check"][..], &["run"], &[]] {
        let (code, stdout, stderr) = tollgate(arguments, None).await;
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{arguments:?}: {stderr}");
        for part in ["config.toml", "--config", "[[listen]]"] {
            assert!(stderr.contains(part), "{part} is not in\n{stderr}");
        }
    }
    let (code, _, stderr) = tollgate(&["check", "-c", "other.toml"], None).await;
    assert_eq!(code, Some(78));
    assert!(stderr.contains("other.toml"), "{stderr}");
}

#[tokio::test]
async fn small_commands_answer() {
    let (code, stdout, _) = tollgate(&["version"], None).await;
    assert_eq!((code, stdout.trim()), (Some(0), concat!("tollgate ", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = tollgate(&["--version"], None).await;
    assert_eq!((code, stdout.trim()), (Some(0), concat!("tollgate ", env!("CARGO_PKG_VERSION"))));
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = tollgate(&["completion", shell], None).await;
        assert_eq!(code, Some(0));
        assert!(stdout.contains("healthcheck"), "{shell}: {stdout}");
    }
    let (code, stdout, _) = tollgate(&["--help"], None).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("reload"), "{stdout}");
    assert_eq!(tollgate(&["sing"], None).await.0, Some(2));
}

#[tokio::test]
async fn the_health_check_of_a_container_tells_by_its_exit_status() {
    let config = "[server]\ndrain_delay = \"2s\"\n".to_owned() + TEXT;
    let mut edge = Edge::start(&config).await;
    assert_eq!(edge.cli(&["healthcheck"]).await.status.code(), Some(0));
    assert_eq!(edge.cli(&["healthcheck", "--ready"]).await.status.code(), Some(0));
    edge.signal(rustix::process::Signal::TERM);
    until("draining", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(edge.cli(&["healthcheck"]).await.status.code(), Some(0));
    assert_eq!(edge.cli(&["healthcheck", "--ready"]).await.status.code(), Some(1));
    edge.exit().await;
    assert_eq!(edge.cli(&["healthcheck"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn status_and_upstreams_are_shown() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let (code, stdout, stderr) = said(&edge.cli(&["status"]).await);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(&origin.address().to_string()), "{stdout}");
    assert!(stdout.contains("IN FLIGHT  PER S  LATENCY  REQUESTS"), "{stdout}");
    assert_eq!(edge.get("/passed").await.status, 200);
    until("the route in the table", async || {
        let (_, stdout, _) = said(&edge.cli(&["status"]).await);
        let mut lines = stdout.lines().skip_while(|line| !line.starts_with("ROUTE "));
        let row: Vec<_> = lines.nth(1)?.split_whitespace().collect();
        (row.first() == Some(&"/") && row.get(1) == Some(&"1")).then_some(())
    })
    .await;
    assert!(stdout.contains("DAYS LEFT") && stdout.contains("localhost"), "{stdout}");
    let (_, stdout, _) = said(&edge.cli(&["status", "--json"]).await);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["config"]["generation"], 1);
    let (_, stdout, _) = said(&edge.cli(&["upstreams"]).await);
    assert!(stdout.contains("app") && stdout.contains(&origin.address().to_string()), "{stdout}");
    let (_, stdout, _) = said(&edge.cli(&["reload"]).await);
    assert!(stdout.contains("nothing has changed"), "{stdout}");
    edge.write_config(&Edge::standard(TEXT));
    let (_, stdout, _) = said(&edge.cli(&["reload"]).await);
    assert!(stdout.contains("in force"), "{stdout}");
}

/// Of many, those that stand out; and no name drives or deceives the terminal.
#[tokio::test]
async fn status_of_ten_thousand_routes_shows_those_that_stand_out() {
    let route = |n: u32| format!("[[route]]\npath_exact = \"/r{n}\"\nname = \"r{n}\"\ntext = \"\"\n");
    let hostile = "[[route]]\npath = \"/\"\nname = \"a\\u202Eb\"\ntext = \"\"\n";
    let config = std::iter::once(hostile.to_owned()).chain((0..10_000).map(route)).collect::<String>();
    let edge = Edge::start(&config).await;
    for path in ["/r7", "/r4711", "/r4711", "/x"] {
        assert_eq!(edge.get(path).await.status, 200);
    }
    until("the routes that were asked, first", async || {
        let (code, stdout, stderr) = said(&edge.cli(&["status"]).await);
        assert_eq!(code, Some(0), "{stderr}");
        let mut lines = stdout.lines().skip_while(|line| !line.starts_with("ROUTE ")).skip(1);
        let asked = lines.by_ref().take(3).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        if asked.collect::<Vec<_>>() != ["r4711 2", "a\\u{202e}b 1", "r7 1"] {
            return None;
        }
        let others = lines.find(|line| line.contains("requests since the start")).unwrap();
        assert!(others.starts_with("60 of 1000") && others.contains("the busiest"), "{others}");
        Some(())
    })
    .await;
}

/// Whoever watches wants to see it come back.
#[tokio::test]
async fn a_watch_outlasts_the_process_that_it_looks_at() {
    use tokio::io::AsyncBufReadExt as _;

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n";
    let config = Edge::standard(TEXT).replace(admin, &format!("{admin}control = {{ socket = {socket:?} }}\n"));
    let mut edge = Edge::verbatim(&config).await;
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["status", "--watch", "1", "--socket"])
        .arg(&socket)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut shows = async |part: String| {
        let looked = async { while !lines.next_line().await.unwrap().expect("it goes on").contains(&part) {} };
        within(&part, looked).await;
    };
    shows(format!("pid {}", edge.pid().as_raw_nonzero())).await;
    edge.signal(rustix::process::Signal::TERM);
    edge.exit().await;
    shows("nothing answers".to_owned()).await;
    let again = Edge::verbatim(&config).await;
    shows(format!("pid {}", again.pid().as_raw_nonzero())).await;
}
