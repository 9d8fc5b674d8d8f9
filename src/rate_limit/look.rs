//! What the limits of a route would say to a request, for those who ask why. Nothing is spent by it.

use tokio::time::Instant;

use super::store::Seen;
use super::{Asked, Limit, RouteLimits, Said, Table, Verdict, whole_seconds};

/// One limit as a request would meet it.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    pub limit: &'a Limit,
    /// None where the client is exempt.
    pub seen: Option<Seen>,
}

impl RouteLimits {
    /// What [`RouteLimits::check`] would say now, and how each limit stands before it.
    pub fn look(&self, asked: &Asked<'_>, now: Instant) -> (Verdict, Vec<Looked<'_>>) {
        let mut verdict = Verdict::default();
        let looked: Vec<_> = self.0.iter().map(|limit| limit.look(asked, now)).collect();
        for (said, Looked { seen, .. }) in verdict.seen.iter_mut().zip(&looked) {
            *said = seen.map(|seen| Said {
                refuses: seen.wait.is_some(),
                remaining: seen.standing.remaining,
                more_after_s: whole_seconds(seen.standing.more_after),
            });
        }
        (verdict, looked)
    }
}

impl Limit {
    fn look(&self, asked: &Asked<'_>, now: Instant) -> Looked<'_> {
        if self.is_exempt(asked.client) {
            return Looked { limit: self, seen: None };
        }
        let key = self.counts.keys.of(asked);
        let now = now.saturating_duration_since(self.counts.began);
        let seen = match &self.counts.table {
            Table::Window(store) => store.look(key, now),
            Table::Gcra(store) => store.look(key, now),
        };
        Looked { limit: self, seen: Some(seen) }
    }
}
