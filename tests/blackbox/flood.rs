//! Floods over HTTP/2 (B5 to B11): each ends the connection, or is answered in little memory, and no other client
//! notices.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::frames::*;
use crate::harness::*;

/// More than what as many streams as there may be hold of bodies.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Never answers what stands below `/hang`.
async fn origin() -> Origin {
    Origin::answers(async |request| {
        if request.target.starts_with("/hang") {
            std::future::pending::<()>().await;
        }
        ok("b".repeat(64 * 1024))
    })
    .await
}

async fn edge_before(origin: &Origin) -> Edge {
    let client = "[client]\nsend_timeout = \"600ms\"\nbody_timeout = \"600ms\"\n";
    Edge::start(client.to_owned() + &upstream(&[origin.address()], "") + ROUTE).await
}

/// Sends pieces until the edge closes; how many it took, and the code of its GOAWAY if there was one.
pub async fn flood(client: &mut Frames<TcpStream>, pieces: impl Iterator<Item = Vec<u8>>) -> (usize, Option<u32>) {
    let mut taken = 0;
    for piece in pieces {
        if within("the edge to take or to close", client.send(piece)).await.is_err() {
            break;
        }
        taken += 1;
    }
    let mut code = None;
    while let Some(frame) = within("the end of the connection", client.next()).await {
        if frame.kind == GOAWAY {
            code = Some(frame.code());
        }
    }
    (taken, code)
}

/// The edge serves others, has forgotten the flood, and has not grown by it.
async fn is_well(edge: &Edge, origin: &Origin, before_kib: u64) {
    assert_eq!(edge.get("/").await.status, 200);
    edge.in_flight(origin.address(), 0).await;
    let grown = edge.rss_kib().saturating_sub(before_kib);
    assert!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
}

fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// The frames of one stream.
type Attack = fn(u32) -> Vec<u8>;

/// B5 and B6: streams that the client resets (CVE-2023-44487), and streams that it makes the edge reset
/// (CVE-2025-8671), are counted.
#[tokio::test]
async fn b5_b6_resets_in_masses_end_the_connection() {
    const STREAMS: usize = 200_000;
    let rapid = |stream| [get(stream, "/hang"), rst_stream(stream, CANCEL)].concat();
    let empty_window = |stream| [get(stream, "/hang"), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat();
    let full_window =
        |stream| [get(stream, "/hang"), frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())].concat();
    let late_data = |stream| [get(stream, "/hang"), frame(DATA, 0, stream, b"late")].concat();
    let rows: [(&str, Attack); 4] = [
        ("reset at once", rapid),
        ("a window update of nothing", empty_window),
        ("a window that overflows", full_window),
        ("data after the end", late_data),
    ];
    for (name, make) in rows {
        let origin = origin().await;
        let edge = edge_before(&origin).await;
        let before_kib = edge.rss_kib();
        let mut client = Frames::connect(&edge, &[]).await;
        let (taken, code) = flood(&mut client, streams().take(STREAMS).map(make)).await;
        // What it had not read yet when it closed was taken by the kernels between.
        assert!(taken < STREAMS, "{name}: all taken");
        assert!(code.is_none_or(|code| code != NO_ERROR), "{name}: {code:?}");
        assert!(origin.count() < STREAMS / 2, "{name}: {} at the origin", origin.count());
        is_well(&edge, &origin, before_kib).await;
    }
}

/// B5: the requests have reached the origin, so each reset costs a connection to it.
#[tokio::test]
async fn b5_requests_given_up_in_masses_end_the_connection() {
    const ROUNDS: usize = 50;
    const AT_ONCE: usize = 100;
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let mut client = Frames::connect(&edge, &[]).await;
    let mut next = streams();
    for round in 1..=ROUNDS {
        let open: Vec<_> = next.by_ref().take(AT_ONCE).collect();
        let asked = client.send(open.iter().flat_map(|stream| get(*stream, "/hang")).collect::<Vec<_>>()).await;
        let came = async || (origin.count() == round * AT_ONCE).then_some(Ok(()));
        let closed = async { while client.next().await.is_some() {} };
        let all = tokio::select! {
            all = until("the requests at the origin", came) => all,
            () = closed => Err(()),
        };
        if asked.is_err() || all.is_err() {
            return;
        }
        client.send(open.iter().flat_map(|stream| rst_stream(*stream, CANCEL)).collect::<Vec<_>>()).await.unwrap();
    }
    panic!("{} requests were given up on one connection", ROUNDS * AT_ONCE);
}

