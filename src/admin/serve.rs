//! Connections to the admin listener: accepted as long as there are places, and each held to time limits.

use std::cell::RefCell;
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
use tokio::task::{AbortHandle, JoinSet};

use super::access::Via;
use super::answer::Content;
use super::live::Live;
use super::slots::{Admission, Busy, Limits, Slots};
use super::{Process, routes};
use crate::config;
use crate::telemetry::access_log::Reading;

/// 64 in all. The control socket has its own share, so that nobody on the network can use it up.
const TCP_LIMITS: Limits = Limits { all: 56, of_a_peer: 16 };
const SOCKET_LIMITS: Limits = Limits { all: 8, of_a_peer: 8 };
/// From the first byte of a head to its end, and for the silence between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
/// However many requests it carries, a connection is closed after this, so that a slow reader is too. One that carries
/// events or the log goes on as long as it takes them.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_millis(100);

/// What every connection needs.
pub struct Desk<P> {
    pub process: Rc<P>,
    /// Of the start; they hold on if `[admin]` goes away, until a restart.
    pub first_rules: config::Admin,
    pub live: Live,
}

impl<P: Process> Desk<P> {
    /// The rules of this moment.
    pub fn rules(&self) -> config::Admin {
        self.process.rules().unwrap_or_else(|| self.first_rules.clone())
    }
}

pub async fn tcp<P: Process>(listener: TcpListener, desk: Rc<Desk<P>>) {
    let accept = async || {
        let (stream, peer) = listener.accept().await?;
        let local: IpAddr = stream.local_addr()?.ip();
        Ok((stream, Via::Tcp { peer: peer.ip(), local }))
    };
    accept_all(accept, TCP_LIMITS, desk).await;
}

pub async fn socket<P: Process>(listener: UnixListener, desk: Rc<Desk<P>>) {
    let accept = async || Ok((listener.accept().await?.0, Via::Socket));
    accept_all(accept, SOCKET_LIMITS, desk).await;
}

/// Accepts until it is dropped, which ends the connections too.
async fn accept_all<S, P>(accept: impl AsyncFn() -> io::Result<(S, Via)>, limits: Limits, desk: Rc<Desk<P>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Process,
{
    let mut open = JoinSet::new();
    let mut slots: Slots<AbortHandle> = Slots::new(limits);
    let mut reserve = spare();
    loop {
        tokio::select! {
            ended = open.join_next(), if !open.is_empty() => note_end(ended),
            accepted = accept() => match accepted {
                Ok((stream, via)) => {
                    reserve = reserve.or_else(spare);
                    match slots.admit(via) {
                        Admission::Free => {}
                        Admission::InPlaceOf(other) => other.abort(),
                        Admission::Refused => continue,
                    }
                    let busy = Busy::default();
                    let served = serve(stream, via, Rc::clone(&desk), Rc::clone(&busy));
                    slots.add(via, &busy, open.spawn_local(served));
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
    if let Some(Err(error)) = ended
        && !error.is_cancelled()
    {
        tracing::error!("a connection of the admin listener failed: {error}");
    }
}

async fn serve<S, P>(stream: S, via: Via, desk: Rc<Desk<P>>, busy: Busy)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Process,
{
    let (listens, reading) = (RefCell::new(Busy::default()), RefCell::new(Reading::default()));
    let service = service_fn(|request| {
        let (desk, busy, listens, reading) = (Rc::clone(&desk), Rc::clone(&busy), &listens, &reading);
        async move {
            busy.set(true);
            let answer = routes::answer((&*desk.process, &desk.live), &desk.rules(), via, request).await;
            match answer.body() {
                Content::Whole(_) => busy.set(false),
                // It stays at work.
                Content::Events(events) => drop(listens.replace(events.listens())),
                Content::Lines(following) => drop(reading.replace(following.reading())),
            }
            Ok::<_, Infallible>(answer)
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
    loop {
        tokio::select! {
            // A client that breaks off or sends nonsense is its own business.
            _broken = connection.as_mut() => return,
            () = tokio::time::sleep(CONNECTION_LIFE) => {}
        }
        // Who reads events is as quick as they come, or listens no longer.
        if !listens.borrow().get() && !reading.borrow().goes_on() {
            break;
        }
    }
    connection.as_mut().graceful_shutdown();
    let _cut = tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::admin::testing::{FakeProcess, desk};

    async fn open() -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 << 10);
        let desk = desk(FakeProcess::default());
        tokio::task::spawn_local(serve(server, Via::Socket, Rc::new(desk), Busy::default()));
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
                let desk = desk(FakeProcess::default());
                let served = tokio::task::spawn_local(serve(server, Via::Socket, Rc::new(desk), Busy::default()));
                let start = tokio::time::Instant::now();
                client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                served.await.unwrap();
                assert_eq!(start.elapsed(), CONNECTION_LIFE + LAST_ANSWER_TIMEOUT);
            })
            .await;
    }

    /// The page is sent events for much longer than a connection lives, and one that is not read is cut.
    #[tokio::test(start_paused = true)]
    async fn events_outlive_a_connection_as_long_as_they_are_read() {
        LocalSet::new()
            .run_until(async {
                let (mut client, server) = tokio::io::duplex(64 << 10);
                let desk = Rc::new(desk(FakeProcess::default()));
                let sampling = tokio::task::spawn_local(crate::admin::live::run(Rc::clone(&desk)));
                let served = tokio::task::spawn_local(serve(server, Via::Socket, desk, Busy::default()));
                let start = tokio::time::Instant::now();
                client.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let mut some = [0; 16 << 10];
                while start.elapsed() < 10 * CONNECTION_LIFE {
                    assert_ne!(client.read(&mut some).await.unwrap(), 0);
                }
                let stopped = tokio::time::Instant::now();
                served.await.unwrap();
                // The pipe and the queue have to be full first.
                assert!(stopped.elapsed() > LAST_ANSWER_TIMEOUT && stopped.elapsed() < 20 * CONNECTION_LIFE);
                sampling.abort();
            })
            .await;
    }

    /// Serves connections that come over a channel, two at a time.
    async fn with_two_places<F: Future>(test: impl FnOnce(mpsc::UnboundedSender<(DuplexStream, Via)>) -> F) {
        let desk = desk(FakeProcess::default());
        let (connect, coming) = mpsc::unbounded_channel();
        let coming = tokio::sync::Mutex::new(coming);
        let accept = async || coming.lock().await.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into());
        LocalSet::new()
            .run_until(async {
                tokio::select! {
                    () = accept_all(&accept, Limits { all: 2, of_a_peer: 2 }, Rc::new(desk)) => unreachable!(),
                    _ended = test(connect) => {}
                }
            })
            .await;
    }

    /// Slow heads hold a place for `HEADER_TIMEOUT`, and are replaced as soon as it is wanted.
    #[tokio::test(start_paused = true)]
    async fn slow_heads_cannot_lock_the_operator_out() {
        with_two_places(async |connect| {
            let open = || {
                let (client, server) = tokio::io::duplex(4096);
                connect.send((server, Via::Socket)).unwrap();
                client
            };
            let start = tokio::time::Instant::now();
            let mut slow = Vec::new();
            for _ in 0..50 {
                let mut client = open();
                client.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
                slow.push(client);
                tokio::task::yield_now().await;
            }
            let mut operator = open();
            operator.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            assert!(to_end(operator).await.starts_with("HTTP/1.1 200 "));
            assert_eq!(start.elapsed(), Duration::ZERO);
        })
        .await;
    }
}
