//! Which of the responses under one key a request may be given (RFC 9111 §4.1).

use std::iter;
use std::sync::Arc;

use super::vary::Selecting;

/// Responses under one key that are told apart by `Vary`.
pub const VARIANTS_MAX: usize = 32;

/// The newest first. Immutable: a change makes another list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variants(Box<[Variant]>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub selecting: Arc<Selecting>,
    /// Of the entry.
    pub id: u64,
}

impl Variants {
    pub fn iter(&self) -> impl Iterator<Item = &Variant> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, id: u64) -> bool {
        self.0.iter().any(|variant| variant.id == id)
    }

    /// The list with one more. The one for the same requests loses its place to it, and so does the oldest if there
    /// are too many.
    pub fn with(&self, variant: Variant) -> Self {
        let others = self.0.iter().filter(|other| other.selecting != variant.selecting).cloned();
        let variants: Vec<_> = iter::once(variant.clone()).chain(others).take(VARIANTS_MAX).collect();
        Self(variants.into())
    }

    /// The list without this entry; None if it was not there.
    pub fn without(&self, id: u64) -> Option<Self> {
        let others: Box<[_]> = self.0.iter().filter(|variant| variant.id != id).cloned().collect();
        (others.len() < self.0.len()).then_some(Self(others))
    }

    /// In bytes. The fields belong to the entries, and are counted there.
    pub fn weight(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(selecting: &str, id: u64) -> Variant {
        Variant { selecting: Arc::new(Selecting::of_text(selecting)), id }
    }

    fn ids(variants: &Variants) -> Vec<u64> {
        variants.iter().map(|variant| variant.id).collect()
    }

    #[test]
    fn the_newest_stands_first_and_replaces_its_like() {
        let variants = Variants::default().with(variant("gzip", 1));
        assert_eq!(ids(&variants), [1]);
        let variants = variants.with(variant("br", 2));
        assert_eq!(ids(&variants), [2, 1]);
        let variants = variants.with(variant("gzip", 3));
        assert_eq!(ids(&variants), [3, 2]);
        assert_eq!(variants.without(1), None);
        let variants = variants.without(2).unwrap();
        assert_eq!(ids(&variants), [3]);
        assert!(variants.without(3).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut variants = Variants::default();
        for id in 0..VARIANTS_MAX as u64 {
            variants = variants.with(variant(&id.to_string(), id));
        }
        assert!(variants.contains(0));
        let variants = variants.with(variant("more", 99));
        assert!(variants.contains(99) && !variants.contains(0));
        assert_eq!(variants.iter().count(), VARIANTS_MAX);
    }
}
