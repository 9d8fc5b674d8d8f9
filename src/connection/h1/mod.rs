//! HTTP/1.1 downstream: a codec of our own, whose reader is the guard.
//!
//! hyper's server would parse what the guard has judged once more, runs each request through a dispatcher and its
//! write queue, and cannot be told why a head is refused. Here one task reads, answers and writes, and an idle
//! connection keeps no buffer.
//!
//! `head` is pure; `input` is what a client sends, `upload` the body of a request on its way to who takes it,
//! `output` what waits to be written; `codec` runs them together.

mod codec;
mod head;
mod input;
mod output;
#[cfg(test)]
mod tests;
mod upload;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use self::codec::{Broken, Codec, Next};
pub use self::head::{Asked, Stamp, read as read_request_head, write as write_head};
use super::{Downstream, FIRST_REQUEST_GRACE, Limits, Link, reason_of, run_tunnel};
use crate::body::Body;
use crate::guard::Reason;
use crate::proxy::{self, Served};
use crate::tcp::Peer;
use crate::worker::Worker;

/// A client that still uploads after its last answer has this long to finish, and one that does not has `LINGER`.
const LINGER_MAX: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_secs(2);

/// How a connection goes on after its last request.
enum End {
    /// The client may still be sending.
    InOrder,
    /// As another protocol.
    Tunnel(proxy::Opened),
    /// In the middle of a response, whose client has to see that. What it has not taken is not kept for it.
    Cut,
    /// Nobody is there.
    Gone,
}

pub(super) async fn serve_h1<S>(worker: Rc<Worker>, limits: Limits, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Peer + Unpin + 'static,
{
    let mut codec = Codec::new(stream, limits, worker.sweep.deadline(), worker.sweep.deadline());
    let link = Link::new(downstream, Some(codec.interims()));
    let end = serve_requests(&worker, &link, &mut codec).await;
    if let Some(reason) = codec.violation() {
        count_unless_on_record(&worker, &link, reason);
    }
    match end {
        End::InOrder => linger(&worker, &mut codec).await,
        End::Tunnel(opened) => run_tunnel(&worker, opened, codec.into_tunnel()).await,
        End::Cut => codec.reset(),
        End::Gone => {}
    }
}

async fn serve_requests<S>(worker: &Worker, link: &Link, codec: &mut Codec<S>) -> End
where
    S: AsyncRead + AsyncWrite + Peer + Unpin,
{
    let mut last_request = pin!(last_request(worker, link));
    let (mut asked, mut told) = (false, false);
    // Asked once to be woken by it, and then only when the answer may matter.
    let mut is_last = |cx: &mut Context<'_>| {
        if !told && (worker.is_draining() || !asked) {
            asked = true;
            told = last_request.as_mut().poll(cx).is_ready();
        }
        told
    };
    loop {
        let Served { response, names, prepared } = {
            // If it is refused, what stands in its place is on record as unread.
            let mut request = Request::new(None);
            let refused = match codec.next(&mut request, &mut is_last).await {
                Next::Request => None,
                Next::Refused(reason) => Some(reason),
                Next::End => return End::InOrder,
            };
            link.calls.set(link.calls.get() + 1);
            // Dropping what is made of the request drops its record, whose entry in the log says that the client left.
            match codec.during(pin!(proxy::serve(worker, link, &mut request, refused))).await {
                Ok(answered) => answered,
                Err(_) => return End::Gone,
            }
        };
        let opened = match link.tunnel.take() {
            // The rest of the request's body would be taken for the first bytes of the tunnel.
            Some(opened) if !codec.may_tunnel() => {
                opened.record.tunnel_failed();
                return End::InOrder;
            }
            opened => opened,
        };
        let is_last = poll_fn(|cx| Poll::Ready(is_last(cx))).await;
        let (head, body) = response.into_parts();
        let mut body = Some(body);
        let stamp = Stamp { date: &worker.date.text(), names, prepared };
        match (codec.respond(head, &mut body, is_last, stamp).await, opened) {
            (Ok(_), Some(opened)) => return End::Tunnel(opened),
            (Ok(true), None) => {}
            (Ok(false) | Err(Broken::Cut), _) => return End::InOrder,
            (Err(Broken::CutUnseen), _) => return End::Cut,
            (Err(Broken::Stalled(stalled)), _) => {
                let reason = reason_of(stalled);
                // The record, which ends with the body, asks for it.
                let _first = link.open.given_up.set(reason);
                body.into_iter().for_each(Body::abandon);
                count_unless_on_record(worker, link, reason);
                // In order, the kernel would go on with what it holds, at a pace that was too slow.
                return End::Cut;
            }
            (Err(Broken::Gone), _) => {
                body.into_iter().for_each(Body::abandon);
                return End::Gone;
            }
        }
    }
}

/// What the client did is in the record of a request that is open, or was ended by it.
fn count_unless_on_record(worker: &Worker, link: &Link, reason: Reason) {
    if link.is_idle() && !link.open.refusal_counted.load(Ordering::Relaxed) {
        worker.shared.metrics.guard_refused(reason.code());
    }
}

/// Takes and drops what the client still sends after its last answer: the kernel would reset the connection
/// while the client has not read that answer (RFC 9112 §9.6).
async fn linger<S>(worker: &Worker, codec: &mut Codec<S>)
where
    S: AsyncRead + AsyncWrite + Peer + Unpin,
{
    // In this turn: what is behind may have to wait for the next one, and the last bytes with it.
    let _is_shut = poll_fn(|cx| Poll::Ready(codec.poll_shutdown(cx))).await;
    let (silence, all) = (worker.sweep.deadline(), worker.sweep.deadline());
    silence.arm(LINGER);
    all.arm(LINGER_MAX);
    tokio::select! {
        () = codec.discard(&silence, LINGER) => {}
        () = silence.expired() => {}
        () = all.expired() => {}
        () = worker.draining_for(LINGER) => {}
    }
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
