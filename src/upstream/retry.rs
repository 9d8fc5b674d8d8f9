//! What becomes of a request whose attempt has failed: another attempt, or its end. This module decides, and knows no
//! connection, no endpoint and no clock.
//!
//! Two rules stand above what is configured. A request that may have been acted upon is sent again only if sending it
//! twice is the same as sending it once. And one that has reached an endpoint is sent again only while the
//! [budget](super::budget) allows it, so that retries do not multiply the load that endpoints fail under.

use std::time::Duration;

use http::header::UPGRADE;
use http::request::Parts;
use http::{Method, StatusCode};

use super::Fate;
use crate::config::Retry;

/// A pause is at most so many times the first one.
const GROWTH_MAX: u32 = 10;

/// An attempt that brought nothing that could be passed on, and the request that it was made for.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// Sending the request twice is the same as sending it once.
    pub is_idempotent: bool,
    /// Its body can still be had.
    pub is_body_left: bool,
    /// What this attempt did with it.
    pub request: Fate,
    /// It went over a kept connection that the endpoint had closed or was closing, which says nothing of the endpoint.
    pub is_stale: bool,
    /// Attempts so far, this one included and those over stale connections left out.
    pub attempts: u32,
    /// A sound endpoint is left that has not had the request.
    pub has_others: bool,
    /// What is left of the time for all attempts; none if that has no limit.
    pub time_left: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To the same endpoint, over a new connection. It is no attempt of its own.
    Reconnect,
    Retry {
        after: Duration,
        to: Next,
    },
    GiveUp(GiveUp),
}

/// Who may get the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// An endpoint that has not had the request.
    Untried,
    /// If there is none, another than the last; and if there is none, the last.
    Any,
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// It may have been acted upon, and must not be twice.
    NotIdempotent,
    /// The body went with this attempt and cannot be had again.
    BodyGone,
    /// There were as many as are configured.
    Attempts,
    /// The time for all attempts would end within the pause.
    Time,
    /// The upstream has had as many retries as its requests allow.
    Budget,
}

/// Sending it twice is the same as sending it once (RFC 9110 §9.2.2). An upgrade is begun once.
pub fn is_idempotent(head: &Parts) -> bool {
    matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        && !head.headers.contains_key(UPGRADE)
}

/// Whether a response with this status is taken for a failure.
pub fn is_failure(rules: &Retry, status: StatusCode) -> bool {
    rules.status.iter().any(|range| range.contains(&status.as_u16()))
}

/// Decides by the failure alone, and then asks `spend` for the budget, unless the attempt did not reach its
/// endpoint: what follows is then the first that an endpoint sees of the request. `random` makes the pauses of
/// requests that failed together differ.
pub fn decide(rules: &Retry, failure: &Failure, random: u16, spend: impl FnOnce() -> bool) -> Decision {
    let decision = unless_spent(rules, failure, random);
    let is_free = match failure.request {
        Fate::Unsent => true,
        // Connections come to their end as the endpoint pleases, and it has done nothing with what it leaves out.
        Fate::Unprocessed => failure.is_stale,
        Fate::Unknown => false,
    };
    let goes_on = !matches!(decision, Decision::GiveUp(_));
    if goes_on && !is_free && !spend() { Decision::GiveUp(GiveUp::Budget) } else { decision }
}

fn unless_spent(rules: &Retry, failure: &Failure, random: u16) -> Decision {
    if failure.request == Fate::Unknown && !failure.is_idempotent {
        return Decision::GiveUp(GiveUp::NotIdempotent);
    }
    if !failure.is_body_left {
        return Decision::GiveUp(GiveUp::BodyGone);
    }
    if failure.is_stale {
        return Decision::Reconnect;
    }
    if failure.attempts >= rules.attempts {
        // Each endpoint that cannot be reached is passed over; there are only so many.
        return match failure.request {
            Fate::Unsent => Decision::Retry { after: Duration::ZERO, to: Next::Untried },
            Fate::Unprocessed | Fate::Unknown => Decision::GiveUp(GiveUp::Attempts),
        };
    }
    let after = pause(rules.backoff, failure.attempts, failure.has_others, random);
    if failure.time_left.is_some_and(|left| left <= after) {
        return Decision::GiveUp(GiveUp::Time);
    }
    Decision::Retry { after, to: Next::Any }
}

