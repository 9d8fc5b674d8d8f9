//! What becomes of a request in a world: its attempts, how each ends, and what comes next.

use super::*;
use crate::balance::Outcome;
use crate::fetch::choosing::choose;
use crate::upstream::retry::{self, Decision, Failure, GiveUp};

impl World<'_> {
    pub(super) fn arrives(&mut self, number: usize) {
        self.budget.count_request(self.now());
        self.arrivals.push_back(self.now_ms);
        let before = self.breaker_state();
        let call = match self.pool.breaker().map(|breaker| breaker.begin(self.now())) {
            Some(Err(_refused)) => {
                assert_ne!(before, "closed");
                self.ended += 1;
                return;
            }
            call => call.and_then(Result::ok),
        };
        let is_trial = call.is_some() && before != "closed";
        // One that goes on for as long as the breaker is open does not keep the next from trying.
        let trial_at_ms = is_trial.then_some(self.now_ms);
        let open_ms = self.pool.upstream().breaker.as_ref().map_or(0, |breaker| breaker.open.as_millis() as u64);
        let is_latest = |other: &Request<'_>| other.trial_at_ms.is_some_and(|at_ms| self.now_ms < at_ms + open_ms);
        assert!(!is_trial || !self.open.values().any(is_latest), "one trial at a time");
        let request = Request {
            is_idempotent: self.rng.u8(..4) > 0,
            key: self.rng.bool().then(|| self.rng.u64(..)),
            call,
            trial_at_ms,
            tried: Vec::new(),
            attempts: 0,
            next: Next::Untried,
            may_be_done: false,
            at: None,
        };
        self.open.insert(number, request);
        if self.rng.u8(..10) == 0 {
            let ms = self.rng.u64(..2_000);
            self.later(ms, Event::Leaves(number));
        }
        self.attempts(number);
    }

    /// Begins an attempt, or ends the request because nobody is left for it.
    pub(super) fn attempts(&mut self, number: usize) {
        let (now, pool) = (self.now(), self.pool);
        let verdicts: Vec<_> =
            pool.members().iter().map(|member| (member.endpoint.id, member.endpoint.verdict())).collect();
        let Some(request) = self.open.get_mut(&number) else { return };
        let Ok(in_flight) = choose(pool, request.next, &mut request.tried, (request.key, now)) else {
            return self.is_over(number, None);
        };
        let id = in_flight.endpoint().id;
        let may_be_given = |verdict: Verdict| match verdict {
            Verdict::Usable => true,
            Verdict::Ejected { until } => until <= now,
            Verdict::Failing | Verdict::Unhealthy | Verdict::Drained => false,
        };
        let has_sound = verdicts.iter().any(|(_, verdict)| may_be_given(*verdict));
        let of_chosen = verdicts.iter().find(|(known, _)| *known == id).map(|(_, verdict)| *verdict).unwrap();
        let is_in = may_be_given(of_chosen) || of_chosen == Verdict::Failing;
        assert!(is_in || !has_sound, "traffic to an endpoint that is {}", of_chosen.label());
        assert_ne!(of_chosen, Verdict::Drained);
        assert!(request.is_idempotent || !request.may_be_done, "sent twice, though it may have been acted upon");
        request.attempts += 1;
        let attempt = request.attempts;
        let ejections = in_flight.endpoint().ejections();
        let last = in_flight.endpoint().address.ip().to_string().rsplit('.').next().unwrap().parse::<usize>().unwrap();
        let (ms, end) = match self.modes[last - 1] {
            Mode::Well => (self.rng.u64(1..50), End::Status(200)),
            Mode::Slow => (self.rng.u64(500..READ_TIMEOUT_MS), End::Status(200)),
            Mode::Refuses => (1, End::Failed(Fate::Unsent)),
            Mode::Resets => (self.rng.u64(1..50), End::Failed(Fate::Unknown)),
            Mode::Hangs => (READ_TIMEOUT_MS, End::Failed(Fate::Unknown)),
            Mode::Errs => (self.rng.u64(1..50), End::Status(if self.rng.bool() { 500 } else { 503 })),
        };
        request.at = Some(Attempt { in_flight, begun: now, ejections, end });
        self.later(ms, Event::Ends(number, attempt));
    }

    /// Requests that wait for an endpoint which has been taken out go on, as in `Fetch::taken_out`.
    pub(super) fn moves_on(&mut self) {
        let (now, pool) = (self.now(), self.pool);
        let mut moved = Vec::new();
        for (number, request) in &mut self.open {
            let may_move = request.is_idempotent && request.attempts < pool.upstream().retry.attempts;
            let Some(attempt) = request.at.as_ref().filter(|_| may_move) else { continue };
            let endpoint = attempt.in_flight.endpoint();
            let tried: Vec<_> = request.tried.iter().copied().chain([endpoint.id]).collect();
            if endpoint.ejections() > attempt.ejections && pool.has_choice(&tried, now) {
                moved.push(*number);
            }
        }
        for number in moved {
            if self.spend() {
                let attempt = self.open.get_mut(&number).and_then(|request| request.at.take());
                self.ends(number, Attempt { end: End::Moved, ..attempt.unwrap() }, true);
            }
        }
    }

    pub(super) fn ends(&mut self, number: usize, attempt: Attempt, is_paid: bool) {
        let (now, pool) = (self.now(), self.pool);
        let Attempt { in_flight, begun, end, .. } = attempt;
        let endpoint = std::sync::Arc::clone(in_flight.endpoint());
        drop(in_flight);
        let rules = &pool.upstream().retry;
        let request_fate = match end {
            End::Status(status) => {
                let status = StatusCode::from_u16(status).unwrap();
                pool.report(&endpoint, pool.judge(status), begun);
                if !retry::is_failure(rules, status) {
                    return self.is_over(number, Some(status));
                }
                Fate::Unknown
            }
            End::Failed(fate) => {
                pool.report(&endpoint, Outcome::Failed(&"it failed"), now);
                fate
            }
            End::Moved => Fate::Unknown,
        };
        let random = self.rng.u16(..);
        let Some(request) = self.open.get_mut(&number) else { return };
        request.tried.push(endpoint.id);
        request.may_be_done |= request_fate == Fate::Unknown;
        let failure = Failure {
            is_idempotent: request.is_idempotent,
            is_body_left: true,
            request: request_fate,
            is_stale: false,
            attempts: request.attempts,
            has_others: pool.has_choice(&request.tried, now),
            time_left: None,
        };
        match retry::decide(rules, &failure, random, || is_paid || self.spend()) {
            Decision::Retry { after, to } => {
                if let Some(request) = self.open.get_mut(&number) {
                    request.next = to;
                }
                self.later(after.as_millis() as u64, Event::Resumes(number));
            }
            Decision::GiveUp(GiveUp::NotIdempotent) => {
                assert!(self.open.get(&number).is_some_and(|request| !request.is_idempotent));
                self.is_over(number, None);
            }
            Decision::GiveUp(_) | Decision::Reconnect => self.is_over(number, None),
        }
    }

    /// Against a count of its own: no more than the share and the floor, and the floor always.
    fn spend(&mut self) -> bool {
        let percent = self.pool.upstream().retry.budget_percent;
        let granted = self.budget.spend(percent, self.now());
        let since_ms = self.now_ms.saturating_sub(10_000);
        self.paid.retain(|at| *at >= since_ms);
        // A second more, which the budget may count too.
        self.arrivals.retain(|at| at + 1_000 >= since_ms);
        if granted {
            self.paid.push_back(self.now_ms);
            let share = self.arrivals.len() * percent as usize / 100;
            assert!(self.paid.len() <= share + 201, "{} of {} retries", self.paid.len(), share);
        } else {
            assert!(self.paid.len() >= 100, "refused after {} retries", self.paid.len());
        }
        granted
    }

    /// With a response of that status, or without one.
    fn is_over(&mut self, number: usize, status: Option<StatusCode>) {
        let Some(request) = self.open.remove(&number) else { return };
        self.ended += 1;
        let Some(call) = request.call else { return };
        match status {
            Some(status) if !self.pool.is_failure(status) => call.answered(self.now()),
            None if request.attempts == 0 => drop(call),
            _ => call.failed(self.now()),
        }
        self.breaker_state();
    }
}
