//! Heads over HTTP/2 that are small on the wire and large when they are unpacked (B8): what one connection holds, what
//! all hold, and what each is told.

use tokio::net::TcpStream;

use crate::harness::frames::*;
use crate::harness::*;

/// Fields of one byte each on the wire.
pub const FIELDS: usize = 94;
/// What one connection may hold by heads that are not ordinary, with all that their streams take.
const PEAK_KIB_MAX: u64 = 512;
/// The same, where the client has sent what it holds.
const SENT_PEAK_KIB_MAX: u64 = 2048;

/// Never answers.
async fn silent_origin() -> Origin {
    Origin::answers(async |request| {
        if request.target.starts_with("/hang") {
            std::future::pending::<()>().await;
        }
        ok("")
    })
    .await
}

async fn edge_before(origin: &Origin, config: &str) -> Edge {
    Edge::start(config.to_owned() + &upstream(&[origin.address()], "") + ROUTE).await
}

/// A client whose table holds one field. The first request is answered.
pub async fn armed(edge: &Edge, name: &str, value: &str) -> Frames<TcpStream> {
    let mut client = Frames::connect(edge, &[]).await;
    let first = [block(pseudo("GET", "/")), kept(name, value)].concat();
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)).await.unwrap();
    assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
    client
}

pub fn bomb(stream: u32, fields: usize) -> Vec<u8> {
    let head = [block(pseudo("GET", "/hang")), vec![KEPT; fields]].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}

pub fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 3)
}

/// As many streams as there may be, each with such a head. How many are refused, once the edge has judged all.
pub async fn explode(client: &mut Frames<TcpStream>, fields: usize) -> usize {
    refused(client, 999, streams(120).flat_map(|stream| bomb(stream, fields)).collect()).await
}

/// How many of these streams are refused, or answered with 431, once the edge has judged all. `last` is a stream beyond
/// them.
async fn refused(client: &mut Frames<TcpStream>, last: u32, heads: Vec<u8>) -> usize {
    // One that is refused for what it is comes last: whatever was to be said of the others is said then.
    let trace = frame(HEADERS, END_HEADERS | END_STREAM, last, &block(pseudo("TRACE", "/")));
    client.send([heads, trace].concat()).await.unwrap();
    let mut refused = 0;
    loop {
        let frame = within("a verdict on each", client.next()).await.expect("the connection stays");
        match (frame.kind, frame.stream) {
            (HEADERS, stream) if stream == last => return refused,
            (RST_STREAM, _) => {
                assert_eq!(frame.code(), REFUSED_STREAM);
                refused += 1;
            }
            (HEADERS, _) => {
                assert_eq!(frame.status(), 431);
                refused += 1;
            }
            (kind, _) => assert_eq!(kind, DATA),
        }
    }
}

/// B8: heads of too many fields go before the next one is unpacked, and of large ones few fit a connection.
#[tokio::test]
async fn b8_one_connection_holds_few_large_heads() {
    let (half, long) = ("v".repeat(2000), "v".repeat(3900));
    // The last two are the least that is not ordinary.
    let rows = [
        ("fields beyond 100", "x", "", 470, 120),
        ("many fields", "x", "", FIELDS, 100),
        ("long", "x", &long, 4, 100),
        ("somewhat many fields", "x", "", 33, 90),
        ("somewhat long", "x", &half, 2, 90),
    ];
    for (name, field, value, fields, refused_min) in rows {
        // What the allocator keeps beside it differs from one time to the next.
        let mut held_kib = u64::MAX;
        for _ in 0..3 {
            let origin = silent_origin().await;
            let edge = edge_before(&origin, "[server]\nworkers = 1\n").await;
            // What the first streams take once.
            for _ in 0..8 {
                armed(&edge, "x", "").await;
            }
            let mut client = armed(&edge, field, value).await;
            edge.forget_peak();
            let before_kib = edge.rss_kib();
            let refused = explode(&mut client, fields).await;
            assert!(refused >= refused_min, "{name}: {refused} refused");
            held_kib = held_kib.min(edge.peak_kib().saturating_sub(before_kib));
            assert_eq!(edge.get("/").await.status, 200);
            drop(client);
            edge.in_flight(origin.address(), 0).await;
            if held_kib <= PEAK_KIB_MAX {
                break;
            }
        }
        assert!(held_kib <= PEAK_KIB_MAX, "{name}: {held_kib} KiB are held");
    }
}

