//! The body of a request over its attempts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http_body::Body as _;

use super::Body;

/// A body that an attempt takes, and that is left for the next one if all of it is at hand.
#[derive(Debug)]
pub struct Payload {
    body: Option<Body>,
    is_at_hand: bool,
    /// Whether it is its client that is waited for; None if all of it is at hand.
    awaited: Option<Arc<AtomicBool>>,
}

impl Payload {
    pub fn new(mut body: Body) -> Self {
        let is_at_hand = body.is_at_hand();
        body.awaited = (!is_at_hand).then(Arc::default);
        Self { awaited: body.awaited.clone(), body: Some(body), is_at_hand }
    }

    /// Tells, also while an attempt has it, whether its client is what is waited for.
    pub fn awaited(&self) -> Option<Arc<AtomicBool>> {
        self.awaited.clone()
    }

    /// Its length; none if it is not known, and chunks or a stream's end are to show it.
    pub fn size(&self) -> Option<u64> {
        self.body.as_ref()?.size_hint().exact()
    }

    /// Whether it can be had for another attempt.
    pub fn is_left(&self) -> bool {
        self.body.is_some()
    }

    pub fn is_at_hand(&self) -> bool {
        self.is_at_hand
    }

    /// For an attempt.
    pub fn take(&mut self) -> Option<Body> {
        let body = self.body.take()?;
        self.body = body.replay();
        Some(body)
    }

    /// The same, if it cannot be had again.
    pub fn take_streamed(&mut self) -> Option<Body> {
        if self.is_at_hand { None } else { self.body.take() }
    }

    /// What an attempt took and did not begin.
    pub fn put_back(&mut self, body: Body) {
        self.body = Some(body);
    }
}
