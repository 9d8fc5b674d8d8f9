//! What the jobs of media do, as parts of the transactions that end them. An item may have changed since a job was left, or be
//! gone: what counts is how it is now.

use super::derive;
use super::storage::items::{self as storage, Item};
use crate::jobs::{Job, JobError, Kind, leave};
use crate::store::Transaction;
use crate::trace::Trace;

pub async fn metadata(transaction: &mut Transaction, job: &Job, span: &Trace, now_ms: i64) -> Result<(), JobError> {
    let Some(item) = storage::locked(transaction, &job.subject).await? else { return Ok(()) };
    if item.has_metadata() {
        return Ok(());
    }
    let metadata = derive::metadata(&item.title, &item.description, &item.content_type);
    transaction.execute(&storage::put_metadata(&item.id, item.version, &metadata)).await?;
    if item.has_thumbnail() { announce(transaction, &item, span, now_ms).await } else { Ok(()) }
}

pub async fn thumbnail(transaction: &mut Transaction, job: &Job, span: &Trace, now_ms: i64) -> Result<(), JobError> {
    let Some(item) = storage::locked(transaction, &job.subject).await? else { return Ok(()) };
    if item.has_thumbnail() {
        return Ok(());
    }
    let thumbnail = derive::thumbnail(&item.id, &item.title);
    transaction.execute(&storage::put_thumbnail(&item.id, item.version, &thumbnail)).await?;
    if item.has_metadata() { announce(transaction, &item, span, now_ms).await } else { Ok(()) }
}

/// Has the owner told that nothing is left to derive. The lock on the item lets only the last of its jobs find that so.
async fn announce(transaction: &mut Transaction, item: &Item, span: &Trace, now_ms: i64) -> Result<(), JobError> {
    let job = Job::new(Kind::Notification, &item.owner, &item.id, span);
    Ok(leave(transaction, &[job], now_ms).await?)
}
