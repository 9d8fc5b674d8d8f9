//! The live page, at `/` of the admin listener: what is sampled for it, and the events that it is sent.
//!
//! While a page is open, the counts of all routes are read once a second, and every five seconds while none is, so that a page
//! that is just opened shows the last minutes. Everything else is read for open pages alone. The control thread does it, once for all
//! pages; a request costs nothing more than without it. Pages change nothing: their buttons ask what the commands ask.
//!
//! Who asks once, as `tollgate status` does, is told the same at `/live.json`, so page and terminal cannot differ.

mod feed;
mod page;
mod sample;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::feed::Events;
pub use self::page::Part;
pub use self::sample::Gauges;

use self::feed::{Feed, event};
use self::sample::{Routes, Sample, Sampler};
use super::access::Via;
use super::answer::{self, Answer};
use super::limits::LimitStatus;
use super::serve::Desk;
use super::{Process, limits};
use crate::{clock, config};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Without a page only each of so many samples is taken. One of a thousand busy routes takes a millisecond.
const UNWATCHED_STEP: u32 = 5;
/// Looking at the rate limits looks at every address that they count.
const LIMITS_INTERVAL: Duration = Duration::from_secs(5);

/// What pages are shown, and who looks.
#[derive(Debug, Default)]
pub struct Live {
    feed: Feed,
    sampler: RefCell<Sampler>,
    /// When the last sample was taken, or the first one was begun.
    sampled_at: Cell<Option<Instant>>,
    /// The last events, for pages that come before the next ones; none without a page.
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of this second.
    samples: Option<Bytes>,
    state: Option<Bytes>,
    limits: Option<Bytes>,
}

/// All of the page but charts and rate limits.
#[derive(Debug, Serialize)]
struct State<'a, S> {
    sample: Option<&'a Sample>,
    status: S,
    routes: Routes,
    control: Control,
}

/// All of the page but charts.
#[derive(Debug, Serialize)]
struct Tables<'a, S> {
    #[serde(flatten)]
    state: State<'a, S>,
    limits: Vec<LimitStatus>,
}

/// What the buttons of a page can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Control {
    /// They ask for the token.
    Token,
    /// Nothing: control is for the socket alone.
    SocketOnly,
}

/// Samples, and sends to pages, until it is dropped.
pub async fn run<P: Process>(desk: Rc<Desk<P>>) {
    tokio::join!(sample(&desk), watch_limits(&desk));
}

async fn sample<P: Process>(desk: &Desk<P>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rules = desk.rules();
    desk.live.sampled_at.set(Some(clock::now()));
    // The first tick is at once.
    ticks.tick().await;
    let mut skipped = 0;
    loop {
        ticks.tick().await;
        // Who may read is asked again, by the rules of now.
        let rules_now = desk.rules();
        if rules_now != rules || desk.process.is_draining() {
            desk.live.feed.end_all();
            // It was for the rules before.
            desk.live.kept.take();
            rules = rules_now;
        }
        skipped += 1;
        if skipped < UNWATCHED_STEP && !desk.live.feed.is_watched() || desk.live.has_just_sampled(clock::now()) {
            continue;
        }
        desk.live.take(&*desk.process, clock::now(), clock::system_time());
        skipped = 0;
        if desk.live.feed.is_watched() {
            desk.live.feed.send(&desk.live.state(&*desk.process, &rules));
        } else {
            desk.live.kept.borrow_mut().state = None;
        }
    }
}

async fn watch_limits<P: Process>(desk: &Desk<P>) {
    loop {
        desk.live.feed.wanted.notified().await;
        while desk.live.feed.is_watched() {
            if let Some(limits) = limits::statuses(desk.process.rate_limits()).await {
                let limits = event("limits", &limits);
                desk.live.feed.send(&limits);
                desk.live.kept.borrow_mut().limits = Some(limits);
            }
            tokio::time::sleep(LIMITS_INTERVAL).await;
        }
        desk.live.kept.borrow_mut().limits = None;
    }
}

impl Live {
    /// Answers a page that wants the events.
    pub fn join<P: Process>(&self, process: &P, rules: &config::Admin, via: Via) -> Answer {
        if process.is_draining() {
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, "the proxy is draining\n");
        }
        let samples = self.samples();
        let kept = self.kept.borrow().state.clone();
        let state = match kept {
            Some(state) => state,
            None => self.state(process, rules),
        };
        let limits = self.kept.borrow().limits.clone();
        match self.feed.join(via, [samples, state].into_iter().chain(limits)) {
            Some(events) => {
                self.feed.wanted.notify_one();
                answer::events(events)
            }
            None => answer::text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n"),
        }
    }

    /// Answers who wants the tables as they are now, and no events.
    pub async fn tables<P: Process>(&self, process: &P, rules: &config::Admin) -> Answer {
        let Some(limits) = limits::statuses(process.rate_limits()).await else { return limits::cannot_look() };
        let now = clock::now();
        // However often somebody asks, a sample is not of less time than those of a page.
        if self.since_sample(now) >= SAMPLE_INTERVAL {
            self.take(process, now, clock::system_time());
        }
        let (status, sampler) = (process.glance(), self.sampler.borrow());
        answer::json(StatusCode::OK, &Tables { state: State::new(&sampler, status, rules), limits })
    }

    /// Somebody asked for one. Another so soon would be of hardly any time.
    fn has_just_sampled(&self, now: Instant) -> bool {
        self.sampled_at.get().is_some_and(|before| now.saturating_duration_since(before) < SAMPLE_INTERVAL / 2)
    }

    fn since_sample(&self, now: Instant) -> Duration {
        self.sampled_at.get().map_or(Duration::ZERO, |before| now.saturating_duration_since(before))
    }

    /// One more sample, of the time since the one before.
    fn take<P: Process>(&self, process: &P, at: Instant, now: SystemTime) {
        let span = self.since_sample(at);
        self.sampled_at.set(Some(at));
        let mut sampler = self.sampler.borrow_mut();
        let mut round = sampler.begin();
        process.each_route(|name, totals| round.route(name, totals));
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        round.end(at, span, process.gauges());
        self.kept.borrow_mut().samples = None;
    }

    fn samples(&self) -> Bytes {
        let mut kept = self.kept.borrow_mut();
        kept.samples.get_or_insert_with(|| event("samples", self.sampler.borrow().samples())).clone()
    }

    fn state<P: Process>(&self, process: &P, rules: &config::Admin) -> Bytes {
        let status = process.glance();
        let sampler = self.sampler.borrow();
        let state = event("state", &State::new(&sampler, status, rules));
        self.kept.borrow_mut().state = Some(state.clone());
        state
    }
}

impl<'a, S> State<'a, S> {
    fn new(sampler: &'a Sampler, status: S, rules: &config::Admin) -> Self {
        let control = if rules.token.is_some() { Control::Token } else { Control::SocketOnly };
        Self { sample: sampler.samples().back(), status, routes: sampler.routes(), control }
    }
}

#[cfg(test)]
mod tests;
