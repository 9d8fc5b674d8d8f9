//! Everything that can end a request other than by its upstream's answer: one table from reason to status.
//!
//! The same code stands in the log, in the metric, in the error page and in `docs/troubleshooting.md`, so
//! codes never change their meaning. Subjects have errors of their own, which become a `Reason` here; this
//! module decides no more than what each is called and how it is answered.

use std::io;

use bytes::Bytes;
use http::StatusCode;

use crate::body::BodyError;
use crate::compress::RecodingError;
use crate::fetch::FetchError;
use crate::guard;
use crate::header::authority::AuthorityError;
use crate::overload::Full;
use crate::path::PathError;
use crate::rewrite::RewriteError;
use crate::upstream::UpstreamError;

/// Not in the registry, but known from nginx: the client left before its answer, so nobody sees it.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// Whether a reason has this code.
pub fn is_code(text: &str) -> bool {
    CODES.contains(&text) || guard::Reason::ALL.iter().any(|reason| reason.code() == text)
}

/// One row for each reason: name, status, code, and one sentence for operators.
macro_rules! reasons {
    ($($name:ident, $status:expr, $code:expr, $summary:literal;)+) => {
        /// Why a request ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            /// The framing guard refused it; the guard has the table of its own reasons.
            Guard(guard::Reason),
            $(#[doc = $summary] $name,)+
        }

        impl Reason {
            /// What the client is told. After a head has been sent it stands in the log alone.
            pub fn status(self) -> StatusCode {
                match self {
                    Self::Guard(refused) => refused.status(),
                    $(Self::$name => $status,)+
                }
            }

            /// A stable name in kebab case.
            pub fn code(self) -> &'static str {
                match self {
                    Self::Guard(refused) => refused.code(),
                    $(Self::$name => $code,)+
                }
            }
        }

        /// All but the guard's.
        const CODES: &[&str] = &[$($code,)+];

        /// The same with their sentences.
        #[cfg(test)]
        const ALL: &[(Reason, &str)] = &[$((Reason::$name, $summary),)+];
    };
}

