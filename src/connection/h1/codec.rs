//! One HTTP/1.1 connection: requests are taken one after the other, and each is answered before the next.
//!
//! While a response is made, and while it is sent, the request's body is read for whoever takes it, and a client
//! that leaves is noticed. All of it is one task, which polls the socket and the response in turn.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Method, Request, response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::head::{self, Asked, Begun, Framing, Stamp};
use super::input::{self, Input};
use super::output::Output;
use super::upload::Upload;
use crate::body::{Body, Source};
use crate::connection::Limits;
use crate::guard::{self, Phase, Reason, Then};
use crate::interim::Interims;
use crate::pace::Stalled;
use crate::spare;
use crate::splice::{self, Pipe};
use crate::tcp::Peer;
use crate::timed::WriteLimit;
use crate::timers::Deadline;
use crate::tunnel::Resumed;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Of what a client still sends when its connection is over, so much within each limit shows that it uploads.
/// One that sends a byte now and then wins no time.
const DISCARD_STEP: usize = 16 * 1024;

pub struct Codec<S> {
    stream: S,
    input: Input,
    output: Output,
    writing: WriteLimit,
    asked: Asked,
    /// The body of the request, if it has one.
    upload: Option<Upload>,
    /// The client has said that this request is its last.
    has_said_all: bool,
    /// The client waits to be told that its body is wanted.
    owes_continue: bool,
    /// What it is told before its answer.
    interims: Interims,
    is_shut: bool,
}

/// What a client sends next.
pub enum Next {
    Request,
    Refused(Reason),
    End,
}

/// What happens beside a response.
enum Beside {
    /// There is something for who takes the request's body.
    Fed,
    Gone,
}

/// Why a response was not sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The client left.
    Gone,
    /// The client took nothing, or too little.
    Stalled(Stalled),
    /// Its body ended early, which the client sees.
    Cut,
    /// Its body ended early, and the end of the connection would be taken for its own.
    CutUnseen,
}

impl<S> Codec<S> {
    pub fn new(stream: S, limits: Limits, reading: Deadline, writing: Deadline) -> Self {
        let input = Input::new(limits, reading);
        let writing = WriteLimit::new(writing, limits.sending);
        let output = Output::default();
        let (asked, interims) = (Asked::default(), Interims::default());
        let (has_said_all, owes_continue, is_shut) = (false, false, false);
        Self { stream, input, output, writing, asked, upload: None, has_said_all, owes_continue, interims, is_shut }
    }

    /// Where to put what the client is told before its answer.
    pub fn interims(&self) -> Interims {
        self.interims.clone()
    }

    /// Why the body of a request was cut off.
    pub fn violation(&self) -> Option<Reason> {
        self.input.violation()
    }

    /// Whether bytes of another protocol may follow: the last request asked for it, and has been read to its end.
    pub fn may_tunnel(&self) -> bool {
        self.input.phase() == Phase::Held
    }

    /// The bytes behind the last request: those that have come, then the stream.
    pub fn into_tunnel(self) -> Resumed<S> {
        Resumed { early: self.input.into_unread(), stream: self.stream }
    }
}

