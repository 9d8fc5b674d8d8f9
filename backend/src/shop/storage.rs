//! The tables of the shop. Only statements and their rows; what they are for is decided by those who send them.

use serde::Serialize;

use super::key::{Answer, Claim, Kept};
use super::order::Order;
use crate::api::{PageQuery, Words};
use crate::store::{Query, StoreError, Transaction};

/// The products behind a place, in the order of their names in the database.
pub fn products(page: &PageQuery) -> Query {
    Query::new(
        "products",
        "select p.id, p.name, p.price_minor, \
         exists (select 1 from stock s where s.product_id = p.id and s.on_hand > 0) as in_stock \
         from products p where p.id > coalesce($1, '') order by p.id limit $2",
    )
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// Products with all these words behind a place; a word in the name counts more than one in the description. Where the page
/// begins is found by ranking all of them, as the order is.
pub fn search(words: &Words, page: &PageQuery) -> Query {
    Query::by_database(
        "products_search",
        "with found as materialized (select w.id, bm25(product_words, 0.0, 10.0, 1.0) as distance \
         from product_words w where product_words match '\"' || replace($1, ' ', '\" \"') || '\"*'), \
         page as (select id, distance from found where $2 is null \
         or (distance, id) > (select distance, id from found where id = $2) order by distance, id limit $3) \
         select p.id, p.name, p.price_minor, \
         exists (select 1 from stock s where s.product_id = p.id and s.on_hand > 0) as in_stock \
         from page join products p on p.id = page.id order by page.distance, p.id",
        "with found as materialized (select p.id, -ts_rank(p.words, wanted) as distance \
         from products p, to_tsquery('simple', replace($1, ' ', ' & ') || ':*') wanted where p.words @@ wanted), \
         page as (select id, distance from found where $2 is null \
         or (distance, id) > (select distance, id from found where id = $2) order by distance, id limit $3) \
         select p.id, p.name, p.price_minor, \
         exists (select 1 from stock s where s.product_id = p.id and s.on_hand > 0) as in_stock \
         from page join products p on p.id = page.id order by page.distance, p.id",
    )
    .bind(words.as_str())
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

pub fn product(id: &str) -> Query {
    Query::new(
        "product",
        "select p.id, p.name, p.price_minor, p.description, \
         exists (select 1 from stock s where s.product_id = p.id and s.on_hand > 0) as in_stock \
         from products p where p.id = $1",
    )
    .bind(id)
}

pub fn stock_of(product: &str) -> Query {
    Query::new("stock", "select warehouse_id, on_hand from stock where product_id = $1 order by warehouse_id")
        .bind(product)
}

/// The lines of a cart with the prices of now.
pub fn cart(user: &str) -> Query {
    Query::new(
        "cart",
        "select c.product_id, c.quantity, p.name, p.price_minor from cart_lines c \
         join products p on p.id = c.product_id where c.user_id = $1 order by c.product_id",
    )
    .bind(user)
}

/// Keeps others from the cart of a user until the end of the transaction. SQLite has one writer anyway.
pub fn lock_user(user: &str) -> Query {
    Query::by_database(
        "cart_lock",
        "select id from users where id = $1",
        "select id from users where id = $1 for no key update",
    )
    .bind(user)
}

/// Changes no row if there is no such product.
pub fn put_line(user: &str, product: &str, quantity: i64) -> Query {
    Query::new(
        "cart_put",
        "insert into cart_lines (user_id, product_id, quantity) select $1, id, $3 from products where id = $2 \
         on conflict (user_id, product_id) do update set quantity = excluded.quantity",
    )
    .bind(user)
    .bind(product)
    .bind(quantity)
}

pub fn count_lines(user: &str) -> Query {
    Query::new("cart_count", "select count(*) as lines from cart_lines where user_id = $1").bind(user)
}

pub fn remove_line(user: &str, product: &str) -> Query {
    Query::new("cart_remove", "delete from cart_lines where user_id = $1 and product_id = $2").bind(user).bind(product)
}

/// Claims a key that nobody holds any more, and gives what is kept under it then.
pub async fn claim(transaction: &mut Transaction, claim: &Claim) -> Result<Option<Kept>, StoreError> {
    let insert = Query::new(
        "order_key_claim",
        "insert into order_keys (user_id, name, digest, claim, claimed_ms) values ($1, $2, $3, $4, $5) \
         on conflict (user_id, name) do update set claim = excluded.claim, claimed_ms = excluded.claimed_ms \
         where order_keys.answer is null and order_keys.claimed_ms <= $6 and order_keys.digest = excluded.digest",
    );
    let insert = insert
        .bind(claim.user.as_str())
        .bind(claim.key.as_str())
        .bind(claim.digest.as_str())
        .bind(claim.id.as_str())
        .bind(claim.at_ms)
        .bind(claim.over_ms());
    transaction.execute(&insert).await?;
    kept(transaction, claim).await
}

/// What is kept under the key of a claim. Nobody changes it until the end of the transaction.
pub async fn kept(transaction: &mut Transaction, claim: &Claim) -> Result<Option<Kept>, StoreError> {
    let select = Query::by_database(
        "order_key",
        "select * from order_keys where user_id = $1 and name = $2",
        "select * from order_keys where user_id = $1 and name = $2 for update",
    );
    let row = transaction.fetch_optional(&select.bind(claim.user.as_str()).bind(claim.key.as_str())).await?;
    let Some(row) = row else { return Ok(None) };
    let answer = match row.get("answer")? {
        Some(json) => Some(Answer { json, order: row.get("order_id")?, invalidated: row.get("invalidated")? }),
        None => None,
    };
    Ok(Some(Kept { digest: row.get("digest")?, claim: row.get("claim")?, answer }))
}

/// Frees the key of a request that came to nothing.
pub fn release(claim: &Claim) -> Query {
    Query::new(
        "order_key_release",
        "delete from order_keys where user_id = $1 and name = $2 and claim = $3 and answer is null",
    )
    .bind(claim.user.as_str())
    .bind(claim.key.as_str())
    .bind(claim.id.as_str())
}

/// Removes the keys that were claimed until then.
pub fn sweep(until_ms: i64) -> Query {
    Query::new("sweep_order_keys", "delete from order_keys where claimed_ms <= $1").bind(until_ms)
}

/// The shelves of all that is in a cart. Nobody else takes from them until the end of the transaction; all lock them in
/// the same order, so that no two wait for each other.
pub fn lock_stock(user: &str) -> Query {
    Query::by_database(
        "stock_lock",
        "select s.product_id, s.warehouse_id, s.on_hand from stock s \
         join cart_lines c on c.product_id = s.product_id where c.user_id = $1 order by s.product_id, s.warehouse_id",
        "select s.product_id, s.warehouse_id, s.on_hand from stock s \
         join cart_lines c on c.product_id = s.product_id where c.user_id = $1 order by s.product_id, s.warehouse_id \
         for update of s",
    )
    .bind(user)
}

/// Takes the pieces from their shelves, writes down order and payment, keeps the answer, and empties the cart.
pub fn add_order(claim: &Claim, order: &Order, answer: &Answer) -> [Query; 6] {
    let id = order.summary.id.as_str();
    let items = json(&order.items);
    [
        Query::by_database(
            "stock_take",
            "update stock set on_hand = on_hand - t.quantity from (select value ->> 'product' as product, \
             value ->> 'warehouse' as warehouse, value ->> 'quantity' as quantity from json_each($1)) t \
             where product_id = t.product and warehouse_id = t.warehouse",
            "update stock set on_hand = on_hand - t.quantity \
             from json_to_recordset($1::json) as t (product text, warehouse text, quantity bigint) \
             where product_id = t.product and warehouse_id = t.warehouse",
        )
        .bind(items.as_str()),
        Query::new("order_add", "insert into orders (id, user_id, total_minor, created_ms) values ($1, $2, $3, $4)")
            .bind(id)
            .bind(claim.user.as_str())
            .bind(order.summary.total_minor)
            .bind(claim.at_ms),
        Query::by_database(
            "order_lines_add",
            "insert into order_lines (order_id, product_id, warehouse_id, name, price_minor, quantity) \
             select $1, value ->> 'product', value ->> 'warehouse', value ->> 'name', value ->> 'price_minor', \
             value ->> 'quantity' from json_each($2)",
            "insert into order_lines (order_id, product_id, warehouse_id, name, price_minor, quantity) \
             select $1, t.product, t.warehouse, t.name, t.price_minor, t.quantity from json_to_recordset($2::json) \
             as t (product text, warehouse text, name text, price_minor bigint, quantity bigint)",
        )
        .bind(id)
        .bind(items),
        Query::new(
            "payment_add",
            "insert into payments (order_id, provider, reference, amount_minor, paid_ms) values ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(order.payment.provider.as_str())
        .bind(order.payment.reference.as_str())
        .bind(order.summary.total_minor)
        .bind(claim.at_ms),
        Query::new("cart_empty", "delete from cart_lines where user_id = $1").bind(claim.user.as_str()),
        Query::new(
            "order_key_answer",
            "update order_keys set answer = $3, order_id = $4, invalidated = $5 where user_id = $1 and name = $2",
        )
        .bind(claim.user.as_str())
        .bind(claim.key.as_str())
        .bind(answer.json.as_str())
        .bind(id)
        .bind(answer.invalidated.as_str()),
    ]
}

/// The orders of a user, the newest first, that are behind a place.
pub fn orders(user: &str, page: &PageQuery) -> Query {
    Query::new(
        "orders_of_user",
        "select id, total_minor, created_ms from orders where user_id = $1 and id < coalesce($2, 'g') \
         order by id desc limit $3",
    )
    .bind(user)
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// An order with its payment, if it is this user's.
pub fn order(user: &str, id: &str) -> Query {
    Query::new(
        "order_of_user",
        "select o.id, o.total_minor, o.created_ms, p.provider, p.reference, p.amount_minor, p.paid_ms from orders o \
         join payments p on p.order_id = o.id where o.user_id = $1 and o.id = $2",
    )
    .bind(user)
    .bind(id)
}

pub fn order_lines(order: &str) -> Query {
    Query::new(
        "order_lines",
        "select product_id, warehouse_id, name, price_minor, quantity from order_lines where order_id = $1 \
         order by product_id, warehouse_id",
    )
    .bind(order)
}

/// Warehouses, products and stock that are added at once; what is there stays as it is.
pub fn add_seeds(warehouses: &impl Serialize, products: &impl Serialize, stock: &impl Serialize) -> [Query; 3] {
    [
        Query::by_database(
            "seed_warehouses",
            "insert into warehouses (id, name) select value ->> 'id', value ->> 'name' from json_each($1) where true \
             on conflict (id) do nothing",
            "insert into warehouses (id, name) select * from json_to_recordset($1::json) as t (id text, name text) \
             on conflict (id) do nothing",
        )
        .bind(json(warehouses)),
        Query::by_database(
            "seed_products",
            "insert into products (id, name, description, price_minor, created_ms) select value ->> 'id', \
             value ->> 'name', value ->> 'description', value ->> 'price_minor', value ->> 'created_ms' \
             from json_each($1) where true on conflict (id) do nothing",
            "insert into products (id, name, description, price_minor, created_ms) \
             select * from json_to_recordset($1::json) \
             as t (id text, name text, description text, price_minor bigint, created_ms bigint) \
             on conflict (id) do nothing",
        )
        .bind(json(products)),
        Query::by_database(
            "seed_stock",
            "insert into stock (product_id, warehouse_id, on_hand) select value ->> 'product', \
             value ->> 'warehouse', value ->> 'on_hand' from json_each($1) where true \
             on conflict (product_id, warehouse_id) do nothing",
            "insert into stock (product_id, warehouse_id, on_hand) select * from json_to_recordset($1::json) \
             as t (product text, warehouse text, on_hand bigint) on conflict (product_id, warehouse_id) do nothing",
        )
        .bind(json(stock)),
    ]
}

/// Of texts and numbers alone, so it can always be written.
fn json(values: &impl Serialize) -> String {
    serde_json::to_string(values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{After, Limit};
    use crate::store::plan;

    #[tokio::test]
    async fn a_page_far_behind_is_found_by_an_index() {
        let page = PageQuery::new(Limit::default(), After::try_from("x".to_owned()).ok());
        let plan = plan(&orders("ada", &page)).await;
        assert!(plan.contains("orders_by_user (user_id=? AND id<?)") && !plan.contains("TEMP"), "{plan}");
    }
}
