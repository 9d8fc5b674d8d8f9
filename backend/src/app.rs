//! Builds the app out of its parts: first what it stands on, then the systems, then the routes. It decides nothing about a
//! request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::sync::watch;
use tower_http::cors::CorsLayer;
use utoipa_axum::routes;

use crate::accounts::{self, Accounts};
use crate::api::{self, Policy, Problem, Route, Table};
use crate::clock::now_ms;
use crate::jobs::{self, Jobs};
use crate::media::{self, Media};
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::remote::Remote;
use crate::replica::Replica;
use crate::settings::{Settings, Size};
use crate::shop::{self, Shop};
use crate::store::{Store, StoreError};
use crate::trace::Tracing;
use crate::workflows::{self, Workflows};
use crate::{echo, events, health, index, page, say, socket, status, stream};

/// How often the active users are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// How often what is over is removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long the end of the database's connections may take.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How long a browser may remember what another origin may do.
const CORS_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// What every handler may know.
pub struct App {
    pub replica: Replica,
    /// Turns true once the server stops. A stream that could go on for long watches its own clone and ends itself.
    pub stopping: watch::Receiver<bool>,
    pub metrics: Metrics,
    pub tracing: Tracing,
    pub pulse: Arc<Pulse>,
    pub accounts: Accounts,
    pub media: Media,
    pub jobs: Jobs,
    pub shop: Shop,
    pub workflows: Workflows,
    store: Store,
}

/// What the app stands on: its database, and what keeps count.
pub struct Foundation {
    store: Store,
    remote: Option<Remote>,
    metrics: Metrics,
    tracing: Tracing,
    settings: Settings,
}

impl Foundation {
    /// Opens the database, for which it waits a while.
    pub async fn lay(settings: Settings) -> anyhow::Result<Self> {
        let metrics = Metrics::new().context("declaring the metrics")?;
        let store = Store::open(&settings.store, metrics.clone()).await.context("opening the database")?;
        let remote = match &settings.redis_url {
            Some(url) => Some(Remote::new(url, metrics.clone()).context("reading REDIS_URL")?),
            None => None,
        };
        let tracing = Tracing::start(&settings.telemetry);
        Ok(Self { store, remote, metrics, tracing, settings })
    }

    /// Fills the database.
    pub async fn seed(&self, size: Size) -> anyhow::Result<()> {
        let (users, products, workflows) = match size {
            Size::Small => (1000, 500, 60),
            Size::Large => (100_000, 20_000, 5000),
        };
        accounts::seed(&self.store, users, self.settings.password_cost, &self.metrics).await.context("making users")?;
        media::seed(&self.store, users).await.context("making media")?;
        shop::seed(&self.store, products).await.context("making products")?;
        workflows::seed(&self.store, workflows).await.context("making workflows")?;
        // The last connection to SQLite writes its log back.
        self.store.close().await;
        Ok(())
    }

    pub async fn build(self, address: SocketAddr, stopping: watch::Receiver<bool>) -> anyhow::Result<(Upkeep, Router)> {
        let Self { store, remote, metrics, tracing, settings } = self;
        let key = &settings.token_key;
        let accounts = Accounts::new(store.clone(), remote.clone(), key, settings.password_cost, metrics.clone())?;
        let pulse = Arc::new(Pulse::begin(&store, remote.as_ref()).await);
        let jobs = Jobs::new(store.clone(), metrics.clone(), tracing.clone());
        let media = Media::new(store.clone(), jobs.clone());
        let shop = Shop::new(store.clone());
        let upkeep = Upkeep {
            accounts: accounts.clone(),
            jobs: jobs.clone(),
            shop: shop.clone(),
            store: store.clone(),
            remote,
            pulse: pulse.clone(),
            tracing: tracing.clone(),
        };
        let replica = Replica::new(address);
        let workflows = Workflows::new(store.clone());
        let app =
            Arc::new(App { replica, stopping, metrics, tracing, pulse, accounts, media, jobs, shop, workflows, store });
        let router = router(&app, &settings.cors_origins)?;
        Ok((upkeep, router))
    }
}

