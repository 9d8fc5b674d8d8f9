//! Redis, if there is one: what all replicas may know at once, kept for as long as it is of use. Nothing in it is the only
//! copy, so a call that fails is counted and taken for "not known". It never holds a request up for long.

use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, RedisError, RedisResult};

use crate::alone::LeftAlone;
use crate::metrics::Metrics;
use crate::trace;

/// What is slower than this is slower than the database that it spares.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failure nobody asks it for so long.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Remote {
    manager: ConnectionManager,
    metrics: Metrics,
    alone: LeftAlone,
}

impl Remote {
    /// Connects when it is asked for the first time. An error means that `url` is not one of Redis.
    pub fn new(url: &str, metrics: Metrics) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_number_of_retries(1);
        let manager = ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, config)?;
        Ok(Self { manager, metrics, alone: LeftAlone::new(PAUSE, Instant::now()) })
    }

    /// The text of a key; none if there is none, or if Redis does not say.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.ask("GET", async |manager| manager.get(key).await).await.flatten()
    }

    /// Sets a key for so long; whether it is done.
    pub async fn set(&self, key: &str, text: &str, lifetime: Duration) -> bool {
        // Redis refuses to keep for no time at all.
        let seconds = lifetime.as_secs().max(1);
        self.ask("SETEX", async |manager| manager.set_ex::<_, _, ()>(key, text, seconds).await).await.is_some()
    }

    pub async fn remove(&self, key: &str) -> bool {
        self.ask("DEL", async |manager| manager.del::<_, ()>(key).await).await.is_some()
    }

    /// How long it takes to answer.
    pub async fn ping(&self) -> Result<Duration, RedisError> {
        let begin = Instant::now();
        self.manager.clone().ping::<()>().await?;
        Ok(begin.elapsed())
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        call: impl AsyncFnOnce(&mut ConnectionManager) -> RedisResult<T>,
    ) -> Option<T> {
        if self.alone.is_left_alone(Instant::now()) {
            return None;
        }
        let begin = Instant::now();
        // The manager's own limit is for a response, and says nothing about connecting again.
        let answer = tokio::time::timeout(RESPONSE_TIMEOUT, call(&mut self.manager.clone())).await;
        let fault = match answer {
            Ok(Ok(value)) => {
                trace::asked("redis", operation, begin, None);
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        trace::asked("redis", operation, begin, Some(&fault));
        self.metrics.redis_failed();
        self.alone.failed(Instant::now());
        None
    }
}
