//! What is read of answers: just enough to know that each is right and where it ends. Pure.

mod h1;
mod h2;
mod websocket;

pub use h1::H1;
pub use h2::H2;
pub use websocket::{WebSocket, frame, unmasked, written};

use anyhow::Result;

/// What came of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Streams whose answer is whole; HTTP/1.1 and WebSocket have but the stream 0.
    pub answered: Vec<u32>,
    /// To be sent in return, as acknowledgements are.
    pub reply: Vec<u8>,
}

#[derive(Debug)]
pub enum Codec {
    H1(H1),
    H2(Box<H2>),
    WebSocket(WebSocket),
}

impl Codec {
    pub fn feed(&mut self, bytes: &[u8], came: &mut Came) -> Result<()> {
        match self {
            Self::H1(h1) => h1.feed(bytes, came),
            Self::H2(h2) => h2.feed(bytes, came),
            Self::WebSocket(websocket) => websocket.feed(bytes, came),
        }
    }
}
