//! How many requests are let through: named limits, of which a route has any.
//!
//! A limit decides by who asks ([`key`]), by what was counted for him ([`window`], [`gcra`]), and by nothing else. It
//! owns the counts, which are the process's: all workers ask the same ones, and a reload keeps them as long as they mean
//! the same. It never waits, answers or logs.
//!
//! A request passes all limits of its route or counts for none. For that they are asked inside of each other, each
//! under the lock of its shard, in the order of their names, which is the same for every route and generation; so nobody
//! waits in a circle. All are asked even if one refuses: the client is told when all of them would let it through.

mod count;
mod fields;
mod gcra;
mod key;
mod look;
mod report;
mod shard;
mod store;
mod window;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::clock;
use crate::config::{Algorithm, Quota, ROUTE_LIMITS_MAX, RateLimit};

pub use self::key::Asked;
use self::key::{Key, Keys};
pub use self::look::Looked;
pub use self::report::{Counted, Overview, Reported};
pub use self::shard::Tally;
use self::store::{Seen, Store};

/// Every limit of a configuration, by name.
pub type RateLimits = BTreeMap<String, Arc<Limit>>;

/// One limit as the configuration has it, over counts that may be older.
#[derive(Debug)]
pub struct Limit {
    config: RateLimit,
    /// How a response names it and its quota.
    policy: HeaderValue,
    counts: Arc<Counts>,
}

/// What is counted, and since when.
#[derive(Debug)]
struct Counts {
    quota: Quota,
    keys: Keys,
    began: Instant,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Window(Store<window::Log>),
    Gcra(Store<gcra::Cells>),
}

/// Makes the limits of a configuration; the counts of `previous` go on where they mean the same.
pub fn build(limits: &[RateLimit], previous: Option<&RateLimits>) -> RateLimits {
    let build = |config: &RateLimit| {
        let before = previous.and_then(|limits| limits.get(&config.name));
        let kept = before.map(|limit| &limit.counts).filter(|counts| counts.quota == config.quota);
        let counts = kept.map_or_else(|| Arc::new(Counts::new(config)), Arc::clone);
        let policy = fields::policy(&config.name, &config.quota);
        (config.name.clone(), Arc::new(Limit { config: config.clone(), policy, counts }))
    };
    limits.iter().map(build).collect()
}

impl Limit {
    /// Called once, when its generation begins to serve.
    pub fn activate(&self) {
        match &self.counts.table {
            Table::Window(store) => store.set_keys_max(self.config.keys_max),
            Table::Gcra(store) => store.set_keys_max(self.config.keys_max),
        }
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    fn is_exempt(&self, client: IpAddr) -> bool {
        self.config.exempt.iter().any(|network| network.contains(&client))
    }
}

impl Counts {
    fn new(config: &RateLimit) -> Self {
        let Quota { requests, window, algorithm, .. } = config.quota;
        let table = match algorithm {
            Algorithm::Window => Table::Window(Store::new(window::Rule::new(requests, window), config.keys_max)),
            Algorithm::Gcra { burst } => {
                Table::Gcra(Store::new(gcra::Rule::new(requests, window, burst), config.keys_max))
            }
        };
        Self { quota: config.quota.clone(), keys: Keys::new(&config.quota), began: clock::now(), table }
    }

    fn admit(&self, key: Key, now: Instant, is_dry_run: bool, rest: impl FnOnce(bool) -> bool) -> Seen {
        let now = now.saturating_duration_since(self.began);
        match &self.table {
            Table::Window(store) => store.admit(key, now, is_dry_run, rest),
            Table::Gcra(store) => store.admit(key, now, is_dry_run, rest),
        }
    }
}

/// The limits of one route, in the order of their names.
#[derive(Debug)]
pub struct RouteLimits(Box<[Arc<Limit>]>);

/// What the limits of a route said to one request, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing where the client is exempt.
    seen: [Option<Said>; ROUTE_LIMITS_MAX],
}

/// What one limit said, as clients are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    refuses: bool,
    remaining: u32,
    /// Rounded up. Nothing is missing if it is zero.
    more_after_s: u32,
}

impl RouteLimits {
    /// None if there are none, which is cheap to see.
    pub fn of(names: &[String], limits: &RateLimits) -> Option<Self> {
        let mut found: Box<[Arc<Limit>]> = names.iter().filter_map(|name| limits.get(name)).map(Arc::clone).collect();
        found.sort_by(|one, other| one.name().cmp(other.name()));
        (!found.is_empty()).then_some(Self(found))
    }

    /// Asks all limits, and counts the request if it passes.
    pub fn check(&self, asked: &Asked<'_>, now: Instant) -> Verdict {
        let mut round = Round { limits: &self.0, asked, now, refused: false, verdict: Verdict::default() };
        round.ask(0);
        round.verdict
    }

    /// The limit that lets the request wait longest, if any refuses it.
    pub fn refusing<'a>(&'a self, verdict: &Verdict) -> Option<&'a str> {
        self.longest(verdict, |limit| !limit.config.dry_run).map(|(limit, _)| limit.name())
    }

    /// The same, or if it is none a limit that would refuse it were it not a dry run.
    pub fn to_be_logged<'a>(&'a self, verdict: &Verdict) -> Option<&'a str> {
        self.refusing(verdict).or_else(|| self.longest(verdict, |_| true).map(|(limit, _)| limit.name()))
    }

    fn longest<'a>(&'a self, verdict: &Verdict, counts: impl Fn(&Limit) -> bool) -> Option<(&'a Limit, u32)> {
        let refusing = self.each(verdict).filter(|(limit, said)| said.refuses && counts(limit));
        refusing.map(|(limit, said)| (limit, said.more_after_s)).max_by_key(|(_, wait_s)| *wait_s)
    }

    /// Those that are for the client, and what they said.
    fn each<'a>(&'a self, verdict: &Verdict) -> impl Iterator<Item = (&'a Limit, Said)> + use<'a> {
        self.0.iter().zip(verdict.seen).filter_map(|(limit, said)| Some((&**limit, said?)))
    }
}

/// One request on its way through the limits of its route.
struct Round<'a> {
    limits: &'a [Arc<Limit>],
    asked: &'a Asked<'a>,
    now: Instant,
    refused: bool,
    verdict: Verdict,
}

impl Round<'_> {
    /// Whether the request passes the limit of this number and all that follow, and was not refused before.
    fn ask(&mut self, at: usize) -> bool {
        let Some(limit) = self.limits.get(at) else { return !self.refused };
        if limit.is_exempt(self.asked.client) {
            return self.ask(at + 1);
        }
        let is_dry_run = limit.config.dry_run;
        let mut passes_all = false;
        let seen = limit.counts.admit(limit.counts.keys.of(self.asked), self.now, is_dry_run, |passes| {
            self.refused |= !passes && !is_dry_run;
            passes_all = self.ask(at + 1);
            passes_all
        });
        if let Some(said) = self.verdict.seen.get_mut(at) {
            *said = Some(Said {
                refuses: seen.wait.is_some(),
                remaining: seen.standing.remaining,
                more_after_s: whole_seconds(seen.standing.more_after),
            });
        }
        passes_all
    }
}

/// Rounded up: who comes back after that is not too early.
fn whole_seconds(duration: Duration) -> u32 {
    let up = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs().saturating_add(up)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
