//! Tells those who started the process where it listens: a banner for people, a line of JSON for tests and
//! tools, and the notifications of systemd.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use sd_notify::NotifyState;
use serde_json::json;

use crate::config::Config;

/// One line on stderr an address; never filtered by the log level.
pub fn banner(config: &Config, file: &Path, bound: &BTreeMap<SocketAddr, SocketAddr>, admin: Option<SocketAddr>) {
    let mut lines = format!("tollgate {} serves {}\n", env!("CARGO_PKG_VERSION"), file.display());
    for listen in &config.listeners {
        let address = bound.get(&listen.address).unwrap_or(&listen.address);
        let scheme = if listen.tls.is_some() { "https" } else { "http" };
        lines.push_str(&format!("  {scheme}://{address}\n"));
    }
    if let Some(admin) = admin {
        lines.push_str(&format!("  admin on http://{admin}\n"));
    }
    // Nobody may be there to read it.
    let _closed = std::io::stderr().write_all(lines.as_bytes());
}

/// Writes the line of JSON to the descriptor that `--ready-fd` names, and tells systemd.
pub fn tell(ready: Option<OwnedFd>, bound: &BTreeMap<SocketAddr, SocketAddr>, admin: Option<SocketAddr>) {
    if let Some(descriptor) = ready {
        let listeners: serde_json::Map<_, _> =
            bound.iter().map(|(configured, bound)| (configured.to_string(), json!(bound.to_string()))).collect();
        let line = json!({ "pid": std::process::id(), "listeners": listeners, "admin": admin.map(|a| a.to_string()) });
        if let Err(error) = writeln!(File::from(descriptor), "{line}") {
            tracing::warn!("cannot write to the descriptor of --ready-fd: {error}");
        }
    }
    notify(&[NotifyState::Ready]);
}

pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}
