//! Heads over HTTP/2 that are small on the wire and large when they are unpacked (B8): what one connection holds, what
//! all hold, and what each is told.

use tokio::net::TcpStream;

use crate::harness::frames::*;
use crate::harness::*;

/// Fields of one byte each on the wire.
pub const FIELDS: usize = 94;
/// What one connection may hold by heads that are not ordinary, with all that their streams take.
const PEAK_KIB_MAX: u64 = 512;

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

/// As many streams as there may be, each with such a head. How many bytes that is, and how many are refused, once the
/// edge has judged all.
pub async fn explode(client: &mut Frames<TcpStream>, fields: usize) -> (usize, usize) {
    let bombs: Vec<u8> = streams(120).flat_map(|stream| bomb(stream, fields)).collect();
    let sent = bombs.len();
    // One that is refused for what it is comes last: whatever was to be said of the others is said then.
    let last = frame(HEADERS, END_HEADERS | END_STREAM, 999, &block(pseudo("TRACE", "/")));
    client.send([bombs, last].concat()).await.unwrap();
    let mut refused = 0;
    loop {
        let frame = within("a verdict on each", client.next()).await.expect("the connection stays");
        match (frame.kind, frame.stream) {
            (HEADERS, 999) => return (sent, refused),
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
        let origin = silent_origin().await;
        let edge = edge_before(&origin, "[server]\nworkers = 1\n").await;
        // What the first streams take once.
        for _ in 0..8 {
            armed(&edge, "x", "").await;
        }
        let mut client = armed(&edge, field, value).await;
        edge.forget_peak();
        let before_kib = edge.rss_kib();
        let (sent, refused) = explode(&mut client, fields).await;
        assert!(refused >= refused_min, "{name}: {refused} refused");
        let peak_kib = edge.peak_kib().saturating_sub(before_kib);
        assert!(peak_kib <= PEAK_KIB_MAX, "{name}: {peak_kib} KiB are held for {sent} bytes");
        assert_eq!(edge.get("/").await.status, 200);
        drop(client);
        edge.in_flight(origin.address(), 0).await;
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
    assert_eq!(explode(&mut client, 1).await.1, 0);
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
    // Each counts for 39 KiB, and three quarters of the budget are theirs.
    assert_eq!(rounds, [19, 19]);
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
