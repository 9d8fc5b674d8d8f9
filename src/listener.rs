//! One listen socket: bound, accepted on under the cap, and closed without losing a connection.
//!
//! Every worker has its own socket (SO_REUSEPORT), so the kernel spreads connections and no lock is shared.
//! That option would also let a second instance of the proxy bind beside the first; so an address is probed
//! without it before its first bind. Which addresses have sockets is known elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::lock::lock;
use crate::overload::crowd::Use;

/// Connections that wait to be accepted, per socket; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;
/// What the kernel takes for a client before it is sent, and so counts as sent here; without a limit it is four times as
/// much. Less would cost a cached response of this size a second write and a wait. Connections have it of their socket.
const UNSENT_BYTES_MAX: u32 = 1024 * 1024;
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

/// What one worker accepts on.
#[derive(Debug)]
pub enum Socket {
    /// Bound here. Whoever waits for its end watches the other side of `open`, which is dropped after it.
    Own { listener: StdListener, open: watch::Receiver<()> },
    /// A duplicate of one that the service manager keeps open: its queue outlives us, and is not ours to alter.
    HandedOver(StdListener),
}

impl Socket {
    pub fn address(&self) -> Option<SocketAddr> {
        let (Self::Own { listener, .. } | Self::HandedOver(listener)) = self;
        listener.local_addr().ok()
    }
}

/// Fails if somebody listens on `address`, also if he would share it. Port 0 is always free.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 { Ok(()) } else { open(address, false).map(drop) }
}

/// Binds one socket a worker to `address`; port 0 becomes the same free port for all.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<StdListener>> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = open(address, true)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// One socket a worker for a socket that was handed over, all sharing its queue.
pub fn duplicate(socket: &StdListener, workers: usize) -> io::Result<Vec<StdListener>> {
    socket.set_nonblocking(true)?;
    SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    (0..workers).map(|_| socket.try_clone()).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
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

    pub fn in_use(&self) -> Use {
        Use { used: self.open.load(Ordering::Relaxed), max: self.max() }
    }

    /// Waits until there is room; meanwhile new connections wait in the kernel's queue.
    async fn place(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.place_now() {
                return place;
            }
            // Whoever frees a place from here on wakes this one, and not another worker twice.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.place_now() {
                return place;
            }
            freed.await;
        }
    }

    fn place_now(self: &Arc<Self>) -> Option<Place> {
        let max = self.max.load(Ordering::Relaxed);
        let taken =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// For a connection that cannot wait: its socket is about to be closed.
    fn place_past_the_cap(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// Accepts until it is told to stop, and survives the end of descriptors. At the cap one connection of each
/// socket waits here and the others in the kernel's queue. None that was accepted is lost at the stop.
pub async fn accept(
    listener: &TcpListener,
    cap: &Arc<Cap>,
    stop: impl Future<Output = ()>,
    accepted: &mut impl FnMut(TcpStream, SocketAddr, Place),
) {
    let reserve = Reserve::default();
    let mut stop = pin!(stop);
    loop {
        let pause = tokio::select! {
            biased;
            () = &mut stop => return,
            result = listener.accept() => match result {
                Ok((stream, peer)) => {
                    let place = tokio::select! {
                        biased;
                        place = cap.place() => place,
                        () = &mut stop => return accepted(stream, peer, cap.place_past_the_cap()),
                    };
                    accepted(stream, peer, place);
                    continue;
                }
                // The client was gone before it was accepted.
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => after(error, &reserve, listener),
            }
        };
        tokio::select! {
            () = &mut stop => return,
            () = pause => {}
        }
    }
}

/// Waits until it makes sense to accept again.
async fn after(error: io::Error, reserve: &Reserve, listener: &TcpListener) {
    tracing::error!("cannot accept: {error}; pausing {BACK_OFF:?}");
    if is_exhausted(&error) {
        reserve.turn_away_one(listener).await;
    }
    tokio::time::sleep(BACK_OFF).await;
}

/// Accepts what still waits, also past the cap, takes no new ones, and closes the socket.
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
                Ok((stream, peer)) => accepted(stream, peer, cap.place_past_the_cap()),
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
        drop(lock(&self.0).take());
        let _elapsed = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        *lock(&self.0) = open_reserve();
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
    fn connections_take_no_more_than_is_soon_sent() {
        let own = bind(loopback(), 1).unwrap().remove(0);
        let handed_over = StdListener::bind(loopback()).unwrap();
        for socket in [own, duplicate(&handed_over, 1).unwrap().remove(0)] {
            let _client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
            socket.set_nonblocking(false).unwrap();
            let (connection, _) = socket.accept().unwrap();
            assert_eq!(SockRef::from(&connection).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        }
    }

    #[test]
    fn a_second_instance_is_refused() {
        let sockets = bind(loopback(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        probe(address).unwrap();
    }

    #[tokio::test]
    async fn connections_past_the_cap_wait_for_a_place() {
        let cap = Cap::new(1);
        let first = cap.place().await;
        let mut second = Box::pin(cap.place());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let _second = second.await;
        assert!(cap.place_now().is_none());
    }

    #[tokio::test]
    async fn every_place_that_is_freed_wakes_someone() {
        let cap = Cap::new(2);
        let held = (cap.place().await, cap.place().await);
        let (mut one, mut other) = (Box::pin(cap.place()), Box::pin(cap.place()));
        assert!(futures_util::poll!(&mut one).is_pending() && futures_util::poll!(&mut other).is_pending());
        drop(held);
        assert!(futures_util::poll!(&mut one).is_ready() && futures_util::poll!(&mut other).is_ready());
    }

    #[tokio::test]
    async fn what_waits_for_a_place_is_handed_on_at_the_stop() {
        let listener = TcpListener::from_std(bind(loopback(), 1).unwrap().remove(0)).unwrap();
        let address = listener.local_addr().unwrap();
        let cap = Cap::new(0);
        let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut streams = Vec::new();
        let mut accepted = |stream, _, place| streams.push((stream, place));
        {
            let stopped = async { drop(stopped.await) };
            let mut accepting = pin!(accept(&listener, &cap, stopped, &mut accepted));
            // The socket is readable after a turn of the reactor; then one connection is held.
            for _ in 0..3 {
                assert!(futures_util::poll!(&mut accepting).is_pending());
                tokio::task::yield_now().await;
            }
            stop.send(()).unwrap();
            accepting.await;
        }
        close(listener, &cap, &mut accepted).await;
        assert_eq!(streams.len(), 3);
    }

    #[tokio::test]
    async fn closing_accepts_what_waits_in_the_queue() {
        let socket = bind(loopback(), 1).unwrap().remove(0);
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::from_std(socket).unwrap();
        let clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut streams = Vec::new();
        close(listener, &Cap::new(1), &mut |stream, _, place| streams.push((stream, place))).await;
        assert_eq!(streams.len(), clients.len());
    }
}
