//! What an endpoint sends is read alike however it is cut up, ends where a second reading of the rules ends it, and is
//! never more than came.
//!
//! The first byte chooses the method of the request and the size of the pieces; the rest is the response.
#![no_main]

use bytes::BytesMut;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use tollgate::upstream_parts::{AsLines, Decoder, InPlace, Piece, head_end, read_head, read_in_place};

#[derive(Debug, PartialEq)]
struct Outcome {
    statuses: Vec<u16>,
    fields: usize,
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Where the body stands, or why it is none.
    end: Result<Option<Decoder>, String>,
    begun: Option<Begun>,
    /// Where the whole message ended, if it has.
    used: Option<usize>,
}

/// Where a body began, and as what.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Begun {
    at: usize,
    decoder: Decoder,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, response)) = bytes.split_first() else { return };
    let method = if first & 1 == 0 { Method::GET } else { Method::HEAD };
    let whole = read(response, &method, |_| response.len());
    assert_eq!(read(response, &method, |_| 1), whole);
    let step = 1 + usize::from(first >> 1);
    assert_eq!(read(response, &method, |at| step.min(1 + usize::from(response[at]))), whole);

    assert!(whole.data.len() <= response.len());
    assert!(whole.statuses.iter().all(|status| (100..=599).contains(status)));
    let Some(&status) = whole.statuses.last() else { return };
    if method == Method::HEAD || status == 204 || status == 304 {
        assert!(whole.data.is_empty());
    }
    let (Some(begun), Some(used)) = (whole.begun, whole.used) else { return };
    let message = &response[..used];
    assert_eq!(read(message, &method, |_| used).used, Some(used), "the end depends on what follows");
    let body = &message[begun.at..];
    match begun.decoder {
        Decoder::Length(length) => assert_eq!(body.len() as u64, length),
        Decoder::Ended => assert!(body.is_empty()),
        Decoder::ChunkSize => return assert_eq!(chunked(body), Some(whole.data)),
        other => panic!("{other:?} has an end"),
    }
    assert_eq!(body, whole.data);
});

/// Feeds the bytes in pieces, as a connection does.
fn read(bytes: &[u8], method: &Method, piece_bytes: impl Fn(usize) -> usize) -> Outcome {
    let (mut buffer, mut fed, mut searched, mut decoder) = (BytesMut::new(), 0, 0, None);
    let mut outcome =
        Outcome { statuses: vec![], fields: 0, data: vec![], trailers: None, end: Ok(None), begun: None, used: None };
    while fed < bytes.len() {
        let piece = piece_bytes(fed).min(bytes.len() - fed);
        buffer.extend_from_slice(&bytes[fed..fed + piece]);
        fed += piece;
        while decoder.is_none() {
            let in_place = read_in_place(&buffer, AsLines { coded: None });
            let Some(end) = head_end(&buffer, &mut searched) else {
                assert!(matches!(in_place, InPlace::Unclear));
                break;
            };
            searched = 0;
            let head = buffer.split_to(end).freeze();
            let received = match read_head(&head, HeaderMap::new) {
                Ok(received) => received,
                Err(error) => return Outcome { end: Err(error.to_string()), ..outcome },
            };
            // However its fields are had, it ends alike.
            match in_place {
                InPlace::Lines(read, bytes) => {
                    assert_eq!((read.length, read.keeps_alive, bytes), (received.length, received.keeps_alive, end))
                }
                InPlace::ForMap(bytes) => assert_eq!(bytes, end),
                // It begins with empty lines.
                InPlace::Unclear => {}
            }
            outcome.statuses.push(received.response.status().as_u16());
            outcome.fields += received.response.headers().len();
            if received.response.status().is_informational() {
                continue;
            }
            let made = received.length.and_then(|length| Decoder::new(method, &received.response, length));
            match made {
                Ok(made) => {
                    outcome.begun = Some(Begun { at: fed - buffer.len(), decoder: made });
                    decoder = Some(made);
                }
                Err(error) => return Outcome { end: Err(error.to_string()), ..outcome },
            }
        }
        let Some(decoder) = &mut decoder else { continue };
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Piece::Data(data))) => outcome.data.extend_from_slice(&data),
                Ok(Some(Piece::Trailers(trailers))) => outcome.trailers = Some(trailers),
                Ok(None) => break,
                Err(error) => return Outcome { end: Err(error.to_string()), ..outcome },
            }
        }
        if *decoder == Decoder::Ended && outcome.used.is_none() {
            outcome.used = Some(fed - buffer.len());
        }
    }
    Outcome { end: Ok(decoder), ..outcome }
}

/// A second reading of a whole chunked body: each size line names exactly the data behind it.
fn chunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let line = find(body, b"\r\n")?;
        let digits = body[..line].iter().take_while(|byte| byte.is_ascii_hexdigit()).map(|byte| *byte as char);
        let size = usize::from_str_radix(&digits.collect::<String>(), 16).ok()?;
        body = &body[line + 2..];
        if size == 0 {
            return body.ends_with(b"\n").then_some(data);
        }
        data.extend_from_slice(body.get(..size)?);
        body = body.get(size + 2..)?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
