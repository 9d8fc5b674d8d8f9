//! Coding and decoding of bodies: what goes in comes out, in whatever pieces, and nothing is held back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_compression::codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use http_body::{Frame, SizeHint};
use proptest::prelude::*;

use super::*;
use crate::body::{Arrival, Codec, Source};

/// By decoders that the code under test does not use for it, where there are any.
fn decoded(bytes: &[u8], coding: Coding) -> Vec<u8> {
    let mut content = Vec::new();
    if coding == Coding::Gzip {
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content).unwrap();
        return content;
    }
    let mut decoder = decoder(coding);
    let mut input = PartialBuffer::new(bytes);
    loop {
        let mut memory = [0; 4096];
        let mut piece = WriteBuffer::new_initialized(&mut memory);
        let has_ended = decoder.decode(&mut input, &mut piece).unwrap();
        content.extend_from_slice(piece.written());
        if has_ended {
            assert!(input.unwritten().is_empty());
            return content;
        }
        assert!(!input.unwritten().is_empty() || piece.has_no_spare_space(), "it has no end");
    }
}

fn decoder(coding: Coding) -> Box<dyn DecodeV2> {
    match coding {
        Coding::Gzip => Box::new(GzipDecoder::new()),
        Coding::Br => Box::new(BrotliDecoder::new()),
        Coding::Zstd => Box::new(ZstdDecoder::new()),
    }
}

/// What a body is made of; None is a wait.
type Pieces = VecDeque<Option<Result<Frame<Bytes>, BodyError>>>;

/// A peer that sends what the test says.
struct Feed(Pieces);

impl Arrival for Feed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.pop_front() {
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(frame)) => Poll::Ready(Some(frame)),
            None => Poll::Ready(None),
        }
    }

    fn has_ended(&self) -> bool {
        self.0.is_empty()
    }

    fn is_uploading(&self) -> bool {
        false
    }

    fn poll_upload(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }

    fn complete(self: Box<Self>) {}
}

fn fed(pieces: Pieces) -> Body {
    Source::arriving(Box::new(Feed(pieces))).into_body()
}

fn data(bytes: &[u8]) -> Option<Result<Frame<Bytes>, BodyError>> {
    Some(Ok(Frame::data(Bytes::copy_from_slice(bytes))))
}

/// What comes of a body until it ends or waits; true if it waits.
fn drain(body: &mut Body) -> Result<(Vec<u8>, Option<HeaderMap>, bool), BodyError> {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut bytes, mut trailers) = (Vec::new(), None);
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Pending => return Ok((bytes, trailers, true)),
            Poll::Ready(None) => return Ok((bytes, trailers, false)),
            Poll::Ready(Some(frame)) => match frame?.into_data() {
                Ok(data) => {
                    assert!(!data.is_empty());
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

/// The same to the end, however often it waits.
fn collected(body: &mut Body) -> Result<(Vec<u8>, Option<HeaderMap>), BodyError> {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    loop {
        let (more, fields, waits) = drain(body)?;
        bytes.extend(more);
        trailers = trailers.or(fields);
        if !waits && body.is_end_stream() {
            return Ok((bytes, trailers));
        }
    }
}

fn encoder(coding: Coding, level: u32, length: Option<usize>) -> Box<dyn Codec> {
    Box::new(Encoder::new(coding, level, length))
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| b"the quick brown fox "[(n * n / 7 + n / 1000) % 20]).collect()
}

/// Not to be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn levels(coding: Coding) -> std::ops::RangeInclusive<u32> {
    if coding == Coding::Br { 1..=6 } else { 1..=9 }
}

#[test]
fn every_level_gives_back_what_it_took() {
    for content in [text(300_000), noise(300_000), Vec::new(), b"x".to_vec()] {
        for coding in Coding::ALL {
            for level in levels(coding) {
                let whole = code_whole(&content, coding, level).unwrap();
                assert!(decoded(&whole, coding) == content, "{coding:?} {level}");
                let pieces = content.chunks(100_000).map(data).collect();
                let mut body = fed(pieces).recoded(Bytes::new(), encoder(coding, level, Some(content.len())));
                let (coded, _) = collected(&mut body).unwrap();
                assert!(decoded(&coded, coding) == content, "{coding:?} {level} {}", content.len());
            }
        }
    }
}

