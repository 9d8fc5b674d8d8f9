//! Products and workflows of a test. No route makes them, so they are written into the database, as another program would.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Answer, Server, database};

/// Runs statements of a test on its database.
pub async fn execute(folder: &Path, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut database(folder).await).await.unwrap();
}

/// The one number that a query gives.
pub async fn number(folder: &Path, sql: impl Into<String>) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.into())).fetch_one(&mut database(folder).await).await.unwrap()
}

/// Adds a product, described by its own name, with so many pieces in each warehouse.
pub async fn add_product(folder: &Path, id: &str, price_minor: i64, stock: &[(&str, i64)]) {
    execute(folder, format!("insert into products values ('{id}', '{id}', 'One {id}.', {price_minor}, 0)")).await;
    for (warehouse, on_hand) in stock {
        let sql = format!(
            "insert into warehouses values ('{warehouse}', '{warehouse}') on conflict do nothing; \
             insert into stock values ('{id}', '{warehouse}', {on_hand})"
        );
        execute(folder, sql).await;
    }
}

/// Adds a workflow of so many steps, of which every second one requires confirmation.
pub async fn add_workflow(folder: &Path, id: &str, category: &str, steps: u32) {
    execute(folder, format!("insert into workflows values ('{id}', 'To {id}', 'How to {id}.', '{category}', 0)")).await;
    for step in 1..=steps {
        let sql = format!(
            "insert into workflow_steps values ('{id}', {step}, 'Step {step}', 'Do {step}.', {})",
            step % 2 == 0
        );
        execute(folder, sql).await;
    }
}

impl Server {
    pub async fn put_in_cart(&self, token: &str, product: &str, quantity: i64) -> Answer {
        self.json("PUT", &format!("/api/v1/cart/items/{product}"), token, &json!({ "quantity": quantity })).await
    }

    /// Orders the cart and pays by a token of the local provider.
    pub async fn order(&self, token: &str, key: &str, payment: &str) -> Answer {
        self.order_with(token, key, &json!({ "payment_token": payment })).await
    }

    pub async fn order_with(&self, token: &str, key: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let fields =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        self.ask_with("POST", "/api/v1/orders", &fields, body.to_string()).await
    }
}
