//! Orders: made of a cart in one transaction with their payment, once for each key; read by who made them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cart::{self, Line};
use super::key::{Answer, Claim, IdempotencyKey, Standing};
use super::payment::{Charge, PaymentToken, Provider, Receipt};
use super::stock::{self, Shelf};
use super::{CURRENCY, Shop, ShopError, catalog, storage};
use crate::api::{Caller, Page, PageQuery};
use crate::clock::{now_ms, rfc3339};
use crate::secret::{new_id, sha256_hex};
use crate::store::{Repeat, Row, StoreError, Transaction};

/// An order as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderSummary {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    /// In hundredths.
    pub total_minor: i64,
    #[schema(example = "CHF")]
    currency: &'static str,
    #[schema(format = "date-time")]
    created_at: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Order {
    #[serde(flatten)]
    pub summary: OrderSummary,
    pub items: Vec<Item>,
    pub payment: Payment,
}

/// Pieces of one product that are sent from one warehouse, at the price of that day.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OrderItem)]
pub struct Item {
    product: String,
    name: String,
    /// Of one piece, in hundredths.
    price_minor: i64,
    quantity: i64,
    #[schema(example = "zurich")]
    warehouse: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Payment {
    #[schema(example = "local")]
    pub provider: String,
    /// What the provider calls it.
    pub reference: String,
    amount_minor: i64,
    #[schema(example = "CHF")]
    currency: &'static str,
    #[schema(format = "date-time")]
    paid_at: String,
}

/// What is asked for with an order.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkout {
    pub payment_token: PaymentToken,
}

/// A product of which there are fewer pieces than the cart has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    pub product: String,
    pub on_hand: i64,
}

impl Shop {
    /// Makes an order of the caller's cart, unless one was made under this key.
    pub async fn order(&self, caller: &Caller, key: IdempotencyKey, checkout: &Checkout) -> Result<Answer, ShopError> {
        let asked = serde_json::to_string(checkout).unwrap_or_default();
        let digest = sha256_hex(asked.as_bytes());
        let claim = Claim { user: caller.user.clone(), key, digest, id: new_id(), at_ms: now_ms() };
        match self.claim(&claim).await? {
            Standing::Ours => {}
            Standing::Answered(answer) => return Ok(answer),
            Standing::UnderWay => return Err(ShopError::UnderWay),
            Standing::OfAnother => return Err(ShopError::KeyOfAnother),
        }
        let outcome = self.place(&claim, &checkout.payment_token).await;
        match &outcome {
            // If the database is away, the claim runs out by itself.
            Ok(_) | Err(ShopError::Store(_)) => {}
            // Nor does a refusal become another because of that.
            Err(_refused) => drop(self.store.change(&[storage::release(&claim)]).await),
        }
        outcome
    }

    async fn claim(&self, claim: &Claim) -> Result<Standing, ShopError> {
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = storage::claim(&mut transaction, claim).await;
            if let Some(kept) = attempts.end(transaction, outcome).await? {
                // One that was freed since is for the next to claim.
                return Ok(kept.map_or(Standing::UnderWay, |kept| kept.standing(claim)));
            }
        }
    }

    async fn place(&self, claim: &Claim, token: &PaymentToken) -> Result<Answer, ShopError> {
        // A repeat after a commit that was not confirmed finds the answer, so it is drawn once.
        let purchase = Purchase { claim, order: new_id(), provider: self.provider, token };
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = place(&mut transaction, &purchase).await;
            if let Some(placed) = attempts.end(transaction, outcome).await? {
                return Ok(placed);
            }
        }
    }

    pub async fn orders(&self, caller: &Caller, query: &PageQuery) -> Result<Page<OrderSummary>, ShopError> {
        let rows = self.store.fetch(&storage::orders(&caller.user, query)).await?;
        let orders = rows.iter().map(OrderSummary::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(orders, query, |order| order.id.clone()))
    }

    pub async fn order_of(&self, caller: &Caller, id: &str) -> Result<Order, ShopError> {
        let row = self.store.fetch_optional(&storage::order(&caller.user, id)).await?.ok_or(ShopError::Gone)?;
        let items = self.store.fetch(&storage::order_lines(id)).await?;
        Ok(Order {
            summary: OrderSummary::try_from(&row)?,
            items: items.iter().map(Item::try_from).collect::<Result<_, _>>()?,
            payment: Payment::try_from(&row)?,
        })
    }

    pub async fn payment_of(&self, caller: &Caller, order: &str) -> Result<Payment, ShopError> {
        let row = self.store.fetch_optional(&storage::order(&caller.user, order)).await?.ok_or(ShopError::Gone)?;
        Ok(Payment::try_from(&row)?)
    }
}

/// A cart that is to become an order.
struct Purchase<'p> {
    claim: &'p Claim,
    /// What the order is to be called.
    order: String,
    provider: Provider,
    token: &'p PaymentToken,
}

