//! From a request to its answer: the path, the method, the right to it, the body, and then what is asked for.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::access::{self, Via};
use super::answer::{self, Answer};
use super::live::{Live, Part};
use super::purge::{self, Order, Purged};
use super::status::CacheStatus;
use super::{Process, limits, upstreams};
use crate::balance::Pool;
use crate::cache::Dependencies;
use crate::clock;
use crate::compress::{self, Accepted};
use crate::config::{self, Coding};
use crate::control::Outcome;
use crate::error;
use crate::telemetry::access_log::Filter;

const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Series repeat themselves; more would take longer and save little.
const METRICS_GZIP_LEVEL: u32 = 2;
const PATHS: &str = "/ in a browser, or /live.json, /events, /livez, /readyz, /status, /metrics, /upstreams, /cache, /limits, /limits/{address}, \
                     /explain, /reload, /stop, /log/follow, /cache/purge, /limits/reset, /upstreams/{name}/drain or \
                     /upstreams/{name}/undrain";

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Page(Page<'a>),
    /// It reads, and what it is asked comes as a body.
    Explain,
    Events,
    Action(Action<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page<'a> {
    Part(Part),
    Tables,
    Live,
    Ready,
    Status,
    Metrics,
    Upstreams,
    Cache,
    Limits,
    LimitsOf { address: &'a str },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action<'a> {
    Reload,
    Stop,
    Purge,
    /// The log says who asked for what, so it is no page for readers.
    Follow,
    ResetLimits,
    Drain {
        upstream: &'a str,
    },
    Undrain {
        upstream: &'a str,
    },
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let known = match path {
            "/events" => Self::Events,
            "/live.json" => Self::Page(Page::Tables),
            "/livez" => Self::Page(Page::Live),
            "/readyz" => Self::Page(Page::Ready),
            "/status" => Self::Page(Page::Status),
            "/metrics" => Self::Page(Page::Metrics),
            "/upstreams" => Self::Page(Page::Upstreams),
            "/cache" => Self::Page(Page::Cache),
            "/limits" => Self::Page(Page::Limits),
            "/explain" => Self::Explain,
            "/limits/reset" => Self::Action(Action::ResetLimits),
            "/log/follow" => Self::Action(Action::Follow),
            "/cache/purge" => Self::Action(Action::Purge),
            "/reload" => Self::Action(Action::Reload),
            "/stop" => Self::Action(Action::Stop),
            _ => {
                if let Some(part) = Part::of(path) {
                    return Some(Self::Page(Page::Part(part)));
                }
                if let Some(address) = path.strip_prefix("/limits/") {
                    return Some(Self::Page(Page::LimitsOf { address }));
                }
                let (upstream, action) = path.strip_prefix("/upstreams/")?.split_once('/')?;
                match action {
                    "drain" => Self::Action(Action::Drain { upstream }),
                    "undrain" => Self::Action(Action::Undrain { upstream }),
                    _ => return None,
                }
            }
        };
        Some(known)
    }

    /// What does not work with this method names those that do.
    fn check_method(self, method: &Method) -> Result<(), &'static str> {
        match (self, method) {
            (Self::Page(_), &Method::GET | &Method::HEAD)
            | (Self::Events, &Method::GET)
            | (Self::Explain | Self::Action(_), &Method::POST) => Ok(()),
            (Self::Page(_), _) => Err("GET, HEAD"),
            (Self::Events, _) => Err("GET"),
            (Self::Explain | Self::Action(_), _) => Err("POST"),
        }
    }
}

/// Answers a request. `rules` are those of this moment. For HEAD the codec leaves the body out.
pub async fn answer<P, B>((process, live): (&P, &Live), rules: &config::Admin, via: Via, request: Request<B>) -> Answer
where
    P: Process,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (head, body) = request.into_parts();
    if let Err(refusal) = access::may_read(via, &head, rules) {
        return answer::refused(&refusal);
    }
    let Some(target) = Target::of(head.uri.path()) else {
        return answer::problem(StatusCode::NOT_FOUND, &format!("there is no {}", head.uri.path()), PATHS);
    };
    if let Err(allowed) = target.check_method(&head.method) {
        return answer::method_not_allowed(&head.method, allowed);
    }
    match target {
        Target::Events => live.join(process, rules, via),
        Target::Page(page) => show((process, live), rules, page, &head).await,
        // What the file sends to origins is for those alone who may control.
        Target::Explain => explain(process, access::may_control(via, &head, rules).is_ok(), body).await,
        Target::Action(action) => match access::may_control(via, &head, rules) {
            Ok(()) => act(process, action, &head, body).await,
            Err(refusal) => answer::refused(&refusal),
        },
    }
}

