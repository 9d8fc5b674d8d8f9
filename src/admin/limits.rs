//! Rate limits as operators see them: who has used most, how one address stands, and giving it its quota back.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::Process;
use super::answer::{self, Answer};
use crate::config::{Algorithm, RateLimit};
use crate::rate_limit::{Counted, Limit, Overview, Reported, Tally};

/// A limit, and the names of the routes that have it.
pub struct Named {
    pub limit: Arc<Limit>,
    pub routes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shape {
    name: String,
    key: String,
    requests: u32,
    window_s: u64,
    algorithm: &'static str,
    burst: Option<u32>,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
pub struct LimitStatus {
    #[serde(flatten)]
    shape: Shape,
    routes: Vec<String>,
    keys: usize,
    keys_max: usize,
    limited_now: usize,
    allowed: u64,
    limited: u64,
    dry_run_limited: u64,
    evicted: u64,
    most_used: Vec<CountStatus>,
}

#[derive(Debug, Serialize)]
struct CountStatus {
    who: String,
    used: u32,
    remaining: u32,
    more_after_s: f64,
    refused: u32,
}

/// How an address stands with one limit.
#[derive(Debug, Serialize)]
struct AddressStatus {
    #[serde(flatten)]
    shape: Shape,
    /// `counted`, `exempt`, or `shared` if addresses do not matter to it.
    state: &'static str,
    #[serde(flatten)]
    count: Option<CountStatus>,
}

impl Shape {
    fn of(config: &RateLimit) -> Self {
        let (algorithm, burst) = match config.quota.algorithm {
            Algorithm::Window => ("window", None),
            Algorithm::Gcra { burst } => ("gcra", Some(burst)),
        };
        Self {
            name: config.name.clone(),
            key: config.quota.key.to_string(),
            requests: config.quota.requests,
            window_s: config.quota.window.as_secs(),
            algorithm,
            burst,
            dry_run: config.dry_run,
        }
    }
}

impl CountStatus {
    fn of(counted: Counted) -> Self {
        let Counted { who, standing, refused } = counted;
        Self {
            who,
            used: standing.capacity.saturating_sub(standing.remaining),
            remaining: standing.remaining,
            more_after_s: standing.more_after.as_millis() as f64 / 1_000.0,
            refused,
        }
    }
}

/// All limits.
pub async fn overview<P: Process>(process: &P) -> Answer {
    match statuses(process.rate_limits()).await {
        Some(limits) => answer::json(StatusCode::OK, &limits),
        None => cannot_look(),
    }
}

pub fn cannot_look() -> Answer {
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot look at the rate limits\n")
}

/// It looks at every key, on a thread that may block.
pub async fn statuses(limits: Vec<Named>) -> Option<Vec<LimitStatus>> {
    let look = move || limits.iter().map(status).collect::<Vec<_>>();
    let looked = tokio::task::spawn_blocking(look).await;
    looked.inspect_err(|error| tracing::error!("cannot look at the rate limits: {error}")).ok()
}

pub fn of_address<P: Process>(process: &P, address: &str) -> Answer {
    match address.parse::<IpAddr>() {
        Ok(address) => answer::json(StatusCode::OK, &standings(process, address)),
        Err(_) => answer::problem(
            StatusCode::BAD_REQUEST,
            &format!("{address:?} is not an address"),
            "an address such as 192.0.2.1 or 2001:db8::1",
        ),
    }
}

/// Has all limits forget an address, and tells how it stands then.
pub fn reset<P: Process>(process: &P, address: IpAddr) -> Answer {
    let forgotten = process.rate_limits().iter().filter(|named| named.limit.reset(address)).count();
    tracing::info!("rate limits: {address} is reset in {forgotten} of them");
    answer::json(StatusCode::OK, &standings(process, address))
}

fn standings<P: Process>(process: &P, address: IpAddr) -> Vec<AddressStatus> {
    let address_status = |Named { limit, .. }: &Named| {
        let (state, count) = match limit.of_address(address) {
            Reported::Exempt => ("exempt", None),
            Reported::NotByAddress => ("shared", None),
            Reported::Counted(counted) => ("counted", Some(CountStatus::of(counted))),
        };
        AddressStatus { shape: Shape::of(limit.config()), state, count }
    };
    process.rate_limits().iter().map(address_status).collect()
}

fn status(Named { limit, routes }: &Named) -> LimitStatus {
    let names: Vec<&str> = routes.iter().map(String::as_str).collect();
    let Overview { keys, tally, limited_now, most_used } = limit.overview(&names);
    let Tally { allowed, limited, dry_run, evicted } = tally;
    LimitStatus {
        shape: Shape::of(limit.config()),
        routes: routes.clone(),
        keys,
        keys_max: limit.config().keys_max,
        limited_now,
        allowed,
        limited,
        dry_run_limited: dry_run,
        evicted,
        most_used: most_used.into_iter().map(CountStatus::of).collect(),
    }
}