/// What a browser says with each request, and these cookies.
fn browsing(stream: u32, cookies: &[u8]) -> Vec<u8> {
    let fields = [
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("referer", "https://localhost/a/page/of/it"),
        ("sec-ch-ua", "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\""),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", "\"Linux\""),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
        ("priority", "u=1, i"),
    ];
    let head = [block(pseudo("GET", "/hang")), block(fields), cookies.to_vec()].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}

/// A browser sends its cookies in crumbs, or one that no table has a place for. It has many requests at a time.
#[tokio::test]
async fn a_browser_with_many_cookies_has_many_requests_at_a_time() {
    const REQUESTS: u32 = 60;
    let crumb = |n: usize| ("cookie", format!("name{n:02}={}", "v".repeat(73)));
    let kept_crumbs: Vec<u8> = (0..30).flat_map(|n| kept("cookie", &crumb(n).1)).collect();
    // The last two are large: of 4.7 and 6 KiB by their size, 256 KiB are room for 54 and 43.
    let rows = [
        ("none", vec![], vec![], 0),
        ("30 of 80 bytes", vec![], block((0..30).map(crumb)), 0),
        ("30 of 80 bytes that the table has", kept_crumbs, (0..30).map(|n| KEPT + n).collect(), 0),
        ("90 of 40 bytes", vec![], block((0..90).map(|n| ("cookie", format!("n{n}={}", "v".repeat(36))))), 6),
        ("one of 5 kB", vec![], block([("cookie", "v".repeat(5000))]), 17),
    ];
    for (name, first, cookies, refused_expected) in rows {
        let origin = silent_origin().await;
        let edge = edge_before(&origin, "[server]\nworkers = 1\n").await;
        let mut client = Frames::connect(&edge, &[]).await;
        let first = [block(pseudo("GET", "/")), first].concat();
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)).await.unwrap();
        assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
        let heads = streams(REQUESTS).flat_map(|stream| browsing(stream, &cookies)).collect();
        assert_eq!(refused(&mut client, 999, heads).await, refused_expected, "{name}");
    }
}

/// B8: large heads that were sent are more than bombs may be, and bounded too.
#[tokio::test]
async fn b8_one_connection_holds_a_bounded_number_of_large_heads_that_were_sent() {
    // How many there is room for is 256 KiB by their size.
    for (length, refused_expected) in [(15_500, 104), (5000, 70)] {
        // What the allocator keeps beside it differs from one time to the next.
        let mut peak_kib = u64::MAX;
        for _ in 0..3 {
            peak_kib = peak_kib.min(peak_of_sent(length, refused_expected).await);
            if peak_kib <= SENT_PEAK_KIB_MAX {
                break;
            }
        }
        assert!(peak_kib <= SENT_PEAK_KIB_MAX, "{length}: {peak_kib} KiB");
    }
}

async fn peak_of_sent(length: usize, refused_expected: usize) -> u64 {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "[server]\nworkers = 1\n").await;
    for _ in 0..8 {
        armed(&edge, "x", "").await;
    }
    let mut client = armed(&edge, "x", "").await;
    edge.forget_peak();
    let before_kib = edge.rss_kib();
    let head = [block(pseudo("GET", "/hang")), block([("x", "v".repeat(length))])].concat();
    let heads = streams(120).flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).collect();
    assert_eq!(refused(&mut client, 999, heads).await, refused_expected, "{length}");
    edge.peak_kib().saturating_sub(before_kib)
}

