//! An endpoint for an attempt, and the wait until there is room at one.

use std::time::{Duration, Instant};

use super::{Attempts, Fetch, FetchError, Sending};
use crate::balance::{InFlight, Pool, Ticket, Unchosen};
use crate::clock;
use crate::config::Queue;
use crate::upstream::retry::Next;

/// An endpoint that was taken out comes back by the clock alone, and wakes nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Fetch<'_> {
    /// Nobody is served before those who wait already. Without `may_wait`, who finds no room goes away.
    pub(super) async fn endpoint<'s>(
        &'s self,
        next: Next,
        sending: &mut Sending<'s>,
        attempts: &mut Attempts,
        may_wait: bool,
    ) -> Result<InFlight, FetchError> {
        let pool = &self.upstream.pool;
        let line = pool.upstream().queue.filter(|_| may_wait);
        let asked = (sending.key, sending.begun.into_std());
        let chosen = match line {
            Some(_) if !pool.queue().is_empty() => Err(Unchosen::Full),
            _ => choose(pool, next, &mut attempts.tried, asked),
        };
        match (chosen, line) {
            (Ok(in_flight), _) => Ok(in_flight),
            (Err(Unchosen::NoEndpoint), _) => Err(self.no_endpoint()),
            (Err(Unchosen::Full), None) => {
                pool.queue().count_full();
                Err(FetchError::Full(pool.upstream().name.clone()))
            }
            // Boxed, since it is rare, and in the future of every request it would cost more than the box.
            (Err(Unchosen::Full), Some(line)) => Box::pin(self.wait(line, next, sending, attempts)).await,
        }
    }

    /// Waits in the line of the upstream. What the breaker said of a request that has had no attempt does not hold for as
    /// long: it is asked again once there is room.
    async fn wait<'s>(
        &'s self,
        line: Queue,
        next: Next,
        sending: &mut Sending<'s>,
        attempts: &mut Attempts,
    ) -> Result<InFlight, FetchError> {
        let pool = &self.upstream.pool;
        let begun = clock::now();
        let ticket =
            pool.queue().join(line.requests_max).map_err(|_full| FetchError::Full(pool.upstream().name.clone()))?;
        let (has_no_attempt, key) = (attempts.made == 0, sending.key);
        let Attempts { tried, queued, .. } = attempts;
        let wait = Wait { begun, sum: queued };
        if has_no_attempt {
            sending.call = None;
        }
        let call = &mut sending.call;
        let turns = async {
            loop {
                if tokio::time::timeout(LOOK_AGAIN, ticket.turn()).await.is_err() && !ticket.is_first() {
                    continue;
                }
                let now = clock::now();
                match take_turn(pool, &ticket, next, tried, (key, now.into_std())) {
                    Some(Ok(in_flight)) => {
                        if has_no_attempt {
                            *call = self.begin(now)?;
                        }
                        return Ok(in_flight);
                    }
                    Some(Err(_)) => return Err(self.no_endpoint()),
                    None => {}
                }
            }
        };
        let deadline = begun + line.timeout;
        let until = sending.until.map_or(deadline, |until| until.min(deadline));
        let result = tokio::time::timeout_at(until, turns).await;
        drop(ticket);
        drop(wait);
        sending.begun = clock::now();
        result.unwrap_or_else(|_elapsed| {
            if until < deadline {
                return Err(self.total_timeout());
            }
            pool.queue().count_timed_out();
            Err(FetchError::QueueTimeout(pool.upstream().name.clone(), line.timeout))
        })
    }
}

/// Adds up how long a request has waited, also if its client leaves meanwhile.
struct Wait<'a> {
    begun: tokio::time::Instant,
    sum: &'a mut Option<Duration>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = clock::now().saturating_duration_since(self.begun);
        *self.sum = Some(self.sum.unwrap_or_default() + waited);
    }
}

/// Looks for an endpoint in one's turn. None: there is no room for this request, and it goes on to wait.
pub(super) fn take_turn(
    pool: &Pool,
    ticket: &Ticket<'_>,
    next: Next,
    tried: &mut Vec<u64>,
    asked: (Option<u64>, Instant),
) -> Option<Result<InFlight, Unchosen>> {
    match choose(pool, next, tried, asked) {
        Err(Unchosen::Full) => {
            // The endpoint with room may be one that this request has had, or one that its configuration does not know.
            if !tried.is_empty() || pool.is_superseded() {
                ticket.pass_on();
            }
            None
        }
        chosen => Some(chosen),
    }
}

/// An endpoint for the next attempt. Those that had one come again once all have had one, the last of them last.
pub(super) fn choose(
    pool: &Pool,
    next: Next,
    tried: &mut Vec<u64>,
    (key, now): (Option<u64>, Instant),
) -> Result<InFlight, Unchosen> {
    let untried = pool.choose(tried, key, now);
    if !matches!(untried, Err(Unchosen::NoEndpoint)) || next == Next::Untried {
        return untried;
    }
    let last = tried.pop();
    tried.clear();
    tried.extend(last);
    pool.choose(tried, key, now).or_else(|_| pool.choose(&[], key, now))
}
