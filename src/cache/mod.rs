//! The cache of responses, shared by all clients (RFC 9111): what is stored, under which key, for whom it may be used
//! again, and in which form it is sent.
//!
//! The cache belongs to the process and outlives every configuration. A request looks for its key and
//! [`deliver()`]s what it finds. What it has to fetch, it fetches for all who ask for the same meanwhile ([`pending`]), and
//! [`fill`] takes the response in. Nothing here opens a connection.

mod ban_list;
mod bans;
mod cache_control;
mod cache_status;
mod coded;
mod conditional;
mod deliver;
mod entity_tag;
mod entry;
mod etag;
mod fill;
pub mod fuzzed;
mod index;
mod key;
mod memory;
mod operators;
mod pending;
mod policy;
mod purge;
mod range;
mod rules;
mod slot;
mod statistics;
mod store;
mod stored;
mod tags;
mod target;
mod variants;
mod vary;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, Response, StatusCode};

pub use self::bans::Epoch;
pub use self::cache_control::Directives;
pub use self::cache_status::{Forward, Forwarded, Outcome as Said};
pub use self::coded::Coded;
pub use self::conditional::remove as remove_preconditions;
pub use self::deliver::{Wanted, annotate, deliver, settle_passed, tell_clients};
pub use self::etag::of as tag_of;
pub use self::fill::{Asked, Taken, take};
use self::key::Key;
pub use self::operators::Report;
pub use self::pending::{Join, Outcome};
pub use self::policy::{Permit, TargetUri, Times, Usable, Why};
pub use self::purge::{Dependencies, Mode, Purge, TooMuch, What};
pub use self::rules::Policy;
pub use self::statistics::{RouteStatistics, Statistics};
pub use self::store::Resized;
use self::store::Store;
pub use self::store::purging::Progress;
pub use self::stored::Stored;
use self::tags::invalidated_groups;
use self::target::Target;
use self::vary::KnownCodings;
use crate::body::Body;
use crate::division::{LimitsError, StoreLimits};
use crate::fetch::FetchError;
use crate::header::authority::Authority;

/// Why a fetch for many brought nothing that they could have.
#[derive(Debug, Clone)]
pub enum Failure {
    Fetch(Arc<FetchError>),
    /// The origin failed, and there is something stale for those who take it.
    Status(StatusCode),
}

/// What a request was to the cache, for the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Hit,
    /// Sent although it was stale.
    Stale,
    /// It held when the origin was asked.
    Validated,
    Miss,
    /// Another one's fetch was its own.
    Collapsed,
    Bypass,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Validated => "validated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
        }
    }
}

type Fetches = pending::Pendings<Arc<Stored>, Failure>;
pub type Lead = pending::Lead<Arc<Stored>, Failure>;

pub struct Cache {
    store: Store,
    fetches: Arc<Fetches>,
    /// By the names of routes; those that are gone keep what they have stored.
    routes: Mutex<BTreeMap<String, RouteStatistics>>,
}

/// What is stored for a request.
pub enum Lookup {
    Found(Arc<Stored>),
    UriMiss,
    /// There are responses to other requests for the same.
    VaryMiss,
}

impl Cache {
    /// For so many workers.
    pub fn new(limits: StoreLimits, workers: usize) -> Result<Arc<Self>, LimitsError> {
        let store = Store::new(limits, workers)?;
        Ok(Arc::new(Self { store, fetches: Fetches::new(), routes: Mutex::default() }))
    }

    /// The counts of a route.
    pub fn statistics(&self, route: &str) -> RouteStatistics {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        match routes.get(route) {
            Some(statistics) => statistics.clone(),
            None => routes.entry(route.to_owned()).or_default().clone(),
        }
    }

    pub fn lookup(&self, key: &[u8], fields: &HeaderMap, (now, clock): (Instant, fn() -> SystemTime)) -> Lookup {
        let mut has_variants = false;
        let found = self.store.get(key, |selecting| {
            has_variants = true;
            vary::meets(selecting, fields)
        });
        match found {
            None if has_variants => Lookup::VaryMiss,
            None => Lookup::UriMiss,
            Some(entry) => Lookup::Found(match entry.stale_since() {
                None => Arc::clone(&entry.stored),
                Some(since) => Arc::new(entry.stored.stale_for(clock().duration_since(since).unwrap_or_default(), now)),
            }),
        }
    }

