//! The parts of the cache that the fuzz targets try by themselves.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::coded::Forms;
use super::memory::Memory;
use super::prepared::{Laid, laid_out};

pub use super::bans::Epoch;
pub use super::cache_control::{DELTA_MAX, Directives};
pub use super::conditional::{Validators, Verdict, evaluate, not_modified, range_applies, validate};
pub use super::entry::{Entry, NewEntry};
pub use super::key::{Key, KeyRules, Parts, begin as begin_key, end as end_key};
pub use super::policy::{Exchanged, Rules, TargetUri, Terms, Times, terms};
pub use super::purge::{Mode, Purge, What};
pub use super::range::{Multipart, Piece, Selection, select};
pub use super::statistics::RouteStatistics;
pub use super::store::purging::Progress;
pub use super::store::{Insert, Store};
pub use super::stored::{Content, Stored, Whole};
pub use super::tags::Tags;
pub use super::target::Target;
pub use super::vary::{Selecting, matches, write as write_selecting};
pub use crate::config::CachedQuery;
pub use crate::division::StoreLimits;
pub use crate::pattern::Pattern;

/// A response of 200 as the store takes it.
pub fn stored(key: &Key, fields: HeaderMap, terms: Terms, selecting: Arc<Selecting>, content: Whole) -> Stored {
    let received = SystemTime::UNIX_EPOCH;
    let (status, tags, forms) = (StatusCode::OK, Tags::default(), Forms::new(Memory::new(0), 0));
    let Laid { key, lines, content } = laid_out(key, status, &fields, Content::Whole(content));
    Stored { key, status, fields, content, terms, received, selecting, tags, has_own_tag: false, forms, lines }
}
