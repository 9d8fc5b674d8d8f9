//! Where a message ends: what a response says of it must be one thing (RFC 9112 §6.3).
//!
//! A client, or a cache behind, that reads the same fields in another way than this hop would find another end,
//! so a response that can be read in two ways is refused.

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

/// How the end of a response is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// What the fields of a response say of its end, if they say one thing.
pub fn length_of_response(fields: &HeaderMap) -> Result<Length, FramingError> {
    match (coding(fields)?, content_length(fields)?) {
        (true, Some(_)) => Err(FramingError::Both),
        (true, None) => Ok(Length::Chunked),
        (false, Some(length)) => Ok(Length::Known(length)),
        (false, None) => Ok(Length::UntilClose),
    }
}

/// Takes the length off a response that cannot have content (RFC 9110 §8.6): not every receiver ignores it.
pub fn settle_response<B>(response: &mut Response<B>) {
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
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

    fn check(text: &str, expected: Result<Length, FramingError>) {
        assert_eq!(length_of_response(&rows::fields(text)), expected, "{text}");
    }

    #[test]
    fn one_framing_passes() {
        check("", Ok(Length::UntilClose));
        check("Content-Length: 5", Ok(Length::Known(5)));
        check("Transfer-Encoding: Chunked", Ok(Length::Chunked));
    }

    #[test]
    fn two_framings_are_refused() {
        use FramingError::*;
        check("Content-Length: 5\nTransfer-Encoding: chunked", Err(Both));
        check("Content-Length: 5\nContent-Length: 5", Err(RepeatedLength));
        for value in ["", "5, 5", "+5", "-1", "0x5", "5 5", "18446744073709551616"] {
            check(&format!("Content-Length: {value}"), Err(BadLength));
        }
        for value in
            ["gzip", "gzip, chunked", "chunked, chunked", "identity", "", "chunked\nTransfer-Encoding: chunked"]
        {
            check(&format!("Transfer-Encoding: {value}"), Err(Coding));
        }
    }

    #[test]
    fn no_content_has_no_length() {
        for (status, length) in [(204, None), (200, Some("0")), (304, Some("0"))] {
            let mut response = Response::builder().status(status).header("content-length", "0").body(()).unwrap();
            settle_response(&mut response);
            assert_eq!(response.headers().get("content-length").map(|value| value.to_str().unwrap()), length);
        }
    }
}
