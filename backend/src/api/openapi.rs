//! The description of all routes (OpenAPI 3.1), and the page that shows it. What every route has, such as problems and
//! the proof of who asks, is added here and not repeated at each.

use axum::response::Html;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::Policy;
use super::problem::Details;

const BEARER: &str = "bearer";

/// A description without routes.
pub fn begin() -> OpenApi {
    let mut schemas = vec![(Details::name().into_owned(), Details::schema())];
    Details::schemas(&mut schemas);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token that signing in gives."))
        .build();
    let components =
        ComponentsBuilder::new().schemas_from_iter(schemas).security_scheme(BEARER, SecurityScheme::Http(bearer));
    let info = InfoBuilder::new()
        .title("Tollgate's backend app")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The app that Tollgate's example configuration puts behind the proxy."));
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// Adds one route. Its policy becomes the security of each operation, and stands in `x-policy`.
pub fn add(api: &mut OpenApi, schemas: &[(String, RefOr<Schema>)], path: &str, mut item: PathItem, policy: Policy) {
    for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch] {
        let Some(operation) = operation else { continue };
        let token = SecurityRequirement::new(BEARER, Vec::<String>::new());
        operation.security = match policy {
            Policy::Anonymous => None,
            // An empty requirement is one that everybody meets.
            Policy::Anyone => Some(vec![SecurityRequirement::default(), token]),
            Policy::User | Policy::Owner => Some(vec![token]),
        };
        let said = serde_json::to_value(policy).unwrap_or_default();
        operation.extensions.get_or_insert_default().merge(ExtensionsBuilder::new().add("x-policy", said).build());
        operation.responses.responses.entry("default".to_owned()).or_insert_with(|| RefOr::T(problem()));
    }
    if let Some(components) = &mut api.components {
        components.schemas.extend(schemas.iter().cloned());
    }
    match api.paths.paths.get_mut(path) {
        Some(there) => there.merge_operations(item),
        None => drop(api.paths.paths.insert(path.to_owned(), item)),
    }
}

fn problem() -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Details::name())));
    ResponseBuilder::new().description("What went wrong").content("application/problem+json", content.build()).build()
}

/// A page that shows `/openapi.json`. It loads nothing from elsewhere.
pub async fn show() -> Html<&'static str> {
    Html(include_str!("openapi.html"))
}
