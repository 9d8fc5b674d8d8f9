//! What is kept of a response.

use bytes::Bytes;
use http::HeaderMap;

/// A response that may be served again.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub fields: HeaderMap,
    pub body: Bytes,
}

impl Stored {
    /// The memory that it holds in bytes, about. It must not change while the response is in the store.
    pub fn weight(&self) -> u64 {
        let fields: usize = self.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        (fields + self.body.len()) as u64
    }
}
