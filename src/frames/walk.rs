//! Where frames begin and end in bytes that come in pieces. It keeps the head of a frame, and of the payload the code of
//! a reset and by how much a window is opened.

use super::{RST_STREAM, WINDOW_UPDATE};

const HEAD_BYTES: usize = 9;

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameHead {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    /// The code of a reset, or by how much a WINDOW_UPDATE opens a window.
    pub number: u32,
}

/// A place in a sequence of frames.
#[derive(Debug, Default)]
pub struct Walk {
    head: [u8; HEAD_BYTES + 4],
    have: usize,
    /// Of the payload of `frame`.
    left: usize,
    /// The one that has begun and not ended.
    frame: Option<FrameHead>,
}

/// A step to the end of a head, of a payload or of the bytes.
pub struct Step {
    pub bytes: usize,
    pub begun: Option<FrameHead>,
    pub ended: Option<FrameHead>,
}

impl Walk {
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.frame.is_none()
    }

    /// The next frame that begins in `bytes`, which are passed over up to there.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        while !bytes.is_empty() {
            let step = self.step(bytes);
            *bytes = bytes.get(step.bytes..).unwrap_or_default();
            if step.begun.is_some() {
                return step.begun;
            }
        }
        None
    }

    pub fn step(&mut self, bytes: &[u8]) -> Step {
        if let Some(frame) = self.frame {
            let length = self.left.min(bytes.len());
            self.left -= length;
            let ended = (self.left == 0).then_some(frame);
            self.frame = self.frame.filter(|_| self.left > 0);
            return Step { bytes: length, begun: None, ended };
        }
        let mut length = 0;
        while let Some(&byte) = bytes.get(length) {
            if let Some(place) = self.head.get_mut(self.have) {
                *place = byte;
            }
            (self.have, length) = (self.have + 1, length + 1);
            if self.have >= self.wanted() {
                let begun = self.head();
                self.left = begun.length.saturating_sub(self.have - HEAD_BYTES);
                self.have = 0;
                let ended = (self.left == 0).then_some(begun);
                self.frame = Some(begun).filter(|_| self.left > 0);
                return Step { bytes: length, begun: Some(begun), ended };
            }
        }
        Step { bytes: length, begun: None, ended: None }
    }

    /// The frame that has begun and not ended.
    pub fn frame(&self) -> Option<FrameHead> {
        self.frame
    }

    /// A frame that is a number is known once that is.
    fn wanted(&self) -> usize {
        let [_, _, length, kind, ..] = self.head;
        let is_number = self.have >= HEAD_BYTES && matches!(kind, RST_STREAM | WINDOW_UPDATE);
        if is_number { HEAD_BYTES + usize::from(length.min(4)) } else { HEAD_BYTES }
    }

    fn head(&self) -> FrameHead {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, n0, n1, n2, n3] = self.head;
        FrameHead {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        }
    }
}
