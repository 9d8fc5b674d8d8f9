//! Diagnostics for the operator, on stderr, at a level that can change while the proxy runs.
//!
//! The access log, the start banner and what replicas write do not pass through here, so no level filters them.
//! What else the operator must see at any level is an error, or is said with the target [`NOTICE`]: the results of
//! reloads, and of the stop.

use std::cell::LazyCell;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::clock::Clock;
use crate::config::LogLevel;

/// The target of events that no level filters, if they are at least at the level of info:
/// `tracing::info!(target: log::NOTICE, …)`.
pub const NOTICE: &str = "notice";

/// This crate and the backend app, as `tracing` sees them.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

/// The diagnostics of the process, set up.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    filter: reload::Handle<Targets, Registry>,
}

impl Diagnostics {
    /// Sends the diagnostics of the process to stderr, in colour on a terminal unless `NO_COLOR` is set.
    pub fn start(level: LogLevel) -> Result<Self, SetGlobalDefaultError> {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (diagnostics, subscriber) = Self::writing_to(io::stderr, level, colour);
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(diagnostics)
    }

    /// Takes a changed level over.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!(%error, "the level of the log stays as it was");
        }
    }

    fn writing_to<W>(writer: W, level: LogLevel, colour: bool) -> (Self, impl Subscriber + Send + Sync)
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, handle) = reload::Layer::new(targets(level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(colour)
            .with_target(false)
            .with_timer(LocalTime)
            // It would report a closed stderr with `eprintln!`, which panics when stderr is closed.
            .log_internal_errors(false)
            .compact();
        (Self { filter: handle }, tracing_subscriber::registry().with(filter).with(lines))
    }
}

/// Which events a level lets through. Libraries below speak up only when something is wrong: their
/// details would bury the proxy's own.
fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target(OWN_TARGET, own)
        .with_target(NOTICE, LevelFilter::INFO)
}

/// Wall time in the local zone, as in the access log.
struct LocalTime;

thread_local! {
    static CLOCK: LazyCell<Clock> = LazyCell::new(Clock::new);
}

impl FormatTime for LocalTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let text = CLOCK.with(|clock| clock.wall().rfc3339());
        writer.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing::Level;

    #[test]
    fn what_a_level_lets_through() {
        let check = |level, own: bool, own_debug: bool, library_warn: bool| {
            let targets = targets(level);
            assert_eq!(targets.would_enable("tollgate::reload", &Level::INFO), own, "{level:?}");
            assert_eq!(targets.would_enable("tollgate_backend", &Level::DEBUG), own_debug, "{level:?}");
            assert_eq!(targets.would_enable("h2::proto", &Level::WARN), library_warn, "{level:?}");
            assert!(!targets.would_enable("h2::proto", &Level::INFO), "{level:?}");
            assert!(targets.would_enable(NOTICE, &Level::INFO), "{level:?}");
        };
        check(LogLevel::Error, false, false, false);
        check(LogLevel::Warn, false, false, true);
        check(LogLevel::Info, true, false, true);
        check(LogLevel::Debug, true, true, true);
        check(LogLevel::Trace, true, true, true);
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (diagnostics, subscriber) = Diagnostics::writing_to(move || writer.clone(), LogLevel::Warn, false);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("hidden");
            tracing::info!(target: NOTICE, "listening");
            tracing::warn!(upstream = "app", "no endpoint is healthy");
            diagnostics.set_level(LogLevel::Debug);
            tracing::debug!("shown\x1b[2J");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().map(|line| &line[wall_length()..]).collect();
        assert_eq!(
            lines,
            ["  INFO listening", "  WARN no endpoint is healthy upstream=\"app\"", " DEBUG shown\\x1b[2J"],
            "{text}"
        );
    }

    fn wall_length() -> usize {
        Clock::new().wall().rfc3339().len()
    }
}
