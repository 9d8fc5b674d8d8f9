//! What of an answer's head is lines already, for a client over HTTP/1.1.

use crate::cache;
use crate::upstream::Lines;

#[derive(Debug)]
pub enum Prepared {
    /// Of what is stored.
    Stored(cache::Prepared),
    /// Of an endpoint, whose fields nobody has looked at.
    Passed(Lines),
}

impl Prepared {
    /// Appends them to a head.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Stored(stored) => stored.write(out),
            Self::Passed(lines) => lines.write(out),
        }
    }

    pub fn has_date(&self) -> bool {
        match self {
            Self::Stored(_) => true,
            Self::Passed(lines) => lines.has_date,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use crate::compress::NotCoded;
    use crate::compress::negotiate::{Asked, Plan, plan};
    use crate::config::{Coding, Compress, Levels, TypePattern};
    use crate::header::framing::Length;
    use crate::upstream::fuzzed::{AsLines, InPlace, read_head, read_in_place};

    const FIELDS: [&str; 10] = [
        "Content-Type: image/png",
        "Content-Type: Text/plain; charset=utf-8",
        "Content-Type:",
        "Content-Encoding: gzip",
        "Content-Encoding: identity",
        "Content-Range: bytes 0-1/2",
        "Cache-Control: max-age=5, no-transform",
        "Cache-Control: max-age=5",
        "Signature-Input: a",
        "Set-Cookie: a",
    ];

    proptest! {
        /// What is told of them without a look is what a look would say.
        #[test]
        fn what_passes_as_lines_is_not_coded_for_its_type(
            status in prop::sample::select(vec![200_u16, 201, 203, 205, 206, 404, 503]),
            fields in prop::sample::subsequence(FIELDS.to_vec(), 0..4).prop_shuffle(),
            accepted in prop::option::of(prop::sample::select(vec!["gzip", "identity", "*;q=0"])),
            has_all_types: bool,
        ) {
            let text = if has_all_types { String::new() } else { "text/".to_owned() };
            let types = vec![TypePattern::Any(text, String::new())];
            let levels = Levels { gzip: 6, br: 4, zstd: 3 };
            let policy = Compress { codings: vec![Coding::Gzip], levels, min_size: 1, types };
            let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
            let head = Bytes::from(format!("HTTP/1.1 {status} Said\r\nContent-Length: 40\r\n{lines}\r\n"));
            let wanted = AsLines { coded: Some(&policy.types) };
            if let InPlace::Lines(..) = read_in_place(&head, wanted) {
                let plain = read_head(&head, HeaderMap::new).unwrap();
                prop_assert_eq!(plain.length, Ok(Length::Known(40)));
                let asked = accepted.map(|codings| ("accept-encoding".parse().unwrap(), HeaderValue::from_static(codings)));
                let asked = Asked::by(&asked.into_iter().collect(), false);
                let status = StatusCode::from_u16(status).unwrap();
                let planned = plan(&asked, status, plain.response.headers(), Some(40), &policy);
                prop_assert_eq!(planned, Plan::Leave { why: NotCoded::Type, varies: false });
            }
        }
    }
}
