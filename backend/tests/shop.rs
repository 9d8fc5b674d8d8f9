//! The shop as a client meets it: products, the cart, orders and what they are paid with.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use server::{Answer, Server, add_product, execute, number};

const APPROVE: &str = "local-approve";

/// What is left of a product in all warehouses.
async fn left(server: &Server, product: &str) -> i64 {
    number(server.folder(), format!("select sum(on_hand) from stock where product_id = '{product}'")).await
}

async fn orders(server: &Server) -> i64 {
    number(server.folder(), "select count(*) from orders").await
}

async fn cart(server: &Server, token: &str) -> Value {
    server.as_user("GET", "/api/v1/cart", token).await.json()
}

/// The ids of the things on a page.
fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.json();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn products_are_listed_by_pages_and_shown_with_their_stock() {
    let server = Server::start().await;
    for (id, stock) in [("bench", 3), ("chair", 0), ("desk", 1), ("lamp", 9), ("rug", 2)] {
        add_product(server.folder(), id, 12_950, &[("zurich", stock), ("geneva", 0)]).await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/products?limit=2".to_owned();
    loop {
        let page = server.get(&path).await;
        seen.extend(ids(&page));
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        path = format!("/api/v1/products?limit=2&after={next}");
    }
    assert_eq!(seen, ["bench", "chair", "desk", "lamp", "rug"]);
    let list = server.get("/api/v1/products").await;
    let expected = json!({"id": "chair", "name": "chair", "price_minor": 12950, "currency": "CHF", "in_stock": false});
    assert_eq!(list.json()["items"][1], expected);
    assert_eq!(list.json()["items"][2]["in_stock"], true);
    assert_eq!(list.field("cache-groups"), "\"products\"");
    assert_eq!(list.field("cache-control"), "public, max-age=0, s-maxage=300");

    let desk = server.get("/api/v1/products/desk").await;
    let stock = json!([{"warehouse": "geneva", "on_hand": 0}, {"warehouse": "zurich", "on_hand": 1}]);
    assert_eq!((&desk.json()["stock"], &desk.json()["description"]), (&stock, &json!("One desk.")));
    assert_eq!(desk.field("cache-groups"), "\"product-desk\"");
    server.get("/api/v1/products/sofa").await.is_problem(404, "not-found");
    for (query, field) in [("limit=0", "limit"), ("after=", "after"), ("page=2", "page")] {
        server.get(&format!("/api/v1/products?{query}")).await.blames(field);
    }
}

#[tokio::test]
async fn products_are_found_by_their_words() {
    let server = Server::start().await;
    for (id, name, description) in [
        ("1", "Quiet Oak Desk", "For the office."),
        ("2", "Desk Lamp", "Made of brass."),
        ("3", "Brass Clock", "It stands on a desk of oak."),
        ("4", "Größe", "\"quoted\" -- 100%"),
    ] {
        let sql = format!("insert into products values ('{id}', '{name}', '{description}', 100, 0)");
        execute(server.folder(), sql).await;
    }
    let check = async |query: &str, expected: &[&str]| {
        assert_eq!(ids(&server.get(&format!("/api/v1/products/search?q={query}")).await), expected, "{query}");
    };
    // What has a word in its name comes before what has it in its description.
    check("brass", &["3", "2"]).await;
    check("oak+desk", &["1", "3"]).await;
    check("OAK%20d", &["1", "3"]).await;
    check("de", &["2", "1", "3"]).await;
    check("d+oak", &[]).await;
    check("oak+lamp", &[]).await;
    check("gr%C3%B6%C3%9Fe", &["4"]).await;
    check("%22quoted", &["4"]).await;
    check("100%25", &["4"]).await;
    // No operator of a database is one here.
    check("oak+OR+lamp", &[]).await;
    check("name:oak", &[]).await;
    check("desk*+NEAR(oak)", &[]).await;
    execute(
        server.folder(),
        "update products set name = 'Iron Desk' where id = '1'; delete from products where id = '3'",
    )
    .await;
    check("oak", &[]).await;
    check("iron", &["1"]).await;
    for (query, field) in [("", "q"), ("q=", "q"), ("q=%2A", "q"), ("q=a&limit=101", "limit"), ("q=a&after=", "after")]
    {
        server.get(&format!("/api/v1/products/search?{query}")).await.blames(field);
    }
}

#[tokio::test]
async fn all_that_is_found_comes_by_pages_the_best_first() {
    let server = Server::start().await;
    for number in 0..23 {
        // Some fit equally well.
        let (name, description) =
            if number % 3 == 0 { ("Desk", "Of oak.") } else { ("Oak", "Not for a desk of iron.") };
        let sql = format!("insert into products values ('p{number:02}', '{name}', '{description}', 100, 0)");
        execute(server.folder(), sql).await;
    }
    let all = ids(&server.get("/api/v1/products/search?q=desk&limit=100").await);
    assert_eq!((all.len(), all[0].as_str(), all[8].as_str()), (23, "p00", "p01"));
    for limit in [1, 2, 7, 23] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/api/v1/products/search?q=desk&limit={limit}{after}")).await;
            seen.extend(ids(&page));
            match page.json()["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen, all, "by {limit}");
    }
    // The end of a page may be gone by the next one, and nobody knows then where that begins.
    for nowhere in ["p99", "%27", "~"] {
        let path = format!("/api/v1/products/search?q=desk&after={nowhere}");
        assert!(ids(&server.get(&path).await).is_empty(), "{nowhere}");
    }
}

#[tokio::test]
async fn a_cart_holds_what_was_put_there_at_the_price_of_now() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let bob = server.signed_in("bob").await.access;
    add_product(server.folder(), "desk", 12_950, &[]).await;
    add_product(server.folder(), "lamp", 995, &[]).await;
    for (product, quantity) in [("lamp", 1), ("desk", 2), ("lamp", 3)] {
        assert_eq!(server.put_in_cart(&ada, product, quantity).await.status, 204);
    }
    let lamp = json!({"product": "lamp", "name": "lamp", "price_minor": 995, "quantity": 3});
    assert_eq!(
        (&cart(&server, &ada).await["items"][1], &cart(&server, &ada).await["total_minor"]),
        (&lamp, &json!(28_885))
    );
    assert_eq!(cart(&server, &bob).await["items"], json!([]));
    execute(server.folder(), "update products set price_minor = 10000 where id = 'desk'").await;
    assert_eq!(cart(&server, &ada).await["total_minor"], 22_985);
    for _ in 0..2 {
        assert_eq!(server.as_user("DELETE", "/api/v1/cart/items/desk", &ada).await.status, 204);
        assert_eq!(cart(&server, &ada).await["total_minor"], 2985);
    }
}

