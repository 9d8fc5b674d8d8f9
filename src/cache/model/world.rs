//! The cache and its reference, to which the same happens. A request goes the way that `proxy::cached` takes it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fastrand::Rng;
use http::{HeaderMap, Method, StatusCode};

use super::kept::{Asks, DEFAULT_TTL, Kept, Use};
use super::reference::{Flight, Joined, Line, Name, PAGES, Reference};
use super::{WALL, draw_asks, draw_name, one, rarely, some, wall};
use crate::body::{Body, Growing};
use crate::cache::{
    Asked, Cache, Directives, Failure, Found, Join, Key, Lead, Lookup, Mode, Permit, Policy, Progress, Purge,
    RouteStatistics, Settled, Stored, TargetUri, Usable, What, Why, begin_key, end_key, pending,
};
use crate::config::{self, Bypass, CachedCookies, CachedQuery, Ttl};
use crate::division::StoreLimits;
use crate::header::Scheme;
use crate::header::authority::Authority;

const HOST: &str = "example.com";
const FETCHES_MAX: usize = 6;

pub type Pending = pending::Pending<Arc<Stored>, Failure>;

pub struct World {
    pub rng: Rng,
    pub cache: Arc<Cache>,
    pub policy: Arc<Policy>,
    pub reference: Reference,
    /// Nothing is lost for want of memory.
    pub is_exact: bool,
    pub start: Instant,
    pub now: u64,
    pub number: u64,
    pub fetches: Vec<Fetch>,
    pub streams: Vec<Stream>,
}

/// A request that is at the origin.
pub struct Fetch {
    pub number: u64,
    pub asks: Asks,
    pub asked: Asked,
    pub lead: Option<(Lead, Line)>,
    pub is_validating: bool,
    /// What it validates.
    pub stale: Option<Kept>,
    /// So many purges were before it.
    pub born: usize,
    pub sent: u64,
    pub waiting: Vec<Arc<Pending>>,
}

/// An answer whose body still comes.
pub struct Stream {
    pub fetch: u64,
    pub run: Pin<Box<dyn Future<Output = ()>>>,
    pub origin: Arc<Growing>,
    pub kept: Kept,
    pub line: Option<Line>,
    pub born: usize,
}

pub fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn limits(entries_max: u64) -> StoreLimits {
    StoreLimits { memory_bytes: 4 << 20, object_max_bytes: 64 << 10, entries_max }
}

fn policy() -> Policy {
    let cache = config::Cache {
        enabled: true,
        memory: 4 << 20,
        object_max: 64 << 10,
        entries_max: 1 << 20,
        targets: Vec::new(),
        rules: Vec::new(),
        dependencies: Vec::new(),
        warm: None,
    };
    let route = config::RouteCache {
        default_ttl: Some(Duration::from_secs(DEFAULT_TTL)),
        ttl: Ttl::default(),
        stale_while_revalidate: None,
        stale_if_error: None,
        cookies: CachedCookies::Explicit,
        query: CachedQuery::All,
        key_fields: Vec::new(),
        bypass: Bypass::default(),
        object_max: None,
        purge_by_response: false,
    };
    Policy::new(&cache, &route, RouteStatistics::default())
}

fn url(page: usize) -> What {
    What::Url(PAGES[page].into())
}

pub fn edition(stored: &Stored) -> u64 {
    stored.fields["x-edition"].to_str().unwrap().parse().unwrap()
}

impl World {
    pub fn new(mut rng: Rng, is_short: bool) -> Self {
        let entries_max = if is_short { rng.u64(4..40) } else { 1 << 20 };
        WALL.set(0);
        Self {
            rng,
            cache: Cache::new(limits(entries_max), 1).unwrap(),
            policy: Arc::new(policy()),
            reference: Reference::default(),
            is_exact: !is_short,
            start: crate::clock::now().into_std(),
            now: 0,
            number: 0,
            fetches: Vec::new(),
            streams: Vec::new(),
        }
    }

    pub fn step(&mut self) {
        match self.rng.u32(..40) {
            0..16 if self.fetches.len() < FETCHES_MAX => {
                let asks = draw_asks(&mut self.rng);
                self.ask(asks);
            }
            0..26 => self.settle(),
            26..29 => self.end_stream(),
            29..35 => {
                self.now += self.rng.u64(..12);
                WALL.set(self.now);
            }
            35 => self.change(),
            36 => _ = self.cache.store.sweep(self.rng.usize(1..9)),
            37 if !self.is_exact => {
                self.cache.resize(limits(self.rng.u64(4..40))).unwrap();
            }
            _ => self.purge(),
        }
    }

