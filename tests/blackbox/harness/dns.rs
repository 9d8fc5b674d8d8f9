//! A name server for one name, whose answer the test changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::until;

const TYPE_A: [u8; 2] = [0, 1];
const TTL_S: u32 = 600;

/// What the server says to a question for IPv4 addresses; it knows of no others.
#[derive(Debug, Clone)]
pub enum Said {
    Addresses(Vec<Ipv4Addr>),
    NoSuchName,
    /// SERVFAIL.
    Failure,
    /// No answer until it says something else; then the questions that wait get that one.
    Nothing,
}

pub struct NameServer {
    address: SocketAddr,
    said: watch::Sender<Said>,
    questions: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl NameServer {
    pub async fn says(said: Said) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, (said, mut said_now)) = (socket.local_addr().unwrap(), watch::channel(said));
        let questions = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&questions);
        let serving = tokio::spawn(async move {
            let mut packet = [0; 512];
            let mut waiting = Vec::new();
            loop {
                tokio::select! {
                    Ok((size, from)) = socket.recv_from(&mut packet) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        waiting.push((packet[..size].to_vec(), from));
                    }
                    Ok(()) = said_now.changed() => {}
                    else => return,
                }
                let said = said_now.borrow_and_update().clone();
                if !matches!(said, Said::Nothing) {
                    for (query, from) in waiting.drain(..) {
                        socket.send_to(&reply(&query, &said), from).await.unwrap();
                    }
                }
            }
        });
        Self { address, said, questions, serving }
    }

    /// Changes the answer.
    pub fn say(&self, said: Said) {
        self.said.send_replace(said);
    }

    /// `[dns]` that asks this server alone, and often.
    pub fn config(&self) -> String {
        format!("[dns]\nttl_max = \"1s\"\nservers = [\"{}\"]\n", self.address)
    }

    /// Waits for so many further questions.
    #[track_caller]
    pub fn asked(&self, more: usize) -> impl Future<Output = ()> {
        let before = self.questions.load(Ordering::Relaxed);
        until("questions at the name server", async move || {
            (self.questions.load(Ordering::Relaxed) >= before + more).then_some(())
        })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// RFC 1035 §4.1: the header, the question as it came, and the answers.
fn reply(query: &[u8], said: &Said) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let (name, question) = (&query[12..=name_end], &query[12..name_end + 5]);
    let kind = [question[name.len()], question[name.len() + 1]];
    let (code, addresses) = match said {
        Said::Addresses(addresses) if kind == TYPE_A => (0, &addresses[..]),
        Said::Addresses(_) => (0, &[][..]),
        Said::NoSuchName => (3, &[][..]),
        Said::Failure | Said::Nothing => (2, &[][..]),
    };
    let mut reply = [&query[..2], &[0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0], question].concat();
    for address in addresses {
        // The name is that of the question, at offset 12; class IN; four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(TTL_S.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    reply
}
