//! Media and playlists. Everybody may see all media; a playlist is public, or for its owner alone. Changes are for owners.
//!
//! # What a cache may keep
//!
//! What is the same for everybody may be kept by the edge, and names the groups that it was made of (RFC 9875). A change
//! names the groups that it makes old, so the edge, which passes it on, forgets them at once; browsers ask each time.
//! Those answers are read from the primary database, for what is read from a replica of it could be kept after the
//! change that it misses.
//! Jobs change items behind the back of the edge: an answer with an item that one is on its way for may be kept
//! only to be validated. What is for one person is `private`, with a tag by which he gets his 304.
//!
//! # Lost updates
//!
//! The tag of an item and of a playlist begins with its version. A change with `If-Match` is made only to that version, as
//! part of the transaction; one without is made to whatever is there, and is never asked for the field (428).
//!
//! # Left out
//!
//! There are no files: an item is its title, its text and the type that it is said to have. Jobs derive counts and a
//! placeholder of these, see [`mod@derive`].

mod answer;
mod derive;
pub mod effects;
mod fields;
mod http;
mod items;
mod playlists;
mod seed;
mod storage;

pub use self::http::routes;
pub use self::seed::seed;

use crate::api::conditional::Expected;
use crate::jobs::{JobError, Jobs};
use crate::store::{Query, Repeat, Store, StoreError, Transaction};

#[derive(Clone)]
pub struct Media {
    store: Store,
    jobs: Jobs,
}

#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("there is no such thing, or not for this caller")]
    Gone,
    #[error("it is not as it was when the change was made up")]
    Changed,
    #[error("there is no room in the playlist")]
    Full,
    #[error("there is no such page of the playlist")]
    Nowhere,
}

impl Media {
    pub fn new(store: Store, jobs: Jobs) -> Self {
        Self { store, jobs }
    }
}

/// What a change of a thing depends on: that it is of a version that is expected.
struct Guard<'e> {
    /// Gives the version, and keeps others from changing the thing until the end of the transaction.
    version: Query,
    expected: &'e Expected,
}

impl Guard<'_> {
    /// A change of one version finds another when it is made a second time.
    fn repeat(&self) -> Repeat {
        if *self.expected == Expected::Any { Repeat::Safe } else { Repeat::UnlessCommitted }
    }

    async fn check(&self, transaction: &mut Transaction) -> Result<(), MediaError> {
        if *self.expected == Expected::Any {
            return Ok(());
        }
        let row = transaction.fetch_optional(&self.version).await?.ok_or(MediaError::Gone)?;
        if self.expected.admits(row.get("version")?) { Ok(()) } else { Err(MediaError::Changed) }
    }
}
