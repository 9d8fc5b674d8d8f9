//! HTTP/2 downstream.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderMap;
use http_body::Body as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};

use super::batched::Batched;
use super::framed::{Framed, Turn};
use super::heads::{Heads, NoRoom, Room, Trailed};
use super::{Downstream, Limits, Link};
use crate::body::{Paced, Source, Taking};
use crate::frames::{self, Cut};
use crate::guard;
use crate::header::cookies;
use crate::pace::Terms;
use crate::proxy::{self, Served};
use crate::tcp::Peer;
use crate::timed::Timed;
use crate::timers::Deadline;
use crate::worker::Worker;

const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// Half of this is also what the codec lets small frames cost that nobody has read yet.
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// An idle client has this long to close after it was told to.
const GOAWAY_GRACE: Duration = Duration::from_secs(2);

pub(super) async fn serve_h2<S>(worker: Rc<Worker>, limits: Limits, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Peer + Unpin + 'static,
{
    let idle = worker.sweep.deadline();
    let heads = Heads::new(Rc::clone(&worker.heads));
    let framed = Framed::new(stream, Rc::clone(&worker.sweep), limits.header_timeout, Rc::clone(&heads));
    let turn = framed.turn();
    let stream = Batched::new(Timed::new(framed, worker.sweep.deadline(), limits.sending));
    let written = stream.clone();
    let mut draining = worker.draining();
    let link = Rc::new(Link::new(downstream, None));
    let streams = Streams { worker: Rc::clone(&worker), sending: limits.sending, are_at_hand: Rc::default() };
    let serving = Serving { worker: Rc::clone(&worker), link: Rc::clone(&link), heads, turn: Rc::clone(&turn) };
    let mut connection = pin!(
        http2::Builder::new(streams)
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(guard::H2_HEAD_BYTES_MAX)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .serve_connection(stream, service_fn(move |request| serving.answer(request)))
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
        turn.begin();
        let outcome = connection.as_mut().poll(cx);
        // A request may come and be answered between two looks at the connection.
        if turn.take_asked() {
            idle.disarm();
        }
        // Told to end, a client has little time left after its last stream.
        watch_idle(&link, &idle, if told { GOAWAY_GRACE } else { limits.idle_timeout });
        match (outcome, written.poll_send(cx)) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(Broken::Stream(error))),
            (outcome, _) => outcome.map_err(Broken::Codec),
        }
    });
    if let Err(error) = ended.await {
        note_end(&worker, &link, turn.cut(), &error);
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Codec(hyper::Error),
    /// What was gathered could not be sent.
    #[error(transparent)]
    Stream(io::Error),
}

/// A connection that was too much is told of; others end in errors every day.
fn note_end(worker: &Worker, link: &Link, cut: Option<Cut>, error: &Broken) {
    let peer = link.downstream.peer;
    let is_calmed = matches!(error, Broken::Codec(error) if frames::is_calmed(error));
    match cut.or(is_calmed.then_some(Cut::Codec)) {
        Some(cut) => {
            worker.shared.metrics.h2_connection_cut(cut.code());
            tracing::info!(%peer, reason = cut.code(), "HTTP/2 connection cut off");
        }
        None => tracing::debug!(%peer, "connection ended: {error}"),
    }
}

/// What a stream is served with.
struct Serving {
    worker: Rc<Worker>,
    link: Rc<Link>,
    heads: Rc<Heads>,
    turn: Rc<Turn>,
}

type Request = http::Request<hyper::body::Incoming>;

/// A request whose head has been judged, and the room that it takes; no room for one that is refused.
struct Admitted {
    request: Request,
    room: Result<Room, guard::Reason>,
    trailed: Option<Trailed>,
}

