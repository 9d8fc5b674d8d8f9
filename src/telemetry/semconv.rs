//! The closed sets of OpenTelemetry's conventions for HTTP, which spans and metrics share: method, version, and what is an
//! error to whom. A call of gRPC that failed is one of them, although HTTP knows nothing of that. Pure.

use std::borrow::Cow;

use http::{StatusCode, Version};

/// Methods of RFC 9110, RFC 5789 and the one of safe queries; what else a client may say is one (`_OTHER`).
pub const METHODS: [&str; 10] =
    ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

pub const OTHER_METHOD: &str = "_OTHER";

/// The method as the conventions know it, and as it came if they do not.
pub fn method(sent: &str) -> (&'static str, Option<&str>) {
    match METHODS.into_iter().find(|known| *known == sent) {
        Some(known) => (known, None),
        None => (OTHER_METHOD, Some(sent)),
    }
}

pub fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Error {
    None,
    /// The status is one.
    Status(u16),
    /// From a closed set of codes.
    Code(&'static str),
}

/// The statuses of gRPC by their numbers (<https://grpc.io/docs/guides/status-codes>).
const RPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The status of a call that ended without one, and any that has no name.
pub const RPC_UNKNOWN: &str = "UNKNOWN";

/// Those of which the server is at fault, by the conventions for gRPC.
const RPC_SERVER_ERRORS: [&str; 6] =
    [RPC_UNKNOWN, "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// The name of what `grpc-status` says.
pub fn rpc_status(sent: &[u8]) -> &'static str {
    let number = std::str::from_utf8(sent).ok().and_then(|text| text.parse::<usize>().ok());
    number.and_then(|number| RPC_STATUSES.get(number)).copied().unwrap_or(RPC_UNKNOWN)
}

/// To a server, a request failed if it says so by 5xx, or if the response did not come to its end, or by the status of gRPC.
pub fn server_error(status: StatusCode, failure: Option<&'static str>, rpc_status: Option<&'static str>) -> Error {
    match failure {
        Some(code) if !status.is_client_error() => Error::Code(code),
        None if status.is_server_error() => Error::Status(status.as_u16()),
        None => rpc_status.filter(|name| RPC_SERVER_ERRORS.contains(name)).map_or(Error::None, Error::Code),
        Some(_) => Error::None,
    }
}

/// To a client, 4xx is an error as well.
pub fn client_error(status: StatusCode) -> Error {
    let is_error = status.is_server_error() || status.is_client_error();
    if is_error { Error::Status(status.as_u16()) } else { Error::None }
}

impl Error {
    /// `error.type`; None if there is no error.
    pub fn kind(self) -> Option<Cow<'static, str>> {
        match self {
            Self::None => None,
            Self::Status(status) => Some(status.to_string().into()),
            Self::Code(code) => Some(code.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_error_to_whom() {
        let check = |status: u16, failure: Option<&'static str>, server: Option<&str>, client: Option<&str>| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(server_error(status, failure, None).kind().as_deref(), server, "{status}");
            assert_eq!(client_error(status).kind().as_deref(), client, "{status}");
        };
        check(200, None, None, None);
        check(404, None, None, Some("404"));
        check(404, Some("no-route"), None, Some("404"));
        check(499, Some("client-gone"), None, Some("499"));
        check(500, None, Some("500"), Some("500"));
        check(503, Some("no-endpoint"), Some("no-endpoint"), Some("503"));
        check(200, Some("client-gone"), Some("client-gone"), None);
    }

    #[test]
    fn what_a_call_of_grpc_came_to() {
        let check = |sent: &str, name: &'static str, error: Option<&str>| {
            assert_eq!(rpc_status(sent.as_bytes()), name, "{sent:?}");
            let found = server_error(StatusCode::OK, None, Some(name));
            assert_eq!(found.kind().as_deref(), error, "{sent:?}");
        };
        check("0", "OK", None);
        check("1", "CANCELLED", None);
        check("5", "NOT_FOUND", None);
        check("16", "UNAUTHENTICATED", None);
        for (sent, name) in [("4", "DEADLINE_EXCEEDED"), ("12", "UNIMPLEMENTED"), ("13", "INTERNAL")] {
            check(sent, name, Some(name));
        }
        check("14", "UNAVAILABLE", Some("UNAVAILABLE"));
        for sent in ["2", "17", "-1", "", "99999999999999999999", "ok"] {
            check(sent, "UNKNOWN", Some("UNKNOWN"));
        }
        // What ends a call before its status says more.
        assert_eq!(server_error(StatusCode::OK, Some("broken"), Some("UNKNOWN")), Error::Code("broken"));
        assert_eq!(server_error(StatusCode::BAD_GATEWAY, None, Some("OK")), Error::Status(502));
    }

    #[test]
    fn methods_are_told_apart_by_case_too() {
        assert_eq!((method("QUERY"), method("get")), (("QUERY", None), (OTHER_METHOD, Some("get"))));
    }
}