async fn show<P: Process>((process, live): (&P, &Live), rules: &config::Admin, page: Page<'_>, head: &Parts) -> Answer {
    match page {
        Page::Tables => live.tables(process, rules).await,
        Page::Part(part) => answer::page(part),
        Page::Live => answer::text(StatusCode::OK, "ok\n"),
        Page::Ready if process.is_draining() => answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        // What balances load in front should ask another one.
        Page::Ready if process.refuses_all() => answer::text(StatusCode::SERVICE_UNAVAILABLE, "memory-short\n"),
        Page::Ready => answer::text(StatusCode::OK, "ready\n"),
        Page::Status => answer::json(StatusCode::OK, &process.status()),
        Page::Upstreams => answer::json(StatusCode::OK, &upstreams(&process.pools())),
        Page::Cache => {
            let status = CacheStatus::new(process.cache_config().enabled, process.cache().report());
            answer::json(StatusCode::OK, &status)
        }
        Page::Limits => limits::overview(process).await,
        Page::LimitsOf { address } => limits::of_address(process, address),
        Page::Metrics => metrics(process, head).await,
    }
}

/// Counts of thousands of routes take long to write, so it is done elsewhere.
async fn metrics<P: Process>(process: &P, head: &Parts) -> Answer {
    let metrics = process.metrics();
    let takes_gzip = Accepted::of(&head.headers).is_some_and(|accepted| accepted.choose(&[Coding::Gzip]).is_some());
    let write = move || match metrics.text() {
        text if takes_gzip => compress::code_whole(text.as_bytes(), Coding::Gzip, METRICS_GZIP_LEVEL),
        text => Ok(text.into()),
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(body)) => answer::metrics(body, takes_gzip),
        Ok(Err(error)) => cannot("write the metrics", &error),
        Err(error) => cannot("write the metrics", &error),
    }
}

fn cannot(what: &str, error: &dyn Error) -> Answer {
    tracing::error!("cannot {what}: {error}");
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, "this did not work; the log says why\n")
}

async fn act<P, B>(process: &P, action: Action<'_>, head: &Parts, body: B) -> Answer
where
    P: Process,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (upstream, change): (_, fn(&Pool, SocketAddr) -> bool) = match action {
        Action::Reload => return reload(process).await,
        Action::Stop => {
            tracing::info!("told to stop by {}", head.uri.path());
            process.stop();
            return answer::json(StatusCode::ACCEPTED, &serde_json::json!({ "result": "stopping" }));
        }
        Action::Purge => return purge(process, body).await,
        Action::Follow => return follow(process, body).await,
        Action::ResetLimits => {
            return match which(body, r#"{"address": "192.0.2.1"}"#).await {
                Ok(address) => limits::reset(process, address),
                Err(problem) => problem,
            };
        }
        Action::Drain { upstream } => (upstream, Pool::drain),
        Action::Undrain { upstream } => (upstream, Pool::undrain),
    };
    match which::<SocketAddr, _>(body, r#"{"address": "10.0.0.1:3000"}"#).await {
        Ok(address) => change_endpoint(&process.pools(), upstream, address, change),
        Err(problem) => problem,
    }
}

async fn purge<P, B>(process: &P, body: B) -> Answer
where
    P: Process,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let order = match read(body, purge::SHAPE).await.map(|body| Order::read(&body)) {
        Ok(Ok(order)) => order,
        Ok(Err(wrong)) => return answer::problem(StatusCode::BAD_REQUEST, &wrong.error, wrong.expected),
        Err(problem) => return problem,
    };
    let dependencies = Dependencies::of(&process.cache_config());
    let purge = match order.purge(&dependencies, clock::system_time()) {
        Ok(purge) => purge,
        Err(too_much) => {
            let expected = "a narrower purge, or \"all\"";
            return answer::problem(StatusCode::UNPROCESSABLE_ENTITY, &too_much.to_string(), expected);
        }
    };
    let (cache, is_dry_run) = (process.cache(), order.is_dry_run);
    // It goes over all that is stored.
    let work = move || {
        let matched = if is_dry_run { cache.count(&purge) } else { cache.purge(&purge) };
        Purged::new(&purge, matched, is_dry_run)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(purged) => {
            tracing::info!("purge: {purged:?}");
            answer::json(StatusCode::OK, &purged)
        }
        Err(error) => {
            tracing::error!("a purge failed: {error}");
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the purge failed\n")
        }
    }
}

