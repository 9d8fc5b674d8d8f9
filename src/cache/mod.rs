//! The cache of responses, shared by all clients (RFC 9111).

mod cache_control;
mod policy;
