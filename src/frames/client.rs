//! The frames of a client, as its server sees them.
//!
//! Decides where a head ends, so that the codec gets one head at a time and none in parts, and when a client costs more
//! than it asks for: resets of either side, frames that say nothing, heads without end. It looks into no payload
//! but that of resets and WINDOW_UPDATE, and never judges what the codec does: order, sizes, contents.

use std::time::Instant;

use super::budgets::{Budgets, RESET_BY_EDGE};
use super::walk::{FrameHead, Walk};
use super::{
    CANCEL, CONTINUATION, Cut, DATA, END_HEADERS, END_STREAM, HEADERS, INTERNAL_ERROR, NO_ERROR, PREFACE_BYTES,
    REFUSED_STREAM, RST_STREAM, goodbye,
};

/// On the wire, over all its frames. What is larger cannot be but too large when it is unpacked; up to here it is
/// unpacked, so that the client hears 431.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// As the codec allows.
const CONTINUATIONS_MAX: u32 = 5;
/// As the codec allows, which counts them over the life of a connection.
const EMPTY_DATA_MAX: u32 = 100;
/// One that it asked for beyond what it may have costs as much as one that it takes back.
const RESET_REFUSED: u32 = 1;

/// What the bytes at the front are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// So many that the codec may have.
    Plain(usize),
    /// So many of a head whose end is not in sight.
    InHead(usize),
    /// So many, with which a head is whole.
    HeadEnd(usize),
}

/// A head or trailers, as the client sent them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentHead {
    pub stream: u32,
    /// On the wire, over all its frames.
    pub bytes: usize,
}

/// Both directions of one connection, as its server sees them.
#[derive(Debug)]
pub struct Frames {
    preface_left: usize,
    read: Walk,
    written: Walk,
    /// A head that goes on in another frame.
    block: Option<Block>,
    /// The last that has begun.
    head: SentHead,
    last_stream: u32,
    /// Streams that the edge refuses since it has no room; their resets are yet to be written.
    refused: u32,
    empty_data: u32,
    budgets: Budgets,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    continuations: u32,
    ends: bool,
}

