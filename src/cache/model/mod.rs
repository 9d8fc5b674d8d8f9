//! A million random operations on the whole of the cache, on virtual time, compared with a reference of plain lists:
//! what is a hit, stale or a miss, what is validated, who shares a fetch and what comes of it, and what a purge takes out.
//!
//! Memory may lose what is stored, in worlds where it is short. It may not bring back what was purged or replaced, nor
//! give anybody what is another one's. Each world has a seed, which a failure names; `SEED=7 cargo test --lib
//! cache::model` runs that one.

mod kept;
mod origin;
mod reference;
mod world;

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use self::kept::{Answer, Asks, Control, User, Vary};
use self::reference::{Name, PAGES, TAGS};
use self::world::World;
use crate::body::Body;

const SEEDS: u64 = 2_000;
const OPERATIONS: usize = 500;

#[test]
fn a_million_operations_agree_with_a_reference() {
    let seeds = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    for seed in seeds {
        let _told = Told(seed);
        // In every fourth world memory is short.
        let mut world = World::new(Rng::with_seed(seed), seed % 4 == 3);
        for _ in 0..OPERATIONS {
            world.step();
        }
        world.end();
    }
}

/// Says which world it was, if it did not end well.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this world is {}", self.0);
        }
    }
}

thread_local! {
    static WALL: Cell<u64> = const { Cell::new(0) };
}

/// The wall clock of the world.
fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + WALL.get())
}

fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// True once in so many times.
fn rarely(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}

fn some<T>(rng: &mut Rng, times: u32, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rarely(rng, times).then(|| value(rng))
}

fn draw_asks(rng: &mut Rng) -> Asks {
    use User::{Anybody, WithAuthorization, WithCookie};
    Asks {
        page: rng.usize(..PAGES.len()),
        user: one(rng, &[Anybody, Anybody, Anybody, WithAuthorization, WithCookie]),
        x: some(rng, 2, |rng| rng.u8(..4)),
        y: some(rng, 2, |rng| rng.u8(..2)),
        no_cache: rarely(rng, 12),
        no_store: rarely(rng, 16),
        max_age: some(rng, 8, |rng| rng.u64(..40)),
        max_stale: some(rng, 8, |rng| rng.u64(..40)),
    }
}

fn draw_control(rng: &mut Rng) -> Control {
    let mut control = Control { max_age: some(rng, 2, |rng| one(rng, &[0, 5, 20, 60])), ..Control::default() };
    if rarely(rng, 2) {
        control.while_revalidate = some(rng, 3, |rng| rng.u64(1..30));
        control.if_error = some(rng, 3, |rng| rng.u64(1..30));
        control.public = rarely(rng, 3);
        control.must_revalidate = rarely(rng, 6);
        control.s_maxage = some(rng, 6, |rng| rng.u64(..40));
        control.private = rarely(rng, 10);
        control.no_store = rarely(rng, 10);
        control.no_cache = rarely(rng, 8);
    }
    control
}

fn draw_answer(rng: &mut Rng, number: u64) -> Answer {
    use Vary::{Nothing, Star, X, XAndY};
    Answer {
        number,
        edition: number,
        status: one(rng, &[200, 200, 200, 200, 200, 200, 200, 404, 206, 401, 500, 503]),
        control: draw_control(rng),
        has_tag: rng.bool(),
        tags: rng.usize(..TAGS.len()),
        vary: one(rng, &[Nothing, Nothing, Nothing, X, X, XAndY, XAndY, Star]),
        age: if rarely(rng, 4) { rng.u64(..10) } else { 0 },
        sets_cookie: rarely(rng, 16),
    }
}

fn draw_name(rng: &mut Rng) -> Name {
    let url = Name::Url(rng.usize(..PAGES.len()));
    one(rng, &[Name::All, url, url, url, Name::Prefix, Name::Paths, Name::Queries, Name::Tag, Name::Tags])
}

impl Asks {
    fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let mut directives = Vec::new();
        directives.extend(self.no_cache.then(|| "no-cache".to_owned()));
        directives.extend(self.no_store.then(|| "no-store".to_owned()));
        directives.extend(self.max_age.map(|seconds| format!("max-age={seconds}")));
        directives.extend(self.max_stale.map(|seconds| format!("max-stale={seconds}")));
        say(&mut fields, "cache-control", directives);
        for (name, value) in [("x", self.x), ("y", self.y)] {
            if let Some(value) = value {
                fields.insert(HeaderName::from_static(name), u16::from(value).into());
            }
        }
        match self.user {
            User::Anybody => None,
            User::WithAuthorization => fields.insert("authorization", HeaderValue::from_static("Basic dTpw")),
            User::WithCookie => fields.insert("cookie", HeaderValue::from_static("user=u")),
        };
        fields
    }
}

impl Control {
    fn text(&self) -> Vec<String> {
        let seconds = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.while_revalidate),
            ("stale-if-error", self.if_error),
        ];
        let flags = [
            ("must-revalidate", self.must_revalidate),
            ("public", self.public),
            ("private", self.private),
            ("no-store", self.no_store),
            ("no-cache", self.no_cache),
        ];
        let seconds = seconds.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}")));
        seconds.chain(flags.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| (*name).to_owned())).collect()
    }
}

impl Answer {
    /// What says how long an answer holds, which a 304 says too.
    fn head(&self, status: u16) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let fields = response.headers_mut();
        say(fields, "cache-control", self.control.text());
        fields.insert("x-edition", self.edition.into());
        if self.age > 0 {
            fields.insert("age", self.age.into());
        }
        response
    }

    fn response(&self, body: Body) -> Response<Body> {
        let mut response = self.head(self.status);
        *response.body_mut() = body;
        let fields = response.headers_mut();
        if self.has_tag {
            fields.insert("etag", entity_tag(self.number));
        }
        if self.sets_cookie {
            fields.insert("set-cookie", HeaderValue::from_static("a=b"));
        }
        fields.insert("cache-tag", HeaderValue::from_static(TAGS[self.tags]));
        let vary = match self.vary {
            Vary::Nothing => return response,
            Vary::X => "x",
            Vary::XAndY => "y, x",
            Vary::Star => "*",
        };
        fields.insert("vary", HeaderValue::from_static(vary));
        response
    }

    fn body(&self) -> [u8; 8] {
        self.number.to_be_bytes()
    }
}

fn entity_tag(number: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{number}\"")).unwrap()
}

fn say(fields: &mut HeaderMap, name: &'static str, members: Vec<String>) {
    if !members.is_empty() {
        fields.insert(name, HeaderValue::try_from(members.join(", ")).unwrap());
    }
}