impl Serving {
    /// An error resets the stream.
    fn answer(&self, request: Request) -> impl Future<Output = Result<http::Response<Paced>, h2::Error>> + use<> {
        // Before the first turn of its task, since until then the codec hands out one head after the other.
        let admitted = self.admit(request);
        self.turn.ask();
        let (worker, link) = (Rc::clone(&self.worker), Rc::clone(&self.link));
        async move {
            let Admitted { request, room, trailed } = admitted?;
            let (room, refused) = room.map_or_else(|reason| (None, Some(reason)), |room| (Some(room), None));
            STREAM.with(|stream| stream.held.replace((room, trailed)));
            // Boxed, so that it goes with the head of the response; in the task it would stay for the body's time.
            let mut request = request.map(|body| {
                (!body.is_end_stream()).then(|| Source::incoming(body).trailers_at_most(guard::FIELDS_MAX))
            });
            let Served { mut response, names, .. } =
                Box::pin(proxy::serve(&worker, &link, &mut request, refused)).await;
            if let Some(names) = names {
                names.insert(response.headers_mut());
            }
            let taking = STREAM.with(|stream| Rc::clone(&stream.taking));
            Ok(response.map(|body| Paced::new(body, taking)))
        }
    }

    fn admit(&self, mut request: Request) -> Result<Admitted, h2::Error> {
        let sent = self.turn.head();
        let room = match guard::check_h2(&request) {
            Ok(()) => {
                cookies::join(request.headers_mut());
                match self.heads.room(guard::head_cost(&request, sent.bytes)) {
                    Ok(room) => Ok(room),
                    Err(NoRoom::InProcess) => Err(guard::Reason::HeadMemory),
                    // It has done nothing yet, so the client may try again (RFC 9113 §8.7).
                    Err(NoRoom::OnConnection) => {
                        self.worker.shared.metrics.h2_stream_refused();
                        self.turn.refuse();
                        return Err(h2::Reason::REFUSED_STREAM.into());
                    }
                }
            }
            Err(reason) => Err(reason),
        };
        if room.is_err() {
            *request.headers_mut() = HeaderMap::new();
        }
        let trailed = (!request.body().is_end_stream()).then(|| self.heads.await_trailers(sent.stream));
        Ok(Admitted { request, room, trailed })
    }
}

tokio::task_local! {
    static STREAM: Stream;
}

/// What lasts as long as a stream.
struct Stream {
    /// How the client takes the response.
    taking: Rc<Taking>,
    /// What its head takes, and its trailers.
    held: RefCell<(Option<Room>, Option<Trailed>)>,
}

/// Runs each stream on its worker and ends it when it has stalled: then hyper resets it. One that has to wait is a task of
/// its own.
#[derive(Clone)]
struct Streams {
    worker: Rc<Worker>,
    sending: Terms,
    /// The last stream was over at its first turn, so the next may be too.
    are_at_hand: Rc<Cell<bool>>,
}

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, task: F) {
        let taking = Taking::new(Rc::clone(&self.worker.sweep), self.sending);
        let stream = async move {
            let stream = Stream { taking: Rc::clone(&taking), held: RefCell::default() };
            tokio::select! {
                biased;
                _ = STREAM.scope(stream, task) => {}
                () = taking.stalled() => {}
            }
        };
        if self.are_at_hand.get() {
            self.answer_at_once(Box::pin(stream));
        } else {
            tokio::task::spawn_local(self.answer_in_turn(Box::pin(stream)));
        }
    }
}

impl Streams {
    /// Needs no task, unless it waits: then its own, which it wakes, asks it again.
    fn answer_at_once(&self, mut stream: Pin<Box<impl Future<Output = ()> + 'static>>) {
        // A panic ends its stream and no other, as it would in a task.
        let turn = AssertUnwindSafe(|| stream.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        if let Ok(Poll::Pending) = catch_unwind(turn) {
            self.are_at_hand.set(false);
            tokio::task::spawn_local(stream);
        }
    }

    /// In a box, since a task is moved several times as it is made and when it ends.
    fn answer_in_turn<F: Future<Output = ()>>(&self, mut stream: Pin<Box<F>>) -> impl Future<Output = ()> + use<F> {
        let are_at_hand = Rc::clone(&self.are_at_hand);
        async move {
            let mut is_first = true;
            poll_fn(|cx| {
                let turn = stream.as_mut().poll(cx);
                if std::mem::take(&mut is_first) {
                    are_at_hand.set(turn.is_ready());
                }
                turn
            })
            .await;
        }
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
