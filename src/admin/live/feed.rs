//! Events on their way to pages, as server-sent events.
//!
//! Each is built once and shared by all who listen. Who listens has a short queue; one that does not read is let go,
//! so that what waits for readers is bounded. What the events say is decided elsewhere.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::admin::access::Via;
use crate::admin::slots::{Admission, Busy, Limits, Slots};

/// Pages at one time. A browser has six connections to a host, so one that has more open waits by itself.
const PAGES: Limits = Limits { all: 24, of_a_peer: 8 };
/// Events that wait for one reader. A page is sent one a second.
const QUEUE_MAX: usize = 16;

/// Who listens.
#[derive(Debug)]
pub struct Feed {
    state: RefCell<State>,
    /// Somebody has come and there was nothing to send.
    pub wanted: Notify,
}

#[derive(Debug)]
struct State {
    places: Slots<()>,
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    queue: mpsc::Sender<Bytes>,
    listens: Busy,
}

/// The body of a response that goes on until the feed ends it, or its reader is too slow or leaves.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Bytes>,
    listens: Busy,
}

impl Default for Feed {
    fn default() -> Self {
        let state = State { places: Slots::new(PAGES), pages: Vec::new() };
        Self { state: RefCell::new(state), wanted: Notify::new() }
    }
}

impl Feed {
    /// None: there are too many. `first` is what a page is sent at once.
    pub fn join(&self, via: Via, first: impl IntoIterator<Item = Bytes>) -> Option<Events> {
        let mut state = self.state.borrow_mut();
        if state.places.admit(via) == Admission::Refused {
            return None;
        }
        let listens = Busy::default();
        listens.set(true);
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        // There is room: the queue is empty.
        first.into_iter().for_each(|event| drop(sender.try_send(event)));
        state.places.add(via, &listens, ());
        state.pages.push(Page { queue: sender, listens: Busy::clone(&listens) });
        Some(Events { queue, listens })
    }

    pub fn is_watched(&self) -> bool {
        !self.state.borrow().pages.is_empty()
    }

    /// Sends to all, and lets go who has left or does not read.
    pub fn send(&self, event: &Bytes) {
        self.state.borrow_mut().pages.retain(|page| page.queue.try_send(event.clone()).is_ok());
    }

    /// Ends what all of them read; they may ask again.
    pub fn end_all(&self) {
        self.state.borrow_mut().pages.clear();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.listens.set(false);
    }
}

impl Events {
    /// Whether the feed still sends to it; false once it was let go, also while its reader holds the end up.
    pub fn listens(&self) -> Busy {
        Busy::clone(&self.listens)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listens.set(false);
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.queue.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// One event. JSON has no line breaks, which would end it.
pub fn event(name: &str, data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        Ok(json) => format!("event: {name}\ndata: {json}\n\n").into(),
        Err(error) => {
            tracing::error!("cannot write an event as JSON: {error}");
            Bytes::from_static(b": there is an event that cannot be written\n\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn tcp(last: u8) -> Via {
        Via::Tcp { peer: IpAddr::from([10, 0, 0, last]), local: IpAddr::from([127, 0, 0, 1]) }
    }

    fn join(feed: &Feed, last: u8) -> Option<Events> {
        feed.join(tcp(last), [])
    }

    /// What is there to read now; None at the end.
    fn next(events: &mut Events) -> Option<Option<Bytes>> {
        let frame = events.frame().now_or_never()?;
        Some(frame.map(|frame| frame.unwrap().into_data().unwrap()))
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let check = |value: &str, expected: &str| assert_eq!(event("state", &value), expected);
        check("a", "event: state\ndata: \"a\"\n\n");
        check("a\nb\r\ndata: c\n\n", "event: state\ndata: \"a\\nb\\r\\ndata: c\\n\\n\"\n\n");
        check("</script>\u{2028}", "event: state\ndata: \"</script>\u{2028}\"\n\n");
    }

    #[test]
    fn all_who_listen_are_sent_the_same() {
        let feed = Feed::default();
        assert!(!feed.is_watched());
        let mut one = feed.join(tcp(1), [Bytes::from("first")]).unwrap();
        let mut other = join(&feed, 2).unwrap();
        feed.send(&Bytes::from("second"));
        assert_eq!(next(&mut one), Some(Some("first".into())));
        assert_eq!(next(&mut one), Some(Some("second".into())));
        assert_eq!(next(&mut one), None);
        assert_eq!(next(&mut other), Some(Some("second".into())));
        drop(one);
        feed.send(&Bytes::from("third"));
        assert_eq!(feed.state.borrow().pages.len(), 1);
        feed.end_all();
        assert_eq!(next(&mut other), Some(Some("third".into())));
        assert_eq!(next(&mut other), Some(None));
        assert!(!feed.is_watched());
    }

    #[test]
    fn who_does_not_read_is_let_go_and_holds_no_more_than_a_queue() {
        let feed = Feed::default();
        let (mut slow, mut quick) = (join(&feed, 1).unwrap(), join(&feed, 2).unwrap());
        let listens = slow.listens();
        for _ in 0..QUEUE_MAX {
            feed.send(&Bytes::from("x"));
            assert!(next(&mut quick).is_some());
        }
        assert!(listens.get());
        feed.send(&Bytes::from("y"));
        assert!(!listens.get());
        assert_eq!(next(&mut quick), Some(Some("y".into())));
        let mut held = 0;
        while let Some(Some(event)) = next(&mut slow) {
            assert_eq!(event, "x");
            held += 1;
        }
        assert_eq!(held, QUEUE_MAX);
    }

    #[test]
    fn pages_are_bounded_in_all_and_by_address() {
        let feed = Feed::default();
        let mut open: Vec<Events> = (0..PAGES.of_a_peer).map(|_| join(&feed, 1).unwrap()).collect();
        assert!(join(&feed, 1).is_none());
        open.extend((PAGES.of_a_peer..PAGES.all).map(|n| join(&feed, 2 + n as u8).unwrap()));
        assert!(join(&feed, 99).is_none());
        drop(open.pop());
        assert!(join(&feed, 99).is_some());
        // Who was let go makes room, also while it is still there.
        feed.end_all();
        assert!(join(&feed, 1).is_some());
    }
}
