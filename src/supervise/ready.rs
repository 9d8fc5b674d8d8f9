//! Whether a replica that has just been started can serve.
//!
//! It does once it accepts connections and, with a health check, has answered one request for its path
//! with an expected status. Whether it stays healthy is the business of the probes of its pool.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::balance::probe;
use crate::config::HealthCheck;

/// A refused connect costs nothing, so a new replica is known almost at once.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer costs the replica work, while it has enough to do with its start.
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// Why a replica is not ready yet.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("it does not accept connections: {0}")]
    Connect(io::Error),
    #[error("its health check failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("its health check failed: {0}")]
    Request(#[from] http::Error),
    #[error("its health check failed: status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("its health check failed: no answer within {0:?}")]
    Silent(Duration),
}

/// Asks until the answer is good; the error is the last one before the limit.
pub async fn wait(address: SocketAddr, health: Option<&HealthCheck>, limit: Duration) -> Result<(), NotReady> {
    let mut last = NotReady::Connect(io::ErrorKind::TimedOut.into());
    let asking = async {
        while let Err(reason) = ask(address, health).await {
            let pause = if matches!(reason, NotReady::Connect(_)) { CONNECT_PAUSE } else { ANSWER_PAUSE };
            last = reason;
            sleep(pause).await;
        }
    };
    let answered = timeout(limit, asking).await;
    answered.map_err(|_| last)
}

async fn ask(address: SocketAddr, health: Option<&HealthCheck>) -> Result<(), NotReady> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(NotReady::Connect)?,
        Err(_) => return Err(NotReady::Connect(io::ErrorKind::TimedOut.into())),
    };
    // While nobody listens, the kernel can choose this very port for our end, and connect it to itself.
    if stream.local_addr().is_ok_and(|own| own == address) {
        return Err(NotReady::Connect(io::ErrorKind::ConnectionRefused.into()));
    }
    let Some(health) = health else { return Ok(()) };
    timeout(health.timeout, get(stream, address, health)).await.unwrap_or(Err(NotReady::Silent(health.timeout)))
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    health: &HealthCheck,
) -> Result<(), NotReady> {
    let request = Request::get(&health.path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, probe::USER_AGENT)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer?,
        // A connection that has ended has given the request its result.
        _ended = &mut connection => answer.await?,
    };
    let status = answer.status();
    let expected = health.expect_status.iter().any(|range| range.contains(&status.as_u16()));
    if expected { Ok(()) } else { Err(NotReady::Status(status)) }
}

#[cfg(test)]
pub(super) mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::WhenAllFail;

    pub fn health() -> HealthCheck {
        HealthCheck {
            path: "/health?deep".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
            expect_status: vec![200..=299, 401..=401],
            expect_body: None,
            when_all_fail: WhenAllFail::UseAll,
        }
    }

    async fn check(answer: &str, expected: Result<(), &str>) {
        let (client, mut server) = tokio::io::duplex(4096);
        let address: SocketAddr = "127.0.0.1:3001".parse().unwrap();
        let serve = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(server.read_u8().await.unwrap());
            }
            server.write_all(answer.as_bytes()).await.unwrap();
            server.shutdown().await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let health = health();
        let (result, head) = tokio::join!(get(client, address, &health), serve);
        assert_eq!(head, "GET /health?deep HTTP/1.1\r\nhost: 127.0.0.1:3001\r\nuser-agent: tollgate-probe\r\n\r\n");
        assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{answer}");
    }

    #[tokio::test]
    async fn the_status_decides() {
        check("HTTP/1.1 200 OK\r\n\r\n", Ok(())).await;
        check("HTTP/1.1 401 Who\r\ncontent-length: 100\r\n\r\n", Ok(())).await;
        check("HTTP/1.1 503 Soon\r\n\r\n", Err("its health check failed: status 503")).await;
        let cut = "its health check failed: connection closed before message completed";
        check("", Err(cut)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_without_a_listener_is_not_ready() {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        let result = wait(address, None, Duration::from_secs(1)).await;
        assert!(matches!(result, Err(NotReady::Connect(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_listener_is_ready_without_a_health_check() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        wait(listener.local_addr().unwrap(), None, Duration::from_secs(30)).await.unwrap();
    }
}
