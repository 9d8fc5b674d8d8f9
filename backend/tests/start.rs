//! The binary as several processes on one database, from nothing.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use server::process::{Replica, backend};

/// The response to a request without a body, as text.
fn ask(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn seed(data: &Path, size: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-backend"));
    command.env("TOLLGATE_DATA", data).env("PASSWORD_COST", "8,1").env_remove("DATABASE_URL");
    command.args(["seed", "--size", size]).output().unwrap()
}

#[test]
fn three_that_start_at_once_on_an_empty_folder_share_one_database() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        // Not even the folder is there.
        let data = folder.path().join("data");
        let mut replicas = [Replica::start(&data), Replica::start(&data), Replica::start(&data)];
        for replica in &mut replicas {
            let address = replica.address();
            let health = ask(&address, "GET", "/health");
            // How soon the database answers, a machine that is busy decides; without an answer it is no 200.
            let is_there = health.contains("\"database\":{");
            assert!(health.starts_with("HTTP/1.1 200 ") && is_there, "{round}: {health}");
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&data), mode(&data.join("tollgate.db")), mode(&data.join("tollgate.db-wal"))),
            (0o700, 0o600, 0o600)
        );
        let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files.iter().filter(|name| name.to_str().unwrap().starts_with("token.key")).count(), 1, "{files:?}");
    }
}

#[test]
fn seeding_is_the_same_at_every_run_and_says_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let options_first = backend(folder.path()).args(["seed", "--size", "small"]).output().unwrap();
    for output in [options_first, seed(folder.path(), "small")] {
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for made in ["users: 1000 of 1000", "products: 500 of 500", "workflows: 60 of 60"] {
            assert!(said.contains(&format!("{made} (100 %)")), "{said}");
        }
    }
    assert!(!seed(folder.path(), "vast").status.success());
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Replica::start(folder.path()).address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::ConnectOptions as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("tollgate.db"));
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("insert into migrations (version, digest) values (9999, 'later')")
            .execute(&mut connection)
            .await
            .unwrap();
    });
    let output = backend(folder.path()).args(["--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("it has migration 9999"), "{said}");
}
