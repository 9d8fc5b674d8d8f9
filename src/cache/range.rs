//! Which bytes of a response a `Range` asks for (RFC 9110 §14).
//!
//! It decides about a response of 200 with a known length, and about bytes alone. What is malformed is ignored, and
//! the whole is sent. Ranges that overlap or touch are joined first, so no byte is sent twice; if more than
//! ten are left, the whole is cheaper for everybody.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method};

use super::conditional::{self, Validators};
use crate::header::entity_tag::single;

/// How many parts are sent at most.
const PARTS_MAX: usize = 10;

/// A part of a body. Both ends are included, and below its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    pub first: u64,
    pub last: u64,
}

/// What is sent of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// 200: there is no `Range`, or it is one to be ignored.
    Whole,
    /// 206 with `Content-Range`.
    Single(Slice),
    /// 206 with `multipart/byteranges`: two to ten slices apart from each other, as they were asked for.
    Several(Vec<Slice>),
    /// 416 with `Content-Range: bytes */N`.
    Unsatisfiable,
}

/// The `Range` that counts: that of a GET, in one line, where `If-Range` allows it.
pub fn asked<'a>(method: &Method, request: &'a HeaderMap, selected: &Validators<'_>) -> Option<&'a HeaderValue> {
    if *method != Method::GET {
        return None;
    }
    let range = single(request, &RANGE)?;
    conditional::range_applies(request, selected).then_some(range)
}

/// What of a body of `length` bytes the value of a `Range` asks for.
pub fn select(range: &[u8], length: u64) -> Selection {
    // How many ranges there can be is bounded by the size of a request head.
    let Some(specs) = specs(range) else { return Selection::Whole };
    let satisfiable: Vec<_> = specs.iter().filter(|spec| spec.is_satisfiable(length)).collect();
    if satisfiable.is_empty() {
        return Selection::Unsatisfiable;
    }
    let joined = join(satisfiable.iter().filter_map(|spec| spec.slice(length)));
    match &joined[..] {
        // The end of nothing is satisfiable, but has no first byte that could be named.
        [] => Selection::Whole,
        [single] => Selection::Single(*single),
        several if several.len() <= PARTS_MAX => Selection::Several(joined),
        _ => Selection::Whole,
    }
}

/// `bytes */11`, for a 416.
pub fn unsatisfied(length: u64) -> HeaderValue {
    value(format!("bytes */{length}"))
}

impl Slice {
    /// How many bytes it has, never zero.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// `bytes 0-1/11`, of a body of 11 bytes.
    pub fn content_range(&self, length: u64) -> HeaderValue {
        value(format!("bytes {}-{}/{length}", self.first, self.last))
    }
}

fn value(text: String) -> HeaderValue {
    // Only letters, digits and punctuation are written above and below, so it is a value.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    Between {
        first: u64,
        last: u64,
    },
    /// The last so many bytes.
    Suffix {
        length: u64,
    },
}

/// None if any of them is invalid: then all of it is (RFC 9110 §14.1.1).
fn specs(range: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = range.trim_ascii().split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let specs = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    let specs: Vec<_> = specs.map(Spec::parse).collect::<Option<_>>()?;
    (!specs.is_empty()).then_some(specs)
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
        if first.is_empty() {
            return Some(Self::Suffix { length: number(last)? });
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        (first <= last).then_some(Self::Between { first, last })
    }

    fn is_satisfiable(&self, length: u64) -> bool {
        match *self {
            Self::Between { first, .. } => first < length,
            Self::Suffix { length: suffix } => suffix > 0,
        }
    }

    /// None if there is no such byte.
    fn slice(&self, length: u64) -> Option<Slice> {
        let end = length.checked_sub(1)?;
        let (first, last) = match *self {
            Self::Between { first, last } => (first, last.min(end)),
            Self::Suffix { length: suffix } => (length.saturating_sub(suffix), end),
        };
        (first <= last).then_some(Slice { first, last })
    }
}

/// Digits alone. One that is too large for 64 bits lies behind the end of every body, as the largest does.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, add))
}

/// Makes one of those that overlap or touch. They keep their order (RFC 9110 §15.3.7.2); a joined one stands where
/// the first of its members stood.
fn join(slices: impl Iterator<Item = Slice>) -> Vec<Slice> {
    let mut by_first: Vec<_> = slices.enumerate().collect();
    by_first.sort_unstable_by_key(|(_, slice)| slice.first);
    let mut joined: Vec<(usize, Slice)> = Vec::new();
    for (place, slice) in by_first {
        match joined.last_mut() {
            Some((first_place, before)) if slice.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(slice.last);
                *first_place = place.min(*first_place);
            }
            _ => joined.push((place, slice)),
        }
    }
    joined.sort_unstable_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, slice)| slice).collect()
}

