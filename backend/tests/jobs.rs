//! Jobs as their owners see them, and what becomes of them when they fail or when a replica is killed.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use server::Server;

/// Looks again and again until there is something to see, for half a minute.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

/// The paths of the jobs that a change has left.
fn jobs(changed: &Value) -> Vec<String> {
    let jobs = changed["jobs"].as_array().unwrap();
    jobs.iter().map(|job| format!("/api/v1/jobs/{}", job["id"].as_str().unwrap())).collect()
}

async fn state(server: &Server, token: &str, path: &str, wanted: &str) -> Value {
    until(&format!("{path} is {wanted}"), async || {
        let job = server.as_user("GET", path, token).await.json();
        (job["state"] == wanted).then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_job_is_done_for_its_owner_who_is_told() {
    let server = Server::start().await;
    let (ada, bob) = (server.signed_in("ada").await.access, server.signed_in("bob").await.access);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (bearer, parent) = (format!("Bearer {ada}"), format!("00-{trace}-00f067aa0ba902b7-01"));
    let fields =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("traceparent", parent.as_str())];
    let body = json!({ "title": "one", "content_type": "a/b" }).to_string();
    let added = server.ask_with("POST", "/api/v1/media", &fields, body).await.json();
    for (path, kind) in jobs(&added).iter().zip(["metadata", "thumbnail"]) {
        let job = state(&server, &ada, path, "done").await;
        assert_eq!((&job["queue"], &job["kind"]), (&json!("media"), &json!(kind)));
        assert_eq!((&job["attempts"], &job["attempts_max"], &job["fault"]), (&json!(1), &json!(3), &Value::Null));
        assert_eq!((&job["trace_id"], &job["subject"]), (&json!(trace), &added["media"]["id"]));
        assert!(job["ended_at"].is_string() && job["due_at"].is_null());
        server.as_user("GET", path, &bob).await.is_problem(404, "not-found");
    }
    let told = until("a notification", async || {
        let page = server.as_user("GET", "/api/v1/notifications", &ada).await.json();
        (!page["items"].as_array().unwrap().is_empty()).then_some(page)
    })
    .await;
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "one for both jobs");
    assert_eq!(told["items"][0]["subject"], added["media"]["id"]);
    let others = server.as_user("GET", "/api/v1/notifications", &bob).await.json();
    assert_eq!(others["items"], json!([]));
    // The last one goes on with the trace of the request, two spans further.
    let traced = server::number(server.folder(), "select count(distinct trace_id) from jobs").await;
    let spans = server::number(server.folder(), "select count(distinct span_id) from jobs").await;
    assert_eq!((traced, spans), (1, 2));
}

#[tokio::test]
async fn a_job_that_fails_rests_longer_each_time_and_is_given_up() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let refuse = "create trigger refuse before insert on media_thumbnails begin select raise(abort, 'no'); end;";
    server::execute(server.folder(), refuse).await;
    let added = server.add_media(&ada, "one").await;
    let path = &jobs(&added)[1];
    let resting = until("the first attempt has failed", async || {
        let job = server.as_user("GET", path, &ada).await.json();
        (job["state"] == "waiting" && job["attempts"] != 0).then_some(job)
    })
    .await;
    assert_eq!(resting["fault"], "the database refused the statement");
    assert!(resting["due_at"].is_string());
    let failed = state(&server, &ada, path, "failed").await;
    assert_eq!((&failed["attempts"], &failed["due_at"]), (&json!(3), &Value::Null));
    let rested = "select cast(ended_ms - created_ms as integer) from jobs where kind = 'thumbnail'";
    assert!(server::number(server.folder(), rested).await >= 1000 + 2000);
    let metrics = server.get("/metrics").await;
    let counted = "job_attempts_total{kind=\"thumbnail\",outcome=\"failed\"} 3\n";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    let media = server.get(&format!("/api/v1/media/{}", added["media"]["id"].as_str().unwrap())).await.json();
    assert_eq!((&media["is_settled"], &media["thumbnail"]), (&json!(false), &Value::Null));
    assert_eq!(server::number(server.folder(), "select count(*) from notifications").await, 0);
}

#[tokio::test]
async fn what_is_to_be_done_is_counted_by_queue() {
    let server = Server::start().await;
    server.register("ada").await;
    // For a day that nobody waits for.
    let leave = "insert into jobs (id, owner_id, kind, subject, attempts, due_ms, trace_id, span_id, created_ms)
        select kind, users.id, kind, 'thing', 0, 9000000000000000, 't', 's', 0
        from users, (select 'thumbnail' as kind union select 'metadata' union select 'notification');";
    server::execute(server.folder(), leave).await;
    for depth in ["queue_depth{queue=\"media\"} 2\n", "queue_depth{queue=\"notifications\"} 1\n"] {
        until(depth, async || server.get("/metrics").await.text().contains(depth).then_some(())).await;
    }
}

