//! A transaction that is begun again when the database went away in the middle, or others were in the way.

use std::time::Instant;

use super::retry::{Fault, Repeat, Retry};
use super::{Store, StoreError, Transaction};

/// Attempts at one transaction. The loop around them stands where they are used, because what is done in it borrows from
/// there, and a closure that does so makes a future that nobody can prove to be `Send`:
///
/// ```ignore
/// let mut attempts = store.attempts(Repeat::Safe);
/// loop {
///     let mut transaction = attempts.begin().await?;
///     let outcome = renew(&mut transaction, &digest).await;
///     if let Some(renewal) = attempts.end(transaction, outcome).await? {
///         break Ok(renewal);
///     }
/// }
/// ```
///
/// What is done must keep nothing of the attempt before. An answer to the commit that never came leaves open what became
/// of it: [`Repeat`] says whether it may be done again then; else the outcome is [`StoreError::Unknown`].
pub struct Attempts<'s> {
    store: &'s Store,
    repeat: Repeat,
    retry: Retry,
}

impl<'s> Attempts<'s> {
    pub(super) fn new(store: &'s Store, repeat: Repeat) -> Self {
        Self { store, repeat, retry: Retry::new(store.patience, Instant::now()) }
    }

    /// Begins, in SQLite by `begin immediate`: what is read stays true until the commit.
    pub async fn begin(&mut self) -> Result<Transaction, StoreError> {
        loop {
            match self.store.pools.begin(self.store.metrics.clone()).await {
                Ok(transaction) => return Ok(transaction),
                Err(error) if self.pause(error.fault()).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits if the outcome is good, and undoes everything if not. None: begin again.
    pub async fn end<T, E>(&mut self, transaction: Transaction, outcome: Result<T, E>) -> Result<Option<T>, E>
    where
        E: From<StoreError>,
    {
        let (error, fault) = match outcome {
            Ok(value) => match transaction.commit(self.repeat).await {
                Ok(()) => return Ok(Some(value)),
                Err(error) => {
                    let fault = error.fault();
                    (E::from(error), fault)
                }
            },
            Err(error) => (error, transaction.undo().await),
        };
        if self.pause(fault).await { Ok(None) } else { Err(error) }
    }

    /// Waits before the next attempt; false if there is to be none.
    async fn pause(&mut self, fault: Option<Fault>) -> bool {
        let Some(pause) = self.retry.pause(fault, Instant::now()) else { return false };
        tokio::time::sleep(pause).await;
        true
    }
}
