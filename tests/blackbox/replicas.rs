//! Replicas that the edge itself runs: they come up, they are started again, and they never outlive it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::*;

const THREE: &str = r#"
[upstream.app]
run = { command = ["{self}", "backend", "--listen", "{address}"], replicas = 3 }
balance = "round-robin"
health = { interval = "100ms", timeout = "1s" }
[[route]]
path = "/"
upstream = "app"
"#;

/// Waits until all replicas are ready; their process numbers.
async fn ready(edge: &Edge) -> BTreeSet<i32> {
    until("three replicas", async || {
        let status = edge.status().await;
        if status["upstreams"][0]["usable"] != 3 {
            return None;
        }
        let pids: BTreeSet<_> =
            status["replicas"].as_array()?.iter().filter_map(|replica| replica["pid"].as_i64()).collect();
        (pids.len() == 3).then(|| pids.into_iter().map(|pid| i32::try_from(pid).unwrap()).collect())
    })
    .await
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The state letter of a process and its parent; none if it is gone.
fn process(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Waits until none of them runs. One whose parent is dead may wait for init to take note.
async fn gone(pids: &BTreeSet<i32>) {
    until("the replicas to end", async || {
        pids.iter().all(|pid| process(*pid).is_none_or(|(state, _)| state == 'Z')).then_some(())
    })
    .await;
}

/// The pipes that a process has open.
fn pipes(process: &str) -> BTreeSet<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.to_str().is_some_and(|target| target.starts_with("pipe:"))).collect()
}

fn zombies_of(parent: i32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid) == Some(('Z', parent))).count()
}

#[tokio::test]
async fn replicas_come_up_share_the_requests_and_end_with_the_edge() {
    let mut edge = Edge::start(THREE).await;
    let pids = ready(&edge).await;
    let mut seen = BTreeSet::new();
    let mut client = Client::connect(&edge, Via::H1).await;
    for _ in 0..6 {
        let answer = client.get("/echo").await;
        let echo: Value = serde_json::from_slice(&answer.body).unwrap();
        seen.insert(i32::try_from(echo["replica"]["pid"].as_i64().unwrap()).unwrap());
    }
    assert_eq!(seen, pids);
    // The descriptor of `--ready-fd`, a pipe, is not for them. Two are their output, and some whoever runs the
    // test has left open for everybody.
    let everybodys = pipes("self");
    for pid in &pids {
        let own: Vec<_> = pipes(&pid.to_string()).into_iter().filter(|pipe| !everybodys.contains(pipe)).collect();
        assert_eq!(own.len(), 2, "{own:?}");
    }
    edge.signal(Signal::TERM);
    assert_eq!(edge.exit().await.code(), Some(0));
    gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_and_costs_no_get() {
    let edge = Edge::start(THREE).await;
    let pids = ready(&edge).await;
    let load = Load::start(edge.address(), 4, Connecting::Once);
    load.answers(20).await;
    let victim = *pids.first().unwrap();
    kill(victim);
    let after = until("another replica", async || {
        let now = ready(&edge).await;
        (!now.contains(&victim)).then_some(now)
    })
    .await;
    assert_eq!(after.intersection(&pids).count(), 2, "the others stay: {pids:?} and {after:?}");
    load.answers(20).await;
    load.succeeded().await;
    assert_eq!(zombies_of(edge.pid().as_raw_nonzero().get()), 0);
}

#[tokio::test]
async fn no_replica_outlives_a_killed_edge() {
    for _ in 0..20 {
        let mut edge = Edge::start(THREE).await;
        let pids = ready(&edge).await;
        edge.signal(Signal::KILL);
        edge.exit().await;
        gone(&pids).await;
    }
}

#[tokio::test]
async fn orphans_of_a_replica_are_reaped_and_replicas_keep_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("orphan");
    // The parent of the shell that writes the note has ended when it ends itself.
    let leave = format!("(sh -c 'sleep 0.05; echo $$ > {}' &) ; exec \\\"$0\\\" \\\"$@\\\"", note.display());
    let command = format!("\"sh\", \"-c\", \"{leave}\", \"{{self}}\", \"backend\", \"--listen\", \"{{address}}\"");
    let run = format!("[upstream.app]\nrun = {{ command = [{command}], replicas = 1 }}\n{ROUTE}");
    let edge = Edge::as_init(&Edge::standard(run)).await;
    let orphan: i32 =
        until("the orphan's end", async || std::fs::read_to_string(&note).ok()?.trim().parse().ok()).await;
    until("the orphan to be reaped", async || process(orphan).is_none().then_some(())).await;
    let replica = until("the replica", async || edge.status().await["replicas"][0]["pid"].as_i64()).await;
    kill(i32::try_from(replica).unwrap());
    until("its end", async || edge.stderr().contains("was killed by SIGKILL").then_some(())).await;
}
