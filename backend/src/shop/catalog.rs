//! What there is to buy: the list, the search, one product with its shelves. It is the same for everybody.

use serde::Serialize;
use utoipa::ToSchema;

use super::{CURRENCY, Shop, ShopError, storage};
use crate::api::{Page, PageQuery, SearchQuery};
use crate::store::{Row, StoreError};

/// The group, in the edge's cache, of all lists: they tell of each product whether there is any (RFC 9875).
pub const LISTS: &str = "\"products\"";

/// The group of one product. Its name is one that the database knows, so nothing in it has to be quoted.
pub fn group(product: &str) -> String {
    format!("\"product-{product}\"")
}

/// The groups that are not as they were once these products were sold. Lists mind only a last piece.
pub fn groups_of<'p>(products: impl Iterator<Item = &'p str>, sold_out: bool) -> String {
    let lists = sold_out.then(|| LISTS.to_owned());
    products.map(group).chain(lists).collect::<Vec<_>>().join(", ")
}

/// A product as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductSummary {
    #[schema(example = "00000000-0000-7000-8000-000000000001")]
    pub id: String,
    #[schema(example = "Quiet Oak Desk 1")]
    name: String,
    /// In hundredths.
    #[schema(example = 12_950)]
    price_minor: i64,
    #[schema(example = "CHF")]
    currency: &'static str,
    in_stock: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Product {
    #[serde(flatten)]
    summary: ProductSummary,
    description: String,
    stock: Vec<OnHand>,
}

/// The pieces of a product in one warehouse.
#[derive(Debug, Serialize, ToSchema)]
struct OnHand {
    #[schema(example = "zurich")]
    warehouse: String,
    on_hand: i64,
}

impl TryFrom<&Row> for ProductSummary {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            price_minor: row.get("price_minor")?,
            currency: CURRENCY,
            in_stock: row.get("in_stock")?,
        })
    }
}

// All of it is read from the database itself and never from a replica behind it: the edge keeps what it is told, and asks
// again only after the next change.
impl Shop {
    pub async fn products(&self, query: &PageQuery) -> Result<Page<ProductSummary>, ShopError> {
        let rows = self.store.fetch(&storage::products(query)).await?;
        let products = rows.iter().map(ProductSummary::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(products, query, |product| product.id.clone()))
    }

    /// The products that fit, the best first.
    pub async fn search(&self, search: &SearchQuery) -> Result<Page<ProductSummary>, ShopError> {
        let query = search.page();
        let rows = self.store.fetch(&storage::search(&search.q, &query)).await?;
        let products = rows.iter().map(ProductSummary::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(products, &query, |product| product.id.clone()))
    }

    pub async fn product(&self, id: &str) -> Result<Product, ShopError> {
        let row = self.store.fetch_optional(&storage::product(id)).await?.ok_or(ShopError::Gone)?;
        let shelves = self.store.fetch(&storage::stock_of(id)).await?;
        let on_hand = |row: &Row| Ok(OnHand { warehouse: row.get("warehouse_id")?, on_hand: row.get("on_hand")? });
        let stock = shelves.iter().map(on_hand).collect::<Result<_, StoreError>>()?;
        Ok(Product { summary: ProductSummary::try_from(&row)?, description: row.get("description")?, stock })
    }
}
