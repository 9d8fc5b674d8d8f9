//! The listen sockets of the process: those that it binds itself, and those that a service manager handed over.
//!
//! It knows which address has which, and when the last socket of an address is closed. A socket of the
//! service manager stays the manager's: it is kept for as long as the process lives, so that any later
//! configuration can have it. Accepting is the workers' business.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::inherited::HandedOver;
use crate::listener::{self, BindError, Socket};
use crate::worker::{Command, Handle};

/// Sockets of an address that was given up are closed within their grace, unless a worker is stuck.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// All of them.
pub struct Sockets {
    handed_over: Vec<HandedOver>,
    /// Addresses of handed-over sockets that nobody accepts on, as the operator was told.
    unused: RefCell<BTreeSet<SocketAddr>>,
    /// Configured addresses and what they were bound to.
    bound: RefCell<BTreeMap<SocketAddr, SocketAddr>>,
    /// By the real address: whoever has one of our sockets there is a receiver.
    own: RefCell<BTreeMap<SocketAddr, Rc<watch::Sender<()>>>>,
}

impl Sockets {
    pub fn new(handed_over: Vec<HandedOver>) -> Self {
        Self { handed_over, unused: RefCell::default(), bound: RefCell::default(), own: RefCell::default() }
    }

    /// What the workers will accept on, one socket each, without accepting yet.
    pub async fn open(&self, configured: SocketAddr, workers: usize) -> Result<Vec<Socket>, BindError> {
        let failed = |source| BindError { address: configured, source };
        if let Some(found) = self.handed_over.iter().find(|found| found.address == configured) {
            let sockets = listener::duplicate(&found.socket, workers).map_err(failed)?;
            return Ok(sockets.into_iter().map(Socket::HandedOver).collect());
        }
        self.closed(configured).await;
        if !self.overlaps_own(configured) {
            listener::probe(configured).map_err(failed)?;
        }
        let sockets = listener::bind(configured, workers).map_err(failed)?;
        let (open, held) = watch::channel(());
        if let Some(bound) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
            self.own.borrow_mut().insert(bound, Rc::new(open));
        }
        Ok(sockets.into_iter().map(|listener| Socket::Own { listener, open: held.clone() }).collect())
    }

    /// Waits for sockets on this address that were given up: until they are closed they take their share of the
    /// new connections, and drop it.
    async fn closed(&self, address: SocketAddr) {
        let is_used = self.bound.borrow().values().any(|bound| *bound == address);
        let open = self.own.borrow().get(&address).filter(|_| !is_used).map(Rc::clone);
        if let Some(open) = open {
            let _stuck = timeout(CLOSE_LIMIT, open.closed()).await;
        }
    }

    /// Whether a socket of ours is open that a probe would stumble over. Nobody else can have the port then.
    fn overlaps_own(&self, address: SocketAddr) -> bool {
        let mut own = self.own.borrow_mut();
        own.retain(|_, open| !open.is_closed());
        own.keys().any(|own| overlap(*own, address))
    }

    /// Lets every worker accept on its socket.
    pub fn hand_out(&self, configured: SocketAddr, sockets: Vec<Socket>, workers: &[Handle]) {
        if let Some(bound) = sockets.first().and_then(Socket::address) {
            self.bound.borrow_mut().insert(configured, bound);
        }
        for (worker, socket) in workers.iter().zip(sockets) {
            worker.order(Command::Listen { configured, socket });
        }
    }

    /// Has the workers accept no more on this address.
    pub fn give_up(&self, configured: SocketAddr, workers: &[Handle]) {
        self.bound.borrow_mut().remove(&configured);
        for worker in workers {
            worker.order(Command::Unlisten { configured });
        }
    }

    /// Configured addresses and what they were bound to.
    pub fn bound(&self) -> BTreeMap<SocketAddr, SocketAddr> {
        self.bound.borrow().clone()
    }

    /// Says once of which handed-over socket there is no listener: its connections wait in vain.
    pub fn warn_of_unused(&self, configured: &BTreeSet<SocketAddr>) {
        let unused = self.handed_over.iter().filter(|found| !configured.contains(&found.address));
        let mut told = self.unused.borrow_mut();
        for HandedOver { name, address, .. } in unused.clone().filter(|found| !told.contains(&found.address)) {
            tracing::warn!(
                "no listener has the address {address} of {name:?}, which the service manager handed over: nobody accepts"
            );
        }
        *told = unused.map(|found| found.address).collect();
    }
}

/// Whether two sockets could not have both addresses: the same port, and the same host or all of them.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Where a configuration wants to be served.
pub fn addresses(config: &Config) -> BTreeSet<SocketAddr> {
    config.listeners.iter().map(|listen| listen.address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap() {
        let check = |one: &str, other: &str, expected: bool| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("[::]:80", "[::1]:80", true);
        check("[::]:80", "127.0.0.1:80", false);
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn an_address_can_be_had_again_as_soon_as_it_is_closed() {
        let sockets = Sockets::new(Vec::new());
        let first = sockets.open(loopback(), 2).await.unwrap();
        let address = first[0].address().unwrap();
        let mut again = Box::pin(sockets.open(address, 2));
        assert!(futures_util::poll!(&mut again).is_pending(), "it is still open");
        drop(first);
        assert_eq!(again.await.unwrap()[0].address(), Some(address));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_stuck_does_not_keep_the_address() {
        let sockets = Sockets::new(Vec::new());
        let first = sockets.open(loopback(), 1).await.unwrap();
        assert!(sockets.open(first[0].address().unwrap(), 1).await.is_ok());
    }

    #[tokio::test]
    async fn a_handed_over_socket_can_be_had_again_and_again() {
        let socket = std::net::TcpListener::bind(loopback()).unwrap();
        let address = socket.local_addr().unwrap();
        let sockets = Sockets::new(vec![HandedOver { name: "web".to_owned(), address, socket }]);
        for _ in 0..2 {
            let opened = sockets.open(address, 2).await.unwrap();
            assert!(opened.iter().all(|socket| matches!(socket, Socket::HandedOver(_))), "{opened:?}");
        }
    }
}
