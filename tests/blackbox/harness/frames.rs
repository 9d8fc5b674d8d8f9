//! HTTP/2 frame by frame (RFC 9113 §4.1), for peers that break its rules or turn them against the other side. It
//! shares no code with the library that the proxy uses.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Edge, Wire};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings by their numbers.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One side of a connection. It grants no window by itself.
#[derive(Debug)]
pub struct Frames<S> {
    wire: Wire<S>,
    /// The other side has taken our settings over.
    settled: bool,
}

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response's HEADERS. It is the first field, and there is no dynamic table.
    pub fn status(&self) -> u16 {
        let block = &self.payload[self.payload.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
        match block[0] {
            indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
            0x08 | 0x18 | 0x48 => digits(&block[1..]),
            other => panic!("no status at {other:#x}"),
        }
    }
}

/// A string of digits in the code of RFC 7541, appendix B, or as it is.
fn digits(string: &[u8]) -> u16 {
    let (length, bytes) = (usize::from(string[0] & 0x7f), &string[1..]);
    if string[0] & 0x80 == 0 {
        return std::str::from_utf8(&bytes[..length]).unwrap().parse().unwrap();
    }
    let bits: String = bytes[..length].iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut rest, mut value) = (bits.as_str(), 0);
    while !rest.bytes().all(|bit| bit == b'1') {
        let (bits, digit) = match u16::from_str_radix(&rest[..5], 2).unwrap() {
            short @ 0..=2 => (5, short),
            _ => (6, u16::from_str_radix(&rest[..6], 2).unwrap() - 0b01_1001 + 3),
        };
        (rest, value) = (&rest[bits..], value * 10 + digit);
    }
    value
}

/// One frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// `last` is the last stream that is taken care of.
pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let values = values.iter().map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &values.collect::<Vec<_>>().concat())
}

/// Fields as literals that no table keeps (RFC 7541 §6.2.2).
pub fn block<N: AsRef<str>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(name.as_ref().as_bytes(), &mut block);
        string(value.as_ref(), &mut block);
    }
    block
}

/// A field that the table keeps (RFC 7541 §6.2.1); it is the first of those that were kept, [`KEPT`].
pub fn kept(name: &str, value: &str) -> Vec<u8> {
    [&[0x40][..], &block([(name, value)])[1..]].concat()
}

/// The index of the field that was kept last, in the one byte that it takes.
pub const KEPT: u8 = 0xbe;

/// A length with a prefix of seven bits, and the bytes (RFC 7541 §5).
fn string(bytes: &[u8], block: &mut Vec<u8>) {
    let mut length = bytes.len();
    if length < 0x7f {
        block.push(length as u8);
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(length as u8 | 0x80);
            length >>= 7;
        }
        block.push(length as u8);
    }
    block.extend(bytes);
}

/// The pseudo-fields of a request at `localhost`.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
}

/// HEADERS of a GET that has no body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(pseudo("GET", path)))
}

impl Frames<TcpStream> {
    /// A client of the edge with these settings.
    pub async fn connect(edge: &Edge, values: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(edge.either_address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self { wire: Wire::new(stream), settled: false };
        let values = [&[(HEADER_TABLE_SIZE, 0)], values].concat();
        client.send([PREFACE, &settings(&values)].concat()).await.unwrap();
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// A server with these settings; none if the other side closes before its preface.
    pub async fn accept(mut wire: Wire<S>, values: &[(u16, u32)]) -> Option<Self> {
        assert_eq!(wire.exact(PREFACE.len()).await.ok()?, PREFACE);
        let mut server = Self { wire, settled: false };
        server.send(settings(values)).await.ok()?;
        Some(server)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes).await
    }

    /// The next frame that says something of a stream or ends the connection; the others are answered as they
    /// have to be. None at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload = if frame.kind == PING { &frame.payload[..] } else { &[] };
                    let _closed = self.send(self::frame(frame.kind, ACK, 0, payload)).await;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next frame of any kind; none at the end.
    pub async fn any(&mut self) -> Option<Frame> {
        let head = self.wire.exact(9).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let payload = self.wire.exact(length as usize).await.ok()?;
        self.settled |= (head[3], head[4]) == (SETTINGS, ACK);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Waits until the other side has taken our settings over. It must have nothing else to say.
    pub async fn settled(&mut self) -> Option<()> {
        while !self.settled {
            assert!(matches!(self.any().await?.kind, SETTINGS | WINDOW_UPDATE));
        }
        Some(())
    }

    /// The next frame of this stream, or the one that ends the connection.
    pub async fn of(&mut self, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.stream == stream || frame.kind == GOAWAY {
                return Some(frame);
            }
        }
    }

    /// The stream of the next request that is whole.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.ends_stream() {
                return Some(frame.stream);
            }
        }
    }

    /// 200 without content.
    pub async fn answer(&mut self, stream: u32) -> io::Result<()> {
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88])).await
    }

    /// Lets the other side send more, on a stream or, by 0, on the connection.
    pub async fn grant(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        self.send(frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).await
    }
}
