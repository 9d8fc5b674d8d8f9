//! The encoding of Protocol Buffers as far as spans need it, in one pass into one buffer. Pure.
//!
//! The types of `opentelemetry-proto` own each text of a message, which are some fifty allocations a span.

use std::fmt::{self, Write as _};

/// How a value is written (§ "Message Structure" of the encoding).
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// A message, or part of one. As everywhere in this encoding, what is not written has its default.
#[derive(Debug, Default)]
pub struct Wire(pub Vec<u8>);

impl Wire {
    pub fn integer(&mut self, field: u32, value: u64) {
        self.tag(field, WireType::Varint);
        self.varint(value);
    }

    pub fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, WireType::Fixed64);
        self.0.extend(value.to_le_bytes());
    }

    pub fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, WireType::Fixed32);
        self.0.extend(value.to_le_bytes());
    }

    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.length(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// What a value is shown as.
    pub fn shown(&mut self, field: u32, value: impl fmt::Display) {
        // A buffer has always room.
        self.nested(field, |text| {
            let _never_fails = write!(text, "{value}");
        });
    }

    /// A field whose length shows when it is written.
    pub fn nested(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, WireType::Length);
        let begin = self.0.len();
        // Most are short, and their length is one byte.
        self.0.push(0);
        write(self);
        let length = self.0.len() - begin - 1;
        if let (Ok(short @ ..0x80), Some(byte)) = (u8::try_from(length), self.0.get_mut(begin)) {
            *byte = short;
            return;
        }
        let end = self.0.len();
        self.varint(length as u64);
        let size = self.0.len() - end;
        // The length comes before what it is of, in place of the byte.
        if let Some(written) = self.0.get_mut(begin..) {
            written.rotate_right(size);
        }
        self.0.remove(begin + size);
    }

    /// The beginning of a field whose `length` bytes follow.
    pub fn length(&mut self, field: u32, length: usize) {
        self.tag(field, WireType::Length);
        self.varint(length as u64);
    }

    fn tag(&mut self, field: u32, kind: WireType) {
        self.varint(u64::from(field << 3 | kind as u32));
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl fmt::Write for Wire {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
