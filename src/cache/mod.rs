//! The shared cache: what is stored, under which key, for whom it may be used again, and in which form it is sent.

mod cache_status;
mod conditional;
mod entity_tag;
mod etag;
mod key;
mod range;
mod vary;
