//! Why a request is refused or its body cut off: one closed set for the log, the metric and the answer.

use std::fmt;

use http::StatusCode;

/// What was wrong with a client's bytes, or with the time it took to send or take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    // The request line.
    BadRequestLine,
    BadMethod,
    MethodNotAllowed,
    BadVersion,
    UnsupportedVersion,
    BadTarget,
    BadScheme,
    FragmentInTarget,
    TargetTooLong,
    // Any line of a head.
    BareLf,
    BareCr,
    ControlByte,
    ObsFold,
    SpaceBeforeColon,
    EmptyFieldName,
    BadFieldName,
    BadFieldValue,
    TooManyFields,
    HeadTooLarge,
    HeadMemory,
    // Host.
    NoHost,
    RepeatedHost,
    BadHost,
    AuthorityMismatch,
    // The length of the body.
    BadContentLength,
    RepeatedContentLength,
    NoContentLength,
    ClAndTe,
    TeInHttp10,
    RepeatedTe,
    BadTe,
    UnknownTe,
    BadExpect,
    // A chunked body.
    BadChunkSize,
    BadChunkEnd,
    BadChunkExtension,
    ChunkExtensionsTooLarge,
    ChunkOverhead,
    BadTrailer,
    TrailersTooLarge,
    // Time.
    HeaderTimeout,
    BodyTimeout,
    BodyTooSlow,
    SendTimeout,
    ClientTooSlow,
}

/// The error of a body that is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client was cut off: {0}")]
pub struct Violation(pub Reason);

impl Reason {
    pub const ALL: [Self; 45] = [
        Self::BadRequestLine,
        Self::BadMethod,
        Self::MethodNotAllowed,
        Self::BadVersion,
        Self::UnsupportedVersion,
        Self::BadTarget,
        Self::BadScheme,
        Self::FragmentInTarget,
        Self::TargetTooLong,
        Self::BareLf,
        Self::BareCr,
        Self::ControlByte,
        Self::ObsFold,
        Self::SpaceBeforeColon,
        Self::EmptyFieldName,
        Self::BadFieldName,
        Self::BadFieldValue,
        Self::TooManyFields,
        Self::HeadTooLarge,
        Self::HeadMemory,
        Self::NoHost,
        Self::RepeatedHost,
        Self::BadHost,
        Self::AuthorityMismatch,
        Self::BadContentLength,
        Self::RepeatedContentLength,
        Self::NoContentLength,
        Self::ClAndTe,
        Self::TeInHttp10,
        Self::RepeatedTe,
        Self::BadTe,
        Self::UnknownTe,
        Self::BadExpect,
        Self::BadChunkSize,
        Self::BadChunkEnd,
        Self::BadChunkExtension,
        Self::ChunkExtensionsTooLarge,
        Self::ChunkOverhead,
        Self::BadTrailer,
        Self::TrailersTooLarge,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::BodyTooSlow,
        Self::SendTimeout,
        Self::ClientTooSlow,
    ];

    /// The stable name in the log, the metric and the debug field. Where HTTP/2 knows the same fault, it has the
    /// same name.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequestLine => "bad-request-line",
            Self::BadMethod => "bad-method",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BadVersion => "bad-version",
            Self::UnsupportedVersion => "unsupported-version",
            Self::BadTarget => "bad-target",
            Self::BadScheme => "bad-scheme",
            Self::FragmentInTarget => "fragment-in-target",
            Self::TargetTooLong => "target-too-long",
            Self::BareLf => "bare-lf",
            Self::BareCr => "bare-cr",
            Self::ControlByte => "control-byte",
            Self::ObsFold => "obs-fold",
            Self::SpaceBeforeColon => "space-before-colon",
            Self::EmptyFieldName => "empty-field-name",
            Self::BadFieldName => "bad-field-name",
            Self::BadFieldValue => "bad-field-value",
            Self::TooManyFields => "too-many-fields",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadMemory => "head-memory",
            Self::NoHost => "host-missing",
            Self::RepeatedHost => "host-repeated",
            Self::BadHost => "host-invalid",
            Self::AuthorityMismatch => "host-mismatch",
            Self::BadContentLength => "bad-content-length",
            Self::RepeatedContentLength => "repeated-content-length",
            Self::NoContentLength => "no-content-length",
            Self::ClAndTe => "cl-and-te",
            Self::TeInHttp10 => "te-in-http10",
            Self::RepeatedTe => "repeated-te",
            Self::BadTe => "bad-te",
            Self::UnknownTe => "unknown-te",
            Self::BadExpect => "expectation-failed",
            Self::BadChunkSize => "bad-chunk-size",
            Self::BadChunkEnd => "bad-chunk-end",
            Self::BadChunkExtension => "bad-chunk-extension",
            Self::ChunkExtensionsTooLarge => "chunk-extensions-too-large",
            Self::ChunkOverhead => "chunk-overhead",
            Self::BadTrailer => "bad-trailer",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::HeaderTimeout => "header-timeout",
            Self::BodyTimeout => "body-read-timeout",
            Self::BodyTooSlow => "body-too-slow",
            Self::SendTimeout => "client-send-timeout",
            Self::ClientTooSlow => "client-too-slow",
        }
    }

    /// The status that answers it. After `SendTimeout` and `ClientTooSlow` nobody listens any more.
    pub fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields | Self::HeadTooLarge | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::HeadMemory => StatusCode::SERVICE_UNAVAILABLE,
            // RFC 9112 §6.1: a transfer coding that the server does not know.
            Self::UnknownTe => StatusCode::NOT_IMPLEMENTED,
            Self::BadExpect => StatusCode::EXPECTATION_FAILED,
            Self::HeaderTimeout | Self::BodyTimeout | Self::BodyTooSlow | Self::SendTimeout | Self::ClientTooSlow => {
                StatusCode::REQUEST_TIMEOUT
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_kebab_case_and_used_once() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
        }
    }

    #[test]
    fn the_list_of_all_follows_the_enum() {
        for (position, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position, "{reason}");
        }
        assert_eq!(Reason::ClientTooSlow as usize + 1, Reason::ALL.len());
    }
}
