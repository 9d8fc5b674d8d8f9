//! Which fields may come after a body.
//!
//! A recipient may merge trailers into the head long after the head was checked, so whatever frames,
//! routes, authenticates or controls a message is dropped here (RFC 9110 §6.5.1). What is left is what
//! trailers are for: digests, timings, the status of gRPC.

use http::{HeaderMap, HeaderName};

use super::{forwarded, hop_by_hop};

/// Drops what must not be in a trailer section, of a request or a response.
pub fn filter(trailers: &mut HeaderMap) {
    // Nothing is collected in the usual case, and an empty `Vec` does not allocate.
    let dropped: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in dropped {
        trailers.remove(name);
    }
}

fn may_trail(name: &HeaderName) -> bool {
    if hop_by_hop::ends_here(name.as_str().as_bytes()) || forwarded::is_claim(name) {
        return false;
    }
    let name = name.as_str();
    let controls = matches!(
        name,
        "host"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "www-authenticate"
            | "origin"
            | "referer"
            | "expect"
            | "max-forwards"
            | "range"
            | "cache-control"
            | "pragma"
            | "age"
            | "expires"
            | "date"
            | "location"
            | "retry-after"
            | "vary"
            | "via"
            | "warning"
            | "x-request-id"
            | "strict-transport-security"
    );
    // `Content-Digest` is the one of its family that is made after the content (RFC 9530 §2).
    let describes_content = name.starts_with("content-") && name != "content-digest";
    !(controls || describes_content || name.starts_with("if-") || name.starts_with("access-control-"))
}

#[cfg(test)]
mod tests {
    use super::super::rows::{fields, text};
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str) {
        let mut map = fields(before);
        filter(&mut map);
        assert_eq!(text(&map), text(&fields(after)));
    }

    #[test]
    fn only_what_is_known_after_the_body() {
        let kept = "grpc-status: 0\ngrpc-message: ok\nserver-timing: db;dur=5\ncontent-digest: sha-256=:x=:\netag: \"a\"\nx-sum: 1";
        check(kept, kept);
        check(&format!("content-length: 5\ntransfer-encoding: chunked\nhost: b\n{kept}"), kept);
        check("authorization: a\ncookie: a=b\nset-cookie: a=b\ncontent-type: a/b\ncontent-encoding: gzip", "");
        check(
            "x-forwarded-for: 1\nx-forwarded-any: 1\nx-real-ip: 1\nforwarded: for=1\nx_sum: 1\nconnection: x-sum",
            "",
        );
        check("if-none-match: *\ncache-control: public\nvary: *\nrange: bytes=0-\ntrailer: x\nage: 1\nproxy: a", "");
    }
}