#[test]
fn any_announced_length_will_do() {
    for coding in Coding::ALL {
        for length in [0, 1, 2, 1 << 18, (1 << 18) + 1, usize::MAX] {
            let mut body = fed([data(&text(300_000))].into()).recoded(Bytes::new(), encoder(coding, 4, Some(length)));
            assert!(decoded(&collected(&mut body).unwrap().0, coding) == text(300_000), "{coding:?} {length}");
        }
    }
}

#[test]
fn a_whole_body_gets_as_small_as_a_stream() {
    let content = text(200_000);
    for coding in Coding::ALL {
        let whole = code_whole(&content, coding, 5).unwrap().len();
        let mut body = fed([data(&content)].into()).recoded(Bytes::new(), encoder(coding, 5, None));
        let streamed = collected(&mut body).unwrap().0.len();
        assert!(whole * 2 < content.len() && whole < streamed * 12 / 10, "{coding:?} {whole} {streamed}");
    }
}

#[test]
fn what_has_come_is_readable_before_the_next_comes() {
    for coding in Coding::ALL {
        let mut pieces = Pieces::new();
        for n in 0..20 {
            pieces.extend([data(format!("data: {n}\n\n").as_bytes()), None, None]);
        }
        let mut body = fed(pieces).recoded(Bytes::new(), encoder(coding, 4, None));
        let mut decoder = decoder(coding);
        for n in 0..20 {
            let (coded, _, waits) = drain(&mut body).unwrap();
            assert!(waits, "{coding:?} {n}");
            let mut memory = [0; 4096];
            let mut piece = WriteBuffer::new_initialized(&mut memory);
            decoder.decode(&mut PartialBuffer::new(&coded[..]), &mut piece).unwrap();
            decoder.flush(&mut piece).unwrap();
            assert_eq!(piece.written(), format!("data: {n}\n\n").as_bytes(), "{coding:?}");
        }
    }
}

#[test]
fn a_wait_without_anything_new_sends_nothing() {
    for coding in Coding::ALL {
        let mut body = fed([data(b"x"), None, None, None, None, data(b"y")].into());
        body = body.recoded(Bytes::new(), encoder(coding, 4, None));
        assert!(!drain(&mut body).unwrap().0.is_empty());
        assert!(drain(&mut body).unwrap().0.is_empty());
        assert!(drain(&mut body).unwrap().0.is_empty());
        assert!(!drain(&mut body).unwrap().0.is_empty());
    }
}

#[test]
fn a_large_piece_leaves_others_their_turn() {
    for (coding, share) in [(Coding::Gzip, 64 * 1024), (Coding::Zstd, 64 * 1024)] {
        let mut body = fed([data(&noise(1024 * 1024))].into()).recoded(Bytes::new(), encoder(coding, 4, None));
        let mut turns = 0;
        while drain(&mut body).unwrap().2 {
            turns += 1;
        }
        assert!(turns >= 1024 * 1024 / share / 2, "{coding:?}: {turns}");
    }
}

#[tokio::test]
async fn sockets_are_looked_at_between_two_steps() {
    let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    let there = tokio::net::UnixStream::from_std(there).unwrap();
    std::io::Write::write_all(&mut here, b"x").unwrap();
    let polls = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = std::rc::Rc::clone(&polls);
    let mut body = fed([data(&noise(8 << 20))].into()).recoded(Bytes::new(), encoder(Coding::Gzip, 1, None));
    let worker = tokio::task::LocalSet::new();
    let drained = worker.spawn_local(poll_fn(move |cx| {
        counted.set(counted.get() + 1);
        while std::task::ready!(Pin::new(&mut body).poll_frame(cx)).is_some() {}
        Poll::Ready(())
    }));
    let readable = worker.run_until(async move { there.readable().await.map(|()| polls.get()) }).await.unwrap();
    assert!(readable <= 5, "after {readable} steps");
    worker.run_until(drained).await.unwrap();
}

#[test]
fn trailers_pass_but_for_digests_of_other_bytes() {
    let mut trailers = HeaderMap::new();
    for name in ["server-timing", "repr-digest"] {
        trailers.insert(name, http::HeaderValue::from_static("x"));
    }
    let pieces = [data(b"hello"), Some(Ok(Frame::trailers(trailers)))].into();
    let mut body = fed(pieces).recoded(Bytes::new(), encoder(Coding::Gzip, 6, None));
    let (coded, trailers) = collected(&mut body).unwrap();
    assert_eq!(decoded(&coded, Coding::Gzip), b"hello");
    assert_eq!(trailers.unwrap().keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["server-timing"]);
}

