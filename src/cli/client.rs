//! One request to the running proxy and its answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::config_file::{ConfigFile, Contact};
use super::{Failure, output};
use crate::warm::reachable;

/// What is said of 10,000 upstreams takes some MiB, and more with each endpoint that they have.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A reload may wait for new replicas.
const CONTROL_LIMIT: Duration = Duration::from_secs(60);

/// How to reach the running proxy.
#[derive(Debug, Default, clap::Args)]
pub struct Reach {
    /// Control socket; if not given, the one that the configuration file names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// The control socket of a running proxy.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: String,
}

/// How an answer that goes on came to its end.
#[derive(Debug)]
pub enum Stream {
    /// It did not begin.
    Refused(Reply),
    /// Who asked has seen enough.
    Enough,
    /// The proxy ended it.
    Broken,
}

/// What the admin listener says of an error.
#[derive(Debug, Deserialize)]
struct Problem {
    error: String,
    expected: String,
}

impl Reach {
    pub fn client(&self, config: &ConfigFile) -> Result<Client, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(Client { socket: socket.clone() });
        }
        let Contact { config, socket, address } = config.admin()?;
        let file = config.display();
        match (socket, address) {
            (Some(socket), _) => Ok(Client { socket }),
            (None, Some(_)) => Err(anyhow!("`control.socket` is off in {file}").into()),
            (None, None) => {
                Err(anyhow!("{file} has no [admin] table, so the proxy has no control socket; add `[admin]`").into())
            }
        }
    }

    /// The socket that was named, or what the configuration says.
    pub fn contact(&self, config: &ConfigFile) -> Result<Contact, Failure> {
        match &self.socket {
            Some(socket) => Ok(Contact { config: PathBuf::new(), socket: Some(socket.clone()), address: None }),
            None => config.admin(),
        }
    }
}

impl Client {
    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.ask(Method::GET, path, String::new())
    }

    pub fn post(&self, path: &str, body: String) -> anyhow::Result<Reply> {
        self.ask(Method::POST, path, body)
    }

    /// Shows each line of an answer that goes on, until `show` says that it was enough, or Ctrl-C is pressed.
    pub fn stream(
        &self,
        path: &str,
        body: String,
        mut show: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<Stream, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreached(&self.socket, error))?;
            let Begun { response, connection, _sender } = begin(stream, Method::POST, path, body).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow!(error))?;
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                return Ok(Stream::Refused(Reply { status, body }));
            }
            let mut left = Vec::new();
            let ended = loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    _pressed = tokio::signal::ctrl_c() => break Stream::Enough,
                };
                let Some(Ok(frame)) = frame else { break Stream::Broken };
                left.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
                if !lines(&mut left, &mut show)? {
                    break Stream::Enough;
                }
            };
            connection.abort();
            Ok(ended)
        })
    }

    fn ask(&self, method: Method, path: &str, body: String) -> anyhow::Result<Reply> {
        limited(CONTROL_LIMIT, async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreached(&self.socket, error))?;
            exchange(stream, method, path, body).await
        })
    }
}

impl Reply {
    /// To stdout: as it came if JSON is wanted, else as `describe` puts it for people. Both are told of an error alike.
    pub fn print(self, json: bool, describe: impl FnOnce(Self) -> anyhow::Result<String>) -> Result<(), Failure> {
        if json && self.status.is_success() {
            return output::print(&self.body);
        }
        output::print(&describe(self)?)
    }

    /// The body, if all went well; otherwise what the proxy says of it.
    pub fn read<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        if self.status.is_success() {
            return serde_json::from_str(&self.body)
                .context("the proxy's answer is not understood; is it of another version?");
        }
        Err(match serde_json::from_str::<Problem>(&self.body) {
            Ok(Problem { error, expected }) => anyhow!("{error}; expected {expected}"),
            // It always knows what to expect, or is older than the question.
            Err(_) => anyhow!("the proxy answered {}; is it of another version?", self.status),
        })
    }
}