/// Which head a request had is known even where others were refused by the codec, or were trailers.
#[tokio::test]
async fn b8_a_head_counts_with_what_was_sent_of_it_and_of_no_other() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "[server]\nworkers = 1\n").await;
    // What is too large was sent; what comes after it is a bomb, of which 4 fit.
    let mut client = armed(&edge, "x", &"v".repeat(3900)).await;
    let too_large = [block(pseudo("GET", "/")), block([("y", "v".repeat(16_300))])].concat();
    let heads = (0..50).flat_map(|n| {
        let too_large = frame(HEADERS, END_HEADERS | END_STREAM, 4 * n + 3, &too_large);
        [too_large, bomb(4 * n + 5, 4)].concat()
    });
    assert_eq!(refused(&mut client, 999, heads.collect()).await, 50 + 46);
    // What is too large is a bomb, and there are trailers; what comes after them was sent.
    let mut client = armed(&edge, "x", &"v".repeat(3900)).await;
    let large = [block(pseudo("GET", "/hang")), block([("y", "v".repeat(5000))])].concat();
    for stream in (3..).step_by(6).take(30) {
        let sent = [
            frame(HEADERS, END_HEADERS, stream, &block(pseudo("POST", "/"))),
            bomb(stream + 2, 5),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block([("x-sum", "1")])),
            frame(HEADERS, END_HEADERS | END_STREAM, stream + 4, &large),
        ];
        client.send(sent.concat()).await.unwrap();
        let mut statuses = [0; 2];
        while statuses.contains(&0) {
            let frame = within("an answer", client.next()).await.unwrap();
            assert!(matches!(frame.kind, HEADERS | DATA), "{frame:?}");
            if frame.kind == HEADERS {
                statuses[((frame.stream - stream) / 2) as usize] = frame.status();
            }
        }
        assert_eq!(statuses, [200, 431]);
    }
    assert_eq!(refused(&mut client, 999, vec![]).await, 0);
}

/// A client that is told to come again does so, and is not cut off for it.
#[tokio::test]
async fn refusals_for_want_of_room_are_not_held_against_the_client() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "").await;
    let mut client = armed(&edge, "x", "").await;
    let mut sum = 0;
    for round in 0..6 {
        let first = 1000 * round + 3;
        let heads = (0..100).flat_map(|n| bomb(first + 2 * n, FIELDS)).collect();
        sum += refused(&mut client, first + 990, heads).await;
    }
    // More than the resets that a client is allowed.
    assert!(sum > 500, "{sum} refused");
    assert_eq!(edge.get("/").await.status, 200);
}

/// B8: what trailers unpack to counts from when they come, while nobody reads them.
#[tokio::test]
async fn b8_trailers_that_nobody_reads_are_bounded() {
    let origin = silent_origin().await;
    let keys = "requests_max = 1\nqueue = { requests_max = 200, timeout = \"1h\" }";
    let edge = Edge::start("[server]\nworkers = 1\n".to_owned() + &upstream(&[origin.address()], keys) + ROUTE).await;
    for _ in 0..8 {
        armed(&edge, "x", "").await;
    }
    let mut client = armed(&edge, "x", "").await;
    client.send(get(3, "/hang")).await.unwrap();
    origin.has(10).await;
    edge.forget_peak();
    let before_kib = edge.rss_kib();
    let uploads = streams(120).skip(1).flat_map(|stream| {
        let head = frame(HEADERS, END_HEADERS, stream, &block(pseudo("POST", "/")));
        [head, frame(HEADERS, END_HEADERS | END_STREAM, stream, &[KEPT; 480])].concat()
    });
    // The edge may close before it has read all.
    let _closed = client.send(uploads.collect::<Vec<u8>>()).await;
    let end = within("the end", client.next()).await.unwrap();
    assert_eq!((end.kind, end.code()), (GOAWAY, ENHANCE_YOUR_CALM));
    let peak_kib = edge.peak_kib().saturating_sub(before_kib);
    assert!(peak_kib <= PEAK_KIB_MAX, "{peak_kib} KiB are held");
    edge.counts("tollgate_h2_connections_cut_total{reason=\"head-memory\"}", 1.0).await;
    edge.in_flight(origin.address(), 0).await;
    assert_eq!(edge.get("/").await.status, 200);
}

