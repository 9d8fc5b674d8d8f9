//! The shop: products and where they lie, a cart for each user, orders and their payments.
//!
//! # What an order is
//!
//! One transaction reads the cart and the prices of that moment, takes the pieces from their shelves, charges the
//! payment, writes down order and payment, and empties the cart; or nothing of all that happens. Shelves are locked before
//! they are read, so of a hundred buyers of the last piece one gets it. Money is counted in hundredths of the one currency,
//! and no price ever comes from a client.
//!
//! # Once
//!
//! A client names each order by an `Idempotency-Key`. The first request under a key claims it; the order and the answer
//! are written in the same transaction, so whoever repeats the request gets that answer and no second order. A request
//! that is refused leaves no trace and frees its key. One that dies on the way holds it for five seconds: until then a
//! repeat is told to wait (409), and then takes over. A claim is looked at again within the transaction of the order, so it
//! does no harm if whoever is taken for dead is only slow.

mod cart;
mod catalog;
mod http;
mod key;
mod order;
mod payment;
mod seed;
mod stock;
mod storage;

use std::time::Duration;

pub use self::http::routes;
pub use self::seed::seed;

use self::order::Short;
use self::payment::{Declined, Provider};
use crate::store::{Store, StoreError};

/// Everything costs this.
const CURRENCY: &str = "CHF";

#[derive(Clone)]
pub struct Shop {
    store: Store,
    provider: Provider,
}

#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no such thing, or it belongs to somebody else")]
    Gone,
    #[error("the cart has as many lines as it may have")]
    CartFull,
    #[error("the cart is empty")]
    CartEmpty,
    #[error("there are fewer pieces than the cart has")]
    SoldOut(Vec<Short>),
    #[error("the total is more than can be counted")]
    TooMuch,
    #[error(transparent)]
    Declined(#[from] Declined),
    #[error("a request under this key is being carried out")]
    UnderWay,
    #[error("the key stands for another request")]
    KeyOfAnother,
}

impl Shop {
    pub fn new(store: Store) -> Self {
        Self { store, provider: Provider::Local }
    }

    /// Removes answers that have been kept for long enough.
    pub async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        self.store.change(&[storage::sweep(now_ms - milliseconds(key::KEPT))]).await.map(drop)
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