/// The pause after so many attempts: none before the first that goes to another endpoint, then each is twice the one
/// before, up to [`GROWTH_MAX`] times the first. Between its half and the whole, it is left to chance.
fn pause(first: Duration, attempts: u32, has_others: bool, random: u16) -> Duration {
    let doublings = match (attempts.saturating_sub(1), has_others) {
        (0, true) => return Duration::ZERO,
        (retries, true) => retries - 1,
        (retries, false) => retries,
    };
    let growth = 1_u32.checked_shl(doublings).unwrap_or(GROWTH_MAX).clamp(1, GROWTH_MAX);
    let half = first.saturating_mul(growth) / 2;
    half + half.saturating_mul(u32::from(random)) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn rules(attempts: u32) -> Retry {
        Retry { attempts, status: vec![502..=502], backoff: MS(20), budget_percent: 20 }
    }

    /// Of a GET whose first attempt broke off, while another endpoint is there.
    const BROKEN: Failure = Failure {
        is_idempotent: true,
        is_body_left: true,
        request: Fate::Unknown,
        is_stale: false,
        attempts: 1,
        has_others: true,
        time_left: None,
    };
    const POST: Failure = Failure { is_idempotent: false, ..BROKEN };
    const AT_ONCE: Decision = Decision::Retry { after: Duration::ZERO, to: Next::Any };

    /// `spends`: it asks the budget.
    fn check(failure: Failure, expected: Decision, spends: bool) {
        let mut asked = false;
        let decided = decide(&rules(3), &failure, u16::MAX, || {
            asked = true;
            true
        });
        assert_eq!((decided, asked), (expected, spends), "{failure:?}");
        let refused = decide(&rules(3), &failure, u16::MAX, || false);
        assert_eq!(refused, if spends { Decision::GiveUp(GiveUp::Budget) } else { expected }, "{failure:?}");
    }

    /// Section G: what may have been acted upon is not sent twice, and what no endpoint has seen is not counted.
    #[test]
    fn g_what_may_be_sent_again_is() {
        use GiveUp::*;
        for request in [Fate::Unsent, Fate::Unprocessed, Fate::Unknown] {
            let spends = request != Fate::Unsent;
            check(Failure { request, ..BROKEN }, AT_ONCE, spends);
            let is_safe = request != Fate::Unknown;
            let of_post = if is_safe { AT_ONCE } else { Decision::GiveUp(NotIdempotent) };
            check(Failure { request, ..POST }, of_post, spends && is_safe);
            check(Failure { request, is_body_left: false, ..BROKEN }, Decision::GiveUp(BodyGone), false);
        }
        let last = Failure { attempts: 3, ..BROKEN };
        check(last, Decision::GiveUp(Attempts), false);
        check(Failure { request: Fate::Unprocessed, ..last }, Decision::GiveUp(Attempts), false);
        let untried = Decision::Retry { after: Duration::ZERO, to: Next::Untried };
        check(Failure { request: Fate::Unsent, ..last }, untried, false);
        check(Failure { request: Fate::Unsent, attempts: 9, ..POST }, untried, false);
    }

    #[test]
    fn a_stale_connection_is_no_attempt() {
        let stale = Failure { is_stale: true, attempts: 3, ..BROKEN };
        check(stale, Decision::Reconnect, true);
        check(Failure { request: Fate::Unprocessed, ..stale }, Decision::Reconnect, false);
        check(Failure { request: Fate::Unprocessed, is_idempotent: false, ..stale }, Decision::Reconnect, false);
        check(Failure { is_idempotent: false, ..stale }, Decision::GiveUp(GiveUp::NotIdempotent), false);
    }

    #[test]
    fn pauses_double_and_differ() {
        let check = |has_others, expected_ms: [u64; 7]| {
            let longest = (1..=7).map(|attempts| pause(MS(20), attempts, has_others, u16::MAX));
            assert_eq!(longest.collect::<Vec<_>>(), expected_ms.map(MS));
            let shortest = (1..=7).map(|attempts| pause(MS(20), attempts, has_others, 0));
            assert_eq!(shortest.collect::<Vec<_>>(), expected_ms.map(|ms| MS(ms / 2)));
        };
        check(true, [0, 20, 40, 80, 160, 200, 200]);
        check(false, [20, 40, 80, 160, 200, 200, 200]);
        assert_eq!(pause(Duration::ZERO, 5, false, 7), Duration::ZERO);
    }

    #[test]
    fn a_pause_that_outlasts_the_time_is_not_begun() {
        let last_one = Failure { has_others: false, ..BROKEN };
        let time_left = |ms| Failure { time_left: Some(MS(ms)), ..last_one };
        check(time_left(21), Decision::Retry { after: MS(20), to: Next::Any }, true);
        check(time_left(20), Decision::GiveUp(GiveUp::Time), false);
        check(Failure { time_left: Some(Duration::ZERO), ..BROKEN }, Decision::GiveUp(GiveUp::Time), false);
    }

    #[test]
    fn methods_and_statuses() {
        let idempotent = |request: http::request::Builder| is_idempotent(&request.body(()).unwrap().into_parts().0);
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            assert!(idempotent(Request::builder().method(method)), "{method}");
            assert!(!idempotent(Request::builder().method(method).header("upgrade", "websocket")), "{method}");
        }
        for method in ["POST", "PATCH", "PROPFIND", "get"] {
            assert!(!idempotent(Request::builder().method(method)), "{method}");
        }
        assert!(is_failure(&rules(2), StatusCode::BAD_GATEWAY));
        assert!(!is_failure(&rules(2), StatusCode::SERVICE_UNAVAILABLE));
    }

    proptest! {
        /// Whatever happens: as many attempts as configured, each paid for but those that nobody has seen.
        #[test]
        fn a_request_ends(
            attempts_max in 1u32..16,
            fates in prop::collection::vec(prop_oneof![Just(Fate::Unsent), Just(Fate::Unprocessed), Just(Fate::Unknown)], 1..64),
            is_idempotent in any::<bool>(),
            random in any::<u16>(),
        ) {
            let (mut attempts, mut paid, mut seen, mut may_have_been_done) = (0, 0, 0, false);
            for request in fates {
                attempts += 1;
                prop_assert!(is_idempotent || !may_have_been_done);
                seen += u32::from(request != Fate::Unsent);
                prop_assert!(seen <= paid + 1);
                may_have_been_done |= request == Fate::Unknown;
                let failure = Failure { is_idempotent, request, attempts, ..BROKEN };
                let decision = decide(&rules(attempts_max), &failure, random, || {
                    paid += 1;
                    true
                });
                match decision {
                    Decision::Retry { after, to } => {
                        prop_assert!(after <= MS(20) * GROWTH_MAX);
                        prop_assert!(attempts < attempts_max || to == Next::Untried);
                    }
                    _ => break,
                }
            }
            prop_assert!(seen <= attempts_max.max(1));
        }
    }
}
