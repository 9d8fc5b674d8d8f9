//! The app behind the proxy: a small server whose every route shows one thing that a proxy can get wrong.
//!
//! It says who it is (`/`), how it is (`/health`), what arrived (`/echo`, `/upload`), and it answers late
//! (`/slow`), long (`/bytes/{n}`), bit by bit (`/events`), both ways (`/ws`) or with any status (`/status/{code}`).
//! HTTP/1.1 and HTTP/2 by prior knowledge share the port. It trusts whoever reaches it: it is made to stand
//! behind a proxy, so it has no TLS, no access control and no time limit on slow clients.

mod echo;
mod events;
mod health;
mod page;
mod replica;
mod socket;
mod status;
mod stream;

use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::replica::Replica;

/// How long open requests may take once the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Parser)]
#[command(name = "tollgate-backend", version, about = "The app behind the proxy")]
pub struct Args {
    /// Address to listen on; wins over --host and --port
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Host name or address to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
}

/// What every handler may know.
struct App {
    replica: Replica,
    /// Turns true once the server stops. A stream that could go on for long watches its own clone and ends itself.
    stopping: watch::Receiver<bool>,
}

/// Serves until SIGTERM or SIGINT, then finishes what is open. A second signal ends the process at once.
pub fn run(args: Args) -> anyhow::Result<()> {
    // One thread a replica: the proxy spreads the load by starting more of them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::new().context("listening for signals")?;
        let listener = bind(&args).await?;
        say(format_args!("listens on http://{}", listener.local_addr()?));
        serve(listener, async move {
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

async fn bind(args: &Args) -> anyhow::Result<TcpListener> {
    match &args.listen {
        Some(address) => TcpListener::bind(address).await.with_context(|| format!("listening on {address}")),
        None => TcpListener::bind((args.host.as_str(), args.port))
            .await
            .with_context(|| format!("listening on host {} and port {}", args.host, args.port)),
    }
}

/// Serves until `shutdown` is ready, then closes the listener and waits for open requests, at most 30 seconds.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let address = listener.local_addr().context("reading the address of the listener")?;
    let (stop, stopping) = watch::channel(false);
    let app = router(Arc::new(App { replica: Replica::new(address), stopping: stopping.clone() }));
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
        axum::serve(listener, app).with_graceful_shutdown(told).await.context("serving")?;
        // WebSockets have left their HTTP connection; the last of them drops the last receiver.
        stop.closed().await;
        Ok(())
    };
    tokio::select! {
        result = drained => result,
        () = drain_limit(stopping) => Ok(()),
    }
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

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/health", get(health::report))
        .route("/echo", any(echo::echo))
        .route("/echo/{*rest}", any(echo::echo))
        .route("/slow", any(status::slow))
        .route("/status/{code}", any(status::status))
        .route("/bytes/{n}", get(stream::bytes))
        .route("/upload", post(stream::upload).put(stream::upload))
        .route("/events", get(events::events))
        // HTTP/1.1 upgrades a GET, HTTP/2 an extended CONNECT (RFC 8441).
        .route("/ws", any(socket::upgrade))
        .with_state(app)
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
