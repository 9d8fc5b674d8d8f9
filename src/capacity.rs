//! What this machine and its limits leave room for.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{self, Config, Environment};
use crate::machine;

/// Of the memory, heads of open streams may have one part in so many, if the config does not say.
const HEADS_SHARE: u64 = 32;
const HEADS_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// What the config says, or what the limit of open files leaves.
pub fn connections_max(config: &Config) -> usize {
    if config.server.connections_max > 0 {
        return config.server.connections_max;
    }
    let open_files_max = Environment::system().open_files_max;
    let left = config::connections_left(open_files_max, worker_count(config), config.listeners.len());
    usize::try_from(left).unwrap_or(usize::MAX).max(1)
}

/// The soft limit of open files is for programs that use `select`; this one takes what it may have.
pub fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// Workers that the configuration asks for: 0 is one a core.
pub fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// What heads of open streams may take in all: what the config says, or a share of the memory.
pub fn heads_max(config: &Config) -> u64 {
    let share = || machine::memory_limit().map_or(0, |memory| memory / HEADS_SHARE).max(HEADS_BYTES_MIN);
    config.client.h2.heads_max.unwrap_or_else(share)
}
