//! An HTTP/2 connection to an endpoint, which the requests of a worker share: what it carries, and how it is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use atomic_waker::AtomicWaker;
use hyper::client::conn::http2;

use super::h2_body::Uploading;
use crate::frames::Cut;

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct SharedH2 {
    pub(super) sender: http2::SendRequest<Uploading>,
    pub(super) usage: Arc<Usage>,
    /// Among those to its endpoint, in the order in which they were opened.
    pub(super) number: u64,
}

/// How an HTTP/2 connection is used by its worker, and how it is, as far as its driver and its stream have seen it.
pub struct Usage {
    /// Open at the moment.
    streams: AtomicUsize,
    served: AtomicU64,
    /// Rounds of reaping without an open stream.
    idle_rounds: AtomicU64,
    /// What the peer allows.
    pub streams_max: AtomicUsize,
    pub driver: AtomicWaker,
    /// How often something was read.
    reads: AtomicU64,
    /// When that happened last, no stream was open, and none was opened since.
    was_idle_at_read: AtomicBool,
    cut: OnceLock<Ended>,
}

/// Why the edge has cut a connection: the peer said too much.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub cut: Cut,
    /// No request was under way, so none has failed by it. One that was may have had its answer; then nobody counts it.
    pub was_idle: bool,
}

/// The HTTP/2 connection that a request went over.
pub struct Carrier {
    pub(super) usage: Arc<Usage>,
    /// When the request was sent.
    reads: u64,
}

/// One stream on a shared connection, counted until it is dropped.
pub struct OpenStream(Arc<Usage>);

impl SharedH2 {
    pub(super) fn new(sender: http2::SendRequest<Uploading>, usage: Arc<Usage>) -> Self {
        Self { sender, usage, number: 0 }
    }

    /// Counts a request that the connection carries, until the answer is dropped.
    pub(super) fn open_stream(&self) -> OpenStream {
        self.usage.open_stream()
    }

    pub(super) fn is_new(&self) -> bool {
        self.usage.served.load(Ordering::Relaxed) == 0
    }

    /// For a request that is about to be sent.
    pub(super) fn carrier(&self) -> Carrier {
        Carrier { usage: Arc::clone(&self.usage), reads: self.usage.reads() }
    }

    /// Why the edge has cut it, if it has.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.usage.ended().map(|ended| ended.cut)
    }

    /// Whether another stream fits: a second connection is made at 80 % of the peer's limit.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.usage.streams_max.load(Ordering::Relaxed);
        !self.sender.is_closed() && self.usage.streams.load(Ordering::Relaxed) * 5 < limit.saturating_mul(4)
    }

    /// Whether it has carried as many requests as one connection may.
    pub(super) fn has_served(&self, requests: u64) -> bool {
        self.usage.served.load(Ordering::Relaxed) >= requests
    }

    /// Whether no stream is open on it.
    pub(super) fn is_idle(&self) -> bool {
        self.usage.is_idle()
    }

    /// Counts a round of reaping; how many have passed since the last stream ended.
    pub(super) fn idle_rounds(&self) -> u64 {
        if !self.usage.is_idle() {
            self.usage.idle_rounds.store(0, Ordering::Relaxed);
            return 0;
        }
        self.usage.idle_rounds.fetch_add(1, Ordering::Relaxed)
    }
}

impl Usage {
    pub fn new(streams_max: usize) -> Arc<Self> {
        Arc::new(Self {
            streams: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            idle_rounds: AtomicU64::new(0),
            streams_max: AtomicUsize::new(streams_max),
            driver: AtomicWaker::new(),
            reads: AtomicU64::new(0),
            was_idle_at_read: AtomicBool::new(true),
            cut: OnceLock::new(),
        })
    }

    fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.was_idle_at_read.store(false, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }

    /// Whether no stream is open on it.
    pub fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
    }

    /// Something of the peer was read.
    pub fn note_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.was_idle_at_read.store(self.is_idle(), Ordering::Relaxed);
    }

    /// Whether no stream has been open on it since before something was read last. The codec says goodbye before it ends, and by then
    /// the requests that it has failed are gone.
    pub fn is_idle_since_read(&self) -> bool {
        self.is_idle() && self.was_idle_at_read.load(Ordering::Relaxed)
    }

    /// Keeps why the connection is cut; false: it is cut already. `was_idle` is what was seen before the requests on it could
    /// learn of it: those that have are gone.
    pub fn cut(&self, cut: Cut, was_idle: bool) -> bool {
        self.cut.set(Ended { cut, was_idle }).is_ok()
    }

    pub fn ended(&self) -> Option<Ended> {
        self.cut.get().copied()
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Carrier {
    /// Nothing was read since.
    pub(super) fn is_silent(&self) -> bool {
        self.usage.reads() == self.reads
    }
}

impl OpenStream {
    /// The peer has answered, so its settings have come: the driver is to look at them.
    pub(super) fn note_settings(&self) {
        if self.0.served.load(Ordering::Relaxed) == 1 {
            self.0.driver.wake();
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.idle_rounds.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_whose_stream_has_just_failed_was_not_idle() {
        let usage = Usage::new(100);
        assert!(usage.is_idle_since_read());
        let stream = usage.open_stream();
        assert!(!usage.is_idle() && !usage.is_idle_since_read());
        usage.note_read();
        drop(stream);
        assert!(usage.is_idle() && !usage.is_idle_since_read(), "what was read may have failed it");
        usage.note_read();
        assert!(usage.is_idle_since_read());
        drop(usage.open_stream());
        assert!(!usage.is_idle_since_read(), "what was read before may have failed it");
    }
}
