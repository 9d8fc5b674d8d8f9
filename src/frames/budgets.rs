//! What the peer of one connection may cost, and that it cost too much.

use std::time::Instant;

use super::control::Control;
use super::spent::Spent;
use super::walk::FrameHead;
use super::{Cut, RST_STREAM};

/// Resets may exceed answers, or requests, by so many: twice as many as there may be streams by default.
const RESETS_MAX: u32 = 256;
/// A client that takes a request back is impatient, and an endpoint that gives one up in trouble; ...
pub const RESET_BY_PEER: u32 = 1;
/// ... one whose stream must be taken from it breaks the rules.
pub const RESET_BY_EDGE: u32 = 2;
/// So many are forgotten each second: who watches a film or events leaves streams all day long.
pub const RESETS_PER_S: u32 = 10;

#[derive(Debug)]
pub struct Budgets {
    pub resets: Spent,
    pub control: Control,
    /// When the peer was read last.
    pub read_at: Instant,
    pub cut: Option<Cut>,
}

impl Budgets {
    pub fn new(now: Instant) -> Self {
        Self { resets: Spent::nothing(now), control: Control::new(now), read_at: now, cut: None }
    }

    /// The peer has sent a frame that is part of no request and no response.
    pub fn judge(&mut self, head: FrameHead) -> Result<(), Cut> {
        match head.kind {
            RST_STREAM => self.reset(RESET_BY_PEER),
            _ => self.control.judge(head, self.read_at),
        }
    }

    /// The edge has taken a stream from it.
    pub fn note_reset(&mut self, cost: u32) {
        let over = self.reset(cost).err();
        self.cut = self.cut.or(over);
    }

    fn reset(&mut self, cost: u32) -> Result<(), Cut> {
        if self.resets.spend(cost, RESETS_PER_S, self.read_at) > RESETS_MAX { Err(Cut::Resets) } else { Ok(()) }
    }
}
