//! Reading a body at once, as far as it is small and here.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

use super::{Body, BodyError};

/// What is not there by then is sent on as it comes, so that the beginning of a stream is not held back.
const PATIENCE: Duration = Duration::from_millis(50);

/// What could be read of a body.
#[derive(Debug)]
pub enum Gathered {
    Whole(Bytes),
    WithTrailers(Bytes, HeaderMap),
    /// The rest takes its time, or is more than was wanted.
    Part(Bytes),
}

/// Reads a body for as long as it keeps coming, and until it has brought more than `bytes_max`.
pub async fn gather(body: &mut Body, bytes_max: usize) -> Result<Gathered, BodyError> {
    let expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut first = Bytes::new();
    let mut read = Vec::new();
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    loop {
        let next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = tokio::select! {
            biased;
            frame = next => frame.transpose()?,
            () = &mut patience => return Ok(Gathered::Part(joined(first, read))),
        };
        match frame.map(http_body::Frame::into_data) {
            None => return Ok(Gathered::Whole(joined(first, read))),
            // What comes in one piece is not copied.
            Some(Ok(data)) if first.is_empty() && read.is_empty() => first = data,
            Some(Ok(data)) => {
                if read.is_empty() {
                    read.reserve(expected.unwrap_or_default().min(bytes_max));
                    read.extend_from_slice(&std::mem::take(&mut first));
                }
                read.extend_from_slice(&data);
            }
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return Ok(Gathered::WithTrailers(joined(first, read), trailers));
            }
        }
        // No more is kept than was announced, whoever holds the other side to it.
        if first.len().max(read.len()) > bytes_max {
            return Ok(Gathered::Part(joined(first, read)));
        }
        if body.is_end_stream() {
            return Ok(Gathered::Whole(joined(first, read)));
        }
    }
}

fn joined(first: Bytes, read: Vec<u8>) -> Bytes {
    if read.is_empty() { first } else { read.into() }
}
