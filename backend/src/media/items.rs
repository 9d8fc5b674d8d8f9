//! Items: made, read, changed, removed. Each change leaves the jobs that derive anew what depends on it.

use super::fields::{ContentType, MediaText, MediaTitle};
use super::storage::items::{self as storage, Changes, Item};
use super::{Guard, Media, MediaError};
use crate::api::conditional::Editor;
use crate::api::{Caller, Page, PageQuery, SearchQuery};
use crate::clock::now_ms;
use crate::jobs::{Job, Kind, leave};
use crate::secret::new_id;
use crate::store::{Query, Repeat, Transaction};
use crate::trace::Trace;

/// What to make an item of.
pub struct NewItem {
    pub title: MediaTitle,
    pub description: MediaText,
    pub content_type: ContentType,
}

/// An item after a change, with the jobs that the change has left.
pub struct Changed {
    pub item: Item,
    pub jobs: [Job; 2],
}

impl Media {
    pub async fn newest(&self, query: &PageQuery) -> Result<Page<Item>, MediaError> {
        self.page(&storage::newest(query), query).await
    }

    pub async fn with_words(&self, search: &SearchQuery) -> Result<Page<Item>, MediaError> {
        let query = search.page();
        self.page(&storage::with_words(&search.q, &query), &query).await
    }

    async fn page(&self, statement: &Query, query: &PageQuery) -> Result<Page<Item>, MediaError> {
        let rows = self.store.fetch(statement).await?;
        let items = rows.iter().map(Item::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(items, query, |item| item.id.clone()))
    }

    pub async fn item(&self, id: &str) -> Result<Item, MediaError> {
        let row = self.store.fetch_optional(&storage::item_by_id(id)).await?.ok_or(MediaError::Gone)?;
        Ok(Item::try_from(&row)?)
    }

    /// Whether this user has such an item.
    pub async fn is_of(&self, owner: &Caller, id: &str) -> Result<(), MediaError> {
        let item = self.item(id).await?;
        if item.owner == owner.user { Ok(()) } else { Err(MediaError::Gone) }
    }

    pub async fn add(&self, owner: &Caller, new: NewItem, span: &Trace) -> Result<Changed, MediaError> {
        self.jobs.room()?;
        let now_ms = now_ms();
        let item = Item {
            id: new_id(),
            owner: owner.user.clone(),
            title: new.title.as_str().to_owned(),
            description: new.description.as_str().to_owned(),
            content_type: new.content_type.as_str().to_owned(),
            version: 1,
            created_ms: now_ms,
            changed_ms: now_ms,
            metadata: None,
            thumbnail: None,
        };
        let jobs = jobs(owner, &item.id, span);
        let add = storage::add(&item);
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = put(&mut transaction, &add, &jobs, now_ms).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                break;
            }
        }
        self.jobs.have_been_left();
        Ok(Changed { item, jobs })
    }

    pub async fn change(
        &self,
        Editor { caller: owner, expected }: &Editor,
        id: &str,
        changes: &Changes,
        span: &Trace,
    ) -> Result<Changed, MediaError> {
        self.jobs.room()?;
        let now_ms = now_ms();
        let jobs = jobs(owner, id, span);
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let change = storage::change(&owner.user, id, changes, now_ms);
        let mut attempts = self.store.attempts(guard.repeat());
        let item = loop {
            let mut transaction = attempts.begin().await?;
            let outcome = changed(&mut transaction, (&guard, &change, id), &jobs, now_ms).await;
            if let Some(item) = attempts.end(transaction, outcome).await? {
                break item;
            }
        };
        self.jobs.have_been_left();
        Ok(Changed { item, jobs })
    }

    pub async fn remove(&self, Editor { caller: owner, expected }: &Editor, id: &str) -> Result<(), MediaError> {
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let remove = storage::remove(&owner.user, id);
        let mut attempts = self.store.attempts(Repeat::UnlessCommitted);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = removed(&mut transaction, &guard, &remove).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// What is to be derived of an item.
fn jobs(owner: &Caller, id: &str, span: &Trace) -> [Job; 2] {
    [Kind::Metadata, Kind::Thumbnail].map(|kind| Job::new(kind, &owner.user, id, span))
}

async fn put(transaction: &mut Transaction, add: &Query, jobs: &[Job], now_ms: i64) -> Result<(), MediaError> {
    transaction.execute(add).await?;
    Ok(leave(transaction, jobs, now_ms).await?)
}

async fn removed(transaction: &mut Transaction, guard: &Guard<'_>, remove: &Query) -> Result<(), MediaError> {
    guard.check(transaction).await?;
    if transaction.execute(remove).await? == 0 { Err(MediaError::Gone) } else { Ok(()) }
}

async fn changed(
    transaction: &mut Transaction,
    (guard, change, id): (&Guard<'_>, &Query, &str),
    jobs: &[Job],
    now_ms: i64,
) -> Result<Item, MediaError> {
    guard.check(transaction).await?;
    if transaction.execute(change).await? == 0 {
        return Err(MediaError::Gone);
    }
    leave(transaction, jobs, now_ms).await?;
    let row = transaction.fetch_optional(&storage::item_by_id(id)).await?.ok_or(MediaError::Gone)?;
    Ok(Item::try_from(&row)?)
}