#[tokio::test]
async fn what_cannot_be_in_a_cart_is_refused_by_its_field() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_product(server.folder(), "desk", 100, &[]).await;
    let check = async |body: Value, field: &str| {
        server.json("PUT", "/api/v1/cart/items/desk", &ada, &body).await.blames(field);
    };
    check(json!({"quantity": 0}), "quantity").await;
    check(json!({"quantity": 100}), "quantity").await;
    check(json!({"quantity": -1}), "quantity").await;
    check(json!({"quantity": 1.5}), "quantity").await;
    check(json!({"quantity": "1"}), "quantity").await;
    check(json!({}), "quantity").await;
    check(json!({"quantity": 1, "price_minor": 1}), "price_minor").await;
    server.put_in_cart(&ada, "sofa", 1).await.is_problem(404, "not-found");
    for product in 0..51 {
        add_product(server.folder(), &format!("p{product}"), 100, &[]).await;
        let answer = server.put_in_cart(&ada, &format!("p{product}"), 1).await;
        if product < 50 { assert_eq!(answer.status, 204) } else { answer.is_problem(409, "cart-full") }
    }
    assert_eq!(server.put_in_cart(&ada, "p0", 2).await.status, 204);
    assert_eq!(cart(&server, &ada).await["items"].as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn an_order_takes_the_pieces_the_money_and_the_cart() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_product(server.folder(), "desk", 12_950, &[("geneva", 2), ("zurich", 4)]).await;
    add_product(server.folder(), "lamp", 995, &[("zurich", 10)]).await;
    server.put_in_cart(&ada, "desk", 5).await;
    server.put_in_cart(&ada, "lamp", 1).await;
    let placed = server.order(&ada, "first", APPROVE).await;
    assert_eq!(placed.status, 201, "{}", placed.text());
    let order = placed.json();
    let id = order["id"].as_str().unwrap();
    let item = |product: &str, warehouse: &str, price_minor: i64, quantity: i64| json!({"product": product, "name": product, "price_minor": price_minor, "quantity": quantity, "warehouse": warehouse});
    let mut items = order["items"].as_array().unwrap().clone();
    items.sort_by_key(ToString::to_string);
    let expected =
        [item("desk", "geneva", 12_950, 1), item("desk", "zurich", 12_950, 4), item("lamp", "zurich", 995, 1)];
    assert_eq!(items, expected);
    assert_eq!((&order["total_minor"], &order["payment"]["amount_minor"]), (&json!(65_745), &json!(65_745)));
    assert_eq!(placed.field("location"), format!("/api/v1/orders/{id}"));
    assert_eq!(placed.field("cache-group-invalidation"), "\"product-desk\", \"product-lamp\"");
    assert_eq!((left(&server, "desk").await, left(&server, "lamp").await), (1, 9));
    assert_eq!(cart(&server, &ada).await["items"], json!([]));

    // It stays what it was, whatever products cost later.
    execute(server.folder(), "update products set price_minor = 1, name = 'x'").await;
    let read = server.as_user("GET", placed.field("location"), &ada).await;
    assert_eq!(read.json()["total_minor"], 65_745);
    assert_eq!(read.json()["payment"], order["payment"]);
    assert_eq!(read.json()["items"][0], item("desk", "geneva", 12_950, 1));
    let payment = server.as_user("GET", &format!("/api/v1/orders/{id}/payment"), &ada).await;
    assert_eq!(payment.json(), order["payment"]);

    // The last piece changes the lists, too.
    server.put_in_cart(&ada, "desk", 1).await;
    let last = server.order(&ada, "last", APPROVE).await;
    assert_eq!(last.field("cache-group-invalidation"), "\"product-desk\", \"products\"");
}

