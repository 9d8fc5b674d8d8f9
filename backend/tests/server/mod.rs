//! The app on a free port, with a database of its own in a folder of its own, and a client of it.

// Not every test file uses all of it.
#![allow(dead_code, unused_imports)]

mod goods;
mod people;
pub mod process;

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate_backend::Settings;

pub use self::goods::{add_product, add_workflow, execute, number};
pub use self::people::{PASSWORD, Tokens, registration};

#[derive(Clone, Copy)]
pub enum Protocol {
    H1,
    H2,
}

pub const BOTH: [Protocol; 2] = [Protocol::H1, Protocol::H2];

pub struct Server {
    pub address: SocketAddr,
    folder: Option<TempDir>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), &[]);
        let server = Self { folder: Some(folder), ..Self::with(settings).await };
        // Whoever answers has made the tables, into which a test may write.
        server.get("/health").await;
        server
    }

    /// Starts one more on the database of this one.
    pub async fn beside(&self) -> Self {
        Self::with(settings(self.folder(), &[])).await
    }

    pub async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = async move { tollgate_backend::serve(listener, settings, async { drop(stopped.await) }).await };
        Self { address, folder: None, stop, task: tokio::spawn(serving) }
    }

    /// Where its database is.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Protocol::H1, "GET", path, "").await
    }

    pub async fn ask(&self, protocol: Protocol, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        Answer::read(self.send(protocol, method, path, body).await).await
    }

    /// A request with a body of JSON, and with a token unless it is empty.
    pub async fn json(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut fields = vec![("content-type", "application/json")];
        if !token.is_empty() {
            fields.push(("authorization", &bearer));
        }
        self.ask_with(method, path, &fields, body.to_string()).await
    }

    /// A request without a body, with a token.
    pub async fn as_user(&self, method: &str, path: &str, token: &str) -> Answer {
        self.ask_with(method, path, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    pub async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> Answer {
        self.ask_with("POST", path, &[("content-type", kind)], body).await
    }

    pub async fn ask_with(&self, method: &str, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        try_ask(self.address, (method, path), fields, body).await.unwrap()
    }

    /// How many statements it has sent to its database for requests.
    pub async fn statements(&self) -> u64 {
        let metrics = self.get("/metrics").await;
        let counts = metrics.text().lines().filter(|line| line.starts_with("db_query_duration_seconds_count"));
        // What goes on beside the requests has its own times.
        let beside = ["\"sweep_", "\"work_", "\"active_users\""];
        let counts = counts.filter(|line| !beside.iter().any(|name| line.contains(name)));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub async fn send(
        &self,
        protocol: Protocol,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("x-second", "2")
            .header("host", "app.example")
            .header("x-first", "1")
            .body(Full::new(body.into()))
            .unwrap();
        match protocol {
            Protocol::H1 => {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            }
            Protocol::H2 => {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            }
        }
    }

    pub async fn open_socket(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // Key and answer are the example of RFC 6455 §1.3.
        let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        socket
    }

    /// Tells the server to stop, and returns once it has.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(self.address).await.is_err(), "the listener is closed");
    }
}

/// A request to whatever serves at an address, which may end in the middle.
pub async fn try_ask(
    address: SocketAddr,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let mut head = Request::builder().method(method).uri(path).header("host", "app.example");
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    let io = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(head.body(Full::new(body.into()))?).await?.into_parts();
    Ok(Answer { status: head.status, fields: head.headers, body: body.collect().await?.to_bytes() })
}

pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, fields: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// That it is problem details of this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.field("content-type"), "application/problem+json");
        let details = self.json();
        assert_eq!((&details["status"], &details["code"]), (&status.into(), &code.into()));
    }

    /// That it is a refusal which names this field of the body or parameter.
    #[track_caller]
    pub fn blames(&self, field: &str) {
        self.is_problem(400, "invalid-input");
        assert_eq!(self.json()["errors"][0]["field"], field, "{}", self.text());
    }
}

/// What a test's app is built by: hashing that costs nothing unless `more` says otherwise, and those arguments.
pub fn settings(folder: &Path, more: &[&str]) -> Settings {
    let mut args = vec!["--data", folder.to_str().unwrap()];
    if !more.contains(&"--password-cost") {
        args.extend(["--password-cost", "8,1"]);
    }
    args.extend(more);
    Settings::parse(&args).unwrap().with_patience(Duration::from_millis(500))
}

/// Another program's look at the database of a test.
pub async fn database(folder: &Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions as _;
    sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("tollgate.db")).connect().await.unwrap()
}

/// The hash of a user's password.
pub async fn stored_hash(folder: &Path, user_name: &str) -> String {
    let query = sqlx::query_scalar("select password_hash from users where user_name = $1").bind(user_name);
    query.fetch_one(&mut database(folder).await).await.unwrap()
}

pub async fn set_hash(folder: &Path, user_name: &str, hash: &str) {
    let update = sqlx::query("update users set password_hash = $2 where user_name = $1").bind(user_name).bind(hash);
    update.execute(&mut database(folder).await).await.unwrap();
}
