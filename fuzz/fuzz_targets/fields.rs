//! Fields as the targets read them: one a line, and what is no field is left out.

use http::{HeaderMap, HeaderName, HeaderValue};

const LINES_MAX: usize = 64;

pub fn read(head: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(LINES_MAX) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&value[1..])) {
            fields.append(name, value);
        }
    }
    fields
}
