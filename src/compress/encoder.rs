//! Coding of content: as it comes, or whole.
//!
//! Streams are coded by the codecs of async-compression, gzip by zlib-rs. A body that is whole is coded by libdeflate
//! where it is gzip: in half the time of zlib-rs for about the same size (see `level_of_libdeflate`).

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use async_compression::Level;
use async_compression::codecs::brotli::params::EncoderParams;
use async_compression::codecs::zstd::params::CParameter;
use async_compression::codecs::{BrotliEncoder, EncodeV2, GzipEncoder, ZstdEncoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::Bytes;
use flate2::Compression;
use http::HeaderMap;
use libdeflater::{CompressionLvl, Compressor};

use crate::body::{BodyError, Codec};
use crate::config::Coding;

use super::head;

/// What is coded at once, on the stack.
const PIECE_BYTES: usize = 8 * 1024;

/// Windows of a stream, as powers of two: what it may refer back to, and keep. RFC 9659 lets zstd use 8 MiB; 512 KiB
/// cost one per cent in size and keep a stream under 1.5 MiB in all.
const WINDOW_LOG_MIN: u32 = 10;
const ZSTD_WINDOW_LOG_MAX: u32 = 19;
const ZSTD_HASH_LOG_MAX: u32 = 17;
const ZSTD_CHAIN_LOG_MAX: u32 = 16;
const BR_WINDOW_LOG_MAX: u32 = 18;
const BR_BLOCK_LOG: i32 = 16;

/// Bytes that are coded within a millisecond, as measured on JSON and source text.
pub fn share(coding: Coding, level: u32) -> usize {
    match (coding, level) {
        (Coding::Gzip | Coding::Zstd, ..=6) | (Coding::Br, ..=4) => 64 * 1024,
        _ => 32 * 1024,
    }
}

/// Brotli codes blocks of 64 KiB, which at these levels take nearly two milliseconds, unless it is made to sooner.
fn cuts_blocks(coding: Coding, level: u32) -> bool {
    coding == Coding::Br && level > 4
}

/// Codes a body as it comes.
pub struct Encoder {
    codec: Box<dyn EncodeV2 + Send>,
    share: usize,
    cuts_blocks: bool,
}

impl Encoder {
    /// `reach` is how far back it is worth to look, if that is known: the length of the content at most. The less it
    /// is, the less memory is taken.
    pub fn new(coding: Coding, level: u32, reach: Option<usize>) -> Self {
        let window = reach.and_then(usize::checked_next_power_of_two).map_or(u32::MAX, usize::trailing_zeros);
        let codec: Box<dyn EncodeV2 + Send> = match coding {
            Coding::Gzip => Box::new(GzipEncoder::new(Compression::new(level).into())),
            Coding::Br => {
                // Of its window, 16 bytes are not for use.
                let window = window.saturating_add(1).clamp(WINDOW_LOG_MIN, BR_WINDOW_LOG_MAX);
                let parameters = EncoderParams::default()
                    .quality(Level::Precise(level.cast_signed()))
                    .window_size(window.cast_signed())
                    .block_size(BR_BLOCK_LOG)
                    .size_hint(reach.unwrap_or(0));
                Box::new(BrotliEncoder::new(parameters))
            }
            Coding::Zstd => {
                let window = window.clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
                let parameters = [
                    CParameter::window_log(window),
                    CParameter::hash_log(window.min(ZSTD_HASH_LOG_MAX)),
                    CParameter::chain_log(window.min(ZSTD_CHAIN_LOG_MAX)),
                ];
                Box::new(ZstdEncoder::new_with_params(level.cast_signed(), &parameters))
            }
        };
        Self { codec, share: share(coding, level), cuts_blocks: cuts_blocks(coding, level) }
    }

    fn encode(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        let mut input = PartialBuffer::new(bytes);
        while !input.unwritten().is_empty() {
            give(output, |piece| self.codec.encode(&mut input, piece))?;
        }
        Ok(())
    }
}

/// Has a codec write into a piece of memory and appends what it wrote.
fn give<T>(output: &mut Vec<u8>, write: impl FnOnce(&mut WriteBuffer<'_>) -> io::Result<T>) -> io::Result<T> {
    let mut memory = [0; PIECE_BYTES];
    let mut piece = WriteBuffer::new_initialized(&mut memory);
    let result = write(&mut piece)?;
    output.extend_from_slice(piece.written());
    Ok(result)
}

impl Codec for Encoder {
    fn share(&self) -> usize {
        self.share
    }

    fn step(&mut self, input: &mut Bytes, output: &mut Vec<u8>) -> Result<bool, BodyError> {
        let slice = input.split_to(input.len().min(self.share));
        self.encode(&slice, output).map_err(failed)?;
        if self.cuts_blocks {
            self.flush(output)?;
        }
        Ok(false)
    }

    fn flush(&mut self, output: &mut Vec<u8>) -> Result<(), BodyError> {
        while !give(output, |piece| self.codec.flush(piece)).map_err(failed)? {}
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), BodyError> {
        while !give(output, |piece| self.codec.finish(piece)).map_err(failed)? {}
        Ok(())
    }

    fn settle_trailers(&self, trailers: &mut HeaderMap) {
        head::settle_trailers(trailers);
    }
}

/// Codes a content that is whole. It takes as long as it takes: see [`share`].
pub fn code_whole(bytes: &[u8], coding: Coding, level: u32) -> io::Result<Bytes> {
    if coding == Coding::Gzip {
        return gzip_whole(bytes, level);
    }
    let mut encoder = Encoder::new(coding, level, Some(bytes.len()));
    let mut output = Vec::with_capacity(bytes.len() / 2);
    encoder.encode(bytes, &mut output)?;
    while !give(&mut output, |piece| encoder.codec.finish(piece))? {}
    Ok(output.into())
}

thread_local! {
    /// The last compressor of this thread with its level: to make one takes longer than to code a small body.
    static LIBDEFLATE: RefCell<Option<(u32, Compressor)>> = const { RefCell::new(None) };
}

fn gzip_whole(bytes: &[u8], level: u32) -> io::Result<Bytes> {
    LIBDEFLATE.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(of, _)| *of != level) {
            *last = Some((level, Compressor::new(level_of_libdeflate(level))));
        }
        let Some((_, compressor)) = last else { return Err(io::Error::other("no compressor")) };
        let mut output = vec![0; compressor.gzip_compress_bound(bytes.len())];
        let length = compressor.gzip_compress(bytes, &mut output).map_err(io::Error::other)?;
        // The bound is larger than the content.
        output.truncate(length);
        output.shrink_to_fit();
        Ok(output.into())
    })
}

/// The level that gives about the size of zlib's. JSON of 32 KiB at 6: 320 µs and 6571 bytes by zlib-rs, 140 µs and
/// 6861 bytes by libdeflate's 5; a text of 1 MiB: 14.3 ms and 284 kB, 8.0 ms and 286 kB.
fn level_of_libdeflate(level: u32) -> CompressionLvl {
    let level = i32::try_from(level).map_or(1, |level| level - 1).max(1);
    CompressionLvl::new(level).unwrap_or_default()
}

pub fn failed(error: io::Error) -> BodyError {
    BodyError::Coding(Arc::new(error))
}
