//! What the edge does while nobody asks for anything: next to nothing.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::*;

/// How often the thread of the only worker has slept.
fn sleeps(edge: &Edge) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", edge.pid().as_raw_nonzero())).unwrap();
    let folders = tasks.map(|task| task.unwrap().path());
    let mut workers = folders.filter(|folder| fs::read_to_string(folder.join("comm")).unwrap().trim() == "worker-0");
    let status = fs::read_to_string(workers.next().unwrap().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

/// Its limits, its lines of the log and what it reads ahead wait for the same tick, twenty times a second: a timer for each
/// would wake it as often again. A machine that is slow makes it rarer.
#[tokio::test]
async fn a_worker_without_requests_wakes_for_its_tick_alone() {
    let edge = Edge::start("[server]\nworkers = 1\n[[route]]\npath = \"/\"\ntext = \"here\"\n").await;
    let (begun, before) = (Instant::now(), sleeps(&edge));
    until("sixty sleeps", async || (sleeps(&edge) >= before + 60).then_some(())).await;
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
}
