//! Any bytes over HTTP/2, in any pieces, from a client and to it: the guard tells each byte once, its verdict does not
//! depend on the pieces, and once it is given it stays.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use tollgate::frames::{Cut, Frames, Run};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where heads end, and the verdict.
fn read(bytes: &[u8], piece: usize, now: Instant) -> (Vec<usize>, Option<Cut>) {
    let mut frames = Frames::new(now);
    let (mut heads, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match frames.read(&bytes[at..bytes.len().min(at + piece)], now) {
            Ok(Run::Plain(length) | Run::InHead(length)) => {
                assert!(length > 0);
                at += length;
            }
            Ok(Run::HeadEnd(length)) => {
                assert!(length > 0);
                at += length;
                heads.push(at);
            }
            Err(cut) => {
                assert_eq!((frames.cut(), frames.read(b"x", now)), (Some(cut), Err(cut)));
                break;
            }
        }
    }
    (heads, frames.cut())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let now = Instant::now();
    let sent = [PREFACE, bytes].concat();
    assert_eq!(read(&sent, 1 << 30, now), read(&sent, usize::from(piece).max(1), now));
    let mut frames = Frames::new(now);
    for part in bytes.chunks(usize::from(piece).max(1)) {
        frames.wrote(part);
    }
    let mut whole = Frames::new(now);
    whole.wrote(bytes);
    assert_eq!(frames.goodbye(Cut::Codec), whole.goodbye(Cut::Codec));
});
