//! Listen sockets: whose they are, what waits in their queues, and what is done when descriptors end.

use std::net::{SocketAddr, TcpListener};

use futures_util::future::select_all;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::net::TcpStream;

use crate::harness::*;
use crate::reload::reload;

const REST: &str =
    "[server]\nreload = \"signal\"\n[admin]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntext = \"in\"\n";

/// A file with these listeners, each of which says `in`.
fn listening(addresses: &[SocketAddr]) -> String {
    let listen: String = addresses.iter().map(|address| format!("[[listen]]\naddress = \"{address}\"\n")).collect();
    listen + REST
}

async fn says_in(stream: TcpStream) {
    let mut client = Client::over(Via::H1, stream).await.unwrap();
    assert_eq!(client.get("/").await.text(), "in");
}

async fn serves(address: SocketAddr) {
    says_in(within("a connection", TcpStream::connect(address)).await.unwrap()).await;
}

/// A socket as the service manager has it.
fn kept_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_socket_of_the_service_manager_serves_and_outlives_the_edge() {
    let (socket, address) = kept_socket();
    let mut edge = Edge::activated(&listening(&[address]), &socket).await;
    serves(address).await;
    edge.signal(Signal::TERM);
    assert_eq!(edge.exit().await.code(), Some(0));
    let waiting = within("a place in the queue", TcpStream::connect(address)).await.unwrap();
    let next = Edge::activated(&listening(&[address]), &socket).await;
    within("the next process", says_in(waiting)).await;
    drop(next);
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_there_for_every_configuration() {
    let (socket, address) = kept_socket();
    let own = "127.0.0.2:0".parse().unwrap();
    let (_taken, taken) = kept_socket();
    let edge = Edge::activated(&listening(&[own]), &socket).await;
    let said = edge.stderr();
    assert!(said.contains(&format!("no listener has the address {address} of \"web\"")), "{said}");
    edge.write_config(&listening(&[own, address, taken]));
    assert_eq!(reload(&edge).await.0, 422);
    for _ in 0..2 {
        edge.write_config(&listening(&[own, address]));
        assert_eq!(reload(&edge).await.0, 200);
        serves(address).await;
        edge.write_config(&listening(&[own]));
        assert_eq!(reload(&edge).await.0, 200);
    }
    within("a place in the queue", TcpStream::connect(address)).await.unwrap();
}

#[tokio::test]
async fn an_address_is_removed_and_added_again_at_once() {
    let any: [SocketAddr; 2] = ["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    let edge = Edge::verbatim(&listening(&any)).await;
    let address = edge.listener("127.0.0.2:0");
    for listeners in [&any[..1], &[any[0], address], &any[..1], &[any[0], address]] {
        edge.write_config(&listening(listeners));
        let (status, outcome) = reload(&edge).await;
        assert_eq!(status, 200, "{listeners:?}: {outcome}");
    }
    serves(address).await;
}

/// One connection is all that is let in, and it is busy; whoever comes then waits.
async fn full(more: &str) -> (Edge, Origin, Wire<TcpStream>, Wire<TcpStream>) {
    let origin = Origin::serves(|mut connection| async move {
        while let Some(request) = connection.request().await {
            if request.target == "/held" {
                std::future::pending::<()>().await;
            }
            connection.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin").await.unwrap();
        }
    })
    .await;
    let server = "[server]\nreload = \"signal\"\nworkers = 1\nconnections_max = 1\n";
    let edge = Edge::start(format!("{server}{more}{}{ROUTE}", upstream(&[origin.address()], ""))).await;
    let mut first = edge.raw().await;
    first.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    origin.has(1).await;
    let mut second = edge.raw().await;
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    (edge, origin, first, second)
}

#[tokio::test]
async fn who_waits_at_the_cap_is_served_when_the_edge_stops() {
    let (edge, _origin, _first, mut second) = full("").await;
    edge.signal(Signal::TERM);
    let answer = within("an answer past the cap", second.response("GET")).await.unwrap();
    assert_eq!(answer.text(), "in");
}

#[tokio::test]
async fn who_waits_at_the_cap_is_served_when_the_listener_is_removed() {
    let (edge, origin, _first, mut second) = full("").await;
    let server = "[server]\nreload = \"signal\"\nworkers = 1\nconnections_max = 1\n";
    let others = Edge::standard(format!("{server}{}{ROUTE}", upstream(&[origin.address()], "")));
    edge.write_config(&others.replacen("[[listen]]\naddress = \"127.0.0.1:0\"\n", "", 1));
    assert_eq!(reload(&edge).await.0, 200);
    let answer = within("an answer past the cap", second.response("GET")).await.unwrap();
    assert_eq!(answer.text(), "in");
}

#[tokio::test]
async fn the_end_of_descriptors_turns_clients_away_and_passes() {
    let edge = Edge::start("[server]\nworkers = 1\n[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    let mut settled = edge.raw().await;
    settled.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within("an answer", settled.response("GET")).await.unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", edge.pid().as_raw_nonzero())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + 8), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(edge.pid()), Resource::Nofile, few).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(edge.raw().await);
    }
    until("the end of descriptors", async || edge.stderr().contains("cannot accept").then_some(())).await;
    // Who is open goes on, and who does not fit is told.
    settled.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(within("an answer", settled.response("GET")).await.unwrap().text(), "in");
    let turned_away = crowd.iter_mut().map(|client| Box::pin(client.rest()));
    within("a client to be turned away", select_all(turned_away)).await;
    drop(crowd);
    until("a connection that is served", async || {
        let mut client = edge.raw().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.ok()?;
        (client.response("GET").await.ok()?.text() == "in").then_some(())
    })
    .await;
}
