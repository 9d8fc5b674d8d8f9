//! The parts of the upstream side that the fuzz targets and benches try by themselves.

pub use super::Fate;
pub use super::budget::Budget;
pub use super::h1::AsLines;
pub use super::h1::decoder::{DecodeError, Decoder, Piece};
pub use super::h1::head::{HeadError, InPlace, Received, end as head_end, read as read_head, read_in_place};
pub use super::retry::{Decision, Failure, GiveUp, Next, decide};
