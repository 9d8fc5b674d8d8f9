//! What crossing this hop does to the fields of a message.
//!
//! A request passes through here in this order: [`authority`] says which host it is for, [`cookies`] makes one
//! line of crumbs, [`hop_by_hop`] takes out what was meant for this connection, [`forwarded`] drops what a stranger
//! claims about the client and writes what is known instead, [`via`] and [`request_id`] mark it; where nothing of that
//! was said before, [`hop_fields`] says it beside the map. A response passes [`framing`], [`hop_by_hop`] and [`via`];
//! trailers of either pass [`trailers`]. Where the edge codes content, [`etag`] marks its tag and takes the mark off when
//! it comes back. [`entity_tag`] and [`date`] read validators, for whoever compares them, and [`media_type`] says what
//! the content is.
//!
//! These are rules over a `HeaderMap`: they know no route, no config and no connection. A message that
//! needs nothing removed is looked through once by each and not copied.

pub mod authority;
pub mod cookies;
pub mod date;
pub mod entity_tag;
pub mod etag;
pub mod forwarded;
pub mod framing;
pub mod hop_by_hop;
pub mod hop_fields;
pub mod media_type;
pub mod request_id;
pub mod trailers;
pub mod via;

use bytes::BytesMut;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::FieldEdits;

/// Names what the response of an app purges; it ends at the edge.
pub const CACHE_PURGE: HeaderName = HeaderName::from_static("cache-purge");

/// What a request is given on its way, at most: who the client is, over which hop, under which name.
pub const REQUEST_FIELDS_ADDED: usize = 8;

/// Appends one line to a head or a trailer section.
pub fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Whether the edge may write the field of this name, in lower case, into any response.
pub fn is_of_edge(name: &[u8]) -> bool {
    matches!(name, b"strict-transport-security" | b"x-trace-id" | b"x-span-id")
        || [b"ratelimit".as_slice(), b"x-ratelimit-"].iter().any(|family| name.starts_with(family))
}

/// Appends a number.
pub fn write_integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }
}

/// Changes fields as a route says.
pub fn edit(fields: &mut HeaderMap, edits: &FieldEdits) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert(name, value.clone());
    }
}

/// Adds a last element to a list field and leaves it as one line: an upstream that reads only one line
/// must not miss what this hop wrote.
pub fn append_to_list(fields: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    let mut lines = match fields.entry(name) {
        Entry::Vacant(place) => {
            place.insert(element);
            return;
        }
        Entry::Occupied(lines) => lines,
    };
    let mut joined = BytesMut::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(element.as_bytes());
    // Values joined by a comma are a value, so the element alone is never taken.
    lines.insert(HeaderValue::from_maybe_shared(joined.freeze()).unwrap_or(element));
}

/// The fields in memory of their own, which has no room for more.
pub fn detached(fields: &HeaderMap) -> HeaderMap {
    let mut text = BytesMut::with_capacity(fields.values().map(HeaderValue::len).sum());
    fields.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    let mut own = fields.clone();
    for value in own.values_mut() {
        // What was a value is one.
        if let Ok(copied) = HeaderValue::from_maybe_shared(text.split_to(value.len())) {
            *value = copied;
        }
    }
    own
}

/// The elements of a list field over all its lines (RFC 9110 §5.6.1), without empty ones.
pub fn list<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(name).iter().flat_map(|line| elements(line.as_bytes()))
}

/// Those of one line.
pub fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
pub(crate) mod rows {
    //! Fields written as in a message, so that a test is a row.
    use super::*;

    pub fn fields(text: &str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
        }
        fields
    }

    /// Sorted, one field a line.
    pub fn text(fields: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn detached_fields_hold_no_other_memory() {
        let read = Bytes::from(b"HTTP/1.1 200 OK\r\nA: one\r\nB:\r\nA: three\r\n\r\nand a long body".to_vec());
        let mut fields = HeaderMap::new();
        for (name, value) in [("a", 20..23), ("b", 27..27), ("a", 32..37)] {
            fields.append(name, HeaderValue::from_maybe_shared(read.slice(value)).unwrap());
        }
        let own = detached(&fields);
        assert_eq!(own, fields);
        assert_eq!(rows::text(&own), "a: one\na: three\nb: ");
        drop(fields);
        assert!(read.is_unique());
    }
}
