//! What the judges of an endpoint come to, in a word. How they come to it is up to [`health`](super::health).

use std::time::Instant;

/// What holds for an endpoint now; the strongest reason against it wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Usable,
    /// It fails, and stays because it is the last.
    Failing,
    /// Out after failures of requests. From `until` on, one request tries it.
    Ejected {
        until: Instant,
    },
    /// Out after failures of probes, until probes pass.
    Unhealthy,
    /// Out by hand.
    Drained,
}

impl Verdict {
    /// Whether requests go to it as they come, and not only one that tries it.
    pub fn is_given_requests(self) -> bool {
        matches!(self, Verdict::Usable | Verdict::Failing)
    }

    /// The name for logs, metrics and the status page.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Usable => "usable",
            Verdict::Failing => "failing",
            Verdict::Ejected { .. } => "ejected",
            Verdict::Unhealthy => "unhealthy",
            Verdict::Drained => "drained",
        }
    }
}
