//! Origins that remember: each request is read by the strict rules of [`wire`](super::wire), kept, and
//! answered by what the test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::until;
use super::wire::{Bad, Request, Wire};

/// An origin on a free port. It ends with the test, which fails if the edge sent anything but HTTP/1.1.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
    _held: TcpSocket,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    violations: Mutex<Vec<String>>,
    bytes: Arc<AtomicUsize>,
    connections: AtomicUsize,
    cut: AtomicUsize,
}

/// One connection of the edge.
pub struct Connection {
    pub wire: Wire<TcpStream>,
    seen: Arc<Seen>,
}

/// An answer with `Content-Length`.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    fields: String,
    body: Bytes,
    close: bool,
}

pub fn ok(body: impl Into<Bytes>) -> Reply {
    Reply { status: 200, fields: String::new(), body: body.into(), close: false }
}

impl Reply {
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Closes the connection after this answer.
    pub fn close(self) -> Self {
        Self { close: true, ..self.field("connection", "close") }
    }

    fn head(&self) -> String {
        let Self { status, fields, body, .. } = self;
        format!("HTTP/1.1 {status} Said\r\n{fields}content-length: {}\r\n\r\n", body.len())
    }
}

impl Origin {
    /// Answers every request alike.
    pub async fn replies(reply: Reply) -> Self {
        Self::answers(move |_| std::future::ready(reply.clone())).await
    }

    /// Answers each request by what `answer` makes of it.
    pub async fn answers<F>(answer: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send,
    {
        let answer = Arc::new(answer);
        Self::serves(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = connection.request().await {
                    let head = request.method == "HEAD";
                    if !connection.reply(&answer(request).await, head).await {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers once it is allowed to, with `held`.
    pub async fn held(allowed: &Arc<Semaphore>) -> Self {
        Self::answers_once(allowed, |_| ok("held")).await
    }

    /// Answers each request once it is allowed to, by what `answer` then makes of it.
    pub async fn answers_once(
        allowed: &Arc<Semaphore>,
        answer: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::holds(allowed, |_| true, answer).await
    }

    /// The same for those that it `holds`. It answers the others at once.
    pub async fn holds(
        allowed: &Arc<Semaphore>,
        holds: fn(&Request) -> bool,
        answer: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (allowed, answer) = (Arc::clone(allowed), Arc::new(answer));
        Self::answers(move |request| {
            let (allowed, answer) = (Arc::clone(&allowed), Arc::clone(&answer));
            async move {
                if holds(&request) {
                    allowed.acquire().await.unwrap().forget();
                }
                answer(request)
            }
        })
        .await
    }

    /// Leaves each connection to `serve`; it is closed when that ends.
    pub async fn serves<F>(serve: impl Fn(Connection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::serves_at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    pub async fn serves_at<F>(address: SocketAddr, serve: impl Fn(Connection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (held, address) = hold(address);
        let listener = TcpListener::bind(address).await.unwrap();
        let seen = Arc::<Seen>::default();
        let state = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let wire = Wire::counted(stream, Arc::clone(&state.bytes));
                open.spawn(serve(Connection { wire, seen: Arc::clone(&state) }));
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, seen, serving, _held: held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have come over all connections.
    pub fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    /// Connections that the edge has opened.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Requests that ended before they were whole.
    pub fn cut(&self) -> usize {
        self.seen.cut.load(Ordering::Relaxed)
    }

    /// How many whole requests have come.
    pub fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// The targets of the whole requests that have come, in their order.
    pub fn targets(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().iter().map(|request| request.target.clone()).collect()
    }

    /// The whole requests that have come, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits for so many requests in all.
    #[track_caller]
    pub fn has(&self, count: usize) -> impl Future<Output = ()> {
        until("requests at the origin", async move || (self.count() >= count).then_some(()))
    }

    /// The one request since the last call.
    #[track_caller]
    pub fn take(&self) -> Request {
        let mut requests = std::mem::take(&mut *self.seen.requests.lock().unwrap());
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// Closes the socket and every connection, as a killed process does. Who connects is refused from then on.
    pub async fn kill(&mut self) {
        self.serving.abort();
        // Nobody listens once the task is gone.
        assert!((&mut self.serving).await.is_err());
    }
}

/// Holds an address: Linux gives its port to nobody who does not name it (`ip_autobind_reuse` is 0), so that no test meets the origin of
/// another where one has ended.
fn hold(address: SocketAddr) -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An address where nobody listens for as long as the tests run.
pub fn deserted() -> SocketAddr {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let (socket, address) = hold("127.0.0.1:0".parse().unwrap());
    HELD.lock().unwrap().push(socket);
    address
}

/// `[upstream.app]` with these endpoints and the given keys.
pub fn upstream(endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(SocketAddr::to_string).collect();
    format!("[upstream.app]\nendpoints = {endpoints:?}\n{keys}\n")
}

/// The route of every path to `[upstream.app]`. More keys of the route may follow.
pub const ROUTE: &str = "[[route]]\npath = \"/\"\nupstream = \"app\"\n";

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
        let violations = self.seen.violations.lock().unwrap();
        assert!(std::thread::panicking() || violations.is_empty(), "the edge sent {violations:?}");
    }
}

impl Connection {
    /// The next whole request, noted; none when the edge closes.
    pub async fn request(&mut self) -> Option<Request> {
        let request = self.wire.request().await;
        let request = self.understood(request)?;
        self.note(&request);
        Some(request)
    }

    /// The next head, noted; the body is left to the caller.
    pub async fn request_head(&mut self) -> Option<Request> {
        let head = self.wire.request_head().await;
        let head = self.understood(head)?;
        self.note(&head);
        Some(head)
    }

    fn note(&self, request: &Request) {
        self.seen.requests.lock().unwrap().push(request.clone());
    }

    fn understood(&self, request: Result<Option<Request>, Bad>) -> Option<Request> {
        match request {
            Ok(request) => return request,
            Err(Bad::Cut) => _ = self.seen.cut.fetch_add(1, Ordering::Relaxed),
            Err(Bad::Syntax(what)) => self.seen.violations.lock().unwrap().push(what),
        }
        None
    }

    /// Sends these bytes and takes so many, at the same time.
    pub async fn both(self, bytes: Vec<u8>, taken: usize) {
        let (mut reading, mut writing) = self.wire.split();
        let (_sent, _taken) = tokio::join!(writing.send(bytes), reading.discard(taken));
        // Whoever is slower still has the connection.
        reading.rest().await;
    }

    /// Writes an answer; false if the connection is at its end.
    pub async fn reply(&mut self, reply: &Reply, head_only: bool) -> bool {
        let mut bytes = reply.head().into_bytes();
        if !head_only {
            bytes.extend_from_slice(&reply.body);
        }
        self.wire.send(bytes).await.is_ok() && !reply.close
    }
}
