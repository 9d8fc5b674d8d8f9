//! What waits to be written to a client: heads and chunk lines in one buffer, large data beside it, all in one
//! write if the socket takes it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::head::{Begun, Framing};
use crate::header::write_field;
use crate::spare;
use crate::splice::Pipe;
use crate::tcp::{self, Peer};
use crate::timed::WriteLimit;

/// From here on nothing more is asked of a body until some is written.
const QUEUED_BYTES_MAX: usize = 64 * 1024;
const PARTS_MAX: usize = 7;
/// A text before each part and one behind them.
const SLICES_MAX: usize = 2 * PARTS_MAX + 1;
/// Copying so much costs less than another slice.
const COPIED_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug, Default)]
pub struct Output {
    /// Heads, chunk lines, small data.
    text: Vec<u8>,
    text_written: usize,
    parts: VecDeque<Part>,
    parts_bytes: usize,
    needs_flush: bool,
    /// Nothing is written behind it.
    is_last: bool,
}

/// Data that is not copied.
#[derive(Debug)]
struct Part {
    data: Bytes,
    /// How much of the text stands before it.
    text_before: usize,
}

impl Output {
    /// Where to append the next text.
    pub fn text(&mut self) -> &mut Vec<u8> {
        if self.text.capacity() == 0 {
            self.text = spare::text();
        }
        &mut self.text
    }

    /// What waits is the last of the connection.
    pub fn end(&mut self) {
        self.is_last = true;
    }

    pub fn is_empty(&self) -> bool {
        self.text_written == self.text.len() && self.parts.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.parts.len() >= PARTS_MAX || self.parts_bytes + self.text.len() - self.text_written >= QUEUED_BYTES_MAX
    }

