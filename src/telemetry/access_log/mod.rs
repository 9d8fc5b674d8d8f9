//! The access log: one line a request, written by a thread of its own.
//!
//! A worker formats its lines into a buffer and hands the full buffer to the writer thread. The log never
//! makes a worker wait: when the disk or the reader of a pipe cannot keep up, lines are dropped and
//! counted. It never decides which requests are logged.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};

use crate::clock::Clock;
use crate::config::{self, LogTarget};

mod escape;
mod filter;
mod format;
mod live;
mod queue;
mod redact;
mod sink;
#[cfg(test)]
pub(super) mod testing;

pub use escape::deceives;
pub use filter::{Filter, Wanted};
pub use format::{Entry, Formatter, UpstreamEntry};
use live::Live;
pub use live::{Following, Reading};
use queue::{Batch, Queue};
use sink::Sink;

/// A buffer of this size is handed over; a smaller one waits for the worker's next `flush`.
const BATCH_BYTES: usize = 16 << 10;

/// The log of the process. Clones are the same log.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Arc<ArcSwap<Settings>>,
    queue: Queue,
    dropped: AtomicU64,
    live: Arc<Live>,
}

/// What lines are made with and where they go: swapped whole, so that a line in the old format never
/// lands in the new file.
#[derive(Debug)]
struct Settings {
    formatter: Formatter,
    sink: Arc<Sink>,
}

/// Settings that nothing is written with yet.
#[derive(Debug)]
pub struct Opened(Settings);

#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    #[error("cannot open the access log {}: {source}", shown(target))]
    Open { target: LogTarget, source: io::Error },
    #[error("cannot start the thread of the access log")]
    Thread(#[source] io::Error),
}

/// A target in a message.
fn shown(target: &LogTarget) -> Cow<'_, str> {
    match target {
        LogTarget::Off => "off".into(),
        LogTarget::Stdout => "stdout".into(),
        LogTarget::Stderr => "stderr".into(),
        LogTarget::File(path) => path.to_string_lossy(),
    }
}

impl AccessLog {
    /// Opens the target and starts the writer thread.
    pub fn start(config: &config::AccessLog) -> Result<Self, AccessLogError> {
        let settings = Settings { formatter: Formatter::new(config), sink: Arc::new(open(&config.target)?) };
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let shared = Shared { settings, queue: Queue::default(), dropped: AtomicU64::new(0), live: Arc::default() };
        let log = Self(Arc::new(shared));
        let writer = log.clone();
        let thread = thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.0.write_batches()).map_err(AccessLogError::Thread)?;
        Ok(log)
    }

    /// A writer for one worker.
    pub fn writer(&self) -> AccessWriter {
        AccessWriter {
            shared: Arc::clone(&self.0),
            clock: Clock::new(),
            pending: RefCell::new(Pending {
                latest: Cache::new(Arc::clone(&self.0.settings)),
                settings: self.0.settings.load_full(),
                lines: 0,
                buffer: Vec::new(),
            }),
        }
    }

    /// Opens what a changed config names, if it is another target, and changes nothing yet.
    pub fn open(&self, config: &config::AccessLog) -> Result<Opened, AccessLogError> {
        let current = self.0.settings.load();
        let sink = if *current.sink.target() == config.target {
            Arc::clone(&current.sink)
        } else {
            Arc::new(open(&config.target)?)
        };
        Ok(Opened(Settings { formatter: Formatter::new(config), sink }))
    }

    /// Takes a changed config over. Lines recorded before go to the old target in the old format.
    pub fn install(&self, Opened(settings): Opened) {
        self.0.settings.store(Arc::new(settings));
    }

    /// Opens the target anew, for tools that rotate files. On an error the old file stays in use.
    pub fn reopen(&self) -> Result<(), AccessLogError> {
        let sink = Arc::clone(&self.0.settings.load().sink);
        sink.reopen().map_err(|source| AccessLogError::Open { target: sink.target().clone(), source })
    }

    /// The lines that somebody wants to see, from now on. None: there are too many who follow already.
    pub fn follow(&self, wanted: Wanted) -> Option<Following> {
        self.0.live.follow(wanted)
    }

    /// Lines lost so far: the queue was full, the target did not take them, or the log was closed.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Writes what was flushed and ends the thread; the workers have dropped their writers before. False
    /// if the target takes longer than `limit`: then the rest is lost with the process.
    pub fn close(&self, limit: Duration) -> bool {
        self.0.queue.close();
        self.0.queue.wait_for_end(limit)
    }
}

impl Shared {
    /// The writer thread.
    fn write_batches(&self) {
        let mut batches = VecDeque::new();
        while self.queue.take(&mut batches) {
            for batch in batches.drain(..) {
                self.count_dropped(batch.sink.write(&batch.bytes));
                self.queue.written(batch.bytes);
            }
        }
        self.queue.end();
    }

    fn count_dropped(&self, lines: u64) {
        if lines > 0 {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

/// One worker's end of the log. Its lines keep their order.
#[derive(Debug)]
pub struct AccessWriter {
    shared: Arc<Shared>,
    clock: Clock,
    pending: RefCell<Pending>,
}

#[derive(Debug)]
struct Pending {
    latest: Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>,
    /// What the lines in the buffer were made with.
    settings: Arc<Settings>,
    lines: u64,
    buffer: Vec<u8>,
}

impl AccessWriter {
    /// Formats the line of one request. It is written by `flush`, or once the buffer is full.
    pub fn record(&self, entry: &Entry<'_>) {
        let pending = &mut *self.pending.borrow_mut();
        let latest = pending.latest.load();
        if !Arc::ptr_eq(latest, &pending.settings) {
            let latest = Arc::clone(latest);
            pending.hand_over(&self.shared);
            pending.settings = latest;
        }
        let Pending { settings, lines, buffer, .. } = pending;
        if self.shared.live.is_followed() {
            self.shared.live.offer(entry, &settings.formatter, &self.clock.wall());
        }
        if *settings.sink.target() == LogTarget::Off {
            return;
        }
        settings.formatter.write(entry, &self.clock.wall(), buffer);
        *lines += 1;
        if buffer.len() >= BATCH_BYTES {
            pending.hand_over(&self.shared);
        }
    }

    /// Hands over what there is: called by the worker's sweep, so that a line appears within a moment.
    pub fn flush(&self) {
        self.pending.borrow_mut().hand_over(&self.shared);
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Pending {
    fn hand_over(&mut self, shared: &Shared) {
        if self.buffer.is_empty() {
            return;
        }
        let batch = Batch { sink: Arc::clone(&self.settings.sink), bytes: mem::take(&mut self.buffer) };
        let lines = mem::take(&mut self.lines);
        self.buffer = shared.queue.push(batch).unwrap_or_else(|refused| {
            shared.count_dropped(lines);
            let mut buffer = refused.bytes;
            buffer.clear();
            buffer
        });
    }
}

fn open(target: &LogTarget) -> Result<Sink, AccessLogError> {
    Sink::open(target).map_err(|source| AccessLogError::Open { target: target.clone(), source })
}

#[cfg(test)]
mod tests;