impl Frames {
    pub fn new(now: Instant) -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            read: Walk::default(),
            written: Walk::default(),
            block: None,
            head: SentHead::default(),
            last_stream: 0,
            refused: 0,
            empty_data: 0,
            budgets: Budgets::new(now),
        }
    }

    /// Tells what bytes from the client begin with; they are not empty, and each is told once. Nothing is to be passed
    /// on after an error.
    pub fn read(&mut self, bytes: &[u8], now: Instant) -> Result<Run, Cut> {
        if let Some(cut) = self.budgets.cut {
            return Err(cut);
        }
        self.budgets.read_at = now;
        if self.preface_left > 0 {
            let length = self.preface_left.min(bytes.len());
            self.preface_left -= length;
            return Ok(Run::Plain(length));
        }
        let step = self.read.step(bytes);
        if let Some(head) = step.begun
            && let Err(cut) = self.judge(head)
        {
            self.budgets.cut = Some(cut);
            return Err(cut);
        }
        let ends_frame = step.ended.is_some();
        Ok(match (self.block, step.ended) {
            (Some(block), _) if block.ends && ends_frame => {
                self.block = None;
                Run::HeadEnd(step.bytes)
            }
            (None, Some(frame)) if frame.kind == HEADERS => Run::HeadEnd(step.bytes),
            (Some(_), _) => Run::InHead(step.bytes),
            (None, _) => Run::Plain(step.bytes),
        })
    }

    /// Takes note of bytes that were written to the client.
    pub fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(head) = self.written.next(&mut bytes) {
            self.note(head);
        }
    }

    /// The verdict, which may be due to what the edge had to write.
    pub fn cut(&self) -> Option<Cut> {
        self.budgets.cut
    }

    /// The head that was whole last, once [`Run::HeadEnd`] has been told.
    pub fn head(&self) -> SentHead {
        self.head
    }

    /// So many streams more are about to be reset for want of room, which is not the client's fault.
    pub fn refuse(&mut self, streams: u32) {
        self.refused += streams;
    }

    /// A head has begun and is not whole.
    pub fn is_in_head(&self) -> bool {
        self.block.is_some() || self.read.frame().is_some_and(|frame| frame.kind == HEADERS)
    }

    /// The frame that says goodbye, if one may be written now; between two frames, that is.
    pub fn goodbye(&self, cut: Cut) -> Option<Vec<u8>> {
        self.written.is_between().then(|| goodbye(self.last_stream, cut))
    }

    fn judge(&mut self, head: FrameHead) -> Result<(), Cut> {
        match head.kind {
            HEADERS => {
                if head.stream > self.last_stream {
                    self.last_stream = head.stream;
                    self.budgets.control.note_request();
                }
                self.block = (head.flags & END_HEADERS == 0).then(Block::default);
                self.head = SentHead { stream: head.stream, bytes: 0 };
                self.grow(head)
            }
            CONTINUATION => self.grow(head),
            // Whatever comes between the frames of a head is an error that the codec finds.
            kind => {
                self.block = None;
                match kind {
                    DATA if head.length == 0 && head.flags & END_STREAM == 0 => {
                        self.empty_data += 1;
                        if self.empty_data > EMPTY_DATA_MAX { Err(Cut::EmptyData) } else { Ok(()) }
                    }
                    DATA => Ok(()),
                    _ => self.budgets.judge(head),
                }
            }
        }
    }

    /// A head has one frame more.
    fn grow(&mut self, head: FrameHead) -> Result<(), Cut> {
        self.head.bytes = self.head.bytes.saturating_add(head.length);
        let Some(block) = &mut self.block else { return Ok(()) };
        block.ends = head.flags & END_HEADERS != 0;
        block.continuations += u32::from(head.kind == CONTINUATION && !block.ends);
        if block.continuations > CONTINUATIONS_MAX {
            Err(Cut::Continuations)
        } else if self.head.bytes > BLOCK_BYTES_MAX {
            Err(Cut::HeadBytes)
        } else {
            Ok(())
        }
    }

    fn note(&mut self, head: FrameHead) {
        match head.kind {
            DATA => self.budgets.control.note_data(head.length),
            RST_STREAM if head.number == REFUSED_STREAM && self.refused > 0 => self.refused -= 1,
            // What the edge ends for its own reasons is not held against the client, and what stalls has its limit.
            RST_STREAM if !matches!(head.number, NO_ERROR | INTERNAL_ERROR | CANCEL) => {
                let cost = if head.number == REFUSED_STREAM { RESET_REFUSED } else { RESET_BY_EDGE };
                self.budgets.note_reset(cost);
            }
            _ => {}
        }
        if matches!(head.kind, DATA | HEADERS) && head.flags & END_STREAM != 0 {
            self.budgets.resets.give_back(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::frames::budgets::RESETS_PER_S;
    use crate::frames::testing::{PING, PROTOCOL_ERROR, frame, measures, opens, reset};
    use crate::frames::{ENHANCE_YOUR_CALM, GOAWAY, SETTINGS, WINDOW_UPDATE};

    const WHOLE: usize = 1 << 30;

    /// A connection whose preface has been read.
    fn begun() -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        assert_eq!(frames.read(&[b'P'; PREFACE_BYTES], now), Ok(Run::Plain(PREFACE_BYTES)));
        (frames, now)
    }

    /// Where heads end, and what ends it all, for bytes that come in pieces of this size.
    fn heads(frames: &mut Frames, bytes: &[u8], piece: usize, now: Instant) -> (Vec<usize>, Option<Cut>) {
        let (mut ends, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            match frames.read(&bytes[at..bytes.len().min(at + piece)], now) {
                Ok(Run::Plain(length) | Run::InHead(length)) => at += length,
                Ok(Run::HeadEnd(length)) => {
                    at += length;
                    ends.push(at);
                }
                Err(cut) => return (ends, Some(cut)),
            }
        }
        (ends, None)
    }

    #[test]
    fn a_head_ends_with_its_last_frame() {
        let check = |sent: &[Vec<u8>], expected: &[usize]| {
            let (mut frames, now) = begun();
            assert_eq!(heads(&mut frames, &sent.concat(), WHOLE, now), (expected.to_vec(), None));
        };
        check(&[frame(HEADERS, END_HEADERS, 1, b"abc")], &[12]);
        check(&[frame(HEADERS, END_HEADERS, 1, b"")], &[9]);
        check(&[frame(HEADERS, 0, 1, b"abc"), frame(CONTINUATION, END_HEADERS, 1, b"d")], &[22]);
        check(&[frame(HEADERS, 0, 1, b"a"), frame(CONTINUATION, 0, 1, b""), frame(CONTINUATION, 4, 1, b"")], &[28]);
        check(&[frame(DATA, 0, 1, b"abc"), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"a")], &[22]);
        // An error of order, which is the codec's to find.
        check(&[frame(HEADERS, 0, 1, b"a"), frame(PING, 0, 0, &[0; 8]), frame(CONTINUATION, 4, 1, b"")], &[]);
    }

    #[test]
    fn what_is_in_a_head_is_told_apart() {
        let (mut frames, now) = begun();
        let (first, last) = (frame(HEADERS, 0, 1, b"abc"), frame(CONTINUATION, END_HEADERS, 1, b"d"));
        assert_eq!(frames.read(&first, now), Ok(Run::InHead(9)));
        assert_eq!(frames.read(&first[9..], now), Ok(Run::InHead(3)));
        assert!(frames.is_in_head());
        assert_eq!(frames.read(&last, now), Ok(Run::InHead(9)));
        assert_eq!(frames.read(&last[9..], now), Ok(Run::HeadEnd(1)));
        assert_eq!(frames.head(), SentHead { stream: 1, bytes: 4 });
        assert!(!frames.is_in_head());
        // One frame that comes in pieces waits in the codec, which does not unpack it before it is whole.
        let whole = frame(HEADERS, END_HEADERS, 3, b"abc");
        assert_eq!(frames.read(&whole[..9], now), Ok(Run::Plain(9)));
        assert!(frames.is_in_head());
        assert_eq!(frames.read(&whole[9..], now), Ok(Run::HeadEnd(3)));
        assert_eq!(frames.head(), SentHead { stream: 3, bytes: 3 });
    }

    #[test]
    fn b7_heads_without_end() {
        let check = |piece: &[u8], count: usize, expected: Option<Cut>| {
            let (mut frames, now) = begun();
            let sent = [frame(HEADERS, 0, 1, b"a"), frame(CONTINUATION, 0, 1, piece).repeat(count)].concat();
            assert_eq!(heads(&mut frames, &sent, WHOLE, now).1, expected, "{count}");
        };
        check(b"", 5, None);
        check(b"", 6, Some(Cut::Continuations));
        check(&[0; 16_384], 3, None);
        check(&[0; 16_384], 4, Some(Cut::HeadBytes));
    }

    #[test]
    fn b5_b6_resets_of_either_side_are_one_budget() {
        let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"a");
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88");
        /// What the client sends and what the edge writes, in turns.
        type Turn = (Vec<u8>, Vec<u8>);
        let check = |turn: Turn, survives: usize| {
            let (mut frames, now) = begun();
            let turns = (0..2000).take_while(|_| {
                let read = heads(&mut frames, &turn.0, WHOLE, now).1;
                frames.wrote(&turn.1);
                read.is_none() && frames.cut().is_none()
            });
            assert_eq!(turns.count(), survives, "{turn:?}");
        };
        check(([get.clone(), reset(1, CANCEL)].concat(), vec![]), 256);
        check((get.clone(), reset(1, PROTOCOL_ERROR)), 128);
        check(([get.clone(), reset(1, CANCEL)].concat(), reset(1, PROTOCOL_ERROR)), 85);
        check((get.clone(), reset(1, REFUSED_STREAM)), 256);
        check(([get.clone(), get.clone(), reset(1, CANCEL)].concat(), answer), 2000);
        // What the origin did, and an answer that came before the end of the request.
        check((get.clone(), reset(1, INTERNAL_ERROR)), 2000);
        check((get.clone(), reset(1, NO_ERROR)), 2000);
        // A stream that stalled.
        check((get, reset(1, CANCEL)), 2000);
    }

    #[test]
    fn streams_that_the_edge_has_no_room_for_are_not_held_against_the_client() {
        let (mut frames, _) = begun();
        for _ in 0..2000 {
            frames.refuse(1);
            frames.wrote(&reset(1, REFUSED_STREAM));
        }
        assert_eq!(frames.cut(), None);
        frames.wrote(&reset(1, REFUSED_STREAM).repeat(257));
        assert_eq!(frames.cut(), Some(Cut::Resets));
    }

    #[test]
    fn b10_frames_that_say_nothing() {
        let check = |sent: Vec<u8>, expected: Cut, survives: usize| {
            let (mut frames, now) = begun();
            let times = (0..5000).take_while(|_| heads(&mut frames, &sent, WHOLE, now).1.is_none());
            assert_eq!(times.count(), survives, "{expected}");
            assert_eq!(frames.cut(), Some(expected));
        };
        check(frame(PING, 0, 0, &[0; 8]), Cut::ControlFrames, 1000);
        check(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), Cut::ControlFrames, 1000);
        check(frame(0xee, 0, 0, b"grease"), Cut::ControlFrames, 1000);
        check(frame(SETTINGS, 0, 0, &[]), Cut::ControlFrames, 100);
        check(frame(DATA, 0, 1, &[]), Cut::EmptyData, 100);
    }

    #[test]
    fn b10_windows_that_are_opened_by_a_byte() {
        let one = 1_u32.to_be_bytes();
        let ping = frame(PING, 0, 0, &[0; 8]);
        let opens = frame(WINDOW_UPDATE, 0, 1, &one);
        for (says, survives) in [(opens.clone(), 1000), ([opens, ping].concat(), 500)] {
            let (mut frames, now) = begun();
            let turns = (0..5000).take_while(|_| {
                frames.wrote(&frame(DATA, 0, 1, b"x"));
                heads(&mut frames, &says, WHOLE, now).1.is_none()
            });
            assert_eq!(turns.count(), survives);
            assert_eq!(frames.cut(), Some(Cut::ControlFrames));
        }
    }

    #[test]
    fn what_goes_with_work_or_comes_slowly_is_no_flood() {
        // 4 KiB at a time of a large response, and each message of a stream of small ones.
        for (came, says, times) in [(16 * 1024, opens(4096), 4), (20, measures(20), 1)] {
            let (mut frames, now) = begun();
            for _ in 0..10_000 {
                frames.wrote(&frame(DATA, 0, 1, &vec![0; came]));
                assert_eq!(heads(&mut frames, &says.repeat(times), WHOLE, now).1, None);
            }
        }
        let (mut frames, now) = begun();
        for second in 0..10_000 {
            let pings = frame(PING, 0, 0, &[0; 8]).repeat(100);
            assert_eq!(heads(&mut frames, &pings, WHOLE, now + Duration::from_secs(second)).1, None);
        }
        let (mut frames, now) = begun();
        for n in 0..10_000 {
            let request = frame(HEADERS, END_HEADERS, 2 * n + 1, b"a");
            let sent = [request, frame(PING, 0, 0, &[0; 8]).repeat(8)].concat();
            assert_eq!(heads(&mut frames, &sent, WHOLE, now).1, None);
        }
    }

    #[test]
    fn the_goodbye_is_a_frame_between_frames() {
        let (mut frames, now) = begun();
        heads(&mut frames, &frame(HEADERS, END_HEADERS, 7, b"a"), WHOLE, now);
        let goodbye = frames.goodbye(Cut::Resets).unwrap();
        let payload = [&7_u32.to_be_bytes()[..], &ENHANCE_YOUR_CALM.to_be_bytes(), b"resets"].concat();
        assert_eq!(goodbye, frame(GOAWAY, 0, 0, &payload));
        frames.wrote(&frame(DATA, 0, 7, b"data")[..11]);
        assert_eq!(frames.goodbye(Cut::Resets), None);
    }

    #[test]
    fn a_client_that_leaves_a_stream_now_and_then_stays() {
        let (mut frames, start) = begun();
        let left = [frame(HEADERS, END_HEADERS | END_STREAM, 1, b"a"), reset(1, CANCEL)].concat();
        for second in 0..100 {
            for _ in 0..RESETS_PER_S {
                assert_eq!(heads(&mut frames, &left, WHOLE, start + Duration::from_secs(second)).1, None);
            }
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![4 => 0..10_u8, 1 => any::<u8>()];
        (kind, any::<u8>(), 0..9_u32, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
    }

    proptest! {
        #[test]
        fn verdicts_do_not_depend_on_how_bytes_are_cut_up(
            sent in prop::collection::vec(any_frame(), 0..300), piece in 1..50_usize,
        ) {
            let ((mut whole, now), (mut cut_up, _)) = (begun(), begun());
            let sent = sent.concat();
            prop_assert_eq!(heads(&mut whole, &sent, WHOLE, now), heads(&mut cut_up, &sent, piece, now));
            prop_assert_eq!(whole.is_in_head(), cut_up.is_in_head());
            whole.wrote(&sent);
            sent.chunks(piece).for_each(|bytes| cut_up.wrote(bytes));
            prop_assert_eq!((whole.cut(), whole.budgets.resets.count), (cut_up.cut(), cut_up.budgets.resets.count));
            prop_assert_eq!(whole.goodbye(Cut::Codec), cut_up.goodbye(Cut::Codec));
        }

        #[test]
        fn every_byte_is_told_and_garbage_is_no_danger(sent in prop::collection::vec(any::<u8>(), 0..2000)) {
            let (mut frames, now) = begun();
            let mut at = 0;
            while at < sent.len() {
                match frames.read(&sent[at..], now) {
                    Ok(Run::Plain(length) | Run::InHead(length) | Run::HeadEnd(length)) => {
                        prop_assert!(length > 0);
                        at += length;
                    }
                    Err(cut) => {
                        prop_assert_eq!(frames.cut(), Some(cut));
                        break;
                    }
                }
            }
            prop_assert!(at <= sent.len());
        }
    }
}