/// Asks whoever answers, for a health check: the socket, or without one that can be reached the address.
pub fn get_by_any(contact: &Contact, path: &str, limit: Duration) -> anyhow::Result<Reply> {
    limited(limit, async {
        let mut failed = anyhow!("{} has no [admin] table, so there is nobody to ask", contact.config.display());
        if let Some(socket) = &contact.socket {
            match UnixStream::connect(socket).await {
                Ok(stream) => return exchange(stream, Method::GET, path, String::new()).await,
                Err(error) => failed = unreached(socket, error),
            }
        }
        // The system chose the port, and only the proxy knows it.
        let Some(address) = contact.address.filter(|address| address.port() != 0) else { return Err(failed) };
        let address = reachable(address);
        let stream = TcpStream::connect(address).await.with_context(|| format!("nothing answers at {address}"))?;
        exchange(stream, Method::GET, path, String::new()).await
    })
}

fn limited<T>(limit: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { tokio::time::timeout(limit, work).await })
        .unwrap_or_else(|_elapsed| Err(anyhow!("no answer within {} s", limit.as_secs())))
}

/// Shows the whole lines of `text` and leaves the rest; false if that was enough.
fn lines(text: &mut Vec<u8>, show: &mut impl FnMut(&str) -> Result<bool, Failure>) -> Result<bool, Failure> {
    let Some(end) = memchr::memrchr(b'\n', text) else { return Ok(true) };
    let rest = text.split_off(end + 1);
    let whole = std::mem::replace(text, rest);
    for line in String::from_utf8_lossy(&whole).lines() {
        if !show(line)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A request that is sent, and the head of its answer.
struct Begun {
    response: Response<Incoming>,
    /// The task that drives the connection, for as long as the sender is there.
    connection: JoinHandle<hyper::Result<()>>,
    _sender: http1::SendRequest<Full<Bytes>>,
}

async fn begin<S>(stream: S, method: Method, path: &str, body: String) -> anyhow::Result<Begun>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, whose failures are seen there.
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Full::new(Bytes::from(body))).with_context(|| format!("{path:?} is no path"))?;
    let response = sender.send_request(request).await.context("the proxy closed the connection")?;
    Ok(Begun { response, connection, _sender: sender })
}

async fn exchange<S>(stream: S, method: Method, path: &str, body: String) -> anyhow::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Begun { response, connection, _sender } = begin(stream, method, path, body).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow!(error)).context("the answer broke off")?.to_bytes();
    Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unreached(socket: &Path, error: io::Error) -> anyhow::Error {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("nothing answers at {socket}: tollgate does not run with this configuration")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("no permission for {socket}: only the user that tollgate runs as, and root, may control it")
        }
        _ => anyhow!(error).context(format!("cannot connect to {socket}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn replies_are_read_or_explained() {
        let check = |status: StatusCode, body: &str, expected: Result<u32, &str>| {
            let reply = Reply { status, body: body.to_owned() };
            assert_eq!(reply.read::<u32>().map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        };
        check(StatusCode::OK, "7", Ok(7));
        check(StatusCode::OK, "x", Err("the proxy's answer is not understood; is it of another version?"));
        check(StatusCode::NOT_FOUND, r#"{"error": "no x", "expected": "y"}"#, Err("no x; expected y"));
        check(StatusCode::BAD_GATEWAY, "", Err("the proxy answered 502 Bad Gateway; is it of another version?"));
    }

    #[test]
    fn lines_are_shown_once_they_are_whole() {
        let (mut text, mut shown) = (Vec::new(), Vec::new());
        let mut take = |piece: &str| {
            text.extend_from_slice(piece.as_bytes());
            let mut show = |line: &str| {
                shown.push(line.to_owned());
                Ok(line != "end")
            };
            lines(&mut text, &mut show).unwrap()
        };
        assert!(take("a"));
        assert!(take("b\nc\nd"));
        assert!(!take("\nend\nafter\n"));
        assert_eq!(shown, ["ab", "c", "d", "end"]);
    }

    #[test]
    fn nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client { socket: folder.path().join("none.sock") };
        let error = client.get("/livez").unwrap_err().to_string();
        assert!(error.starts_with("nothing answers at "), "{error}");
    }

    /// As many as the tables of 10,000 upstreams have, and more.
    #[tokio::test]
    async fn a_long_answer_is_read() {
        const BYTES: usize = 32 << 20;
        let (client, mut server) = tokio::io::duplex(1 << 20);
        let answers = async {
            assert_ne!(server.read(&mut [0; 1 << 10]).await.unwrap(), 0);
            server.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
            server.write_all(&vec![b'x'; BYTES]).await.unwrap();
        };
        let asked = exchange(client, Method::GET, "/live.json", String::new());
        assert_eq!(tokio::join!(asked, answers).0.unwrap().body.len(), BYTES);
    }
}