#[tokio::test]
async fn an_order_costs_the_same_statements_however_long_it_is() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    for product in 0..20 {
        add_product(server.folder(), &format!("p{product}"), 100, &[("geneva", 3), ("zurich", 3)]).await;
    }
    let mut costs = Vec::new();
    for lines in [1, 20] {
        for product in 0..lines {
            server.put_in_cart(&ada, &format!("p{product}"), 2).await;
        }
        let before = server.statements().await;
        let placed = server.order(&ada, &format!("of-{lines}"), APPROVE).await;
        assert_eq!(placed.json()["items"].as_array().unwrap().len(), lines);
        server.as_user("GET", placed.field("location"), &ada).await;
        server.get("/api/v1/products").await;
        costs.push(server.statements().await - before);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn an_order_that_is_refused_leaves_all_as_it_was() {
    let server = Server::start().await;
    add_product(server.folder(), "desk", 500, &[("zurich", 2)]).await;
    add_product(server.folder(), "lamp", 100, &[("zurich", 0), ("geneva", 1)]).await;
    let ada = server.signed_in("ada").await.access;
    server.order(&ada, "k", APPROVE).await.is_problem(409, "cart-empty");
    let check = async |lines: &[(&str, i64)], payment: &str, status: u16, code: &str| {
        for product in ["desk", "lamp"] {
            server.as_user("DELETE", &format!("/api/v1/cart/items/{product}"), &ada).await;
        }
        for (product, quantity) in lines {
            server.put_in_cart(&ada, product, *quantity).await;
        }
        let before = cart(&server, &ada).await;
        let refused = server.order(&ada, "k", payment).await;
        refused.is_problem(status, code);
        assert_eq!(cart(&server, &ada).await, before, "{code}");
        assert_eq!(
            (left(&server, "desk").await, left(&server, "lamp").await, orders(&server).await),
            (2, 1, 0),
            "{code}"
        );
        refused.json()
    };
    let short = check(&[("desk", 3), ("lamp", 2)], APPROVE, 409, "sold-out").await;
    let fault = |place: usize| (short["errors"][place]["field"].clone(), short["errors"][place]["detail"].clone());
    assert_eq!(
        (fault(0), fault(1)),
        ((json!("cart.desk"), json!("only 2 left")), (json!("cart.lamp"), json!("only 1 left")))
    );
    check(&[("desk", 1), ("lamp", 2)], APPROVE, 409, "sold-out").await;
    check(&[("desk", 2)], "local-decline", 402, "payment-declined").await;
    check(&[("desk", 2)], "local-limit-999", 402, "payment-declined").await;
    check(&[("desk", 2)], "visa-4242", 402, "payment-declined").await;
    // The key was freed each time.
    assert_eq!(server.order(&ada, "k", "local-limit-1000").await.status, 201);
}

#[tokio::test]
async fn a_repeated_order_gets_the_answer_that_there_was() {
    let server = Server::start().await;
    let beside = server.beside().await;
    let ada = server.signed_in("ada").await.access;
    let bob = server.signed_in("bob").await.access;
    add_product(server.folder(), "desk", 500, &[("zurich", 9)]).await;
    server.put_in_cart(&ada, "desk", 1).await;
    let first = server.order(&ada, "k", APPROVE).await;
    // What was put into the cart since is no part of it.
    server.put_in_cart(&ada, "desk", 2).await;
    for server in [&server, &beside] {
        for key in ["k", "\"k\""] {
            let again = server.order(&ada, key, APPROVE).await;
            assert_eq!((again.status.as_u16(), &again.body), (201, &first.body));
            assert_eq!(again.field("location"), first.field("location"));
            // Its answer may not have reached the edge.
            assert_eq!(again.field("cache-group-invalidation"), "\"product-desk\"");
        }
    }
    server.order(&ada, "k", "local-decline").await.is_problem(422, "idempotency-key-reused");
    assert_eq!((left(&server, "desk").await, orders(&server).await), (8, 1));
    // Of another user it is another key.
    server.order(&bob, "k", APPROVE).await.is_problem(409, "cart-empty");

    let body = json!({"payment_token": APPROVE});
    server.json("POST", "/api/v1/orders", &ada, &body).await.blames("Idempotency-Key");
    server.order(&ada, "", APPROVE).await.blames("Idempotency-Key");
    server.order(&ada, &"k".repeat(129), APPROVE).await.blames("Idempotency-Key");
    for (body, field) in [
        (json!({}), "payment_token"),
        (json!({"payment_token": ""}), "payment_token"),
        (json!({"payment_token": APPROVE, "total_minor": 1}), "total_minor"),
    ] {
        server.order_with(&ada, "other", &body).await.blames(field);
    }
}

#[tokio::test]
async fn an_order_that_is_under_way_is_nobody_elses_until_its_time_is_over() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_product(server.folder(), "desk", 500, &[("zurich", 9)]).await;
    server.put_in_cart(&ada, "desk", 1).await;
    assert_eq!(server.order(&ada, "k", APPROVE).await.status, 201);
    // As if whoever carries it out had not come to its end.
    execute(server.folder(), "update order_keys set answer = null").await;
    server.put_in_cart(&ada, "desk", 2).await;
    server.order(&ada, "k", APPROVE).await.is_problem(409, "under-way");
    server.order(&ada, "k", "local-decline").await.is_problem(422, "idempotency-key-reused");
    assert_eq!(orders(&server).await, 1);
    execute(server.folder(), "update order_keys set claimed_ms = claimed_ms - 5000").await;
    assert_eq!(server.order(&ada, "k", APPROVE).await.status, 201);
    assert_eq!((left(&server, "desk").await, orders(&server).await), (6, 2));
}

