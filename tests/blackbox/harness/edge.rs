//! The binary as a process: its folder, its addresses, its logs, its end.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::client::{Answer, Client, Via, request};
use super::origin::{Origin, ROUTE, upstream};
use super::wire::Wire;
use super::{until, within};

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");

/// Listeners, log and admin of every edge. The addresses differ, so that port 0 tells them apart.
const STANDARD: &str = r#"
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "127.0.0.2:0"
tls = true
[[listen]]
address = "127.0.0.3:0"
protocols = ["h1", "h2"]
[[certificate]]
hosts = ["localhost"]
local = true
[admin]
address = "127.0.0.1:0"
[log]
level = "info"
access = { format = "json", path = "access.log" }
"#;

/// A running edge; it is killed at the end of the test.
pub struct Edge {
    process: Child,
    ready: Value,
    folder: TempDir,
}

/// An edge that did not come up.
#[derive(Debug)]
pub struct NotStarted {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Edge {
    /// Starts one with `config` and the standard listeners, log and admin address.
    pub async fn start(config: impl AsRef<str>) -> Self {
        Self::verbatim(&Self::standard(config)).await
    }

    /// Starts one that passes everything on to `origin`.
    pub async fn before(origin: &Origin) -> Self {
        Self::start(upstream(&[origin.address()], "") + ROUTE).await
    }

    /// What [`start`](Self::start) writes into the file.
    pub fn standard(config: impl AsRef<str>) -> String {
        format!("{}{STANDARD}", config.as_ref())
    }

    /// Starts one with exactly this file.
    pub async fn verbatim(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        Self::in_folder(folder).await
    }

    /// Starts one in a folder that holds `config.toml`.
    pub async fn in_folder(folder: TempDir) -> Self {
        Self::try_start(folder, "").await.unwrap_or_else(|failed| panic!("the edge did not start: {failed:#?}"))
    }

    /// Starts one with exactly this file and a socket that somebody else keeps, as systemd does it.
    pub async fn activated(config: &str, socket: &TcpListener) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let before = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;";
        let started = Self::spawn(folder, before, OwnedFd::from(socket.try_clone().unwrap()).into()).await;
        started.unwrap_or_else(|failed| panic!("the edge did not start: {failed:#?}"))
    }

    /// `before` is run by the shell that becomes the edge, as in `ulimit -n 64;`.
    pub async fn try_start(folder: TempDir, before: &str) -> Result<Self, NotStarted> {
        Self::spawn(folder, before, Stdio::null()).await
    }

    /// Starts one to which orphans come, as to the first process of a container.
    #[allow(unsafe_code)]
    pub async fn as_init(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let mut shell = Self::shell(&folder, "");
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; this is one plain system call.
        unsafe { shell.pre_exec(|| Ok(set_child_subreaper(Some(getpid()))?)) };
        Self::ready(folder, shell).await.unwrap_or_else(|failed| panic!("the edge did not start: {failed:#?}"))
    }

    async fn spawn(folder: TempDir, before: &str, stdin: Stdio) -> Result<Self, NotStarted> {
        let mut shell = Self::shell(&folder, before);
        shell.stdin(stdin);
        Self::ready(folder, shell).await
    }

    /// A shell that becomes the edge.
    fn shell(folder: &TempDir, before: &str) -> Command {
        let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
        // The line of readiness comes by descriptor 9, which is the pipe; stdout goes where stderr goes.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{before} exec \"$0\" run -c \"$1\" --ready-fd 9 9>&1 1>&2"), BINARY])
            .arg(folder.path().join("config.toml"))
            // For the replicas of the app: a database of the test's own, and hashes that cost nothing.
            .env("TOLLGATE_DATA", folder.path().join("data"))
            .env("PASSWORD_COST", "8,1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true);
        shell
    }

    async fn ready(folder: TempDir, mut shell: Command) -> Result<Self, NotStarted> {
        let mut process = shell.spawn().unwrap();
        let mut line = String::new();
        let mut pipe = BufReader::new(process.stdout.take().unwrap());
        within("the edge to start", pipe.read_line(&mut line)).await.unwrap();
        if let Ok(ready) = serde_json::from_str(&line) {
            return Ok(Self { process, ready, folder });
        }
        let code = within("the end of the edge", process.wait()).await.unwrap().code();
        let stderr = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
        Err(NotStarted { code, stderr })
    }

    /// The listener that speaks HTTP/1.1 in clear.
    pub fn address(&self) -> SocketAddr {
        self.listener("127.0.0.1:0")
    }

    pub fn tls_address(&self) -> SocketAddr {
        self.listener("127.0.0.2:0")
    }

    /// The listener that speaks both versions in clear.
    pub fn either_address(&self) -> SocketAddr {
        self.listener("127.0.0.3:0")
    }

    /// What a configured address was bound to.
    pub fn listener(&self, configured: &str) -> SocketAddr {
        self.ready["listeners"][configured].as_str().unwrap().parse().unwrap()
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.ready["admin"].as_str().unwrap().parse().unwrap()
    }

    /// A connection in clear that says what it is told to.
    pub async fn raw(&self) -> Wire<TcpStream> {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::new(stream)
    }

    /// GET on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        Client::connect(self, Via::H1).await.get(path).await
    }

