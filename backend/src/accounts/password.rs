//! Hashes and compares passwords, a few at a time. Who asks in vain and who asks for nobody wait alike.
//!
//! argon2id (RFC 9106) takes memory on purpose, so the number that run at once is bounded, and so is the number that wait:
//! what comes beyond is refused at once, before it costs anything. Hashes of bcrypt are compared, for people who come
//! from elsewhere; they are replaced as soon as the password is known.

use std::num::NonZero;
use std::str::FromStr;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::secret::random_hex;

/// Beyond this many at a time a replica would not stay below 100 MB.
const PARALLEL_MAX: usize = 2;
const WAITING_MAX: i64 = 64;

/// What a hash costs. One that was made with another cost is replaced at the next sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Default for Cost {
    /// What OWASP recommends for argon2id with one lane: 19 MiB, two passes.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2 }
    }
}

impl FromStr for Cost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected memory in KiB and passes, such as 19456,2";
        let (memory, passes) = text.split_once(',').ok_or(expected)?;
        let cost = Self {
            memory_kib: memory.trim().parse().map_err(|_error| expected)?,
            passes: passes.trim().parse().map_err(|_error| expected)?,
        };
        cost.params().map_err(|_error| "argon2 needs at least 8 KiB and one pass")?;
        Ok(cost)
    }
}

impl Cost {
    fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.passes, 1, None)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("too many passwords wait to be looked at")]
    Busy,
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// What comparing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, and the hash is not one that would be made today.
    RightButOld,
}

#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    permits: Arc<Semaphore>,
    waiting: IntGauge,
    /// Of a password that nobody has, to be compared where there is no account.
    nobody: Arc<str>,
}

impl Passwords {
    /// `waiting` shows how many wait.
    pub fn new(cost: Cost, waiting: IntGauge) -> Result<Self, PasswordError> {
        let params = cost.params().map_err(failed)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // Hexadecimal digits are also ones of base64: this is a salt of 18 bytes and an output of 36, which no password has.
        let (salt, output) = (random_hex::<12>().map_err(failed)?, random_hex::<24>().map_err(failed)?);
        let nobody = format!("$argon2id$v=19$m={},t={},p=1${salt}${output}", cost.memory_kib, cost.passes);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let permits = Arc::new(Semaphore::new(cores.min(PARALLEL_MAX)));
        Ok(Self { argon2, permits, waiting, nobody: nobody.into() })
    }

    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.work(move |argon2| argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(failed))
            .await?
    }

    /// As [`hash`](Self::hash), at once and always the same for the same salt: for made-up accounts alone.
    pub fn hash_with_salt(&self, password: &str, salt: &[u8]) -> Result<String, PasswordError> {
        let hash = self.argon2.hash_password_with_salt(password.as_bytes(), salt).map_err(failed)?;
        Ok(hash.to_string())
    }

    /// Compares with the stored hash, or, where there is no account, with one that fits nothing.
    pub async fn compare(&self, password: &str, stored: Option<&str>) -> Result<Verdict, PasswordError> {
        let password = password.to_owned();
        let is_known = stored.is_some();
        let hash = stored.unwrap_or(&self.nobody).to_owned();
        let verdict = self.work(move |argon2| compare(argon2, &password, &hash)).await?;
        Ok(if is_known { verdict } else { Verdict::Wrong })
    }

    /// Runs on a thread that may be held up. Who leaves meanwhile gives the permit back only when the work is done.
    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = self.permit().await?;
        let argon2 = self.argon2.clone();
        let done = tokio::task::spawn_blocking(move || {
            let outcome = job(&argon2);
            drop(permit);
            outcome
        });
        done.await.map_err(failed)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, PasswordError> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting).ok_or(PasswordError::Busy)?;
        self.permits.clone().acquire_owned().await.map_err(failed)
    }
}

/// A place in the queue, given back when it is dropped.
struct Place<'q>(&'q IntGauge);

