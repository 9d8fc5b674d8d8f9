//! Connections of clients and their handshakes, counted on each thread for itself: under a flood of them there is little
//! else to count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::PerThread;
use super::families;
use super::gathered::Gathered;
use crate::config::TlsVersion;

/// What a listener speaks below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    Http,
    Https,
}

/// How a TLS handshake with a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Completed {
        version: TlsVersion,
        is_resumed: bool,
    },
    /// The two sides did not agree, or the client left.
    Failed,
    TimedOut,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    clear: Arc<PerThread<Cells>>,
    encrypted: Arc<PerThread<Cells>>,
    handshakes: PerThread<Handshakes>,
}

#[derive(Debug, Default)]
struct Cells {
    opened: AtomicU64,
    closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Handshakes {
    tls12: AtomicU64,
    tls13: AtomicU64,
    resumed_tls12: AtomicU64,
    resumed_tls13: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
}

/// Counts as an open connection until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<PerThread<Cells>>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.local().closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connections {
    pub fn open(&self, protocol: ListenerProtocol) -> OpenConnection {
        let counted = match protocol {
            ListenerProtocol::Http => &self.clear,
            ListenerProtocol::Https => &self.encrypted,
        };
        counted.local().opened.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(counted))
    }

    pub fn shook_hands(&self, handshake: Handshake) {
        let cells = self.handshakes.local();
        let count = match handshake {
            Handshake::Completed { version: TlsVersion::Tls12, .. } => &cells.tls12,
            Handshake::Completed { version: TlsVersion::Tls13, .. } => &cells.tls13,
            Handshake::Failed => &cells.failed,
            Handshake::TimedOut => &cells.timed_out,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Handshake::Completed { version, is_resumed: true } = handshake {
            let resumed = match version {
                TlsVersion::Tls12 => &cells.resumed_tls12,
                TlsVersion::Tls13 => &cells.resumed_tls13,
            };
            resumed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn gather(&self, to: &mut Gathered) {
        for (protocol, counted) in [("http", &self.clear), ("https", &self.encrypted)] {
            // What has closed is read first: it was open before.
            let closed: u64 = counted.iter().map(|cells| cells.closed.load(Ordering::Relaxed)).sum();
            let opened: u64 = counted.iter().map(|cells| cells.opened.load(Ordering::Relaxed)).sum();
            to.add(&families::CONNECTIONS_ACCEPTED, [protocol.into()], opened);
            to.add(&families::CONNECTIONS, [protocol.into()], opened.saturating_sub(closed));
        }
        let sum = |of: fn(&Handshakes) -> &AtomicU64| -> u64 {
            self.handshakes.iter().map(|cells| of(cells).load(Ordering::Relaxed)).sum()
        };
        for (result, version, count) in [
            ("completed", "1.2", sum(|cells| &cells.tls12)),
            ("completed", "1.3", sum(|cells| &cells.tls13)),
            ("failed", "none", sum(|cells| &cells.failed)),
            ("timed_out", "none", sum(|cells| &cells.timed_out)),
        ] {
            to.add(&families::HANDSHAKES, [result.into(), version.into()], count);
        }
        to.add(&families::RESUMPTIONS, ["1.2".into()], sum(|cells| &cells.resumed_tls12));
        to.add(&families::RESUMPTIONS, ["1.3".into()], sum(|cells| &cells.resumed_tls13));
    }
}
