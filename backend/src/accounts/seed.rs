//! Made-up accounts, the same ones at every run, so that load tests have somebody to be.

use std::ops::Range;

use super::password::Passwords;
use super::storage::{self, User};
use super::{AccountError, Cost};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::store::{Repeat, Store, StoreError, Transaction};

/// Of all of them. One hash serves all: a hundred thousand would take hours.
const PASSWORD: &str = "tollgate-seed";
const SALT: &[u8] = b"tollgate-seed-16";
const BATCH: u32 = 1000;
/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;
const FIRST: [&str; 8] = ["Ada", "Alan", "Barbara", "Donald", "Edsger", "Grace", "Ken", "Margaret"];
const LAST: [&str; 8] = ["Dijkstra", "Hamilton", "Hopper", "Knuth", "Liskov", "Lovelace", "Thompson", "Turing"];

/// Adds users 0 to `count`; those who are there stay as they are.
pub async fn seed(store: &Store, count: u32, cost: Cost, metrics: &Metrics) -> Result<(), AccountError> {
    let hash = Passwords::new(cost, metrics.queue("passwords"))?.hash_with_salt(PASSWORD, SALT)?;
    let mut progress = Progress::new("users", count);
    for begin in (0..count).step_by(BATCH as usize) {
        let end = count.min(begin + BATCH);
        let mut attempts = store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = add(&mut transaction, begin..end, &hash).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                break;
            }
        }
        progress.at(end);
    }
    Ok(())
}

async fn add(transaction: &mut Transaction, numbers: Range<u32>, hash: &str) -> Result<(), StoreError> {
    for number in numbers {
        storage::add_user(transaction, &user(number, hash)).await?;
    }
    Ok(())
}

fn user(number: u32, hash: &str) -> User {
    let created_ms = BEGIN_MS + i64::from(number) * 1000;
    let (first, last) = (pick(&FIRST, number), pick(&LAST, number / 8));
    User {
        // In the form of version 7, so that it sorts before those that are made later.
        id: seeded_id(number),
        email: format!("user{number}@example.com"),
        user_name: format!("user{number}"),
        phone: number.is_multiple_of(3).then(|| format!("+4179{number:07}")),
        display_name: format!("{first} {last}"),
        password_hash: hash.to_owned(),
        version: 1,
        created_ms,
        changed_ms: created_ms,
    }
}

/// The name of a made-up user.
pub fn seeded_id(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

fn pick<'n>(names: &[&'n str; 8], number: u32) -> &'n str {
    names.get(number as usize % names.len()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::fields::{DisplayName, Email, Phone, UserName};

    #[test]
    fn made_up_users_are_well_formed_and_differ() {
        let mut ids = std::collections::BTreeSet::new();
        for number in [0, 1, 2, 3, 999, 99_999] {
            let user = user(number, "hash");
            assert_eq!(Email::try_from(user.email.clone()).unwrap().as_str(), user.email);
            assert_eq!(UserName::try_from(user.user_name.clone()).unwrap().as_str(), user.user_name);
            DisplayName::try_from(user.display_name).unwrap();
            if let Some(phone) = user.phone {
                assert_eq!(Phone::try_from(phone.clone()).unwrap().as_str(), phone);
            }
            assert!(ids.insert(user.id));
        }
    }
}
