//! What the conventions of OpenTelemetry tell requests apart by, in a few bytes.

use std::borrow::Cow;

use http::{Method, StatusCode, Version};

use crate::telemetry::semconv::{Error, METHODS, OTHER_METHOD, protocol_version};

/// Method, version, status and error of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    version: Version,
    /// 0 if there was none.
    status: u16,
    /// Its place in the table.
    method: u8,
    error: Error,
}

impl Attributes {
    pub fn new(method: &Method, version: Version, status: Option<StatusCode>, error: Error) -> Self {
        let place = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len());
        Self { version, status: status.map_or(0, |status| status.as_u16()), method: place as u8, error }
    }

    /// The first digit of the status; 0 without one.
    pub fn class(self) -> u16 {
        self.status / 100
    }

    /// `h1` or `h2`.
    pub fn protocol(self) -> &'static str {
        if self.version == Version::HTTP_2 { "h2" } else { "h1" }
    }

    pub fn version(self) -> &'static str {
        protocol_version(self.version)
    }

    pub fn method(self) -> &'static str {
        METHODS.get(usize::from(self.method)).copied().unwrap_or(OTHER_METHOD)
    }

    /// Empty if there was none.
    pub fn status(self) -> String {
        if self.status == 0 { String::new() } else { self.status.to_string() }
    }

    /// Empty if there was none.
    pub fn error(self) -> Cow<'static, str> {
        self.error.kind().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_words() {
        let check = |method: &str, version, status: u16, expected: [&str; 5]| {
            let status = StatusCode::from_u16(status).ok();
            let attributes = Attributes::new(&method.parse().unwrap(), version, status, Error::None);
            let protocol = (attributes.protocol(), attributes.version());
            let found = [attributes.method(), protocol.0, protocol.1, &attributes.status(), &attributes.error()];
            assert_eq!(found, expected);
        };
        check("GET", Version::HTTP_11, 200, ["GET", "h1", "1.1", "200", ""]);
        check("TRACE", Version::HTTP_10, 499, ["TRACE", "h1", "1.0", "499", ""]);
        check("get", Version::HTTP_2, 999, ["_OTHER", "h2", "2", "999", ""]);
        check("PROPFIND", Version::HTTP_2, 0, ["_OTHER", "h2", "2", "", ""]);
    }
}
