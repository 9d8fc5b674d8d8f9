//! Fetches, answers, lookups, purges and sweeps in any order leave in the store what a map and a list of purges say.
//! Input: two bytes for each operation.
#![no_main]

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tollgate::cache_parts::{
    Content, Entry, Epoch, Exchanged, Insert, Key, Mode, NewEntry, Progress, Purge, RouteStatistics, Rules, Selecting,
    Store, StoreLimits, Stored, Tags, Target, TargetUri, Terms, Times, What, Whole, stored, terms,
};
use tollgate::header::Scheme;
use tollgate::header::authority::Authority;

const HOST: &str = "example.com";
const PATHS: [&str; 4] = ["/", "/a", "/a?q", "/a/1"];
const TAGS: [&str; 4] = ["", "x", "x,y:1", "y:2"];
const VARIANTS_MAX: usize = 32;
/// As many purges are remembered one by one; beyond it everything older counts as purged.
const PURGES_MAX: usize = 64;
const OPERATIONS_MAX: usize = 400;

#[derive(Clone)]
struct Response {
    serial: u64,
    target: Target,
    tags: Tags,
    /// None is for every request of its key.
    variant: Option<u8>,
    is_stale: bool,
}

struct Fetch {
    path: &'static str,
    response: Response,
    epoch: Epoch,
    /// Purges before it.
    began: usize,
}

#[derive(Default)]
struct Reference {
    /// The newest first.
    stored: BTreeMap<&'static str, Vec<Response>>,
    purges: Vec<Purge>,
}

impl Reference {
    fn purge(&mut self, purge: Purge) {
        for responses in self.stored.values_mut() {
            responses.retain_mut(|response| response.survives(&purge));
        }
        self.purges.push(purge);
    }

    /// False if it was purged while it was fetched.
    fn insert(&mut self, path: &'static str, mut response: Response, began: usize) -> bool {
        if !self.purges[began..].iter().all(|purge| response.survives(purge)) {
            return false;
        }
        let responses = self.stored.entry(path).or_default();
        responses.retain(|other| other.variant.is_some() && response.variant.is_some());
        responses.retain(|other| other.variant != response.variant);
        responses.insert(0, response);
        responses.truncate(VARIANTS_MAX);
        true
    }

    fn get(&self, path: &str, variant: u8) -> Option<&Response> {
        self.stored.get(path)?.iter().find(|response| response.variant.is_none_or(|stored| stored == variant))
    }
}

impl Response {
    fn survives(&mut self, purge: &Purge) -> bool {
        let is_met = purge.matches(&self.target, &self.tags);
        self.is_stale |= is_met;
        !is_met || matches!(purge.mode, Mode::Soft(_))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let limits = StoreLimits { memory_bytes: 4 << 20, object_max_bytes: 1 << 20, entries_max: 1 << 10 };
    let store = Store::new(limits, 1).unwrap();
    let mut reference = Reference::default();
    let mut fetches: Vec<Fetch> = Vec::new();
    for (serial, operation) in bytes.chunks_exact(2).take(OPERATIONS_MAX).enumerate() {
        let [what, which] = [operation[0], operation[1]];
        let (path, serial) = (PATHS[usize::from(which) % PATHS.len()], serial as u64);
        let variant = which >> 2;
        match what % 8 {
            0 | 1 => {
                let tags = tags(TAGS[usize::from(what >> 3) % TAGS.len()]);
                let variant = (what % 8 == 1).then_some(variant);
                let response = Response { serial, target: target(path), tags, variant, is_stale: false };
                fetches.push(Fetch { path, response, epoch: store.epoch(), began: reference.purges.len() });
            }
            2 | 3 if !fetches.is_empty() => {
                let at = usize::from(which) % fetches.len();
                let Fetch { path, response, epoch, began } = fetches.swap_remove(at);
                let is_stored = matches!(store.insert(&epoch, entry(path, &response)), Insert::Stored(_));
                assert_eq!(is_stored, reference.insert(path, response, began));
            }
            4 | 5 => check(&store, &reference, path, variant),
            6 if reference.purges.len() < PURGES_MAX => {
                let mode = if what & 8 == 0 { Mode::Hard } else { Mode::Soft(at(serial)) };
                let host = (what & 16 == 0).then(|| HOST.into());
                let purge = Purge { host, what: vec![purged(which)], mode };
                let _ban = store.purge(&purge);
                reference.purge(purge);
            }
            _ => _ = store.sweep(usize::from(which)),
        }
    }
    for path in PATHS {
        for variant in 0..64 {
            check(&store, &reference, path, variant);
        }
    }
    // What cannot be had any more takes no place once all is swept.
    fetches.clear();
    store.purge(&Purge { host: None, what: vec![What::Group("nobody".into())], mode: Mode::Hard });
    while store.sweep(1 << 10) == Progress::More {}
    assert_eq!(store.usage().entries, reference.stored.values().map(Vec::len).sum::<usize>());
});

