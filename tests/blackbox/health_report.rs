//! The health report (O4): each check that a fault can be brought about for, one by one.
//!
//! Not brought about here, since it would take the machine's memory, disk or processors, or a cache that is slow: those limits are
//! held by the rows of `admin::judge`, and memory against limits of the configuration by `overload`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::*;

const TEXT: &str = "[[route]]\npath = \"/\"\ntext = \"in\"\n";
const STATES: [&str; 3] = ["healthy", "degraded", "unhealthy"];

fn check_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

async fn told(edge: &Edge, name: &str, state: &str) -> Value {
    told_of(edge, name, state, |_| true).await
}

/// The check once it is so. The report is as its worst check, and both say when and how long it took to find out.
async fn told_of(edge: &Edge, name: &str, state: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let what = format!("{name} to be {state}");
    let report = until(&what, async || {
        let report = edge.status().await;
        let check = check_of(&report, name);
        (check["status"] == state && holds(check)).then_some(report)
    })
    .await;
    let states = report["checks"].as_array().unwrap().iter().map(|check| check["status"].as_str().unwrap());
    let worst = states.max_by_key(|state| STATES.iter().position(|known| known == state));
    assert_eq!(report["status"].as_str(), worst, "{report}");
    let at = report["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(jiff::Timestamp::now().duration_since(at).as_secs() < 60, "{report}");
    let check = check_of(&report, name).clone();
    assert!(check["duration_ms"].as_f64() >= Some(0.0), "{check}");
    check
}

/// What it says and measured, with the limits of degraded and unhealthy.
#[track_caller]
fn says(check: &Value, detail: &str, (value, unit): (f64, &str), limits: [Option<f64>; 2]) {
    assert_eq!(check["detail"], detail, "{check}");
    assert_eq!((check["value"].as_f64(), check["unit"].as_str()), (Some(value), Some(unit)), "{check}");
    let found = ["degraded", "unhealthy"].map(|name| check["limit"][name].as_f64());
    assert_eq!(found, limits, "{check}");
}

/// O4: each check with how it is, how long it took, what it found and from where on it is worse.
#[tokio::test]
async fn the_health_report_has_every_check_with_its_limit() {
    let origin = Origin::replies(ok("hello").field("cache-control", "max-age=60")).await;
    let edge =
        Edge::start(upstream(&[origin.address()], "") + "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\n")
            .await;
    edge.get("/").await;
    let status = until("all to be looked at", async || {
        let status = edge.status().await;
        let known = |name: &&str| check_of(&status, name)["value"].is_number();
        ["memory", "disk", "descriptors"].iter().all(known).then_some(status)
    })
    .await;
    for field in ["status", "timestamp", "version"] {
        assert!(status[field].is_string(), "{field}");
    }
    assert!(status["uptime_s"].as_f64() > Some(0.0) && status["response_time_ms"].as_f64() > Some(0.0));
    let checks = status["checks"].as_array().unwrap();
    let names: BTreeSet<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "upstreams",
        "config",
        "cache",
        "listeners",
        "connections",
        "certificates",
        "log",
        "cpu",
        "memory",
        "disk",
        "descriptors",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for check in checks {
        assert!(check["status"].is_string() && check["detail"].is_string() && check["duration_ms"].is_number());
        // How busy the processors are is known after some seconds.
        if check["name"] != "cpu" {
            assert!(check["value"].is_number() && check["unit"].is_string(), "{check}");
            assert!(check["limit"]["degraded"].is_number(), "{check}");
        }
    }
    let limit = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        (check["limit"]["degraded"].as_f64().unwrap(), check["limit"]["unhealthy"].as_f64())
    };
    assert_eq!((limit("memory"), limit("cache")), ((80.0, None), (50.0, None)));
    let worst = ["healthy", "degraded", "unhealthy"]
        .into_iter()
        .rfind(|word| checks.iter().any(|check| check["status"] == *word));
    assert_eq!(status["status"].as_str(), worst);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_and_a_refused_reload_degrade_the_report() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    edge.write_config("nonsense");
    assert!(!edge.cli(&["reload"]).await.status.success());
    let status = edge.status().await;
    let check =
        |name: &str| status["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    assert_eq!((&check("config")["status"], &check("config")["value"]), (&"degraded".into(), &1.0.into()));
    assert_eq!((&check("upstreams")["status"], &check("upstreams")["value"]), (&"healthy".into(), &0.0.into()));
    assert_ne!(status["status"], "healthy");
}

/// It is given requests, so it is up; an upstream without one that works is worth a look all the same.
#[tokio::test]
async fn the_last_endpoint_that_fails_is_up_and_degrades_the_report() {
    let origin = Origin::serves(|_| async {}).await;
    let keys = "fails_max = 1\nretry = { attempts = 1 }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 502);
    edge.endpoint_is(origin.address(), "failing").await;
    let up = format!("tollgate_endpoint_up{{endpoint=\"{}\",upstream=\"app\"}}", origin.address());
    assert_eq!(edge.metric(&up).await, 1.0);
    let status = edge.status().await;
    let check = status["checks"].as_array().unwrap().iter().find(|check| check["name"] == "upstreams").unwrap();
    assert_eq!((&check["status"], &check["value"]), (&"degraded".into(), &1.0.into()), "{check}");
    assert_eq!(status["upstreams"][0]["endpoints"][0]["up"], true);
}

#[tokio::test]
async fn an_endpoint_that_is_out_degrades_and_an_upstream_without_one_is_down() {
    let (stays, mut dies) = (Origin::replies(ok("")).await, Origin::replies(ok("")).await);
    let keys = "balance = \"round-robin\"\nfails_max = 1\nfail_timeout = \"1h\"";
    let edge = Edge::start(upstream(&[stays.address(), dies.address()], keys) + ROUTE).await;
    let check = told(&edge, "upstreams", "healthy").await;
    says(&check, "usable endpoints: 2", (0.0, "endpoints out or failing"), [Some(1.0), None]);
    dies.kill().await;
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.status, 200);
    }
    let check = told(&edge, "upstreams", "degraded").await;
    says(&check, "app: 1 of 2 endpoints out", (1.0, "endpoints out or failing"), [Some(1.0), None]);
    let address = stays.address().to_string();
    assert!(edge.cli(&["upstreams", "drain", "app", &address]).await.status.success());
    let check = told(&edge, "upstreams", "unhealthy").await;
    says(&check, "app: none of 2 endpoints is usable", (1.0, "upstreams down"), [Some(1.0), Some(1.0)]);
    assert!(edge.cli(&["upstreams", "undrain", "app", &address]).await.status.success());
    told(&edge, "upstreams", "degraded").await;
}

