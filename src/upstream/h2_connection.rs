//! An HTTP/2 connection to an endpoint, which the requests of a worker share: what it carries, and how it is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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

/// How an HTTP/2 connection is used by this worker.
pub struct Usage {
    /// Open at the moment.
    streams: AtomicUsize,
    vitals: Arc<Vitals>,
    served: AtomicU64,
    /// Rounds of reaping without an open stream.
    idle_rounds: AtomicU64,
}

/// How an HTTP/2 connection is, as far as its driver and its stream have seen it.
pub struct Vitals {
    /// What the peer allows.
    pub streams_max: AtomicUsize,
    pub driver: AtomicWaker,
    /// How often something was read.
    pub reads: AtomicU64,
    /// Why the edge has cut it: the peer said too much.
    pub cut: OnceLock<Cut>,
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
    pub(super) fn new(sender: http2::SendRequest<Uploading>, vitals: Arc<Vitals>) -> Self {
        let usage =
            Usage { streams: AtomicUsize::new(0), vitals, served: AtomicU64::new(0), idle_rounds: AtomicU64::new(0) };
        Self { sender, usage: Arc::new(usage), number: 0 }
    }

    /// Counts a request that the connection carries, until the answer is dropped.
    pub(super) fn open_stream(&self) -> OpenStream {
        self.usage.streams.fetch_add(1, Ordering::Relaxed);
        self.usage.served.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.usage))
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
        self.usage.vitals.cut.get().copied()
    }

    /// Whether another stream fits: a second connection is made at 80 % of the peer's limit.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.usage.vitals.streams_max.load(Ordering::Relaxed);
        !self.sender.is_closed() && self.usage.streams.load(Ordering::Relaxed) * 5 < limit.saturating_mul(4)
    }

    /// Whether it has carried as many requests as one connection may.
    pub(super) fn has_served(&self, requests: u64) -> bool {
        self.usage.served.load(Ordering::Relaxed) >= requests
    }

    /// Whether no stream is open on it.
    pub(super) fn is_idle(&self) -> bool {
        self.usage.streams.load(Ordering::Relaxed) == 0
    }

    /// Counts a round of reaping; how many have passed since the last stream ended.
    pub(super) fn idle_rounds(&self) -> u64 {
        if self.usage.streams.load(Ordering::Relaxed) > 0 {
            self.usage.idle_rounds.store(0, Ordering::Relaxed);
            return 0;
        }
        self.usage.idle_rounds.fetch_add(1, Ordering::Relaxed)
    }
}

impl Usage {
    fn reads(&self) -> u64 {
        self.vitals.reads.load(Ordering::Relaxed)
    }
}

impl Vitals {
    pub fn new(streams_max: usize) -> Arc<Self> {
        let (streams_max, reads) = (AtomicUsize::new(streams_max), AtomicU64::new(0));
        Arc::new(Self { streams_max, driver: AtomicWaker::new(), reads, cut: OnceLock::new() })
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
            self.0.vitals.driver.wake();
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.idle_rounds.store(0, Ordering::Relaxed);
    }
}
