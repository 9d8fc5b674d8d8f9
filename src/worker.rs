//! One worker: a thread with a runtime of its own that accepts, serves and keeps its upstream connections.
//!
//! Nothing of a request crosses to another thread but its line in the log, and nothing may hold a worker longer than a
//! millisecond: what would, runs elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};

use crate::cache::Cache;
use crate::client_ip;
use crate::clock::{self, HttpDate};
use crate::connection::{self, HeadBudget, Share, Terms};
use crate::listener::{self, Cap, Place, Socket};
use crate::overload::recovery::Side;
use crate::overload::{OfAddress, Overload};
use crate::record;
use crate::snapshot::{Live, Snapshot, View};
use crate::stub_status::Totals;
use crate::telemetry::{AccessWriter, Metrics};
use crate::ticks::Ticks;
use crate::timers::{self, Sweep};
use crate::upstream::Connections;

/// One address has at most this part of all connections, unless the config says how many.
const SHARE_OF_ONE_ADDRESS: usize = 4;
/// Without a request, a connection stays so long while there are nearly as many as there may be.
const IDLE_WHEN_CROWDED: Duration = Duration::from_secs(1);

/// What the control thread asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on this socket; `configured` is the address as the config names it.
    Listen { configured: SocketAddr, socket: Socket },
    /// Accept what waits on the sockets of this address, and close them.
    Unlisten { configured: SocketAddr },
    /// Close idle connections, finish open requests, then end.
    Drain,
    /// End now.
    Stop,
}

/// What every worker shares.
#[derive(Clone)]
pub struct Shared {
    pub live: Arc<Live>,
    pub cap: Arc<Cap>,
    pub overload: Arc<Overload>,
    pub metrics: Arc<Metrics>,
    pub cache: Arc<Cache>,
    /// For heads of open streams of HTTP/2.
    pub heads: Arc<HeadBudget>,
    /// The counts of every worker, in the order of their numbers.
    pub counts: Arc<[Arc<Counts>]>,
}

impl Shared {
    /// What all workers have counted.
    pub fn totals(&self) -> Totals {
        self.counts.iter().map(|counts| counts.read()).sum()
    }

    /// Requests whose responses have not ended.
    pub fn requests_in_flight(&self) -> u64 {
        // What has ended is read first: it had begun before.
        let ended: u64 = self.counts.iter().map(|counts| counts.ended.load(Ordering::Relaxed)).sum();
        self.totals().requests.saturating_sub(ended)
    }
}

impl Counts {
    fn read(&self) -> Totals {
        Totals {
            accepted: self.accepted.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
        }
    }
}

/// Counts of one worker; its own cache lines, so that counting is not shared work.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    pub accepted: AtomicU64,
    pub requests: AtomicU64,
    /// Of these requests.
    pub ended: AtomicU64,
    pub connections: AtomicUsize,
    /// Connections that have a request in progress.
    pub busy: AtomicUsize,
    /// The worker ends, and cuts what is still open.
    pub is_stopped: AtomicBool,
}

pub struct Worker {
    pub shared: Shared,
    pub counts: Arc<Counts>,
    pub sweep: Rc<Sweep>,
    pub connections: Rc<Connections>,
    pub heads: Rc<Share>,
    /// For the head of each response.
    pub date: HttpDate,
    draining: watch::Sender<bool>,
    is_draining: Cell<bool>,
    live: RefCell<arc_swap::Cache<Arc<Live>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    listening: RefCell<HashMap<SocketAddr, Vec<watch::Sender<bool>>>>,
}