/// B8: trailers have as many fields as a head may have.
#[tokio::test]
async fn b8_trailers_of_too_many_fields_are_refused() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "").await;
    for (stream, fields, status) in [(3, 100, 200), (5, 101, 431), (7, 480, 431)] {
        let mut client = armed(&edge, "x", "").await;
        let head = frame(HEADERS, END_HEADERS, stream, &block(pseudo("POST", "/")));
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &vec![KEPT; fields]);
        client.send([head, trailers].concat()).await.unwrap();
        assert_eq!(within("an answer", client.of(stream)).await.unwrap().status(), status, "{fields} fields");
    }
}

/// A request with a large head, over a connection of its own.
async fn large_head(edge: &Edge) -> Answer {
    let request = request("GET", "/").header("x", "v".repeat(10_000));
    Client::connect(edge, Via::H2).await.ask(request, "").await
}

/// As many ordinary heads as there may be streams are no bomb.
#[tokio::test]
async fn ordinary_heads_fit_every_stream() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "").await;
    let mut client = armed(&edge, "user-agent", &"u".repeat(600)).await;
    assert_eq!(explode(&mut client, 1).await, 0);
}

/// B8: the heads of all connections have one budget. What it has no room for is answered with 503, others are served
/// meanwhile, and it comes back to the last byte.
#[tokio::test]
async fn b8_all_connections_share_one_budget() {
    const BUDGET_KIB: u64 = 1024;
    const CONNECTIONS: usize = 8;
    const STREAMS: u32 = 6;
    let origin = silent_origin().await;
    let edge =
        edge_before(&origin, &format!("[server]\nworkers = 1\n[client]\nh2 = {{ heads_max = \"{BUDGET_KIB}KiB\" }}\n"))
            .await;
    let head = [block(pseudo("GET", "/hang")), block([("x", "v".repeat(10_000))])].concat();
    let heads: Vec<u8> =
        streams(STREAMS).flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).collect();
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let (before, mut clients, mut refused) = (origin.count(), Vec::new(), 0);
        for _ in 0..CONNECTIONS {
            clients.push(armed(&edge, "x", "").await);
        }
        edge.forget_peak();
        let before_kib = edge.rss_kib();
        for client in &mut clients {
            client.send(&heads).await.unwrap();
            refused += spent(client).await;
        }
        let held = CONNECTIONS * STREAMS as usize - refused;
        let grown_kib = edge.peak_kib().saturating_sub(before_kib);
        // Beside the heads, each connection has its buffers.
        assert!(grown_kib <= BUDGET_KIB + 96 * CONNECTIONS as u64, "grown by {grown_kib} KiB");
        let others = large_head(&edge).await;
        assert_eq!(
            (others.status, others.field("x-tollgate-reason"), others.field("retry-after")),
            (503, "head-memory", "1")
        );
        // Neither ordinary heads nor HTTP/1.1, which has one head a connection, are concerned.
        for via in Via::ALL {
            assert_eq!(Client::connect(&edge, via).await.get("/").await.status, 200, "{via:?}");
        }
        origin.has(before + CONNECTIONS + held + Via::ALL.len()).await;
        rounds.push(held);
        drop(clients);
        edge.in_flight(origin.address(), 0).await;
        until("room for others", async || (large_head(&edge).await.status == 200).then_some(())).await;
    }
    // Each counts for 43 KiB, and three quarters of the budget are theirs.
    assert_eq!(rounds, [18, 18]);
}