#[tokio::test]
async fn what_was_answered_is_kept_for_a_day() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    add_product(server.folder(), "desk", 500, &[("zurich", 9)]).await;
    for key in ["old", "new"] {
        server.put_in_cart(&ada, "desk", 1).await;
        assert_eq!(server.order(&ada, key, APPROVE).await.status, 201);
    }
    execute(server.folder(), "update order_keys set claimed_ms = claimed_ms - 86400000 where name = 'old'").await;
    // Whoever starts looks at once for what is over.
    let _beside = server.beside().await;
    let keys = async || number(server.folder(), "select count(*) from order_keys").await;
    tokio::time::timeout(Duration::from_secs(10), async { while keys().await != 1 {} }).await.unwrap();
    assert_eq!(server.order(&ada, "new", APPROVE).await.status, 201);
    server.order(&ada, "old", APPROVE).await.is_problem(409, "cart-empty");
}

#[tokio::test]
async fn of_many_that_send_one_order_at_once_one_makes_it() {
    let server = Server::start().await;
    let beside = server.beside().await;
    let ada = server.signed_in("ada").await.access;
    add_product(server.folder(), "desk", 500, &[("zurich", 9)]).await;
    server.put_in_cart(&ada, "desk", 1).await;
    let attempts = (0..16).map(|number| if number % 2 == 0 { &server } else { &beside }.order(&ada, "k", APPROVE));
    let answers = futures_util::future::join_all(attempts).await;
    let made: BTreeSet<_> = answers.iter().filter(|answer| answer.status == 201).map(|answer| &answer.body).collect();
    assert_eq!(made.len(), 1);
    answers.iter().filter(|answer| answer.status != 201).for_each(|answer| answer.is_problem(409, "under-way"));
    assert_eq!((left(&server, "desk").await, orders(&server).await), (8, 1));
    // Another key at the same time finds the cart empty, and so there is one order of one cart.
    server.put_in_cart(&ada, "desk", 1).await;
    let keys: Vec<_> = (0..8).map(|number| format!("k{number}")).collect();
    let attempts =
        keys.iter().enumerate().map(|(n, key)| if n % 2 == 0 { &server } else { &beside }.order(&ada, key, APPROVE));
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!((left(&server, "desk").await, orders(&server).await), (7, 2));
}

