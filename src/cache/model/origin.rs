//! The origin side of the world: what it answers, what comes of that, and what those hear who waited.

use std::pin::pin;
use std::sync::Arc;

use http::{Response, StatusCode};

use super::kept::{Answer, Control, Kept, Refused};
use super::reference::{Line, Name, Outcome};
use super::world::{Fetch, Pending, Stream, World, edition, poll};
use super::{draw_answer, draw_control, entity_tag, one, rarely, some, wall};
use crate::body::{Body, BodyError, Growing};
use crate::cache::{Directives, Failure, Lead, Settled, Stored, Taken, Times, Usable, take};
use crate::fetch::FetchError;

/// What an answer came to, by the reference.
enum Expected {
    Mismatched,
    /// The second is whether it is fresh for all.
    Shared(Box<Kept>, bool),
    Passed(Refused, u16),
}

impl World {
    /// The origin answers one request, or fails.
    pub(super) fn settle(&mut self) {
        if self.fetches.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.fetches.len());
        let fetch = self.fetches.swap_remove(at);
        if rarely(&mut self.rng, 10) { self.fail(fetch) } else { self.answer(fetch) }
    }

    fn fail(&mut self, fetch: Fetch) {
        let (settled, outcome) = match self.rng.bool() {
            true => (Settled::Failed(Failure::Fetch(Arc::new(FetchError::Ejected))), Outcome::Failed),
            // Whoever led is lost.
            false => (Settled::Again, Outcome::Again),
        };
        if let Some((found, kept, ttl)) = self.look(&fetch.asks, &fetch.asked.fields) {
            let directives = Directives::of_request(&fetch.asked.fields);
            let stands_in = found.terms().usable_on_error(&directives, self.instant(self.now));
            assert_eq!(stands_in, kept.stands_in(&fetch.asks, ttl), "{:?} of {kept:?}", fetch.asks);
        }
        if let Some((lead, line)) = fetch.lead {
            lead.settle(settled);
            drop(lead);
            self.reference.landed(line, fetch.number);
        }
        told(&fetch.waiting, outcome);
    }

    fn answer(&mut self, fetch: Fetch) {
        self.number += 1;
        let number = self.number;
        let mut answer = draw_answer(&mut self.rng, number);
        let origin = some(&mut self.rng, 4, |_| Growing::new(None));
        let validated = fetch.stale.filter(|stale| stale.answer.has_tag && self.rng.bool());
        let (response, expected) = match validated {
            Some(stale) => self.validate(&fetch, stale, answer),
            None => {
                // Its body is cut, and that of no other.
                answer.control = one(&mut self.rng, &[answer.control, Control { max_age: Some(60), ..answer.control }]);
                let body = match &origin {
                    Some(origin) => Body::reading(origin.reader(0, u64::MAX)),
                    None => Body::whole(answer.body().to_vec()),
                };
                let expected = match Kept::judge(fetch.asks, answer, (fetch.sent, self.now)) {
                    Ok(kept) => self.kept(kept, &fetch, origin.is_some()),
                    Err(refused) => Expected::Passed(refused, answer.status),
                };
                (answer.response(body), expected)
            }
        };
        let (asked, answered) = (self.instant(fetch.sent), self.instant(self.now));
        let times = Times { asked, answered, clock: wall() };
        let taken = take(&self.cache, fetch.asked.clone(), &self.policy, response, times);
        self.compare(fetch, (taken, expected), origin.filter(|_| validated.is_none()));
    }

    /// Compares what came of it, and goes on with that.
    fn compare(&mut self, mut fetch: Fetch, came: (Taken, Expected), origin: Option<Arc<Growing>>) {
        match came {
            (Taken::Mismatched, Expected::Mismatched) => {
                fetch.asked.stale = None;
                fetch.stale = None;
                self.fetches.push(fetch);
            }
            (Taken::Shared(stored, rest), Expected::Shared(kept, is_fresh)) => {
                assert_eq!(edition(&stored), kept.answer.edition);
                let outcome = if is_fresh { Outcome::Shared(kept.answer.edition) } else { Outcome::Alone };
                let usable = stored.terms.usable(&Directives::default(), self.instant(self.now));
                assert_eq!(usable == Usable::Fresh, is_fresh, "{kept:?}");
                assert_eq!(rest.is_some(), origin.is_some());
                let (fetched, asked_in) = (fetch.number, fetch.born);
                let lead = self.conclude(fetch, outcome, Some(stored));
                let (Some(rest), Some(origin)) = (rest, origin) else { return self.land(lead, fetched) };
                let (lead, line) = lead.unzip();
                if let Some(flight) = line.and_then(|line| self.reference.flights.get_mut(&line))
                    && flight.fetch == fetched
                {
                    flight.brought = Some(*kept);
                }
                let run = Box::pin(rest.run(lead, None));
                self.streams.push(Stream { fetch: fetched, run, origin, kept: *kept, line, born: asked_in });
            }
            (Taken::Passed(_, why), Expected::Passed(refused, status)) => {
                assert_eq!(why.is_of_the_request(), refused == Refused::ForTheRequest, "{why}");
                let outcome = match refused {
                    _ if fetch.is_validating && matches!(status, 500 | 503) => Outcome::Failed,
                    Refused::ForTheRequest => Outcome::Again,
                    Refused::ForTheAnswer => Outcome::Alone,
                };
                let number = fetch.number;
                let lead = self.conclude(fetch, outcome, None);
                self.land(lead, number);
            }
            (taken, expected) => {
                let expected = match expected {
                    Expected::Mismatched => "not about it".to_owned(),
                    Expected::Shared(kept, _) => format!("{kept:?}"),
                    Expected::Passed(refused, _) => format!("{refused:?}"),
                };
                let taken = match taken {
                    Taken::Mismatched => "not about it".to_owned(),
                    Taken::Shared(stored, _) => format!("{stored:?}"),
                    Taken::Passed(_, why) => why.to_string(),
                };
                panic!("{:?} is answered by {taken} and not {expected}", fetch.asks);
            }
        }
    }

    /// A 304, perhaps about another answer.
    fn validate(&mut self, fetch: &Fetch, stale: Kept, drawn: Answer) -> (Response<Body>, Expected) {
        let control = draw_control(&mut self.rng);
        let says = !control.text().is_empty();
        let newer = Answer { control: if says { control } else { stale.answer.control }, ..drawn };
        let mut response = Answer { control, ..newer }.head(304);
        if rarely(&mut self.rng, 6) {
            response.headers_mut().insert("etag", entity_tag(drawn.number));
            return (response, Expected::Mismatched);
        }
        let expected = match stale.freshened(fetch.asks, newer, (fetch.sent, self.now)) {
            Ok(kept) => self.kept(kept, fetch, false),
            Err(Refused::ForTheRequest) => {
                let stored = fetch.asked.stale.as_ref().unwrap();
                let ttl = stored.terms.ttl(self.instant(self.now));
                Expected::Shared(Box::new(stale), ttl > 0 && !stale.answer.control.no_cache)
            }
            Err(Refused::ForTheAnswer) => {
                self.reference.purge(Name::Url(fetch.asks.page), false, None);
                Expected::Passed(Refused::ForTheAnswer, stale.answer.status)
            }
        };
        (response, expected)
    }

    fn kept(&mut self, kept: Kept, fetch: &Fetch, is_growing: bool) -> Expected {
        if !is_growing {
            self.reference.store(kept, fetch.born);
        }
        let is_fresh = kept.ttl(self.now, None) > 0 && !kept.answer.control.no_cache;
        Expected::Shared(Box::new(kept), is_fresh)
    }

    /// Tells those who wait, and gives the lead back if others may still join.
    fn conclude(&mut self, fetch: Fetch, outcome: Outcome, stored: Option<Arc<Stored>>) -> Option<(Lead, Line)> {
        let mut left = None;
        if let Some((lead, line)) = fetch.lead {
            match (outcome, stored) {
                (Outcome::Shared(_), Some(stored)) => lead.settle(Settled::Shared(stored)),
                (Outcome::Failed, _) => lead.settle(Settled::Failed(Failure::Status(StatusCode::BAD_GATEWAY))),
                _ => {}
            }
            if outcome == Outcome::Alone {
                lead.leave_alone(self.instant(self.now));
                self.reference.landed(line, fetch.number);
                self.reference.mark(line, self.now);
            } else {
                left = Some((lead, line));
            }
        }
        if outcome == Outcome::Again {
            let lead = left.take();
            self.land(lead, fetch.number);
        }
        told(&fetch.waiting, outcome);
        left
    }

    fn land(&mut self, lead: Option<(Lead, Line)>, fetch: u64) {
        if let Some((lead, line)) = lead {
            drop(lead);
            self.reference.landed(line, fetch);
        }
    }

    /// A body comes to its end, or is cut.
    pub(super) fn end_stream(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.streams.len());
        let mut stream = self.streams.swap_remove(at);
        stream.origin.append(&stream.kept.answer.body());
        assert!(poll(stream.run.as_mut()).is_none(), "more may come");
        if rarely(&mut self.rng, 4) {
            stream.origin.finish(Err(BodyError::Stopped));
        } else {
            stream.origin.finish(Ok(()));
            self.reference.store(stream.kept, stream.born);
        }
        // A body tells its failure one poll later.
        assert!((0..2).any(|_| poll(stream.run.as_mut()).is_some()), "it is over");
        drop(stream.run);
        if let Some(line) = stream.line {
            self.reference.landed(line, stream.fetch);
        }
    }
}

/// Checks what those hear who waited.
fn told(waiting: &[Arc<Pending>], expected: Outcome) {
    for pending in waiting {
        let outcome = match poll(pin!(pending.outcome())) {
            Some(Settled::Shared(stored)) => Outcome::Shared(edition(&stored)),
            Some(Settled::Failed(_)) => Outcome::Failed,
            Some(Settled::Alone) => Outcome::Alone,
            Some(Settled::Again) => Outcome::Again,
            None => panic!("they still wait, and not for {expected:?}"),
        };
        assert_eq!(outcome, expected);
    }
}
