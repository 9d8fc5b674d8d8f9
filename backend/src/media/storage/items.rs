//! Items, with what was derived of them.

use crate::api::{PageQuery, Words};
use crate::media::derive::{Metadata, Thumbnail};
use crate::media::fields::{ContentType, MediaText, MediaTitle};
use crate::store::{Query, Row, StoreError, Transaction};

/// An item as it is stored. What was derived comes with the version that it was derived of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub id: String,
    pub owner: String,
    pub title: String,
    pub description: String,
    pub content_type: String,
    pub version: i64,
    pub created_ms: i64,
    pub changed_ms: i64,
    pub metadata: Option<(i64, StoredMetadata)>,
    pub thumbnail: Option<(i64, Thumbnail)>,
}

/// As [`Metadata`], read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMetadata {
    pub kind: String,
    pub words: i64,
    pub text_bytes: i64,
}

impl Item {
    /// Whether no job is on its way that will change what is derived.
    pub fn is_settled(&self) -> bool {
        self.has_metadata() && self.has_thumbnail()
    }

    pub fn has_metadata(&self) -> bool {
        self.metadata.as_ref().is_some_and(|(version, _)| *version == self.version)
    }

    pub fn has_thumbnail(&self) -> bool {
        self.thumbnail.as_ref().is_some_and(|(version, _)| *version == self.version)
    }
}

impl TryFrom<&Row> for Item {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        let metadata = match row.get("metadata_version")? {
            Some(version) => {
                let (words, text_bytes) = (row.get("words_counted")?, row.get("text_bytes")?);
                Some((version, StoredMetadata { kind: row.get("kind")?, words, text_bytes }))
            }
            None => None,
        };
        let thumbnail = match row.get("thumbnail_version")? {
            Some(version) => Some((version, Thumbnail { color: row.get("color")?, initials: row.get("initials")? })),
            None => None,
        };
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner_id")?,
            title: row.get("title")?,
            description: row.get("description")?,
            content_type: row.get("content_type")?,
            version: row.get("version")?,
            created_ms: row.get("created_ms")?,
            changed_ms: row.get("changed_ms")?,
            metadata,
            thumbnail,
        })
    }
}

/// The rows of items, of which `$rest` says which. In one statement, however many there are.
macro_rules! items {
    ($begin:literal, $rest:literal) => {
        concat!(
            "select m.id, m.owner_id, m.title, m.description, m.content_type, m.version, m.created_ms, m.changed_ms, \
             d.version as metadata_version, d.kind, d.words as words_counted, d.text_bytes, \
             t.version as thumbnail_version, t.color, t.initials",
            $begin,
            " left join media_metadata d on d.media_id = m.id left join media_thumbnails t on t.media_id = m.id ",
            $rest
        )
    };
    ($rest:literal) => {
        items!(" from media m", $rest)
    };
}
pub(super) use items;

pub fn item_by_id(id: &str) -> Query {
    Query::new("media_by_id", items!("where m.id = $1")).bind(id)
}

/// All items, the newest first. Their names begin with the time of their creation, and none of them sorts behind a "g".
pub fn newest(page: &PageQuery) -> Query {
    Query::new("media_newest", items!("where m.id < coalesce($1, 'g') order by m.id desc limit $2"))
        .bind(page.after().map(str::to_owned))
        .bind(page.rows())
}