reasons! {
    PathNotRooted, StatusCode::BAD_REQUEST, PathError::NotRooted.code(), "The path does not begin with a slash.";
    PathBadPercent, StatusCode::BAD_REQUEST, PathError::BadPercent.code(), "A percent sign in the path is not followed by two hex digits.";
    PathNul, StatusCode::BAD_REQUEST, PathError::Nul.code(), "The path holds an encoded NUL.";
    PathBackslash, StatusCode::BAD_REQUEST, PathError::Backslash.code(), "The path holds a backslash.";
    PathControl, StatusCode::BAD_REQUEST, PathError::Control.code(), "The path holds a control character or a space.";
    PathDelimiter, StatusCode::BAD_REQUEST, PathError::Delimiter.code(), "The path holds a character that ends a path.";
    HostMissing, StatusCode::BAD_REQUEST, AuthorityError::Missing.code(), "The request names no host.";
    HostRepeated, StatusCode::BAD_REQUEST, AuthorityError::Repeated.code(), "The request has more than one Host field.";
    HostInvalid, StatusCode::BAD_REQUEST, AuthorityError::Invalid.code(), "The host is not a name or an address with an optional port.";
    HostMismatch, StatusCode::BAD_REQUEST, AuthorityError::Mismatch.code(), "The target and the Host field name different hosts.";
    ExpectationFailed, StatusCode::EXPECTATION_FAILED, "expectation-failed", "The request expects something other than 100-continue.";
    NoRoute, StatusCode::NOT_FOUND, "no-route", "No route matches the host and the path.";
    AccessDenied, StatusCode::FORBIDDEN, "access-denied", "The route's allow and deny lists keep this client out.";
    RateLimited, StatusCode::TOO_MANY_REQUESTS, "rate-limited", "A rate limit of the route does not let this request through yet.";
    BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request body is larger than the route's body_max.";
    BodyReadTimeout, StatusCode::REQUEST_TIMEOUT, "body-read-timeout", "The client stopped sending its body for longer than body_timeout.";
    BodyTooSlow, StatusCode::REQUEST_TIMEOUT, "body-too-slow", "The client sent its body more slowly than rate_min, or than timeout.attempt or timeout.total allow.";
    BodyAborted, StatusCode::BAD_REQUEST, "body-aborted", "The client ended its request in the middle of the body.";
    ClientGone, CLIENT_CLOSED_REQUEST, "client-gone", "The client left before the answer was ready.";
    ProxyFull, StatusCode::SERVICE_UNAVAILABLE, "proxy-full", "There are as many requests in flight as `[server] requests_max` allows.";
    RouteFull, StatusCode::SERVICE_UNAVAILABLE, "route-full", "There are as many requests in flight as the route's requests_max allows.";
    ClientFull, StatusCode::SERVICE_UNAVAILABLE, "client-full", "The client has as many requests in flight as `[client] requests_max` allows.";
    MemoryShort, StatusCode::SERVICE_UNAVAILABLE, "memory-short", "The process uses more memory than its hard limit.";
    DrainTimeout, StatusCode::SERVICE_UNAVAILABLE, "drain-timeout", "The proxy ended before the answer did: drain_timeout had passed, or it was told twice.";
    NoEndpoint, StatusCode::SERVICE_UNAVAILABLE, "no-endpoint", "The upstream has no endpoint that may be used.";
    UpstreamFull, StatusCode::SERVICE_UNAVAILABLE, "upstream-full", "The upstream has as many requests in flight as it may have, and as many wait.";
    QueueTimeout, StatusCode::SERVICE_UNAVAILABLE, "queue-timeout", "The upstream had no room for the request within queue.timeout.";
    BreakerOpen, StatusCode::SERVICE_UNAVAILABLE, "breaker-open", "The upstream's breaker is open, so it is not asked for now.";
    ConnectRefused, StatusCode::BAD_GATEWAY, "connect-refused", "The endpoint refused the connection.";
    ConnectFailed, StatusCode::BAD_GATEWAY, "connect-failed", "The endpoint could not be reached.";
    ConnectTimeout, StatusCode::GATEWAY_TIMEOUT, "connect-timeout", "The endpoint did not accept the connection within timeout.connect.";
    UpstreamTls, StatusCode::BAD_GATEWAY, "upstream-tls", "The TLS handshake with the endpoint failed.";
    UpstreamClosedEarly, StatusCode::BAD_GATEWAY, "upstream-closed-early", "The endpoint closed the connection before its response head.";
    UpstreamProtocol, StatusCode::BAD_GATEWAY, "upstream-protocol", "The endpoint's response is not valid HTTP.";
    UpstreamFraming, StatusCode::BAD_GATEWAY, "upstream-framing", "The length of the endpoint's response can be read in two ways.";
    UpstreamHeadTooLarge, StatusCode::BAD_GATEWAY, "upstream-head-too-large", "The endpoint's response head is over the limit.";
    UpstreamInterimLimit, StatusCode::BAD_GATEWAY, "upstream-interim-limit", "The endpoint sent more than 16 interim (1xx) responses.";
    UpstreamFlood, StatusCode::BAD_GATEWAY, "upstream-flood", "The endpoint sent more frames of HTTP/2 that ask and bring nothing than it may.";
    UpstreamBadUpgrade, StatusCode::BAD_GATEWAY, "upstream-bad-upgrade", "The endpoint changed to a protocol that was not asked for.";
    SendTimeout, StatusCode::GATEWAY_TIMEOUT, "send-timeout", "The endpoint took nothing of the request for longer than timeout.send.";
    ReadTimeout, StatusCode::GATEWAY_TIMEOUT, "read-timeout", "The endpoint sent nothing for longer than timeout.read.";
    AttemptTimeout, StatusCode::GATEWAY_TIMEOUT, "attempt-timeout", "The last attempt had no response head within timeout.attempt.";
    TotalTimeout, StatusCode::GATEWAY_TIMEOUT, "total-timeout", "All attempts together had no response head within timeout.total.";
    BodyTruncated, StatusCode::BAD_GATEWAY, "body-truncated", "The response body ended early.";
    ContentCoding, StatusCode::BAD_GATEWAY, "content-coding", "The endpoint's gzip is broken, or stands for more than any content would.";
    TunnelIdle, StatusCode::SWITCHING_PROTOCOLS, "tunnel-idle", "Nothing passed the tunnel for longer than timeout.tunnel_idle.";
    TunnelFailed, StatusCode::SWITCHING_PROTOCOLS, "tunnel-failed", "One side broke the tunnel off.";
    CacheOnly, StatusCode::GATEWAY_TIMEOUT, "cache-only", "The client asks for nothing but what is kept, and nothing is.";
    CacheFellBehind, StatusCode::BAD_GATEWAY, "cache-fell-behind", "The client was too slow for a response that is received once for many and not kept.";
    RewriteFailed, StatusCode::INTERNAL_SERVER_ERROR, "rewrite-failed", "The route's rewrite made something that is not a path.";
}

