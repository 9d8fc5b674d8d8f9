//! The app behind the proxy.
//!
//! It has two parts. The **bench** is routes that each show one thing that a proxy can get wrong: the app says who it is
//! (`/`), how it is (`/health`), what arrived (`/echo`, `/upload`), and it answers late (`/slow`), long (`/bytes/{n}`),
//! bit by bit (`/events`), both ways (`/ws`) or with any status (`/status/{code}`). The bench trusts whoever reaches it.
//!
//! The **systems** below `/api/v1` do real work, so that the proxy is proved on it: [`accounts`], [`media`] with playlists, the
//! [`jobs`] that requests leave, [`shop`], and [`workflows`]. Each is a module with its routes, its rules and its statements.
//! [`api`] is what they share towards the client: the table of routes, in which
//! each says for whom it is, or the server does not start; input that names its faults; problem details; the description at
//! `/openapi.json`, shown at `/docs`. [`store`] is the database, SQLite in a file or PostgreSQL, and [`remote`] is Redis, which
//! holds copies only. [`metrics`] are at `/metrics`, with the state of the connections and queues, and [`trace`] has the spans of requests, statements and jobs.
//!
//! HTTP/1.1 and HTTP/2 by prior knowledge share the port. It is made to stand behind a proxy, so it has no TLS and no
//! time limit on slow clients. Replicas share nothing but the database, Redis and the key of tokens.
//!
//! # Left out
//!
//! Sessions stay in the database also with Redis; [`accounts`] says why. Redis is spoken to without TLS.

// Who reads these pages works on the program, and has them made with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

mod accounts;
mod alone;
mod api;
mod app;
mod clock;
mod echo;
mod events;
mod folder;
mod health;
mod index;
mod jobs;
mod media;
mod metrics;
mod page;
mod processors;
mod progress;
mod pulse;
mod remote;
mod replica;
mod secret;
mod settings;
mod shop;
mod socket;
mod status;
mod store;
mod stream;
mod trace;
mod workflows;

use std::future::Future;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::app::{App, Foundation};
pub use self::settings::{Args, Settings};
use self::settings::{Command, Listen};

/// How long open requests may take once the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT, then finishes what is open. A second signal ends the process at once.
pub fn run(args: Args) -> anyhow::Result<()> {
    // One thread a replica: the proxy spreads the load by starting more of them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (command, listen, settings) = args.into_settings()?;
    runtime.block_on(async {
        let mut signals = Signals::new().context("listening for signals")?;
        // A database that is not up yet is waited for, and who stops us meanwhile is not kept waiting.
        let foundation = tokio::select! {
            foundation = Foundation::lay(settings) => foundation?,
            () = signals.next() => return Ok(()),
        };
        if let Some(Command::Seed { size }) = command {
            return tokio::select! {
                seeded = foundation.seed(size) => seeded,
                () = signals.next() => anyhow::bail!("stopped before all was made; what is made stays"),
            };
        }
        let listener = bind(&listen).await?;
        say(format_args!("listens on http://{}", listener.local_addr()?));
        serve_on(foundation, listener, async move {
            signals.next().await;
            tokio::spawn(async move {
                signals.next().await;
                say(format_args!("was told twice to stop"));
                std::process::exit(1);
            });
        })
        .await
    })
}

/// One line on stderr. Whoever read it may be gone, and that is no reason to panic, as `eprintln!` would.
fn say(event: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "backend {} {event}", std::process::id());
}

async fn bind(listen: &Listen) -> anyhow::Result<TcpListener> {
    match listen {
        Listen::Address(address) => TcpListener::bind(address).await.with_context(|| format!("listening on {address}")),
        Listen::Host { host, port } => TcpListener::bind((host.as_str(), *port))
            .await
            .with_context(|| format!("listening on host {host} and port {port}")),
    }
}

/// Serves until `shutdown` is ready, then closes the listener and waits for open requests, at most 30 seconds.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    serve_on(Foundation::lay(settings).await?, listener, shutdown).await
}

async fn serve_on(
    foundation: Foundation,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("reading the address of the listener")?;
    let (stop, stopping) = watch::channel(false);
    let (upkeep, router) = foundation.build(address, stopping.clone()).await?;
    let told = {
        let stop = stop.clone();
        async move {
            shutdown.await;
            stop.send_replace(true);
        }
    };
    let drained = async {
        // A client that waits for its answer must not wait for Nagle's algorithm too. A failure costs only time.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).with_graceful_shutdown(told).await.context("serving")?;
        // WebSockets have left their HTTP connection; the last of them drops the last receiver.
        stop.closed().await;
        Ok(())
    };
    let ended = tokio::select! {
        result = drained => result,
        () = drain_limit(stopping) => Ok(()),
        never = upkeep.run() => match never {},
    };
    upkeep.end().await;
    ended
}

/// Ends `DRAIN_MAX` after the server was told to stop.
async fn drain_limit(mut stopping: watch::Receiver<bool>) {
    stopped(&mut stopping).await;
    drop(stopping);
    tokio::time::sleep(DRAIN_MAX).await;
}

/// Ends once the server stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server, so an error means that it has stopped.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// SIGTERM and SIGINT as one stream.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
