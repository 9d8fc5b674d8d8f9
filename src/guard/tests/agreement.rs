//! The machine against a second reading of its rules, on good messages that were changed a little.

use proptest::prelude::*;

use super::*;
use crate::guard::reference::{self, End};
use crate::guard::target::check_target;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a?b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET http://a:80/ HTTP/1.1\r\nHost: A:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0A\r\n0123456789\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\n",
    ]);
    known.prop_map(|text| text.as_bytes().to_vec())
}

/// Good messages with some bytes put in, taken out or changed.
pub fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![prop::sample::select(b"\r\n \t:;,\"\\/?#*@[]=-0159aAfFzZ\0\x7f\x80%+".to_vec()), any::<u8>()];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, byte), 0..3);
    (prop::collection::vec(piece(), 1..4), edits).prop_map(|(pieces, edits)| {
        let mut bytes = pieces.concat();
        for (place, kind, byte) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes[at] = byte,
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

/// Where messages end, found by feeding byte by byte.
fn message_ends(bytes: &[u8]) -> Vec<usize> {
    let (mut machine, mut done, mut ends) = (Machine::default(), 0, Vec::new());
    for read in 1..=bytes.len() {
        loop {
            match machine.step(&bytes[done..read]) {
                Ok(Step::Wait) => break,
                Ok(Step::End) => ends.push(read),
                Ok(step) => done += step.bytes(),
                Err(_) => return ends,
            }
        }
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_machine_agrees_with_the_reference(bytes in client_bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let whole = feed([&bytes[..]]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&feed(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);

        let expected = reference::read(&bytes);
        prop_assert_eq!(message_ends(&bytes), expected.message_ends);
        match expected.end {
            End::Open => prop_assert_eq!(whole.stop, None),
            End::PartialLine => {}
            End::Refused => prop_assert!(matches!(whole.stop, Some(Stop::Refused(_)))),
            End::Violated => prop_assert!(matches!(whole.stop, Some(Stop::Violated(_)))),
            End::Held => prop_assert_eq!((whole.stop, whole.phase), (None, Phase::Held)),
            End::Ended => prop_assert_eq!((whole.stop, whole.phase), (None, Phase::Ended)),
        }
    }

    #[test]
    fn every_target_that_passes_is_a_uri(target in r"(/|http://a|https://\[::1\]:80/?|\*)[!-~]{0,12}", method in "GET|OPTIONS") {
        if check_target(method.as_bytes(), target.as_bytes()).is_ok() {
            prop_assert!(target.parse::<http::Uri>().is_ok(), "{}", target);
        }
    }
}