    /// Joins the fetch that is under way for a key, or begins one. `named` is the key of the response, which may be less.
    pub fn join(&self, key: &[u8], named: &[u8], now: Instant) -> Join<Arc<Stored>, Failure> {
        let is_outdated = |born| self.may_be_purged(named, born);
        self.fetches.join(key, (now, self.store.newest_purge()), is_outdated)
    }

    /// Begins a fetch that nobody waits for, unless one is under way.
    pub fn lead(&self, key: &[u8]) -> Option<Lead> {
        self.fetches.lead(key, self.store.newest_purge())
    }

    /// The number of the newest purge.
    pub fn newest_purge(&self) -> u64 {
        self.store.newest_purge()
    }

    /// Whether what was fetched for a key since that purge may have been purged meanwhile.
    pub fn may_be_purged(&self, key: &[u8], born: u64) -> bool {
        // Between two purges, which are rare, there is nothing to look at.
        born < self.store.newest_purge() && target(key).is_none_or(|target| self.store.may_be_purged(&target, born))
    }

    /// To be taken when a fetch begins: what is purged from now on holds for what it brings.
    pub fn epoch(&self) -> Arc<Epoch> {
        Arc::new(self.store.epoch())
    }

    /// Takes out all that is stored for the URL of a key.
    pub fn forget(&self, key: &[u8]) {
        let Some(target) = target(key) else { return };
        let (host, what) = (Some(target.host().into()), vec![What::Url(target.path_and_query().into())]);
        self.store.purge(&Purge { host, what, mode: Mode::Hard });
    }

    /// Forgets what a request has changed (RFC 9111 §4.4, RFC 9875 §3).
    pub fn invalidate(&self, (key, policy): (&[u8], &Policy), method: &Method, response: &Response<Body>) {
        let key = Key::from(key);
        let Some(parts) = key.parts() else { return };
        let authority = Authority::from_parts(parts.host, parts.port);
        let named = TargetUri { scheme: parts.scheme, authority: &authority, path: parts.path, query: parts.query };
        let resources = policy::invalidated(method, &named, response.status(), response.headers());
        if resources.is_empty() {
            return;
        }
        let url = |resource: policy::Resource| match policy.key.query(resource.query.as_deref()) {
            Some(query) => What::Url(format!("{}?{query}", resource.path).into()),
            None => What::Url(resource.path.into()),
        };
        let groups = invalidated_groups(response.headers()).into_iter().map(|group| What::Group(group.into()));
        let what = resources.into_iter().map(url).chain(groups).collect();
        self.store.purge(&Purge { host: Some(authority.to_string().into()), what, mode: Mode::Hard });
    }
}

/// Writes the key of a request.
pub fn write_key(out: &mut Vec<u8>, target: &TargetUri<'_>, fields: &HeaderMap, policy: &Policy) {
    let TargetUri { scheme, authority, path, query } = *target;
    let parts = key::Parts { scheme, host: &authority.host, port: authority.port(), path, query, fields };
    key::write(out, &parts, &policy.key);
}

/// Makes a request ask whether a stored response still holds.
pub fn validate(fields: &mut HeaderMap, stored: &Stored) {
    conditional::validate(fields, [&stored.fields]);
}

/// What a key is of, as purges name it.
fn target(key: &[u8]) -> Option<Target> {
    let key = Key::from(key);
    let parts = key.parts()?;
    let authority = Authority::from_parts(parts.host, parts.port);
    Some(Target::new(&authority.to_string(), parts.path, parts.query))
}

/// Leaves one of few spellings of `Accept-Encoding`, for the origin and for what is compared by `Vary`.
pub fn normalise_accept_encoding(fields: &mut HeaderMap) {
    static KNOWN: LazyLock<KnownCodings> = LazyLock::new(|| KnownCodings::new(&["zstd", "br", "gzip"]));
    vary::normalise_accept_encoding(fields, &KNOWN);
}