#[tokio::test]
async fn an_upstream_whose_breaker_is_open_is_down() {
    let origin = Origin::replies(ok("").status(500)).await;
    let keys = "breaker = { failures = 1, window = \"1h\", open = \"1h\" }";
    let edge = Edge::start(upstream(&[origin.address()], keys) + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 500);
    let check = told(&edge, "upstreams", "unhealthy").await;
    says(&check, "app: the breaker is open", (1.0, "upstreams down"), [Some(1.0), Some(1.0)]);
}

#[tokio::test]
async fn a_file_that_is_refused_degrades_until_one_is_taken() {
    let edge = Edge::start(TEXT).await;
    let check = told(&edge, "config", "healthy").await;
    says(&check, "generation 1 is in force", (0.0, "refused"), [Some(1.0), None]);
    edge.write_config("nonsense");
    let check = told(&edge, "config", "degraded").await;
    let detail = "the last reload was refused, generation 1 stays in force";
    says(&check, detail, (1.0, "refused"), [Some(1.0), None]);
    edge.write_config(&Edge::standard(TEXT.replace("in", "new")));
    let check = told(&edge, "config", "healthy").await;
    says(&check, "generation 2 is in force", (0.0, "refused"), [Some(1.0), None]);
}

#[tokio::test]
async fn a_cache_that_is_off_or_was_not_asked_has_nothing_to_measure() {
    let edge = Edge::start(String::from("[cache]\nenabled = false\n") + TEXT).await;
    let check = told(&edge, "cache", "healthy").await;
    assert_eq!((&check["detail"], check.get("value")), (&json!("off"), None));
    edge.write_config(&Edge::standard(TEXT));
    edge.reload().await;
    let detail = told(&edge, "cache", "healthy").await["detail"].clone();
    assert!(detail.as_str().unwrap().ends_with("MiB stored, not asked in the last minute"), "{detail}");
}

/// They close while the last requests end.
#[tokio::test]
async fn a_listener_that_is_closed_is_a_fault() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let mut edge = Edge::before(&origin).await;
    let check = told(&edge, "listeners", "healthy").await;
    says(&check, "3 of 3 open", (0.0, "listeners closed"), [Some(1.0), Some(1.0)]);
    let asking = async {
        assert_eq!(edge.get("/").await.status, 200);
    };
    let looking = async {
        origin.has(1).await;
        edge.signal(Signal::TERM);
        let check = told(&edge, "listeners", "unhealthy").await;
        says(&check, "0 of 3 open", (3.0, "listeners closed"), [Some(1.0), Some(1.0)]);
        allowed.add_permits(1);
    };
    tokio::join!(asking, looking);
    edge.exit().await;
}

