//! Whatever becomes of attempts: what may have been acted upon is not sent twice unless that is the same as once,
//! requests end, pauses are bounded, and what arrives beyond the first time stays within the budget.
//!
//! The first three bytes are the rules; then each is the outcome of one attempt, or a step of time.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tollgate::config::Retry;
use tollgate::upstream_parts::{Budget, Decision, Failure, Fate, Next, decide};

const ENDPOINTS: usize = 4;
const FLOOR: u64 = 100;
const FLOOR_PER_S: u64 = 10;

fuzz_target!(|bytes: &[u8]| {
    let [attempts, percent, backoff, events @ ..] = bytes else { return };
    let rules = Retry {
        attempts: 1 + u32::from(attempts % 16),
        status: Vec::new(),
        backoff: Duration::from_millis(u64::from(*backoff)),
        budget_percent: u32::from(percent % 101),
    };
    let start = Instant::now();
    let budget = Budget::new(start);
    let (mut ms, mut requests, mut paid) = (0, 0, 0);
    let mut events = events.iter().copied();
    while let Some(kind) = events.next() {
        requests += 1;
        budget.count_request(start + Duration::from_millis(ms));
        let is_idempotent = kind & 1 == 0;
        let mut is_body_left = kind & 2 == 0;
        let (mut made, mut untried, mut arrivals, mut may_have_been_done) = (0, ENDPOINTS, 0, false);
        let mut reconnected = false;
        while let Some(event) = events.next() {
            let request = match event & 3 {
                0 => Fate::Unsent,
                1 => Fate::Unprocessed,
                _ => Fate::Unknown,
            };
            // A new connection cannot be stale.
            let is_stale = event & 4 != 0 && request != Fate::Unsent && !reconnected;
            assert!(is_idempotent || !may_have_been_done, "it was sent again");
            made += u32::from(!reconnected);
            untried = if reconnected { untried } else { untried.saturating_sub(1) };
            arrivals += u64::from(request == Fate::Unknown);
            may_have_been_done |= request == Fate::Unknown;
            is_body_left &= request == Fate::Unsent || event & 8 == 0;
            let failure = Failure {
                is_idempotent,
                is_body_left,
                request,
                is_stale,
                attempts: made,
                has_others: untried > 0,
                time_left: (event & 16 != 0).then(|| Duration::from_millis(u64::from(event))),
            };
            let now = start + Duration::from_millis(ms);
            let mut asked = 0;
            let decision = decide(&rules, &failure, u16::from(event) << 8, || {
                asked += 1;
                let is_spent = budget.spend(rules.budget_percent, now);
                paid += u64::from(is_spent);
                is_spent
            });
            assert!(asked <= u32::from(request != Fate::Unsent));
            reconnected = false;
            match decision {
                Decision::GiveUp(_) => break,
                Decision::Reconnect => {
                    assert!(is_stale);
                    reconnected = true;
                }
                Decision::Retry { after, to } => {
                    assert!(is_body_left && !is_stale);
                    assert!(after <= rules.backoff * 10);
                    assert!(failure.time_left.is_none_or(|left| after < left || after.is_zero()));
                    // Beyond the attempts that are configured only those move on who have not been seen.
                    assert!(made < rules.attempts || (to == Next::Untried && request == Fate::Unsent));
                    ms += after.as_millis() as u64;
                    if to == Next::Untried && untried == 0 {
                        break;
                    }
                }
            }
        }
        // An endpoint that closes a kept connection and then refuses a new one has seen the request, and is passed over.
        assert!(arrivals <= 2 * u64::from(rules.attempts) + ENDPOINTS as u64);
        ms += u64::from(kind >> 2) * 10;
        let allowed = requests * u64::from(rules.budget_percent) / 100 + FLOOR + FLOOR_PER_S * ms / 1000;
        assert!(paid <= allowed, "{paid} retries, and {allowed} allowed");
    }
});
