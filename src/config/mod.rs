//! The checked configuration: what `config.toml` means once every default is applied.
//!
//! Nothing after this module looks at raw input. No `Option` here means "default": it means that the
//! operator can leave the thing out.

#[cfg(test)]
mod broken;
mod balancing;
mod caching;
pub(crate) mod change;
mod compress;
mod conceal;
mod decode;
pub mod diagnostics;
pub mod docs;
mod effective;
mod environment;
mod file;
mod files;
#[cfg(test)]
mod generated;
mod keys;
mod limiting;
mod load;
mod lower;
mod nearest;
mod parse;
mod routes;
pub mod schema;
mod section;
mod telemetry;
mod tree;
mod units;
mod unknown;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

pub use self::balancing::{Breaker, HashBy, Outlier, Queue, Retry};
pub use self::caching::{Bypass, Cache, CacheRule, CachedCookies, CachedQuery, Dependency, RouteCache, Ttl, Warm};
pub use self::compress::{Coding, Compress, Levels, TypePattern};
pub use self::diagnostics::Diagnostics;
pub use self::environment::Environment;
pub use self::files::Files;
pub use self::limiting::{Algorithm, LimitHeaders, LimitKey, Quota, ROUTE_LIMITS_MAX, RateLimit};
pub use self::load::{Loaded, Unusable, load};
pub use self::lower::connections_left;
pub use self::parse::parse;
pub use self::routes::{
    Action, Buffer, Fallback, FieldEdits, HostPolicy, NO_ROUTE, NewQuery, OTHERS, PathMatch, PathRewrite, ProxyPass,
    Replacement, Route,
};
pub use self::telemetry::{AccessFormat, AccessLog, Log, LogLevel, LogTarget, Telemetry};
use crate::overload::memory;

/// One whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub profile: Profile,
    pub server: Server,
    pub listeners: Vec<Listen>,
    pub certificates: Vec<Certificate>,
    pub client: Client,
    pub dns: Dns,
    pub rate_limits: Vec<RateLimit>,
    pub cache: Cache,
    pub upstreams: Vec<Upstream>,
    /// None if it is off where a route does not say otherwise.
    pub compress: Option<Compress>,
    pub routes: Vec<Route>,
    pub admin: Option<Admin>,
    pub log: Log,
    /// None: requests have no trace.
    pub telemetry: Option<Telemetry>,
}

/// The set of defaults that the rest of the file starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Development,
    Staging,
    Production,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; 0 is one a core. Needs a restart.
    pub workers: usize,
    /// Downstream connections over all workers; 0 is what the descriptor limit leaves.
    pub connections_max: usize,
    /// From this share of them on, in hundredths, idle ones are closed early. None: never.
    pub idle_close_at: Option<u32>,
    /// Requests in flight over all; 0 is no limit.
    pub requests_max: usize,
    /// None if it is off, or nothing says how much there is.
    pub memory: Option<memory::Limits>,
    /// How long accepting goes on after `/readyz` says 503.
    pub drain_delay: Duration,
    /// How long open requests may take once accepting has ended.
    pub drain_timeout: Duration,
    pub reload: Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The files are watched, and SIGHUP works too.
    Watch,
    /// SIGHUP and `tollgate reload` alone.
    Signal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: Option<ListenTls>,
    pub protocols: Protocols,
    /// Requests are answered by a redirect to https at this port, but for challenges that a route serves.
    pub https_redirect: Option<u16>,
    /// `Strict-Transport-Security`, ready to be sent; only on TLS listeners.
    pub hsts: Option<HeaderValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    pub min: TlsVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// What a listener speaks. On a cleartext listener `h2` is by prior knowledge (RFC 9113 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    pub h1: bool,
    pub h2: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub hosts: Vec<HostPattern>,
    pub source: CertificateSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made by this process, for development.
    Local,
    /// PEM files, relative paths resolved against the folder of the config file.
    Files { certificate: PathBuf, key: PathBuf },
}

