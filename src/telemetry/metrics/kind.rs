//! What the conventions of OpenTelemetry tell requests apart by, in a few bytes.

use std::borrow::Cow;

use http::{Method, StatusCode, Version};

/// Methods of RFC 9110 and RFC 5789; what else a client may say is one (`_OTHER`).
const METHODS: [(&str, Method); 9] = [
    ("GET", Method::GET),
    ("POST", Method::POST),
    ("HEAD", Method::HEAD),
    ("PUT", Method::PUT),
    ("DELETE", Method::DELETE),
    ("PATCH", Method::PATCH),
    ("OPTIONS", Method::OPTIONS),
    ("CONNECT", Method::CONNECT),
    ("TRACE", Method::TRACE),
];

pub const OTHER_METHOD: &str = "_OTHER";

/// Method, version, status and error of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    version: u8,
    /// 0 if there was none.
    status: u16,
    /// Its place in the table.
    method: u8,
    error: Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Error {
    None,
    /// The status is one.
    Status,
    /// From a closed set of codes.
    Code(&'static str),
}

/// To a server, a request failed if it says so by 5xx, or if the response did not come to its end.
pub fn server_error(status: StatusCode, failure: Option<&'static str>) -> Error {
    match failure {
        Some(code) if !status.is_client_error() => Error::Code(code),
        None if status.is_server_error() => Error::Status,
        _ => Error::None,
    }
}

/// To a client, 4xx is an error as well.
pub fn client_error(status: StatusCode) -> Error {
    if status.is_server_error() || status.is_client_error() { Error::Status } else { Error::None }
}

impl Attributes {
    pub fn new(method: &Method, version: Version, status: Option<StatusCode>, error: Error) -> Self {
        let place = METHODS.iter().position(|(_, known)| known == method).unwrap_or(METHODS.len());
        let version = match version {
            Version::HTTP_2 => 2,
            Version::HTTP_11 => 1,
            _ => 0,
        };
        Self { version, status: status.map_or(0, |status| status.as_u16()), method: place as u8, error }
    }

    /// The first digit of the status; 0 without one.
    pub fn class(self) -> u16 {
        self.status / 100
    }

    /// `h1` or `h2`.
    pub fn protocol(self) -> &'static str {
        if self.version == 2 { "h2" } else { "h1" }
    }

    pub fn version(self) -> &'static str {
        match self.version {
            2 => "2",
            1 => "1.1",
            _ => "1.0",
        }
    }

    pub fn method(self) -> &'static str {
        METHODS.get(usize::from(self.method)).map_or(OTHER_METHOD, |(name, _)| name)
    }

    /// Empty if there was none.
    pub fn status(self) -> String {
        if self.status == 0 { String::new() } else { self.status.to_string() }
    }

    /// Empty if there was none.
    pub fn error(self) -> Cow<'static, str> {
        match self.error {
            Error::None => "".into(),
            Error::Status => self.status().into(),
            Error::Code(code) => code.into(),
        }
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

    #[test]
    fn what_is_an_error_to_whom() {
        let check = |status: u16, failure: Option<&'static str>, server: &str, client: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let word = |error| Attributes::new(&Method::GET, Version::HTTP_11, Some(status), error).error();
            assert_eq!(word(server_error(status, failure)), server, "{status}");
            assert_eq!(word(client_error(status)), client, "{status}");
        };
        check(200, None, "", "");
        check(404, None, "", "404");
        check(404, Some("no-route"), "", "404");
        check(499, Some("client-gone"), "", "499");
        check(500, None, "500", "500");
        check(503, Some("no-endpoint"), "no-endpoint", "503");
        check(200, Some("client-gone"), "client-gone", "");
    }
}