/// What goes on beside the requests. It is no part of the app, which ends with its last request.
pub struct Upkeep {
    accounts: Accounts,
    jobs: Jobs,
    shop: Shop,
    store: Store,
    remote: Option<Remote>,
    pulse: Arc<Pulse>,
    tracing: Tracing,
}

impl Upkeep {
    /// Goes on and on.
    pub async fn run(&self) -> Infallible {
        let watch = self.pulse.watch(&self.store, self.remote.as_ref());
        let (never, ..) = tokio::join!(self.count(), self.sweep(), watch, self.jobs.work());
        never
    }

    async fn count(&self) -> Infallible {
        loop {
            told(self.accounts.count_active(now_ms()).await);
            tokio::time::sleep(COUNT_INTERVAL).await;
        }
    }

    async fn sweep(&self) -> Infallible {
        loop {
            told(self.accounts.sweep(now_ms()).await);
            told(self.jobs.sweep(now_ms()).await);
            told(self.shop.sweep(now_ms()).await);
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }

    /// Takes leave of the collector and of the database, and leaves to others what was begun. A statement that hangs is not waited for.
    pub async fn end(self) {
        let leave = async {
            told(self.jobs.give_back(now_ms()).await);
            self.store.close().await;
        };
        let (_late, ()) = tokio::join!(tokio::time::timeout(LEAVE_MAX, leave), self.tracing.close());
    }
}

/// A failure beside the requests is said, and the next time may be better.
fn told(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        say(format_args!("a task beside the requests failed: {error}"));
    }
}

fn router(app: &Arc<App>, cors_origins: &[HeaderValue]) -> anyhow::Result<Router> {
    let systems = [
        bench(),
        shared(),
        index::routes(),
        accounts::routes(),
        media::routes(),
        jobs::routes(),
        shop::routes(),
        workflows::routes(),
    ];
    let table = Table::new(systems.into_iter().flatten())?;
    let description: Arc<str> = table.description().to_json().context("describing the routes")?.into();
    let described = async move || ([(CONTENT_TYPE, "application/json")], description.to_string());
    let router = table
        .router(app)
        .route("/openapi.json", get(described))
        .route("/docs", get(api::show))
        .fallback(api::nowhere)
        .method_not_allowed_fallback(api::other_method);
    let router = if cors_origins.is_empty() { router } else { router.layer(cors(cors_origins)) };
    Ok(router.with_state(app.clone()))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([ETAG, RETRY_AFTER, HeaderName::from_static("x-trace-id")])
        .max_age(CORS_AGE_MAX)
}

/// Routes to try a proxy with.
fn bench() -> Vec<Route> {
    let routes = [
        ("/", get(page::index)),
        ("/echo", any(echo::echo)),
        ("/echo/{*rest}", any(echo::echo)),
        ("/slow", any(status::slow)),
        ("/status/{code}", any(status::status)),
        ("/bytes/{n}", get(stream::bytes)),
        ("/upload", post(stream::upload).put(stream::upload)),
        ("/events", get(events::events)),
        // HTTP/1.1 upgrades a GET, HTTP/2 an extended CONNECT (RFC 8441).
        ("/ws", any(socket::upgrade)),
        // It is asked for every few seconds, and is neither counted nor held up by a time limit.
        ("/health", get(health::report)),
    ];
    routes.into_iter().map(|(path, methods)| Route::bench(path, methods).policy(Policy::Anonymous)).collect()
}

/// Routes of no system.
fn shared() -> Vec<Route> {
    vec![Route::new(routes!(numbers)).policy(Policy::Anonymous)]
}

/// Counts and durations, in the text format of Prometheus, of the replica that answers.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, body = String)))]
async fn numbers(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let text = app.metrics.text(app.store.usage(), app.tracing.counts()).map_err(|error| Problem::internal(&error))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
