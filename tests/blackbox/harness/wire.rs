//! HTTP/1.1 messages as RFC 9112 writes them and not a byte else: what an edge sends has to pass here. It
//! shares no code with the proxy or with the library that the proxy uses.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 * 1024;

/// Why no message could be read.
#[derive(Debug)]
pub enum Bad {
    /// The connection ended within a message.
    Cut,
    /// The bytes are no HTTP/1.1.
    Syntax(String),
}

/// Fields in the order in which they came, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of a field that comes at most once; none is the empty text.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        let mut values = self.all(name);
        let value = values.next().unwrap_or_default();
        assert_eq!(values.next(), None, "a second line of {name} in {self:?}");
        value
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One stream with what was read of it and not yet used.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    unused: Vec<u8>,
    count: Arc<AtomicUsize>,
}

struct Head {
    start: String,
    fields: Fields,
}

enum Length {
    Exact(usize),
    Chunked,
    UntilClose,
}

impl Wire<TcpStream> {
    /// One to read by and one to write by, on the same connection.
    pub fn split(self) -> (Self, Self) {
        let stream = self.stream.into_std().unwrap();
        let writing = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        (Self { stream, unused: self.unused, count: self.count }, Self::new(writing))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self::counted(stream, Arc::default())
    }

    /// Adds every byte that is read to `count`.
    pub fn counted(stream: S, count: Arc<AtomicUsize>) -> Self {
        Self { stream, unused: Vec::new(), count }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The head of a request; none if the connection ends before it.
    pub async fn request_head(&mut self) -> Result<Option<Request>, Bad> {
        let Some(Head { start, fields }) = self.head().await? else { return Ok(None) };
        let [method, target, version] = start.split(' ').collect::<Vec<_>>()[..] else {
            return syntax(format!("request line {start:?}"));
        };
        require(is_token(method), || format!("method {method:?}"))?;
        require(target.bytes().all(|byte| byte.is_ascii_graphic()), || format!("target {target:?}"))?;
        require(target.starts_with('/') || target == "*", || format!("target {target:?}"))?;
        require(version == "HTTP/1.1", || format!("version {version:?}"))?;
        require(fields.all("host").count() == 1, || format!("Host in {fields:?}"))?;
        let (method, target) = (method.to_owned(), target.to_owned());
        Ok(Some(Request { method, target, fields, body: Vec::new(), trailers: Fields::default() }))
    }

    /// A whole request.
    pub async fn request(&mut self) -> Result<Option<Request>, Bad> {
        let Some(mut request) = self.request_head().await? else { return Ok(None) };
        if let Some(length) = length(&request.fields)? {
            (request.body, request.trailers) = self.body(length).await?;
        }
        Ok(Some(request))
    }

    /// The head of a response; its body is left to the caller.
    pub async fn response_head(&mut self) -> Result<Response, Bad> {
        let Some(Head { start, fields }) = self.head().await? else { return Err(Bad::Cut) };
        let status = start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let Some(status) = status else { return syntax(format!("status line {start:?}")) };
        Ok(Response { status, fields, body: Vec::new(), trailers: Fields::default() })
    }

    /// A whole response to a request with `method`; one with 100 is a response too.
    pub async fn response(&mut self, method: &str) -> Result<Response, Bad> {
        let mut response = self.response_head().await?;
        let bodiless = method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304);
        if !bodiless {
            let length = length(&response.fields)?.unwrap_or(Length::UntilClose);
            (response.body, response.trailers) = self.body(length).await?;
        }
        Ok(response)
    }

    /// Exactly so many bytes.
    pub async fn exact(&mut self, n: usize) -> Result<Vec<u8>, Bad> {
        while self.unused.len() < n {
            if self.fill().await? == 0 {
                return Err(Bad::Cut);
            }
        }
        let rest = self.unused.split_off(n);
        Ok(std::mem::replace(&mut self.unused, rest))
    }

