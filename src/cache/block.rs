//! Bytes whose count of who has them lies before them.
//!
//! `Bytes` of a `Vec` keep that count in a place of its own, and where a million are stored each place that a hit looks at is a
//! wait for memory.

use bytes::Bytes;

/// With the count, which `bytes` puts before it, as long as one of the allocator's sizes.
struct Block<const N: usize>([u8; N]);

impl<const N: usize> AsRef<[u8]> for Block<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> Block<N> {
    /// Of no more than N. Not inlined: the smallest would have the stack of the largest.
    #[inline(never)]
    fn of(bytes: &[u8]) -> Bytes {
        let mut block = [0; N];
        block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let mut all = Bytes::from_owner(Self(block));
        all.truncate(bytes.len());
        all
    }
}

macro_rules! block_of {
    ($bytes:expr; $($size:literal)*) => {
        match $bytes.len() {
            $(..=$size => Block::<$size>::of($bytes),)*
            _ => Bytes::copy_from_slice($bytes),
        }
    };
}

/// A copy of these bytes.
pub fn of(bytes: &[u8]) -> Bytes {
    block_of!(bytes; 56 120 184 248 312 376 440 504 632 760 888 1016 1272 1528 1784 2040 2552 3064 3576 4088 5112 6136 7160 8184)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_same_bytes_at_every_length() {
        let bytes: Vec<u8> = (0..9000_u32).map(|at| at as u8).collect();
        for length in (0..bytes.len()).step_by(7).chain([56, 57, 8184, 8185]) {
            let block = of(&bytes[..length]);
            assert_eq!(block, bytes[..length]);
            drop(block.slice(length / 2..));
            assert_eq!(block.slice(length / 3..), bytes[length / 3..length]);
        }
    }
}
