//! The routes of the shop: what is read from a request, and which answer each outcome becomes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::ShopError;
use super::cart::{Cart, Quantity};
use super::catalog::{self, LISTS, Product, ProductSummary};
use super::key::IdempotencyKey;
use super::order::{Checkout, Order, OrderSummary, Payment};
use crate::App;
use crate::api::{Body, Caller, Page, PageQuery, Parameters, Path, Policy, Problem, Route, SearchQuery};

/// The edge keeps it until a change takes it out (RFC 9875), or for five minutes; everybody else asks the edge each time.
const AT_THE_EDGE: &str = "public, max-age=0, s-maxage=300";
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(routes!(products)).policy(Policy::Anonymous),
        Route::new(routes!(search)).policy(Policy::Anonymous),
        Route::new(routes!(product)).policy(Policy::Anonymous),
        Route::new(routes!(cart)).policy(Policy::User),
        Route::new(routes!(put_line)).policy(Policy::User),
        Route::new(routes!(remove_line)).policy(Policy::User),
        Route::new(routes!(place_order)).policy(Policy::User),
        Route::new(routes!(orders)).policy(Policy::User),
        Route::new(routes!(order)).policy(Policy::Owner),
        Route::new(routes!(payment)).policy(Policy::Owner),
    ]
}

/// All products.
#[utoipa::path(
    get, path = "/api/v1/products", tag = "shop", params(PageQuery),
    responses((status = 200, body = Page<ProductSummary>)),
)]
async fn products(State(app): State<Arc<App>>, Parameters(query): Parameters<PageQuery>) -> Result<Response, Problem> {
    Ok(for_everybody(LISTS.to_owned(), &app.shop.products(&query).await?))
}

/// Products by the words of their names and descriptions, the best match first.
#[utoipa::path(
    get, path = "/api/v1/products/search", tag = "shop", params(SearchQuery),
    responses((status = 200, body = Page<ProductSummary>)),
)]
async fn search(State(app): State<Arc<App>>, Parameters(query): Parameters<SearchQuery>) -> Result<Response, Problem> {
    Ok(for_everybody(LISTS.to_owned(), &app.shop.search(&query).await?))
}

/// A product, and how many pieces of it lie where.
#[utoipa::path(
    get, path = "/api/v1/products/{id}", tag = "shop", params(("id" = String, Path)),
    responses((status = 200, body = Product), (status = 404, description = "There is no such product")),
)]
async fn product(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let product = app.shop.product(&id).await?;
    Ok(for_everybody(catalog::group(&id), &product))
}

/// The caller's cart, at the prices of now.
#[utoipa::path(get, path = "/api/v1/cart", tag = "shop", responses((status = 200, body = Cart)))]
async fn cart(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    Ok(Json(app.shop.cart(&caller).await?).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LineChange {
    quantity: Quantity,
}

/// Has the cart hold so many pieces of a product.
#[utoipa::path(
    put, path = "/api/v1/cart/items/{product}", tag = "shop", params(("product" = String, Path)),
    request_body = LineChange,
    responses(
        (status = 204),
        (status = 404, description = "There is no such product"),
        (status = 409, description = "The cart has 50 other products"),
    ),
)]
async fn put_line(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(product): Path<String>,
    Body(change): Body<LineChange>,
) -> Result<Response, Problem> {
    app.shop.put(&caller, &product, change.quantity).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes a product out of the cart, if it is in it.
#[utoipa::path(
    delete, path = "/api/v1/cart/items/{product}", tag = "shop", params(("product" = String, Path)),
    responses((status = 204)),
)]
async fn remove_line(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(product): Path<String>,
) -> Result<Response, Problem> {
    app.shop.remove(&caller, &product).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Makes an order of the cart and pays it, both or neither. A repeat under the same key gets the same order.
#[utoipa::path(
    post, path = "/api/v1/orders", tag = "shop", request_body = Checkout,
    params(("Idempotency-Key" = String, Header, description = "What the client calls this order")),
    responses(
        (status = 201, body = Order),
        (status = 402, description = "The payment is declined"),
        (status = 409, description = "The cart is empty, there is too little of something, or the key is under way"),
        (status = 422, description = "The key stands for another request"),
    ),
)]
async fn place_order(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: HeaderMap,
    Body(checkout): Body<Checkout>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of(&fields).map_err(|detail| Problem::invalid("Idempotency-Key", detail))?;
    let answer = app.shop.order(&caller, key, &checkout).await?;
    let fields = [
        (LOCATION, format!("/api/v1/orders/{}", answer.order)),
        (CACHE_GROUP_INVALIDATION, answer.invalidated),
        (CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((StatusCode::CREATED, fields, answer.json).into_response())
}

/// The caller's orders, the newest first.
#[utoipa::path(
    get, path = "/api/v1/orders", tag = "shop", params(PageQuery),
    responses((status = 200, body = Page<OrderSummary>)),
)]
async fn orders(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    Ok(Json(app.shop.orders(&caller, &query).await?).into_response())
}

/// One of the caller's orders.
#[utoipa::path(
    get, path = "/api/v1/orders/{id}", tag = "shop", params(("id" = String, Path)),
    responses((status = 200, body = Order), (status = 404, description = "The caller has no such order")),
)]
async fn order(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(Json(app.shop.order_of(&caller, &id).await?).into_response())
}

/// How one of the caller's orders was paid.
#[utoipa::path(
    get, path = "/api/v1/orders/{id}/payment", tag = "shop", params(("id" = String, Path)),
    responses((status = 200, body = Payment), (status = 404, description = "The caller has no such order")),
)]
async fn payment(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(Json(app.shop.payment_of(&caller, &id).await?).into_response())
}

fn for_everybody(groups: String, answer: &impl serde::Serialize) -> Response {
    ([(CACHE_CONTROL, AT_THE_EDGE.to_owned()), (CACHE_GROUPS, groups)], Json(answer)).into_response()
}

impl From<ShopError> for Problem {
    fn from(error: ShopError) -> Self {
        let conflict = |code, detail: &'static str| Self::new(StatusCode::CONFLICT, code, detail);
        match error {
            ShopError::Store(error) => error.into(),
            ShopError::Gone => Self::not_found(),
            ShopError::CartFull => conflict("cart-full", "a cart holds at most 50 products"),
            ShopError::CartEmpty => conflict("cart-empty", "there is nothing in the cart to order"),
            ShopError::SoldOut(short) => {
                let problem = conflict("sold-out", "there is less of something than the cart has; nothing was ordered");
                short.into_iter().fold(problem, |problem, short| {
                    problem.at(format!("cart.{}", short.product), format!("only {} left", short.on_hand))
                })
            }
            ShopError::TooMuch => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-much", "the total is too large"),
            ShopError::Declined(declined) => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "payment-declined", declined.to_string())
            }
            ShopError::UnderWay => {
                conflict("under-way", "a request under this Idempotency-Key is being carried out; repeat it later")
            }
            ShopError::KeyOfAnother => {
                let detail = "this Idempotency-Key stands for another request; give this one a key of its own";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
            }
        }
    }
}
