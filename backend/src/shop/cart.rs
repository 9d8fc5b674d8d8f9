//! The cart: what a user means to buy. It promises nothing: price and stock are those of the moment in which it is ordered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CURRENCY, Shop, ShopError, storage};
use crate::api::Caller;
use crate::store::{Repeat, Row, StoreError, Transaction};

/// An order takes all of them in one transaction.
const LINES_MAX: i64 = 50;
const QUANTITY_MAX: u8 = 99;

/// How many pieces of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = u8, minimum = 1, maximum = 99)]
pub struct Quantity(u8);

impl TryFrom<i64> for Quantity {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let quantity = u8::try_from(number).ok().filter(|quantity| (1..=QUANTITY_MAX).contains(quantity));
        quantity.map(Self).ok_or("must be 1 to 99")
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Cart {
    items: Vec<Line>,
    /// In hundredths.
    total_minor: i64,
    #[schema(example = "CHF")]
    currency: &'static str,
}

/// A product in the cart, at the price of now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = CartLine)]
pub struct Line {
    pub product: String,
    pub name: String,
    /// Of one piece, in hundredths.
    pub price_minor: i64,
    pub quantity: i64,
}

impl TryFrom<&Row> for Line {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            product: row.get("product_id")?,
            name: row.get("name")?,
            price_minor: row.get("price_minor")?,
            quantity: row.get("quantity")?,
        })
    }
}

/// What all of it costs; none if that is more than can be counted.
pub fn total_minor(lines: &[Line]) -> Option<i64> {
    lines.iter().try_fold(0_i64, |total, line| total.checked_add(line.price_minor.checked_mul(line.quantity)?))
}

impl Shop {
    pub async fn cart(&self, caller: &Caller) -> Result<Cart, ShopError> {
        let rows = self.store.fetch(&storage::cart(&caller.user)).await?;
        let items = rows.iter().map(Line::try_from).collect::<Result<Vec<_>, _>>()?;
        let total_minor = total_minor(&items).ok_or(ShopError::TooMuch)?;
        Ok(Cart { items, total_minor, currency: CURRENCY })
    }

    /// Has the cart hold so many pieces of a product, whatever it held before.
    pub async fn put(&self, caller: &Caller, product: &str, quantity: Quantity) -> Result<(), ShopError> {
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = put(&mut transaction, &caller.user, product, quantity).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Has the cart hold no piece of a product.
    pub async fn remove(&self, caller: &Caller, product: &str) -> Result<(), ShopError> {
        self.store.change(&[storage::remove_line(&caller.user, product)]).await?;
        Ok(())
    }
}

async fn put(
    transaction: &mut Transaction,
    user: &str,
    product: &str,
    Quantity(quantity): Quantity,
) -> Result<(), ShopError> {
    // Else two that add the last line that may be would both see room for it.
    transaction.fetch(&storage::lock_user(user)).await?;
    if transaction.execute(&storage::put_line(user, product, i64::from(quantity))).await? == 0 {
        return Err(ShopError::Gone);
    }
    let count = transaction.fetch_optional(&storage::count_lines(user)).await?;
    let lines: i64 = count.map_or(Ok(0), |row| row.get("lines"))?;
    if lines > LINES_MAX { Err(ShopError::CartFull) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_exact_or_none() {
        let check = |lines: &[(i64, i64)], expected: Option<i64>| {
            let line = |(price_minor, quantity): &(i64, i64)| Line {
                product: String::new(),
                name: String::new(),
                price_minor: *price_minor,
                quantity: *quantity,
            };
            assert_eq!(total_minor(&lines.iter().map(line).collect::<Vec<_>>()), expected, "{lines:?}");
        };
        check(&[], Some(0));
        check(&[(1995, 3), (5, 1)], Some(5990));
        check(&[(i64::MAX, 1)], Some(i64::MAX));
        check(&[(i64::MAX, 1), (1, 1)], None);
        check(&[(i64::MAX / 2, 3)], None);
    }

    #[test]
    fn a_quantity_is_one_to_ninety_nine() {
        for (number, is_one) in [(1, true), (99, true), (0, false), (100, false), (-1, false), (257, false)] {
            assert_eq!(Quantity::try_from(number).is_ok(), is_one, "{number}");
        }
    }
}
