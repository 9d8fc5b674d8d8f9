//! Connections to the admin listener: accepted up to a number, and each held to time limits.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::access::Via;
use super::{Process, routes};
use crate::config;

/// 64 in all. The control socket has its own share, so that nobody on the network can use it up.
const TCP_CONNECTIONS_MAX: usize = 56;
const SOCKET_CONNECTIONS_MAX: usize = 8;
/// From the first byte of a head to its end, and for the silence between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
/// However many requests it carries, a connection is closed after this, so that a slow reader is too.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_millis(100);

/// What every connection needs.
pub struct Desk<P> {
    pub process: Rc<P>,
    /// Of the start; they hold on if `[admin]` goes away, until a restart.
    pub first_rules: config::Admin,
}

pub async fn tcp<P: Process>(listener: TcpListener, desk: Rc<Desk<P>>) {
    let accept = async || {
        let (stream, peer) = listener.accept().await?;
        let local: IpAddr = stream.local_addr()?.ip();
        Ok((stream, Via::Tcp { peer: peer.ip(), local }))
    };
    accept_all(accept, TCP_CONNECTIONS_MAX, desk).await;
}

pub async fn socket<P: Process>(listener: UnixListener, desk: Rc<Desk<P>>) {
    let accept = async || Ok((listener.accept().await?.0, Via::Socket));
    accept_all(accept, SOCKET_CONNECTIONS_MAX, desk).await;
}

/// Accepts until it is dropped, which ends the connections too.
async fn accept_all<S, P>(accept: impl AsyncFn() -> io::Result<(S, Via)>, connections_max: usize, desk: Rc<Desk<P>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Process,
{
    let mut open = JoinSet::new();
    let mut reserve = spare();
    loop {
        while open.len() >= connections_max {
            note_end(open.join_next().await);
        }
        tokio::select! {
            ended = open.join_next(), if !open.is_empty() => note_end(ended),
            accepted = accept() => match accepted {
                Ok((stream, via)) => {
                    open.spawn_local(serve(stream, via, Rc::clone(&desk)));
                    reserve = reserve.or_else(spare);
                }
                // Without a descriptor left, the one in reserve lets the operator in.
                Err(_) if reserve.take().is_some() => {}
                Err(error) => {
                    tracing::warn!("cannot accept on the admin listener: {error}");
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
        }
    }
}

/// A descriptor to give up when there are no others.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn note_end(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        tracing::error!("a connection of the admin listener failed: {error}");
    }
}

async fn serve<S, P>(stream: S, via: Via, desk: Rc<Desk<P>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Process,
{
    let service = service_fn(|request| {
        let desk = Rc::clone(&desk);
        async move {
            let rules = desk.process.rules();
            let rules = rules.as_ref().unwrap_or(&desk.first_rules);
            Ok::<_, Infallible>(routes::answer(&*desk.process, rules, via, request).await)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // A client that breaks off or sends nonsense is its own business.
        _broken = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _cut = tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::admin::testing::{FakeProcess, rules};

    async fn open() -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 << 10);
        let desk = Desk { process: Rc::new(FakeProcess::default()), first_rules: rules() };
        tokio::task::spawn_local(serve(server, Via::Socket, Rc::new(desk)));
        client
    }

    async fn to_end(mut client: DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn head_has_the_fields_of_get_and_no_body() {
        LocalSet::new()
            .run_until(async {
                let mut client = open().await;
                client.write_all(b"HEAD /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
                let answer = to_end(client).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                assert!(answer.contains("content-length: 3\r\n"), "{answer}");
                assert!(answer.ends_with("\r\n\r\n"), "{answer}");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_cut() {
        LocalSet::new()
            .run_until(async {
                let mut client = open().await;
                let start = tokio::time::Instant::now();
                client.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
                to_end(client).await;
                assert_eq!(start.elapsed().as_secs(), HEADER_TIMEOUT.as_secs());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_head_is_refused() {
        LocalSet::new()
            .run_until(async {
                let mut client = open().await;
                let head = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
                client.write_all(head.as_bytes()).await.unwrap();
                assert!(to_end(client).await.starts_with("HTTP/1.1 431 "));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_cut() {
        LocalSet::new()
            .run_until(async {
                // The pipe holds less than one answer.
                let (mut client, server) = tokio::io::duplex(64);
                let desk = Desk { process: Rc::new(FakeProcess::default()), first_rules: rules() };
                let served = tokio::task::spawn_local(serve(server, Via::Socket, Rc::new(desk)));
                let start = tokio::time::Instant::now();
                client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                served.await.unwrap();
                assert_eq!(start.elapsed(), CONNECTION_LIFE + LAST_ANSWER_TIMEOUT);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn more_connections_wait() {
        LocalSet::new()
            .run_until(async {
                let desk = Desk { process: Rc::new(FakeProcess::default()), first_rules: rules() };
                let (connect, waiting) = tokio::sync::mpsc::unbounded_channel();
                let waiting = tokio::sync::Mutex::new(waiting);
                let accept = async || {
                    let stream = waiting.lock().await.recv().await;
                    Ok((stream.ok_or(io::ErrorKind::BrokenPipe)?, Via::Socket))
                };
                let clients: Vec<_> = (0..3)
                    .map(|_| {
                        let (client, server) = tokio::io::duplex(4096);
                        connect.send(server).unwrap();
                        client
                    })
                    .collect();
                let serving = async {
                    tokio::time::timeout(HEADER_TIMEOUT / 2, accept_all(&accept, 2, Rc::new(desk))).await.unwrap_err();
                };
                serving.await;
                assert_eq!(waiting.lock().await.len(), 1);
                drop(clients);
            })
            .await;
    }
}
