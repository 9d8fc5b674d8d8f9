//! The table of routes: what there is, for whom, and how it is described. It refuses what is not declared whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use super::entry::{Entry, enter};
use super::{Policy, openapi};
use crate::App;

const BODY_BYTES_MAX: usize = 1 << 20;

/// One path with what answers there.
pub struct Route {
    path: String,
    methods: MethodRouter<Arc<App>>,
    policy: Option<Policy>,
    kind: Kind,
}

enum Kind {
    /// Part of the app: described, counted, and held to its limits.
    Described { schemas: Vec<(String, RefOr<Schema>)>, item: Box<PathItem> },
    /// Made to try a proxy with: no limits, which would get in the way of that.
    Bench,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("the route {0} does not say for whom it is")]
    NoPolicy(String),
    #[error("the route {0} is for owners, and its path names nothing that could be owned")]
    NothingToOwn(String),
    #[error("the route {0} {1} is declared twice")]
    Twice(&'static str, String),
}

impl Route {
    /// A route of the app, as `routes!(handler)` gives it. Each handler is its own, because each has its policy.
    pub fn new((schemas, paths, methods): UtoipaMethodRouter<Arc<App>>) -> Self {
        let (path, item) = paths.paths.into_iter().next().unwrap_or_default();
        Self { path, methods, policy: None, kind: Kind::Described { schemas, item: Box::new(item) } }
    }

    /// A route to try a proxy with.
    pub fn bench(path: &str, methods: MethodRouter<Arc<App>>) -> Self {
        Self { path: path.to_owned(), methods, policy: None, kind: Kind::Bench }
    }

    /// Says for whom it is. Without this the server does not start.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }
}

/// All routes, found to be whole.
pub struct Table {
    routes: Vec<(Route, Policy)>,
}

impl Table {
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, RouteError> {
        let mut seen = BTreeSet::new();
        let mut checked = Vec::new();
        for route in routes {
            let policy = route.policy.ok_or_else(|| RouteError::NoPolicy(route.path.clone()))?;
            if policy == Policy::Owner && !route.path.contains('{') {
                return Err(RouteError::NothingToOwn(route.path));
            }
            if let Kind::Described { item, .. } = &route.kind
                && let Some((method, _)) =
                    operations(item).into_iter().find(|(method, _)| !seen.insert((*method, route.path.clone())))
            {
                return Err(RouteError::Twice(method, route.path));
            }
            checked.push((route, policy));
        }
        Ok(Self { routes: checked })
    }

    /// The routes of the app with what they share around them, and those of the bench as they are.
    pub fn router(self, app: &Arc<App>) -> Router<Arc<App>> {
        self.routes.into_iter().fold(Router::new(), |router, (route, policy)| {
            let methods = match route.kind {
                Kind::Bench => route.methods,
                Kind::Described { .. } => {
                    let entry = Entry::new(app.clone(), policy, &route.path);
                    let limited = route.methods.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
                    limited.layer(from_fn_with_state(entry, enter))
                }
            };
            router.route(&route.path, methods)
        })
    }

    /// What `/openapi.json` says.
    pub fn description(&self) -> OpenApi {
        let mut description = openapi::begin();
        for (route, policy) in &self.routes {
            if let Kind::Described { schemas, item } = &route.kind {
                openapi::add(&mut description, schemas, &route.path, (**item).clone(), *policy);
            }
        }
        description
    }
}

/// The operations of a path, each with its method.
pub(super) fn operations(item: &PathItem) -> Vec<(&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("PATCH", &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?))).collect()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use utoipa_axum::routes;

    use super::*;

    #[utoipa::path(get, path = "/thing/{id}", responses((status = 200)))]
    async fn thing() {}

    #[utoipa::path(get, path = "/things", responses((status = 200)))]
    async fn things() {}

    fn refusal(routes: impl IntoIterator<Item = Route>) -> Option<RouteError> {
        Table::new(routes).err()
    }

    #[test]
    fn a_route_that_is_not_declared_whole_is_refused() {
        let thing = || Route::new(routes!(thing));
        let things = || Route::new(routes!(things));
        assert_eq!(refusal([thing().policy(Policy::Owner), things().policy(Policy::User)]), None);
        assert_eq!(refusal([thing()]), Some(RouteError::NoPolicy("/thing/{id}".to_owned())));
        assert_eq!(refusal([Route::bench("/echo", get(self::things))]), Some(RouteError::NoPolicy("/echo".to_owned())));
        assert_eq!(refusal([things().policy(Policy::Owner)]), Some(RouteError::NothingToOwn("/things".to_owned())));
        assert_eq!(
            refusal([things().policy(Policy::User), things().policy(Policy::Anonymous)]),
            Some(RouteError::Twice("GET", "/things".to_owned()))
        );
    }
}