/// The whole of an order, within one transaction.
async fn place(transaction: &mut Transaction, purchase: &Purchase<'_>) -> Result<Answer, ShopError> {
    let Purchase { claim, order, provider, token } = purchase;
    // The claim may have run out, and another may hold it or have finished.
    let kept = storage::kept(transaction, claim).await?.ok_or(ShopError::UnderWay)?;
    match kept.standing(claim) {
        Standing::Ours => {}
        Standing::Answered(answer) => return Ok(answer),
        Standing::UnderWay | Standing::OfAnother => return Err(ShopError::UnderWay),
    }
    // From here on the cart stays as it is.
    transaction.fetch(&storage::lock_user(&claim.user)).await?;
    let rows = transaction.fetch(&storage::cart(&claim.user)).await?;
    let lines = rows.iter().map(Line::try_from).collect::<Result<Vec<_>, _>>()?;
    if lines.is_empty() {
        return Err(ShopError::CartEmpty);
    }
    let shelves = shelves(&transaction.fetch(&storage::lock_stock(&claim.user)).await?)?;
    let Taken { items, sold_out } = take(&lines, &shelves).map_err(ShopError::SoldOut)?;
    let total_minor = cart::total_minor(&lines).ok_or(ShopError::TooMuch)?;
    let receipt = provider.charge(&Charge { order, amount_minor: total_minor, token })?;

    let made = Order::new(purchase, items, total_minor, receipt);
    let answer = Answer {
        order: order.clone(),
        json: serde_json::to_string(&made).unwrap_or_default(),
        invalidated: catalog::groups_of(lines.iter().map(|line| line.product.as_str()), sold_out),
    };
    transaction.execute_all(&storage::add_order(claim, &made, &answer)).await?;
    Ok(answer)
}

/// By product.
fn shelves(rows: &[Row]) -> Result<BTreeMap<String, Vec<Shelf>>, StoreError> {
    let mut shelves: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let shelf = Shelf { warehouse: row.get("warehouse_id")?, on_hand: row.get("on_hand")? };
        shelves.entry(row.get("product_id")?).or_default().push(shelf);
    }
    Ok(shelves)
}

struct Taken {
    items: Vec<Item>,
    /// Whether the last piece of a product is among them.
    sold_out: bool,
}

/// Takes all lines from the shelves, or says of which there are too few.
fn take(lines: &[Line], shelves: &BTreeMap<String, Vec<Shelf>>) -> Result<Taken, Vec<Short>> {
    let (mut items, mut short, mut sold_out) = (Vec::new(), Vec::new(), false);
    for line in lines {
        let shelves = shelves.get(&line.product).map_or(&[][..], Vec::as_slice);
        let on_hand: i64 = shelves.iter().map(|shelf| shelf.on_hand).sum();
        let Some(parts) = stock::take(shelves, line.quantity) else {
            short.push(Short { product: line.product.clone(), on_hand });
            continue;
        };
        sold_out |= on_hand == line.quantity;
        items.extend(parts.into_iter().map(|part| Item {
            product: line.product.clone(),
            name: line.name.clone(),
            price_minor: line.price_minor,
            quantity: part.quantity,
            warehouse: part.warehouse,
        }));
    }
    if short.is_empty() { Ok(Taken { items, sold_out }) } else { Err(short) }
}

impl Order {
    fn new(purchase: &Purchase<'_>, items: Vec<Item>, total_minor: i64, receipt: Receipt) -> Self {
        let at = rfc3339(purchase.claim.at_ms);
        let id = purchase.order.clone();
        let summary = OrderSummary { id, total_minor, currency: CURRENCY, created_at: at.clone() };
        let payment = Payment {
            provider: receipt.provider.to_owned(),
            reference: receipt.reference,
            amount_minor: total_minor,
            currency: CURRENCY,
            paid_at: at,
        };
        Self { summary, items, payment }
    }
}

impl TryFrom<&Row> for OrderSummary {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            total_minor: row.get("total_minor")?,
            currency: CURRENCY,
            created_at: rfc3339(row.get("created_ms")?),
        })
    }
}

impl TryFrom<&Row> for Item {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            product: row.get("product_id")?,
            name: row.get("name")?,
            price_minor: row.get("price_minor")?,
            quantity: row.get("quantity")?,
            warehouse: row.get("warehouse_id")?,
        })
    }
}

impl TryFrom<&Row> for Payment {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            provider: row.get("provider")?,
            reference: row.get("reference")?,
            amount_minor: row.get("amount_minor")?,
            currency: CURRENCY,
            paid_at: rfc3339(row.get("paid_ms")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_whole_or_names_all_that_is_short() {
        let shelves = BTreeMap::from([
            ("desk".to_owned(), vec![Shelf { warehouse: "zurich".to_owned(), on_hand: 2 }]),
            ("lamp".to_owned(), vec![Shelf { warehouse: "zurich".to_owned(), on_hand: 0 }]),
        ]);
        let check = |lines: &[(&str, i64)], expected: Result<(usize, bool), Vec<(&str, i64)>>| {
            let line = |(product, quantity): &(&str, i64)| Line {
                product: (*product).to_owned(),
                name: String::new(),
                price_minor: 1,
                quantity: *quantity,
            };
            let taken = take(&lines.iter().map(line).collect::<Vec<_>>(), &shelves);
            let taken = taken.map(|taken| (taken.items.len(), taken.sold_out));
            let expected = expected.map_err(|short| {
                short.into_iter().map(|(product, on_hand)| Short { product: product.to_owned(), on_hand }).collect()
            });
            assert_eq!(taken, expected, "{lines:?}");
        };
        check(&[("desk", 1)], Ok((1, false)));
        check(&[("desk", 2)], Ok((1, true)));
        check(&[("desk", 3)], Err(vec![("desk", 2)]));
        check(&[("desk", 1), ("lamp", 1), ("sofa", 1)], Err(vec![("lamp", 0), ("sofa", 0)]));
    }
}
