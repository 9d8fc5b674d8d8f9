//! What the peer of a connection of HTTP/2 does with frames, seen by the heads of the frames alone (RFC 9113 §4.1).
//!
//! Decides when a peer costs more than it asks for or brings: resets of either side, frames that say nothing, heads
//! without end. Clients and endpoints have budgets of one kind, each filled again by what is useful in it: for a client
//! that is what it asks and is answered, for an endpoint what it was asked. It never judges what the codec does: order,
//! sizes, contents.

mod budgets;
mod client;
mod control;
mod cut;
mod endpoint;
mod spent;
mod walk;

use std::io::IoSlice;

pub use client::{Frames, Run, SentHead};
pub use cut::Cut;
pub use endpoint::EndpointFrames;

const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The bytes that were written, of those that were to be.
pub fn written<'a>(parts: &'a [IoSlice<'_>], length: usize) -> impl Iterator<Item = &'a [u8]> {
    let mut left = length;
    parts.iter().map_while(move |part| {
        let bytes = part.get(..part.len().min(left)).filter(|_| left > 0)?;
        left -= bytes.len();
        Some(bytes)
    })
}

/// Whether the codec found it too much. It has limits of its own, for what shows when a head is unpacked.
pub fn is_calmed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// The frame that says why it ends.
fn goodbye(last_stream: u32, cut: Cut) -> Vec<u8> {
    let debug = cut.code().as_bytes();
    let mut frame = Vec::with_capacity(17 + debug.len());
    frame.extend([0, 0, 8 + debug.len() as u8, GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(debug);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_from_the_front() {
        let parts = [&b"abc"[..], b"", b"de"].map(IoSlice::new);
        for (length, expected) in [(0, ""), (2, "ab"), (3, "abc"), (4, "abcd"), (5, "abcde")] {
            assert_eq!(written(&parts, length).collect::<Vec<_>>().concat(), expected.as_bytes());
        }
    }
}

#[cfg(test)]
mod testing {
    pub const PING: u8 = 6;
    pub const PROTOCOL_ERROR: u32 = 1;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The windows of a stream and of the connection are opened again.
    pub fn opens(bytes: u32) -> Vec<u8> {
        [1, 0].map(|stream| frame(super::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).concat()
    }

    /// As a peer of gRPC does when data comes.
    pub fn measures(bytes: u32) -> Vec<u8> {
        [frame(super::WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()), frame(PING, 0, 0, &[0; 8])].concat()
    }

    pub fn reset(stream: u32, code: u32) -> Vec<u8> {
        frame(super::RST_STREAM, 0, stream, &code.to_be_bytes())
    }
}
