//! One upstream and one attempt at it: a request is sent on a pooled connection and its response's head
//! awaited. What rides in the response's body gives the connection and the in-flight count back.
//!
//! An attempt never chooses an endpoint and never decides whether to try again; by which rules others do that is in
//! [`retry`], and how often in [`budget`].

mod attempt;
pub mod budget;
mod connect;
pub mod fuzzed;
mod h1;
mod h2_body;
mod h2_connection;
mod h2_frames;
mod pool;
mod probing;
pub mod retry;

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::request::Parts;
use http::{Response, StatusCode};

use self::attempt::Attempt;
use self::budget::Budget;
use self::h1::Upgraded;
pub use self::h1::{AsLines, Lines};
pub use self::h2_connection::Carrier;
pub use self::pool::Connections;
pub use self::probing::Probing;
use crate::balance::{Endpoint, InFlight, Pool};
use crate::body::{Body, BodyError, Payload};
use crate::config::{self, Timeouts, UpstreamProtocol};
use crate::frames::Cut;
use crate::header::framing::FramingError;
use crate::header::hop_fields::HopFields;
use crate::interim::{INTERIM_MAX, Relay};
use crate::lock::lock;
use crate::telemetry::UpstreamMetrics;
use crate::telemetry::traces::SpanFields;
use crate::tls::{ConnectError, UpstreamTls};

/// More than a page of head is no answer to a proxied request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An upstream as a snapshot serves it.
pub struct Upstream {
    pub pool: Arc<Pool>,
    pub tls: Option<UpstreamTls>,
    pub metrics: UpstreamMetrics,
    /// Of its retries. It outlives reloads.
    pub budget: Arc<Budget>,
    /// It outlives them too.
    pub current: Arc<Current>,
}

/// The generation of an upstream that serves now, for what may outlive many: a connection.
#[derive(Default)]
pub struct Current(Mutex<Weak<Upstream>>);

impl Current {
    pub fn set(&self, upstream: &Arc<Upstream>) {
        *lock(&self.0) = Arc::downgrade(upstream);
    }

    /// None if there is no such upstream any more.
    pub fn get(&self) -> Option<Arc<Upstream>> {
        lock(&self.0).upgrade()
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an attempt brought no response.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("TLS: {0}")]
    Tls(#[source] ConnectError),
    #[error("not understood: {0}")]
    Protocol(#[source] Cause),
    #[error("the response head is larger than {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    #[error("closed before a response: {0}")]
    Closed(#[source] Cause),
    #[error("no response within {0:?}")]
    ReadTimeout(Duration),
    #[error("the endpoint takes no data")]
    SendTimeout,
    #[error("more than {INTERIM_MAX} interim responses")]
    InterimLimit,
    #[error("101 was not asked for, or came before the end of the request")]
    UnaskedUpgrade,
    #[error("too much of HTTP/2 that says nothing: {0}")]
    Flood(#[source] Cut),
    #[error("the response's framing is ambiguous: {0}")]
    Framing(#[source] FramingError),
    /// The fault is the client's, not the endpoint's.
    #[error("the request body failed: {0}")]
    RequestBody(#[source] BodyError),
}

/// A failed attempt.
pub struct Failed {
    pub error: UpstreamError,
    pub request: Fate,
    /// The in-flight count, if the connection was a kept one that the endpoint had closed or was closing: this
    /// says nothing of the endpoint, and a new connection may do.
    pub stale: Option<InFlight>,
}

/// What has become of the request of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No byte of it was sent.
    Unsent,
    /// The endpoint says that it did nothing with it (RFC 9113 §8.7).
    Unprocessed,
    /// It may have been acted upon.
    Unknown,
}

impl Failed {
    fn unsent(error: UpstreamError) -> Self {
        Self { error, request: Fate::Unsent, stale: None }
    }
}

/// In boxes, since it goes through many hands.
pub enum Reply {
    /// Its fields are in the map, or lines.
    Response(Box<Response<Body>>, Option<Lines>),
    /// 101: both sides now speak another protocol.
    Tunnel(Box<Response<Tunnel>>),
}

impl Reply {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Response(response, _) => response.status(),
            Self::Tunnel(response) => response.status(),
        }
    }
}

/// The upstream's half of a tunnel.
pub struct Tunnel {
    pub stream: Upgraded,
    pub in_flight: InFlight,
    pub idle_timeout: Duration,
}

/// What an attempt may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    pub timeouts: &'a Timeouts,
    /// Bytes of the response that are read ahead of a slow client.
    pub buffered_max: usize,
    /// Bytes of a response that may be read together with its head, over HTTP/1.1.
    pub early_max: usize,
    /// Whether nobody looks at the fields of the response; None if they are to be in a map.
    pub as_lines: Option<AsLines<'a>>,
}

/// The head of a request, with what goes beside the fields of its map.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub parts: &'a Parts,
    /// What this hop says of the request, over HTTP/1.1; None if the map has it.
    pub beside: Option<&'a HopFields>,
    /// What names the trace; None if requests are not traced.
    pub names: Option<SpanFields>,
}

/// A request on its way to the endpoint that `in_flight` counts on.
pub struct Dispatch<'a> {
    pub in_flight: InFlight,
    /// The one that it counts on.
    pub endpoint: &'a Endpoint,
    pub head: Head<'a>,
    pub payload: &'a mut Payload,
    pub over: Over,
    /// Where interim responses go; None if nobody wants them.
    pub relay: Option<Relay<'a>>,
    pub progress: &'a Progress,
}

/// How far an attempt has got, for who ends it.
#[derive(Default)]
pub struct Progress {
    /// Set before the first byte of the request may be sent.
    pub has_begun: Cell<bool>,
    /// Set likewise over HTTP/2.
    pub carrier: RefCell<Option<Carrier>>,
}

/// Which connection an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// One that was kept open, if there is one.
    Kept,
    New,
}

impl Upstream {
    pub fn config(&self) -> &config::Upstream {
        self.pool.upstream()
    }

    /// Sends a request and waits for the response's head.
    pub async fn send(
        self: &Arc<Self>,
        dispatch: Dispatch<'_>,
        connections: &Connections,
        limits: Limits<'_>,
    ) -> Result<Reply, Failed> {
        let endpoint = dispatch.endpoint;
        let to = connections.of_endpoint(endpoint, self.config().keepalive);
        let attempt = Attempt { upstream: self, endpoint, connections, to: &to, limits };
        match self.config().protocol {
            UpstreamProtocol::H1 => attempt.over_h1(dispatch).await,
            // Boxed for the sake of the other, which is smaller by far.
            UpstreamProtocol::H2 => Box::pin(attempt.over_h2(dispatch)).await,
        }
    }
}