/// A body of `multipart/byteranges` (RFC 9110 §14.6). It holds what stands between the slices, and no byte of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    boundary: u128,
    parts: Vec<(Bytes, Slice)>,
    tail: Bytes,
}

/// What is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What stands before a slice.
    Head(Bytes),
    Slice(Slice),
    /// The end of the body.
    Tail(Bytes),
}

impl Multipart {
    /// `length` and `content_type` are those of the whole. The boundary has to be random, so that nobody can put it
    /// into the body.
    pub fn new(slices: &[Slice], length: u64, content_type: Option<&HeaderValue>, boundary: u128) -> Self {
        let mut out = BytesMut::new();
        let mut parts = Vec::with_capacity(slices.len());
        for slice in slices {
            if !parts.is_empty() {
                out.put_slice(b"\r\n");
            }
            out.put_slice(format!("--{boundary:032x}\r\n").as_bytes());
            if let Some(content_type) = content_type {
                out.put_slice(b"Content-Type: ");
                out.put_slice(content_type.as_bytes());
                out.put_slice(b"\r\n");
            }
            out.put_slice(b"Content-Range: ");
            out.put_slice(slice.content_range(length).as_bytes());
            out.put_slice(b"\r\n\r\n");
            parts.push((out.split().freeze(), *slice));
        }
        out.put_slice(format!("\r\n--{boundary:032x}--\r\n").as_bytes());
        Self { boundary, parts, tail: out.freeze() }
    }

    pub fn content_type(&self) -> HeaderValue {
        value(format!("multipart/byteranges; boundary={:032x}", self.boundary))
    }

    /// How many bytes all pieces have.
    pub fn content_length(&self) -> u64 {
        let part = |(head, slice): &(Bytes, Slice)| (head.len() as u64).saturating_add(slice.length());
        self.parts.iter().map(part).fold(self.tail.len() as u64, u64::saturating_add)
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let parts = self.parts.iter().flat_map(|(head, slice)| [Piece::Head(head.clone()), Piece::Slice(*slice)]);
        parts.chain([Piece::Tail(self.tail.clone())])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::SystemTime;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::header::rows::fields;

    /// `whole`, `416`, or the slices.
    #[track_caller]
    fn check(range: &str, length: u64, expected: &str) {
        let text = |slice: &Slice| format!("{}-{}", slice.first, slice.last);
        let selected = match select(range.as_bytes(), length) {
            Selection::Whole => "whole".to_owned(),
            Selection::Unsatisfiable => "416".to_owned(),
            Selection::Single(slice) => text(&slice),
            Selection::Several(slices) => slices.iter().map(text).collect::<Vec<_>>().join(" "),
        };
        assert_eq!(selected, expected, "{range} of {length}");
    }

    #[test]
    fn one_range() {
        check("bytes=0-1", 11, "0-1");
        check("bytes=1-", 11, "1-10");
        check("bytes=-1", 11, "10-10");
        check("bytes=-5", 11, "6-10");
        check("bytes=0-0", 1, "0-0");
        check("bytes=0-", 11, "0-10");
        check("bytes=0-10", 11, "0-10");
        check("bytes=0-11", 11, "0-10");
        check("bytes=10-10", 11, "10-10");
        check("bytes=-11", 11, "0-10");
        check("bytes=-12", 11, "0-10");
        check("BYTES=007-8", 11, "7-8");
        check("bytes= 1-2 , ", 11, "1-2");
    }

    #[test]
    fn unsatisfiable() {
        check("bytes=11-", 11, "416");
        check("bytes=11-12", 11, "416");
        check("bytes=-0", 11, "416");
        check("bytes=20-, 30-40, -0", 11, "416");
        check("bytes=0-", 0, "416");
        check("bytes=0-0", 0, "416");
        // Of an empty body the last bytes are all of it.
        check("bytes=-5", 0, "whole");
        check("bytes=-5, 0-", 0, "whole");
        // One of several is enough.
        check("bytes=20-, 3-4", 11, "3-4");
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= ",
            "bytes=-",
            "bytes=1",
            "bytes=2-1",
            "bytes=a-",
            "bytes=1-b",
            "bytes=--1",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1 -2",
            "bytes=1-2;3-4",
            "bytes =1-2",
            "byte=1-2",
            "lines=1-2",
            "bytes:1-2",
            "bytes=0-1,x",
            "bytes=0-1, 5-4",
            "bytes=*",
            "bytes=1.0-2",
        ] {
            check(range, 11, "whole");
        }
    }

