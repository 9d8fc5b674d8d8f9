//! The cache of responses, shared by all clients (RFC 9111): what is stored, under which key, for whom it may be used
//! again, and in which form it is sent.
//!
//! The cache belongs to the process and outlives every configuration. A request looks for its key and
//! [`deliver()`]s what it finds, or sends it as [`Prepared`]. What it has to fetch, it fetches for all who ask for the same
//! meanwhile ([`pending`]), and
//! [`fill`] takes the response in. Nothing here opens a connection.

mod ban_list;
mod bans;
mod block;
mod cache_control;
mod cache_status;
mod coded;
mod conditional;
mod deliver;
mod entry;
mod etag;
mod fill;
pub mod fuzzed;
mod index;
mod key;
mod memory;
mod not_kept;
mod operators;
mod peek;
mod pending;
mod policy;
mod prepared;
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

#[cfg(test)]
mod model;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::bans::Epoch;
pub use self::cache_control::Directives;
pub use self::cache_status::{Forward, Forwarded, Said};
pub use self::coded::Coded;
pub use self::conditional::remove as remove_preconditions;
pub use self::deliver::{Wanted, annotate, deliver, settle_passed, tell_clients};
pub use self::etag::of as tag_of;
pub use self::fill::{Asked, Taken, take};
pub use self::key::Key;
pub use self::not_kept::NotKept;
pub use self::operators::Report;
pub use self::peek::describe_key;
pub use self::pending::{Join, Line, Settled};
use self::policy::Terms;
pub use self::policy::{Permit, TargetUri, Times, Usable, Why};
pub use self::prepared::Prepared;
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
use crate::lock::lock;

/// Why a fetch for many brought nothing that they could have.
#[derive(Debug, Clone)]
pub enum Failure {
    Fetch(Arc<FetchError>),
    /// The origin failed, and there is something stale for those who take it.
    Status(StatusCode),
}

/// What the cache was to a request, for the access log and the metrics.
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
    /// In the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Hit, Self::Stale, Self::Validated, Self::Miss, Self::Collapsed, Self::Bypass];

    pub fn is_word(text: &str) -> bool {
        Self::ALL.iter().any(|role| role.word() == text)
    }

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
    /// Places for fetches whose clients have left.
    detached: Arc<Semaphore>,
    /// By the names of routes; those that are gone keep what they have stored.
    routes: Mutex<BTreeMap<String, RouteStatistics>>,
}

/// A stored response as it may be used now.
#[derive(Debug, Clone)]
pub struct Found {
    pub stored: Arc<Stored>,
    /// In place of its own, where a soft purge has made it stale.
    purged: Option<Box<Terms>>,
}

impl Found {
    fn of(entry: &entry::Entry, (now, clock): (Instant, fn() -> SystemTime)) -> Self {
        let stale_for = |since| clock().duration_since(since).unwrap_or_default();
        let terms = |since| Box::new(entry.stored.terms.stale_for(stale_for(since), now));
        Self { stored: Arc::clone(&entry.stored), purged: entry.stale_since().map(terms) }
    }

    pub fn terms(&self) -> &Terms {
        self.purged.as_deref().unwrap_or(&self.stored.terms)
    }

    /// Whether clients may be told another lifetime; a failure has its own.
    pub fn may_be_told_fresh(&self, now: Instant) -> bool {
        self.stored.status.is_success() && self.terms().may_be_told_fresh(now)
    }

    /// The response with these terms for its own.
    pub fn into_stored(self) -> Arc<Stored> {
        match self.purged {
            None => self.stored,
            Some(terms) => Arc::new(Stored { terms: *terms, ..(*self.stored).clone() }),
        }
    }
}

impl From<Arc<Stored>> for Found {
    fn from(stored: Arc<Stored>) -> Self {
        Self { stored, purged: None }
    }
}

/// Fetches that go on for nobody but the cache, at most. Beyond, a fetch ends with its client: who asks and leaves cannot
/// keep an origin busy.
const DETACHED_MAX: usize = 256;

/// The place of a fetch that goes on without a client.
pub type Detached = OwnedSemaphorePermit;

/// What is stored for a request.
pub enum Lookup {
    Found(Found),
    UriMiss,
    /// There are responses to other requests for the same.
    VaryMiss,
}

impl Cache {
    /// For so many workers.
    pub fn new(limits: StoreLimits, workers: usize) -> Result<Arc<Self>, LimitsError> {
        let store = Store::new(limits, workers)?;
        let detached = Arc::new(Semaphore::new(DETACHED_MAX));
        Ok(Arc::new(Self { store, fetches: Fetches::new(), detached, routes: Mutex::default() }))
    }

    /// The counts of a route.
    pub fn statistics(&self, route: &str) -> RouteStatistics {
        let mut routes = lock(&self.routes);
        match routes.get(route) {
            Some(statistics) => statistics.clone(),
            None => routes.entry(route.to_owned()).or_default().clone(),
        }
    }

