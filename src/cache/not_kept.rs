//! Why a response is not kept, and whether the next one to its key is likely to fare better.

use super::policy::Unstorable;
use super::tags::TagsError;
use super::vary::VaryError;

/// Why a response is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    #[error(transparent)]
    Vary(#[from] VaryError),
    #[error(transparent)]
    Tags(#[from] TagsError),
    #[error("the response depends on who the client is")]
    VaryClient,
    #[error("some of the response's fields are for its client alone")]
    FieldsForOne,
    #[error("the response depends on other fields than before")]
    VaryChanged,
    #[error("the response is a stream of events, which has no end")]
    Events,
    #[error("the response is larger than what is kept")]
    TooLarge,
    #[error("the cache has no room for the response while it comes")]
    NoRoom,
}

impl NotKept {
    /// A stable name, for `Cache-Status`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unstorable(why) => why.code(),
            Self::Vary(_) => "vary",
            Self::Tags(_) => "tags",
            Self::VaryClient => "vary-client",
            Self::FieldsForOne => "fields-for-one",
            Self::VaryChanged => "vary-changed",
            Self::Events => "events",
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
        }
    }

    /// Whether the next response to this key is likely to fare better.
    pub fn is_of_the_request(self) -> bool {
        match self {
            Self::Unstorable(why) => why.is_of_the_request(),
            Self::NoRoom => true,
            Self::Vary(_)
            | Self::Tags(_)
            | Self::VaryClient
            | Self::FieldsForOne
            | Self::VaryChanged
            | Self::Events
            | Self::TooLarge => false,
        }
    }
}