    #[test]
    fn numbers_beyond_64_bits() {
        const MAX: &str = "18446744073709551615";
        const OVER: &str = "18446744073709551616";
        let huge = "9".repeat(1000);
        check(&format!("bytes=0-{OVER}"), 11, "0-10");
        check(&format!("bytes=0-{huge}"), 11, "0-10");
        check(&format!("bytes=-{huge}"), 11, "0-10");
        check(&format!("bytes={OVER}-"), 11, "416");
        check(&format!("bytes={huge}-{huge}"), 11, "416");
        check(&format!("bytes=-{MAX}, {MAX}-{OVER}"), u64::MAX, "0-18446744073709551614");
        check("bytes=0-, -1", u64::MAX, "0-18446744073709551614");
    }

    #[test]
    fn several_are_joined_and_keep_their_order() {
        check("bytes=0-1,4-5", 11, "0-1 4-5");
        check("bytes=8-9,0-1,4-5", 11, "8-9 0-1 4-5");
        check("bytes=0-1,2-3", 11, "0-3");
        check("bytes=2-3,0-1", 11, "0-3");
        check("bytes=0-4,3-5,8-", 11, "0-5 8-10");
        check("bytes=8-,0-4,3-5", 11, "8-10 0-5");
        check("bytes=4-5,8-9,0-4", 11, "0-5 8-9");
        check("bytes=0-9,1-2,3-4", 11, "0-9");
        check("bytes=0-0,-1", 11, "0-0 10-10");
        check("bytes=0-,0-,0-", 11, "0-10");
        check("bytes=5-6,5-6", 11, "5-6");
    }

    #[test]
    fn not_more_than_ten_parts() {
        let every_second = |count: u64| (0..count).map(|n| format!("{}-{0}", n * 2)).collect::<Vec<_>>().join(",");
        check(&format!("bytes={}", every_second(10)), 100, "0-0 2-2 4-4 6-6 8-8 10-10 12-12 14-14 16-16 18-18");
        check(&format!("bytes={}", every_second(11)), 100, "whole");
        // Those that cannot be satisfied do not count.
        check(&format!("bytes={}", every_second(11)), 20, "0-0 2-2 4-4 6-6 8-8 10-10 12-12 14-14 16-16 18-18");
        // The attack of 2011: 1,300 ranges that overlap.
        let overlapping = (0..1300).map(|n| format!("5-{n}")).skip(5).collect::<Vec<_>>().join(",");
        check(&format!("bytes=0-,{overlapping}"), 11, "0-10");
        check(&format!("bytes={}", every_second(1300)), 10_000, "whole");
    }

    #[test]
    fn which_range_counts() {
        let response = fields("etag: \"a\"");
        let selected = Validators { response: &response, received: SystemTime::UNIX_EPOCH, is_stored: false };
        for (method, request, expected) in [
            (Method::GET, "range: bytes=0-1", Some("bytes=0-1")),
            (Method::HEAD, "range: bytes=0-1", None),
            (Method::POST, "range: bytes=0-1", None),
            (Method::GET, "", None),
            (Method::GET, "range: bytes=0-1\nrange: bytes=2-3", None),
            (Method::GET, "range: bytes=0-1\nif-range: \"a\"", Some("bytes=0-1")),
            (Method::GET, "range: bytes=0-1\nif-range: \"b\"", None),
            (Method::GET, "if-range: \"a\"", None),
        ] {
            let request = fields(request);
            let range = asked(&method, &request, &selected);
            assert_eq!(range.map(|range| range.to_str().unwrap()), expected, "{method} {request:?}");
        }
    }

    #[test]
    fn fields_of_the_answer() {
        assert_eq!(Slice { first: 0, last: 1 }.content_range(11), "bytes 0-1/11");
        assert_eq!(Slice { first: 0, last: 1 }.length(), 2);
        assert_eq!(unsatisfied(11), "bytes */11");
    }

    fn sent(multipart: &Multipart, body: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for piece in multipart.pieces() {
            match piece {
                Piece::Head(bytes) | Piece::Tail(bytes) => sent.extend_from_slice(&bytes),
                Piece::Slice(slice) => sent.extend_from_slice(&body[slice.first as usize..=slice.last as usize]),
            }
        }
        sent
    }

