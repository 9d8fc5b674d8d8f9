//! The tables of media and playlists. Only statements and their rows; what they are for is decided by those who send them.

pub mod items;
pub mod playlists;
