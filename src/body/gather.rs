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
    // Mostly it came with its head: then there is nothing to wait for, and no time to be kept.
    if let Some(whole) = body.take_whole() {
        return Ok(if whole.len() > bytes_max { Gathered::Part(whole) } else { Gathered::Whole(whole) });
    }
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// What is read of a body, whether that is all, and what is left of it.
    async fn check(mut body: Body, bytes_max: usize, is_whole: bool, read: &str, rest: &str) {
        let found = match gather(&mut body, bytes_max).await.unwrap() {
            Gathered::Whole(bytes) => (true, bytes),
            Gathered::Part(bytes) => (false, bytes),
            Gathered::WithTrailers(..) => panic!("there are none"),
        };
        assert_eq!(found, (is_whole, Bytes::from(read.to_owned())));
        assert_eq!(body.collect().await.unwrap().to_bytes(), rest);
    }

    #[tokio::test]
    async fn small_content_is_read_and_of_large_the_rest_is_left() {
        let pieces = || Body::pieces(["ab".into(), "cd".into()]);
        check(Body::empty(), 3, true, "", "").await;
        check(Body::whole("abc"), 3, true, "abc", "").await;
        check(Body::whole("abc"), 2, false, "abc", "").await;
        check(pieces(), 4, true, "abcd", "").await;
        check(pieces(), 1, false, "ab", "cd").await;
    }
}