impl Reason {
    /// Whether bytes may follow on an HTTP/1.1 connection that are not to be parsed.
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::Guard(_) | Self::BodyTooLarge | Self::BodyReadTimeout | Self::BodyTooSlow | Self::BodyAborted
        )
    }
}

impl Reason {
    /// Whether the page of a route may stand in: the upstream brought no response, for whatever reason, and the client
    /// did nothing wrong.
    pub fn falls_back(self) -> bool {
        let is_of_upstream = matches!(self.status().as_u16(), 502..=504);
        // What there is too much of is said as it is: the page may have any status, and asks nobody to wait.
        let is_own = matches!(
            self,
            Self::ProxyFull | Self::RouteFull | Self::ClientFull | Self::MemoryShort | Self::DrainTimeout
        );
        is_of_upstream && !is_own && !matches!(self, Self::Guard(_) | Self::CacheOnly | Self::CacheFellBehind)
    }
}

impl From<FetchError> for Reason {
    fn from(error: FetchError) -> Self {
        Self::from(&error)
    }
}

impl From<&FetchError> for Reason {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::NoEndpoint(_) | FetchError::Ejected => Self::NoEndpoint,
            FetchError::BreakerOpen(_) => Self::BreakerOpen,
            FetchError::Full(_) => Self::UpstreamFull,
            FetchError::QueueTimeout(..) => Self::QueueTimeout,
            FetchError::TotalTimeout(_) => Self::TotalTimeout,
            FetchError::AttemptTimeout(_) => Self::AttemptTimeout,
            FetchError::UploadTimeout(_) => Self::BodyTooSlow,
            FetchError::GivenUp(error) | FetchError::Upstream(error) => error.into(),
        }
    }
}

impl From<&UpstreamError> for Reason {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            UpstreamError::Connect(_) => Self::ConnectFailed,
            UpstreamError::ConnectTimeout(_) => Self::ConnectTimeout,
            UpstreamError::Tls(_) => Self::UpstreamTls,
            UpstreamError::HeadTooLarge => Self::UpstreamHeadTooLarge,
            UpstreamError::Protocol(_) => Self::UpstreamProtocol,
            UpstreamError::Closed(_) => Self::UpstreamClosedEarly,
            UpstreamError::ReadTimeout(_) => Self::ReadTimeout,
            UpstreamError::SendTimeout => Self::SendTimeout,
            UpstreamError::InterimLimit => Self::UpstreamInterimLimit,
            UpstreamError::Flood(_) => Self::UpstreamFlood,
            UpstreamError::UnaskedUpgrade => Self::UpstreamBadUpgrade,
            UpstreamError::Framing(_) => Self::UpstreamFraming,
            UpstreamError::RequestBody(error) => error.into(),
        }
    }
}

impl Reason {
    /// Why the body of a response was cut, or could not be read before its head was sent.
    pub fn of_response(error: &BodyError) -> Self {
        match error {
            BodyError::Silence(_) | BodyError::TooSlow => Self::ReadTimeout,
            BodyError::Upload(error) => Self::from(&**error),
            BodyError::Coding(_) => Self::ContentCoding,
            BodyError::FellBehind => Self::CacheFellBehind,
            BodyError::TooLarge { .. } | BodyError::TrailersTooLarge | BodyError::Peer(_) | BodyError::Stopped => {
                Self::BodyTruncated
            }
        }
    }
}

/// For the body of a request.
impl From<&BodyError> for Reason {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::BodyTooLarge,
            BodyError::TrailersTooLarge => Self::Guard(guard::Reason::TrailersTooLarge),
            BodyError::Silence(_) => Self::BodyReadTimeout,
            BodyError::TooSlow => Self::BodyTooSlow,
            BodyError::Peer(error) => violation(&**error).map_or(Self::BodyAborted, Self::Guard),
            BodyError::Upload(error) => Self::from(&**error),
            // Its response was over before; requests are not coded.
            BodyError::Stopped | BodyError::Coding(_) => Self::BodyAborted,
            BodyError::FellBehind => Self::CacheFellBehind,
        }
    }
}