/// A started worker, as the control thread sees it.
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// Starts the worker thread of that number; there are counts for it.
pub fn start(index: usize, shared: Shared, access: AccessWriter) -> io::Result<Handle> {
    let (commands, received) = mpsc::unbounded_channel();
    let (counts, builder) = (Arc::clone(&shared.counts[index]), std::thread::Builder::new());
    let (told, started) = std::sync::mpsc::sync_channel(1);
    let thread = builder.name(format!("worker-{index}")).spawn(move || {
        let (runtime, ticks) = match runtime() {
            Ok(made) => made,
            Err(error) => return drop(told.send(Err(error))),
        };
        record::open_desk(access, Arc::clone(&shared.metrics));
        let worker = Worker::new(shared, counts);
        // Nobody waits who has ended.
        let _gone = told.send(Ok(()));
        runtime.block_on(worker.run(received, ticks));
        // With it go the connections, whose requests are on record then. What is coded aside is not waited for.
        runtime.shutdown_background();
        record::close_desk();
    })?;
    started.recv().map_err(io::Error::other)??;
    Ok(Handle { commands, thread })
}

/// Belongs to the thread that calls it. Its tasks are the runtime's own: a set of local ones would be a second queue
/// beside it, which each event passes through.
fn runtime() -> io::Result<(LocalRuntime, Ticks)> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build_local(LocalOptions::default())?;
    let ticks = {
        let _entered = runtime.enter();
        Ticks::every(timers::TICK)?
    };
    Ok((runtime, ticks))
}

