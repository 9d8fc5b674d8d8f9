//! Fetches in flight: requests for the same key wait for one of them.
//!
//! Who comes first leads: its request goes to the origin, by a task that goes on without it. The others follow.
//! What they wait for is an outcome, which all get at once: a response that may be shared, whose body they read
//! while it grows; a failure, so that a failing origin is not asked by one after the other; or that each has
//! to ask for itself. The last is remembered for a while, so that requests for such a key do not line up.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tollgate_otlp::Link;

use super::key::Key;
use crate::lock::lock;

/// How long a key is remembered whose requests do not line up.
const ALONE: Duration = Duration::from_secs(10);
/// Keys that one shard remembers, by their hashes. One that is forgotten for another lines up once more, and one that
/// is taken for another does not: both is slow, and nothing is wrong.
const MARKS: usize = 1024;
const SHARDS: usize = 16;

/// What a fetch comes to; `T` is what may be shared, `E` why there is nothing.
#[derive(Debug, Clone)]
pub enum Settled<T, E> {
    Shared(T),
    Failed(E),
    /// Each asks for itself.
    Alone,
    /// It came to nothing that concerns the others: one of them is to begin anew.
    Again,
}

/// All that is in flight.
#[derive(Debug)]
pub struct Pendings<T, E> {
    shards: [Mutex<Shard<T, E>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard<T, E> {
    in_flight: HashMap<Key, Arc<Pending<T, E>>>,
    /// Hashes of keys for which requests do not line up, each in its place, and until when.
    marks: Vec<Option<(u64, Instant)>>,
}

impl<T, E> Default for Shard<T, E> {
    fn default() -> Self {
        Self { in_flight: HashMap::new(), marks: vec![None; MARKS] }
    }
}

/// What a request finds for its key.
enum Found<T, E> {
    Fetch(Arc<Pending<T, E>>),
    /// The key is one for which requests do not line up.
    Mark,
    Nothing,
}

impl<T, E> Shard<T, E> {
    fn find(
        &mut self,
        (key, hash): (&[u8], u64),
        now: Instant,
        is_outdated: impl Fn(&Pending<T, E>) -> bool,
    ) -> Found<T, E> {
        match self.in_flight.get(key) {
            Some(pending) if !is_outdated(pending) => return Found::Fetch(Arc::clone(pending)),
            Some(_) => return Found::Nothing,
            None => {}
        }
        let is_marked = |(marked, until): &(u64, Instant)| *marked == hash && now < *until;
        match self.mark(hash) {
            Some(Some(mark)) if is_marked(mark) => Found::Mark,
            _ => Found::Nothing,
        }
    }

    fn mark(&mut self, hash: u64) -> Option<&mut Option<(u64, Instant)>> {
        // The lowest bits are the same in all of a shard.
        let place = usize::try_from(hash / SHARDS as u64).unwrap_or_default() % MARKS;
        self.marks.get_mut(place)
    }
}

/// One fetch.
#[derive(Debug)]
pub struct Pending<T, E> {
    settled: watch::Sender<Option<Settled<T, E>>>,
    /// When it began, in purges: what came later concerns what it brings.
    pub born: u64,
    /// The span of the request that leads, if it is recorded.
    span: OnceLock<Link>,
}

/// What a request for a key is to do.
#[derive(Debug)]
pub enum Join<T: Clone, E: Clone> {
    Lead(Lead<T, E>),
    Follow(Arc<Pending<T, E>>),
    /// Ask, and wait for nobody.
    Alone,
}

/// The same, for who only asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Leads,
    Follows,
    Alone,
}

/// The duty to bring the outcome. Dropped without one, another is to take it over.
#[derive(Debug)]
pub struct Lead<T: Clone, E: Clone> {
    pendings: Arc<Pendings<T, E>>,
    key: Key,
    pending: Arc<Pending<T, E>>,
}

impl<T: Clone, E: Clone> Pendings<T, E> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { shards: Default::default(), hasher: RandomState::new() })
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<T, E>> {
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        lock(&self.shards[index])
    }

    /// Joins the fetch for a key, or begins one. One in flight that `is_outdated` is not joined: another takes its place.
    /// `born` is when one that begins now begins.
    pub fn join(
        self: &Arc<Self>,
        key: &[u8],
        (now, born): (Instant, u64),
        is_outdated: impl Fn(&Pending<T, E>) -> bool,
    ) -> Join<T, E> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        match shard.find((key, hash), now, is_outdated) {
            Found::Fetch(pending) => Join::Follow(pending),
            Found::Mark => Join::Alone,
            Found::Nothing => Join::Lead(self.begin(&mut shard, key, born)),
        }
    }

    /// What [`Pendings::join`] would say.
    pub fn look(&self, key: &[u8], now: Instant, is_outdated: impl Fn(&Pending<T, E>) -> bool) -> Line {
        let hash = self.hasher.hash_one(key);
        match self.shard(hash).find((key, hash), now, is_outdated) {
            Found::Fetch(_) => Line::Follows,
            Found::Mark => Line::Alone,
            Found::Nothing => Line::Leads,
        }
    }

    /// Begins a fetch that nobody asked for, unless there is one.
    pub fn lead(self: &Arc<Self>, key: &[u8], born: u64) -> Option<Lead<T, E>> {
        let mut shard = self.shard(self.hasher.hash_one(key));
        (!shard.in_flight.contains_key(key)).then(|| self.begin(&mut shard, key, born))
    }

    fn begin(self: &Arc<Self>, shard: &mut Shard<T, E>, key: &[u8], born: u64) -> Lead<T, E> {
        let pending = Arc::new(Pending { settled: watch::Sender::new(None), born, span: OnceLock::new() });
        let key = Key::from(key);
        shard.in_flight.insert(key.clone(), Arc::clone(&pending));
        Lead { pendings: Arc::clone(self), key, pending }
    }

    /// Remembers that requests for this key do not line up.
    pub fn remember_alone(&self, key: &[u8], now: Instant) {
        let hash = self.hasher.hash_one(key);
        if let Some(mark) = self.shard(hash).mark(hash) {
            *mark = Some((hash, now + ALONE));
        }
    }
}