impl<S: AsyncRead + AsyncWrite + Peer + Unpin> Codec<S> {
    /// Waits for a request, which goes into `request`, that is new and stays so if there is none; without a body if there
    /// is none to read. A connection that has nothing of one ends when it `is_last`, which is asked when there is nothing
    /// to read.
    pub async fn next(
        &mut self,
        request: &mut Request<Option<Source>>,
        is_last: &mut impl FnMut(&mut Context<'_>) -> bool,
    ) -> Next {
        // What is refused asks for nothing, not to be kept either.
        self.asked = Asked::default();
        self.upload = None;
        self.has_said_all = false;
        let next = poll_fn(|cx| {
            let next = self.input.poll_head(cx, &mut self.stream);
            if next.is_pending() && is_last(cx) && self.input.phase() != Phase::Head {
                return Poll::Ready(input::Next::End);
            }
            next
        });
        match next.await {
            input::Next::Head(complete, head) => match head::read(&head, self.input.lines(), &complete, request) {
                Some(()) => {
                    self.begin(&complete, request);
                    Next::Request
                }
                None => {
                    *request = Request::new(None);
                    Next::Refused(Reason::BadTarget)
                }
            },
            input::Next::Refused(reason) => Next::Refused(reason),
            input::Next::End => Next::End,
        }
    }

    fn begin(&mut self, complete: &guard::Complete, request: &mut Request<Option<Source>>) {
        self.asked = Asked {
            is_http10: complete.is_http10,
            is_head: *request.method() == Method::HEAD,
            keeps_alive: complete.then == Then::Request,
            takes_trailers: complete.takes_trailers,
        };
        self.has_said_all = complete.then == Then::Nothing;
        self.interims.begin(!complete.is_http10);
        if complete.body == guard::Body::Length(0) {
            self.input.end_message();
            return;
        }
        self.owes_continue = complete.expects_continue;
        self.input.begin_body();
        let upload = self.upload.insert(Upload::new(complete.body));
        *request.body_mut() = Some(Source::arriving(upload.arrival()));
    }

    /// Waits for what is made of the request.
    pub async fn during<F: Future>(&mut self, mut making: Pin<&mut F>) -> Result<F::Output, Broken> {
        poll_fn(|cx| {
            loop {
                let made = making.as_mut().poll(cx);
                self.take_interims(cx);
                if let Poll::Ready(made) = made {
                    return Poll::Ready(Ok(made));
                }
                let beside = self.poll_beside(cx);
                // A client may have been told to go on, or of what is to come.
                if let Poll::Ready(Err(broken)) = self.poll_write(cx) {
                    return Poll::Ready(Err(broken));
                }
                if let Beside::Gone = ready!(beside) {
                    return Poll::Ready(Err(Broken::Gone));
                }
            }
        })
        .await
    }

    /// Queues what came before the answer; a client that is far behind does without.
    fn take_interims(&mut self, cx: &Context<'_>) {
        while let Poll::Ready(interim) = self.interims.poll_next(cx) {
            if !self.output.is_full() {
                head::write_interim(&interim, self.output.text());
            }
            spare::keep_fields(interim.into_parts().0.headers);
        }
    }

    /// Sends a response. Its body is dropped at its end, and left to the caller if it is not sent to that. Says whether
    /// another request may follow.
    pub async fn respond(
        &mut self,
        head: response::Parts,
        body: &mut Option<Body>,
        is_last: bool,
        stamp: Stamp<'_>,
    ) -> Result<bool, Broken> {
        self.owes_continue = false;
        self.interims.end();
        self.input.lift_rate();
        // An answer to half a request is the last: what is left of that may never come, and the client is told at once.
        let is_early = self.upload.as_ref().is_some_and(|upload| !upload.has_ended());
        let keeps_alive = self.asked.keeps_alive && !is_last && !is_early && self.violation().is_none();
        let size = body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
        let mut begun = head::write(&head, size, Asked { keeps_alive, ..self.asked }, &stamp, self.output.text());
        // Content may take as long as it likes.
        drop(stamp);
        spare::keep_fields(head.headers);
        if begun.framing == Framing::None {
            *body = None;
        }
        poll_fn(|cx| self.poll_respond(cx, body, &mut begun)).await?;
        Ok(begun.keeps_alive && matches!(self.input.phase(), Phase::Between | Phase::Head))
    }

    fn poll_respond(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Option<Body>,
        begun: &mut Begun,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let more = self.poll_more(cx, body, begun);
            if begun.is_last && !begun.is_cut && (begun.is_queued || body.is_none()) {
                self.output.end();
            }
            match self.poll_write(cx) {
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Ready(Ok(())) if begun.is_queued || body.is_none() => {
                    // Only now has it been sent to its end.
                    *body = None;
                    return Poll::Ready(match begun.framing {
                        _ if !begun.is_cut => Ok(()),
                        Framing::UntilClose => Err(Broken::CutUnseen),
                        _ => Err(Broken::Cut),
                    });
                }
                // There was no room for all that the body has.
                Poll::Ready(Ok(())) if more.is_ready() => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if let Beside::Gone = ready!(self.poll_beside(cx)) {
                return Poll::Ready(Err(Broken::Gone));
            }
        }
    }

    /// Queues what the body has, up to a bound; pending if it has nothing more yet.
    fn poll_more(&mut self, cx: &mut Context<'_>, body: &mut Option<Body>, begun: &mut Begun) -> Poll<()> {
        while let Some(source) = body
            && !begun.is_queued
            && !self.output.is_full()
        {
            if ready!(self.poll_splice(cx, source, begun)) {
                if !begun.is_queued && source.is_end_stream() {
                    self.output.finish(None, begun);
                    begun.is_queued = true;
                }
                continue;
            }
            match ready!(Pin::new(&mut *source).poll_frame(cx)).map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    self.output.put(data, begun);
                    if !source.is_end_stream() {
                        continue;
                    }
                    self.output.finish(None, begun);
                }
                Some(Ok(Err(last))) => self.output.finish(last.trailers_ref(), begun),
                Some(Err(_)) => begun.is_cut = true,
                None => self.output.finish(None, begun),
            }
            begun.is_queued = true;
        }
        Poll::Ready(())
    }

    /// Moves long content from the endpoint to the client; false if what comes next is to be read.
    fn poll_splice(&mut self, cx: &mut Context<'_>, body: &mut Body, begun: &mut Begun) -> Poll<bool> {
        let Framing::Length(left) = begun.framing else { return Poll::Ready(false) };
        // A client that is behind is served in the usual way until it has caught up.
        if !splice::is_worth(left) || !body.may_splice() || self.writing.is_blocked() {
            return Poll::Ready(false);
        }
        let Some(client) = self.stream.bare() else { return Poll::Ready(false) };
        let Some(mut pipe) = Pipe::take(left) else { return Poll::Ready(false) };
        if !ready!(body.poll_splice(cx, &mut pipe)) {
            return Poll::Ready(false);
        }
        begun.is_cut |= self.output.put_piped((pipe, client), &mut self.writing, begun).is_err();
        begun.is_queued |= begun.is_cut;
        Poll::Ready(true)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let written = ready!(self.output.poll_write(cx, &mut self.stream, &mut self.writing));
        Poll::Ready(written.map_err(|error| {
            let stalled = error.get_ref().and_then(|cause| cause.downcast_ref().copied());
            stalled.map_or(Broken::Gone, Broken::Stalled)
        }))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<Beside> {
        if let Some(upload) = &self.upload
            && let Some(mut state) = upload.wanted(cx)
        {
            if std::mem::take(&mut self.owes_continue) {
                self.output.text().extend_from_slice(CONTINUE);
            }
            ready!(self.input.poll_body(cx, &mut self.stream, &mut state));
            return Poll::Ready(Beside::Fed);
        }
        ready!(self.input.poll_vanished(cx, &mut self.stream));
        Poll::Ready(Beside::Gone)
    }

    /// The client has said what its last request is, and that has been read to its end with nothing behind it.
    fn is_over(&self) -> bool {
        self.has_said_all
            && self.input.phase() == Phase::Ended
            && self.violation().is_none()
            && !self.input.has_unread()
    }

    /// Breaks the connection off.
    pub fn reset(self) {
        self.stream.reset_at_end();
    }

    /// Sends the end of what is written, for which the last of it may wait.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_shut {
            let _broken = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.is_shut = true;
        }
        Poll::Ready(())
    }

    /// Ends the connection in order after its last response: nothing more is sent, and what the client still sends
    /// is thrown away, until it has closed. Closing a socket on unread bytes resets it, which can destroy
    /// the response on its way (RFC 9112 §9.6). The limit of `silence` begins anew as long as the client is
    /// sending at a good rate; the caller waits for it, and bounds the whole.
    pub async fn discard(&mut self, silence: &Deadline, limit: Duration) {
        let is_over = self.is_over();
        poll_fn(|cx| self.poll_shutdown(cx)).await;
        let mut discarded = 0;
        while let bytes @ 1.. = poll_fn(|cx| match self.input.poll_discard(cx, &mut self.stream) {
            // Nothing is on its way that the kernel could reset the connection for.
            Poll::Pending if is_over => Poll::Ready(0),
            read => read,
        })
        .await
        {
            discarded += bytes;
            if discarded >= DISCARD_STEP {
                discarded = 0;
                silence.arm(limit);
            }
        }
    }
}
