//! Frames that neither ask nor bring anything: what they cost, and what pays for them.
//!
//! A peer opens the windows again for what it gets, so bytes pay for that, once for the stream and once for the
//! connection, whenever it does so. Some also measure the way with a PING for each frame that comes, as gRPC does, so
//! each frame pays for a little. But one that is small because the window was pays for nothing more: it was made by
//! what it would pay for.

use std::time::Instant;

use super::spent::Spent;
use super::walk::FrameHead;
use super::{ACK, Cut, SETTINGS, WINDOW_UPDATE};

/// They may come in a burst of so many, ...
const CONTROL_MAX: u32 = 1000;
/// ... so many more each second, ...
const CONTROL_PER_S: u32 = 100;
/// ... so many with each request, such as priorities, ...
const CONTROL_PER_STREAM: u32 = 8;
/// ... and so many with each frame of data that the peer gets.
const CONTROL_PER_DATA: u32 = 2;
/// Each SETTINGS is applied to every open stream.
const CONTROL_OF_SETTINGS: u32 = 10;

/// What opens a window by less counts as if it opened it by so much.
const OPENED_BYTES_MIN: u32 = 2048;
/// What is opened by less lets no more than a small frame through.
const SMALL_BYTES: u32 = 512;
/// No more than this is saved up: both windows for 1 MiB on each of as many streams as there may be by default.
const UNOPENED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Before anything else is said of it (RFC 9113 §6.9.2).
const WINDOW_AT_FIRST: i64 = 65_535;
/// As many as there are streams by default, each of which SETTINGS may open by little.
const SMALL_PER_SETTINGS: u32 = 128;
const SMALL_MAX: u32 = 1024;

#[derive(Debug)]
pub struct Control {
    spent: Spent,
    /// Bytes that the peer got and has not opened its windows for again, counted once for each of the two.
    unopened: u64,
    /// What the connection's window still has; those of its streams are not looked after.
    window: i64,
    /// So many frames to come may be small because a window is.
    small: u32,
}

impl Control {
    pub fn new(now: Instant) -> Self {
        Self { spent: Spent::nothing(now), unopened: 0, window: WINDOW_AT_FIRST, small: 0 }
    }

    /// The peer has sent such a frame.
    pub fn judge(&mut self, head: FrameHead, now: Instant) -> Result<(), Cut> {
        let cost = match head.kind {
            WINDOW_UPDATE => self.open(head),
            SETTINGS => {
                if head.flags & ACK == 0 {
                    self.small = (self.small + SMALL_PER_SETTINGS).min(SMALL_MAX);
                }
                CONTROL_OF_SETTINGS
            }
            _ => 1,
        };
        if self.spent.spend(cost, CONTROL_PER_S, now) > CONTROL_MAX { Err(Cut::ControlFrames) } else { Ok(()) }
    }

    /// A request has begun.
    pub fn note_request(&mut self) {
        self.spent.give_back(CONTROL_PER_STREAM);
    }

    /// The peer gets so many bytes in a frame of data.
    pub fn note_data(&mut self, length: usize) {
        if length == 0 {
            return;
        }
        self.window = self.window.saturating_sub_unsigned(length as u64);
        self.unopened = (self.unopened + 2 * length as u64).min(UNOPENED_BYTES_MAX);
        if self.small > 0 {
            self.small -= 1;
        } else {
            self.spent.give_back(CONTROL_PER_DATA);
        }
    }

    /// What it costs.
    fn open(&mut self, head: FrameHead) -> u32 {
        let bytes = head.number & 0x7fff_ffff;
        let is_of_stream = head.stream != 0;
        if bytes < SMALL_BYTES && (is_of_stream || self.window < i64::from(SMALL_BYTES)) {
            self.small = (self.small + 1).min(SMALL_MAX);
        }
        if !is_of_stream {
            self.window = self.window.saturating_add(i64::from(bytes));
        }
        match self.unopened.checked_sub(u64::from(bytes.max(OPENED_BYTES_MIN))) {
            Some(left) => {
                self.unopened = left;
                0
            }
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::testing::PING;

    fn head(kind: u8, stream: u32, number: u32) -> FrameHead {
        FrameHead { length: 4, kind, flags: 0, stream, number }
    }

    fn opened(stream: u32, bytes: u32) -> FrameHead {
        head(WINDOW_UPDATE, stream, bytes)
    }

    /// How many turns a peer survives, of so many, in which it gets a frame of data of this length and then says so.
    #[track_caller]
    fn check(before: usize, length: usize, says: &[FrameHead], survives: usize) {
        let now = Instant::now();
        let mut control = Control::new(now);
        control.note_data(before);
        let turns = (0..20_000).take_while(|_| {
            control.note_data(length);
            says.iter().all(|head| control.judge(*head, now).is_ok())
        });
        assert_eq!(turns.count(), survives, "{length}: {says:?}");
    }

    const ALWAYS: usize = 20_000;

    #[test]
    fn windows_are_opened_for_what_came() {
        let (stream, connection) = (opened(1, 4096), opened(0, 4096));
        check(0, 4096, &[stream, connection], ALWAYS);
        check(0, 16 * 1024, &[stream, connection].repeat(4), ALWAYS);
        check(0, 64 * 1024, &[stream, connection].repeat(16), ALWAYS);
        check(0, 1 << 20, &[stream, connection].repeat(256), ALWAYS);
        check(0, 1024, &[opened(1, 1024), opened(0, 1024)], ALWAYS);
        check(0, 512, &[opened(1, 512), opened(0, 512)], ALWAYS);
        // All of it came before the first window was opened.
        check(8 << 20, 0, &[stream, connection], (8 << 20) / 4096 + 500);
    }

    #[test]
    fn a_peer_may_measure_the_way_for_each_frame() {
        check(0, 20, &[opened(0, 20), head(PING, 0, 0)], ALWAYS);
        check(0, 16 * 1024, &[opened(0, 16 * 1024), head(PING, 0, 0)], ALWAYS);
    }

    #[test]
    fn b10_small_windows_pay_for_nothing() {
        check(0, 1, &[opened(1, 1)], 1000);
        check(0, 1, &[opened(1, 1), head(PING, 0, 0)], 500);
        // The window of the connection is used up, and what it got by that is saved up.
        check(65_535, 1, &[opened(0, 1)], 1065);
        check(65_535, 1, &[opened(0, 1), head(PING, 0, 0)], 532);
        check(0, 1, &[opened(1, 1), opened(0, 1)], 500);
        // Each opens many streams by a byte.
        check(0, 1, &[head(SETTINGS, 0, 0)], 100);
    }
}
