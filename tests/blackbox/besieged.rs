//! Clients that attack while good requests arrive in an open loop: not one of those fails, each attacker is gone by its
//! deadline, and afterwards nothing is left of them: no request in flight, no connection, little memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::flood::flood;
use crate::harness::frames::*;
use crate::harness::*;
use crate::head_bombs::{FIELDS, armed, bomb, streams};
use crate::under_load::PAGE;

/// Between two bytes of those who are slow.
const BEAT: Duration = Duration::from_millis(100);
/// More than the kernels between take of a response; what they take, the edge has sent.
const LARGE: usize = 8 << 20;
/// The connections that the edge keeps to its endpoint, and what else it opens once.
const DESCRIPTORS_KEPT: usize = 128;
/// What the allocator keeps of a thousand connections.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// The same, where each had a window of data on its way besides.
const WINDOWS_KIB_MAX: u64 = 256 * 1024;
const DEADLINES: &str = "header_timeout = \"300ms\"\nhandshake_timeout = \"300ms\"\nbody_timeout = \"300ms\"\n\
                         send_timeout = \"300ms\"\nrate_min = \"100KiB/s\"\n";

/// The page, what is large, and what never comes.
async fn origin() -> Origin {
    Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            match request.target.as_str() {
                "/large" => {
                    let block = vec![b'x'; LARGE / 128];
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
                    let mut sent = connection.wire.send(head).await;
                    for _ in 0..128 {
                        if sent.is_err() {
                            return;
                        }
                        sent = connection.wire.send(&block).await;
                    }
                }
                "/beyond-a-window" => _ = connection.reply(&ok(vec![b'x'; 256 * 1024]), false).await,
                target if target.starts_with("/hang") => _ = connection.wire.rest().await,
                _ => _ = connection.reply(&ok(PAGE), false).await,
            }
        }
    })
    .await
}

/// An edge under good load, as it was before anyone came.
struct Besieged {
    edge: Edge,
    origin: Origin,
    load: Arrivals,
    before: (u64, usize),
}

impl Besieged {
    async fn start(config: &str) -> Self {
        let origin = origin().await;
        // Who stalls holds his place at the endpoint until his deadline; how many do so at a time is up to the machine.
        let upstream = upstream(&[origin.address()], "endpoint_requests_max = 0");
        let edge = Edge::start(config.to_owned() + &upstream + ROUTE).await;
        let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::Once);
        load.answers(50).await;
        let before = (edge.rss_kib(), edge.descriptors());
        Self { edge, origin, load, before }
    }

    /// The attackers are gone: nothing of them is left, and nothing failed.
    async fn ends(self, name: &str, growth_kib_max: u64) {
        let Self { edge, origin, load, before } = self;
        load.answers(50).await;
        load.succeeded().await;
        edge.in_flight(origin.address(), 0).await;
        until("an end of every connection", async || (edge.status().await["connections"]["open"] == 0).then_some(()))
            .await;
        let most = before.1 + DESCRIPTORS_KEPT;
        until("the descriptors", async || (edge.descriptors() <= most).then_some(())).await;
        let grown = edge.rss_kib().saturating_sub(before.0);
        assert!(grown < growth_kib_max, "{name}: grown by {grown} KiB");
    }
}

/// As many attackers as there may be, if each takes so many descriptors of the test, which is not alone.
fn attackers(wanted: usize, descriptors_each: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let count = wanted.min(limit / 4 / descriptors_each);
    if count < wanted {
        eprintln!("{count} attackers instead of {wanted}: the limit of open files is {limit}");
    }
    count
}

