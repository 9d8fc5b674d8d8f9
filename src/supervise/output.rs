//! What replicas write: each line goes to our standard error, after the name of its replica.
//!
//! Lines are written by a thread of their own, because standard error can be a pipe that nobody empties.

use std::io::Write;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};
use tokio::sync::{mpsc, oneshot};

/// A longer line is written as several.
const LINE_BYTES_MAX: usize = 8 * 1024;
const READ_BYTES: usize = 4 * 1024;
/// Reads of replicas that wait to be written.
const WAITING_MAX: usize = 64;
/// A replica waits this long for our standard error; then its lines are dropped and counted, because a
/// replica that cannot write can often not serve either.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the thread that writes.
#[derive(Debug, Clone)]
pub struct Output(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Lines(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl Output {
    /// Starts the thread; it ends with the last clone. Without it lines are lost, which is no reason not to
    /// serve.
    pub fn to(mut sink: impl Write + Send + 'static) -> Self {
        let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
        let write = move || {
            while let Some(message) = receiver.blocking_recv() {
                match message {
                    // There is nobody to tell that nobody reads.
                    Message::Lines(lines) => drop(sink.write_all(&lines)),
                    Message::Flush(done) => drop(sink.flush().map(|()| done.send(()))),
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("replica-output".to_owned()).spawn(write) {
            tracing::error!("what replicas write is lost, the thread for it cannot be started: {error}");
        }
        Output(sender)
    }

    /// Reads `pipe` to its end.
    pub async fn relay(self, mut pipe: impl AsyncRead + Unpin, name: String) {
        let mut lines = Lines::new(&name);
        let mut lost = 0;
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let read = match pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let whole = lines.push(chunk.get(..read).unwrap_or_default());
            self.pass_on(whole, &name, &mut lost).await;
        }
        self.pass_on(lines.finish(), &name, &mut lost).await;
    }

    async fn pass_on(&self, mut lines: Vec<u8>, name: &str, lost: &mut usize) {
        if lines.is_empty() {
            return;
        }
        let count = memchr::memchr_iter(b'\n', &lines).count();
        let passed = if *lost == 0 {
            !matches!(self.0.send_timeout(Message::Lines(lines), PATIENCE).await, Err(SendTimeoutError::Timeout(_)))
        } else {
            lines.splice(..0, format!("{name} ({lost} lines are missing)\n").into_bytes());
            !matches!(self.0.try_send(Message::Lines(lines)), Err(TrySendError::Full(_)))
        };
        *lost = if passed { 0 } else { *lost + count };
    }

    /// Waits until all that was passed on is written, or the limit has passed.
    pub async fn flush(&self, limit: Duration) {
        let flushed = async {
            let (done, flushed) = oneshot::channel();
            if self.0.send(Message::Flush(done)).await.is_ok() {
                let _failed = flushed.await;
            }
        };
        let _late = tokio::time::timeout(limit, flushed).await;
    }
}

/// Cuts what is read into lines with a name before each.
#[derive(Debug)]
struct Lines {
    prefix: Vec<u8>,
    /// The beginning of a line, at most `LINE_BYTES_MAX`.
    begun: Vec<u8>,
}

impl Lines {
    fn new(name: &str) -> Self {
        Lines { prefix: format!("{name} ").into_bytes(), begun: Vec::new() }
    }

    /// The lines that `chunk` completes.
    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            let (text, is_end) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut rest = text;
            while self.begun.len() + rest.len() > LINE_BYTES_MAX {
                let (fits, further) = rest.split_at(LINE_BYTES_MAX - self.begun.len());
                self.begun.extend_from_slice(fits);
                self.end_line(&mut whole);
                rest = further;
            }
            self.begun.extend_from_slice(rest);
            if is_end {
                self.end_line(&mut whole);
            }
        }
        whole
    }

    /// A last line without its end.
    fn finish(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        if !self.begun.is_empty() {
            self.end_line(&mut whole);
        }
        whole
    }

    fn end_line(&mut self, whole: &mut Vec<u8>) {
        whole.extend_from_slice(&self.prefix);
        whole.append(&mut self.begun);
        whole.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc as std_mpsc;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn check(chunks: &[&str], expected: &str) {
        let mut lines = Lines::new("app[2]");
        let mut written: Vec<u8> = chunks.iter().flat_map(|chunk| lines.push(chunk.as_bytes())).collect();
        written.append(&mut lines.finish());
        assert_eq!(String::from_utf8(written).unwrap(), expected, "{chunks:?}");
    }

    #[test]
    fn every_line_gets_the_name() {
        check(&[], "");
        check(&["one\ntwo\n"], "app[2] one\napp[2] two\n");
        check(&["o", "n", "e\nt", "wo"], "app[2] one\napp[2] two\n");
        check(&["\n\n"], "app[2] \napp[2] \n");
        check(&["one", "\n"], "app[2] one\n");
    }

    #[test]
    fn long_lines_are_cut() {
        let line = |length: usize| format!("app[2] {}\n", "x".repeat(length));
        let text = |length: usize| "x".repeat(length);
        check(&[&text(LINE_BYTES_MAX), "\n"], &line(LINE_BYTES_MAX));
        check(&[&text(LINE_BYTES_MAX), "x\n"], &(line(LINE_BYTES_MAX) + &line(1)));
        check(&[&text(2 * LINE_BYTES_MAX + 5)], &(line(LINE_BYTES_MAX) + &line(LINE_BYTES_MAX) + &line(5)));
    }

    /// Shows each write to the test, which can hold it up.
    struct Sink(std_mpsc::SyncSender<String>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_is_relayed_to_its_end() {
        let (sink, written) = std_mpsc::sync_channel(10);
        let output = Output::to(Sink(sink));
        let (mut pipe, reader) = tokio::io::duplex(64);
        pipe.write_all(b"one\ntwo").await.unwrap();
        drop(pipe);
        output.clone().relay(reader, "app[1]".to_owned()).await;
        output.flush(Duration::from_secs(10)).await;
        assert_eq!(written.try_iter().collect::<String>(), "app[1] one\napp[1] two\n");
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_nobody_takes_are_counted() {
        let (sender, mut waiting) = mpsc::channel(1);
        let output = Output(sender);
        let mut lost = 0;
        output.pass_on(b"a 1\n".to_vec(), "a", &mut lost).await;
        output.pass_on(b"a 2\na 3\n".to_vec(), "a", &mut lost).await;
        output.pass_on(b"a 4\n".to_vec(), "a", &mut lost).await;
        assert_eq!(lost, 3);
        let mut next = || match waiting.try_recv().unwrap() {
            Message::Lines(lines) => String::from_utf8(lines).unwrap(),
            Message::Flush(_) => panic!("nobody flushed"),
        };
        assert_eq!(next(), "a 1\n");
        output.pass_on(b"a 5\n".to_vec(), "a", &mut lost).await;
        assert_eq!(lost, 0);
        assert_eq!(next(), "a (3 lines are missing)\na 5\n");
    }
}