impl<'q> Place<'q> {
    fn take(waiting: &'q IntGauge) -> Option<Self> {
        waiting.inc();
        let place = Self(waiting);
        (waiting.get() <= WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn failed(error: impl std::fmt::Display) -> PasswordError {
    PasswordError::Failed(error.to_string())
}

fn compare(argon2: &Argon2<'_>, password: &str, stored: &str) -> Verdict {
    if is_bcrypt(stored) {
        return match bcrypt::verify(password, stored) {
            Ok(true) => Verdict::RightButOld,
            Ok(false) | Err(_) => Verdict::Wrong,
        };
    }
    let Ok(hash) = PasswordHash::new(stored) else { return Verdict::Wrong };
    // The parameters are those of the hash.
    if argon2.verify_password(password.as_bytes(), &hash).is_err() {
        Verdict::Wrong
    } else if is_current(argon2, &hash) {
        Verdict::Right
    } else {
        Verdict::RightButOld
    }
}

fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| stored.starts_with(prefix))
}

/// Whether a hash made now would have the same cost.
fn is_current(argon2: &Argon2<'_>, hash: &PasswordHash) -> bool {
    let of_hash = Params::try_from(hash).ok();
    let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    hash.algorithm.as_str() == "argon2id" && of_hash.is_some_and(|params| cost(&params) == cost(argon2.params()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    fn passwords(cost: Cost) -> Passwords {
        Passwords::new(cost, IntGauge::new("waiting", "of the test").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_told_by_its_hash_and_an_old_hash_by_its_cost() {
        let now = passwords(CHEAP);
        let earlier = passwords(Cost { memory_kib: 16, passes: 1 });
        let hash = now.hash("right").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert_ne!(hash, now.hash("right").await.unwrap(), "each has its salt");
        let old = earlier.hash("right").await.unwrap();
        // The second line is a vector of the public test suite of bcrypt.
        for (password, stored, expected) in [
            ("right", Some(hash.as_str()), Verdict::Right),
            ("abc", Some("$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"), Verdict::RightButOld),
            ("abd", Some("$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"), Verdict::Wrong),
            ("wrong", Some(&hash), Verdict::Wrong),
            ("right", Some(&old), Verdict::RightButOld),
            ("wrong", Some(&old), Verdict::Wrong),
            ("right", Some("no hash"), Verdict::Wrong),
            ("right", Some(""), Verdict::Wrong),
            ("right", None, Verdict::Wrong),
        ] {
            assert_eq!(now.compare(password, stored).await.unwrap(), expected, "{password} {stored:?}");
        }
    }

    #[test]
    fn who_is_nobody_is_compared_at_the_full_cost() {
        let passwords = passwords(CHEAP);
        let nobody = PasswordHash::new(&passwords.nobody).unwrap();
        assert!(is_current(&passwords.argon2, &nobody));
        let error = passwords.argon2.verify_password(b"any", &nobody).unwrap_err();
        assert_eq!(error, argon2::password_hash::Error::PasswordInvalid, "it is hashed, and does not fit");
    }

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_is_refused_at_once() {
        let passwords = passwords(CHEAP);
        let permits = u32::try_from(passwords.permits.available_permits()).unwrap();
        let held = passwords.permits.clone().acquire_many_owned(permits).await.unwrap();
        passwords.waiting.set(WAITING_MAX);
        assert!(matches!(passwords.hash("a").await, Err(PasswordError::Busy)));
        assert_eq!(passwords.waiting.get(), WAITING_MAX);
        passwords.waiting.set(0);
        drop(held);
        passwords.hash("a").await.unwrap();
    }

    #[test]
    fn a_cost_is_read_or_refused() {
        assert_eq!("19456,2".parse(), Ok(Cost::default()));
        for wrong in ["", "19456", "a,b", "0,1", "8,0"] {
            assert!(wrong.parse::<Cost>().is_err(), "{wrong}");
        }
    }
}
