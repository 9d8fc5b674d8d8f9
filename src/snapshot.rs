//! One generation of the configuration, ready to serve. It is swapped whole; a request holds one from its
//! start to its end.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use tollgate_otlp::Queue;

use crate::balance::Pool;
use crate::cache::{Cache, Policy};
use crate::clock;
use crate::config::{self, Buffer, Config, Fallback, HostPolicy, PathRewrite, ProxyPass, Timeouts};
use crate::fetch::Fetch;
use crate::interim::Relay;
use crate::overload::{self, Overload};
use crate::rate_limit::{self, RateLimits, RouteLimits};
use crate::rewrite::Template;
use crate::route::Router;
use crate::telemetry::metrics::RouteCounts;
use crate::telemetry::traces::Tracing;
use crate::telemetry::{Metrics, RouteMetrics};
use crate::tls::{Acceptor, Certificates, RootsError, UpstreamTls};
use crate::upstream::budget::Budget;
use crate::upstream::{Connections, Limits, Upstream};

/// The snapshot in force.
pub type Live = ArcSwap<Snapshot>;

pub struct Snapshot {
    pub generation: u64,
    pub config: Config,
    pub router: Router<Arc<Route>>,
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    pub rate_limits: RateLimits,
    /// Of requests in flight.
    pub limits: overload::Limits,
    /// None: requests have no trace.
    pub tracing: Option<Tracing>,
    listeners: Vec<Listener>,
}

/// A listener as the config has it now; its sockets live longer than a snapshot.
pub struct Listener {
    pub config: config::Listen,
    pub tls: Option<Acceptor>,
}

/// What each request looks at comes first.
#[repr(C)]
pub struct Route {
    pub action: Action,
    /// None if it has none.
    pub rate_limits: Option<RouteLimits>,
    /// Its requests in flight and how many there may be.
    pub in_flight: Option<(Arc<overload::Count>, usize)>,
    pub config: config::Route,
    pub metrics: RouteMetrics,
    /// Which one it is of its generation.
    index: usize,
}

pub enum Action {
    Proxy(Box<Pass>),
    Redirect { to: Template, status: StatusCode },
    Text { body: Bytes, status: StatusCode },
    StubStatus,
}

pub struct Pass {
    pub upstream: Arc<Upstream>,
    pub host: HostPolicy,
    pub rewrite: PathRewrite,
    pub limits: Timeouts,
    pub buffer: Buffer,
    /// None: what is not kept gets no entity tag.
    pub etag_body_max: Option<usize>,
    /// None: responses are not kept.
    pub caching: Option<Arc<Policy>>,
    /// None: a plain page that names the reason.
    pub fallback: Option<Fallback>,
}

impl Pass {
    /// The origin side of a request, over the connections of a worker.
    pub fn fetch<'a>(&'a self, connections: &'a Connections, relay: Option<Relay<'a>>) -> Fetch<'a> {
        Fetch {
            upstream: &self.upstream,
            connections,
            limits: Limits {
                timeouts: &self.limits,
                buffered_max: self.buffer.response,
                early_max: usize::MAX,
                as_lines: None,
            },
            host_of_endpoint: self.host == HostPolicy::Upstream,
            relay,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("upstream {upstream}: {source}")]
    UpstreamTls { upstream: String, source: RootsError },
    #[error("listener {address}: {source}")]
    ListenerTls { address: SocketAddr, source: rustls::Error },
    #[error("{origin}: there is no upstream {upstream:?}")]
    UnknownUpstream { origin: String, upstream: String },
    #[error("{origin}: {source}")]
    Template { origin: String, source: crate::rewrite::TemplateError },
}

/// What outlives every snapshot.
pub struct Lasting<'a> {
    pub certificates: &'a Arc<Certificates>,
    pub metrics: &'a Metrics,
    pub cache: &'a Cache,
    pub overload: &'a Overload,
    /// Where spans wait; None if there is no exporter.
    pub spans: Option<&'a Arc<Queue>>,
}

impl Snapshot {
    /// Builds the next generation; state of endpoints that stay is carried over from `previous`.
    pub fn build(config: Config, previous: Option<&Self>, lasting: &Lasting<'_>) -> Result<Self, SnapshotError> {
        let upstreams = build_upstreams(&config, previous, lasting.metrics)?;
        let rate_limits = rate_limit::build(&config.rate_limits, previous.map(|previous| &previous.rate_limits));
        let mut routes = Vec::with_capacity(config.routes.len());
        for (index, route) in config.routes.iter().enumerate() {
            let built = Arc::new(Route::build((index, route), (&config.cache, &rate_limits), &upstreams, lasting)?);
            routes.push((route.hosts.clone(), route.path.clone(), built));
        }
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listen in &config.listeners {
            let acceptor = match &listen.tls {
                None => None,
                Some(policy) => Some(
                    Acceptor::new(policy, listen.protocols, lasting.certificates)
                        .map_err(|source| SnapshotError::ListenerTls { address: listen.address, source })?,
                ),
            };
            listeners.push(Listener { config: listen.clone(), tls: acceptor });
        }
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let limits = overload::Limits { proxy: config.server.requests_max, client: config.client.requests_max };
        let tracing = config.telemetry.as_ref().map(|telemetry| Tracing::new(telemetry, lasting.spans));
        let router = Router::new(routes);
        Ok(Self { generation, router, upstreams, rate_limits, limits, tracing, listeners, config })
    }

    /// Called once, when this generation begins to serve.
    pub fn activate(&self) {
        for upstream in self.upstreams.values() {
            upstream.pool.activate();
            upstream.current.set(upstream);
        }
        self.rate_limits.values().for_each(|limit| limit.activate());
        self.router.routes().for_each(|route| route.metrics.matches(route.config.path.text()));
    }

