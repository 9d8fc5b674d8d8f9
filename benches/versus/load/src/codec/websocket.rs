//! WebSocket messages of one frame each (RFC 6455), as both sides of the bench speak them.

use anyhow::{Result, bail};
use httparse::{EMPTY_HEADER, Response, Status};

use super::Came;
use crate::request::WEBSOCKET_ACCEPT;

const FIELDS_MAX: usize = 64;
const BINARY: u8 = 2;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a client reads: that its upgrade is agreed to, and each message come back as it was.
#[derive(Debug)]
pub struct WebSocket {
    message: Vec<u8>,
    upgraded: bool,
    partial: Vec<u8>,
}

impl WebSocket {
    pub fn new(message: Vec<u8>) -> Self {
        Self { message, upgraded: false, partial: Vec::new() }
    }

    pub fn feed(&mut self, bytes: &[u8], came: &mut Came) -> Result<()> {
        self.partial.extend_from_slice(bytes);
        if !self.upgraded {
            let Some(used) = upgraded(&self.partial)? else { return Ok(()) };
            self.partial.drain(..used);
            self.upgraded = true;
            came.answered.push(0);
        }
        while let Some(frame) = frame(&self.partial) {
            if frame.payload != self.message {
                bail!("a message came back changed");
            }
            let used = frame.used;
            self.partial.drain(..used);
            came.answered.push(0);
        }
        Ok(())
    }
}

/// Where the head ends that agrees to the upgrade; nothing if it has not come whole.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let Status::Complete(used) = response.parse(bytes)? else { return Ok(None) };
    let accepts = |field: &httparse::Header<'_>| {
        field.name.eq_ignore_ascii_case("sec-websocket-accept") && field.value == WEBSOCKET_ACCEPT.as_bytes()
    };
    if response.code != Some(101) || !response.headers.iter().any(accepts) {
        bail!("no WebSocket: {}", String::from_utf8_lossy(bytes));
    }
    Ok(Some(used))
}

/// A frame, and of how many bytes it is made.
#[derive(Debug)]
pub struct Frame<'bytes> {
    pub payload: &'bytes [u8],
    pub mask: Option<[u8; 4]>,
    pub used: usize,
}

/// The frame that the bytes begin with, once it is whole.
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let [_, length, rest @ ..] = bytes else { return None };
    let (size, rest) = match length & !MASKED {
        126 => {
            let (size, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*size)), rest)
        }
        127 => {
            let (size, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*size)).ok()?, rest)
        }
        short => (usize::from(short), rest),
    };
    let (mask, rest) = if length & MASKED == 0 {
        (None, rest)
    } else {
        let (mask, rest) = rest.split_first_chunk::<4>()?;
        (Some(*mask), rest)
    };
    let payload = rest.get(..size)?;
    Some(Frame { payload, mask, used: bytes.len() - rest.len() + size })
}

/// A whole message as it is sent: by a client with its mask.
pub fn written(payload: &[u8], masked: bool) -> Vec<u8> {
    let flag = if masked { MASKED } else { 0 };
    let mut out = vec![FINAL | BINARY];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(flag | short),
        (_, Ok(size)) => {
            out.push(flag | 126);
            out.extend_from_slice(&size.to_be_bytes());
        }
        _ => {
            out.push(flag | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&MASK);
        out.extend(unmasked(payload, MASK));
    } else {
        out.extend_from_slice(payload);
    }
    out
}

/// To mask twice is to do nothing.
pub fn unmasked(payload: &[u8], mask: [u8; 4]) -> impl Iterator<Item = u8> + '_ {
    payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        for size in [0, 1, 125, 126, 1000, 70_000] {
            let payload = crate::request::payload(size);
            for masked in [false, true] {
                let bytes = written(&payload, masked);
                assert!(frame(&bytes[..bytes.len() - 1]).is_none());
                let Some(frame) = frame(&bytes) else { panic!("no frame of {size}") };
                let clear = frame.mask.map_or(frame.payload.to_vec(), |mask| unmasked(frame.payload, mask).collect());
                assert_eq!((frame.used, clear == payload), (bytes.len(), true));
            }
        }
    }

    #[test]
    fn an_upgrade_and_each_message_count_and_changed_ones_do_not() -> Result<()> {
        let head = format!("HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n");
        let (mut websocket, mut came) = (WebSocket::new(b"abc".to_vec()), Came::default());
        websocket.feed(head.as_bytes(), &mut came)?;
        websocket.feed(&written(b"abc", false), &mut came)?;
        assert_eq!(came.answered.len(), 2);
        assert!(websocket.feed(&written(b"abd", false), &mut came).is_err());
        assert!(WebSocket::new(Vec::new()).feed(b"HTTP/1.1 101 Yes\r\n\r\n", &mut came).is_err());
        Ok(())
    }
}
