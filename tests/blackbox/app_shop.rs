//! The app's shop through the edge over TLS: two replicas on one database sell the same pieces, and the cache in front shows
//! everybody the same products and nobody another's orders.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::app::{self, Person, json, seed};
use crate::harness::*;

impl Person {
    async fn put_in_cart(&mut self, product: &str, quantity: u32) {
        let line = self.ask("PUT", &format!("/api/v1/cart/items/{product}"), &json!({ "quantity": quantity })).await;
        assert_eq!(line.status, 204, "{}", line.text());
    }

    async fn order(&mut self, key: &str, body: &Value) -> Answer {
        let head = self.request("POST", "/api/v1/orders").header("content-type", "application/json");
        self.client.ask(head.header("idempotency-key", key), body.to_string()).await
    }
}

fn approve() -> Value {
    json!({ "payment_token": "local-approve" })
}

/// How many pieces of a product everybody sees.
async fn on_hand(person: &mut Person, product: &str) -> i64 {
    let product = json(&person.get(&format!("/api/v1/products/{product}")).await);
    product["stock"].as_array().unwrap().iter().map(|shelf| shelf["on_hand"].as_i64().unwrap()).sum()
}

#[tokio::test]
async fn of_many_who_buy_the_last_piece_through_the_edge_one_gets_it() {
    let edge = app::seeded().await;
    // Of this one the seed leaves a single piece.
    let last = seed(49);
    let mut buyers = Vec::new();
    for number in 0..20 {
        let mut buyer = Person::new(&edge, &format!("buyer{number}")).await;
        buyer.put_in_cart(&last, 1).await;
        assert_eq!(on_hand(&mut buyer, &last).await, 1);
        buyers.push(buyer);
    }
    let answers = join_all(buyers.iter_mut().map(async |buyer| buyer.order("last", &approve()).await)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((refused.status, &json(refused)["code"]), (409, &json!("sold-out")), "{}", refused.text());
    }
    // At once, although the edge had it as it was.
    for buyer in &mut buyers {
        assert_eq!(on_hand(buyer, &last).await, 0);
    }
    let mut made = 0;
    for buyer in &mut buyers {
        made += json(&buyer.get("/api/v1/orders").await)["items"].as_array().unwrap().len();
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn an_order_that_is_sent_again_is_the_same_at_every_replica() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let before = on_hand(&mut ada, &seed(0)).await;
    ada.put_in_cart(&seed(0), 2).await;
    let mut answers = BTreeSet::new();
    for _ in 0..4 {
        let answer = ada.order("k", &approve()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answers.insert(answer.text().to_owned());
    }
    assert_eq!(answers.len(), 1);
    let other = ada.order("k", &json!({ "payment_token": "local-decline" })).await;
    assert_eq!((other.status, &json(&other)["code"]), (422, &json!("idempotency-key-reused")));
    assert_eq!(on_hand(&mut ada, &seed(0)).await, before - 2);
    assert_eq!(json(&ada.get("/api/v1/orders").await)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn products_come_from_the_edge_until_an_order_changes_them() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut nobody = Person::nobody(&edge).await;
    let (product, other) = (seed(1), seed(49));
    let path = |product: &str| format!("/api/v1/products/{product}");
    let (list, search) = ("/api/v1/products?limit=50".to_owned(), "/api/v1/products/search?q=oak+desk".to_owned());
    let all = [path(&product), path(&other), list.clone(), search.clone()];
    for path in &all {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
        // It is the same for everybody, whoever asks.
        for person in [&mut nobody, &mut ada] {
            let again = person.get(path).await;
            assert!(again.field("cache-status").contains("; hit"), "{path}: {}", again.field("cache-status"));
        }
    }
    let mut is_kept = async |path: &str| nobody.get(path).await.field("cache-status").contains("; hit");

    let before = on_hand(&mut ada, &product).await;
    ada.put_in_cart(&product, 3).await;
    assert_eq!(ada.order("first", &approve()).await.status, 201);
    assert!(!is_kept(&path(&product)).await && is_kept(&path(&other)).await, "of the products the one that was sold");
    assert!(is_kept(&list).await && is_kept(&search).await, "there is some left, as they say");
    assert_eq!(on_hand(&mut ada, &product).await, before - 3);

    ada.put_in_cart(&other, 1).await;
    assert_eq!(ada.order("last", &approve()).await.status, 201);
    assert!(!is_kept(&path(&other)).await && !is_kept(&list).await && !is_kept(&search).await, "there is none left");
    let list = json(&ada.get(&list).await);
    let listed = list["items"].as_array().unwrap().iter().find(|item| item["id"] == other.as_str()).unwrap();
    assert_eq!(listed["in_stock"], false);
}

#[tokio::test]
async fn carts_and_orders_are_their_owners_alone_and_the_edge_keeps_none() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let mut bob = Person::new(&edge, "bob").await;
    ada.put_in_cart(&seed(2), 1).await;
    bob.put_in_cart(&seed(3), 1).await;
    for _ in 0..3 {
        for (person, product) in [(&mut ada, seed(2)), (&mut bob, seed(3))] {
            let cart = person.get("/api/v1/cart").await;
            assert_eq!(json(&cart)["items"][0]["product"], product);
            assert!(!cart.field("cache-status").contains("; hit"));
        }
    }
    let order = ada.order("k", &approve()).await;
    let path = order.field("location").to_owned();
    for path in [path.clone(), format!("{path}/payment")] {
        for _ in 0..2 {
            let own = ada.get(&path).await;
            assert_eq!((own.status, own.field("cache-control")), (200, "no-store"));
            assert!(!own.field("cache-status").contains("; hit"));
            let foreign = bob.get(&path).await;
            assert_eq!((foreign.status, &json(&foreign)["code"]), (404, &json!("not-found")));
        }
        assert_eq!(Person::nobody(&edge).await.get(&path).await.status, 401);
    }
    assert_eq!(json(&bob.get("/api/v1/orders").await)["items"], json!([]));
}

#[tokio::test]
async fn what_the_shop_refuses_comes_back_with_its_field() {
    let edge = app::seeded().await;
    let mut ada = Person::new(&edge, "ada").await;
    let (line, orders) = (format!("/api/v1/cart/items/{}", seed(0)), "/api/v1/orders".to_owned());
    for (method, path, body, field) in [
        ("PUT", &line, json!({"quantity": 0}), "quantity"),
        ("PUT", &line, json!({"quantity": 1, "price_minor": 1}), "price_minor"),
        ("POST", &orders, approve(), "Idempotency-Key"),
        ("POST", &orders, json!({}), "payment_token"),
    ] {
        let refused = ada.ask(method, path, &body).await;
        assert_eq!((refused.status, refused.field("content-type")), (400, "application/problem+json"));
        assert_eq!(json(&refused)["errors"][0]["field"], field);
    }
    let search = ada.get("/api/v1/products/search?q=").await;
    assert_eq!((search.status, &json(&search)["errors"][0]["field"]), (400, &json!("q")));
    ada.put_in_cart(&seed(48), 1).await;
    for (payment, status) in [("local-approve", 409), ("local-decline", 409)] {
        assert_eq!(ada.order("sold-out", &json!({ "payment_token": payment })).await.status, status);
    }
    let gone = ada.ask("DELETE", &format!("/api/v1/cart/items/{}", seed(48)), &json!({})).await;
    assert_eq!(gone.status, 204);
    ada.put_in_cart(&seed(0), 1).await;
    let declined = ada.order("declined", &json!({ "payment_token": "local-decline" })).await;
    assert_eq!((declined.status, &json(&declined)["code"]), (402, &json!("payment-declined")));
}
