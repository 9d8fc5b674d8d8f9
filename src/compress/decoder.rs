//! Removal of gzip for a client that cannot take it, within a bound: a few bytes can stand for a thousand times as many.

use std::io;

use async_compression::codecs::{DecodeV2 as _, GzipDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::{Buf as _, Bytes};
use http::HeaderMap;

use crate::body::{BodyError, Codec};

use super::encoder::failed;
use super::head;

/// What is decoded in one step.
const STEP_BYTES: usize = 32 * 1024;
/// So much any input may stand for; beyond it, only so many times its own length, and in all no more than that.
const FREE_BYTES: u64 = 1024 * 1024;
const RATIO_MAX: u64 = 200;
const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Each member of a gzip file begins with this byte (RFC 1952 §2.3.1).
const MEMBER: u8 = 0x1f;

/// Decodes gzip as it comes.
pub struct Decoder {
    codec: GzipDecoder,
    member: Member,
    taken: u64,
    given: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Open,
    /// Another may follow.
    Ended,
    /// What follows is no gzip, and nobody reads it.
    Last,
}

impl Decoder {
    pub fn new() -> Self {
        Self { codec: GzipDecoder::new(), member: Member::Open, taken: 0, given: 0 }
    }

    fn decode(&mut self, input: &mut Bytes, output: &mut Vec<u8>) -> io::Result<bool> {
        if self.member == Member::Ended && !input.is_empty() {
            self.member = if input.starts_with(&[MEMBER]) { Member::Open } else { Member::Last };
            self.codec.reinit()?;
        }
        if self.member != Member::Open {
            input.clear();
            return Ok(false);
        }
        let mut memory = [0; STEP_BYTES];
        let mut step = WriteBuffer::new_initialized(&mut memory);
        let mut rest = PartialBuffer::new(&input[..]);
        // Without input there may still be output, of which the last step had no room for all.
        let has_ended = match rest.unwritten() {
            [] => self.codec.flush(&mut step).map(|_all| false)?,
            _ => self.codec.decode(&mut rest, &mut step)?,
        };
        let taken = rest.written_len();
        output.extend_from_slice(step.written());
        self.taken += taken as u64;
        self.given += step.written_len() as u64;
        let is_full = step.has_no_spare_space();
        input.advance(taken);
        if has_ended {
            self.member = Member::Ended;
        } else if taken == 0 && step.written_len() == 0 && !input.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "gzip that does not go on"));
        }
        Ok(!has_ended && is_full)
    }

    fn is_bomb(&self) -> bool {
        self.given > BYTES_MAX || self.given > FREE_BYTES.max(self.taken.saturating_mul(RATIO_MAX))
    }
}

impl Codec for Decoder {
    fn share(&self) -> usize {
        2 * STEP_BYTES
    }

    fn step(&mut self, input: &mut Bytes, output: &mut Vec<u8>) -> Result<bool, BodyError> {
        let goes_on = self.decode(input, output).map_err(failed)?;
        if self.is_bomb() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "gzip that grows beyond all measure")));
        }
        Ok(goes_on)
    }

    /// Nothing is held back.
    fn flush(&mut self, _output: &mut Vec<u8>) -> Result<(), BodyError> {
        Ok(())
    }

    fn finish(&mut self, _output: &mut Vec<u8>) -> Result<(), BodyError> {
        match self.member {
            // Nothing at all stands for nothing.
            Member::Open if self.taken > 0 => Err(failed(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    fn settle_trailers(&self, trailers: &mut HeaderMap) {
        head::settle_trailers(trailers);
    }
}
