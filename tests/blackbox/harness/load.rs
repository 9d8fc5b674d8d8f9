//! A few clients that ask all the time, each on one connection kept alive, and never try again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::Wire;
use super::{until, within};

pub struct Load {
    state: Arc<State>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// How the clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connecting {
    /// Once; an end of the connection is a failure.
    Once,
    /// For each request, which is the last by its own word. Being refused ends a client and is no failure.
    EachTime,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize, connecting: Connecting) -> Self {
        let state = Arc::<State>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let state = Arc::clone(&state);
            tasks.spawn(async move {
                let outcome = match connecting {
                    Connecting::Once => keep_asking(address, &state).await,
                    Connecting::EachTime => connect_and_ask(address, &state).await,
                };
                if let Err(failure) = outcome {
                    state.failures.lock().unwrap().push(failure);
                }
            });
        }
        Self { state, clients: tasks }
    }

    /// Waits for so many further answers.
    #[track_caller]
    pub fn answers(&self, more: usize) -> impl Future<Output = ()> {
        let before = self.state.answered.load(Ordering::Relaxed);
        until("answers under load", async move || {
            let failures = self.state.failures.lock().unwrap();
            assert!(failures.is_empty(), "{failures:?}");
            (self.state.answered.load(Ordering::Relaxed) >= before + more).then_some(())
        })
    }

    /// Ends the clients; the test fails if a request or a connection did.
    #[track_caller]
    pub fn succeeded(self) -> impl Future<Output = ()> {
        self.state.stop.store(true, Ordering::Relaxed);
        within("the clients to end", async move {
            self.clients.join_all().await;
            let failures = self.state.failures.lock().unwrap();
            let answered = self.state.answered.load(Ordering::Relaxed);
            assert!(failures.is_empty(), "{failures:?} beside {answered} answers");
            assert!(answered > 0, "there was no load");
        })
    }
}

async fn keep_asking(address: SocketAddr, state: &State) -> Result<(), String> {
    let mut client = Wire::new(TcpStream::connect(address).await.map_err(|error| error.to_string())?);
    while !state.stop.load(Ordering::Relaxed) {
        ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", state).await?;
    }
    Ok(())
}

async fn connect_and_ask(address: SocketAddr, state: &State) -> Result<(), String> {
    while !state.stop.load(Ordering::Relaxed) {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => return Err(format!("connecting: {error}")),
        };
        ask(&mut Wire::new(stream), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", state).await?;
    }
    Ok(())
}

async fn ask(client: &mut Wire<TcpStream>, request: &str, state: &State) -> Result<(), String> {
    client.send(request).await.map_err(|error| format!("sending: {error}"))?;
    let response = client.response("GET").await.map_err(|bad| format!("{bad:?} in place of a response"))?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.text()));
    }
    state.answered.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
