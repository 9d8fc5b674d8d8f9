//! Responses of HTTP/1.1 on one connection, one after the other.

use anyhow::{Context as _, Result, bail};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

use super::Came;

const FIELDS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct H1 {
    expects: Expects,
    /// The beginning of a head or of a line that has not come whole.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expects {
    #[default]
    Head,
    /// So many bytes, and then the next response.
    Content(u64),
    ChunkSize,
    /// So many bytes, the end of their line included.
    Chunk(u64),
    /// The end of the chunks, with fields that nobody reads.
    Trailers,
}

impl H1 {
    pub fn feed(&mut self, mut bytes: &[u8], came: &mut Came) -> Result<()> {
        while !bytes.is_empty() {
            match self.expects {
                Expects::Content(left) => {
                    let rest = skip(&mut bytes, left);
                    self.expects = Expects::Content(rest);
                    if rest == 0 {
                        self.answered(came);
                    }
                }
                Expects::Chunk(left) => {
                    let rest = skip(&mut bytes, left);
                    self.expects = if rest == 0 { Expects::ChunkSize } else { Expects::Chunk(rest) };
                }
                Expects::Head | Expects::ChunkSize | Expects::Trailers => {
                    let before = self.partial.len();
                    self.partial.extend_from_slice(bytes);
                    let Some(used) = self.text(came)? else { return Ok(()) };
                    self.partial.clear();
                    bytes = bytes.get(used.saturating_sub(before)..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Reads what is made of lines. How many bytes it had; nothing if there are not enough yet.
    fn text(&mut self, came: &mut Came) -> Result<Option<usize>> {
        let used = match self.expects {
            Expects::ChunkSize => match parse_chunk_size(&self.partial) {
                Ok(Status::Complete((used, 0))) => {
                    self.expects = Expects::Trailers;
                    used
                }
                Ok(Status::Complete((used, size))) => {
                    self.expects = Expects::Chunk(size + 2);
                    used
                }
                Ok(Status::Partial) => return Ok(None),
                Err(_) => bail!("a chunk has no size"),
            },
            Expects::Trailers => {
                let Some(end) = self.partial.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
                if end == 0 {
                    self.answered(came);
                }
                end + 2
            }
            Expects::Head | Expects::Content(_) | Expects::Chunk(_) => return self.head(came),
        };
        Ok(Some(used))
    }

    fn head(&mut self, came: &mut Came) -> Result<Option<usize>> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let Status::Complete(used) = response.parse(&self.partial).context("a head that is none")? else {
            return Ok(None);
        };
        if response.code != Some(200) {
            bail!("an answer of {}:\n{}", response.code.unwrap_or_default(), String::from_utf8_lossy(&self.partial));
        }
        let value = |name: &str| {
            let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            field.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        if let Some(length) = value("content-length") {
            self.expects = Expects::Content(length.trim().parse().context("a length that is no number")?);
        } else if value("transfer-encoding").is_some() {
            self.expects = Expects::ChunkSize;
        } else {
            bail!("an answer that ends with its connection");
        }
        if self.expects == Expects::Content(0) {
            self.answered(came);
        }
        Ok(Some(used))
    }

    fn answered(&mut self, came: &mut Came) {
        self.expects = Expects::Head;
        came.answered.push(0);
    }
}

/// Takes up to so many bytes off the front; how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    *bytes = bytes.get(taken..).unwrap_or_default();
    left - taken as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\nX: y\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn answers_are_counted_however_their_bytes_are_cut() -> Result<()> {
        for size in 1..=ANSWERS.len() {
            let (mut h1, mut came) = (H1::default(), Came::default());
            for piece in ANSWERS.chunks(size) {
                h1.feed(piece, &mut came)?;
            }
            assert_eq!(came.answered.len(), 3, "in pieces of {size}");
        }
        Ok(())
    }

    #[test]
    fn what_is_not_a_whole_200_is_an_error() {
        for answer in ["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "nonsense\r\n\r\n"] {
            assert!(H1::default().feed(answer.as_bytes(), &mut Came::default()).is_err(), "{answer}");
        }
    }
}