/// B7 (CVE-2024-27983 and its kin): a head that never ends.
#[tokio::test]
async fn b7_continuations_without_end_are_cut_off() {
    let many = block((0..2000).map(|n| (format!("x-{n}"), "1")));
    let rows = [("empty", Vec::new(), 200_000), ("of many fields", many[..16_000].to_vec(), 2000)];
    for (name, payload, count) in rows {
        let origin = origin().await;
        let edge = edge_before(&origin).await;
        let before_kib = edge.rss_kib();
        let mut client = Frames::connect(&edge, &[]).await;
        client.send(frame(HEADERS, END_STREAM, 1, &block(pseudo("GET", "/")))).await.unwrap();
        let piece = frame(CONTINUATION, 0, 1, &payload).repeat(10);
        let (taken, _) = flood(&mut client, std::iter::repeat_n(piece, count / 10)).await;
        assert!(taken < count / 10, "{name}: all taken");
        assert_eq!(origin.bytes(), 0, "{name}");
        is_well(&edge, &origin, before_kib).await;
    }
}

/// B8: what is small on the wire and large when it is unpacked.
#[tokio::test]
async fn b8_heads_that_unpack_to_much_are_refused() {
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let before_kib = edge.rss_kib();
    let mut client = Frames::connect(&edge, &[]).await;
    // A literal that the table keeps (RFC 7541 §6.2.1), and then nothing but its index.
    let kept = [&[0x40][..], &block([("x", "v".repeat(3900))])[1..]].concat();
    let first = [block(pseudo("GET", "/")), kept].concat();
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)).await.unwrap();
    assert_eq!(within("an answer", client.of(1)).await.unwrap().status(), 200);
    let bomb = [block(pseudo("GET", "/")), vec![0xbe; 16_000]].concat();
    for stream in (3..203).step_by(2) {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)).await.unwrap();
        let frame = within("an answer", client.of(stream)).await.expect("431, a reset, or a reason to close");
        if frame.kind == GOAWAY {
            assert_eq!(frame.code(), ENHANCE_YOUR_CALM);
            break;
        }
        assert!(frame.kind == RST_STREAM || frame.status() == 431, "{frame:?}");
    }
    assert_eq!(origin.count(), 1);
    is_well(&edge, &origin, before_kib).await;
}

#[tokio::test]
async fn b8_a_table_larger_than_allowed_is_an_error() {
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let mut client = Frames::connect(&edge, &[]).await;
    // A size update to 2^20 (RFC 7541 §6.3).
    let update = [&[0x3f, 0xe1, 0xff, 0x3f][..], &block(pseudo("GET", "/"))].concat();
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &update)).await.unwrap();
    let end = within("the end", client.next()).await.unwrap();
    assert_eq!(end.kind, GOAWAY);
    assert_ne!(end.code(), NO_ERROR);
    assert_eq!(origin.bytes(), 0);
}

/// B9: as many streams as there may be, none of which can move.
#[tokio::test]
async fn b9_streams_without_a_window_are_given_up() {
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let before_kib = edge.rss_kib();
    let mut client = Frames::connect(&edge, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let mut next = streams();
    for _round in 0..3 {
        let open: Vec<_> = next.by_ref().take(128).collect();
        client.send(open.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<_>>()).await.unwrap();
        let mut reset = 0;
        while reset < open.len() {
            let frame = within("a reset", client.next()).await.expect("a reset of each");
            assert!(matches!(frame.kind, HEADERS | RST_STREAM), "{frame:?}");
            reset += usize::from(frame.kind == RST_STREAM);
        }
    }
    is_well(&edge, &origin, before_kib).await;
}

/// B11: what the edge has to say of each stream waits behind a client that reads nothing.
#[tokio::test]
async fn b11_refusals_that_nobody_reads_are_bounded() {
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let before_kib = edge.rss_kib();
    let mut client = Frames::connect(&edge, &[]).await;
    // Each is answered by an error page, and over in the eyes of the client.
    let refused = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(pseudo("TRACE", "/")));
    let (taken, _) = flood(&mut client, streams().take(400_000).map(refused)).await;
    assert!(taken < 400_000, "all taken");
    is_well(&edge, &origin, before_kib).await;
}

