//! Workflows: sequences of steps that a user runs through, one after the other.
//!
//! # Once
//!
//! A run counts its steps that are done, and a step raises the count from the one before it in the transaction that writes
//! the step down. So of two that confirm a step at once, or of a request and its repeat after a crash, one does it and the
//! other finds it done: both get the same answer. A step whose turn has not come is refused.
//!
//! # The edge
//!
//! `next` and `progress` are for who runs, so the edge may keep them but asks with every request whether they still are so,
//! which costs no more than the 304. Whatever moves a run takes both out of the edge's cache (RFC 9875).

mod definition;
mod http;
mod library;
mod run;
mod seed;
mod storage;

pub use self::http::routes;
pub use self::seed::seed;

use crate::store::{Store, StoreError};

#[derive(Clone)]
pub struct Workflows {
    store: Store,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no such thing, or it belongs to somebody else")]
    Gone,
    #[error("the turn of the step has not come; the next is {next}")]
    NotYet { next: i64 },
    #[error("the step has to be confirmed")]
    Unconfirmed,
    #[error("{left} steps are not done")]
    StepsLeft { left: i64 },
}

impl Workflows {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}
