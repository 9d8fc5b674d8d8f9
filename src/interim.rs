//! Interim responses (1xx) on their way from an endpoint to the client that waits (RFC 9110 §15.2).
//!
//! Who sends a request tells them, in whatever task; the client's connection takes them and writes them. They say
//! nothing of how the request ends: after one of them another endpoint may answer, or the edge itself. So one that comes
//! too late, or that there is no room for, is left out. Nothing here keeps one, or waits for one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::Response;
use http::header::{CONTENT_LENGTH, SET_COOKIE};

use crate::config::FieldEdits;
use crate::header::CACHE_PURGE;
use crate::header::hop_by_hop::{self, Trailers};
use crate::header::via;

/// So many an endpoint may send before its answer, and so many a client is sent, over all attempts.
pub const INTERIM_MAX: u32 = 16;

/// Those that wait to be sent to one client. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Interims(Rc<State>);

#[derive(Debug, Default)]
struct State {
    /// How many more the client takes; none while it waits for no answer.
    left: Cell<u32>,
    waiting: RefCell<VecDeque<Response<()>>>,
    client: RefCell<Option<Waker>>,
}

impl Interims {
    /// A request has come. `takes` them: HTTP/1.0 has none.
    pub fn begin(&self, takes: bool) {
        self.0.left.set(if takes { INTERIM_MAX } else { 0 });
    }

    /// The answer follows.
    pub fn end(&self) {
        self.0.left.set(0);
        self.0.waiting.borrow_mut().clear();
    }

    /// The next one; in any case the task of `cx` is woken when there is another.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Response<()>> {
        if let Some(interim) = self.0.waiting.borrow_mut().pop_front() {
            return Poll::Ready(interim);
        }
        let mut client = self.0.client.borrow_mut();
        if !client.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *client = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn put(&self, interim: Response<()>) {
        let Some(left) = self.0.left.get().checked_sub(1) else { return };
        self.0.left.set(left);
        self.0.waiting.borrow_mut().push_back(interim);
        if let Some(client) = &*self.0.client.borrow() {
            client.wake_by_ref();
        }
    }
}

/// The way to a client, by the rules of its route.
#[derive(Debug, Clone, Copy)]
pub struct Relay<'a> {
    pub client: &'a Interims,
    /// What the route changes in responses.
    pub edits: &'a FieldEdits,
}

impl Relay<'_> {
    /// Passes one on, without what ends here.
    pub fn pass_on(self, mut interim: Response<()>) {
        let received = interim.version();
        let fields = interim.headers_mut();
        hop_by_hop::remove(fields, Trailers::Drop);
        // There is no content (RFC 9110 §8.6).
        fields.remove(CONTENT_LENGTH);
        // Clients may ignore it here (RFC 6265 §3). Whether a cookie may pass is decided by the answer.
        fields.remove(SET_COOKIE);
        // It is between the endpoint and the edge, and obeyed in the answer alone.
        fields.remove(CACHE_PURGE);
        // What the route says in place of the endpoint, it says in the answer.
        for name in self.edits.remove.iter().chain(self.edits.set.iter().map(|(name, _)| name)) {
            fields.remove(name);
        }
        via::append(fields, received);
        self.client.put(interim);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::header::rows::{fields, text};

    fn early(received: &str) -> Response<()> {
        let mut response = Response::builder().status(103).body(()).unwrap();
        *response.headers_mut() = fields(received);
        response
    }

    fn taken(interims: &Interims) -> Vec<Response<()>> {
        let cx = &Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match interims.poll_next(cx) {
            Poll::Ready(interim) => Some(interim),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn what_ends_here_is_taken_off() {
        let interims = Interims::default();
        interims.begin(true);
        let name = HeaderName::from_static;
        let edits = FieldEdits {
            set: vec![(name("server"), HeaderValue::from_static("edge"))],
            remove: vec![name("x-inside")],
        };
        Relay { client: &interims, edits: &edits }.pass_on(early(
            "link: </a>\nlink: </b>\nconnection: x-hop\nx-hop: 1\ncontent-length: 5\ntransfer-encoding: chunked
             set-cookie: a=1\ncache-purge: tag:inside\nserver: app\nx-inside: 7",
        ));
        let passed: Vec<_> = taken(&interims).iter().map(|interim| text(interim.headers())).collect();
        assert_eq!(passed, ["link: </a>\nlink: </b>\nvia: 1.1 tollgate"]);
    }

    #[test]
    fn a_client_is_told_as_many_as_it_takes_and_none_behind_its_answer() {
        let (interims, edits) = (Interims::default(), FieldEdits::default());
        let tell = |count: u32| {
            for _ in 0..count {
                Relay { client: &interims, edits: &edits }.pass_on(early("link: </a>"));
            }
            taken(&interims).len()
        };
        assert_eq!(tell(1), 0, "nobody waits yet");
        interims.begin(false);
        assert_eq!(tell(1), 0, "over HTTP/1.0");
        interims.begin(true);
        assert_eq!((tell(2), tell(INTERIM_MAX)), (2, INTERIM_MAX as usize - 2));
        interims.end();
        interims.begin(true);
        Relay { client: &interims, edits: &edits }.pass_on(early(""));
        interims.end();
        assert_eq!(tell(1), 0, "the answer has begun");
    }
}
