//! Ranges lie within the body, apart from each other and in number bounded; and a response is recognised by what a
//! validation of it asks. Input: a length, a `Range`, then the fields of a request, an empty line, and of a response.
#![no_main]

mod fields;

use std::time::SystemTime;

use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use tollgate::cache_parts::{
    Multipart, Piece, Selection, Validators, Verdict, evaluate, not_modified, range_applies, select, validate,
};

const PARTS_MAX: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (length, range, heads) = (line(), line(), line());
    let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).unwrap_or(0);
    check_range(range, length);
    check_range(range, u64::MAX);

    let end = heads.windows(2).position(|pair| pair == b"\n\n").unwrap_or(heads.len());
    let (request, response) = (fields::read(&heads[..end]), fields::read(&heads[end..]));
    check_conditions(&request, &response);
});

fn check_range(value: &[u8], length: u64) {
    let slices = match select(value, length) {
        Selection::Whole | Selection::Unsatisfiable => return,
        Selection::Single(slice) => vec![slice],
        Selection::Several(slices) => {
            assert!((2..=PARTS_MAX).contains(&slices.len()));
            slices
        }
    };
    for (place, slice) in slices.iter().enumerate() {
        assert!(slice.first <= slice.last && slice.last < length);
        for other in &slices[..place] {
            // Neither overlapping nor touching.
            assert!(slice.first > other.last + 1 || other.first > slice.last + 1);
        }
    }
    let parts = Multipart::new(&slices, length, Some(&HeaderValue::from_static("text/plain")), 7);
    let sizes = parts.pieces().map(|piece| match piece {
        Piece::Head(bytes) | Piece::Tail(bytes) => bytes.len() as u64,
        Piece::Slice(slice) => slice.length(),
    });
    assert_eq!(sizes.fold(0, u64::saturating_add), parts.content_length());
}

fn check_conditions(request: &HeaderMap, response: &HeaderMap) {
    let validators = Validators { response, received: SystemTime::UNIX_EPOCH, is_stored: true };
    let _ = evaluate(&Method::GET, request, &validators);
    assert_eq!(evaluate(&Method::PUT, request, &validators), Verdict::Send);
    if let Some(only) = request.get(IF_RANGE)
        && only.as_bytes().starts_with(b"W/")
    {
        assert!(!range_applies(request, &validators));
    }

    let mut asking = request.clone();
    let has_validator = validate(&mut asking, [response]);
    for name in [IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE] {
        assert!(!asking.contains_key(name));
    }
    let asks = [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| asking.contains_key(name));
    assert_eq!(asks, has_validator);
    if asking.contains_key(IF_NONE_MATCH) {
        let verdict = evaluate(&Method::GET, &asking, &validators);
        assert_eq!(verdict, Verdict::NotModified);
    }

    let mut left = response.clone();
    not_modified(&mut left);
    assert!(!left.contains_key(CONTENT_LENGTH) && !left.contains_key(CONTENT_RANGE));
    assert_eq!(left.contains_key(ETAG), response.contains_key(ETAG));
}
