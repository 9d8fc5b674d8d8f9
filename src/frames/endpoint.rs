//! The frames of an endpoint, as its client sees them.
//!
//! A client asks, so what an endpoint may say is measured by what it was asked. The codec has its own limits for heads in
//! parts, DATA without data, and streams that the endpoint makes it reset.

use std::time::Instant;

use super::budgets::{Budgets, RESET_BY_EDGE, RESET_BY_PEER};
use super::spent::Spent;
use super::walk::{FrameHead, Walk};
use super::{
    CANCEL, CONTINUATION, Cut, DATA, HEADERS, INTERNAL_ERROR, NO_ERROR, PREFACE_BYTES, REFUSED_STREAM, RST_STREAM,
    STREAM_CLOSED, goodbye,
};
use crate::interim::INTERIM_MAX;

/// Heads may exceed what requests allow for by so many, and so many are forgotten each second: an endpoint may say 102
/// now and then while it works.
const HEADS_MAX: u32 = 256;
const HEADS_PER_S: u32 = 10;
/// A response, its trailers, and what may come before it.
const HEADS_PER_REQUEST: u32 = 2 + INTERIM_MAX;

/// Both directions of one connection, as its client sees them.
#[derive(Debug)]
pub struct EndpointFrames {
    preface_left: usize,
    read: Walk,
    written: Walk,
    last_stream: u32,
    heads: Spent,
    budgets: Budgets,
}

