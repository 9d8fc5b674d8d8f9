//! What a cache may do, over plain numbers and lists: no field is read here, no lock taken and nothing counted.
//!
//! Times are seconds since the world began. An answer is known by its number, which is its body.

use std::collections::BTreeMap;

use super::kept::{Asks, Kept, Use, User, Values};
use crate::cache::variants::VARIANTS_MAX;

pub const PAGES: [&str; 5] = ["/", "/a", "/a?q", "/a/1", "/b"];
pub const TAGS: [&str; 4] = ["", "x", "x,y:1", "y:2"];
/// For as long requests do not line up for what could not be shared.
const ALONE: u64 = 10;

/// What a purge is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    All,
    Url(usize),
    /// `/a` and all that begins so.
    Prefix,
    /// The pattern `/a*`.
    Paths,
    /// The pattern `/a?*`.
    Queries,
    /// The tag `x`.
    Tag,
    /// The tags `y:*`.
    Tags,
}

#[derive(Debug, Clone, Copy)]
pub struct Purged {
    pub name: Name,
    /// Another host's, where nothing is stored.
    pub elsewhere: bool,
    /// Since when what it meets is stale: for a series of the same, the first and the last. None takes it out.
    pub soft: Option<(u64, u64)>,
}

/// What came of a fetch for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The number of the answer.
    Shared(u64),
    Failed,
    Alone,
    Again,
}

/// Who lines up for what: a page, and the values of a variant.
pub type Line = (usize, Option<Values>);

#[derive(Debug, Clone, Copy)]
pub struct Flight {
    pub fetch: u64,
    /// So many purges were before it.
    pub born: usize,
    /// What it brought, while that still comes.
    pub brought: Option<Kept>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    Lead,
    Follow(u64),
    Alone,
}

#[derive(Debug, Default)]
pub struct Reference {
    /// By page, the newest first.
    pub stored: BTreeMap<usize, Vec<Kept>>,
    pub purges: Vec<Purged>,
    pub flights: BTreeMap<Line, Flight>,
    /// Until when requests do not line up. A mark may be lost to a later one.
    marks: Vec<(Line, u64)>,
}

impl Name {
    pub fn meets(self, page: usize, tags: usize) -> bool {
        let text = PAGES[page];
        let mut tags = TAGS[tags].split(',');
        match self {
            Self::All => true,
            Self::Url(url) => url == page,
            Self::Prefix => text.starts_with("/a"),
            Self::Paths => text.split('?').next().is_some_and(|path| path.starts_with("/a")),
            Self::Queries => text.starts_with("/a?"),
            Self::Tag => tags.any(|tag| tag == "x"),
            Self::Tags => tags.any(|tag| tag.starts_with("y:")),
        }
    }

    /// Whether it may mean what a fetch for the page brings, whose tags nobody knows.
    fn may_meet(self, page: usize) -> bool {
        matches!(self, Self::Tag | Self::Tags) || self.meets(page, 0)
    }
}

impl Purged {
    pub fn meets(&self, kept: &Kept) -> bool {
        !self.elsewhere && self.name.meets(kept.asks.page, kept.answer.tags)
    }
}

impl Reference {
    pub fn purge(&mut self, name: Name, elsewhere: bool, soft: Option<u64>) {
        let same = |purge: &&Purged| purge.name == name && purge.elsewhere == elsewhere;
        let firsts = self.purges.iter().filter(same).filter_map(|purge| purge.soft);
        let soft = soft.map(|now| (firsts.map(|(first, _)| first).min().unwrap_or(now), now));
        let purge = Purged { name, elsewhere, soft };
        for kept in self.stored.values_mut() {
            kept.retain_mut(|kept| kept.survives(&purge));
        }
        self.purges.push(purge);
    }

    /// False if it was purged since so many purges.
    pub fn store(&mut self, mut kept: Kept, born: usize) -> bool {
        if !self.purges[born..].iter().all(|purge| kept.survives(purge)) {
            return false;
        }
        let stored = self.stored.entry(kept.page()).or_default();
        stored.retain(|other| other.values().is_some() && kept.values().is_some() && other.values() != kept.values());
        stored.insert(0, kept);
        stored.truncate(VARIANTS_MAX);
        true
    }

    pub fn stored_for(&self, asks: &Asks) -> impl Iterator<Item = &Kept> {
        self.stored.get(&asks.page).into_iter().flatten().filter(|kept| kept.is_for(asks))
    }

    /// What was evicted: all that is for the request and newer than what was found.
    pub fn evicted(&mut self, asks: &Asks, found: Option<u64>) {
        let Some(stored) = self.stored.get_mut(&asks.page) else { return };
        let mut is_newer = true;
        stored.retain(|kept| {
            is_newer &= Some(kept.answer.edition) != found;
            !(is_newer && kept.is_for(asks))
        });
    }

    pub fn join(&mut self, line: Line, now: u64) -> Joined {
        let is_stale = |kept: Kept| {
            let asks = Asks { no_cache: false, max_age: None, max_stale: None, user: User::Anybody, ..kept.asks };
            matches!(kept.usable(&asks, kept.ttl(now, None), now), Use::Stale)
        };
        let may_be_purged = |flight: &Flight| {
            let met = |purge: &Purged| {
                let is_label = matches!(purge.name, Name::Tag | Name::Tags);
                (is_label || !purge.elsewhere) && purge.name.may_meet(line.0)
            };
            self.purges[flight.born..].iter().any(met)
        };
        match self.flights.get(&line) {
            Some(flight) if !may_be_purged(flight) && !flight.brought.is_some_and(is_stale) => {
                Joined::Follow(flight.fetch)
            }
            None if self.marks.iter().any(|(marked, until)| *marked == line && now < *until) => Joined::Alone,
            _ => Joined::Lead,
        }
    }

    /// A fetch is over, or has lost its place to a newer one.
    pub fn landed(&mut self, line: Line, fetch: u64) {
        if self.flights.get(&line).is_some_and(|flight| flight.fetch == fetch) {
            self.flights.remove(&line);
        }
    }

    pub fn mark(&mut self, line: Line, now: u64) {
        self.marks.retain(|(marked, until)| *marked != line && now < *until);
        self.marks.push((line, now + ALONE));
    }

    /// Whether another line was marked since, and may have taken the place of this one's mark.
    pub fn mark_may_be_lost(&self, line: Line) -> bool {
        self.marks.last().is_some_and(|(marked, _)| *marked != line)
    }

    pub fn lose_mark(&mut self, line: Line) {
        self.marks.retain(|(marked, _)| *marked != line);
    }
}
