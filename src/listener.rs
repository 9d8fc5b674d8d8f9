//! The listen sockets: bound once an address, one socket a worker, and closed without losing a connection.
//!
//! Every worker has its own socket (SO_REUSEPORT), so the kernel spreads connections and no lock is shared.
//! That option would also let a second instance of the proxy bind beside the first; so an address is probed
//! without it before its first bind.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted, per socket; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;
/// After an error that accepting again at once would only repeat.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Hand-shakes that had begun when a socket was closed to new ones have this long to end.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// Binds one socket a worker to `address`; port 0 becomes the same free port for all.
pub fn bind(address: SocketAddr, workers: usize) -> Result<Vec<StdListener>, BindError> {
    let bind_all = || {
        let mut address = address;
        if address.port() != 0 {
            drop(open(address, false)?);
        }
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = open(address, true)?;
            address = socket.local_addr()?;
            sockets.push(socket);
        }
        Ok(sockets)
    };
    bind_all().map_err(|source| BindError { address, source })
}

/// One socket a worker for a socket that was handed over, all sharing its queue.
pub fn duplicate(socket: &StdListener, workers: usize) -> io::Result<Vec<StdListener>> {
    socket.set_nonblocking(true)?;
    (0..workers).map(|_| socket.try_clone()).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners, on every system.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // Without this call the probe would not notice a listener of the same user that shares its port.
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many downstream connections may be open over all workers.
#[derive(Debug)]
pub struct Cap {
    open: AtomicUsize,
    max: AtomicUsize,
    freed: tokio::sync::Notify,
}

/// The place of one connection under the cap.
#[derive(Debug)]
pub struct Place(Arc<Cap>);

impl Cap {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max: AtomicUsize::new(max), freed: tokio::sync::Notify::new() })
    }

    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until there is room; meanwhile new connections wait in the kernel's queue.
    async fn place(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < self.max.load(Ordering::Relaxed)).then_some(open + 1)
            });
            if taken.is_ok() {
                return Place(Arc::clone(self));
            }
            freed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// Accepts for as long as it is polled, and survives the end of descriptors. At the cap one connection waits
/// here and the others in the kernel's queue.
pub async fn accept(listener: &TcpListener, cap: &Arc<Cap>, accepted: &mut impl FnMut(TcpStream, SocketAddr, Place)) {
    let reserve = Reserve::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => accepted(stream, peer, cap.place().await),
            Err(error) if is_exhausted(&error) => {
                tracing::error!("cannot accept: {error}; pausing {BACK_OFF:?}");
                reserve.turn_away_one(listener).await;
                tokio::time::sleep(BACK_OFF).await;
            }
            // The client was gone before it was accepted.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!("cannot accept: {error}; pausing {BACK_OFF:?}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Accepts what still waits, takes no new ones, and closes the socket.
///
/// Closing a socket resets every connection in its queue, accepted by the kernel and unknown to us. So new
/// hand-shakes are turned away first: their SYN is dropped, the client tries again and meets another socket
/// or a refusal.
pub async fn close(listener: TcpListener, cap: &Arc<Cap>, accepted: &mut impl FnMut(TcpStream, SocketAddr, Place)) {
    if let Err(error) = SockRef::from(&listener).attach_filter(&DROP_SYN) {
        tracing::debug!("cannot filter new connections: {error}");
    }
    let rest = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => accepted(stream, peer, cap.place().await),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let _elapsed = tokio::time::timeout(HANDSHAKE_GRACE, rest).await;
}

/// Classic BPF on a TCP socket sees the packet from its TCP header on: byte 13 holds the flags. Drops what
/// has SYN without ACK and lets the rest pass.
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),   // ldb [13]
    SockFilter::new(0x54, 0, 0, 0x12), // and #SYN|ACK
    SockFilter::new(0x15, 0, 1, 0x02), // jeq #SYN, else skip one
    SockFilter::new(0x06, 0, 0, 0),    // ret #0
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// A descriptor kept back: when there are no more, it is spent on accepting one connection and closing it,
/// so that a client is told at once instead of waiting in the queue.
#[derive(Debug)]
struct Reserve(Mutex<Option<OwnedFd>>);

impl Default for Reserve {
    fn default() -> Self {
        Self(Mutex::new(open_reserve()))
    }
}

impl Reserve {
    async fn turn_away_one(&self, listener: &TcpListener) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _elapsed = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open_reserve();
    }
}

fn open_reserve() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let sockets = bind(loopback(), 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_second_instance_is_refused() {
        let sockets = bind(loopback(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let error = bind(address, 2).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn connections_past_the_cap_wait_for_a_place() {
        let cap = Cap::new(1);
        let first = cap.place().await;
        let mut second = Box::pin(cap.place());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let _second = second.await;
        assert_eq!(cap.open(), 1);
    }

    #[tokio::test]
    async fn closing_accepts_what_waits_in_the_queue() {
        let socket = bind(loopback(), 1).unwrap().remove(0);
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::from_std(socket).unwrap();
        let clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut streams = Vec::new();
        close(listener, &Cap::new(100), &mut |stream, _, place| streams.push((stream, place))).await;
        assert_eq!(streams.len(), clients.len());
    }
}
