//! Random sequences of operations, compared with a map and a list of purges.

use std::collections::BTreeMap;
use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;

use super::purging::{BATCH, Progress};
use super::tests::{HOST, at, entry, purge, store, with_body};
use super::*;
use crate::cache::ban_list::LiveBans;
use crate::cache::purge::{Mode, Purge, What};
use crate::cache::tags::Tags;
use crate::cache::target::Target;
use crate::cache::variants::VARIANTS_MAX;

const PATHS: [&str; 5] = ["/", "/a", "/a?q", "/a/1", "/b"];
const TAGS: [&str; 4] = ["", "x", "x,y:1", "y:2"];

#[derive(Debug, Clone)]
enum Step {
    /// A request goes to the origin.
    Fetch {
        path: usize,
        tags: usize,
        variant: Option<u8>,
    },
    /// One of those under way is answered.
    Answer(usize),
    Get {
        path: usize,
        variant: u8,
    },
    Purge {
        what: usize,
        host: bool,
        hard: bool,
        finish: bool,
    },
    Sweep(usize),
    Withdraw {
        path: usize,
        variant: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let fetch = (0..PATHS.len(), 0..TAGS.len(), proptest::option::of(0..36_u8));
    prop_oneof![
        6 => fetch.prop_map(|(path, tags, variant)| Step::Fetch { path, tags, variant }),
        6 => (0..8_usize).prop_map(Step::Answer),
        8 => (0..PATHS.len(), 0..36_u8).prop_map(|(path, variant)| Step::Get { path, variant }),
        2 => (0..whats().len(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(what, host, hard, finish)| Step::Purge { what, host, hard, finish }),
        2 => (1..9_usize).prop_map(Step::Sweep),
        1 => (0..PATHS.len(), 0..36_u8).prop_map(|(path, variant)| Step::Withdraw { path, variant }),
    ]
}

fn whats() -> Vec<What> {
    let mut whats = vec![What::All, What::Prefix("/a".into()), What::Group("x".into())];
    whats.extend(PATHS.map(|path| What::Url(path.into())));
    whats.extend(["/a*", "*", "/a?*", "x", "y:*", "y:2"].map(|name| What::named(name).unwrap()));
    whats
}

#[derive(Debug, Clone)]
struct Response {
    serial: u64,
    target: Target,
    tags: Tags,
    selecting: Option<String>,
    stale_since: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Reference {
    /// The newest first.
    stored: BTreeMap<&'static str, Vec<Response>>,
    purges: Vec<Purge>,
}

impl Reference {
    fn purge(&mut self, purge: Purge) -> u64 {
        let mut met = 0;
        for responses in self.stored.values_mut() {
            responses.retain_mut(|response| {
                let is_met = purge.matches(&response.target, &response.tags);
                met += u64::from(is_met);
                !is_met || response.survives(&purge)
            });
        }
        self.purges.push(purge);
        met
    }

    /// False if it was purged while it was fetched.
    fn insert(&mut self, path: &'static str, mut response: Response, began: usize) -> bool {
        if !self.purges[began..].iter().all(|purge| response.survives(purge)) {
            return false;
        }
        let responses = self.stored.entry(path).or_default();
        responses.retain(|other| other.selecting.is_some() && response.selecting.is_some());
        responses.retain(|other| other.selecting != response.selecting);
        responses.insert(0, response);
        responses.truncate(VARIANTS_MAX);
        true
    }

    fn get(&self, path: &str, selecting: &str) -> Option<&Response> {
        let matches = |response: &&Response| response.selecting.as_deref().is_none_or(|stored| stored == selecting);
        self.stored.get(path)?.iter().find(matches)
    }
}

impl Response {
    fn survives(&mut self, purge: &Purge) -> bool {
        if !purge.matches(&self.target, &self.tags) {
            return true;
        }
        let Mode::Soft(since) = purge.mode else { return false };
        self.stale_since = Some(self.stale_since.map_or(since, |stale| stale.min(since)));
        true
    }
}

struct Fetch {
    path: &'static str,
    response: Response,
    epoch: Epoch,
    began: usize,
}

#[derive(Default)]
struct Run {
    reference: Reference,
    fetches: Vec<Fetch>,
    serial: u64,
}

impl Run {
    fn step(&mut self, store: &Store, step: Step) -> Result<(), TestCaseError> {
        self.serial += 1;
        match step {
            Step::Fetch { path, tags, variant } => self.fetch(store, PATHS[path], TAGS[tags], variant),
            Step::Answer(at) if at < self.fetches.len() => self.answer(store, at)?,
            Step::Answer(_) => {}
            Step::Get { path, variant } => self.look(store, PATHS[path], variant)?,
            Step::Purge { what, host, hard, finish } => {
                let mode = if hard { Mode::Hard } else { Mode::Soft(at(self.serial)) };
                let purge = Purge { host: host.then(|| HOST.into()), what: vec![whats().swap_remove(what)], mode };
                if finish {
                    // Counts are exact only if earlier purges have been worked off.
                    while store.sweep(BATCH) == Progress::More {}
                    prop_assert_eq!(store.count(&purge), self.count(&purge));
                }
                let ban = store.purge(&purge);
                let met = self.reference.purge(purge);
                if finish {
                    prop_assert_eq!(store.finish(&ban), met);
                }
            }
            Step::Sweep(budget) => _ = store.sweep(budget),
            Step::Withdraw { path, variant } => {
                let path = PATHS[path];
                if let Some(entry) = store.variant(path, &variant.to_string()) {
                    store.withdraw(&entry);
                    let serial = serial_of(&entry);
                    let responses = self.reference.stored.get_mut(path).unwrap();
                    responses.retain(|response| response.serial != serial);
                }
            }
        }
        Ok(())
    }

    fn fetch(&mut self, store: &Store, path: &'static str, tags: &'static str, variant: Option<u8>) {
        let NewEntry { target, tags, .. } = entry(path, tags);
        let selecting = variant.map(|variant| variant.to_string());
        let response = Response { serial: self.serial, target, tags, selecting, stale_since: None };
        self.fetches.push(Fetch { path, response, epoch: store.epoch(), began: self.reference.purges.len() });
    }

    fn answer(&mut self, store: &Store, at: usize) -> Result<(), TestCaseError> {
        let Fetch { path, response, epoch, began } = self.fetches.swap_remove(at);
        let new = NewEntry {
            tags: response.tags.clone(),
            selecting: response.selecting.as_deref().map(|selecting| Arc::new(Selecting::of_text(selecting))),
            ..with_body(entry(path, ""), &response.serial.to_be_bytes())
        };
        let is_stored = matches!(store.insert(&epoch, new), Insert::Stored(_));
        prop_assert_eq!(is_stored, self.reference.insert(path, response, began));
        Ok(())
    }

    fn look(&self, store: &Store, path: &str, variant: u8) -> Result<(), TestCaseError> {
        let variant = variant.to_string();
        let found = store.variant(path, &variant);
        let expected = self.reference.get(path, &variant);
        prop_assert_eq!(found.as_deref().map(serial_of), expected.map(|response| response.serial));
        if let (Some(found), Some(expected)) = (found, expected) {
            prop_assert_eq!(found.stale_since().is_some(), expected.stale_since.is_some());
            // Soft purges of one name that follow each other are one since the first.
            prop_assert!(found.stale_since() <= expected.stale_since);
        }
        Ok(())
    }

    fn count(&self, purge: &Purge) -> u64 {
        let responses = self.reference.stored.values().flatten();
        responses.filter(|response| purge.matches(&response.target, &response.tags)).count() as u64
    }
}

fn serial_of(entry: &Entry) -> u64 {
    u64::from_be_bytes(entry.stored.body()[..].try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_store_agrees_with_a_map_and_a_list_of_purges(steps in vec(step(), 0..600)) {
        let store = store();
        let mut run = Run::default();
        for step in steps {
            run.step(&store, step)?;
        }
        for path in PATHS {
            for variant in 0..36 {
                run.look(&store, path, variant)?;
            }
        }
        run.fetches.clear();
        store.purge(&purge(What::Group("nobody".into()), Mode::Hard));
        while store.sweep(BATCH) == Progress::More {}
        let stored = run.reference.stored.values().map(Vec::len).sum::<usize>();
        prop_assert_eq!((store.usage().entries, store.reachable()), (stored, stored));
        prop_assert_eq!(store.usage().bans, LiveBans::default());
    }
}
