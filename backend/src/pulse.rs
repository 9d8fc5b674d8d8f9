//! Asks what the app stands on how it is, again and again, so that `/health` has an answer at once and never waits.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::processors::Processors;
use crate::remote::Remote;
use crate::store::Store;

const INTERVAL: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// An older finding says nothing any more: whoever looks for it must be stuck.
const FINDING_AGE_MAX: Duration = Duration::from_secs(10);

/// What was found last.
pub struct Pulse(Mutex<Findings>);

#[derive(Debug, Clone)]
pub struct Findings {
    pub database: Finding,
    /// None where there is none.
    pub redis: Option<Finding>,
    /// The share of its processors that this replica has used of late; None until it is known.
    pub processors: Option<f64>,
}

#[derive(Debug, Clone)]
pub struct Finding {
    /// How long the answer took, or why there is none.
    pub answer: Result<Duration, String>,
    at: Instant,
}

impl Finding {
    async fn of<E: std::fmt::Display>(answer: impl Future<Output = Result<Duration, E>>) -> Self {
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(took)) => Ok(took),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("no answer within 5 s".to_owned()),
        };
        Self { answer, at: Instant::now() }
    }

    #[cfg(test)]
    pub fn answered(took: Duration) -> Self {
        Self { answer: Ok(took), at: Instant::now() }
    }

    /// The same, or that it is too old.
    fn while_it_counts(self, now: Instant) -> Self {
        if now.saturating_duration_since(self.at) <= FINDING_AGE_MAX {
            return self;
        }
        Self { answer: Err("was not looked at for 10 s".to_owned()), at: self.at }
    }
}

impl Findings {
    async fn look(store: &Store, remote: Option<&Remote>, processors: &mut Processors) -> Self {
        let redis = async {
            match remote {
                Some(remote) => Some(Finding::of(remote.ping()).await),
                None => None,
            }
        };
        let (database, redis) = tokio::join!(Finding::of(store.ping()), redis);
        Self { database, redis, processors: processors.look() }
    }
}

impl Pulse {
    pub async fn begin(store: &Store, remote: Option<&Remote>) -> Self {
        Self(Mutex::new(Findings::look(store, remote, &mut Processors::new()).await))
    }

    /// Goes on looking; it never ends.
    pub async fn watch(&self, store: &Store, remote: Option<&Remote>) -> Infallible {
        let mut processors = Processors::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let findings = Findings::look(store, remote, &mut processors).await;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = findings;
        }
    }

    pub fn findings(&self, now: Instant) -> Findings {
        let Findings { database, redis, processors } = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let redis = redis.map(|redis| redis.while_it_counts(now));
        Findings { database: database.while_it_counts(now), redis, processors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_in_time_has_no_answer() {
        let silent = std::future::pending::<Result<Duration, String>>();
        assert_eq!(Finding::of(silent).await.answer, Err("no answer within 5 s".to_owned()));
        let refusing = std::future::ready(Err::<Duration, _>("refused"));
        assert_eq!(Finding::of(refusing).await.answer, Err("refused".to_owned()));
    }

    #[test]
    fn a_finding_counts_for_a_while() {
        let at = Instant::now();
        let finding = Finding { answer: Ok(Duration::ZERO), at };
        assert!(finding.clone().while_it_counts(at + FINDING_AGE_MAX).answer.is_ok());
        assert!(finding.while_it_counts(at + FINDING_AGE_MAX + Duration::from_millis(1)).answer.is_err());
    }
}
