//! What the configuration says of the responses of one route, ready to be asked.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use super::key::KeyRules;
use super::policy::{Heuristic, Rules};
use super::purge::Dependencies;
use super::statistics::RouteStatistics;
use crate::config::{self, Bypass, CachedCookies, Ttl, TypePattern};
use crate::header::forwarded::NAMED_BY_PEERS;
use crate::header::{cookies, media_type};

/// How a route uses the cache.
#[derive(Debug)]
pub struct Policy {
    by_type: Vec<(TypePattern, Applied)>,
    other: Applied,
    pub key: KeyRules,
    /// The largest response that is kept.
    pub object_max: u64,
    pub cookies: CachedCookies,
    bypass: Bypass,
    pub statistics: RouteStatistics,
    /// What goes with what responses purge; None if they may not.
    pub purges: Option<Dependencies>,
}

/// What holds for responses of one type.
#[derive(Debug)]
pub struct Applied {
    pub rules: Rules,
    /// What clients are told of the lifetime.
    pub ttl_client: Option<std::time::Duration>,
}

/// Fields that the edge makes itself, or that say who the client is: their values are not what the client sent, so
/// a response that depends on them is right for no other request. Scheme and host are in the key.
const OWN_FIELDS: [&str; 7] =
    ["forwarded", "x-forwarded-for", "x-real-ip", "x-request-id", "via", "traceparent", "tracestate"];

impl Policy {
    pub fn new(cache: &config::Cache, route: &config::RouteCache, statistics: RouteStatistics) -> Self {
        let applied = |ttl: Ttl, default_ttl| Applied {
            rules: Rules {
                heuristic: Some(Heuristic::default()),
                default_ttl,
                ttl_edge: ttl.edge,
                targets: cache.targets.clone(),
                store_set_cookie: route.cookies == CachedCookies::Store,
                ignore_cookie: route.cookies == CachedCookies::Ignore,
                stale_while_revalidate: route.stale_while_revalidate,
                stale_if_error: route.stale_if_error,
            },
            ttl_client: ttl.client,
        };
        let either = |rule: Ttl| Ttl { edge: route.ttl.edge.or(rule.edge), client: route.ttl.client.or(rule.client) };
        let by_type = cache
            .rules
            .iter()
            .map(|rule| (rule.content_type.clone(), applied(either(rule.ttl), rule.default_ttl.or(route.default_ttl))));
        Self {
            by_type: by_type.collect(),
            other: applied(route.ttl, route.default_ttl),
            key: KeyRules {
                query: route.query.clone(),
                // What a trusted peer says of the target, the origin believes.
                fields: route.key_fields.iter().chain(&NAMED_BY_PEERS).cloned().collect(),
            },
            object_max: route.object_max.unwrap_or(u64::MAX).min(cache.object_max),
            cookies: route.cookies,
            bypass: route.bypass.clone(),
            statistics,
            purges: route.purge_by_response.then(|| Dependencies::of(cache)),
        }
    }

    /// The rules for a response with these fields.
    pub fn of(&self, response: &HeaderMap) -> &Applied {
        // Without a look at the fields, which a hit has no need of otherwise.
        if self.by_type.is_empty() {
            return &self.other;
        }
        let essence = media_type::essence(response);
        let fits = self.by_type.iter().find(|(pattern, _)| pattern.matches(essence));
        fits.map_or(&self.other, |(_, applied)| applied)
    }

    /// Whether a request is one of those that are passed on.
    pub fn bypasses(&self, fields: &HeaderMap, query: Option<&str>) -> bool {
        if self.cookies == CachedCookies::Bypass && fields.contains_key(COOKIE) {
            return true;
        }
        let Bypass { fields: names, cookies: cookie_names, query: parameters } = &self.bypass;
        let is_sign = |value: &str| !value.is_empty() && value != "0";
        let in_field = |name: &HeaderName| fields.get_all(name).iter().any(|value| value.to_str().is_ok_and(is_sign));
        let in_cookies = |name: &String| cookies::all(fields, name).any(is_sign);
        let in_query = |name: &String| {
            let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
            pairs.any(|pair| pair.split_once('=').is_some_and(|(key, value)| key == name && is_sign(value)))
        };
        names.iter().any(in_field) || cookie_names.iter().any(in_cookies) || parameters.iter().any(in_query)
    }
}

/// Whether a response depends on what the edge itself says of a client.
pub fn depends_on_client(names: &[HeaderName]) -> bool {
    names.iter().any(|name| OWN_FIELDS.contains(&name.as_str()))
}
