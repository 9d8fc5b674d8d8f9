//! What the process does by itself when something is short, as the status page and the metrics show it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The cache gives memory back.
    CacheMemory,
    /// An upstream is not asked for a while.
    Breaker,
    /// Connections that idle are closed early.
    IdleConnections,
}

impl Action {
    /// The label of metrics, and the name on the status page.
    pub fn label(self) -> &'static str {
        match self {
            Self::CacheMemory => "cache_memory",
            Self::Breaker => "breaker",
            Self::IdleConnections => "idle_connections",
        }
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.label())
    }
}

/// One action at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recovery {
    pub action: Action,
    /// Whether the config has it.
    pub enabled: bool,
    pub active: bool,
    /// How often it has begun.
    pub times: u64,
}

/// Which side an idle connection was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Endpoint,
}

/// What was done, since the start.
#[derive(Debug, Default)]
pub struct Done {
    memory_given_back: AtomicU64,
    crowds: AtomicU64,
    /// Times that breakers have opened which are no more.
    breakers_gone: AtomicU64,
    closed_of_clients: AtomicU64,
    closed_of_endpoints: AtomicU64,
}

impl Done {
    pub fn count_memory_given_back(&self) {
        self.memory_given_back.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a pool of connections that has become crowded.
    pub fn count_crowd(&self) {
        self.crowds.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps how often a breaker has opened that is given up.
    pub fn count_breaker_gone(&self, opened: u64) {
        self.breakers_gone.fetch_add(opened, Ordering::Relaxed);
    }

    pub fn breakers_gone(&self) -> u64 {
        self.breakers_gone.load(Ordering::Relaxed)
    }

    /// Counts connections that were closed early.
    pub fn count_closed(&self, side: Side, count: u64) {
        if count > 0 {
            self.closed_on(side).fetch_add(count, Ordering::Relaxed);
        }
    }

    pub fn memory_given_back(&self) -> u64 {
        self.memory_given_back.load(Ordering::Relaxed)
    }

    pub fn crowds(&self) -> u64 {
        self.crowds.load(Ordering::Relaxed)
    }

    pub fn closed(&self, side: Side) -> u64 {
        self.closed_on(side).load(Ordering::Relaxed)
    }

    fn closed_on(&self, side: Side) -> &AtomicU64 {
        match side {
            Side::Client => &self.closed_of_clients,
            Side::Endpoint => &self.closed_of_endpoints,
        }
    }
}
