//! The framing guard and a second reading of its rules agree on what is accepted and where messages end,
//! and the guard's verdict does not depend on how the bytes are cut up.
//!
//! `cargo fuzz run guard fuzz/corpus/guard fuzz/seeds/guard -- -dict=fuzz/guard.dict`; the others likewise, without a dictionary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::guard::{Machine, Phase, Stop};

#[path = "../../src/guard/reference.rs"]
mod reference;

use reference::End;

#[derive(Debug, PartialEq)]
struct Outcome {
    released: usize,
    requests: u64,
    phase: Phase,
    stop: Option<Stop>,
}

fuzz_target!(|bytes: &[u8]| {
    let (whole, _) = feed(bytes, |_| bytes.len());
    let (by_byte, message_ends) = feed(bytes, |_| 1);
    assert_eq!(by_byte, whole);
    // Pieces whose sizes follow from the bytes before, so that an input keeps its verdict.
    let (in_pieces, _) = feed(bytes, |at| 1 + usize::from(bytes[at]) % 64);
    assert_eq!(in_pieces, whole);

    let expected = reference::read(bytes);
    assert_eq!(message_ends, expected.message_ends);
    match expected.end {
        End::Open => assert_eq!(whole.stop, None),
        End::PartialLine => {}
        End::Refused => assert!(matches!(whole.stop, Some(Stop::Refused(_)))),
        End::Violated => assert!(matches!(whole.stop, Some(Stop::Violated(_)))),
        End::Held => assert_eq!((whole.stop, whole.phase), (None, Phase::Held)),
        End::Ended => assert_eq!((whole.stop, whole.phase), (None, Phase::Ended)),
    }
});

/// Feeds the bytes in pieces and says where a message was at its end between two of them.
fn feed(bytes: &[u8], piece_bytes: impl Fn(usize) -> usize) -> (Outcome, Vec<usize>) {
    let mut machine = Machine::default();
    let (mut read, mut released, mut stop) = (0, 0, None);
    let (mut message_ends, mut is_open) = (Vec::new(), false);
    while read < bytes.len() && stop.is_none() {
        read = bytes.len().min(read + piece_bytes(read));
        let before = machine.requests();
        let progress = machine.inspect(&bytes[released..read]);
        released += progress.released;
        stop = progress.stop;
        is_open |= machine.requests() > before;
        if is_open && stop.is_none() && machine.phase() != Phase::Body {
            message_ends.push(read);
            is_open = false;
        }
    }
    (Outcome { released, requests: machine.requests(), phase: machine.phase(), stop }, message_ends)
}
