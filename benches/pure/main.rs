//! What the pure parts of a request's path cost, one by one: `cargo bench --bench pure`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED, SERVER};
use http::{HeaderMap, HeaderValue, Response};
use tokio::time::Instant;
use tollgate::cache_parts::{KeyRules, Parts, begin_key, end_key};
use tollgate::config::{Algorithm, LimitHeaders, LimitKey, PathMatch, Quota, RateLimit};
use tollgate::guard::{Machine, Step};
use tollgate::header::Scheme;
use tollgate::measured::{Answered, Asked, RouteLimits, Stamp, build, write_head};
use tollgate::upstream_parts::{AsLines, InPlace, read_head, read_in_place};
use tollgate::{Router, path};

/// As a browser of today asks.
const REQUEST: &[u8] = b"GET /api/v1/products/42?page=2&sort=price HTTP/1.1\r\n\
    Host: shop.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain;q=0.9, */*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example/products\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Connection: keep-alive\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: app\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    ETag: \"6b0251a3-400\"\r\n\
    Last-Modified: Sun, 22 Nov 2026 02:21:23 GMT\r\n\
    Cache-Control: public, max-age=300\r\n\r\n";
const DATE: &[u8; 29] = b"Sun, 22 Nov 2026 02:21:23 GMT";
const ROUTES: [usize; 2] = [10, 10_000];
const CLIENTS: [u32; 2] = [100, 1_000_000];

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("canonical path");
    for (name, raw) in [("as it is", "/api/v1/products/42"), ("to be changed", "/api/./v1/%70roducts/x/../42%2f")] {
        group.bench_function(name, |bencher| bencher.iter(|| path::canonical(black_box(raw)).map(|path| path.len())));
    }
    group.finish();
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in ROUTES {
        let rows = (0..count).map(|n| (Vec::new(), PathMatch::Prefix(format!("/service-{n}/api")), n));
        let router: Router<usize> = Router::new(rows);
        let wanted = format!("/service-{}/api/v1/products/42", count / 2);
        group.bench_function(format!("of {count}"), |bencher| {
            bencher.iter(|| router.find(black_box("shop.example"), black_box(&wanted)).copied());
        });
    }
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let rules = KeyRules::default();
    let fields = HeaderMap::new();
    let mut room = Vec::with_capacity(256);
    criterion.bench_function("cache key", |bencher| {
        bencher.iter(|| {
            room.clear();
            let parts = Parts {
                scheme: Scheme::Https,
                host: black_box("shop.example"),
                port: None,
                path: black_box("/api/v1/products/42"),
                query: black_box(Some("page=2&sort=price")),
            };
            begin_key(&mut room, &parts, &rules);
            end_key(&mut room, &fields, &rules);
            room.len()
        });
    });
}

fn guard(criterion: &mut Criterion) {
    criterion.bench_function("guard, a head", |bencher| {
        bencher.iter_batched_ref(
            Machine::default,
            |machine| matches!(machine.step(black_box(REQUEST)), Ok(Step::Head(_))),
            BatchSize::SmallInput,
        );
    });
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limit");
    for (name, algorithm) in [("window", Algorithm::Window), ("gcra", Algorithm::Gcra { burst: 1000 })] {
        for clients in CLIENTS {
            let limits = limits_of(algorithm);
            let fields = HeaderMap::new();
            let mut client = 0_u32;
            let mut ask = || {
                // A prime step visits all before it comes to one again.
                client = (client + 7919) % clients;
                let client = IpAddr::V4(Ipv4Addr::from(client));
                let asked = Asked { client, fields: &fields, route: "api" };
                limits.as_ref().map(|limits| limits.check(&asked, Instant::now()))
            };
            for _ in 0..clients {
                ask();
            }
            group.bench_function(format!("{name}, {clients} clients"), |bencher| bencher.iter(&mut ask));
        }
    }
    group.finish();
}

fn limits_of(algorithm: Algorithm) -> Option<RouteLimits> {
    let window = Duration::from_secs(3600);
    let quota = Quota { key: LimitKey::ClientIp, ipv6_prefix: 64, requests: 1_000_000, window, algorithm };
    let config = RateLimit {
        name: "per-ip".to_owned(),
        quota,
        exempt: Vec::new(),
        dry_run: false,
        headers: LimitHeaders::Off,
        keys_max: 2_000_000,
    };
    RouteLimits::of(&["per-ip".to_owned()], &build(&[config], None))
}

fn heads(criterion: &mut Criterion) {
    let mut head = Response::new(()).into_parts().0;
    for (name, value) in [
        (SERVER, "app"),
        (CONTENT_TYPE, "application/json"),
        (ETAG, "\"6b0251a3-400\""),
        (LAST_MODIFIED, "Sun, 22 Nov 2026 02:21:23 GMT"),
        (CACHE_CONTROL, "public, max-age=300"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    let asked = Answered { keeps_alive: true, ..Answered::default() };
    let mut out = Vec::with_capacity(1024);
    let stamp = Stamp { date: DATE, names: None, prepared: None };
    criterion.bench_function("response head, written", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_head(black_box(&head), Some(1024), asked, &stamp, &mut out).keeps_alive
        });
    });
    criterion.bench_function("response head, read", |bencher| {
        let bytes = bytes::Bytes::from_static(RESPONSE);
        bencher.iter(|| read_head(black_box(&bytes), HeaderMap::new).is_ok());
    });
    criterion.bench_function("response head, read as lines", |bencher| {
        let bytes = bytes::Bytes::from_static(RESPONSE);
        bencher.iter(|| matches!(read_in_place(black_box(&bytes), AsLines { coded: None }), InPlace::Lines(..)));
    });
}

criterion_group!(benches, paths, routes, keys, guard, limits, heads);
criterion_main!(benches);
