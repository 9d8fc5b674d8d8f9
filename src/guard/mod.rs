//! The strict reading of a client's HTTP/1 framing.
//!
//! An edge and its origins must never disagree about where a request ends. So there is one reader of a client's
//! bytes, which takes less than RFC 9112 allows, and what it does not take becomes no request:
//!
//! - A *head* is judged line by line as the lines come. When it is whole and good, the places of its parts are
//!   known, and the request is made of them; no second parser has an opinion. A bad head has a [`Reason`], and
//!   nothing behind it is looked at.
//! - A *body* is judged as it comes, and told apart into data, framing and trailers. Bad framing ends it, and the
//!   request upstream ends without its last chunk.
//! - The bytes after a request that asks for an upgrade wait until the tunnel is opened. If it is not, they
//!   are never parsed, and neither is what follows a client's last request.
//!
//! HTTP/2 is parsed by its codec, and its frames are counted by [`crate::frames`]. Of a request that came so the guard
//! demands what it demands of others.
//!
//! All of this is pure: `connection` reads the socket, keeps the time, and gives the bytes to the [`Machine`].
//! Not decided here: names that are dropped from heads and trailers, limits of body size, routing.

mod chunked;
mod class;
mod h2;
mod head;
mod machine;
#[cfg(test)]
pub mod reference;
mod reject;
mod target;
#[cfg(test)]
mod tests;

pub use h2::{H2_HEAD_BYTES_MAX, HeadCost, check_h2, head_cost, trailers_cost};
pub use head::{Body, Complete, FIELDS_MAX, HEAD_BYTES_MAX, Lines, Then};
pub use machine::{Machine, Phase, Step, Stop};
pub use reject::{Reason, Violation};
#[cfg(test)]
pub use tests::client_bytes;
