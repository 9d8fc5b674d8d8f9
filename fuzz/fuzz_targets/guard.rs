//! The framing guard and a second reading of its rules agree on what is accepted and where messages end,
//! and the guard's verdict does not depend on how the bytes are cut up.
//!
//! `cargo fuzz run guard fuzz/corpus/guard fuzz/seeds/guard -- -dict=fuzz/guard.dict`; the others likewise, without a dictionary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::guard::{Machine, Phase, Step, Stop};

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

/// Feeds the bytes in pieces and says where messages ended.
fn feed(bytes: &[u8], piece_bytes: impl Fn(usize) -> usize) -> (Outcome, Vec<usize>) {
    let mut machine = Machine::default();
    let (mut read, mut released, mut requests, mut stop) = (0, 0, 0, None);
    let mut message_ends = Vec::new();
    while read < bytes.len() && stop.is_none() {
        read = bytes.len().min(read + piece_bytes(read));
        while stop.is_none() {
            match machine.step(&bytes[released..read]) {
                Ok(Step::Wait) => break,
                Ok(step) => {
                    requests += u64::from(matches!(step, Step::Head(_)));
                    released += step.bytes();
                    if step == Step::End {
                        message_ends.push(read);
                    }
                }
                Err(found) => stop = Some(found),
            }
        }
    }
    (Outcome { released, requests, phase: machine.phase(), stop }, message_ends)
}
