//! Where one connection stands in the client's bytes, and what the next of them are.
//!
//! Pure: it keeps counts and places and never bytes, knows no socket and no clock.

use super::chunked::{Chunked, Piece};
use super::head::{Body, Complete, Head, Lines, Then};
use super::reject::Reason;

/// The state machine of one connection. Its verdicts do not depend on how the bytes are cut up.
#[derive(Debug, Default)]
pub struct Machine {
    state: State,
    then: Then,
    lines: Lines,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Length(u64),
    Chunked(Chunked),
    /// After a request that asks for an upgrade.
    Held,
    /// After the client's last request, or after a refusal.
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// What the bytes at the front are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A whole head that is good.
    Head(Complete),
    /// So many of the data of a body.
    Data(usize),
    /// So many that frame the data, and are of no further use.
    Framing(usize),
    /// So many of a trailer section, with the empty line at its end.
    Trailers(usize),
    /// None: a message has ended.
    End,
    /// None yet, or none that will ever be looked at.
    Wait,
}

impl Step {
    /// How many are done with.
    pub fn bytes(self) -> usize {
        match self {
            Self::Head(head) => head.bytes,
            Self::Data(bytes) | Self::Framing(bytes) | Self::Trailers(bytes) => bytes,
            Self::End | Self::Wait => 0,
        }
    }
}

/// Nothing that comes after is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A head is bad, and no part of it was let through.
    Refused(Reason),
    /// A body is, whose head was good.
    Violated(Reason),
}

/// What the client's next byte would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first of a request.
    Between,
    Head,
    Body,
    /// The first of a tunnel that is not open.
    Held,
    /// One that nobody will look at.
    Ended,
}

impl Machine {
    /// Tells what `bytes` begin with, which are those that are not done with, from the oldest on. After
    /// [`Step::Wait`] they come again, followed by what has been read since.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Stop> {
        match &mut self.state {
            State::Head(head) => match head.inspect(bytes, &mut self.lines) {
                Ok(Some(complete)) => {
                    self.enter_body(complete);
                    Ok(Step::Head(complete))
                }
                Ok(None) => Ok(Step::Wait),
                Err(reason) => {
                    self.end();
                    Err(Stop::Refused(reason))
                }
            },
            State::Length(0) => Ok(self.leave_body()),
            State::Length(_) if bytes.is_empty() => Ok(Step::Wait),
            State::Length(left) => {
                let data_bytes = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= data_bytes as u64;
                Ok(Step::Data(data_bytes))
            }
            State::Chunked(chunked) => match chunked.next(bytes) {
                Ok(None) => Ok(Step::Wait),
                Ok(Some(Piece::Data(bytes))) => Ok(Step::Data(bytes)),
                Ok(Some(Piece::Framing(bytes))) => Ok(Step::Framing(bytes)),
                Ok(Some(Piece::Trailers(bytes))) => Ok(Step::Trailers(bytes)),
                Ok(Some(Piece::End)) => Ok(self.leave_body()),
                Err(reason) => {
                    self.end();
                    Err(Stop::Violated(reason))
                }
            },
            State::Held | State::Ended => Ok(Step::Wait),
        }
    }

    /// Where the parts of the last whole head stood in it.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Looks at nothing from here on.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Head(head) if head.has_begun() => Phase::Head,
            State::Head(_) => Phase::Between,
            State::Length(_) | State::Chunked(_) => Phase::Body,
            State::Held => Phase::Held,
            State::Ended => Phase::Ended,
        }
    }

    /// Whether the next byte is data of a body.
    pub fn is_at_data(&self) -> bool {
        match &self.state {
            State::Length(left) => *left > 0,
            State::Chunked(chunked) => chunked.is_at_data(),
            _ => false,
        }
    }

    fn enter_body(&mut self, head: Complete) {
        self.then = head.then;
        self.state = match head.body {
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunked::default()),
        };
    }

    fn leave_body(&mut self) -> Step {
        self.state = match self.then {
            Then::Request => State::default(),
            Then::Tunnel => State::Held,
            Then::Nothing => State::Ended,
        };
        Step::End
    }
}