impl<T: Clone, E: Clone> Pending<T, E> {
    /// What the fetch has come to. Who waits no longer leaves nothing behind.
    pub async fn outcome(&self) -> Settled<T, E> {
        match self.settled.subscribe().wait_for(Option::is_some).await {
            Ok(settled) => settled.clone().unwrap_or(Settled::Again),
            Err(_) => Settled::Again,
        }
    }

    /// For the spans of those that follow.
    pub fn span(&self) -> Option<Link> {
        self.span.get().copied()
    }

    /// What it brought, if that is known already and may be shared.
    pub fn shared(&self) -> Option<T> {
        match &*self.settled.borrow() {
            Some(Settled::Shared(brought)) => Some(brought.clone()),
            _ => None,
        }
    }

    /// The first word holds.
    fn settle(&self, outcome: Settled<T, E>) {
        self.settled.send_if_modified(|settled| {
            let is_first = settled.is_none();
            settled.get_or_insert(outcome);
            is_first
        });
    }
}

impl<T: Clone, E: Clone> Lead<T, E> {
    /// What is fetched, as the others find it.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Tells those who follow whose span has the fetch.
    pub fn name(&self, span: Link) {
        self.pending.span.get_or_init(|| span);
    }

    /// Tells all who wait. Those who come later still join, until the lead is dropped.
    pub fn settle(&self, outcome: Settled<T, E>) {
        self.pending.settle(outcome);
    }

    /// Nobody joins any more, and for a while nobody lines up for this key.
    pub fn leave_alone(self, now: Instant) {
        let (pendings, key) = (Arc::clone(&self.pendings), self.key.clone());
        self.settle(Settled::Alone);
        drop(self);
        pendings.remember_alone(key.borrow(), now);
    }
}

impl<T: Clone, E: Clone> Drop for Lead<T, E> {
    fn drop(&mut self) {
        self.pending.settle(Settled::Again);
        let key: &[u8] = self.key.borrow();
        let mut shard = self.pendings.shard(self.pendings.hasher.hash_one(key));
        // Another may have taken its place.
        if shard.in_flight.get(key).is_some_and(|pending| Arc::ptr_eq(pending, &self.pending)) {
            shard.in_flight.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fetches = Arc<Pendings<u32, &'static str>>;

    fn lead(fetches: &Fetches) -> Lead<u32, &'static str> {
        fetches.lead(b"key", 0).expect("nobody leads")
    }

    fn follow(fetches: &Fetches, at: Instant) -> Arc<Pending<u32, &'static str>> {
        match fetches.join(b"key", (at, 0), |_| false) {
            Join::Follow(pending) => pending,
            other => panic!("not to be followed: {other:?}"),
        }
    }