#[test]
fn a_failure_is_passed_on_and_nothing_after_it() {
    let pieces = [data(b"hello"), Some(Err(BodyError::Stopped)), data(b"more")].into();
    let mut body = fed(pieces).recoded(Bytes::new(), encoder(Coding::Gzip, 6, None));
    assert!(matches!(collected(&mut body), Err(BodyError::Stopped)));
    assert!(body.is_end_stream());
}

fn decoding(pieces: Pieces) -> Body {
    fed(pieces).recoded(Bytes::new(), Box::new(Decoder::new()))
}

#[test]
fn members_of_gzip_are_one_content() {
    let members = [&b"one "[..], b"two ", &text(200_000)].map(|part| code_whole(part, Coding::Gzip, 6).unwrap());
    let file = members.concat();
    for chunk in [1, 7, 4096, file.len()] {
        let (content, _) = collected(&mut decoding(file.chunks(chunk).map(data).collect())).unwrap();
        assert!(content == [&b"one two "[..], &text(200_000)].concat(), "{chunk}");
    }
    let padded = [&file[..], &[0; 100]].concat();
    assert_eq!(collected(&mut decoding([data(&padded)].into())).unwrap().0.len(), 200_008);
}

#[test]
fn broken_gzip_is_cut() {
    let file = code_whole(&text(5000), Coding::Gzip, 6).unwrap();
    let check = |bytes: &[u8]| {
        let result = collected(&mut decoding([data(bytes)].into()));
        assert!(matches!(result, Err(BodyError::Coding(_))), "{} bytes", bytes.len());
    };
    check(b"no gzip at all");
    for length in [1, 9, 10, 100, file.len() - 1] {
        check(&file[..length]);
    }
    for flipped in [12, 40, file.len() - 6, file.len() - 1] {
        let mut broken = file.to_vec();
        broken[flipped] ^= 0x55;
        check(&broken);
    }
    assert_eq!(collected(&mut decoding(Pieces::new())).unwrap().0, b"");
}

#[test]
fn a_bomb_is_cut_off() {
    let bomb = code_whole(&vec![0; 64 << 20], Coding::Gzip, 9).unwrap();
    assert!(bomb.len() < 100_000);
    let mut body = decoding([data(&bomb)].into());
    let mut given = 0;
    let error = loop {
        match drain(&mut body) {
            Ok((bytes, ..)) => given += bytes.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BodyError::Coding(_)) && given <= 200 * bomb.len() + (1 << 20), "{given}");
    // What merely compresses well is none.
    let zeros = code_whole(&vec![0; 1 << 20], Coding::Gzip, 9).unwrap();
    assert_eq!(collected(&mut decoding([data(&zeros)].into())).unwrap().0.len(), 1 << 20);
}

fn pieces() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let piece = prop_oneof![
        Just(None),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Some),
        (0_usize..70_000).prop_map(|length| Some(text(length))),
    ];
    prop::collection::vec(piece, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_come_out_as_they_went_in(pieces in pieces(), coding in prop::sample::select(&Coding::ALL[..]), level in 1_u32..=6) {
        let content: Vec<u8> = pieces.iter().flatten().flatten().copied().collect();
        let feed = pieces.iter().map(|piece| piece.as_deref().and_then(data)).collect();
        let mut body = fed(feed).recoded(Bytes::new(), encoder(coding, level, None));
        let (coded, _) = collected(&mut body).unwrap();
        prop_assert!(decoded(&coded, coding) == content);
        if coding == Coding::Gzip {
            let chunk = (coded.len() / 3).max(1);
            let (again, _) = collected(&mut decoding(coded.chunks(chunk).map(data).collect())).unwrap();
            prop_assert!(again == content);
        }
    }

    #[test]
    fn no_gzip_is_too_odd(mut bytes in prop::collection::vec(any::<u8>(), 0..200), chunk in 1_usize..50) {
        bytes.splice(0..0, [0x1f, 0x8b, 8, 0]);
        let _result = collected(&mut decoding(bytes.chunks(chunk).map(data).collect()));
    }
}
