//! The cache of responses, shared by all clients (RFC 9111): what is stored, under which key, for whom it may be used
//! again, and in which form it is sent.
//!
//! The cache belongs to the process and outlives every configuration. A request looks for its key and
//! [`deliver`]s what it finds. What it has to fetch, it fetches for all who ask for the same meanwhile ([`pending`]), and
//! [`fill`] takes the response in. Nothing here opens a connection.

mod cache_control;
mod cache_status;
mod conditional;
mod deliver;
mod entity_tag;
mod etag;
mod fill;
mod key;
mod pending;
mod policy;
mod range;
mod rules;
mod store;
mod stored;
mod tags;
mod vary;

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Response, StatusCode};

pub use self::cache_control::Directives;
pub use self::cache_status::{Forward, Forwarded, Outcome as Said};
pub use self::conditional::remove as remove_preconditions;
pub use self::deliver::{Wanted, annotate, deliver, settle_passed, tell_clients};
pub use self::fill::{Asked, Taken, take};
use self::key::{Key, KeyRules};
pub use self::pending::{Join, Outcome};
pub use self::policy::{Permit, TargetUri, Times, Usable, Why};
pub use self::rules::Policy;
use self::store::Store;
pub use self::stored::Stored;
use crate::body::Body;
use crate::fetch::FetchError;
use crate::header::authority::Authority;

/// Why a fetch for many brought nothing that they could have.
#[derive(Debug, Clone)]
pub enum Failure {
    Fetch(Arc<FetchError>),
    /// The origin failed, and there is something stale for those who take it.
    Status(StatusCode),
}

type Fetches = pending::Pendings<Arc<Stored>, Failure>;
pub type Lead = pending::Lead<Arc<Stored>, Failure>;

pub struct Cache {
    store: Store,
    fetches: Arc<Fetches>,
}

/// What is stored for a request.
pub enum Lookup {
    Found(Arc<Stored>),
    UriMiss,
    /// There are responses to other requests for the same.
    VaryMiss,
}

impl Cache {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { store: Store::new(), fetches: Fetches::new() })
    }

    pub fn lookup(&self, key: &[u8], fields: &HeaderMap) -> Lookup {
        self.store.get(key, fields)
    }

    /// Joins the fetch that is under way for a key, or begins one.
    pub fn join(&self, key: &[u8], now: Instant) -> Join<Arc<Stored>, Failure> {
        self.fetches.join(key, (now, self.store.epoch()), |_| false)
    }

    /// Begins a fetch that nobody waits for, unless one is under way.
    pub fn lead(&self, key: &[u8], now: Instant) -> Option<Lead> {
        self.fetches.lead(key, (now, self.store.epoch()))
    }

    /// Forgets what a request has changed (RFC 9111 §4.4).
    pub fn invalidate(&self, (key, rules): (&[u8], &KeyRules), method: &Method, response: &Response<Body>) {
        let key = Key::from(key);
        let Some(parts) = key.parts() else { return };
        let authority = Authority::from_parts(parts.host, parts.port);
        let target = TargetUri { scheme: parts.scheme, authority: &authority, path: parts.path, query: parts.query };
        let mut other = Vec::new();
        for resource in policy::invalidated(method, &target, response.status(), response.headers()) {
            let fields = &HeaderMap::new();
            let (path, query) = (resource.path.as_str(), resource.query.as_deref());
            key::write(
                &mut other,
                &key::Parts { scheme: parts.scheme, host: parts.host, port: parts.port, path, query, fields },
                rules,
            );
            self.store.remove(&other);
        }
    }

    /// When a fetch that begins now begins, in purges.
    pub fn epoch(&self) -> u64 {
        self.store.epoch()
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