async fn follow<P, B>(process: &P, body: B) -> Answer
where
    P: Process,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    const SHAPE: &str = r#"{} for all requests, or parts of a filter such as {"status": ["5xx"], "route": "api"}"#;
    let body = match read(body, SHAPE).await {
        Ok(body) => body,
        Err(problem) => return problem,
    };
    let filter: Filter = match serde_json::from_slice(&body) {
        Ok(filter) => filter,
        Err(error) => return answer::problem(StatusCode::BAD_REQUEST, &error.to_string(), SHAPE),
    };
    match filter.compile(error::WORDS).map(|wanted| process.follow(wanted)) {
        Ok(Some(following)) => answer::lines(following),
        Ok(None) => {
            let error = "too many follow the log already";
            answer::problem(StatusCode::SERVICE_UNAVAILABLE, error, "one of them to end")
        }
        Err(error) => answer::problem(StatusCode::BAD_REQUEST, &error.to_string(), error.expected),
    }
}

async fn explain<P, B>(process: &P, shows_secrets: bool, body: B) -> Answer
where
    P: Process,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    const SHAPE: &str = r#"{"method": "GET", "url": "https://host/path", "fields": [["accept", "text/html"]]}"#;
    let body = match read(body, SHAPE).await {
        Ok(body) => body,
        Err(problem) => return problem,
    };
    let question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => return answer::problem(StatusCode::BAD_REQUEST, &error.to_string(), SHAPE),
    };
    match process.explain(&question, shows_secrets) {
        Ok(explanation) => answer::json(StatusCode::OK, &explanation),
        Err(unclear) => answer::problem(StatusCode::BAD_REQUEST, &unclear.error, unclear.expected),
    }
}

async fn reload<P: Process>(process: &P) -> Answer {
    match process.reload().await {
        Some(outcome @ Outcome::Applied { .. }) => answer::json(StatusCode::OK, &outcome),
        Some(outcome @ Outcome::Refused { .. }) => answer::json(StatusCode::UNPROCESSABLE_ENTITY, &outcome),
        None => answer::problem(StatusCode::SERVICE_UNAVAILABLE, "the process is stopping", "a process that runs"),
    }
}

fn change_endpoint(
    pools: &BTreeMap<String, Arc<Pool>>,
    upstream: &str,
    address: SocketAddr,
    change: fn(&Pool, SocketAddr) -> bool,
) -> Answer {
    let Some(pool) = pools.get(upstream) else {
        let error = format!("there is no upstream {upstream:?}");
        return answer::problem(StatusCode::NOT_FOUND, &error, &one_of(pools.keys()));
    };
    if !change(pool, address) {
        let error = format!("upstream {upstream} has no endpoint {address}");
        let known = pool.members().iter().map(|member| member.endpoint.address).collect::<Vec<_>>();
        return answer::problem(StatusCode::NOT_FOUND, &error, &one_of(known));
    }
    answer::json(StatusCode::OK, &super::upstream(upstream, pool))
}

fn one_of(known: impl IntoIterator<Item = impl ToString>) -> String {
    let known: Vec<String> = known.into_iter().map(|name| name.to_string()).collect();
    if known.is_empty() { "none: there are none".to_owned() } else { format!("one of {}", known.join(", ")) }
}

/// Reads which one is meant, as in `expected`.
async fn which<A, B>(body: B, expected: &str) -> Result<A, Answer>
where
    A: DeserializeOwned,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which<A> {
        address: A,
    }
    let body = read(body, expected).await?;
    let which: Which<A> = serde_json::from_slice(&body)
        .map_err(|error| answer::problem(StatusCode::BAD_REQUEST, &error.to_string(), expected))?;
    Ok(which.address)
}

/// A whole body, within its limits.
async fn read<B>(body: B, expected: &str) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let problem = |status, error: &str| answer::problem(status, error, expected);
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match collected {
        Err(_elapsed) => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 64 KiB"))
        }
        Ok(Err(_)) => Err(problem(StatusCode::BAD_REQUEST, "the body ended too early")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

#[cfg(test)]
mod tests;