fn check(store: &Store, reference: &Reference, path: &str, variant: u8) {
    let found = store.get(key(path).borrow(), |selecting| *selecting == of_variant(variant));
    let expected = reference.get(path, variant);
    assert_eq!(found.as_deref().map(serial_of), expected.map(|response| response.serial), "{path} {variant}");
    if let (Some(found), Some(expected)) = (found, expected) {
        assert_eq!(found.stale_since().is_some(), expected.is_stale);
    }
}

fn purged(which: u8) -> What {
    match which % 10 {
        0 => What::All,
        1 => What::Prefix("/a".into()),
        2 => What::Group("x".into()),
        3 => What::Url("/a?q".into()),
        4 => What::Url("/a".into()),
        5 => What::named("/a*").unwrap(),
        6 => What::named("/a?*").unwrap(),
        7 => What::named("x").unwrap(),
        8 => What::named("y:*").unwrap(),
        _ => What::named("y:2").unwrap(),
    }
}

/// What `Vary: x` says of a request with this letter in it.
fn of_variant(variant: u8) -> Selecting {
    let vary = HeaderMap::from_iter([(http::header::VARY, HeaderValue::from_static("x"))]);
    let request = HeaderMap::from_iter([(HeaderName::from_static("x"), HeaderValue::from(u16::from(variant)))]);
    Selecting::of(&vary, &request).unwrap()
}

fn key(path: &str) -> Key {
    Key::from(path.as_bytes())
}

fn target(path: &str) -> Target {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Target::new(HOST, path, query)
}

fn tags(names: &'static str) -> Tags {
    let field = (HeaderName::from_static("cache-tag"), HeaderValue::from_static(names));
    Tags::of(&HeaderMap::from_iter([field])).unwrap()
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn entry(path: &str, response: &Response) -> NewEntry {
    NewEntry {
        selecting: response.variant.map(|variant| Arc::new(of_variant(variant))),
        target: response.target.clone(),
        tags: response.tags.clone(),
        route: RouteStatistics::default(),
        stored: Arc::new(with_body(&key(path), &response.serial.to_be_bytes())),
    }
}

/// Any response that may be stored.
fn with_body(key: &Key, body: &[u8]) -> Stored {
    static TERMS: OnceLock<Terms> = OnceLock::new();
    let fields = HeaderMap::from_iter([(http::header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"))]);
    let request = HeaderMap::new();
    let terms = TERMS.get_or_init(|| {
        let (now, status, response) = (Instant::now(), StatusCode::OK, &fields);
        let authority = Authority::from_parts(HOST, None);
        let target = TargetUri { scheme: Scheme::Http, authority: &authority, path: "/", query: None };
        let exchanged = Exchanged { method: &Method::GET, target: &target, request: &request, status, response };
        terms(&exchanged, &Rules::default(), Times { asked: now, answered: now, clock: UNIX_EPOCH }).unwrap()
    });
    let selecting = Arc::new(Selecting::of(&fields, &request).unwrap());
    stored(key, fields, *terms, selecting, Whole::new(vec![Bytes::copy_from_slice(body)]))
}

fn serial_of(entry: &Entry) -> u64 {
    let Content::Whole(whole) = &entry.stored.content else { panic!("it is whole") };
    u64::from_be_bytes(whole.pieces().concat().try_into().unwrap())
}