/// The guard's reason, if it cut a body off.
fn violation(error: &(dyn std::error::Error + 'static)) -> Option<guard::Reason> {
    error.downcast_ref::<guard::Violation>().map(|guard::Violation(reason)| *reason)
}

impl From<BodyError> for Reason {
    fn from(error: BodyError) -> Self {
        Self::from(&error)
    }
}

impl From<RecodingError> for Reason {
    fn from(RecodingError(error): RecodingError) -> Self {
        Self::of_response(&error)
    }
}

impl From<PathError> for Reason {
    fn from(error: PathError) -> Self {
        match error {
            PathError::NotRooted => Self::PathNotRooted,
            PathError::BadPercent => Self::PathBadPercent,
            PathError::Nul => Self::PathNul,
            PathError::Backslash => Self::PathBackslash,
            PathError::Control => Self::PathControl,
            PathError::Delimiter => Self::PathDelimiter,
        }
    }
}

/// The rule is at fault, whatever the client sent.
impl From<RewriteError> for Reason {
    fn from(_: RewriteError) -> Self {
        Self::RewriteFailed
    }
}

impl From<Full> for Reason {
    fn from(full: Full) -> Self {
        match full {
            Full::Proxy => Self::ProxyFull,
            Full::Route => Self::RouteFull,
            Full::Client => Self::ClientFull,
        }
    }
}

impl From<AuthorityError> for Reason {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Missing => Self::HostMissing,
            AuthorityError::Repeated => Self::HostRepeated,
            AuthorityError::Invalid => Self::HostInvalid,
            AuthorityError::Mismatch => Self::HostMismatch,
        }
    }
}

/// The plain text that a client gets. It names nothing of the inside but the reason.
pub fn page(reason: Reason, request_id: &str) -> Bytes {
    let status = reason.status();
    let phrase = status.canonical_reason().unwrap_or("Client Closed Request");
    format!("{} {phrase}\nreason: {}\nrequest: {request_id}\n", status.as_u16(), reason.code()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_in_kebab_case() {
        let codes: BTreeSet<_> = ALL.iter().map(|(reason, _)| reason.code()).collect();
        assert_eq!(codes.len(), ALL.len());
        for code in codes {
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(code.split('-').all(is_word), "{code}");
        }
    }

    #[test]
    fn a_page_stands_in_for_the_upstream_alone() {
        let falling_back: Vec<_> = ALL.iter().map(|(reason, _)| *reason).filter(|reason| reason.falls_back()).collect();
        for reason in [Reason::NoEndpoint, Reason::ConnectRefused, Reason::TotalTimeout, Reason::BodyTruncated] {
            assert!(falling_back.contains(&reason), "{reason:?}");
        }
        for reason in [
            Reason::NoRoute,
            Reason::BodyTooLarge,
            Reason::BodyTooSlow,
            Reason::ClientGone,
            Reason::CacheOnly,
            Reason::ProxyFull,
            Reason::RouteFull,
            Reason::ClientFull,
            Reason::MemoryShort,
        ] {
            assert!(!falling_back.contains(&reason), "{reason:?}");
        }
    }

    #[test]
    fn errors_of_subjects_keep_their_code() {
        for error in PathError::ALL {
            assert_eq!(Reason::from(*error).code(), error.code());
        }
        for error in AuthorityError::ALL {
            assert_eq!(Reason::from(*error).code(), error.code());
        }
    }

    #[test]
    fn the_page_is_plain() {
        assert_eq!(page(Reason::ConnectRefused, "7f"), "502 Bad Gateway\nreason: connect-refused\nrequest: 7f\n");
        assert_eq!(page(Reason::ClientGone, "-"), "499 Client Closed Request\nreason: client-gone\nrequest: -\n");
    }

    /// A heading in the document is `### code (status)`.
    #[test]
    fn every_reason_is_in_the_document() {
        let document = include_str!("../docs/troubleshooting.md");
        let written: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let own = ALL.iter().map(|(reason, _)| (reason.code(), reason.status()));
        // A fault that HTTP/2 has too is explained once, with the status that the path answers.
        let of_the_guard = guard::Reason::ALL.iter().map(|reason| (reason.code(), reason.status()));
        let known: BTreeSet<_> = own.clone().map(|(code, _)| code).collect();
        let expected: BTreeSet<_> = own
            .chain(of_the_guard.filter(|(code, _)| !known.contains(code)))
            .map(|(code, status)| format!("`{code}` ({})", status.as_u16()))
            .collect();
        assert_eq!(written.iter().map(|heading| (*heading).to_owned()).collect::<BTreeSet<_>>(), expected);
        assert_eq!(written.len(), expected.len(), "a reason stands twice in the document");
        for (reason, summary) in ALL {
            assert!(document.contains(summary), "the document words {} differently", reason.code());
        }
    }
}