/// A connection from one of many addresses, as one may hold a quarter of all connections only.
async fn connection(number: usize, address: SocketAddr, ahead: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let [high, low] = u16::try_from(number / 8 + 1).unwrap().to_be_bytes();
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into()).unwrap();
    if let Some(ahead) = ahead {
        socket.set_recv_buffer_size(ahead).unwrap();
    }
    let stream = within("a connection", socket.connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Says the beginning and then a byte now and then, for as long as the edge hears it.
async fn dribbles(mut stream: TcpStream, beginning: &str) {
    let (mut reading, mut writing) = stream.split();
    let dribble = async {
        let mut sent = writing.write_all(beginning.as_bytes()).await;
        while sent.is_ok() {
            tokio::time::sleep(BEAT).await;
            sent = writing.write_all(b"a").await;
        }
    };
    let mut said = Vec::new();
    let closed = async { _ = reading.read_to_end(&mut said).await };
    tokio::select! {
        () = dribble => {}
        () = closed => {}
    }
}

/// Takes a byte now and then, for as long as the edge says something. It must not get all, and the end is a reset: what
/// the kernel still held would go on at the same pace, and what ends in order may look whole.
async fn sips(mut stream: TcpStream) {
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut room = [0; 64];
    loop {
        match stream.read(&mut room).await {
            Ok(0) => panic!("it ended in order"),
            Ok(_) => tokio::time::sleep(BEAT).await,
            Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

/// C1, C2, C3. Each slow reader of HTTP/1.1 costs the kernel some MiB, so there are fewer of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_clients_of_each_kind_fail_no_get() {
    const SLOWLORIS: &str = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    const SLOW_BODY: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    for (name, count) in [("slowloris", 1000), ("slow body", 1000), ("slow reader", 50)] {
        let besieged = Besieged::start(&format!("[client]\n{DEADLINES}")).await;
        let address = besieged.edge.address();
        let mut attack = JoinSet::new();
        for number in 0..attackers(count, 2) {
            attack.spawn(async move {
                let ahead = (name == "slow reader").then_some(4096);
                let stream = connection(number, address, ahead).await;
                match name {
                    "slowloris" => dribbles(stream, SLOWLORIS).await,
                    "slow body" => dribbles(stream, SLOW_BODY).await,
                    _ => sips(stream).await,
                }
            });
        }
        within(name, attack.join_all()).await;
        besieged.ends(name, GROWTH_KIB_MAX).await;
    }
}

/// B9: no window is opened, so that nothing of it is up to the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_of_http_2_that_open_no_window_fail_no_get() {
    let besieged = Besieged::start(&format!("[client]\n{DEADLINES}")).await;
    let mut attack = JoinSet::new();
    for _ in 0..attackers(1000, 2) {
        let mut client = Frames::connect(&besieged.edge, &[]).await;
        attack.spawn(async move {
            client.send(get(1, "/beyond-a-window")).await.unwrap();
            while client.of(1).await.expect("a reset").kind != RST_STREAM {}
        });
    }
    within("a reset of each", attack.join_all()).await;
    besieged.ends("stalled streams", WINDOWS_KIB_MAX).await;
}

/// What a flood says first, and then in each of so many pieces.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>, u32);

/// How many connections of HTTP/2 were ended for what they did.
async fn cut_off(edge: &Edge) -> f64 {
    let metrics = edge.admin("/metrics").await;
    let lines = metrics.text().lines().filter(|line| line.starts_with("tollgate_h2_connections_cut_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// B5, B7, B10.
#[tokio::test(flavor = "multi_thread")]
async fn floods_over_http_2_fail_no_get() {
    const ATTACKERS: usize = 4;
    let post = frame(HEADERS, END_HEADERS, 1, &block(pseudo("POST", "/hang")));
    let open = frame(HEADERS, END_STREAM, 1, &block(pseudo("GET", "/")));
    let floods: [Flood; 3] = [
        ("rapid reset", Vec::new(), |n| [get(2 * n + 1, "/hang"), rst_stream(2 * n + 1, CANCEL)].concat(), 20_000),
        ("CONTINUATION", open, |_| frame(CONTINUATION, 0, 1, b"").repeat(10), 20_000),
        ("empty DATA", post, |_| frame(DATA, 0, 1, b"").repeat(1000), 1000),
    ];
    for (name, first, piece, pieces) in floods {
        let besieged = Besieged::start(&format!("[client]\n{DEADLINES}")).await;
        let mut attack = JoinSet::new();
        for _ in 0..ATTACKERS {
            let mut client = Frames::connect(&besieged.edge, &[]).await;
            let first = first.clone();
            attack.spawn(async move {
                client.send(&first).await.unwrap();
                // The kernels between may take all of it.
                let (_, code) = flood(&mut client, (0..pieces).map(piece)).await;
                assert!(code.is_none_or(|code| code != NO_ERROR), "{name}: {code:?}");
            });
        }
        within(name, attack.join_all()).await;
        // They did not end because they had no more to say.
        assert_eq!(cut_off(&besieged.edge).await, ATTACKERS as f64, "{name}");
        besieged.ends(name, GROWTH_KIB_MAX).await;
    }
}

/// B8: what the heads of many connections unpack to is bounded over all of them.
#[tokio::test(flavor = "multi_thread")]
async fn head_bombs_over_http_2_fail_no_get() {
    const ATTACKERS: usize = 32;
    const BUDGET_KIB: u64 = 1024;
    let config = format!("[client]\nh2 = {{ heads_max = \"{BUDGET_KIB}KiB\" }}\n{DEADLINES}");
    let besieged = Besieged::start(&config).await;
    let (mut attack, mut sent) = (Vec::new(), 0);
    for _ in 0..ATTACKERS {
        attack.push(armed(&besieged.edge, "x", "").await);
    }
    besieged.edge.forget_peak();
    let before_kib = besieged.edge.rss_kib();
    for client in &mut attack {
        let bombs: Vec<u8> = streams(120).flat_map(|stream| bomb(stream, FIELDS)).collect();
        sent += bombs.len();
        client.send(bombs).await.unwrap();
        // One that is refused for what it is comes last: whatever was to be said of the others is said then.
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 999, &block(pseudo("TRACE", "/")))).await.unwrap();
    }
    for client in &mut attack {
        while within("a verdict", client.of(999)).await.expect("the connection stays").kind != HEADERS {}
    }
    let grown_kib = besieged.edge.peak_kib() - before_kib;
    eprintln!("{sent} bytes on the wire, {grown_kib} KiB in memory: {}", grown_kib as f64 * 1024.0 / sent as f64);
    assert!(grown_kib <= 16 * BUDGET_KIB, "grown by {grown_kib} KiB");
    drop(attack);
    besieged.ends("head bombs", GROWTH_KIB_MAX).await;
}

/// C1: those who connect and say nothing, or not all of a hello.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_handshakes_that_do_not_end_fail_no_get() {
    let besieged = Besieged::start(&format!("[client]\n{DEADLINES}")).await;
    let address = besieged.edge.tls_address();
    let mut attack = JoinSet::new();
    for number in 0..attackers(1000, 1) {
        attack.spawn(async move {
            let stream = connection(number, address, None).await;
            dribbles(stream, if number % 2 == 0 { "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03" } else { "" }).await;
        });
    }
    within("the end of each", attack.join_all()).await;
    besieged.ends("handshakes", GROWTH_KIB_MAX).await;
}

/// C4: who has no descriptor waits, and those who say nothing are sent away.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_run_out_fail_no_get() {
    let origin = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let config = "[client]\nidle_timeout = \"300ms\"\n".to_owned() + &upstream(&[origin.address()], "") + ROUTE;
    std::fs::write(folder.path().join("config.toml"), Edge::standard(config)).unwrap();
    let edge = Edge::try_start(folder, "ulimit -n 1024;").await.unwrap();
    let load = Arrivals::start(edge.address(), "/", PAGE, Connecting::EachTime);
    load.answers(50).await;
    let mut crowd = Vec::new();
    for number in 0..attackers(1500, 1) {
        crowd.push(connection(number, edge.address(), None).await);
    }
    assert_eq!(edge.admin("/livez").await.status, 200);
    let ends = async {
        for stream in &mut crowd {
            // Without a word.
            _ = stream.read(&mut [0]).await;
        }
    };
    within("the end of each", ends).await;
    load.answers(50).await;
    load.succeeded().await;
    assert!(edge.descriptors() < 1024);
    edge.in_flight(origin.address(), 0).await;
}

/// What an independent parser of HTTP/1.1 finds in the bytes that the origin received are the requests that were
/// accepted, each once, and no other: not one of those that stand in the bodies of refused ones.
#[tokio::test(flavor = "multi_thread")]
async fn the_origin_gets_whole_what_was_accepted_and_nothing_else() {
    const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let besieged = Besieged::start("").await;
    let framings = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 35",
        "Content-Length: +0",
        "Content-Length : 0",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "X: y\rContent-Length: 0",
        "Host: b",
    ];
    let mut attack = JoinSet::new();
    for (number, framing) in framings.into_iter().cycle().take(20 * framings.len()).enumerate() {
        let address = besieged.edge.address();
        attack.spawn(async move {
            let mut client = Wire::new(connection(number, address, None).await);
            let good = format!("GET /before?{number} HTTP/1.1\r\nHost: a\r\n\r\n");
            let bad = format!("POST /bad HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n{HIDDEN}");
            client.send(good + &bad).await.unwrap();
            assert_eq!(within("an answer", client.response("GET")).await.unwrap().status, 200);
            let refused = within("a refusal", client.response("POST")).await.unwrap().status;
            assert!(matches!(refused, 400 | 501), "{framing}: {refused}");
            assert_eq!(within("the close", client.rest()).await, b"", "{framing}");
            format!("/before?{number}")
        });
    }
    let mut accepted = within("an end of each", attack.join_all()).await;
    // B1 to B4: what HTTP/2 may not say is not said in HTTP/1.1 either.
    let hidden = [
        (":path", "/bad HTTP/1.1\r\nHost: a\r\n\r\nGET /hidden"),
        ("x", "y\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("transfer-encoding", "chunked"),
        ("content-length", "0"),
    ];
    for field in hidden {
        let mut client = Frames::connect(&besieged.edge, &[]).await;
        let mut fields = pseudo("POST", "/bad");
        fields.retain(|(name, _)| *name != field.0);
        fields.push(field);
        fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        client.send(frame(HEADERS, END_HEADERS, 1, &block(fields))).await.unwrap();
        let _refused_already = client.send(frame(DATA, END_STREAM, 1, HIDDEN.as_bytes())).await;
        let said = within("a refusal", client.next()).await;
        assert!(
            said.as_ref().is_none_or(|frame| frame.kind != HEADERS || frame.status() == 400),
            "{field:?} was accepted: {said:?}"
        );
    }
    besieged.load.answers(50).await;
    let Besieged { edge, origin, load, .. } = besieged;
    accepted.extend(load.succeeded().await.answered);
    accepted.sort();
    let mut received = origin.targets();
    received.sort();
    assert_eq!(received, accepted);
    assert_eq!(origin.cut(), 0);
    edge.in_flight(origin.address(), 0).await;
}
