//! `[server]`, `[client]` and `[dns]`, and the arithmetic of open files.

use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::{Client, Dns, H2, Listen, Server, file, units};
use crate::overload::memory;

use super::Lowering;

/// Files, logs, name servers, probes, the admin listener and its connections.
const OPEN_FILES_OWN: u64 = 128;
/// Of each worker beside its listeners: its poll set, wake-up, spare descriptor and pipe.
const OPEN_FILES_WORKER: u64 = 10;
/// The client's and the endpoint's.
const OPEN_FILES_CONNECTION: u64 = 2;
/// As much as the heads of one connection of HTTP/2 may take.
const HEADS_MIN: u64 = 256 << 10;

/// Connections from clients that this limit of open files leaves room for.
pub fn connections_left(open_files_max: u64, workers: usize, listeners: usize) -> u64 {
    open_files_max.saturating_sub(reserved(workers, listeners)) / OPEN_FILES_CONNECTION
}

fn reserved(workers: usize, listeners: usize) -> u64 {
    let (workers, listeners) = (workers as u64, listeners as u64);
    OPEN_FILES_OWN.saturating_add(workers.saturating_mul(OPEN_FILES_WORKER.saturating_add(listeners)))
}

impl Lowering<'_> {
    pub(super) fn server(&mut self, server: &file::Server, listeners: &[Listen]) -> Server {
        let connections_max = server.connections_max.value.to_usize();
        let workers = match server.workers.value.to_usize() {
            0 => self.environment.cores,
            workers => workers,
        };
        let limit = self.environment.open_files_max;
        let left = connections_left(limit, workers, listeners.len());
        if connections_max as u64 > left {
            let reserved = reserved(workers, listeners.len());
            let needed = connections_max as u64 * OPEN_FILES_CONNECTION + reserved;
            self.report(
                Diagnostic::error(
                    server.connections_max.origin,
                    format!("{connections_max} connections do not fit the limit of {limit} open files"),
                )
                .label(format!("at most {left}"))
                .help(format!(
                    "({limit} − {reserved} for {workers} workers, listeners, logs and the like) ÷ \
                     {OPEN_FILES_CONNECTION} a connection (client and endpoint) = {left}"
                ))
                .help(format!("raise the limit to {needed} (ulimit -n, LimitNOFILE=), or leave the key out")),
            );
        }
        Server {
            workers: server.workers.value.to_usize(),
            connections_max,
            idle_close_at: server.idle_close_at.value.0.map(|percent| percent.0),
            requests_max: server.requests_max.value.to_usize(),
            memory: server.memory.value.0.as_ref().and_then(|memory| self.memory(memory, server.memory.origin)),
            drain_delay: server.drain_delay.value,
            drain_timeout: server.drain_timeout.value,
            reload: server.reload.value,
        }
    }

    fn memory(&mut self, memory: &file::Memory, origin: Origin) -> Option<memory::Limits> {
        let (soft, hard) = (memory.soft.as_ref(), memory.hard.as_ref());
        let share = |percent: u64| self.environment.memory_limit.map(|limit| limit / 100 * percent);
        let hard_given = hard.map(|size| size.value.0);
        let limits = memory::Limits {
            soft: soft.map(|size| size.value.0).or_else(|| [share(80), hard_given].into_iter().flatten().min())?,
            hard: hard_given.or_else(|| share(95)).unwrap_or(u64::MAX),
        };
        for size in [soft, hard].into_iter().flatten().filter(|size| size.value.0 == 0) {
            let error = Diagnostic::error(size.origin, "a limit of no memory at all");
            self.report(error.label("expected more than zero").help("to do without limits, write `memory = false`"));
        }
        if limits.soft > limits.hard {
            let origin = soft.or(hard).map_or(origin, |size| size.origin);
            let (soft, hard) = (units::show_size(limits.soft), units::show_size(limits.hard));
            let message = format!("the soft limit of memory, {soft}, is above the hard one, {hard}");
            let error = Diagnostic::error(origin, message).label("above the hard limit");
            self.report(error.help("without a number, the limits are 80 % and 95 % of what the process may have"));
            return None;
        }
        Some(limits)
    }

    pub(super) fn client(&mut self, client: &file::Client) -> Client {
        Client {
            trusted: client.trusted.value.iter().map(|network| network.value).collect(),
            connections_max: client.connections_max.value.to_usize(),
            requests_max: client.requests_max.value.to_usize(),
            handshake_timeout: client.handshake_timeout.value.0,
            header_timeout: client.header_timeout.value.0,
            body_timeout: client.body_timeout.value.0,
            idle_timeout: client.idle_timeout.value.0,
            send_timeout: client.send_timeout.value.0,
            rate_min: client.rate_min.value.0,
            body_max: client.body_max.value.0,
            h2: self.h2(&client.h2.value),
        }
    }

    fn h2(&mut self, h2: &file::H2) -> H2 {
        if let Some(max) = h2.heads_max.as_ref().filter(|max| max.value.0 < HEADS_MIN) {
            let message = format!("{} for the heads of all connections", units::show_size(max.value.0));
            let error = Diagnostic::error(max.origin, message).label("expected at least \"256KiB\"");
            self.report(error.help("one connection may take as much, and what does not fit is refused"));
        }
        H2 { streams_max: h2.streams_max.value.0, heads_max: h2.heads_max.as_ref().map(|max| max.value.0) }
    }
}

pub(super) fn dns(dns: &file::Dns) -> Dns {
    Dns { ttl_max: dns.ttl_max.value.0, servers: dns.servers.value.iter().map(|server| server.value).collect() }
}
