//! The app as a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// Killed at the end of the test.
pub struct Replica {
    process: Child,
    lines: BufReader<ChildStderr>,
}

impl Replica {
    pub fn start(data: &Path) -> Self {
        let mut process = backend(data).args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap());
        Self { process, lines }
    }

    /// Waits until it listens; its address.
    pub fn address(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().split_once("http://").unwrap_or_else(|| panic!("it said: {line}")).1.to_owned()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

pub fn backend(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-backend"));
    command.args(["--data", data.to_str().unwrap(), "--password-cost", "8,1"]);
    // What the machine has set is not for a test.
    for name in ["DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "TOKEN_KEY"] {
        command.env_remove(name);
    }
    command
}
