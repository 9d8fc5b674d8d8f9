//! `[cache]` and the `cache` of routes.

use std::time::Duration;

use crate::config::diagnostics::Diagnostic;
use crate::config::file;
use crate::config::section::Setting;
use crate::config::{Bypass, Cache, CacheRule, CachedQuery, NamePattern, RouteCache, Ttl};

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn cache(&mut self, section: &file::Cache) -> Cache {
        let rule = |rule: &Setting<file::CacheRule>| {
            let file::CacheRule { content_type, ttl, default_ttl } = &rule.value;
            Some(CacheRule {
                content_type: content_type.as_ref()?.value.clone(),
                ttl: ttl_of(ttl.as_ref()),
                default_ttl: duration(default_ttl),
            })
        };
        let rules = section.rule.value.iter().filter_map(rule).collect();
        for rule in &section.rule.value {
            self.outlives_its_clients(rule.value.ttl.as_ref());
        }
        let (memory, object_max) = (&section.memory, &section.object_max);
        if object_max.value.0 > memory.value.0 / 2 {
            let error = Diagnostic::error(object_max.origin, "larger than half of the cache's memory");
            self.report(error.label("a single response would push all others out").also(memory.origin, "the memory"));
        }
        Cache {
            enabled: section.enabled.value,
            memory: memory.value.0,
            object_max: object_max.value.0,
            entries_max: section.entries_max.value.to_usize(),
            targets: section.targets.value.iter().map(|name| name.value.clone()).collect(),
            rules,
        }
    }

    pub(super) fn route_cache(&mut self, section: &file::RouteCache) -> RouteCache {
        self.outlives_its_clients(section.ttl.as_ref());
        let file::CacheKey { query_keep, query_ignore, fields } = &section.key.value;
        let names = |list: &[Setting<NamePattern>]| list.iter().map(|name| name.value.clone()).collect::<Vec<_>>();
        let ignored = names(&query_ignore.value);
        let query = match query_keep {
            Some(keep) => {
                if !ignored.is_empty() {
                    let error = Diagnostic::error(query_ignore.origin, "`query_keep` names all parameters that count");
                    self.report(error.label("has no effect here").also(keep.origin, "here"));
                }
                CachedQuery::Keep(names(&keep.value))
            }
            None if ignored.is_empty() => CachedQuery::All,
            None => CachedQuery::Ignore(ignored),
        };
        let words = |list: &[Setting<String>]| list.iter().map(|word| word.value.clone()).collect();
        let bypass = &section.bypass.value;
        RouteCache {
            default_ttl: duration(&section.default_ttl),
            ttl: ttl_of(section.ttl.as_ref()),
            stale_while_revalidate: duration(&section.stale_while_revalidate),
            stale_if_error: duration(&section.stale_if_error),
            cookies: section.cookies.value,
            query,
            key_fields: fields.value.iter().map(|name| name.value.clone()).collect(),
            bypass: Bypass {
                fields: bypass.fields.value.iter().map(|name| name.value.clone()).collect(),
                cookies: words(&bypass.cookies.value),
                query: words(&bypass.query.value),
            },
            object_max: section.object_max.as_ref().map(|size| size.value.0),
        }
    }

    /// A purge reaches this cache only: what clients keep for longer than it was meant to be kept stays there.
    fn outlives_its_clients(&mut self, ttl: Option<&Setting<file::Ttl>>) {
        let Some(ttl) = ttl else { return };
        let file::Ttl { edge: Some(edge), client: Some(client) } = &ttl.value else { return };
        if edge.value > client.value {
            let warning = Diagnostic::warning(edge.origin, "longer than what clients are told");
            self.report(warning.label("clients come back sooner").also(client.origin, "told to clients").help(
                "they are answered from this cache then; what is changed at the origin is seen after a purge only",
            ));
        }
    }
}

fn duration(setting: &Option<Setting<Duration>>) -> Option<Duration> {
    setting.as_ref().map(|duration| duration.value)
}

fn ttl_of(setting: Option<&Setting<file::Ttl>>) -> Ttl {
    setting
        .map_or_else(Ttl::default, |ttl| Ttl { edge: duration(&ttl.value.edge), client: duration(&ttl.value.client) })
}