/// B10: the client takes every answer, and all that it asks for is worth nothing. It is told why the connection ends,
/// which another one does not notice.
#[tokio::test]
async fn b10_frames_that_say_nothing_end_the_connection() {
    let window = |bytes: u32| frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
    let rows = [
        ("PING", frame(PING, 0, 0, &[0; 8]), "control-frames"),
        ("SETTINGS", settings(&[(INITIAL_WINDOW_SIZE, 65_535)]), "control-frames"),
        ("WINDOW_UPDATE", window(1), "control-frames"),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0; 5]), "control-frames"),
        ("a frame that nobody knows", frame(0xee, 0, 0, b"x"), "control-frames"),
        ("RST_STREAM of nothing", rst_stream(1, CANCEL), "resets"),
    ];
    let origin = origin().await;
    let edge = edge_before(&origin).await;
    let mut other = Frames::connect(&edge, &[]).await;
    for (n, (name, piece, reason)) in rows.into_iter().enumerate() {
        let mut client = Frames::connect(&edge, &[]).await;
        client.send(get(1, "/")).await.unwrap();
        client.grant(0, 1 << 20).await.unwrap();
        while !within("an answer", client.of(1)).await.unwrap().ends_stream() {
            client.grant(1, 1 << 20).await.unwrap();
        }
        let _closed_meanwhile = client.send(piece.repeat(1100)).await;
        let end = loop {
            let frame = within(name, client.any()).await.expect("a reason");
            if frame.kind == GOAWAY {
                break frame;
            }
        };
        assert_eq!((end.code(), &end.payload[8..]), (ENHANCE_YOUR_CALM, reason.as_bytes()), "{name}");
        other
            .send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n as u32 + 1, &block(pseudo("HEAD", "/"))))
            .await
            .unwrap();
        assert_eq!(within("an answer to another", other.next()).await.unwrap().status(), 200, "{name}");
    }
    edge.counts("tollgate_h2_connections_cut_total{reason=\"control-frames\"}", 5.0).await;
    edge.counts("tollgate_h2_connections_cut_total{reason=\"resets\"}", 1.0).await;
    assert!(edge.stderr().contains("reason=\"control-frames\""), "{}", edge.stderr());
}

/// B5: what a client takes back is not worked on any further.
#[tokio::test]
async fn b5_a_reset_ends_the_work_of_the_origin() {
    let (asked, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&asked), Arc::clone(&closed));
    let origin = Origin::serves(move |mut connection| {
        let (asked, closed) = told.clone();
        async move {
            assert!(connection.request().await.is_some());
            asked.notify_one();
            assert!(connection.request().await.is_none());
            closed.notify_one();
        }
    })
    .await;
    let edge = edge_before(&origin).await;
    let mut client = Frames::connect(&edge, &[]).await;
    client.send(get(1, "/hang")).await.unwrap();
    within("the request at the origin", asked.notified()).await;
    client.send(rst_stream(1, CANCEL)).await.unwrap();
    within("the end of its connection", closed.notified()).await;
    edge.in_flight(origin.address(), 0).await;
}

/// B10: answers are owed, and the client does not read them.
#[tokio::test]
async fn b10_pings_and_settings_whose_answers_nobody_reads_end_the_connection() {
    for (name, asks) in [("PING", frame(PING, 0, 0, &[0; 8])), ("SETTINGS", settings(&[(INITIAL_WINDOW_SIZE, 65_535)]))]
    {
        let origin = origin().await;
        let edge = edge_before(&origin).await;
        let before_kib = edge.rss_kib();
        let mut client = Frames::connect(&edge, &[]).await;
        let piece = asks.repeat(1000);
        let (taken, _) = flood(&mut client, std::iter::repeat_n(piece, 10_000)).await;
        assert!(taken < 10_000, "{name}: all taken");
        is_well(&edge, &origin, before_kib).await;
    }
}

/// B10: frames of DATA without data make no progress, so they do not count against silence.
#[tokio::test]
async fn b10_empty_data_in_masses_is_cut_off() {
    for (name, length) in [("announced", Some("5")), ("unannounced", None)] {
        let origin = origin().await;
        let edge = edge_before(&origin).await;
        let before_kib = edge.rss_kib();
        let mut client = Frames::connect(&edge, &[]).await;
        let head = pseudo("POST", "/hang").into_iter().chain(length.map(|length| ("content-length", length)));
        client.send(frame(HEADERS, END_HEADERS, 1, &block(head))).await.unwrap();
        let piece = frame(DATA, 0, 1, b"").repeat(1000);
        let (taken, _) = flood(&mut client, std::iter::repeat_n(piece, 1000)).await;
        assert!(taken < 1000, "{name}: all taken");
        is_well(&edge, &origin, before_kib).await;
    }
}
