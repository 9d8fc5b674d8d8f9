//! The process of a replica: how it is started, signalled, and how its end is told.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::output::Output;

/// What a service manager said to this process alone. A replica that took it for its own would report
/// itself as the service, or take our sockets.
const OF_THIS_PROCESS: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A running replica, or one that has ended and was waited for. Dropping a running one kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    relays: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a replica that writes as `name`. It must be called by the thread that lives as long as this
    /// process, because the replica's end is tied to that thread.
    pub fn start(mut command: Command, output: &Output, name: &str) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        let mut relays = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            relays.push(tokio::task::spawn_local(output.clone().relay(pipe, name.to_owned())));
        }
        if let Some(pipe) = child.stderr.take() {
            relays.push(tokio::task::spawn_local(output.clone().relay(pipe, name.to_owned())));
        }
        Ok(Process { child, pid, relays })
    }

    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits for the end and tells it in words that follow the replica's name. What it left behind in its
    /// process group, like the program behind a shell, is killed: it would hold the port.
    pub async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        // The group is most likely empty, and the kernel does not give its number away again so soon.
        signal_group(self.pid, Signal::KILL);
        status.map_or_else(|error| format!("cannot be waited for: {error}"), describe)
    }

    /// Signals the replica and its process group, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            signal_group(pid, signal);
        }
    }

    /// Waits until the last lines of a replica that has ended are passed on.
    pub async fn last_lines(self, limit: Duration) {
        let relayed = async {
            for relay in self.relays {
                let _panicked = relay.await;
            }
        };
        let _late = tokio::time::timeout(limit, relayed).await;
    }
}

fn signal_group(pid: u32, signal: Signal) {
    // 0 would be our own group.
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // The only error that can come is that nobody is left in the group.
    let _gone = kill_process_group(pid, signal);
}

/// The command of a replica with all that it is given.
pub fn command(words: &[String], executable: &Path, address: SocketAddr) -> io::Result<Command> {
    let mut words = words.iter().map(|word| fill(word, executable, address));
    let program = words.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env("HOST", address.ip().to_string())
        .env("PORT", address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C at the terminal is for the proxy: replicas must outlive the requests that it still has.
        .process_group(0)
        .kill_on_drop(true);
    for name in OF_THIS_PROCESS {
        command.env_remove(name);
    }
    end_with_this_thread(&mut command);
    Ok(command)
}

/// However this process ends, the kernel sends TERM to the replica then.
#[allow(unsafe_code)]
fn end_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // If the parent ended before that call, no signal will come.
        if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. This makes two plain system
    // calls, takes no lock and allocates nothing; its errors are bare numbers.
    unsafe { command.pre_exec(before_exec) };
}

/// Replaces `{self}`, `{address}` and `{port}`; other braces stay as they are.
fn fill(word: &str, executable: &Path, address: SocketAddr) -> OsString {
    let mut filled = OsString::new();
    let mut rest = word;
    while let Some((before, from_brace)) = rest.find('{').and_then(|at| rest.split_at_checked(at)) {
        filled.push(before);
        rest = if let Some(after) = from_brace.strip_prefix("{self}") {
            filled.push(executable);
            after
        } else if let Some(after) = from_brace.strip_prefix("{address}") {
            filled.push(address.to_string());
            after
        } else if let Some(after) = from_brace.strip_prefix("{port}") {
            filled.push(address.port().to_string());
            after
        } else {
            filled.push("{");
            from_brace.strip_prefix('{').unwrap_or_default()
        };
    }
    filled.push(rest);
    filled
}

/// How a process ended, to follow its name in a sentence.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => format!("ended ({status})"),
    }
}

fn signal_name(number: i32) -> String {
    const NAMES: [(Signal, &str); 13] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
        (Signal::SYS, "SIGSYS"),
    ];
    let known = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    known.map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in() {
        let check = |word: &str, expected: &str| {
            let filled = fill(word, Path::new("/opt/{port}/edge"), "127.0.0.1:3001".parse().unwrap());
            assert_eq!(filled, expected, "{word}");
        };
        check("--listen", "--listen");
        check("", "");
        check("{self}", "/opt/{port}/edge");
        check("{address}", "127.0.0.1:3001");
        check("http://{address}/,{port}{port}", "http://127.0.0.1:3001/,30013001");
        check(r#"{"port": {port}, "x": "{y}"}"#, r#"{"port": 3001, "x": "{y}"}"#);
        check("{{port}}", "{3001}");
        check("{port", "{port");
        check("ä{port}ö", "ä3001ö");
    }

    #[test]
    fn ends_are_told_in_words() {
        let check = |raw: i32, expected: &str| assert_eq!(describe(ExitStatus::from_raw(raw)), expected);
        check(0, "exited with status 0");
        check(3 << 8, "exited with status 3");
        check(9, "was killed by SIGKILL");
        check(15, "was killed by SIGTERM");
        check(11 | 0x80, "was killed by SIGSEGV");
        check(40, "was killed by signal 40");
    }
}
