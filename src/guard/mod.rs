//! The strict HTTP/1 framing guard between a client's stream and hyper's server.
//!
//! An edge and its origins must never disagree about where a request ends. hyper parses well but takes more
//! than an edge may take, and what it takes cannot be seen any more above it. So every byte of a client
//! passes this guard first. It **reads and never writes**, neither changes nor reorders what it lets pass,
//! and decides three things:
//!
//! - A *head* goes on to hyper once it is whole and good. A bad one is withheld for ever: hyper gets a fixed
//!   request in its place and then the end of the stream, and the verdict waits in the [`GuardHandle`].
//!   The service, which counts its calls, answers call number [`Refusal::request_number`] from it, so the
//!   responses to the requests before go out first.
//! - A *body* goes on as it is checked. Bad framing in it makes the read fail, hyper aborts the body, and the
//!   request upstream ends without its last chunk.
//! - The bytes after a request that asks for an upgrade wait until the tunnel is opened. If it is not, they
//!   are never parsed, and neither is what follows a client's last request.
//!
//! What is accepted is a subset of RFC 9112, and a subset of what hyper and `http::Uri` accept, given that
//! hyper's own limit of head and trailer bytes (`max_header_size`) is above [`HEAD_BYTES_MAX`]. `class`,
//! `target`, `head`, `chunked`, `machine` and `reject` are pure; `state` reads and keeps the time, `stream`
//! is the two sides of it.
//! Not decided here: names that are dropped from heads and trailers, limits of body size, routing.

mod chunked;
mod class;
mod h2;
mod head;
mod machine;
#[cfg(test)]
mod reference;
mod reject;
mod state;
mod stream;
mod target;
#[cfg(test)]
mod tests;

pub use h2::check_h2;
pub use head::HEAD_BYTES_MAX;
pub use machine::{Machine, Phase, Progress, Refusal, Stop};
pub use reject::Reason;
pub use state::{Deadlines, Limits, Violation};
pub use stream::{GuardHandle, guarded};
