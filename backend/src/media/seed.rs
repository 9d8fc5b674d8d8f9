//! Made-up media and playlists, the same ones at every run. Nothing is left to derive of them.

use std::ops::Range;

use super::derive;
use super::storage::items::{self, Item};
use super::storage::playlists::{self, Playlist};
use crate::accounts::seeded_id;
use crate::progress::Progress;
use crate::store::{Repeat, Store, StoreError, Transaction};

const BATCH: u32 = 1000;
/// One playlist for so many items.
const ITEMS_A_PLAYLIST: u32 = 20;
/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;
const HOW: [&str; 8] = ["Quiet", "Early", "Distant", "Golden", "Narrow", "Northern", "Second", "Last"];
const WHAT: [&str; 8] = ["harbour", "meadow", "bridge", "orchard", "station", "summit", "garden", "workshop"];
const WHEN: [&str; 8] = ["at dawn", "in the fog", "by night", "in March", "at noon", "in snow", "by boat", "in rain"];
const TYPES: [&str; 8] =
    ["image/jpeg", "image/png", "audio/ogg", "video/mp4", "image/webp", "application/pdf", "image/jpeg", "audio/flac"];

/// Adds items 0 to `count`, each of a made-up user, and playlists of them; those that are there stay as they are.
pub async fn seed(store: &Store, count: u32) -> Result<(), StoreError> {
    let mut progress = Progress::new("media", count);
    for begin in (0..count).step_by(BATCH as usize) {
        let end = count.min(begin + BATCH);
        let mut attempts = store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = add(&mut transaction, begin..end).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                break;
            }
        }
        progress.at(end);
    }
    Ok(())
}

async fn add(transaction: &mut Transaction, numbers: Range<u32>) -> Result<(), StoreError> {
    for number in numbers {
        let item = item(number);
        // Its owner may have changed or removed something of it, and then it is his.
        if transaction.execute(&items::add(&item)).await? == 0 {
            continue;
        }
        let metadata = derive::metadata(&item.title, &item.description, &item.content_type);
        transaction.execute(&items::put_metadata(&item.id, item.version, &metadata)).await?;
        let thumbnail = derive::thumbnail(&item.id, &item.title);
        transaction.execute(&items::put_thumbnail(&item.id, item.version, &thumbnail)).await?;
        let playlist = playlist(number / ITEMS_A_PLAYLIST);
        transaction.execute(&playlists::add(&playlist)).await?;
        let place = i64::from(number % ITEMS_A_PLAYLIST) + 1;
        transaction.execute(&playlists::put(&playlist.id, &item.id, place)).await?;
    }
    Ok(())
}

fn item(number: u32) -> Item {
    let created_ms = BEGIN_MS + i64::from(number) * 1000;
    let (how, what, when) = (pick(&HOW, number), pick(&WHAT, number / 8), pick(&WHEN, number / 64));
    Item {
        // In the form of version 7, so that it sorts before those that are made later.
        id: format!("00000000-0000-7000-8001-{number:012x}"),
        owner: seeded_id(number),
        title: format!("{how} {what}, number {number}"),
        description: format!("A {what} {when}, as seen by user{number}"),
        content_type: pick(&TYPES, number / 3).to_owned(),
        version: 1,
        created_ms,
        changed_ms: created_ms,
        metadata: None,
        thumbnail: None,
    }
}

/// Three of four are public.
fn playlist(number: u32) -> Playlist {
    let created_ms = BEGIN_MS + i64::from(number) * 1000;
    Playlist {
        id: format!("00000000-0000-7000-8002-{number:012x}"),
        owner: seeded_id(number * ITEMS_A_PLAYLIST),
        name: format!("{} things {}", pick(&HOW, number), pick(&WHEN, number / 8)),
        is_public: !number.is_multiple_of(4),
        version: 1,
        items: 0,
        created_ms,
        changed_ms: created_ms,
    }
}

fn pick<'n>(names: &[&'n str; 8], number: u32) -> &'n str {
    names.get(number as usize % names.len()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::fields::{ContentType, MediaText, MediaTitle, PlaylistName};

    #[test]
    fn made_up_media_are_well_formed_and_differ() {
        let mut ids = std::collections::BTreeSet::new();
        for number in [0, 1, 19, 20, 63, 999, 99_999] {
            let item = item(number);
            assert_eq!(MediaTitle::try_from(item.title.clone()).unwrap().as_str(), item.title);
            MediaText::try_from(item.description).unwrap();
            assert_eq!(ContentType::try_from(item.content_type.clone()).unwrap().as_str(), item.content_type);
            PlaylistName::try_from(playlist(number).name).unwrap();
            assert!(ids.insert(item.id));
        }
    }
}
