//! `Via`: the mark of this hop (RFC 9110 §7.6.3).

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

use super::append_to_list;

/// Marks a message that came in by `received`, after the marks of earlier hops and on the same line.
pub fn append(fields: &mut HeaderMap, received: Version) {
    append_to_list(fields, VIA, mark(received));
}

pub(super) const fn mark(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_10 => "1.0 tollgate",
        Version::HTTP_2 => "2.0 tollgate",
        Version::HTTP_3 => "3.0 tollgate",
        _ => OF_HTTP_11,
    })
}

/// The mark of what came in by HTTP/1.1.
pub const OF_HTTP_11: &str = "1.1 tollgate";

#[cfg(test)]
mod tests {
    use super::super::rows::{fields, text};
    use super::*;

    #[track_caller]
    fn check(before: &str, received: Version, after: &str) {
        let mut map = fields(before);
        append(&mut map, received);
        assert_eq!(text(&map), after);
    }

    #[test]
    fn one_line_whatever_came_before() {
        check("", Version::HTTP_11, "via: 1.1 tollgate");
        check("via:", Version::HTTP_11, "via: 1.1 tollgate");
        check("", Version::HTTP_10, "via: 1.0 tollgate");
        check("via: 1.1 cdn", Version::HTTP_2, "via: 1.1 cdn, 2.0 tollgate");
        check("via: 1.0 a\nvia: 1.1 b (x)", Version::HTTP_11, "via: 1.0 a, 1.1 b (x), 1.1 tollgate");
    }
}
