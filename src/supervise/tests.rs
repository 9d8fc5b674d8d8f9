//! Supervision of real processes: this test binary, started again to play a replica or the proxy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use http::StatusCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::task::LocalSet;

use super::plan::Phase;
use super::*;
use crate::balance::Pool;
use crate::balance::probe::ProbeError;
use crate::config::{Environment, parse};

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

#[test]
fn replicas_are_members_once_they_listen_and_end_with_the_supervisor() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 3)]);
        assert!(pool.now().is_empty());
        supervisor.until(|| !supervisor.pids(Phase::Ready).is_empty()).await;
        assert!(!pool.now().is_empty());
        supervisor.until_ready(3).await;
        let addresses: Vec<_> = supervisor.status().iter().filter_map(|replica| replica.address).collect();
        assert_eq!(pool.now(), addresses);
        for address in addresses {
            TcpStream::connect(address).unwrap();
        }
        let pids = supervisor.pids(Phase::Ready);
        supervisor.stop(TEST_LIMIT).await;
        check_all_gone(&pids);
        supervisor.apply(vec![pool.wanted("app", replica("200"), 1)]);
        assert!(supervisor.status().is_empty(), "nothing starts after the stop");
    });
}

#[test]
fn a_killed_replica_leaves_the_members_at_once_and_is_replaced() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let killed = supervisor.status().remove(0);
        kill_process(pid(killed.pid.unwrap()), Signal::KILL).unwrap();
        supervisor.until(|| pool.now().len() == 1).await;
        assert!(!pool.now().contains(&killed.address.unwrap()));
        supervisor.until_ready(2).await;
        assert_eq!(pool.now().len(), 2);
        let replaced = supervisor.status().remove(0);
        assert!(replaced.restarts > 0 && replaced.replica == killed.replica, "{replaced:?}");
        check_all_gone(&[killed.pid.unwrap()]);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_changed_command_replaces_replicas_without_a_gap() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let old = supervisor.pids(Phase::Ready);
        let told = pool.0.borrow().len();
        supervisor.apply(vec![pool.wanted("app", replica("201"), 2)]);
        supervisor.until(|| supervisor.pids(Phase::Ready).iter().filter(|&pid| !old.contains(pid)).count() == 2).await;
        supervisor.until_ready(2).await;
        assert_eq!(pool.fewest_since(told), 2);
        check_all_gone(&old);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_replaced_replica_ends_its_requests_first() {
    in_control_thread(|| async {
        let text = "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nrun = { command = [\"app\"] }\n\
                    [[route]]\npath = \"/\"\nupstream = \"app\"\n";
        let config = parse("config.toml", text, &Environment::bare()).unwrap().config;
        let (pool, other) = (Arc::new(Pool::new(&config.upstreams[0], None)), Members::default());
        let wanted = |status, drain_timeout| {
            let (members, known) = (Arc::clone(&pool), Arc::clone(&pool));
            Wanted {
                drain_timeout,
                members: Rc::new(move |ready| members.set_members(0, ready.iter().copied())),
                endpoints: Rc::new(move |address| known.endpoint(address)),
                ..other.wanted("app", replica(status), 1)
            }
        };
        let supervisor = supervisor();
        supervisor.apply(vec![wanted("200", TEST_LIMIT)]);
        supervisor.until_ready(1).await;
        let first = supervisor.pids(Phase::Ready);
        let request = pool.choose(&[], None, clock::now().into_std()).unwrap();
        supervisor.apply(vec![wanted("201", TEST_LIMIT)]);
        supervisor.until(|| supervisor.pids(Phase::Stopping) == first).await;
        // Time passes: another process starts.
        supervisor.apply(vec![wanted("201", TEST_LIMIT), other.wanted("other", replica("200"), 1)]);
        supervisor.until(|| supervisor.pids(Phase::Ready).len() == 2).await;
        assert_eq!(supervisor.pids(Phase::Stopping), first, "it has a request");
        drop(request);
        supervisor.until_ready(2).await;
        check_all_gone(&first);

        let second = pool.members()[0].endpoint.address;
        let _request = pool.choose(&[], None, clock::now().into_std()).unwrap();
        supervisor.apply(vec![wanted("202", Duration::ZERO), other.wanted("other", replica("200"), 1)]);
        supervisor.until(|| pool.endpoint(second).is_none()).await;
        supervisor.until_ready(2).await;
        assert!(supervisor.status().iter().all(|replica| replica.address != Some(second)), "its time is up");
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_command_that_does_not_work_replaces_nothing() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        let old = supervisor.pids(Phase::Ready);
        let told = pool.0.borrow().len();
        for command in [shell("exit 3"), vec!["/nowhere/to/be/found".to_owned()]] {
            supervisor.apply(vec![pool.wanted("app", command, 2)]);
            supervisor.until(|| supervisor.status().iter().any(|replica| replica.restarts == 2)).await;
        }
        // The first command again: its replicas are still there.
        supervisor.apply(vec![pool.wanted("app", replica("200"), 2)]);
        supervisor.until_ready(2).await;
        assert_eq!(supervisor.pids(Phase::Ready), old);
        assert_eq!(pool.fewest_since(told), 2);
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_reload_keeps_grows_shrinks_and_removes() {
    in_control_thread(|| async {
        let (first, second, supervisor) = (Members::default(), Members::default(), supervisor());
        supervisor.apply(vec![first.wanted("app", replica("200"), 1), first.wanted("api", replica("200"), 1)]);
        supervisor.until_ready(2).await;
        let kept = supervisor.status().iter().find(|replica| replica.upstream == "app").unwrap().clone();
        supervisor.apply(vec![second.wanted("app", replica("200"), 2)]);
        assert_eq!(second.now(), [kept.address.unwrap()], "the new members know the old replicas at once");
        supervisor.until_ready(2).await;
        assert_eq!(second.now().len(), 2);
        supervisor.apply(vec![second.wanted("app", replica("200"), 1)]);
        assert_eq!(second.now(), [kept.address.unwrap()], "what is too much is no member any more");
        supervisor.until_ready(1).await;
        assert_eq!(supervisor.pids(Phase::Ready), [kept.pid.unwrap()]);
        supervisor.apply(Vec::new());
        supervisor.until(|| supervisor.status().is_empty()).await;
        check_all_gone(&[kept.pid.unwrap()]);
    });
}

#[test]
fn a_replica_that_ignores_term_is_killed() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        supervisor.apply(vec![pool.wanted("app", deaf_replica(), 1)]);
        supervisor.until_ready(1).await;
        let pids = supervisor.pids(Phase::Ready);
        supervisor.stop(Duration::from_millis(50)).await;
        check_all_gone(&pids);
    });
}