    /// The listener of an address as the config names it.
    pub fn listener(&self, configured: SocketAddr) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.config.address == configured)
    }
}

/// A generation as one worker serves it.
///
/// A request holds its generation and its route. Were these counted where all workers count, the counts would
/// travel from core to core with each request; so each worker has handles of its own, counted by it alone.
pub struct View {
    snapshot: Arc<Snapshot>,
    routes: Vec<OnceCell<Arc<HeldRoute>>>,
}

/// A route that is kept for as long as its request is on record.
pub struct HeldRoute {
    route: Arc<Route>,
    counts: OnceLock<Arc<RouteCounts>>,
}

impl View {
    pub fn new(snapshot: &Arc<Snapshot>) -> Rc<Self> {
        let routes = (0..snapshot.config.routes.len()).map(|_| OnceCell::new()).collect();
        Rc::new(Self { snapshot: Arc::clone(snapshot), routes })
    }

    pub fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    /// The route for a request.
    pub fn route(&self, host: &str, path: &str) -> Option<Arc<HeldRoute>> {
        let place = self.router.find_place(host, path)?;
        let held = self.routes.get(place)?;
        if let Some(held) = held.get() {
            return Some(Arc::clone(held));
        }
        let route = Arc::clone(self.router.at(place)?);
        Some(Arc::clone(held.get_or_init(|| Arc::new(HeldRoute { route, counts: OnceLock::new() }))))
    }
}

impl Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl HeldRoute {
    /// What its worker counts of it. Among thousands of routes, it is found by fewer steps than by the route itself.
    pub fn counts(&self) -> &RouteCounts {
        self.counts.get_or_init(|| self.route.metrics.counts())
    }
}

impl Deref for HeldRoute {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

impl Route {
    fn build(
        (index, route): (usize, &config::Route),
        (keeping, rate_limits): (&config::Cache, &RateLimits),
        upstreams: &BTreeMap<String, Arc<Upstream>>,
        lasting: &Lasting<'_>,
    ) -> Result<Self, SnapshotError> {
        let origin = || route.origin.clone();
        let action = match &route.action {
            config::Action::Proxy(pass) => {
                let ProxyPass { upstream, host, path, timeout, buffer, etag_body_max, cache, fallback } = &**pass;
                let found = upstreams
                    .get(upstream)
                    .ok_or_else(|| SnapshotError::UnknownUpstream { origin: origin(), upstream: upstream.clone() })?;
                Action::Proxy(Box::new(Pass {
                    upstream: Arc::clone(found),
                    host: host.clone(),
                    rewrite: path.clone(),
                    limits: *timeout,
                    buffer: *buffer,
                    etag_body_max: *etag_body_max,
                    fallback: fallback.clone(),
                    caching: cache
                        .as_ref()
                        .filter(|_| keeping.enabled)
                        .map(|cache| Arc::new(Policy::new(keeping, cache, lasting.cache.statistics(&route.name)))),
                }))
            }
            config::Action::Redirect { to, status } => {
                let to = Template::parse(to).map_err(|source| SnapshotError::Template { origin: origin(), source })?;
                Action::Redirect { to, status: *status }
            }
            config::Action::Text { body, status } => {
                Action::Text { body: Bytes::copy_from_slice(body.as_bytes()), status: *status }
            }
            config::Action::StubStatus => Action::StubStatus,
        };
        let in_flight = match route.requests_max {
            0 => None,
            max => Some((lasting.overload.route(&route.name), max)),
        };
        let (rate_limits, metrics) =
            (RouteLimits::of(&route.rate_limit, rate_limits), lasting.metrics.route(&route.name, route.path.text()));
        Ok(Self { index, config: route.clone(), action, rate_limits, metrics, in_flight })
    }

    /// The page in place of a response that the upstream does not bring.
    pub fn fallback(&self) -> Option<&Fallback> {
        match &self.action {
            Action::Proxy(pass) => pass.fallback.as_ref(),
            Action::Redirect { .. } | Action::Text { .. } | Action::StubStatus => None,
        }
    }

    /// Which one it is in its file.
    pub fn place(&self) -> usize {
        self.index
    }

    /// None if its responses are not kept.
    pub fn caching(&self) -> Option<&Policy> {
        match &self.action {
            Action::Proxy(pass) => pass.caching.as_deref(),
            Action::Redirect { .. } | Action::Text { .. } | Action::StubStatus => None,
        }
    }

    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.action {
            Action::Proxy(pass) => Some(&pass.upstream),
            Action::Redirect { .. } | Action::Text { .. } | Action::StubStatus => None,
        }
    }
}

fn build_upstreams(
    config: &Config,
    previous: Option<&Snapshot>,
    metrics: &Metrics,
) -> Result<BTreeMap<String, Arc<Upstream>>, SnapshotError> {
    let mut upstreams = BTreeMap::new();
    for upstream in &config.upstreams {
        let name = upstream.name.clone();
        let before = previous.and_then(|previous| previous.upstreams.get(&name));
        let tls = match &upstream.tls {
            None => None,
            Some(policy) => Some(
                UpstreamTls::new(policy, upstream.protocol)
                    .map_err(|source| SnapshotError::UpstreamTls { upstream: name.clone(), source })?,
            ),
        };
        let built = Upstream {
            pool: Arc::new(Pool::new(upstream, before.map(|before| &*before.pool))),
            tls,
            metrics: metrics.upstream(&upstream.name),
            budget: before
                .map_or_else(|| Arc::new(Budget::new(clock::now().into_std())), |before| Arc::clone(&before.budget)),
            current: before.map(|before| Arc::clone(&before.current)).unwrap_or_default(),
        };
        upstreams.insert(name, Arc::new(built));
    }
    Ok(upstreams)
}
