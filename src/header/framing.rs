//! Where a message ends: what a response says of it must be one thing (RFC 9112 §6.3).
//!
//! The codec has found the end in its own way by now. A client, or a cache behind, that reads the same
//! fields in another way would find another one, so a response that can be read in two ways is refused.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode};

/// What of the framing can be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("both Content-Length and Transfer-Encoding")]
    Both,
    #[error("more than one Content-Length")]
    RepeatedLength,
    #[error("a Content-Length that is not a number")]
    BadLength,
    #[error("a transfer coding other than chunked alone")]
    Coding,
}

/// Checks the framing of a response, and takes it off one that has no content.
pub fn settle_response<B>(response: &mut Response<B>) -> Result<(), FramingError> {
    let coding = coding(response.headers())?;
    let length = content_length(response.headers())?;
    if coding && length.is_some() {
        return Err(FramingError::Both);
    }
    // RFC 9110 §8.6 forbids it there, and not every receiver ignores it.
    if response.status() == StatusCode::NO_CONTENT && length.is_some() {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// The announced length, if there is one: one line of digits. A list of equal numbers is valid, too, but who
/// reads the first of them and who reads the whole are not of one mind about anything else.
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, FramingError> {
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => length(line.as_bytes()).map(Some).ok_or(FramingError::BadLength),
        (Some(_), Some(_)) => Err(FramingError::RepeatedLength),
    }
}

/// The number that a `Content-Length` is: digits alone, while `parse` takes a sign, too.
pub fn length(value: &[u8]) -> Option<u64> {
    value.iter().all(u8::is_ascii_digit).then(|| str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn coding(fields: &HeaderMap) -> Result<bool, FramingError> {
    let mut lines = fields.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(false),
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(FramingError::Coding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::rows;

    fn check(status: u16, fields: &str, expected: Result<&str, FramingError>) {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = rows::fields(fields);
        let settled = settle_response(&mut response).map(|()| rows::text(response.headers()));
        assert_eq!(settled, expected.map(str::to_owned), "{fields}");
    }

    #[test]
    fn one_framing_passes() {
        check(200, "", Ok(""));
        check(200, "Content-Length: 5", Ok("content-length: 5"));
        check(200, "Transfer-Encoding: Chunked", Ok("transfer-encoding: Chunked"));
        check(304, "Content-Length: 5", Ok("content-length: 5"));
        check(204, "Content-Length: 0", Ok(""));
    }

    #[test]
    fn two_framings_are_refused() {
        use FramingError::*;
        check(200, "Content-Length: 5\nTransfer-Encoding: chunked", Err(Both));
        check(204, "Content-Length: 0\nTransfer-Encoding: chunked", Err(Both));
        check(200, "Content-Length: 5\nContent-Length: 5", Err(RepeatedLength));
        for value in ["", "5, 5", "+5", "-1", "0x5", "5 5", "18446744073709551616"] {
            check(200, &format!("Content-Length: {value}"), Err(BadLength));
        }
        for value in
            ["gzip", "gzip, chunked", "chunked, chunked", "identity", "", "chunked\nTransfer-Encoding: chunked"]
        {
            check(200, &format!("Transfer-Encoding: {value}"), Err(Coding));
        }
    }
}