/// Those that have all the words, the newest first. The index of SQLite gives them by their numbers, and only in that order
/// without looking at all that it has; numbers grow as names do, but for two that are added in the same moment. A page begins
/// behind the number of the item that it is to begin behind, or, if that is gone, with the one that is older.
pub fn with_words(words: &Words, page: &PageQuery) -> Query {
    Query::by_database(
        "media_with_words",
        items!(
            "where m.number in (select rowid from media_words where media_words match '\"' || replace($1, ' ', '\" \"') || '\"*' \
             and rowid <= \
             case when $2 is null then 9223372036854775807 else coalesce((select number - 1 from media where id = $2), \
             (select number from media where id < $2 order by id desc limit 1), 0) end \
             order by rowid desc limit $3) order by m.number desc"
        ),
        items!(
            "where m.words @@ to_tsquery('simple', replace($1, ' ', ' & ') || ':*') \
             and m.id < coalesce($2, 'g') order by m.id desc limit $3"
        ),
    )
    .bind(words.as_str())
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// Adds an item, unless this very one is there already because an earlier attempt was committed.
pub fn add(item: &Item) -> Query {
    Query::new(
        "media_add",
        "insert into media (id, owner_id, title, description, content_type, version, created_ms, changed_ms) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing",
    )
    .bind(item.id.as_str())
    .bind(item.owner.as_str())
    .bind(item.title.as_str())
    .bind(item.description.as_str())
    .bind(item.content_type.as_str())
    .bind(item.version)
    .bind(item.created_ms)
    .bind(item.changed_ms)
}

/// What is to be other. None leaves it as it is.
#[derive(Debug, Default)]
pub struct Changes {
    pub title: Option<MediaTitle>,
    pub description: Option<MediaText>,
    pub content_type: Option<ContentType>,
}

/// Changes an item of this user.
pub fn change(owner: &str, id: &str, changes: &Changes, now_ms: i64) -> Query {
    let text = |value: Option<&str>| value.map(str::to_owned);
    Query::new(
        "media_change",
        "update media set title = coalesce($3, title), description = coalesce($4, description), \
         content_type = coalesce($5, content_type), version = version + 1, changed_ms = $6 \
         where id = $1 and owner_id = $2",
    )
    .bind(id)
    .bind(owner)
    .bind(text(changes.title.as_ref().map(MediaTitle::as_str)))
    .bind(text(changes.description.as_ref().map(MediaText::as_str)))
    .bind(text(changes.content_type.as_ref().map(ContentType::as_str)))
    .bind(now_ms)
}

/// The version of an item of this user. Nobody else changes it until the end of the transaction.
pub fn version(owner: &str, id: &str) -> Query {
    Query::by_database(
        "media_version",
        "select version from media where id = $1 and owner_id = $2",
        "select version from media where id = $1 and owner_id = $2 for no key update",
    )
    .bind(id)
    .bind(owner)
}

/// Removes an item of this user, with all that depends on it.
pub fn remove(owner: &str, id: &str) -> Query {
    Query::new("media_remove", "delete from media where id = $1 and owner_id = $2").bind(id).bind(owner)
}

/// An item that stays as it is until the end of the transaction. The row is read after the lock, so that it shows what those
/// who had the lock before have derived.
pub async fn locked(transaction: &mut Transaction, id: &str) -> Result<Option<Item>, StoreError> {
    let lock = Query::by_database(
        "work_lock_media",
        "select 1 where $1 = $1",
        "select id from media where id = $1 for update",
    );
    transaction.execute(&lock.bind(id)).await?;
    let read = Query::new("work_media", items!("where m.id = $1")).bind(id);
    transaction.fetch_optional(&read).await?.map(|row| Item::try_from(&row)).transpose()
}

pub fn put_metadata(id: &str, version: i64, metadata: &Metadata) -> Query {
    Query::new(
        "work_metadata",
        "insert into media_metadata (media_id, version, kind, words, text_bytes) values ($1, $2, $3, $4, $5) \
         on conflict (media_id) do update set version = excluded.version, kind = excluded.kind, \
         words = excluded.words, text_bytes = excluded.text_bytes",
    )
    .bind(id)
    .bind(version)
    .bind(metadata.kind)
    .bind(metadata.words)
    .bind(metadata.text_bytes)
}

pub fn put_thumbnail(id: &str, version: i64, thumbnail: &Thumbnail) -> Query {
    Query::new(
        "work_thumbnail",
        "insert into media_thumbnails (media_id, version, color, initials) values ($1, $2, $3, $4) \
         on conflict (media_id) do update set version = excluded.version, color = excluded.color, \
         initials = excluded.initials",
    )
    .bind(id)
    .bind(version)
    .bind(thumbnail.color.as_str())
    .bind(thumbnail.initials.as_str())
}
