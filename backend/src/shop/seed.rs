//! Made-up products, the same ones at every run. Of every fifty, one is sold out and one has its last piece; of the others
//! there are enough for a load test.

use serde::Serialize;

use super::storage;
use crate::progress::Progress;
use crate::store::{Store, StoreError};

const BATCH: u32 = 1000;
/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;
const WAREHOUSES: [Warehouse; 3] = [
    Warehouse { id: "zurich", name: "Zürich" },
    Warehouse { id: "geneva", name: "Genève" },
    Warehouse { id: "lugano", name: "Lugano" },
];
const LOOK: [&str; 8] = ["Bright", "Folding", "Heavy", "Light", "Narrow", "Plain", "Quiet", "Round"];
const MATERIAL: [&str; 8] = ["Ash", "Brass", "Cork", "Glass", "Linen", "Oak", "Steel", "Wool"];
const THING: [&str; 8] = ["Bench", "Chair", "Clock", "Desk", "Lamp", "Rug", "Shelf", "Table"];
const PLACE: [&str; 4] = ["the kitchen", "the office", "the hall", "the garden"];

#[derive(Serialize)]
struct Warehouse {
    id: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Product {
    id: String,
    name: String,
    description: String,
    price_minor: i64,
    created_ms: i64,
}

#[derive(Serialize)]
struct OnHand {
    product: String,
    warehouse: &'static str,
    on_hand: i64,
}

/// Adds products 0 to `count`; those that are there stay as they are, and so does their stock.
pub async fn seed(store: &Store, count: u32) -> Result<(), StoreError> {
    let mut progress = Progress::new("products", count);
    for begin in (0..count).step_by(BATCH as usize) {
        let end = count.min(begin + BATCH);
        let products: Vec<_> = (begin..end).map(product).collect();
        let stock: Vec<_> = (begin..end).flat_map(stock).collect();
        store.change(&storage::add_seeds(&WAREHOUSES, &products, &stock)).await?;
        progress.at(end);
    }
    Ok(())
}

fn product(number: u32) -> Product {
    let (look, material, thing) = (pick(&LOOK, number), pick(&MATERIAL, number / 8), pick(&THING, number / 64));
    let place = pick(&PLACE, number / 3);
    Product {
        id: id(number),
        name: format!("{look} {material} {thing} {number}"),
        description: format!("A {} made of {} for {place}.", thing.to_lowercase(), material.to_lowercase()),
        // From 5.00 up to 1999.95, in steps of 5 hundredths.
        price_minor: 500 + i64::from(number) * 7919 % 39_900 * 5,
        created_ms: BEGIN_MS + i64::from(number) * 1000,
    }
}

fn stock(number: u32) -> Vec<OnHand> {
    let on_hand = |place: i64| match number % 50 {
        48 => 0,
        49 => i64::from(place == i64::from(number / 50) % 3),
        _ => 1000 + (i64::from(number) * 7 + place * 13) % 500,
    };
    let shelf = |(place, warehouse): (i64, &Warehouse)| OnHand {
        product: id(number),
        warehouse: warehouse.id,
        on_hand: on_hand(place),
    };
    (0..).zip(&WAREHOUSES).map(shelf).collect()
}

/// In the form of version 7, so that it sorts before those that are made later.
fn id(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

fn pick<'n>(names: &[&'n str], number: u32) -> &'n str {
    names.get(number as usize % names.len().max(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_products_are_well_formed_and_differ() {
        let mut names = std::collections::BTreeSet::new();
        for number in 0..20_000 {
            let product = product(number);
            assert!((500..200_000).contains(&product.price_minor), "{number}");
            assert!(names.insert(product.name));
            let on_hand: i64 = stock(number).iter().map(|shelf| shelf.on_hand).sum();
            match number % 50 {
                48 => assert_eq!(on_hand, 0),
                49 => assert_eq!(on_hand, 1),
                _ => assert!(on_hand >= 3000),
            }
        }
    }
}
