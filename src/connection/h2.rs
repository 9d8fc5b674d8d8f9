//! HTTP/2 downstream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Downstream, Limits, Link};
use crate::body::{Paced, Source};
use crate::guard;
use crate::proxy;
use crate::timed::Timed;
use crate::timers::Deadline;
use crate::worker::Worker;

const H2_STREAMS_MAX: u32 = 128;
const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// Half of this is also what the codec lets small frames cost that nobody has read yet.
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// So many requests, or half of all, may be taken back on a connection before it is told to end: each may have
/// cost an origin some work (CVE-2023-44487).
const GIVEN_UP_MAX: u64 = 1000;
/// An idle client has this long to close after it was told to.
const GOAWAY_GRACE: Duration = Duration::from_secs(2);

pub(super) async fn serve_h2<S>(worker: Rc<Worker>, limits: Limits, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let idle = worker.sweep.deadline();
    let stream = Timed::new(stream, worker.sweep.deadline(), limits.send_timeout);
    let mut draining = worker.draining();
    let link = Rc::new(Link::new(downstream, None));
    let (of_requests, at_work) = (Rc::clone(&link), Rc::clone(&worker));
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (worker, link) = (Rc::clone(&at_work), Rc::clone(&of_requests));
        async move {
            let refused = guard::check_h2(&request).err();
            let answering = Answering::begin(&link);
            let response = proxy::serve(&worker, &link, request.map(Source::incoming), refused).await;
            answering.done();
            let stalled = STALLED.with(Deadline::clone);
            Ok::<_, Infallible>(response.map(|body| Paced::new(body, stalled, limits.send_timeout)))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(Streams(Rc::clone(&worker)))
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(guard::HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .serve_connection(stream, service)
    );
    let mut drain = pin!(async move { draining.wait_for(|draining| *draining).await.is_ok() });
    let mut told = false;
    // The preface and the first request have as long as one head.
    idle.arm(limits.header_timeout);
    let ended = poll_fn(|cx| {
        // Asked in any case, so that it wakes this task.
        let is_idle_too_long = idle.poll_expired(cx).is_ready();
        if !told && (is_idle_too_long || drain.as_mut().poll(cx).is_ready()) {
            told = true;
            idle.arm(GOAWAY_GRACE);
            connection.as_mut().graceful_shutdown();
        } else if told && link.is_idle() && is_idle_too_long {
            // The client does not react; perhaps it never sent its preface.
            return Poll::Ready(Ok(()));
        }
        let outcome = connection.as_mut().poll(cx);
        if !told && link.given_up.get() > GIVEN_UP_MAX.max(link.calls.get() / 2) {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        // Told to end, a client has little time left after its last stream.
        watch_idle(&link, &idle, if told { GOAWAY_GRACE } else { limits.idle_timeout });
        outcome
    });
    if let Err(error) = ended.await {
        tracing::debug!(peer = %link.downstream.peer, "connection ended: {error}");
    }
}

/// Counts a request that its client takes back before it is answered.
struct Answering<'a>(Option<&'a Link>);

impl<'a> Answering<'a> {
    fn begin(link: &'a Link) -> Self {
        link.calls.set(link.calls.get() + 1);
        Self(Some(link))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            link.given_up.set(link.given_up.get() + 1);
        }
    }
}

tokio::task_local! {
    /// Passes when the client takes nothing of the response for too long.
    static STALLED: Deadline;
}

/// Runs each stream as a task of its own, on its worker, and ends it when it has stalled: then hyper resets it.
#[derive(Clone)]
struct Streams(Rc<Worker>);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let stalled = self.0.sweep.deadline();
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = STALLED.scope(stalled.clone(), stream) => {}
                () = stalled.expired() => {}
            }
        });
    }
}

/// The time without a stream counts from the end of the last one.
fn watch_idle(link: &Link, idle: &Deadline, limit: Duration) {
    if !link.is_idle() {
        idle.disarm();
    } else if !idle.is_armed() && !idle.is_expired() {
        idle.arm_idle(limit);
    }
}