    /// Queues some of a response's body. What is more than was announced is left out.
    pub fn put(&mut self, mut data: Bytes, begun: &mut Begun) {
        if let Framing::Length(left) = &mut begun.framing {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        // A chunk without data would end the body.
        if data.is_empty() {
            return;
        }
        let is_chunked = begun.framing == Framing::Chunked;
        if is_chunked {
            // Writing to a vector does not fail.
            drop(write!(self.text(), "{:x}\r\n", data.len()));
        }
        if data.len() <= COPIED_BYTES_MAX {
            self.text().extend_from_slice(&data);
        } else {
            self.parts_bytes += data.len();
            self.parts.push_back(Part { data, text_before: self.text.len() });
        }
        if is_chunked {
            self.text().extend_from_slice(b"\r\n");
        }
    }

    /// Writes what waits and then what is in `pipe`, as far as the client takes it at once; the rest is queued.
    pub fn put_piped(
        &mut self,
        (mut pipe, client): (Pipe, &TcpStream),
        limit: &mut WriteLimit,
        begun: &mut Begun,
    ) -> io::Result<()> {
        if let Framing::Length(left) = &mut begun.framing {
            *left -= pipe.held() as u64;
        }
        self.needs_flush = true;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        if !self.is_empty()
            && let Ok(written) = tcp::send_beginning(client, self.slices(&mut slices))
        {
            self.advance(written);
            limit.wrote(written);
        }
        if self.is_empty() {
            let held = pipe.held();
            pipe.empty_into(client);
            limit.wrote(held - pipe.held());
        }
        if pipe.held() > 0 {
            let data = pipe.read_out()?;
            self.parts_bytes += data.len();
            self.parts.push_back(Part { data, text_before: self.text.len() });
        }
        Ok(())
    }

    /// Queues what ends the body; of the trailers, those that were announced.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>, begun: &mut Begun) {
        match begun.framing {
            Framing::Chunked => {
                self.text().extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| begun.trailers.contains(name)) {
                    write_field(name, value, self.text());
                }
                self.text().extend_from_slice(b"\r\n");
            }
            Framing::Length(left) => begun.is_cut = left > 0,
            Framing::None | Framing::UntilClose => {}
        }
    }

    /// Writes until all is written and flushed.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Peer + Unpin),
        limit: &mut WriteLimit,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let outcome = self.poll_some(cx, stream);
            let written = ready!(limit.watch(cx, outcome, stream))?;
            limit.wrote(written);
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.advance(written);
        }
        if self.needs_flush {
            let flushed = Pin::new(&mut *stream).poll_flush(cx);
            ready!(limit.watch(cx, flushed, stream))?;
            self.needs_flush = false;
            self.text_written = 0;
            spare::keep_text(std::mem::take(&mut self.text));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_some(
        &self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Peer + Unpin),
    ) -> Poll<io::Result<usize>> {
        if self.parts.is_empty() {
            let text = self.text.get(self.text_written..).unwrap_or_default();
            return match self.is_last.then(|| stream.write_last(text)).flatten() {
                Some(written) => Poll::Ready(written),
                None => Pin::new(stream).poll_write(cx, text),
            };
        }
        Pin::new(stream).poll_write_vectored(cx, self.slices(&mut [IoSlice::new(&[]); SLICES_MAX]))
    }

    /// What waits, in order.
    fn slices<'a, 'b>(&'a self, slices: &'b mut [IoSlice<'a>; SLICES_MAX]) -> &'b [IoSlice<'a>] {
        let mut text_from = self.text_written;
        for (pair, part) in slices.chunks_exact_mut(2).zip(&self.parts) {
            if let [before, data] = pair {
                *before = IoSlice::new(self.text.get(text_from..part.text_before).unwrap_or_default());
                *data = IoSlice::new(&part.data);
            }
            text_from = part.text_before;
        }
        let used = 2 * self.parts.len();
        if let Some(last) = slices.get_mut(used) {
            *last = IoSlice::new(self.text.get(text_from..).unwrap_or_default());
        }
        slices.get(..=used).unwrap_or_default()
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            let text = written.min(part.text_before - self.text_written);
            self.text_written += text;
            let data = (written - text).min(part.data.len());
            part.data.advance(data);
            self.parts_bytes -= data;
            written -= text + data;
            if !part.data.is_empty() {
                break;
            }
            self.parts.pop_front();
        }
        self.text_written += written;
        // A client that is always a little behind would never let it become empty.
        if self.text_written >= QUEUED_BYTES_MAX {
            self.text.drain(..self.text_written);
            for part in &mut self.parts {
                part.text_before -= self.text_written;
            }
            self.text_written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::pace::Terms;
    use crate::timers::Sweep;

    fn begun(framing: Framing) -> Begun {
        Begun {
            framing,
            keeps_alive: true,
            is_last: false,
            trailers: vec!["a".parse().unwrap()],
            is_cut: false,
            is_queued: false,
        }
    }

    /// All that is written of these frames, in writes of at most `step` bytes.
    async fn written(frames: &[Bytes], trailers: Option<HeaderMap>, framing: Framing, step: usize) -> (Vec<u8>, bool) {
        let sweep = Sweep::new();
        let (mut near, mut far) = tokio::io::duplex(step);
        let mut limit = WriteLimit::new(sweep.deadline(), Terms::of_silence(Duration::from_secs(5)));
        let (mut output, mut begun) = (Output::default(), begun(framing));
        output.text().extend_from_slice(b"head|");
        let write = async {
            for frame in frames {
                output.put(frame.clone(), &mut begun);
                if output.is_full() {
                    poll_fn(|cx| output.poll_write(cx, &mut near, &mut limit)).await.unwrap();
                }
            }
            output.finish(trailers.as_ref(), &mut begun);
            poll_fn(|cx| output.poll_write(cx, &mut near, &mut limit)).await.unwrap();
            assert!(output.is_empty() && output.parts_bytes == 0);
            drop(near);
        };
        let mut seen = Vec::new();
        let (_, read) = tokio::join!(write, far.read_to_end(&mut seen));
        read.unwrap();
        (seen, !begun.is_cut)
    }

    #[tokio::test]
    async fn what_is_queued_is_written_in_order_however_little_is_taken() {
        let frames: Vec<Bytes> = (0..40).map(|n| Bytes::from(vec![b'a' + n; 700 * usize::from(n)])).collect();
        let length = frames.iter().map(Bytes::len).sum::<usize>();
        let whole = [b"head|", &frames.concat()[..]].concat();
        let mut chunked = b"head|".to_vec();
        for frame in &frames[1..] {
            chunked.extend([format!("{:x}\r\n", frame.len()).as_bytes(), frame, b"\r\n"].concat());
        }
        chunked.extend(b"0\r\na: 1\r\n\r\n");
        let trailers =
            HeaderMap::from_iter([("a", "1"), ("b", "2")].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())));
        for step in [7, 5000, 1 << 20] {
            assert_eq!(written(&frames, None, Framing::Length(length as u64), step).await, (whole.clone(), true));
            assert_eq!(written(&frames, None, Framing::UntilClose, step).await, (whole.clone(), true));
            assert_eq!(written(&frames, Some(trailers.clone()), Framing::Chunked, step).await, (chunked.clone(), true));
        }
    }

    #[test]
    fn a_client_that_is_always_behind_costs_no_more_than_what_is_queued() {
        let (mut output, mut begun) = (Output::default(), begun(Framing::UntilClose));
        output.text().extend_from_slice(b"head|");
        for n in 0..10_000 {
            let size = if n % 10 == 0 { 2 * COPIED_BYTES_MAX } else { 100 };
            output.put(Bytes::from(vec![b'x'; size]), &mut begun);
            output.advance(size);
            assert!(!output.is_empty() && output.text.len() < 2 * QUEUED_BYTES_MAX);
        }
        assert_eq!(output.text.len() - output.text_written + output.parts_bytes, 5);
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_its_head_says() {
        let frames = [Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
        assert_eq!(written(&frames, None, Framing::Length(4), 64).await, (b"head|abcd".to_vec(), true));
        assert_eq!(written(&frames, None, Framing::Length(7), 64).await, (b"head|abcdef".to_vec(), false));
        assert_eq!(written(&[], None, Framing::Chunked, 64).await, (b"head|0\r\n\r\n".to_vec(), true));
    }
}
