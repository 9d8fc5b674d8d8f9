//! A request for tests to begin with.

use std::time::Duration;

use http::Version;

use super::{Entry, Words};

/// Some of the words that there are.
pub const WORDS: Words = Words {
    is_verdict_of_cache: |text| ["hit", "miss"].contains(&text),
    is_reason: |text| ["connect-refused", "no-route"].contains(&text),
};

/// `GET /x`, answered by 200 and 512 bytes; of nothing else is anything known.
pub fn entry<'a>() -> Entry<'a> {
    Entry {
        client: [203, 0, 113, 7].into(),
        peer: ([10, 0, 0, 1], 40312).into(),
        method: "GET",
        host: "example.com",
        port: None,
        path: "/x",
        query: None,
        version: Version::HTTP_11,
        status: 200,
        reason: None,
        rpc_status: None,
        rate_limit: None,
        cache: None,
        coding: None,
        duration: Duration::from_micros(1234),
        bytes_sent: 512,
        bytes_received: 0,
        route: None,
        path_of_route: None,
        upstream: None,
        request_id: None,
        trace: None,
        referer: None,
        user_agent: None,
        tls: None,
    }
}
