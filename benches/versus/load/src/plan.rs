//! What each request and each connection of a run is made of.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use rustls::ClientConfig;

use crate::arguments::{Load, Protocol};
use crate::codec::{Came, Codec, H1, H2, WebSocket, written};
use crate::request::{Target, Template, payload};
use crate::stream::{self, Received, Stream};

pub struct Connection {
    pub stream: Stream,
    pub codec: Codec,
    pub waits: Vec<Asked>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy)]
pub struct Asked {
    pub stream: u32,
    pub key: u64,
    pub due: Instant,
}

/// What each request and each connection is made of.
pub struct Plan<'load> {
    pub load: &'load Load,
    target: Target,
    head: Template,
    path: Template,
    body: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
}

impl<'load> Plan<'load> {
    pub fn new(load: &'load Load) -> Result<Self> {
        let target = Target::parse(&load.url)?;
        Ok(Self {
            tls: target.tls.then(|| stream::config(load.protocol, load.fresh)).transpose()?,
            head: Template::h1(load, &target),
            path: Template::new(target.path.clone()),
            body: payload(load.payload.unwrap_or_default()),
            target,
            load,
        })
    }

    /// A connection, before the first request on it; what is opened ahead of the run has everything behind it.
    pub fn open(&self, ahead: bool) -> Result<Connection> {
        let mut stream = Stream::connect(self.target.address, self.tls.as_ref())?;
        if ahead {
            stream.shake_hands()?;
        }
        let codec = match self.load.protocol {
            Protocol::H1 => Codec::H1(H1::default()),
            Protocol::H2 => {
                let mut first = Vec::new();
                let h2 = H2::new(self.load.header.as_deref(), &mut first);
                stream.send(&first)?;
                Codec::H2(Box::new(h2))
            }
            Protocol::Websocket => {
                let mut websocket = Codec::WebSocket(WebSocket::new(self.body.clone()));
                self.upgrade(&mut stream, &mut websocket)?;
                websocket
            }
        };
        stream.stop_waiting()?;
        Ok(Connection { stream, codec, waits: Vec::new() })
    }

    fn upgrade(&self, stream: &mut Stream, websocket: &mut Codec) -> Result<()> {
        let mut request = Vec::new();
        self.head.write(0, &mut request);
        stream.send(&request)?;
        until_answered(stream, websocket)
    }

    /// Makes one request on a connection of its own, so that the store of sessions has what the peer gives after it.
    pub fn fetch_ticket(&self) -> Result<()> {
        let mut stream = Stream::connect(self.target.address, self.tls.as_ref())?;
        stream.shake_hands()?;
        let mut request = Vec::new();
        self.head.write(0, &mut request);
        stream.send(&request)?;
        until_answered(&mut stream, &mut Codec::H1(H1::default()))
    }

    pub fn ask(&self, connection: &mut Connection, key: u64, due: Instant) -> Result<()> {
        let mut request = Vec::new();
        let mut stream = 0;
        match &mut connection.codec {
            Codec::H1(_) => {
                self.head.write(key, &mut request);
                request.extend_from_slice(&self.body);
            }
            Codec::H2(h2) => {
                let mut path = Vec::new();
                self.path.write(key, &mut path);
                stream = h2.ask(&self.target.address.to_string(), &path, &mut request);
            }
            Codec::WebSocket(_) => request = written(&self.body, true),
        }
        connection.waits.push(Asked { stream, key, due });
        connection.stream.send(&request)
    }
}

/// Waits for one answer on a stream that still waits.
fn until_answered(stream: &mut Stream, codec: &mut Codec) -> Result<()> {
    let mut came = Came::default();
    let mut buffer = [0; 4096];
    while came.answered.is_empty() {
        let Received::Bytes(count) = stream.receive(&mut buffer)? else { bail!("the peer closed before its answer") };
        codec.feed(buffer.get(..count).unwrap_or_default(), &mut came)?;
    }
    Ok(())
}
