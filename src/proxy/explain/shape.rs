//! What is asked, and what is answered: the shape of the JSON of `/explain`, which tools read. Names are not changed.
//!
//! The sections stand in the order in which a request passes them. One that is not there was not reached. Whatever is
//! null is not known: without a running process nobody can say how a limit or an endpoint stands.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A request that may come, over HTTP/1.1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub method: String,
    /// `http` or `https`, a host, and a path, which is taken as it is written.
    pub url: String,
    /// Names and values, in the order of their lines.
    #[serde(default)]
    pub fields: Vec<(String, String)>,
    /// The other end of its connection; this machine if it is not said.
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// The listener that it comes by, as configured or as bound; the first of its scheme if it is not said.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub method: String,
    pub url: String,
    pub listener: SocketAddr,
    pub scheme: String,
    /// Of the configuration that answers; null: a file that is not served.
    pub generation: Option<u64>,
    pub outcome: Outcome,
    pub target: Option<Target>,
    pub client: Option<Client>,
    pub routes: Vec<Tried>,
    pub access: Option<Access>,
    pub in_flight: Vec<InFlight>,
    pub rate_limits: Vec<RateLimit>,
    pub body: Option<Body>,
    pub cache: Option<Cached>,
    pub coding: Option<Coding>,
    pub upstream: Option<Upstream>,
    pub request: Option<Changes>,
    pub response: Option<Edits>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub by: By,
    /// Null if the origin says.
    pub status: Option<u16>,
    /// The reason code of a refusal.
    pub reason: Option<String>,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// In a sentence.
    pub why: String,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The edge, which refuses it.
    Refusal,
    /// The edge, by a redirect.
    Redirect,
    /// The edge, by what stands in the configuration.
    Route,
    /// The edge, by what it has kept.
    Cache,
    /// An endpoint.
    Origin,
}

/// What is asked for, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub host: String,
    pub port: Option<u16>,
    pub path_came: String,
    /// The canonical one, by which routes are found.
    pub path: String,
    pub query: Option<String>,
}

/// On whose behalf it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub address: IpAddr,
    pub why: String,
    /// From the peer on, as far as it was believed.
    pub chain: Vec<Hop>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// As it was written; null for the peer.
    pub said: Option<String>,
    /// Null: it is no address.
    pub address: Option<IpAddr>,
    pub trusted: bool,
}

/// One route, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub name: String,
    /// File and line.
    pub place: String,
    pub hosts: Vec<String>,
    /// With `=` before an exact path, and `~` before a pattern.
    pub path: String,
    pub verdict: Verdict,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Chosen,
    /// It fits, and another one goes before it.
    Outranked,
    OtherHost,
    OtherPath,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub admitted: bool,
    pub why: String,
}

/// A limit of requests in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The key that sets it.
    pub limit: String,
    pub max: usize,
    pub open: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    pub name: String,
    /// What it counts by.
    pub key: String,
    pub requests: u32,
    pub window_s: u64,
    pub burst: Option<u32>,
    pub dry_run: bool,
    pub exempt: bool,
    /// As it stands before this request. Null if that is not known, or the client is exempt.
    pub state: Option<LimitState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitState {
    pub remaining: u32,
    pub capacity: u32,
    /// Until there is one more.
    pub more_after_s: f64,
    pub refuses: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    pub max: u64,
    /// Null if it comes in chunks: then it is counted as it comes.
    pub announced: Option<u64>,
    pub fits: bool,
}

/// What the cache says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    /// `off`, `hit`, `stale`, `miss` or `bypass`.
    pub verdict: String,
    /// As `Cache-Status` would say it when the request begins.
    pub cache_status: Option<String>,
    pub why: String,
    /// The section that decides.
    pub rfc: Option<String>,
    pub key: Option<Key>,
    /// Of the response that is used or validated.
    pub age_s: Option<u64>,
    /// What is left of its lifetime; below zero it has been stale for so long.
    pub fresh_for_s: Option<i64>,
    /// All that is stored for the key, the newest first. Null if that is not known.
    pub variants: Option<Vec<Variant>>,
    /// A request that is not answered at once `leads`, `follows` another one's fetch, or is `alone`.
    pub line: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub url: String,
    /// Chosen fields, as the request has them.
    pub fields: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// The fields by which it was selected. Their values are those of somebody else's request.
    pub vary: Vec<String>,
    pub matches: bool,
    pub status: u16,
    pub age_s: u64,
    pub fresh_for_s: i64,
    pub bytes: Option<u64>,
}

/// Whether the response would be coded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coding {
    /// What the route offers, the best liked first.
    pub offered: Vec<String>,
    /// `gzip`, `br`, `zstd` or `decoded`.
    pub coding: Option<String>,
    /// Why there is none, by the code that the access log has.
    pub not_coded: Option<String>,
    /// Null: the response is known, and this is what becomes of it. Otherwise what the response has to be.
    pub needs: Option<Needs>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    pub types: Vec<String>,
    pub min_size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    pub name: String,
    /// How endpoints are chosen, as the configuration says it.
    pub balance: String,
    /// The order is made by chance, and is another one each time.
    pub by_chance: bool,
    /// All endpoints are out, and are used all the same.
    pub uses_all: bool,
    /// Null if it has none.
    pub breaker: Option<Breaker>,
    /// Requests that wait for room.
    pub waiting: Option<usize>,
    /// Those that would be tried, in that order, and then the others.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    pub state: String,
    pub refuses: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// From one on; null: it is not asked, or would be after 32 others.
    pub place: Option<usize>,
    pub address: SocketAddr,
    pub name: String,
    /// Null without a running process.
    pub state: Option<String>,
    pub weight: u32,
    pub in_flight: Option<usize>,
    pub full: bool,
}

/// How the request goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Path and query as they are sent.
    pub target: String,
    /// The target is not the one that came.
    pub rewritten: bool,
    pub added: Vec<(String, String)>,
    pub changed: Vec<Changed>,
    pub removed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub name: String,
    pub from: String,
    pub to: String,
}

/// What the configuration does to the fields of the response, and how it names the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    pub set: Vec<(String, String)>,
    pub removed: Vec<String>,
}
