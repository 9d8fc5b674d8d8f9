//! The framing of a chunked body (RFC 9112 §7.1) byte by byte, its data skipped in one step.

use super::class;
use super::head::{BODY_BYTES_MAX, FIELDS_MAX, HEAD_BYTES_MAX};
use super::reject::Reason;

/// All chunk extensions of a body together. Nobody uses them; hyper drops them.
const EXTENSIONS_BYTES_MAX: u64 = 16 * 1024;

/// The trailer section with its last line, as much as a head may be.
const TRAILERS_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// Size lines and line ends of a body may take this much and twice the data before them. A chunk costs
/// five bytes at least, so one-byte chunks end after some 5,500 and chunks of three bytes or more go on.
const OVERHEAD_BYTES_FREE: u64 = 16 * 1024;

/// How far a chunked body has come.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    /// The size in the current size line, then what is left of its data.
    size: u64,
    digits: u8,
    data: u64,
    overhead: u64,
    extensions: u64,
    trailer_bytes: usize,
    trailer_fields: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    /// In a quoted string of an extension, where a CRLF does not end the line for every reader.
    Quoted,
    Escaped,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl State {
    fn is_trailer(self) -> bool {
        use State::*;
        matches!(self, TrailerStart | TrailerName | TrailerValue | TrailerLf | EndLf)
    }
}

/// What the bytes at the front of the rest of a body are, and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Data(usize),
    /// Sizes, extensions and line ends.
    Framing(usize),
    /// Of the trailer section, with the empty line at its end.
    Trailers(usize),
    /// None: the body has ended.
    End,
}

impl Chunked {
    /// Tells what `bytes` begin with. None: more are needed to tell. What keeps the rules before a byte that does
    /// not is told first.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Reason> {
        match self.state {
            State::End => return Ok(Some(Piece::End)),
            State::Data if !bytes.is_empty() => {
                let data_bytes = usize::try_from(self.size).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.skip_data(data_bytes as u64);
                return Ok(Some(Piece::Data(data_bytes)));
            }
            _ => {}
        }
        let is_trailer = self.state.is_trailer();
        let mut good = 0;
        for &byte in bytes {
            self.overhead += 1;
            match self.take(byte) {
                Ok(()) => good += 1,
                Err(reason) if good == 0 => return Err(reason),
                Err(_) => break,
            }
            if matches!(self.state, State::Data | State::End) || self.state.is_trailer() != is_trailer {
                break;
            }
        }
        let piece = if is_trailer { Piece::Trailers(good) } else { Piece::Framing(good) };
        Ok((good > 0).then_some(piece))
    }

    /// Whether the next byte is data.
    pub fn is_at_data(&self) -> bool {
        self.state == State::Data
    }

    fn skip_data(&mut self, bytes: u64) {
        self.data = self.data.saturating_add(bytes);
        self.size -= bytes;
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Reason> {
        self.state = match self.state {
            State::Size => self.take_size(byte)?,
            State::Extension | State::Quoted | State::Escaped => self.take_extension(byte)?,
            State::SizeLf if byte == b'\n' => self.end_size_line()?,
            State::SizeLf => return Err(Reason::BadChunkSize),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size,
            State::DataCr | State::DataLf => return Err(Reason::BadChunkEnd),
            _ => self.take_trailer(byte)?,
        };
        Ok(())
    }

    fn take_size(&mut self, byte: u8) -> Result<State, Reason> {
        let digit = match byte {
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b';' if self.digits > 0 => return self.count_extension().map(|()| State::Extension),
            _ => char::from(byte).to_digit(16).ok_or(Reason::BadChunkSize)?,
        };
        // Sixteen digits are 64 bits, so the shift loses nothing.
        if self.digits == 16 {
            return Err(Reason::BadChunkSize);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn take_extension(&mut self, byte: u8) -> Result<State, Reason> {
        if byte == b'\r' && self.state == State::Extension {
            return Ok(State::SizeLf);
        }
        if class::is_control(byte) {
            return Err(Reason::BadChunkExtension);
        }
        self.count_extension()?;
        Ok(match (self.state, byte) {
            (State::Extension, b'"') | (State::Escaped, _) => State::Quoted,
            (State::Quoted, b'"') => State::Extension,
            (State::Quoted, b'\\') => State::Escaped,
            (state, _) => state,
        })
    }

    fn count_extension(&mut self) -> Result<(), Reason> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS_BYTES_MAX { Err(Reason::ChunkExtensionsTooLarge) } else { Ok(()) }
    }

    fn end_size_line(&mut self) -> Result<State, Reason> {
        if self.size > BODY_BYTES_MAX {
            return Err(Reason::BadChunkSize);
        }
        if self.overhead > self.data.saturating_mul(2).saturating_add(OVERHEAD_BYTES_FREE) {
            return Err(Reason::ChunkOverhead);
        }
        self.digits = 0;
        Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
    }

    /// Trailers keep the rules of the fields of a head (RFC 9112 §7.1.2).
    fn take_trailer(&mut self, byte: u8) -> Result<State, Reason> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILERS_BYTES_MAX {
            return Err(Reason::TrailersTooLarge);
        }
        Ok(match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, _) if class::is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > FIELDS_MAX {
                    return Err(Reason::TrailersTooLarge);
                }
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, _) if class::is_token(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if !class::is_control(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(Reason::BadTrailer),
        })
    }
}
