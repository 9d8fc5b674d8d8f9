//! Where one connection stands in the client's bytes, and how many of them may go on to hyper.
//!
//! Pure: it keeps counts and never bytes, knows no socket and no clock.

use super::chunked::Chunked;
use super::head::{Body, Complete, Head, Then};
use super::reject::Reason;

/// The state machine of one connection. Its verdicts do not depend on how the bytes are cut up.
#[derive(Debug, Default)]
pub struct Machine {
    state: State,
    then: Then,
    requests: u64,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Length(u64),
    Chunked(Chunked),
    /// After a request that asks for an upgrade.
    Held,
    Tunnel,
    /// After the client's last request, or after a refusal.
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// What may be done with the bytes that were inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So many from the front may go on.
    pub released: usize,
    pub stop: Option<Stop>,
}

/// No byte after the released ones will ever go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By a head. Nothing of it was released.
    Refused(Refusal),
    /// In a body whose request went on already.
    Violated(Reason),
}

/// The verdict on a bad head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which request of the connection it was, from 1.
    pub request_number: u64,
    pub reason: Reason,
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
    Tunnel,
    /// One that nobody will look at.
    Ended,
}

impl Machine {
    /// Inspects what has been read and not been released, from the oldest byte on. What is not released
    /// is given again at the next call, followed by what has been read since.
    pub fn inspect(&mut self, bytes: &[u8]) -> Progress {
        let mut released = 0;
        loop {
            let rest = bytes.get(released..).unwrap_or_default();
            match &mut self.state {
                State::Head(head) => match head.inspect(rest) {
                    Ok(Some(complete)) => {
                        released += complete.bytes;
                        self.enter_body(complete);
                    }
                    Ok(None) => return Progress { released, stop: None },
                    Err(reason) => return Progress { released, stop: Some(Stop::Refused(self.refuse(reason))) },
                },
                State::Length(left) => {
                    let body_bytes = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= body_bytes as u64;
                    released += body_bytes;
                    if *left > 0 {
                        return Progress { released, stop: None };
                    }
                    self.leave_body();
                }
                State::Chunked(chunked) => {
                    let found = chunked.inspect(rest);
                    released += found.good;
                    match found.end {
                        None => return Progress { released, stop: None },
                        Some(Ok(())) => self.leave_body(),
                        Some(Err(reason)) => {
                            self.state = State::Ended;
                            return Progress { released, stop: Some(Stop::Violated(reason)) };
                        }
                    }
                }
                State::Tunnel => return Progress { released: bytes.len(), stop: None },
                State::Held | State::Ended => return Progress { released, stop: None },
            }
        }
    }

    /// Refuses the request that is being read, for a reason that is not in its bytes.
    pub fn refuse(&mut self, reason: Reason) -> Refusal {
        self.state = State::Ended;
        Refusal { request_number: self.requests + 1, reason }
    }

    /// Lets everything pass from here on. False, and nothing changes, unless the last request asked for an
    /// upgrade and has been read to its end.
    pub fn open_tunnel(&mut self) -> bool {
        let is_held = matches!(self.state, State::Held);
        if is_held {
            self.state = State::Tunnel;
        }
        is_held
    }

    /// Whether the last request asked for an upgrade, and no tunnel has been opened for it.
    pub fn awaits_tunnel(&self) -> bool {
        self.then == Then::Tunnel && !matches!(self.state, State::Tunnel)
    }

    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Head(head) if head.has_begun() => Phase::Head,
            State::Head(_) => Phase::Between,
            State::Length(_) | State::Chunked(_) => Phase::Body,
            State::Held => Phase::Held,
            State::Tunnel => Phase::Tunnel,
            State::Ended => Phase::Ended,
        }
    }

    /// Heads that were good.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Bytes that will be released whatever they are.
    pub fn data_left(&self) -> u64 {
        match &self.state {
            State::Length(left) => *left,
            State::Chunked(chunked) => chunked.data_left(),
            _ => 0,
        }
    }

    fn enter_body(&mut self, head: Complete) {
        self.requests += 1;
        self.then = head.then;
        self.state = match head.body {
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunked::default()),
        };
    }

    fn leave_body(&mut self) {
        self.state = match self.then {
            Then::Request => State::default(),
            Then::Tunnel => State::Held,
            Then::Nothing => State::Ended,
        };
    }
}