    async fn ask(pending: &Pending<u32, &'static str>) -> Result<Option<u32>, &'static str> {
        match pending.outcome().await {
            Settled::Shared(number) => Ok(Some(number)),
            Settled::Alone => Ok(None),
            Settled::Again => Err("again"),
            Settled::Failed(why) => Err(why),
        }
    }

    #[tokio::test]
    async fn all_who_follow_get_what_the_first_brings() {
        let (fetches, now) = (Pendings::new(), Instant::now());
        let leads = lead(&fetches);
        let (one, other) = (follow(&fetches, now), follow(&fetches, now));
        let asked = tokio::spawn(async move { (ask(&one).await, ask(&other).await) });
        tokio::task::yield_now().await;
        leads.settle(Settled::Shared(7));
        assert_eq!(asked.await.unwrap(), (Ok(Some(7)), Ok(Some(7))));
        assert_eq!(ask(&follow(&fetches, now)).await, Ok(Some(7)), "its body may still be growing");
        drop(leads);
        drop(lead(&fetches));
    }

    #[tokio::test]
    async fn a_failure_is_for_all_and_a_lost_leader_for_none() {
        let (fetches, now) = (Pendings::new(), Instant::now());
        let leads = lead(&fetches);
        let waits = follow(&fetches, now);
        leads.settle(Settled::Failed("refused"));
        assert_eq!(ask(&waits).await, Err("refused"));
        drop(leads);
        let leads = lead(&fetches);
        let waits = follow(&fetches, now);
        drop(leads);
        assert_eq!(ask(&waits).await, Err("again"));
    }

    #[tokio::test]
    async fn nobody_lines_up_for_what_cannot_be_shared() {
        let (fetches, now) = (Pendings::new(), Instant::now());
        let leads = lead(&fetches);
        let waits = follow(&fetches, now);
        leads.leave_alone(now);
        assert_eq!(ask(&waits).await, Ok(None));
        assert!(matches!(fetches.join(b"key", (now, 0), |_| false), Join::Alone));
        assert!(matches!(fetches.join(b"key", (now + ALONE, 0), |_| false), Join::Lead(_)));
    }

    #[test]
    fn what_was_purged_meanwhile_is_not_joined() {
        let (fetches, now) = (Pendings::<u32, &'static str>::new(), Instant::now());
        let before = lead(&fetches);
        let Join::Lead(after) = fetches.join(b"key", (now, 1), |pending| pending.born < 1) else { panic!("outdated") };
        drop(before);
        assert_eq!(follow(&fetches, now).born, 1);
        drop(after);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (fetches, now) = (Pendings::<u32, &'static str>::new(), Instant::now());
        let is_remembered = |key: &[u8]| matches!(fetches.join(key, (now, 0), |_| false), Join::Alone);
        let keys: Vec<_> = (0..2 * MARKS * SHARDS).map(|number| number.to_be_bytes()).collect();
        for key in &keys {
            fetches.remember_alone(key, now);
            assert!(is_remembered(key), "the last one is");
        }
        let remembered = keys.iter().filter(|key| is_remembered(&key[..])).count();
        assert!((MARKS * SHARDS / 4..=MARKS * SHARDS).contains(&remembered), "{remembered}");
    }

    #[test]
    fn what_is_shared_and_outdated_is_fetched_by_one_anew() {
        let (fetches, now) = (Pendings::<u32, &'static str>::new(), Instant::now());
        let is_outdated = |pending: &Pending<u32, &'static str>| pending.shared() == Some(7);
        let old = lead(&fetches);
        assert!(matches!(fetches.join(b"key", (now, 0), is_outdated), Join::Follow(_)), "nothing is known of it");
        old.settle(Settled::Shared(7));
        let Join::Lead(new) = fetches.join(b"key", (now, 0), is_outdated) else { panic!("it is outdated") };
        assert!(matches!(fetches.join(b"key", (now, 0), is_outdated), Join::Follow(_)), "one leads");
        drop(old);
        new.settle(Settled::Shared(8));
        assert_eq!(follow(&fetches, now).shared(), Some(8));
    }

    #[tokio::test]
    async fn who_waits_no_longer_leaves_nothing_behind() {
        let fetches = Pendings::new();
        let leads = lead(&fetches);
        let pending = follow(&fetches, Instant::now());
        for _ in 0..3 {
            let mut waiting = Box::pin(ask(&pending));
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
            assert!(polled.await);
            assert_eq!(pending.settled.receiver_count(), 1);
        }
        assert_eq!(pending.settled.receiver_count(), 0);
        drop(leads);
    }
}