impl EndpointFrames {
    pub fn new(now: Instant) -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            read: Walk::default(),
            written: Walk::default(),
            last_stream: 0,
            heads: Spent::nothing(now),
            budgets: Budgets::new(now),
        }
    }

    /// Takes note of bytes that the endpoint sent; none are to be passed on after an error.
    pub fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Cut> {
        self.budgets.read_at = now;
        while self.budgets.cut.is_none()
            && let Some(head) = self.read.next(&mut bytes)
        {
            self.budgets.cut = self.judge(head, now).err();
        }
        self.budgets.cut.map_or(Ok(()), Err)
    }

    /// Takes note of bytes that were written to the endpoint.
    pub fn wrote(&mut self, bytes: &[u8]) {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        let mut bytes = bytes.get(preface..).unwrap_or_default();
        while let Some(head) = self.written.next(&mut bytes) {
            self.note(head);
        }
    }

    /// The frame that says goodbye, if one may be written now; between two frames, that is. It names no stream, because
    /// those of the endpoint are none.
    pub fn goodbye(&self, cut: Cut) -> Option<Vec<u8>> {
        (self.written.is_between() && self.preface_left == 0).then(|| goodbye(0, cut))
    }

    fn judge(&mut self, head: FrameHead, now: Instant) -> Result<(), Cut> {
        match head.kind {
            DATA | CONTINUATION => Ok(()),
            HEADERS if self.heads.spend(1, HEADS_PER_S, now) > HEADS_MAX => Err(Cut::Heads),
            HEADERS => Ok(()),
            _ => self.budgets.judge(head),
        }
    }

    fn note(&mut self, head: FrameHead) {
        match head.kind {
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.heads.give_back(HEADS_PER_REQUEST);
                self.budgets.resets.give_back(RESET_BY_PEER);
                self.budgets.control.note_request();
            }
            DATA => self.budgets.control.note_data(head.length),
            // What the edge ends for its own reasons, or its client's, is not held against the endpoint, nor what was on
            // its way then (STREAM_CLOSED), of which the codec keeps count.
            RST_STREAM
                if !matches!(head.number, NO_ERROR | INTERNAL_ERROR | STREAM_CLOSED | REFUSED_STREAM | CANCEL) =>
            {
                self.budgets.note_reset(RESET_BY_EDGE);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::frames::testing::{PING, PROTOCOL_ERROR, frame, measures, opens, reset};
    use crate::frames::{END_HEADERS, END_STREAM, GOAWAY, SETTINGS, WINDOW_UPDATE};

    /// A connection whose preface has been written.
    fn begun() -> (EndpointFrames, Instant) {
        let now = Instant::now();
        let mut frames = EndpointFrames::new(now);
        frames.wrote(&[b'P'; PREFACE_BYTES]);
        (frames, now)
    }

    fn asked(n: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, b"a")
    }

    /// How many turns an endpoint survives, of so many, in which the edge asks so and it says so.
    #[track_caller]
    fn check(asks: impl Fn(u32) -> Vec<u8>, says: impl Fn(u32) -> Vec<u8>, expected: Result<(), (usize, Cut)>) {
        let (mut frames, now) = begun();
        for n in 0..3000 {
            frames.wrote(&asks(n));
            if let Err(cut) = frames.read(&says(n), now) {
                return assert_eq!(Err((n as usize, cut)), expected);
            }
        }
        assert_eq!(expected, Ok(()));
    }

    fn nothing(_: u32) -> Vec<u8> {
        Vec::new()
    }

    #[test]
    fn b10_frames_that_say_nothing() {
        check(nothing, |_| frame(PING, 0, 0, &[0; 8]), Err((1000, Cut::ControlFrames)));
        check(nothing, |_| frame(SETTINGS, 0, 0, &[]), Err((100, Cut::ControlFrames)));
        check(nothing, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Err((1000, Cut::ControlFrames)));
        check(nothing, |_| frame(GOAWAY, 0, 0, &[0; 8]), Err((1000, Cut::ControlFrames)));
        check(nothing, |_| frame(0xee, 0, 0, b"grease"), Err((1000, Cut::ControlFrames)));
    }

    #[test]
    fn b10_windows_that_are_opened_by_a_byte() {
        let data = |_| frame(DATA, 0, 1, b"x");
        let opens = || frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        check(data, |_| opens(), Err((1000, Cut::ControlFrames)));
        check(data, |_| [opens(), frame(PING, 0, 0, &[0; 8])].concat(), Err((500, Cut::ControlFrames)));
    }

    #[test]
    fn b5_b6_resets_beyond_requests() {
        check(nothing, |n| reset(2 * n + 1, CANCEL), Err((256, Cut::Resets)));
        check(asked, |n| reset(2 * n + 1, INTERNAL_ERROR), Ok(()));
        check(|n| [asked(n), reset(2 * n + 1, CANCEL)].concat(), nothing, Ok(()));
        // What was on its way when a client left.
        check(|n| [asked(n), reset(2 * n + 1, CANCEL), reset(2 * n + 1, STREAM_CLOSED)].concat(), nothing, Ok(()));
        // Each request costs a reset that the endpoint has provoked.
        check(
            |n| [asked(n), reset(2 * n + 1, PROTOCOL_ERROR)].concat(),
            |n| frame(DATA, 0, n, b"x"),
            Err((255, Cut::Resets)),
        );
    }

    #[test]
    fn heads_beyond_requests() {
        let head = |n: u32, flags| frame(HEADERS, END_HEADERS | flags, 2 * n + 1, b"a");
        check(|n| if n == 0 { asked(0) } else { nothing(0) }, |_| head(0, 0), Err((256, Cut::Heads)));
        check(asked, |n| [head(n, 0).repeat(16), head(n, 0), head(n, END_STREAM)].concat(), Ok(()));
    }

    #[test]
    fn what_goes_with_work_or_comes_slowly_is_no_flood() {
        // 4 KiB at a time of a large request, however large its frames are, and each message of a stream of small ones.
        check(|_| frame(DATA, 0, 1, &[0; 4096]), |_| opens(4096), Ok(()));
        check(|_| frame(DATA, 0, 1, &[0; 65_536]), |_| opens(4096).repeat(16), Ok(()));
        check(|_| frame(DATA, 0, 1, b"twenty bytes of data"), |_| measures(20), Ok(()));
        check(asked, |_| frame(PING, 0, 0, &[0; 8]).repeat(8), Ok(()));
        check(
            asked,
            |n| [frame(HEADERS, END_HEADERS, 2 * n + 1, b"a"), frame(DATA, END_STREAM, 2 * n + 1, b"x")].concat(),
            Ok(()),
        );
        let (mut frames, now) = begun();
        for second in 0..10_000 {
            let said =
                [frame(PING, 0, 0, &[0; 8]).repeat(100), frame(HEADERS, END_HEADERS, 1, b"a").repeat(10)].concat();
            assert_eq!(frames.read(&said, now + Duration::from_secs(second)), Ok(()));
        }
    }

    #[test]
    fn the_goodbye_is_a_frame_between_frames() {
        let mut frames = EndpointFrames::new(Instant::now());
        assert_eq!(frames.goodbye(Cut::Heads), None);
        frames.wrote(&[b'P'; PREFACE_BYTES]);
        let goodbye = frames.goodbye(Cut::Heads).unwrap();
        assert_eq!(&goodbye[3..9], [GOAWAY, 0, 0, 0, 0, 0]);
        assert!(goodbye.ends_with(b"heads"));
        frames.wrote(&frame(DATA, 0, 7, b"data")[..11]);
        assert_eq!(frames.goodbye(Cut::Heads), None);
    }

    proptest! {
        #[test]
        fn verdicts_do_not_depend_on_how_bytes_are_cut_up(
            sent in prop::collection::vec((0..10_u8, any::<u8>(), 0..9_u32, 0..40_usize), 0..400), piece in 1..50_usize,
        ) {
            let ((mut whole, now), (mut cut_up, _)) = (begun(), begun());
            let sent: Vec<u8> =
                sent.iter().flat_map(|(kind, flags, stream, length)| frame(*kind, *flags, *stream, &vec![0; *length])).collect();
            whole.wrote(&sent);
            sent.chunks(piece).for_each(|bytes| cut_up.wrote(bytes));
            let verdict = sent.chunks(piece).try_for_each(|bytes| cut_up.read(bytes, now));
            prop_assert_eq!(whole.read(&sent, now), verdict);
            prop_assert_eq!(whole.goodbye(Cut::Heads), cut_up.goodbye(Cut::Heads));
        }
    }
}