impl Handle {
    /// A worker that has ended needs no orders.
    pub fn order(&self, command: Command) {
        let _ended = self.commands.send(command);
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Worker {
    fn new(shared: Shared, counts: Arc<Counts>) -> Rc<Self> {
        let sweep = Sweep::new();
        let connections = Connections::new(Rc::clone(&sweep));
        let mut live = arc_swap::Cache::new(Arc::clone(&shared.live));
        let view = RefCell::new(View::new(live.load()));
        let (live, (draining, _)) = (RefCell::new(live), watch::channel(false));
        Rc::new(Self {
            heads: Share::of(Arc::clone(&shared.heads)),
            shared,
            counts,
            sweep,
            connections,
            date: HttpDate::new(),
            draining,
            is_draining: Cell::new(false),
            live,
            view,
            listening: RefCell::default(),
        })
    }

    /// The config generation that a request which starts now is served by.
    pub fn view(&self) -> Rc<View> {
        let (mut live, mut view) = (self.live.borrow_mut(), self.view.borrow_mut());
        let snapshot = live.load();
        if !view.is_of(snapshot) {
            *view = View::new(snapshot);
        }
        Rc::clone(&view)
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Turns true once, when connections are to finish.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Ready when the worker has been draining for so long.
    pub async fn draining_for(&self, grace: Duration) {
        let mut draining = self.draining();
        let _alive = draining.wait_for(|draining| *draining).await;
        let rest = self.sweep.deadline();
        rest.arm(grace);
        rest.expired().await;
    }

    /// Its parts are tasks of their own: each is woken for itself, while this is polled whenever any task is.
    async fn run(self: Rc<Self>, commands: mpsc::UnboundedReceiver<Command>, ticks: Ticks) {
        let (worker, connections) = (Rc::clone(&self), Rc::clone(&self.connections));
        let upkeep = tokio::task::spawn_local(async move {
            if let Err(error) = worker.sweep.run(async || ticks.next().await, || worker.tick()).await {
                tracing::error!("a worker ends, for its timer has: {error}");
            }
        });
        // A timer of the runtime, and with a reason: where there is no earlier one, each that a hand-shake sets would wake the worker.
        let reaping = tokio::task::spawn_local(async move { connections.reap().await });
        let orders = tokio::task::spawn_local(Rc::clone(&self).obey(commands));
        let drained = tokio::task::spawn_local(self.drained());
        // Without one of them it is no worker.
        tokio::select! {
            _ = upkeep => {}
            _ = reaping => {}
            _ = orders => {}
            _ = drained => {}
        }
    }

    /// Ends with the order to stop, or when nobody is left to give any.
    async fn obey(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen { configured, socket } => self.listen(configured, socket),
                Command::Unlisten { configured } => self.unlisten(configured),
                Command::Drain => {
                    self.is_draining.set(true);
                    self.draining.send_replace(true);
                }
                Command::Stop => return self.counts.is_stopped.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Hands the lines of this worker to the log's thread, reads the date anew, and lets go of a generation that is over: without a request
    /// nothing else would.
    fn tick(&self) {
        record::flush_desk();
        self.date.renew();
        self.make_room();
        self.connections.look_ahead();
        drop(self.view());
    }

    /// Where it is crowded, connections that idle are closed; what that came to is added up for all workers.
    fn make_room(&self) {
        let overload = &self.shared.overload;
        let crowded = overload.crowded();
        self.sweep.limit_idle(crowded.clients.then_some(IDLE_WHEN_CROWDED));
        self.connections.limit_idle(crowded);
        overload.done.count_closed(Side::Client, self.sweep.take_cut_short());
        overload.done.count_closed(Side::Endpoint, self.connections.take_closed_early());
    }

    /// Ends once the worker was told to drain and its last connection and socket are closed.
    async fn drained(self: Rc<Self>) {
        let mut draining = self.draining();
        let _alive = draining.wait_for(|draining| *draining).await;
        let mut ticks = tokio::time::interval(timers::TICK);
        loop {
            ticks.tick().await;
            self.listening.borrow_mut().retain(|_, stops| {
                stops.retain(|stop| !stop.is_closed());
                !stops.is_empty()
            });
            if self.counts.connections.load(Ordering::Relaxed) == 0 && self.listening.borrow().is_empty() {
                return;
            }
        }
    }

    fn listen(self: &Rc<Self>, configured: SocketAddr, socket: Socket) {
        let (stop, mut stopped) = watch::channel(false);
        let (socket, own) = match socket {
            Socket::Own { listener, open } => (listener, Some(open)),
            Socket::HandedOver(listener) => (listener, None),
        };
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("cannot listen on {configured}: {error}"),
        };
        self.listening.borrow_mut().entry(configured).or_default().push(stop);
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut terms = None;
            let mut accepted = |stream, peer, place| {
                // A listener that is being removed serves what still waits as it did before.
                terms = Terms::of(&worker.view(), configured).or(terms.take());
                if let Some(terms) = terms.clone() {
                    worker.serve(terms, stream, peer, place);
                }
            };
            let stopped = async { drop(stopped.wait_for(|stopped| *stopped).await) };
            listener::accept(&listener, &worker.shared.cap, stopped, &mut accepted).await;
            // What waits in the queue of a socket that was handed over waits for the next process.
            if let Some(open) = own {
                listener::close(listener, &worker.shared.cap, &mut accepted).await;
                drop(open);
            }
        });
    }

    /// The connection's place among those of its address; None if they are too many. Trusted peers stand for others.
    fn of_address(&self, peer: IpAddr) -> Option<Option<OfAddress>> {
        let client = &self.view().config.client;
        if client_ip::is_trusted(&client.trusted, peer) {
            return Some(None);
        }
        let max = match client.connections_max {
            0 => self.shared.cap.max() / SHARE_OF_ONE_ADDRESS,
            max => max,
        };
        self.shared.overload.connections_of.enter(peer, max.max(1)).map(Some)
    }

    fn unlisten(&self, configured: SocketAddr) {
        if let Some(stops) = self.listening.borrow().get(&configured) {
            for stop in stops {
                stop.send_replace(true);
            }
        }
    }

    fn serve(self: &Rc<Self>, terms: Terms, stream: TcpStream, peer: SocketAddr, place: Place) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let Some(of_address) = self.of_address(peer.ip()) else {
            if self.shared.overload.refuse_connection(clock::now().into_std()) {
                tracing::warn!(%peer, "connections are closed: their address has as many as [client] connections_max allows");
            }
            return;
        };
        let open = Open::new(&self.counts, (place, of_address));
        let worker = Rc::clone(self);
        // In a box, since a task is moved several times as it is made and when it ends.
        tokio::task::spawn_local(Box::pin(async move {
            connection::serve(worker, terms, stream, peer).await;
            drop(open);
        }));
    }
}

/// Counts one connection for as long as it is open.
struct Open {
    counts: Arc<Counts>,
    _places: (Place, Option<OfAddress>),
}

impl Open {
    fn new(counts: &Arc<Counts>, places: (Place, Option<OfAddress>)) -> Self {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Self { counts: Arc::clone(counts), _places: places }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
