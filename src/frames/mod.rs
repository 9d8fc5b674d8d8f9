//! What the peer of a connection of HTTP/2 does with frames, seen by the heads of the frames alone (RFC 9113 §4.1).
//!
//! Decides when a peer costs more than it asks for or brings: resets of either side, frames that say nothing, heads
//! without end. Clients and endpoints have budgets of one kind, each filled again by what is useful in it: for a client
//! that is what it asks and is answered, for an endpoint what it was asked. It never judges what the codec does: order,
//! sizes, contents.

mod client;
mod cut;
mod endpoint;
mod spent;
mod walk;

pub use client::{Frames, Run, SentHead};
pub use cut::Cut;
pub use endpoint::EndpointFrames;

const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Resets may exceed answers, or requests, by so many: twice as many as there may be streams by default.
const RESETS_MAX: u32 = 256;
/// A client that takes a request back is impatient, and an endpoint that gives one up in trouble; ...
const RESET_BY_PEER: u32 = 1;
/// ... one whose stream must be taken from it breaks the rules.
const RESET_BY_EDGE: u32 = 2;
/// So many are forgotten each second: who watches a film or events leaves streams all day long.
const RESETS_PER_S: u32 = 10;
/// Frames that neither ask nor bring anything may come in a burst of so many, ...
const CONTROL_MAX: u32 = 1000;
/// ... so many more each second, ...
const CONTROL_PER_S: u32 = 100;
/// ... so many with each request, such as priorities, ...
const CONTROL_PER_STREAM: u32 = 8;
/// ... and so many with each frame of data that the peer gets, whose window it has to open again.
const CONTROL_PER_DATA: u32 = 4;
/// Each SETTINGS is applied to every open stream.
const CONTROL_OF_SETTINGS: u32 = 10;

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
mod testing {
    pub const PING: u8 = 6;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const PROTOCOL_ERROR: u32 = 1;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    pub fn reset(stream: u32, code: u32) -> Vec<u8> {
        frame(super::RST_STREAM, 0, stream, &code.to_be_bytes())
    }
}
