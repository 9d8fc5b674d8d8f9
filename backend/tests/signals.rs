//! The binary, told to stop by signals while requests are open.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

struct Replica {
    process: Child,
    address: String,
    _data: TempDir,
}

impl Replica {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate-backend"))
            .args(["--listen", "127.0.0.1:0"])
            // What a supervisor also sets must not stand in the way.
            .envs([("HOST", "192.0.2.1"), ("PORT", "1")])
            .env("TOLLGATE_DATA", data.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let (_, address) = line.trim().split_once("http://").expect("the start line names the address");
        Self { address: address.to_owned(), process, _data: data }
    }

    /// Sends a request and returns once `reply` has come back.
    fn ask(&self, request: &str, reply: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(reply.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.extend(byte);
        }
        stream
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn exit_status(mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}

/// A body whose end never comes: the 100 says that the server has begun to read it.
const ENDLESS: (&str, &str) = (
    "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
);

const EVENTS: (&str, &str) = ("GET /events?interval_ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n", "\n\n\r\n");

#[test]
fn the_first_signal_lets_open_requests_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let replica = Replica::start();
        let mut upload = replica.ask(ENDLESS.0, ENDLESS.1);
        let mut events = replica.ask(EVENTS.0, EVENTS.1);
        replica.signal(signal);

        let mut rest = String::new();
        events.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "0\r\n\r\n", "the stream ends by its last chunk");

        upload.write_all(b"123456789").unwrap();
        upload.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("HTTP/1.1 200 OK") && rest.contains("\"bytes\":9"), "{rest}");
        assert_eq!(replica.exit_status(), Some(0));
    }
}

#[test]
fn the_second_signal_ends_the_process_at_once() {
    let replica = Replica::start();
    let _upload = replica.ask(ENDLESS.0, ENDLESS.1);
    let mut events = replica.ask(EVENTS.0, EVENTS.1);
    replica.signal(Signal::TERM);
    // The end of the stream says that the first signal was taken; two at once would be one.
    events.read_to_end(&mut Vec::new()).unwrap();
    replica.signal(Signal::TERM);
    assert_eq!(replica.exit_status(), Some(1));
}