#[tokio::test]
async fn no_more_run_at_a_time_than_a_kind_is_wide() {
    let one = Server::start().await;
    let ada = one.signed_in("ada").await.access;
    // The database itself sees how many there are, over both replicas, whenever one is begun.
    let watch = "create table seen (kind text, running integer);
        create trigger seen after update of lease on jobs when new.lease is not null begin
        insert into seen select kind, count(*) from jobs
        where kind = new.kind and lease is not null and ended_ms is null; end;";
    server::execute(one.folder(), watch).await;
    let other = one.beside().await;
    let many = (0..60).map(|number| {
        let replica = if number % 2 == 0 { &one } else { &other };
        replica.add_media(&ada, "one of many")
    });
    futures_util::future::join_all(many).await;
    let folder = one.folder();
    until("all are done", async || {
        let left = server::number(folder, "select count(*) from jobs where outcome is null").await;
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(server::number(folder, "select count(*) from jobs where outcome = 'done'").await, 180);
    assert_eq!(server::number(folder, "select max(attempts) from jobs").await, 1);
    assert_eq!(server::number(folder, "select count(*) from notifications").await, 60);
    let wider = "select count(*) from seen where running > case kind when 'metadata' then 3 else 5 end";
    assert_eq!(server::number(folder, wider).await, 0);
    assert!(server::number(folder, "select count(*) from seen").await >= 180);
}

#[tokio::test]
async fn jobs_that_find_their_work_done_tell_nobody_again() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let folder = server.folder();
    let refuse = "create trigger refuse before insert on media_thumbnails begin select raise(abort, 'no'); end;";
    server::execute(folder, refuse).await;
    let added = server.add_media(&ada, "one").await;
    let path = format!("/api/v1/media/{}", added["media"]["id"].as_str().unwrap());
    for title in ["two", "three", "four"] {
        assert_eq!(server.json("PATCH", &path, &ada, &json!({ "title": title })).await.status, 200);
    }
    // Four jobs for one thumbnail.
    server::execute(folder, "drop trigger refuse").await;
    until("all are done", async || {
        let left = server::number(folder, "select count(*) from jobs where outcome is null").await;
        (left == 0).then_some(())
    })
    .await;
    let done = "select count(*) from jobs where kind = 'thumbnail' and outcome = 'done'";
    assert!(server::number(folder, done).await >= 2);
    assert_eq!(server::number(folder, "select count(*) from notifications").await, 1);
    assert_eq!(server.get(&path).await.json()["thumbnail"]["initials"], "F");
}

/// A replica as a process, killed at the end of the test at the latest.
struct Replica(Child);

impl Replica {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-backend"));
        command.args(["--data", data.to_str().unwrap(), "--password-cost", "8,1", "--listen", "127.0.0.1:0"]);
        // What the machine has set is not for a test.
        for name in ["DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "TOKEN_KEY"] {
            command.env_remove(name);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        // It says where it listens once there are tables.
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listens on"), "{line}");
        Self(process)
    }

    fn kill(mut self) {
        // By SIGKILL, in the middle of whatever it does.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Leaves 4000 jobs.
async fn leave_many(data: &Path) {
    let leave = "insert into users (id, email, user_name, display_name, password_hash, version, created_ms, changed_ms)
        values ('ada', 'ada@example.com', 'ada', 'Ada', '', 1, 0, 0);
        with recursive n (i) as (select 1 union all select i + 1 from n where i < 4000)
        insert into jobs (id, owner_id, kind, subject, attempts, due_ms, trace_id, span_id, created_ms)
        select 'job' || i, 'ada', 'notification', 'thing' || i, 0, 0, 't', 's', 0 from n;";
    server::execute(data, leave).await;
}

#[tokio::test]
async fn the_jobs_of_a_replica_that_stops_are_for_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let one = Server::with(server::settings(data, &[])).await;
    one.get("/health").await;
    leave_many(data).await;
    let done = "select count(*) from jobs where outcome = 'done'";
    until("some are done", async || (server::number(data, done).await >= 100).then_some(())).await;
    one.stop().await;
    assert!(server::number(data, done).await < 4000, "it was stopped in the middle");
    let held = "select count(*) from jobs where lease is not null or (outcome is null and attempts > 0)";
    assert_eq!(server::number(data, held).await, 0);
}

#[tokio::test]
async fn the_jobs_of_a_replica_that_was_killed_are_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let killed = Replica::start(data);
    leave_many(data).await;
    let done = "select count(*) from jobs where outcome = 'done'";
    until("some are done", async || (server::number(data, done).await >= 200).then_some(())).await;
    killed.kill();
    let done_before = server::number(data, done).await;
    assert!(done_before < 4000, "it was killed in the middle");
    assert_eq!(server::number(data, "select count(*) from notifications").await, done_before);
    // As if the time of its leases were over.
    server::execute(data, "update jobs set due_ms = 0 where lease is not null").await;
    let _second = Replica::start(data);
    until("all are done", async || (server::number(data, done).await == 4000).then_some(())).await;
    assert_eq!(server::number(data, "select count(*) from notifications").await, 4000);
    assert_eq!(server::number(data, "select count(distinct job_id) from notifications").await, 4000);
}