    #[test]
    fn a_body_of_two_parts() {
        let slices = [Slice { first: 0, last: 1 }, Slice { first: 9, last: 10 }];
        let content_type = HeaderValue::from_static("text/plain");
        let multipart = Multipart::new(&slices, 11, Some(&content_type), 0xab);
        let boundary = "000000000000000000000000000000ab";
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/11\r\n\r\n01\r\n\
            --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-10/11\r\n\r\n9A\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(sent(&multipart, b"0123456789A")).unwrap(), expected);
        assert_eq!(multipart.content_length(), expected.len() as u64);
        assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
        let plain = Multipart::new(&slices, 11, None, 0xab);
        let expected = expected.replace("Content-Type: text/plain\r\n", "");
        assert_eq!(String::from_utf8(sent(&plain, b"0123456789A")).unwrap(), expected);
    }

    /// The bytes that a list of ranges names, by the letter of RFC 9110 §14.1.2; None if it is invalid.
    fn named(specs: &[(Option<u64>, Option<u64>)], length: u64) -> Option<BTreeSet<u64>> {
        let mut bytes = BTreeSet::new();
        for (first, last) in specs {
            match (*first, *last) {
                (None, None) => return None,
                (Some(first), Some(last)) if last < first => return None,
                (Some(first), last) => bytes.extend((first..length).filter(|at| last.is_none_or(|last| *at <= last))),
                (None, Some(suffix)) => bytes.extend((0..length).filter(|at| length - at <= suffix)),
            }
        }
        Some(bytes)
    }

    /// Takes a body of parts to pieces as a client does.
    fn received(body: &[u8], content_type: &HeaderValue) -> Vec<(u64, Vec<u8>)> {
        let boundary = content_type.to_str().unwrap().split("boundary=").nth(1).unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let (parts, end) = text.rsplit_once(&format!("\r\n--{boundary}--\r\n")).unwrap();
        assert_eq!(end, "");
        let parts = format!("\r\n{parts}");
        let part = |part: &str| {
            let (head, body) = part.split_once("\r\n\r\n").unwrap();
            let first = head.split("Content-Range: bytes ").nth(1).unwrap().split('-').next().unwrap();
            (first.parse().unwrap(), body.as_bytes().to_vec())
        };
        parts.split(&format!("\r\n--{boundary}\r\n")).skip(1).map(part).collect()
    }

    proptest! {
        #[test]
        fn what_is_sent_are_the_bytes_that_were_named(
            specs in vec((proptest::option::weighted(0.8, 0..40_u64), proptest::option::weighted(0.9, 0..40_u64)), 1..16),
            body in "[a-z]{0,30}",
            boundary: u128,
        ) {
            let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            let text: Vec<_> = specs.iter().map(|(first, last)| format!("{}-{}", number(*first), number(*last))).collect();
            let range = format!("bytes={}", text.join(", "));
            let length = body.len() as u64;
            let named = named(&specs, length);
            match select(range.as_bytes(), length) {
                Selection::Whole => {
                    let runs = named.iter().flatten().filter(|at| **at == 0 || !named.iter().flatten().any(|other| *other == *at - 1));
                    prop_assert!(named.is_none() || length == 0 || runs.count() > PARTS_MAX);
                }
                Selection::Unsatisfiable => prop_assert_eq!(named, Some(BTreeSet::new())),
                Selection::Single(slice) => {
                    prop_assert_eq!(named, Some((slice.first..=slice.last).collect::<BTreeSet<_>>()));
                    prop_assert!(slice.last < length);
                }
                Selection::Several(slices) => {
                    prop_assert!((2..=PARTS_MAX).contains(&slices.len()));
                    let multipart = Multipart::new(&slices, length, Some(&HeaderValue::from_static("a/b")), boundary);
                    let sent = sent(&multipart, body.as_bytes());
                    prop_assert_eq!(sent.len() as u64, multipart.content_length());
                    let mut bytes = Vec::new();
                    for (first, part) in received(&sent, &multipart.content_type()) {
                        prop_assert_eq!(&part[..], &body.as_bytes()[first as usize..][..part.len()]);
                        bytes.extend(first..first + part.len() as u64);
                    }
                    // None is sent twice.
                    prop_assert_eq!(bytes.len(), slices.iter().map(Slice::length).sum::<u64>() as usize);
                    prop_assert_eq!(Some(bytes.into_iter().collect()), named);
                }
            }
        }

        #[test]
        fn any_value_is_read(range in "(bytes=)?[0-9,\\- x]{0,30}", length: u64) {
            if let Selection::Several(slices) = select(range.as_bytes(), length) {
                let multipart = Multipart::new(&slices, length, None, 0);
                prop_assert!(multipart.content_length() > slices.iter().map(Slice::length).fold(0, u64::saturating_add));
            }
        }
    }
}
