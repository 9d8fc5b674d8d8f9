//! Supervision of real processes: this test binary, started again to play a replica or the proxy.

mod changes;
mod processes;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::LocalSet;

use super::plan::Phase;
use super::*;
use crate::balance::probe::ProbeError;

/// Says what part this binary has to play.
const PART: &str = "TOLLGATE_TEST_PART";
/// Nothing here takes that long.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Not a test by itself: what the processes of the tests below do.
#[test]
fn plays_a_part() {
    match std::env::var(PART).as_deref() {
        Ok("proxy") => play_the_proxy(),
        Ok(answer) => play_a_replica(answer),
        Err(_) => {}
    }
}

/// Answers every request with a status, as long as it lives.
fn play_a_replica(status: &str) {
    let address = (std::env::var("HOST").unwrap(), std::env::var("PORT").unwrap().parse::<u16>().unwrap());
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut head = [0; 1024];
        if stream.read(&mut head).unwrap_or(0) > 0 {
            let _left = write!(stream, "HTTP/1.1 {status} Played\r\ncontent-length: 0\r\n\r\n");
        }
    }
}

/// Starts three replicas, says their process ids, and lives until it is killed.
fn play_the_proxy() {
    in_control_thread(|| async {
        let pool = Members::default();
        let supervisor = supervisor();
        supervisor.apply(vec![pool.wanted("app", replica("200"), 3)]);
        supervisor.until(|| supervisor.status().iter().all(|replica| replica.pid.is_some())).await;
        let pids: Vec<String> = supervisor.status().iter().filter_map(|r| Some(r.pid?.to_string())).collect();
        println!("\npids {}", pids.join(" "));
        std::future::pending::<()>().await;
    });
}

/// The command of a replica that answers with a status. `env` and `sh` replace themselves by it.
fn replica(status: &str) -> Vec<String> {
    let part = format!("{PART}={status}");
    ["env", &part, "{self}", "--exact", "supervise::tests::plays_a_part", "--nocapture"].map(str::to_owned).to_vec()
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// A replica that ignores TERM; that is inherited over exec.
fn deaf_replica() -> Vec<String> {
    let mut command = shell(r#"trap "" TERM; exec "$0" "$@""#);
    command.append(&mut replica("200"));
    command
}

fn supervisor() -> Rc<Supervisor> {
    with_limits(LIMITS)
}

/// One without a pause before TERM: there are no requests here that it could cut.
fn with_limits(limits: Limits) -> Rc<Supervisor> {
    let limits = Limits { grace: Duration::ZERO, ..limits };
    Supervisor::with(std::env::current_exe().unwrap(), Output::to(io::stderr()), limits)
}

fn in_control_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(TEST_LIMIT, test()).await.unwrap() });
}

/// Stands in for a pool.
#[derive(Clone, Default)]
struct Members(Rc<RefCell<Vec<Vec<SocketAddr>>>>);

impl Members {
    fn wanted(&self, upstream: &str, command: Vec<String>, replicas: usize) -> Wanted {
        let told = Rc::clone(&self.0);
        let members = Rc::new(move |addresses: &[SocketAddr]| told.borrow_mut().push(addresses.to_vec()));
        Wanted {
            upstream: upstream.to_owned(),
            run: Run { command, replicas },
            check: None,
            drain_timeout: Duration::ZERO,
            members,
            endpoints: Rc::new(|_| None),
        }
    }

    fn now(&self) -> Vec<SocketAddr> {
        self.0.borrow().last().cloned().unwrap_or_default()
    }

    /// The fewest members since a moment.
    fn fewest_since(&self, told: usize) -> usize {
        self.0.borrow().iter().skip(told).map(Vec::len).min().unwrap_or(0)
    }
}

impl Supervisor {
    async fn until_ready(&self, count: usize) {
        self.until(|| self.pids(Phase::Ready).len() == count && self.status().len() == count).await;
    }

    fn pids(&self, phase: Phase) -> Vec<u32> {
        let replicas = self.status().into_iter().filter(|replica| replica.state == phase.label());
        replicas.filter_map(|replica| replica.pid).collect()
    }
}

/// Passes if the answer has status 204.
async fn ask(address: SocketAddr) -> Result<(), ProbeError> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream =
        tokio::net::TcpStream::connect(address).await.map_err(|error| ProbeError::Transport(error.into()))?;
    let mut answer = String::new();
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        stream.read_to_string(&mut answer).await
    };
    exchange.await.map_err(|error| ProbeError::Transport(error.into()))?;
    let expected = answer.starts_with("HTTP/1.1 204 ");
    if expected { Ok(()) } else { Err(ProbeError::Status(StatusCode::SERVICE_UNAVAILABLE)) }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Neither running nor waiting to be reaped.
fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn check_all_gone(pids: &[u32]) {
    assert!(!pids.is_empty());
    assert!(pids.iter().all(|&pid| is_gone(pid)), "{pids:?}");
}
