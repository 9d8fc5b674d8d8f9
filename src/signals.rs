//! What the process is told by signals.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// HUP: read the config again.
    Reload,
    /// TERM, INT, QUIT: finish what is open and end; a second one ends at once.
    Stop,
    /// USR1: open the log files anew.
    ReopenLogs,
    /// USR2: an upgrade elsewhere. Without a handler it would end the process.
    Upgrade,
}

/// Sends every signal that arrives from now on.
pub fn listen(to: &mpsc::UnboundedSender<Signal>) -> io::Result<()> {
    let kinds = [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::quit(), Signal::Stop),
        (SignalKind::user_defined1(), Signal::ReopenLogs),
        (SignalKind::user_defined2(), Signal::Upgrade),
    ];
    for (kind, meaning) in kinds {
        let (mut stream, to) = (signal(kind)?, to.clone());
        tokio::task::spawn_local(async move { while stream.recv().await.is_some() && to.send(meaning).is_ok() {} });
    }
    Ok(())
}
