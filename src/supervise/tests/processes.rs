//! How processes end, and what becomes of what they write.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::*;

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
