//! HTTP/1.1 downstream: hyper behind the framing guard.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Downstream, FIRST_REQUEST_GRACE, HEAD_BYTES_MAX, Link, run_tunnel};
use crate::body::Body;
use crate::guard::{self, Deadlines, GuardHandle, Limits};
use crate::proxy;
use crate::worker::Worker;

/// A client that still uploads after its last answer has this long to finish, and one that does not has `LINGER`.
const LINGER_MAX: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_secs(2);
/// What one read may bring, and what may wait to be written, beside the buffers of bodies.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn serve_h1<S>(worker: Rc<Worker>, limits: Limits, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let deadlines = Deadlines { read: worker.sweep.deadline(), write: worker.sweep.deadline() };
    let (stream, guard) = guard::guarded(stream, limits, deadlines);
    let link = Link::new(downstream);
    let service = service_fn(|request| answer(&worker, &link, &guard, request));
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_header_size(HEAD_BYTES_MAX + 1024)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(stream, service);
    let mut last_request = pin!(last_request(&worker, &link));
    let (mut asked, mut told) = (false, false);
    let ended = poll_fn(|cx| {
        // What has arrived is read before an idle connection is told to end.
        let ended = poll_once(Pin::new(&mut connection), &link, &guard, cx);
        // Asked once to be woken by it, and then only when the answer may matter.
        let may_be_last = !told && (!asked || link.is_idle() || worker.is_draining());
        asked = true;
        if ended.is_pending() && may_be_last && last_request.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
            return poll_once(Pin::new(&mut connection), &link, &guard, cx);
        }
        ended
    });
    let ended = ended.await;
    if let Some(reason) = guard.violation() {
        link.open.send_timed_out.store(reason == guard::Reason::SendTimeout, Ordering::Relaxed);
        // A request that is open, or was ended by it, has it on record.
        if link.is_idle() && !link.open.refusal_counted.load(Ordering::Relaxed) {
            worker.shared.metrics.guard_refused(reason.code());
        }
    }
    match ended {
        Ended::Closed(outcome) => {
            if let Err(error) = outcome {
                tracing::debug!(peer = %link.downstream.peer, "connection ended: {error}");
            }
        }
        // Dropping the connection drops the request, whose entry in the log says that the client left.
        Ended::Vanished => return,
    }
    match link.tunnel.take() {
        Some(opened) => run_tunnel(&worker, opened, connection.into_parts().io).await,
        None => linger(&worker, &guard).await,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request's body had not ended when the upstream changed the protocol")]
struct TunnelRefused;

enum Ended {
    Closed(hyper::Result<()>),
    /// The client left while a response was being made.
    Vanished,
}

fn poll_once<S>(
    connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    link: &Link,
    guard: &GuardHandle<S>,
    cx: &mut Context<'_>,
) -> Poll<Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Poll::Ready(outcome) = connection.poll(cx) {
        return Poll::Ready(Ended::Closed(outcome));
    }
    if !link.is_idle() && guard.poll_vanished(cx).is_ready() {
        return Poll::Ready(Ended::Vanished);
    }
    Poll::Pending
}

/// Takes and drops what the client still sends after its last answer: the kernel would reset the connection
/// while the client has not read that answer (RFC 9112 §9.6).
async fn linger<S>(worker: &Worker, guard: &GuardHandle<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (silence, all) = (worker.sweep.deadline(), worker.sweep.deadline());
    silence.arm(LINGER);
    all.arm(LINGER_MAX);
    tokio::select! {
        () = guard.discard(&silence, LINGER) => {}
        () = silence.expired() => {}
        () = all.expired() => {}
        () = worker.draining_for(LINGER) => {}
    }
}

async fn answer<S>(
    worker: &Worker,
    link: &Link,
    guard: &GuardHandle<S>,
    request: Request<Incoming>,
) -> Result<Response<Body>, TunnelRefused> {
    let call = link.calls.get() + 1;
    link.calls.set(call);
    let refusal = guard.refusal().filter(|refusal| refusal.request_number == call);
    let mut response = proxy::serve(worker, link, request, refusal.map(|refusal| refusal.reason)).await;
    if link.tunnel.borrow().is_none() {
        // What the client sent after an upgrade that is not granted is never looked at.
        if guard.awaits_tunnel(call) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return Ok(response);
    }
    if guard.open_tunnel() {
        return Ok(response);
    }
    // The rest of the request's body would be taken for the first bytes of the tunnel.
    if let Some(opened) = link.tunnel.take() {
        opened.record.tunnel_failed();
    }
    Err(TunnelRefused)
}

/// Ready when the request in progress, or the first one that is still to come, is to be the last: a client
/// whose connection was accepted a moment before the drain has a request on its way.
async fn last_request(worker: &Worker, link: &Link) {
    let mut draining = worker.draining();
    let _alive = draining.wait_for(|draining| *draining).await;
    if link.calls.get() == 0 {
        worker.draining_for(FIRST_REQUEST_GRACE).await;
    }
}
