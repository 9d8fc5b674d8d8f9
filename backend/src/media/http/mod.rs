//! The routes of media and playlists: what is read from a request, and which answer each outcome becomes.

mod items;
mod playlists;

use axum::http::StatusCode;

use super::MediaError;
use crate::api::{Problem, Route};

pub fn routes() -> Vec<Route> {
    items::routes().into_iter().chain(playlists::routes()).collect()
}

impl From<MediaError> for Problem {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Store(error) => error.into(),
            MediaError::Job(error) => error.into(),
            MediaError::Gone => Self::not_found(),
            MediaError::Changed => {
                Self::new(StatusCode::PRECONDITION_FAILED, "changed", "it is not the version that If-Match names")
            }
            MediaError::Full => Self::new(StatusCode::CONFLICT, "playlist-full", "a playlist has room for 1000 items"),
            MediaError::Nowhere => Self::invalid("after", "must be the `next` of the page before"),
        }
    }
}