    /// What is left when all is over.
    pub fn end(&mut self) {
        self.fetches.clear();
        self.streams.clear();
        self.reference.flights.clear();
        while self.cache.sweep() == Progress::More {}
        let stored = self.reference.stored.values().map(Vec::len).sum::<usize>();
        let entries = self.cache.report().usage.entries;
        assert!(entries == stored || !self.is_exact && entries <= stored, "{entries} are stored, not {stored}");
        for page in 0..PAGES.len() {
            for _ in 0..8 {
                let asks = Asks { page, ..draw_asks(&mut self.rng) };
                self.look(&asks, &asks.fields());
            }
        }
    }

    pub fn instant(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn key(&self, page: usize, fields: &HeaderMap) -> Vec<u8> {
        let authority = Authority::from_parts(HOST, None);
        let (path, query) =
            PAGES[page].split_once('?').map_or((PAGES[page], None), |(path, query)| (path, Some(query)));
        let mut key = Vec::new();
        begin_key(&mut key, &TargetUri { scheme: Scheme::Http, authority: &authority, path, query }, &self.policy);
        end_key(&mut key, fields, &self.policy);
        key
    }

    /// Looks a request up in both, and says what both found and how long it is fresh.
    pub fn look(&mut self, asks: &Asks, fields: &HeaderMap) -> Option<(Found, Kept, i64)> {
        let (key, now) = (self.key(asks.page, fields), self.instant(self.now));
        let expected: Vec<_> = self.reference.stored_for(asks).copied().collect();
        let Lookup::Found(found) = self.cache.lookup(&key, fields, (now, wall)) else {
            assert!(expected.is_empty() || !self.is_exact, "{asks:?} has nothing of {expected:?}");
            self.reference.evicted(asks, None);
            return None;
        };
        let edition = edition(&found.stored);
        let at = expected.iter().position(|kept| kept.answer.edition == edition);
        assert!(at == Some(0) || at.is_some() && !self.is_exact, "{asks:?} has {edition} of {expected:?}");
        let kept = expected[at?];
        assert_eq!(found.stored.body()[..], kept.answer.body());
        assert_eq!(found.stored.status.as_u16(), kept.answer.status);
        self.reference.evicted(asks, Some(edition));
        let ttl = found.terms().ttl(now);
        let is_one = kept.stale_since().any(|since| kept.ttl(self.now, since) == ttl);
        assert!(is_one, "at {} it is not fresh for {ttl}: {kept:?}", self.now);
        Some((found, kept, ttl))
    }

    fn ask(&mut self, asks: Asks) {
        let fields = asks.fields();
        let Some((found, kept, ttl)) = self.look(&asks, &fields) else { return self.line_up(asks, &fields, false) };
        let usable = found.terms().usable(&Directives::of_request(&fields), self.instant(self.now));
        let usable = match usable {
            _ if !found.terms().answers(&fields) => Use::NotForThem,
            Usable::Fresh => Use::Fresh,
            Usable::Stale(Permit::Client) => Use::Client,
            Usable::Stale(Permit::WhileRevalidating) => Use::WhileRevalidating,
            Usable::Validate(Why::Request) => Use::Unwanted,
            Usable::Validate(_) => Use::Stale,
        };
        assert_eq!(usable, kept.usable(&asks, ttl, self.now), "{asks:?} at {} of {kept:?}", self.now);
        match usable {
            Use::Fresh | Use::Client => {}
            Use::WhileRevalidating => {
                let (line, lead) = ((asks.page, None), self.cache.lead(&self.key(asks.page, &fields)));
                assert_eq!(lead.is_none(), self.reference.flights.contains_key(&line), "one revalidates");
                if let Some(lead) = lead {
                    self.begin(asks, fields, Some((lead, line)), true);
                }
            }
            Use::Unwanted => self.begin(asks, fields, None, true),
            Use::Stale => self.line_up(asks, &fields, true),
            Use::NotForThem => self.begin(asks, fields, None, false),
        }
    }

    fn line_up(&mut self, asks: Asks, fields: &HeaderMap, validates: bool) {
        let key = self.key(asks.page, fields);
        let (mut line, mut joined): (Line, _) = ((asks.page, None), key.clone());
        loop {
            let pending =
                match (self.cache.join(&joined, &key, self.instant(self.now)), self.reference.join(line, self.now)) {
                    (Join::Lead(lead), expected) => {
                        if expected == Joined::Alone && self.reference.mark_may_be_lost(line) {
                            self.reference.lose_mark(line);
                        } else {
                            assert_eq!(expected, Joined::Lead, "{line:?}");
                        }
                        return self.begin(asks, fields.clone(), Some((lead, line)), validates);
                    }
                    (Join::Alone, expected) => {
                        assert_eq!(expected, Joined::Alone, "{line:?}");
                        return self.begin(asks, fields.clone(), None, validates);
                    }
                    (Join::Follow(pending), Joined::Follow(fetch)) => {
                        if let Some(fetch) = self.fetches.iter_mut().find(|other| other.number == fetch) {
                            return fetch.waiting.push(pending);
                        }
                        pending
                    }
                    (Join::Follow(_), expected) => panic!("{line:?} is followed and not {expected:?}"),
                };
            let brought = self.reference.flights[&line].brought.unwrap();
            let Some(Settled::Shared(stored)) = poll(pin!(pending.outcome())) else { panic!("it is there") };
            assert_eq!(edition(&stored), brought.answer.edition);
            assert_eq!(stored.is_for(fields), brought.is_for(&asks));
            let its_own = brought.line_of(&asks);
            if stored.is_for(fields) {
                let takes = stored.terms.answers(fields) && {
                    let usable = stored.terms.usable(&Directives::of_request(fields), self.instant(self.now));
                    matches!(usable, Usable::Fresh | Usable::Stale(_))
                };
                let usable = brought.usable(&asks, brought.ttl(self.now, None), self.now);
                assert_eq!(takes, matches!(usable, Use::Fresh | Use::Client | Use::WhileRevalidating), "{usable:?}");
                if !takes {
                    self.begin(asks, fields.clone(), None, validates);
                }
                return;
            }
            if line == its_own {
                return self.begin(asks, fields.clone(), None, validates);
            }
            (line, joined) = (its_own, stored.variant_key(&key, fields));
        }
    }

    fn begin(&mut self, asks: Asks, fields: HeaderMap, lead: Option<(Lead, Line)>, validates: bool) {
        self.number += 1;
        let (number, born) = (self.number, self.reference.purges.len());
        if let Some((_, line)) = &lead {
            self.reference.flights.insert(*line, Flight { fetch: number, born, brought: None });
        }
        let epoch = self.cache.epoch();
        let (found, stale) = match self.look(&asks, &fields).filter(|_| validates) {
            Some((found, kept, _)) => (Some(found.into_stored()), Some(kept)),
            None => (None, None),
        };
        let key: Key = self.key(asks.page, &fields).as_slice().into();
        let asked = Asked { key, epoch, method: Method::GET, fields: Arc::new(fields), stale: found };
        let (is_validating, sent, waiting) = (stale.is_some(), self.now, Vec::new());
        self.fetches.push(Fetch { number, asks, asked, lead, is_validating, stale, born, sent, waiting });
    }

    fn purge(&mut self) {
        let (name, elsewhere, is_soft) = (draw_name(&mut self.rng), rarely(&mut self.rng, 8), self.rng.bool());
        let what = match name {
            Name::All => What::All,
            Name::Url(page) => url(page),
            Name::Prefix => What::Prefix("/a".into()),
            Name::Paths => What::named("/a*").unwrap(),
            Name::Queries => What::named("/a?*").unwrap(),
            Name::Tag => What::named("x").unwrap(),
            Name::Tags => What::named("y:*").unwrap(),
        };
        let host = Some(if elsewhere { "elsewhere.example" } else { HOST }.into());
        let mode = if is_soft { Mode::Soft(wall()) } else { Mode::Hard };
        let purge = Purge { host, what: vec![what], mode };
        if self.rng.bool() {
            // Counts are exact if earlier purges have been worked off.
            while self.cache.sweep() == Progress::More {}
            let met = |kept: &&Kept| !elsewhere && name.meets(kept.page(), kept.answer.tags);
            let expected = self.reference.stored.values().flatten().filter(met).count() as u64;
            let (count, met) = (self.cache.count(&purge), self.cache.purge(&purge));
            assert!(count == expected || !self.is_exact && count <= expected, "{count} and not {expected}: {purge:?}");
            assert_eq!(met, count);
        } else {
            self.cache.store.purge(&purge);
        }
        self.reference.purge(name, elsewhere, is_soft.then_some(self.now));
    }

    /// A client changes something.
    fn change(&mut self) {
        let page = self.rng.usize(..PAGES.len());
        let located = some(&mut self.rng, 3, |rng| rng.usize(..PAGES.len()));
        let status = one(&mut self.rng, &[200, 303, 404, 500]);
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(located) = located {
            response.headers_mut().insert("location", PAGES[located].parse().unwrap());
        }
        let key = self.key(page, &HeaderMap::new());
        let purges = self.cache.invalidate((&key, &self.policy), &Method::POST, &response);
        assert_eq!(purges, u64::from(status < 400));
        if status < 400 {
            for page in [page].into_iter().chain(located) {
                self.reference.purge(Name::Url(page), false, None);
            }
        }
    }
}
