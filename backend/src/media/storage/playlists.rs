//! Playlists and the order of what is in them.

use super::items::{Item, items};
use crate::api::PageQuery;
use crate::media::fields::PlaylistName;
use crate::store::{Query, Row, StoreError, Transaction};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    pub id: String,
    pub owner: String,
    pub name: String,
    pub is_public: bool,
    pub version: i64,
    pub items: i64,
    pub created_ms: i64,
    pub changed_ms: i64,
}

impl TryFrom<&Row> for Playlist {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner_id")?,
            name: row.get("name")?,
            is_public: row.get("is_public")?,
            version: row.get("version")?,
            items: row.get("items")?,
            created_ms: row.get("created_ms")?,
            changed_ms: row.get("changed_ms")?,
        })
    }
}

/// An item with its place in a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub place: i64,
    pub item: Item,
}

impl TryFrom<&Row> for Placed {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { place: row.get("place")?, item: row.try_into()? })
    }
}

/// The rows of playlists with the number of their items, of which `$rest` says which.
macro_rules! playlists {
    ($rest:literal) => {
        concat!(
            "select p.id, p.owner_id, p.name, p.is_public, p.version, p.created_ms, p.changed_ms, \
             (select count(*) from playlist_items i where i.playlist_id = p.id) as items from playlists p ",
            $rest
        )
    };
}

/// Everybody's public playlists, the newest first.
pub fn public(page: &PageQuery) -> Query {
    Query::new(
        "playlists_public",
        playlists!("where p.is_public and p.id < coalesce($1, 'g') order by p.id desc limit $2"),
    )
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// All playlists of a user, the newest first.
pub fn of_user(owner: &str, page: &PageQuery) -> Query {
    Query::new(
        "playlists_of_user",
        playlists!("where p.owner_id = $1 and p.id < coalesce($2, 'g') order by p.id desc limit $3"),
    )
    .bind(owner)
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// A playlist, if it is public or this user's.
pub fn visible(id: &str, user: Option<&str>) -> Query {
    Query::new("playlist_by_id", playlists!("where p.id = $1 and (p.is_public or p.owner_id = $2)"))
        .bind(id)
        .bind(user.map(str::to_owned))
}

/// What is in a playlist behind a place, in its order.
pub fn items_of(id: &str, after: Option<i64>, page: &PageQuery) -> Query {
    Query::new(
        "playlist_items",
        items!(
            ", i.place from playlist_items i join media m on m.id = i.media_id",
            "where i.playlist_id = $1 and i.place > coalesce($2, 0) order by i.place limit $3"
        ),
    )
    .bind(id)
    .bind(after)
    .bind(page.rows())
}

/// Adds a playlist, unless this very one is there already because an earlier attempt was committed.
pub fn add(playlist: &Playlist) -> Query {
    Query::new(
        "playlist_add",
        "insert into playlists (id, owner_id, name, is_public, version, created_ms, changed_ms) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing",
    )
    .bind(playlist.id.as_str())
    .bind(playlist.owner.as_str())
    .bind(playlist.name.as_str())
    .bind(playlist.is_public)
    .bind(playlist.version)
    .bind(playlist.created_ms)
    .bind(playlist.changed_ms)
}

/// What is to be other. None leaves it as it is.
#[derive(Debug, Default)]
pub struct Changes {
    pub name: Option<PlaylistName>,
    pub is_public: Option<bool>,
}

/// Changes a playlist of this user, and keeps others from changing it until the end of the transaction. Gives whether it
/// is public then.
pub fn change(owner: &str, id: &str, changes: &Changes, now_ms: i64) -> Query {
    Query::new(
        "playlist_change",
        "update playlists set name = coalesce($3, name), \
         is_public = case when $4 then $5 else is_public end, version = version + 1, changed_ms = $6 \
         where id = $1 and owner_id = $2 returning is_public",
    )
    .bind(id)
    .bind(owner)
    .bind(changes.name.as_ref().map(|name| name.as_str().to_owned()))
    .bind(changes.is_public.is_some())
    .bind(changes.is_public.unwrap_or_default())
    .bind(now_ms)
}

/// The version of a playlist of this user. Nobody else changes it until the end of the transaction.
pub fn version(owner: &str, id: &str) -> Query {
    Query::by_database(
        "playlist_version",
        "select version from playlists where id = $1 and owner_id = $2",
        "select version from playlists where id = $1 and owner_id = $2 for no key update",
    )
    .bind(id)
    .bind(owner)
}

/// Removes a playlist of this user. Gives whether it was public.
pub fn remove(owner: &str, id: &str) -> Query {
    Query::new("playlist_remove", "delete from playlists where id = $1 and owner_id = $2 returning is_public")
        .bind(id)
        .bind(owner)
}

pub fn remove_item(id: &str, item: &str) -> Query {
    Query::new("playlist_item_remove", "delete from playlist_items where playlist_id = $1 and media_id = $2")
        .bind(id)
        .bind(item)
}

pub fn count(id: &str) -> Query {
    Query::new("playlist_count", "select count(*) as items from playlist_items where playlist_id = $1").bind(id)
}

/// Puts an item that is not in the playlist in front of the one at `position`, or at the end. False if there is no such
/// item.
pub async fn insert(
    transaction: &mut Transaction,
    id: &str,
    item: &str,
    position: Option<i64>,
) -> Result<bool, StoreError> {
    // It must not be removed before the commit, which would leave nothing to point at.
    let keep = Query::by_database(
        "playlist_media",
        "select id from media where id = $1",
        "select id from media where id = $1 for key share",
    );
    if transaction.fetch_optional(&keep.bind(item)).await?.is_none() {
        return Ok(false);
    }
    let at = Query::new(
        "playlist_place",
        "select place from playlist_items where playlist_id = $1 order by place limit 1 offset $2",
    );
    let next = match position {
        Some(position) => transaction.fetch_optional(&at.bind(id).bind(position)).await?,
        None => None,
    };
    let place = match next {
        Some(row) => {
            let place: i64 = row.get("place")?;
            let shift = Query::new(
                "playlist_shift",
                "update playlist_items set place = place + 1 where playlist_id = $1 and place >= $2",
            );
            transaction.execute(&shift.bind(id).bind(place)).await?;
            place
        }
        None => {
            let last = Query::new(
                "playlist_last",
                "select coalesce(max(place), 0) as place from playlist_items where playlist_id = $1",
            );
            match transaction.fetch_optional(&last.bind(id)).await? {
                Some(row) => row.get::<i64>("place")?.saturating_add(1),
                None => 1,
            }
        }
    };
    transaction.execute(&put(id, item, place)).await?;
    Ok(true)
}

/// Puts an item at a place that is free, unless it is in the playlist.
pub fn put(id: &str, item: &str, place: i64) -> Query {
    Query::new(
        "playlist_put",
        "insert into playlist_items (playlist_id, media_id, place) values ($1, $2, $3) \
         on conflict (playlist_id, media_id) do nothing",
    )
    .bind(id)
    .bind(item)
    .bind(place)
}
