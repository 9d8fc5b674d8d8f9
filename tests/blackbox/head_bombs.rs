//! Heads over HTTP/2 that are small on the wire and large when they are unpacked (B8): what one connection holds, what
//! all hold, and what each is told.

use tokio::net::TcpStream;

use crate::harness::frames::*;
use crate::harness::*;

/// Fields of one byte each on the wire.
pub const FIELDS: usize = 94;
/// A connection may hold 512 KiB by heads. Streams that wait for an endpoint cost something beside them, which is
/// more in a build for tests.
const PEAK_KIB_MAX: u64 = 1024;

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
    let bombs: Vec<u8> = streams(120).flat_map(|stream| bomb(stream, fields)).collect();
    // One that is refused for what it is comes last: whatever was to be said of the others is said then.
    let last = frame(HEADERS, END_HEADERS | END_STREAM, 999, &block(pseudo("TRACE", "/")));
    client.send([bombs, last].concat()).await.unwrap();
    let mut refused = 0;
    loop {
        let frame = within("a verdict on each", client.next()).await.expect("the connection stays");
        match (frame.kind, frame.stream) {
            (HEADERS, 999) => return refused,
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
    let long = "v".repeat(3900);
    let rows =
        [("fields beyond 100", "x", "", 470, 120), ("many fields", "x", "", FIELDS, 100), ("long", "x", &long, 4, 100)];
    for (name, field, value, fields, refused_min) in rows {
        let origin = silent_origin().await;
        let edge = edge_before(&origin, "").await;
        let mut client = armed(&edge, field, value).await;
        edge.forget_peak();
        let before_kib = edge.rss_kib();
        let refused = explode(&mut client, fields).await;
        assert!(refused >= refused_min, "{name}: {refused} refused");
        let peak_kib = edge.peak_kib().saturating_sub(before_kib);
        assert!(peak_kib <= PEAK_KIB_MAX, "{name}: the peak is {peak_kib} KiB");
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
    assert_eq!(explode(&mut client, 1).await, 0);
}

/// B8: the heads of all connections have one budget, and what it has no room for is answered with 503.
#[tokio::test]
async fn b8_all_connections_share_one_budget() {
    let origin = silent_origin().await;
    let edge = edge_before(&origin, "[client]\nh2 = { heads_max = \"512KiB\" }\n").await;
    let mut clients = Vec::new();
    // Each fills what one connection may have, but for those that find the budget spent.
    for _ in 0..4 {
        let mut client = Frames::connect(&edge, &[]).await;
        let head = [block(pseudo("GET", "/hang")), block([("x", "v".repeat(10_000))])].concat();
        let heads = streams(16).flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        client.send(heads.collect::<Vec<_>>()).await.unwrap();
        clients.push(client);
    }
    let spent = until("the budget to be spent", async || {
        let answer = large_head(&edge).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!((spent.field("x-tollgate-reason"), spent.field("retry-after")), ("head-memory", "1"));
    // HTTP/1.1 has one head a connection, and is not concerned.
    assert_eq!(edge.get("/").await.status, 200);
    drop(clients);
    until("room for others", async || (large_head(&edge).await.status == 200).then_some(())).await;
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
