//! Playlists: who sees which, and in what order their items are.

use super::fields::PlaylistName;
use super::storage::playlists::{self as storage, Changes, Placed, Playlist};
use super::{Guard, Media, MediaError};
use crate::api::conditional::Editor;
use crate::api::{Caller, Page, PageQuery};
use crate::clock::now_ms;
use crate::secret::new_id;
use crate::store::{Query, Repeat, Transaction};

/// In one playlist.
const ITEMS_MAX: i64 = 1000;

/// Whether a playlist that was changed can be seen by everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsPublic(pub bool);

impl Media {
    /// Everybody's public playlists.
    pub async fn public_playlists(&self, query: &PageQuery) -> Result<Page<Playlist>, MediaError> {
        self.playlists(&storage::public(query), query).await
    }

    /// All of one user's playlists.
    pub async fn playlists_of(&self, owner: &Caller, query: &PageQuery) -> Result<Page<Playlist>, MediaError> {
        self.playlists(&storage::of_user(&owner.user, query), query).await
    }

    async fn playlists(&self, statement: &Query, query: &PageQuery) -> Result<Page<Playlist>, MediaError> {
        let rows = self.store.fetch(statement).await?;
        let playlists = rows.iter().map(Playlist::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(playlists, query, |playlist| playlist.id.clone()))
    }

    /// A playlist that is public or the caller's, with a page of its items.
    pub async fn playlist(
        &self,
        caller: Option<&Caller>,
        id: &str,
        query: &PageQuery,
    ) -> Result<(Playlist, Page<Placed>), MediaError> {
        let after = query.after().map(str::parse).transpose().map_err(|_no_number| MediaError::Nowhere)?;
        let user = caller.map(|caller| caller.user.as_str());
        let row = self.store.fetch_optional(&storage::visible(id, user)).await?.ok_or(MediaError::Gone)?;
        let rows = self.store.fetch(&storage::items_of(id, after, query)).await?;
        let items = rows.iter().map(Placed::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok((Playlist::try_from(&row)?, Page::new(items, query, |placed| placed.place.to_string())))
    }

    pub async fn add_playlist(
        &self,
        owner: &Caller,
        name: &PlaylistName,
        is_public: bool,
    ) -> Result<Playlist, MediaError> {
        let now_ms = now_ms();
        let playlist = Playlist {
            id: new_id(),
            owner: owner.user.clone(),
            name: name.as_str().to_owned(),
            is_public,
            version: 1,
            items: 0,
            created_ms: now_ms,
            changed_ms: now_ms,
        };
        self.store.change(&[storage::add(&playlist)]).await?;
        Ok(playlist)
    }

    pub async fn change_playlist(
        &self,
        Editor { caller: owner, expected }: &Editor,
        id: &str,
        changes: &Changes,
    ) -> Result<IsPublic, MediaError> {
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let change = storage::change(&owner.user, id, changes, now_ms());
        let mut attempts = self.store.attempts(guard.repeat());
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = found(&mut transaction, &guard, &change).await;
            if let Some(is_public) = attempts.end(transaction, outcome).await? {
                return Ok(is_public);
            }
        }
    }

    pub async fn remove_playlist(
        &self,
        Editor { caller: owner, expected }: &Editor,
        id: &str,
    ) -> Result<IsPublic, MediaError> {
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let remove = storage::remove(&owner.user, id);
        let mut attempts = self.store.attempts(Repeat::UnlessCommitted);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = found(&mut transaction, &guard, &remove).await;
            if let Some(was_public) = attempts.end(transaction, outcome).await? {
                return Ok(was_public);
            }
        }
    }

    /// Puts an item into a playlist, or to another place if it is in there.
    pub async fn place(
        &self,
        Editor { caller: owner, expected }: &Editor,
        (id, item): (&str, &str),
        position: Option<i64>,
    ) -> Result<IsPublic, MediaError> {
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let touch = storage::change(&owner.user, id, &Changes::default(), now_ms());
        let mut attempts = self.store.attempts(guard.repeat());
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = placed(&mut transaction, (&guard, &touch), (id, item), position).await;
            if let Some(is_public) = attempts.end(transaction, outcome).await? {
                return Ok(is_public);
            }
        }
    }

    pub async fn take_out(
        &self,
        Editor { caller: owner, expected }: &Editor,
        (id, item): (&str, &str),
    ) -> Result<IsPublic, MediaError> {
        let guard = Guard { version: storage::version(&owner.user, id), expected };
        let touch = storage::change(&owner.user, id, &Changes::default(), now_ms());
        let mut attempts = self.store.attempts(Repeat::UnlessCommitted);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = taken_out(&mut transaction, (&guard, &touch), (id, item)).await;
            if let Some(is_public) = attempts.end(transaction, outcome).await? {
                return Ok(is_public);
            }
        }
    }
}

/// Changes the one playlist that a statement is about.
async fn found(transaction: &mut Transaction, guard: &Guard<'_>, statement: &Query) -> Result<IsPublic, MediaError> {
    guard.check(transaction).await?;
    let row = transaction.fetch_optional(statement).await?.ok_or(MediaError::Gone)?;
    Ok(IsPublic(row.get("is_public")?))
}

/// Whoever changes the order has changed the playlist first, and so is alone with it.
async fn placed(
    transaction: &mut Transaction,
    (guard, touch): (&Guard<'_>, &Query),
    (id, item): (&str, &str),
    position: Option<i64>,
) -> Result<IsPublic, MediaError> {
    let is_public = found(transaction, guard, touch).await?;
    let was_in = transaction.execute(&storage::remove_item(id, item)).await? > 0;
    if !was_in {
        let row = transaction.fetch_optional(&storage::count(id)).await?.ok_or(MediaError::Gone)?;
        if row.get::<i64>("items")? >= ITEMS_MAX {
            return Err(MediaError::Full);
        }
    }
    if storage::insert(transaction, id, item, position).await? { Ok(is_public) } else { Err(MediaError::Gone) }
}

async fn taken_out(
    transaction: &mut Transaction,
    (guard, touch): (&Guard<'_>, &Query),
    (id, item): (&str, &str),
) -> Result<IsPublic, MediaError> {
    let is_public = found(transaction, guard, touch).await?;
    match transaction.execute(&storage::remove_item(id, item)).await? {
        0 => Err(MediaError::Gone),
        _ => Ok(is_public),
    }
}