    /// GET from the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        let stream = TcpStream::connect(self.admin_address()).await.unwrap();
        Client::over(Via::H1, stream).await.unwrap().ask(request("GET", path), "").await
    }

    /// `/status`.
    pub async fn status(&self) -> Value {
        serde_json::from_slice(&self.admin("/status").await.body).unwrap()
    }

    /// The value of a metric by its name and labels, as they are written.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin("/metrics").await;
        value_of(name, metrics.text()).unwrap_or_else(|| panic!("no {name} in {}", metrics.text()))
    }

    /// Waits until a metric has this value: the other side may see the end of a connection before it is counted.
    pub async fn counts(&self, name: &str, value: f64) {
        let what = format!("{name} to be {value}");
        until(&what, async || (value_of(name, self.admin("/metrics").await.text()) == Some(value)).then_some(())).await;
    }

    /// What is known of one endpoint of `[upstream.app]`.
    pub async fn endpoint(&self, address: SocketAddr) -> Value {
        let mut status = self.status().await;
        let endpoints = status["upstreams"][0]["endpoints"].as_array_mut().unwrap();
        let found = endpoints.iter().position(|endpoint| endpoint["address"] == address.to_string());
        endpoints.swap_remove(found.unwrap_or_else(|| panic!("{address} is not among {endpoints:?}")))
    }

    /// Waits until an endpoint is `usable`, `ejected`, `unhealthy` or `drained`.
    pub async fn endpoint_is(&self, address: SocketAddr, state: &str) {
        until(state, async || (self.endpoint(address).await["state"] == state).then_some(())).await;
    }

    /// Waits until an endpoint has so many requests in flight.
    pub async fn in_flight(&self, address: SocketAddr, count: usize) {
        let what = format!("{count} requests in flight");
        until(&what, async || (self.endpoint(address).await["in_flight"] == count).then_some(())).await;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder().join("config.toml")
    }

    /// Replaces the file in one step, as careful editors do.
    pub fn write_config(&self, config: &str) {
        let new = self.folder().join("config.toml.new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    /// `tollgate COMMAND… -c config.toml`.
    pub async fn cli(&self, command: &[&str]) -> Output {
        let mut tollgate = Command::new(BINARY);
        tollgate.args(command).arg("-c").arg(self.config_path());
        within("the command", tollgate.output()).await.unwrap()
    }

    /// Reloads by the command, which has to succeed.
    pub async fn reload(&self) {
        let output = self.cli(&["reload"]).await;
        assert!(output.status.success(), "{output:?}");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.ready["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops the process for as long as the future takes, so that what happens meanwhile is found all at once.
    pub async fn paused<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid().as_raw_nonzero());
        let state = || std::fs::read_to_string(&stat).unwrap();
        until("the edge to stand still", async || state().contains(") T ").then_some(())).await;
        let outcome = meanwhile.await;
        self.signal(Signal::CONT);
        outcome
    }

    pub async fn exit(&mut self) -> ExitStatus {
        within("the end of the edge", self.process.wait()).await.unwrap()
    }

    /// Waits for the first line of the access log that `wanted` accepts.
    pub async fn log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = self.folder().join("access.log");
        until("a line of the access log", async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(&wanted)
        })
        .await
    }

    /// Waits for the line of a request by its path.
    pub async fn logged(&self, path: &str) -> Value {
        self.log(|line| line["path"] == path).await
    }

    /// Everything it has said of itself.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder().join("stderr")).unwrap()
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that it was since the last [`Self::forget_peak`].
    pub fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid().as_raw_nonzero()), "5").unwrap();
    }

    /// How many files, sockets and pipes it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero())).unwrap().count()
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the edge said:\n{}---", self.stderr());
        }
    }
}

/// Nothing of what was never counted.
fn value_of(metric: &str, metrics: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}