/// A host name as routes and certificates name it, in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.com` holds `example.com`: any one label before it.
    Wildcard(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(name) => write!(f, "*.{name}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted: Vec<IpNet>,
    /// Connections of one address; 0 is a quarter of all.
    pub connections_max: usize,
    /// Requests of one client in flight; 0 is no limit.
    pub requests_max: usize,
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its end, absolute.
    pub header_timeout: Duration,
    /// Silence in the middle of a body.
    pub body_timeout: Duration,
    /// Keep-alive: silence between two requests.
    pub idle_timeout: Duration,
    /// Silence in the middle of a response.
    pub send_timeout: Duration,
    /// The least in bytes a second, of a body or a response, while the client is waited for; 0 is none.
    pub rate_min: u64,
    pub body_max: u64,
    pub h2: H2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2 {
    pub streams_max: u32,
    /// None means a share of the memory.
    pub heads_max: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// An answer is asked for again after its TTL, and never later than this.
    pub ttl_max: Duration,
    /// Name servers to ask; none means those of the system.
    pub servers: Vec<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub source: Source,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    pub balance: Balance,
    /// What requests of one kind share, for [`Balance::Hash`].
    pub hash_by: HashBy,
    /// In percent of the even share; none means that keys stay however much is to do.
    pub hash_load_max: Option<u32>,
    /// Requests in flight over all endpoints; 0 is no limit.
    pub requests_max: usize,
    /// Requests in flight at each endpoint; 0 is no limit.
    pub endpoint_requests_max: usize,
    /// None refuses what is over these limits at once.
    pub queue: Option<Queue>,
    /// Failures within `fail_timeout` that take an endpoint out for `fail_timeout`; 0 switches it off.
    pub fails_max: u32,
    pub fail_timeout: Duration,
    /// What the pause of one that comes back and fails again grows to.
    pub fail_timeout_max: Duration,
    pub outlier: Option<Outlier>,
    /// How long an endpoint that comes takes to its whole share.
    pub slow_start: Option<Duration>,
    pub keepalive: Keepalive,
    pub timeout: Timeouts,
    pub health: Option<HealthCheck>,
    pub breaker: Option<Breaker>,
    pub retry: Retry,
}

/// Where an upstream's endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Endpoints(Vec<EndpointAddress>),
    Run(Run),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointAddress {
    pub target: Target,
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Socket(SocketAddr),
    /// Every address of the name is an endpoint.
    Name {
        host: String,
        port: u16,
    },
}

/// Replicas that the proxy itself starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments; `{self}`, `{address}` and `{port}` are filled in at the start, `{folder}` is already.
    pub command: Vec<String>,
    pub replicas: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    H1,
    H2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that is sent (SNI) and verified; none means the endpoint's own name or address.
    pub server_name: Option<String>,
    /// PEM file of the trusted roots; none means those of the system.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastConnections,
    RoundRobin,
    RandomTwo,
    Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle connections kept per endpoint and worker.
    pub connections: usize,
    /// Requests a connection carries before it is closed.
    pub requests: u64,
    pub idle: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Silence between two writes to the upstream.
    pub send: Duration,
    /// From the end of a request to the whole head of its response, then silence between two reads.
    pub read: Duration,
    /// Silence in both directions of a tunnel.
    pub tunnel_idle: Duration,
    /// From the request's head to the response's head, over all attempts.
    pub total: Option<Duration>,
    /// The same for one attempt.
    pub attempt: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// The first 64 KiB of the answer must contain this.
    pub expect_body: Option<String>,
    pub when_all_fail: WhenAllFail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllFail {
    /// Every endpoint that is not drained is used as if it were healthy.
    UseAll,
    /// 503.
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
    /// Values of `Host` that are answered, against DNS rebinding.
    pub hosts: Vec<String>,
    /// Networks that may read.
    pub allow: Vec<IpNet>,
    /// Unix socket for control (reload, stop, drain); reading works there too.
    pub socket: Option<PathBuf>,
    /// Bearer token that allows control over TCP.
    pub token: Option<Secret>,
}

/// A value that never appears in a log, a dump or a diagnostic.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
