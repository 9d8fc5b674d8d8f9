//! The cache.
mod cache_status;
