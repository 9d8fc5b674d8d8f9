//! `/api/v1`: what is here, and as whom the client is known.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::{Caller, Policy, Route};

pub fn routes() -> Vec<Route> {
    vec![Route::new(routes!(index)).policy(Policy::Anyone)]
}

#[derive(Serialize, ToSchema)]
struct Index {
    version: &'static str,
    /// All routes, for programs.
    #[schema(example = "/openapi.json")]
    description: &'static str,
    /// All routes, for people.
    #[schema(example = "/docs")]
    docs: &'static str,
    /// Whose token came with the request; null if none did.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    user: Option<String>,
}

/// Where the routes are described, and whether the client's token is good.
#[utoipa::path(get, path = "/api/v1", tag = "operation", responses((status = 200, body = Index)))]
async fn index(caller: Option<Caller>) -> Json<Index> {
    Json(Index {
        version: env!("CARGO_PKG_VERSION"),
        description: "/openapi.json",
        docs: "/docs",
        user: caller.map(|caller| caller.user),
    })
}
