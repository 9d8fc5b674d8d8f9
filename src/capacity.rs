//! What this machine and its limits leave room for.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{self, Config, Environment};

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
