//! Decides from which warehouses the pieces of an order are taken.

/// Where pieces of one product lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    pub warehouse: String,
    pub on_hand: i64,
}

/// Pieces of one product from one warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub warehouse: String,
    pub quantity: i64,
}

/// How `quantity` pieces, of which there is at least one, are taken from these shelves; none if there are not so many.
/// They come from one warehouse if one has them all, else the fullest give first: fewer parcels are sent.
pub fn take(shelves: &[Shelf], quantity: i64) -> Option<Vec<Part>> {
    if let Some(shelf) = shelves.iter().find(|shelf| shelf.on_hand >= quantity) {
        return Some(vec![Part { warehouse: shelf.warehouse.clone(), quantity }]);
    }
    let mut fullest: Vec<_> = shelves.iter().filter(|shelf| shelf.on_hand > 0).collect();
    fullest.sort_by(|one, other| other.on_hand.cmp(&one.on_hand).then_with(|| one.warehouse.cmp(&other.warehouse)));
    let mut wanted = quantity;
    let mut parts = Vec::new();
    for shelf in fullest {
        if wanted == 0 {
            break;
        }
        let quantity = wanted.min(shelf.on_hand);
        wanted -= quantity;
        parts.push(Part { warehouse: shelf.warehouse.clone(), quantity });
    }
    (wanted == 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shelves(on_hand: &[i64]) -> Vec<Shelf> {
        let warehouse = |number: usize| char::from(b'a' + u8::try_from(number).unwrap()).to_string();
        on_hand.iter().enumerate().map(|(n, on_hand)| Shelf { warehouse: warehouse(n), on_hand: *on_hand }).collect()
    }

    #[test]
    fn pieces_come_from_as_few_warehouses_as_can_be() {
        let check = |on_hand: &[i64], quantity: i64, expected: Option<&[(&str, i64)]>| {
            let parts = take(&shelves(on_hand), quantity);
            let parts = parts.as_ref().map(|parts| parts.iter().map(|p| (p.warehouse.as_str(), p.quantity)).collect());
            assert_eq!(parts, expected.map(<[_]>::to_vec), "{quantity} of {on_hand:?}");
        };
        check(&[5, 5], 5, Some(&[("a", 5)]));
        check(&[1, 9, 5], 5, Some(&[("b", 5)]));
        check(&[1, 3, 4], 5, Some(&[("c", 4), ("b", 1)]));
        check(&[2, 2, 2], 5, Some(&[("a", 2), ("b", 2), ("c", 1)]));
        check(&[0, 1], 1, Some(&[("b", 1)]));
        check(&[2, 2], 5, None);
        check(&[0], 1, None);
        check(&[], 1, None);
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_is_there_and_no_less_than_is_wanted(
            on_hand in prop::collection::vec(0i64..20, 0..5), quantity in 1i64..40,
        ) {
            let shelves = shelves(&on_hand);
            let parts = take(&shelves, quantity);
            prop_assert_eq!(parts.is_some(), on_hand.iter().sum::<i64>() >= quantity);
            if let Some(parts) = parts {
                prop_assert_eq!(parts.iter().map(|part| part.quantity).sum::<i64>(), quantity);
                for (place, part) in parts.iter().enumerate() {
                    let shelf = shelves.iter().find(|shelf| shelf.warehouse == part.warehouse).unwrap();
                    prop_assert!((1..=shelf.on_hand).contains(&part.quantity));
                    prop_assert!(parts[..place].iter().all(|earlier| earlier.warehouse != part.warehouse));
                }
            }
        }
    }
}