    pub fn lookup(&self, key: &[u8], fields: &HeaderMap, (now, clock): (Instant, fn() -> SystemTime)) -> Lookup {
        let mut has_variants = false;
        let found = self.store.get(key, |selecting| {
            has_variants = true;
            vary::matches(selecting, fields)
        });
        match found {
            None if has_variants => Lookup::VaryMiss,
            None => Lookup::UriMiss,
            Some(entry) => Lookup::Found(Found::of(&entry, (now, clock))),
        }
    }

    /// Joins the fetch that is under way for a key, or begins one. `named` is the key of the response, which may be less.
    pub fn join(&self, key: &[u8], named: &[u8], now: Instant) -> Join<Arc<Stored>, Failure> {
        let is_outdated = |pending: &pending::Pending<_, _>| self.is_outdated(pending, named, now);
        self.fetches.join(key, (now, self.store.newest_purge()), is_outdated)
    }

    /// What has become stale while it comes is fetched anew by one, and not by each.
    fn is_outdated(&self, pending: &pending::Pending<Arc<Stored>, Failure>, named: &[u8], now: Instant) -> bool {
        let is_stale = |stored: Arc<Stored>| stored.terms.needs_validation(now);
        self.may_be_purged(named, pending.born) || pending.shared().is_some_and(is_stale)
    }

    /// Begins a fetch that nobody waits for, unless one is under way.
    pub fn lead(&self, key: &[u8]) -> Option<Lead> {
        self.fetches.lead(key, self.store.newest_purge())
    }

    /// A place for a fetch that nobody waits for, or that its client has left; None if there are too many of them.
    pub fn detach(&self) -> Option<Detached> {
        Arc::clone(&self.detached).try_acquire_owned().ok()
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

    /// For what an unsafe request has brought, which is newer than what it purges itself: `own` does that, and says by
    /// how many purges. None if since `began` somebody else has purged what it brings, or what is not known.
    pub fn epoch_after(&self, key: &[u8], began: &Epoch, own: impl FnOnce() -> u64) -> Option<Arc<Epoch>> {
        let before = self.newest_purge();
        let is_purged = self.may_be_purged(key, began.number());
        let own = own();
        let epoch = self.epoch();
        (!is_purged && epoch.number() == before + own).then_some(epoch)
    }

    /// Takes out all that is stored for the URL of a key.
    pub fn forget(&self, key: &[u8]) {
        let Some(target) = target(key) else { return };
        let (host, what) = (Some(target.host().into()), vec![What::Url(target.path_and_query().into())]);
        self.store.purge(&Purge { host, what, mode: Mode::Hard });
    }

    /// Forgets what a request has changed (RFC 9111 §4.4, RFC 9875 §3), and says by how many purges.
    pub fn invalidate(&self, (key, policy): (&[u8], &Policy), method: &Method, response: &Response<Body>) -> u64 {
        let Some(parts) = key::parts(key) else { return 0 };
        let authority = Authority::from_parts(parts.host, parts.port);
        let named = TargetUri { scheme: parts.scheme, authority: &authority, path: parts.path, query: parts.query };
        let resources = policy::invalidated(method, &named, response.status(), response.headers());
        if resources.is_empty() {
            return 0;
        }
        let url = |resource: policy::Resource| match policy.key.query(resource.query.as_deref()) {
            Some(query) => What::Url(format!("{}?{query}", resource.path).into()),
            None => What::Url(resource.path.into()),
        };
        let groups = invalidated_groups(response.headers()).into_iter().map(|group| What::Group(group.into()));
        let what = resources.into_iter().map(url).chain(groups).collect();
        self.store.purge(&Purge { host: Some(authority.to_string().into()), what, mode: Mode::Hard });
        1
    }
}

/// Begins the key of a request in `out`.
pub fn begin_key(out: &mut Vec<u8>, target: &TargetUri<'_>, policy: &Policy) {
    let TargetUri { scheme, authority, path, query } = *target;
    let parts = key::Parts { scheme, host: &authority.host, port: authority.port(), path, query };
    key::begin(out, &parts, &policy.key);
}

/// Ends it, once the fields are as they go upstream.
pub fn end_key(out: &mut Vec<u8>, fields: &HeaderMap, policy: &Policy) {
    key::end(out, fields, &policy.key);
}

/// Makes a request ask whether a stored response still holds.
pub fn validate(fields: &mut HeaderMap, stored: &Stored) {
    match stored.has_own_tag {
        // It would be asked by a tag that it has never seen.
        true => conditional::remove(fields),
        false => _ = conditional::validate(fields, [&stored.fields]),
    }
}

/// What a key is of, as purges name it.
fn target(key: &[u8]) -> Option<Target> {
    let parts = key::parts(key)?;
    let authority = Authority::from_parts(parts.host, parts.port);
    Some(Target::new(&authority.to_string(), parts.path, parts.query))
}

/// Leaves one of few spellings of `Accept-Encoding`, for the origin and for what is compared by `Vary`.
pub fn normalise_accept_encoding(fields: &mut HeaderMap) {
    static KNOWN: LazyLock<KnownCodings> = LazyLock::new(|| KnownCodings::new(&["zstd", "br", "gzip"]));
    vary::normalise_accept_encoding(fields, &KNOWN);
}