#[test]
fn a_program_behind_a_shell_ends_with_it() {
    in_control_thread(|| async {
        let (pool, supervisor) = (Members::default(), supervisor());
        let mut command = shell(r#""$0" "$@" & wait"#);
        command.append(&mut replica("200"));
        supervisor.apply(vec![pool.wanted("app", command, 1)]);
        supervisor.until_ready(1).await;
        // The kernel closes this when the program itself ends; a result other than "timed out" says so.
        let mut connection = TcpStream::connect(pool.now()[0]).unwrap();
        connection.set_read_timeout(Some(TEST_LIMIT)).unwrap();
        kill_process(pid(supervisor.pids(Phase::Ready)[0]), Signal::KILL).unwrap();
        supervisor.until(|| pool.now().is_empty()).await;
        let read = connection.read(&mut [0]);
        assert!(!matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{read:?}");
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn a_replica_that_fails_its_health_check_is_no_member_and_is_started_again() {
    in_control_thread(|| async {
        let supervisor = with_limits(Limits { ready: Duration::from_millis(500), ..LIMITS });
        let (sick, sound) = (Members::default(), Members::default());
        let wanted = |pool: &Members, name, status| Wanted {
            check: Some(Rc::new(|address| Box::pin(ask(address)))),
            ..pool.wanted(name, replica(status), 1)
        };
        supervisor.apply(vec![wanted(&sick, "sick", "503"), wanted(&sound, "sound", "204")]);
        supervisor.until(|| supervisor.status().iter().any(|replica| replica.restarts == 1)).await;
        assert!(sick.0.borrow().iter().all(Vec::is_empty));
        supervisor.until(|| sound.now().len() == 1).await;
        supervisor.stop(TEST_LIMIT).await;
    });
}

#[test]
fn what_a_replica_writes_is_passed_on() {
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let written = Written::default();
    let sink = written.clone();
    in_control_thread(|| async {
        let supervisor = Supervisor::with(std::env::current_exe().unwrap(), Output::to(sink), LIMITS);
        let pool = Members::default();
        let mut command = shell(r#"echo out of {port}; echo "err of $PORT" >&2; exec "$0" "$@""#);
        command.append(&mut replica("200"));
        supervisor.apply(vec![pool.wanted("app", command, 1)]);
        supervisor.until_ready(1).await;
        let port = pool.now()[0].port();
        supervisor.stop(TEST_LIMIT).await;
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        for line in [format!("out of {port}"), format!("err of {port}"), "listening".to_owned()] {
            assert!(text.lines().any(|written| written == format!("app[1] {line}")), "{line:?} in {text:?}");
        }
    });
}

/// The proxy is killed while its replicas start and listen; the kernel takes them along.
#[test]
fn a_killed_proxy_leaves_no_orphan() {
    for _ in 0..3 {
        let mut proxy = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervise::tests::plays_a_part", "--nocapture"])
            .env(PART, "proxy")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("pids ")).unwrap();
        let pids: Vec<u32> = line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect();
        let handles: Vec<_> = pids.iter().map(|&p| pidfd_open(pid(p), PidfdFlags::empty()).unwrap()).collect();
        assert_eq!(handles.len(), 3);
        proxy.kill().unwrap();
        proxy.wait().unwrap();
        for handle in &handles {
            let limit = Timespec { tv_sec: TEST_LIMIT.as_secs() as i64, tv_nsec: 0 };
            let ended = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(ended, 1, "a replica outlived its proxy");
        }
    }
}
