//! A body that one receives and many read while it grows.
//!
//! All of it is kept, so that who comes late reads from the beginning, until it is told to keep a window only.
//! From then on the fastest reader sets the pace, and a reader that falls out of the window is cut off.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::SizeHint;

use super::BodyError;
use crate::lock::lock;

/// What readers of a body that is not kept can be apart from each other.
pub const WINDOW_BYTES: u64 = 1024 * 1024;
/// Pieces smaller than this are put together, so that a body does not consist of crumbs.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Growing {
    state: Mutex<State>,
    /// As announced.
    length: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// How many bytes have been received.
    end: u64,
    is_windowed: bool,
    finish: Option<Result<(), BodyError>>,
    readers: Vec<Option<Place>>,
    feeder: Option<Waker>,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    offset: u64,
    waker: Option<Waker>,
}

/// Whether more is to be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    More,
    /// Nobody reads what nobody keeps.
    None,
}

impl Growing {
    pub fn new(length: Option<u64>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), length })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// As announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes what has come. The bytes are copied: they may be a small part of a large buffer, and stay for long.
    pub fn append(&self, data: &[u8]) {
        let mut state = self.lock();
        state.append(data);
        state.wake_readers();
    }

    /// From now on only a window is kept. What is here already goes as more comes: until then nobody has fallen behind.
    pub fn keep_window_only(&self) {
        self.lock().is_windowed = true;
    }

    /// Bytes that are kept at present.
    pub fn held(&self) -> u64 {
        let state = self.lock();
        state.end - state.pieces.front().map_or(state.end, |piece| piece.start)
    }

    /// Ready when more can be taken, or will not be wanted any more.
    pub fn poll_demand(&self, cx: &mut Context<'_>) -> Poll<Demand> {
        let mut state = self.lock();
        if !state.is_windowed {
            return Poll::Ready(Demand::More);
        }
        match state.fastest() {
            None => Poll::Ready(Demand::None),
            Some(fastest) if state.end.saturating_sub(fastest) < WINDOW_BYTES => Poll::Ready(Demand::More),
            Some(_) => {
                state.feeder = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ready while nobody reads it.
    pub fn poll_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.fastest().is_none() {
            return Poll::Ready(());
        }
        state.feeder = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing more comes. The first word on how it ended holds.
    pub fn finish(&self, outcome: Result<(), BodyError>) {
        let mut state = self.lock();
        state.finish.get_or_insert(outcome);
        state.wake_readers();
    }

    /// All of it, if it has come to its end and was kept.
    pub fn whole(&self) -> Option<Vec<Bytes>> {
        let state = self.lock();
        let is_whole = matches!(state.finish, Some(Ok(()))) && !state.is_windowed;
        is_whole.then(|| state.pieces.iter().map(|piece| piece.bytes.clone()).collect())
    }

    /// Reads the bytes from `first` up to `end`, which may be beyond the last.
    pub fn reader(self: &Arc<Self>, first: u64, end: u64) -> Reader {
        let mut state = self.lock();
        let place = Some(Place { offset: first, waker: None });
        let index = match state.readers.iter().position(Option::is_none) {
            Some(free) => {
                state.readers[free] = place;
                free
            }
            None => {
                state.readers.push(place);
                state.readers.len() - 1
            }
        };
        drop(state);
        Reader { growing: Arc::clone(self), index, offset: first, end }
    }
}

impl State {
    fn append(&mut self, data: &[u8]) {
        let start = self.end;
        self.end += data.len() as u64;
        self.pieces.push_back(Piece { start, bytes: Bytes::copy_from_slice(data) });
        self.join_crumbs();
        self.drop_old();
    }

    /// Readers keep offsets and not pieces, so pieces may be put together under them. Only like is joined with like:
    /// so a byte is copied a few times at most, however small the pieces come.
    fn join_crumbs(&mut self) {
        while let Some([before, last]) =
            self.pieces.len().checked_sub(2).map(|at| [&self.pieces[at], &self.pieces[at + 1]])
            && before.bytes.len() <= last.bytes.len()
            && before.bytes.len() + last.bytes.len() <= PIECE_BYTES
        {
            let joined = Bytes::from([&*before.bytes, &*last.bytes].concat());
            let start = before.start;
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push_back(Piece { start, bytes: joined });
        }
    }

    fn drop_old(&mut self) {
        if !self.is_windowed {
            return;
        }
        // The fastest is not cut off by what comes for it.
        let from = self.end.saturating_sub(WINDOW_BYTES).min(self.fastest().unwrap_or(u64::MAX));
        while self.pieces.front().is_some_and(|piece| piece.start + piece.bytes.len() as u64 <= from) {
            self.pieces.pop_front();
        }
    }

    fn fastest(&self) -> Option<u64> {
        self.readers.iter().flatten().map(|place| place.offset).max()
    }

    /// What there is from `offset` on, up to the end of its piece.
    fn from(&self, offset: u64) -> Option<Bytes> {
        let after = self.pieces.partition_point(|piece| piece.start <= offset);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        let skipped = usize::try_from(offset - piece.start).ok()?;
        (skipped < piece.bytes.len()).then(|| piece.bytes.slice(skipped..))
    }

    fn wake_readers(&mut self) {
        for place in self.readers.iter_mut().flatten() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }
}

/// One who reads.
#[derive(Debug)]
pub struct Reader {
    growing: Arc<Growing>,
    index: usize,
    offset: u64,
    end: u64,
}

impl Reader {
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.growing.lock();
        if self.offset >= self.end {
            return Poll::Ready(None);
        }
        if let Some(mut bytes) = state.from(self.offset) {
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            bytes.truncate(left);
            self.offset += bytes.len() as u64;
            if let Some(Some(place)) = state.readers.get_mut(self.index) {
                place.offset = self.offset;
            }
            if state.is_windowed
                && let Some(feeder) = state.feeder.take()
            {
                feeder.wake();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        if self.offset < state.end {
            return Poll::Ready(Some(Err(BodyError::FellBehind)));
        }
        match &state.finish {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                if let Some(Some(place)) = state.readers.get_mut(self.index) {
                    place.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    pub fn is_end(&self) -> bool {
        if self.offset >= self.end {
            return true;
        }
        let state = self.growing.lock();
        matches!(state.finish, Some(Ok(()))) && self.offset >= state.end
    }

    pub fn size_hint(&self) -> SizeHint {
        let state = self.growing.lock();
        let length = match &state.finish {
            Some(Ok(())) => Some(state.end),
            _ => self.growing.length,
        };
        length.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(length.min(self.end).saturating_sub(self.offset))
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.growing.lock();
        if let Some(place) = state.readers.get_mut(self.index) {
            *place = None;
        }
        if let Some(feeder) = state.feeder.take() {
            feeder.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll(reader: &mut Reader) -> Poll<Option<Result<Bytes, BodyError>>> {
        reader.poll_data(&mut Context::from_waker(Waker::noop()))
    }

    /// All that a reader can have now.
    fn read(reader: &mut Reader) -> (Vec<u8>, Poll<Result<(), String>>) {
        let mut all = Vec::new();
        loop {
            match poll(reader) {
                Poll::Ready(Some(Ok(bytes))) => all.extend_from_slice(&bytes),
                Poll::Ready(Some(Err(error))) => return (all, Poll::Ready(Err(error.to_string()))),
                Poll::Ready(None) => return (all, Poll::Ready(Ok(()))),
                Poll::Pending => return (all, Poll::Pending),
            }
        }
    }

    #[test]
    fn who_comes_late_reads_all_of_it() {
        let growing = Growing::new(None);
        let mut early = growing.reader(0, u64::MAX);
        growing.append(b"one ");
        assert_eq!(read(&mut early), (b"one ".to_vec(), Poll::Pending));
        growing.append(b"two");
        let mut late = growing.reader(0, u64::MAX);
        let mut middle = growing.reader(2, 6);
        growing.finish(Ok(()));
        assert_eq!(early.size_hint().exact(), Some(3));
        assert_eq!(read(&mut early), (b"two".to_vec(), Poll::Ready(Ok(()))));
        assert_eq!(read(&mut late), (b"one two".to_vec(), Poll::Ready(Ok(()))));
        assert_eq!(read(&mut middle), (b"e tw".to_vec(), Poll::Ready(Ok(()))));
        assert_eq!(growing.whole().expect("it has ended").concat(), b"one two");
    }

    #[test]
    fn crumbs_are_put_together() {
        let growing = Growing::new(None);
        for _ in 0..PIECE_BYTES * 2 {
            growing.append(b"x");
        }
        growing.finish(Ok(()));
        assert_eq!(growing.whole().expect("it has ended").len(), 2);
    }

    #[test]
    fn a_failure_reaches_every_reader_after_what_came() {
        let growing = Growing::new(Some(10));
        growing.append(b"half");
        growing.finish(Err(BodyError::Stopped));
        let mut reader = growing.reader(0, u64::MAX);
        let (bytes, end) = read(&mut reader);
        assert_eq!(bytes, b"half");
        assert!(matches!(end, Poll::Ready(Err(_))), "{end:?}");
        assert!(!reader.is_end() && growing.whole().is_none());
    }

    #[test]
    fn in_a_window_the_fastest_sets_the_pace_and_the_last_is_cut_off() {
        let growing = Growing::new(None);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut fast, mut slow) = (growing.reader(0, u64::MAX), growing.reader(0, u64::MAX));
        let piece = vec![1; PIECE_BYTES];
        growing.append(&piece);
        growing.keep_window_only();
        assert_eq!(growing.poll_demand(&mut cx), Poll::Ready(Demand::More));
        let mut sent = piece.len() as u64;
        while growing.poll_demand(&mut cx).is_ready() {
            growing.append(&piece);
            sent += piece.len() as u64;
        }
        assert_eq!(sent, WINDOW_BYTES, "nobody has read, so no more is asked for");
        assert_eq!(read(&mut fast).0.len() as u64, sent);
        assert_eq!(growing.poll_demand(&mut cx), Poll::Ready(Demand::More));
        growing.append(&piece);
        growing.append(&piece);
        assert!(matches!(read(&mut slow), (bytes, Poll::Ready(Err(_))) if bytes.is_empty()));
        assert_eq!(read(&mut fast).1, Poll::Pending);
        drop((fast, slow));
        assert_eq!(growing.poll_demand(&mut cx), Poll::Ready(Demand::None));
        assert!(growing.whole().is_none());
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_what_comes() {
        let growing = Growing::new(None);
        let mut reader = growing.reader(0, u64::MAX);
        let mut next = pin!(std::future::poll_fn(|cx| reader.poll_data(cx)));
        assert!(futures_pending(next.as_mut()).await);
        growing.append(b"now");
        assert_eq!(next.await.expect("a piece").expect("no failure"), "now");
    }

    async fn futures_pending<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
