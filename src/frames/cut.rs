//! Why connections are cut.

use std::fmt;

/// Why a connection of HTTP/2 is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Streams were reset, by either side, and few were answered.
    Resets,
    /// PING, SETTINGS, WINDOW_UPDATE, PRIORITY and unknown frames in masses.
    ControlFrames,
    /// DATA without data.
    EmptyData,
    /// A head in more frames than any needs.
    Continuations,
    /// A head of more bytes than any has.
    HeadBytes,
    /// A head that does not end.
    HeaderTimeout,
    /// There is no memory left for a head that is not whole yet.
    HeadMemory,
    /// An endpoint sends more heads than it was asked for.
    Heads,
    /// The codec found it too much (ENHANCE_YOUR_CALM).
    Codec,
}

impl Cut {
    pub const ALL: [Self; 9] = [
        Self::Resets,
        Self::ControlFrames,
        Self::EmptyData,
        Self::Continuations,
        Self::HeadBytes,
        Self::HeaderTimeout,
        Self::HeadMemory,
        Self::Heads,
        Self::Codec,
    ];

    /// The stable name in the log, the metric and the frame that says goodbye.
    pub fn code(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::ControlFrames => "control-frames",
            Self::EmptyData => "empty-data",
            Self::Continuations => "continuations",
            Self::HeadBytes => "head-bytes",
            Self::HeaderTimeout => "header-timeout",
            Self::HeadMemory => "head-memory",
            Self::Heads => "heads",
            Self::Codec => "codec",
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Cut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_used_once() {
        let codes: std::collections::HashSet<_> = Cut::ALL.iter().map(|cut| cut.code()).collect();
        assert_eq!(codes.len(), Cut::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }
}