#[tokio::test]
async fn connections_are_held_against_how_many_there_may_be() {
    let edge = Edge::start(String::from("[server]\nconnections_max = 10\nidle_close_at = false\n") + TEXT).await;
    let mut clients = Vec::new();
    for (count, state) in [(6, "healthy"), (7, "degraded"), (8, "degraded"), (9, "unhealthy")] {
        while clients.len() < count {
            let mut client = Client::connect(&edge, Via::H1).await;
            assert_eq!(client.get("/").await.status, 200);
            clients.push(client);
        }
        let check = told(&edge, "connections", state).await;
        let percent = 10 * count;
        let detail = format!("{count} of 10 ({percent} %)");
        says(&check, &detail, (percent as f64, "percent"), [Some(70.0), Some(90.0)]);
    }
    drop(clients);
    told(&edge, "connections", "healthy").await;
}

/// Writes a certificate for `name` that ends then.
fn write_certificate(folder: &std::path::Path, name: &str, ends: SystemTime) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + ends.duration_since(UNIX_EPOCH).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_ends_soon_or_has_ended_degrades() {
    const DAY: Duration = Duration::from_secs(86_400);
    let (folder, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
    write_certificate(folder.path(), "late.example", now - DAY);
    write_certificate(folder.path(), "soon.example", now + 3 * DAY + DAY / 2);
    let section = |name: &str| {
        format!("[[certificate]]\nhosts = [\"{name}\"]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
    };
    let config = |certificates: &str| Edge::standard(String::from(certificates) + TEXT);
    std::fs::write(folder.path().join("config.toml"), config("")).unwrap();
    let edge = Edge::in_folder(folder).await;
    let limits = [Some(7.0), None];
    let check = told(&edge, "certificates", "healthy").await;
    assert_eq!((&check["detail"], &check["limit"]["worse"]), (&json!("in use: 1"), &json!("below")));
    edge.write_config(&config(&section("soon.example")));
    let check = told(&edge, "certificates", "degraded").await;
    says(&check, "soon.example: ends in 83 hours", (3.4, "days left"), limits);
    edge.write_config(&config(&(section("soon.example") + &section("late.example"))));
    until("the one that has ended", async || {
        let check = told(&edge, "certificates", "degraded").await;
        check["detail"].as_str().unwrap().contains("late.example: has ended").then_some(())
    })
    .await;
    assert_eq!(told(&edge, "certificates", "degraded").await["value"], -1.1);
}

#[tokio::test]
async fn lines_of_the_log_that_are_lost_degrade() {
    let config = Edge::standard(TEXT);
    let edge = Edge::verbatim(&config.replace("\"access.log\"", "\"/dev/full\"")).await;
    let check = told(&edge, "log", "healthy").await;
    let unit = "lines lost";
    says(&check, "0 lines lost in the last minute, 0 since the start", (0.0, unit), [Some(1.0), None]);
    assert_eq!(edge.get("/").await.status, 200);
    let check = told(&edge, "log", "degraded").await;
    says(&check, "1 lines lost in the last minute, 1 since the start", (1.0, unit), [Some(1.0), None]);
}

#[tokio::test]
async fn descriptors_are_held_against_their_limit() {
    let edge = Edge::start(TEXT).await;
    // It is looked at every few seconds.
    let check = told_of(&edge, "descriptors", "healthy", |check| check["age_s"].is_number()).await;
    assert!(check["value"].as_f64() < Some(80.0), "{check}");
    let maximum = getrlimit(Resource::Nofile).maximum;
    let few = edge.descriptors() as u64 + 4;
    prlimit(Some(edge.pid()), Resource::Nofile, Rlimit { current: Some(few), maximum }).unwrap();
    let check = told(&edge, "descriptors", "degraded").await;
    assert!(check["detail"].as_str().unwrap().contains(&format!(" of {few} (")), "{check}");
    assert_eq!(
        (&check["limit"], &check["unit"]),
        (&json!({ "degraded": 80.0, "unhealthy": null, "worse": "from" }), &json!("percent"))
    );
    prlimit(Some(edge.pid()), Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    told(&edge, "descriptors", "healthy").await;
}