    /// Takes so many bytes and forgets them.
    pub async fn discard(&mut self, mut n: usize) -> Result<(), Bad> {
        while n > 0 {
            if self.unused.is_empty() && self.fill().await? == 0 {
                return Err(Bad::Cut);
            }
            let taken = n.min(self.unused.len());
            self.unused.drain(..taken);
            n -= taken;
        }
        Ok(())
    }

    /// What comes until the peer closes; a reset counts as a close.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await.is_ok_and(|n| n > 0) {}
        std::mem::take(&mut self.unused)
    }

    async fn body(&mut self, length: Length) -> Result<(Vec<u8>, Fields), Bad> {
        match length {
            Length::Exact(n) => Ok((self.exact(n).await?, Fields::default())),
            Length::Chunked => self.chunked().await,
            Length::UntilClose => Ok((self.rest().await, Fields::default())),
        }
    }

    async fn chunked(&mut self) -> Result<(Vec<u8>, Fields), Bad> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                return Ok((body, self.fields().await?));
            }
            body.extend(chunk);
        }
    }

    /// The data of one chunk; none of the last.
    pub async fn chunk(&mut self) -> Result<Vec<u8>, Bad> {
        let line = self.line().await?;
        require(!line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit()), || format!("chunk {line:?}"))?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| Bad::Syntax(format!("chunk size {line}")))?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let data = self.exact(size).await?;
        require(self.exact(2).await? == b"\r\n", || "no CRLF after a chunk".to_owned())?;
        Ok(data)
    }

    async fn head(&mut self) -> Result<Option<Head>, Bad> {
        if self.unused.is_empty() && self.fill().await? == 0 {
            return Ok(None);
        }
        let start = self.line().await?;
        Ok(Some(Head { start, fields: self.fields().await? }))
    }

    /// Field lines up to the empty one.
    async fn fields(&mut self) -> Result<Fields, Bad> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Fields(fields));
            }
            let Some((name, value)) = line.split_once(':') else { return syntax(format!("field line {line:?}")) };
            require(is_token(name), || format!("field name {name:?}"))?;
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    async fn line(&mut self) -> Result<String, Bad> {
        let mut looked_at = 0;
        let end = loop {
            let found = self.unused.get(looked_at..).and_then(|new| new.iter().position(|byte| *byte == b'\n'));
            if let Some(at) = found {
                break looked_at + at;
            }
            looked_at = self.unused.len();
            if self.fill().await? == 0 {
                return Err(Bad::Cut);
            }
        };
        let mut line = self.exact(end + 1).await?;
        line.pop();
        require(line.pop() == Some(b'\r'), || format!("a bare LF after {:?}", String::from_utf8_lossy(&line)))?;
        let plain = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        require(line.iter().all(plain), || format!("a control byte in {:?}", String::from_utf8_lossy(&line)))?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    async fn fill(&mut self) -> Result<usize, Bad> {
        self.unused.reserve(READ_BYTES);
        // A reset ends a connection as a close does.
        let n = self.stream.read_buf(&mut self.unused).await.unwrap_or(0);
        self.count.fetch_add(n, Ordering::Relaxed);
        Ok(n)
    }
}

/// How long the body is; none if nothing says so.
fn length(fields: &Fields) -> Result<Option<Length>, Bad> {
    let lengths: Vec<_> = fields.all("content-length").collect();
    let codings: Vec<_> = fields.all("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], ["chunked"]) => Ok(Some(Length::Chunked)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => match length.parse() {
            Ok(length) => Ok(Some(Length::Exact(length))),
            Err(_) => syntax(format!("Content-Length {length:?}")),
        },
        _ => syntax(format!("framing by {lengths:?} and {codings:?}")),
    }
}

fn is_token(text: &str) -> bool {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(symbol)
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), Bad> {
    if holds { Ok(()) } else { Err(Bad::Syntax(what())) }
}

fn syntax<T>(what: String) -> Result<T, Bad> {
    Err(Bad::Syntax(what))
}