/// How many requests of a connection are answered with 503, once the edge has judged all of them.
async fn spent(client: &mut Frames<TcpStream>) -> usize {
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 999, &block(pseudo("TRACE", "/")))).await.unwrap();
    let mut refused = 0;
    loop {
        let frame = within("a verdict on each", client.next()).await.expect("the connection stays");
        match (frame.kind, frame.stream) {
            (HEADERS, 999) => return refused,
            (HEADERS, _) => {
                assert_eq!(frame.status(), 503);
                refused += 1;
            }
            (kind, _) => assert_eq!(kind, DATA),
        }
    }
}

/// B8: cookies in crumbs by the thousand are more than is unpacked to say 431.
#[tokio::test]
async fn b8_a_head_far_beyond_the_limit_ends_its_connection() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "").await;
    let mut client = armed(&edge, "cookie", "a=b").await;
    client.send(bomb(3, 5000)).await.unwrap();
    let end = within("the end", client.next()).await.unwrap();
    assert_eq!((end.kind, end.code()), (GOAWAY, ENHANCE_YOUR_CALM));
    assert!(within("the end", client.next()).await.is_none());
    edge.counts("tollgate_h2_connections_cut_total{reason=\"codec\"}", 1.0).await;
}

/// B7: a head in parts is held as it is on the wire, and not unpacked.
#[tokio::test]
async fn b7_a_head_in_parts_arrives_whole() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = Frames::connect(&edge, &[]).await;
    let head = [block(pseudo("GET", "/")), block([("x", "v".repeat(9000))])].concat();
    let parts: Vec<_> = head.chunks(head.len().div_ceil(4)).collect();
    for (n, part) in parts.iter().enumerate() {
        let (kind, ends) = (if n == 0 { HEADERS } else { CONTINUATION }, n + 1 == parts.len());
        let flags = if n == 0 { END_STREAM } else { 0 } | if ends { END_HEADERS } else { 0 };
        client.send(frame(kind, flags, 1, part)).await.unwrap();
        if !ends {
            assert_eq!(origin.count(), 0);
        }
    }
    assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
    assert_eq!(origin.take().fields.get("x").len(), 9000);
}

/// What of a head has been passed on is held no longer, so a client whose reads end within heads has all its room.
#[tokio::test]
async fn heads_that_end_with_the_beginning_of_the_next_one_go_on() {
    let origin = Origin::replies(ok("")).await;
    let edge = Edge::before(&origin).await;
    let mut client = armed(&edge, "x", "").await;
    let head = [block(pseudo("GET", "/")), block([("x", "v".repeat(9000))])].concat();
    let (begin, end) = head.split_at(head.len() / 2);
    client.send(frame(HEADERS, END_STREAM, 3, begin)).await.unwrap();
    for stream in (3..).step_by(2).take(100) {
        let end = frame(CONTINUATION, END_HEADERS, stream, end);
        client.send([end, frame(HEADERS, END_STREAM, stream + 2, begin)].concat()).await.unwrap();
        assert_eq!(within("an answer", client.of(stream)).await.unwrap().status(), 200);
    }
}

/// C1: a later head has no longer than the first, whatever else its connection is busy with.
#[tokio::test]
async fn c1_a_later_head_that_does_not_end_is_cut_off() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "[client]\nheader_timeout = \"300ms\"\n").await;
    let rows = [
        ("without its last frame", frame(HEADERS, END_STREAM, 5, &block(pseudo("GET", "/")))),
        ("in the middle of its frame", get(5, "/")[..20].to_vec()),
    ];
    for (n, (name, begun)) in rows.into_iter().enumerate() {
        let mut client = armed(&edge, "x", "").await;
        client.send(get(3, "/hang")).await.unwrap();
        origin.has(2 * (n + 1)).await;
        client.send(begun).await.unwrap();
        let end = within(name, client.next()).await.unwrap();
        assert_eq!((end.kind, end.code()), (GOAWAY, ENHANCE_YOUR_CALM), "{name}");
        edge.in_flight(origin.address(), 0).await;
    }
    edge.counts("tollgate_h2_connections_cut_total{reason=\"header-timeout\"}", 2.0).await;
}
