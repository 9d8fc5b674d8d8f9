//! The cache of responses: what is stored under which key, for how long it may be used, and how it is taken back.

mod ban_list;
mod bans;
mod entry;
mod index;
mod key;
mod limits;
mod memory;
mod pattern;
mod purge;
mod slot;
mod statistics;
mod store;
mod stored;
mod tags;
mod target;
mod variants;