#[tokio::test]
async fn of_a_hundred_buyers_of_the_last_piece_one_gets_it() {
    let server = Server::start().await;
    let beside = server.beside().await;
    add_product(server.folder(), "desk", 500, &[("geneva", 0), ("zurich", 1)]).await;
    let mut buyers = Vec::new();
    for number in 0..100 {
        let buyer = server.signed_in(&format!("buyer{number}")).await.access;
        assert_eq!(server.put_in_cart(&buyer, "desk", 1).await.status, 204);
        buyers.push(buyer);
    }
    let attempts = buyers.iter().enumerate().map(|(number, buyer)| {
        let server = if number % 2 == 0 { &server } else { &beside };
        server.order(buyer, "last", APPROVE)
    });
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    answers.iter().filter(|answer| answer.status != 201).for_each(|answer| answer.is_problem(409, "sold-out"));
    assert_eq!((left(&server, "desk").await, orders(&server).await), (0, 1));
    assert_eq!(number(server.folder(), "select count(*) from payments").await, 1);
}

#[tokio::test]
async fn what_is_sold_and_what_is_left_are_what_there_was() {
    const STOCK: [(&str, i64, i64); 3] = [("desk", 12, 9), ("lamp", 7, 0), ("rug", 1, 2)];
    let server = Server::start().await;
    let beside = server.beside().await;
    for (product, geneva, zurich) in STOCK {
        add_product(server.folder(), product, 300, &[("geneva", geneva), ("zurich", zurich)]).await;
    }
    let mut buyers = Vec::new();
    for number in 0..6 {
        buyers.push(server.signed_in(&format!("buyer{number}")).await.access);
    }
    // What each buyer asks for and by which replica follows from a fixed sequence.
    let mut state = 20_261_121_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..12 {
        let wishes: Vec<_> = (0..buyers.len()).map(|_| (draw(3), draw(3), draw(2))).collect();
        let attempts = buyers.iter().zip(wishes).map(async |(buyer, (first, second, replica))| {
            let server = if replica == 0 { &server } else { &beside };
            for product in [first, second] {
                server.put_in_cart(buyer, STOCK[usize::try_from(product).unwrap()].0, 1 + i64::from(round % 3)).await;
            }
            server.order(buyer, &format!("round-{round}"), APPROVE).await
        });
        for answer in futures_util::future::join_all(attempts).await {
            assert!(answer.status == 201 || answer.json()["code"] == "sold-out", "{}", answer.text());
        }
        for (product, geneva, zurich) in STOCK {
            let sold = format!("select coalesce(sum(quantity), 0) from order_lines where product_id = '{product}'");
            assert_eq!(
                number(server.folder(), sold).await + left(&server, product).await,
                geneva + zurich,
                "{product}"
            );
        }
    }
    assert_eq!(number(server.folder(), "select min(on_hand) from stock").await, 0);
    // Each order has one payment, of what its lines cost.
    let wrong = "select count(*) from orders o left join payments p on p.order_id = o.id \
                 where p.amount_minor is not o.total_minor or o.total_minor != \
                 (select sum(price_minor * quantity) from order_lines l where l.order_id = o.id)";
    assert_eq!(number(server.folder(), wrong).await, 0);
    assert!(orders(&server).await >= 5);
}

#[tokio::test]
async fn orders_are_their_buyers_alone_and_listed_by_pages() {
    let server = Server::start().await;
    let ada = server.signed_in("ada").await.access;
    let bob = server.signed_in("bob").await.access;
    add_product(server.folder(), "desk", 500, &[("zurich", 99)]).await;
    let mut made = BTreeMap::new();
    for number in 1..=5 {
        server.put_in_cart(&ada, "desk", number).await;
        let placed = server.order(&ada, &format!("k{number}"), APPROVE).await.json();
        made.insert(placed["id"].as_str().unwrap().to_owned(), number * 500);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/orders?limit=2".to_owned();
    loop {
        let page = server.as_user("GET", &path, &ada).await.json();
        for order in page["items"].as_array().unwrap() {
            seen.push((order["id"].as_str().unwrap().to_owned(), order["total_minor"].as_i64().unwrap()));
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/orders?limit=2&after={next}");
    }
    assert_eq!(seen, made.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(ids(&server.as_user("GET", "/api/v1/orders", &bob).await), [""; 0]);
    let one = &seen[0].0;
    for path in [format!("/api/v1/orders/{one}"), format!("/api/v1/orders/{one}/payment")] {
        server.as_user("GET", &path, &bob).await.is_problem(404, "not-found");
        let own = server.as_user("GET", &path, &ada).await;
        assert_eq!((own.status.as_u16(), own.field("cache-control")), (200, "no-store"));
    }
}
