//! `[cache]` and the `cache` of routes.

use std::time::Duration;

use crate::config::decode::Map;
use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::file;
use crate::config::section::{List, Setting};
use crate::config::units::show_size;
use crate::config::value::ParameterText;
use crate::config::{Bypass, Cache, CacheRule, CachedQuery, Dependency, RouteCache, Ttl, Warm};
use crate::division::{Division, LimitsError};
use crate::pattern::Pattern;

use super::Lowering;

const MIB: u64 = 1 << 20;

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
        let cache = Cache {
            enabled: section.enabled.value,
            memory: section.memory.value.0,
            object_max: section.object_max.value.0,
            entries_max: section.entries_max.value.to_usize(),
            targets: section.targets.value.iter().map(|name| name.value.clone()).collect(),
            rules,
            dependencies: self.dependencies(&section.dependencies.value),
            warm: section.warm.as_ref().map(|warm| self.warm(warm)),
        };
        // How many parts there are is a matter of the machine; whether the largest object fits in one is not.
        if let Err(error) = Division::of(cache.limits(), 1) {
            self.does_not_fit(section, error);
        }
        cache
    }

    fn warm(&mut self, setting: &Setting<file::Warm>) -> Warm {
        let file::Warm { pages, sitemap, access_log, top, host, concurrency } = &setting.value;
        if pages.value.is_empty() && sitemap.is_none() && access_log.is_none() && !setting.tainted {
            let error = Diagnostic::error(setting.origin, "there is nothing to ask for");
            self.report(error.label("expected `pages`, `sitemap` or `access_log`"));
        }
        Warm {
            pages: pages.value.iter().map(|page| page.value.0.clone()).collect(),
            sitemap: sitemap.as_ref().map(|sitemap| sitemap.value.0.clone()),
            access_log: access_log.as_ref().map(|log| self.resolve(&log.value.0, log.origin)),
            top: top.value.to_usize(),
            host: host.as_ref().map(|host| host.value.0.clone()),
            concurrency: concurrency.value.to_usize(),
        }
    }

    fn does_not_fit(&mut self, section: &file::Cache, error: LimitsError) {
        let (memory, object_max) = (&section.memory, &section.object_max);
        let size = show_size(object_max.value.0);
        let LimitsError::MemoryTooSmall { needed_bytes, .. } = error else {
            self.report(Diagnostic::error(section.entries_max.origin, error.to_string()));
            return;
        };
        let needed = show_size(needed_bytes.next_multiple_of(MIB));
        let message = format!("responses of {size} need a cache memory of {needed}");
        let help = "they must fit into three quarters of the memory; the rest is for responses on their way";
        let found = match object_max.origin {
            Origin::File(_) => Diagnostic::error(object_max.origin, message)
                .label("larger than what can be kept")
                .also(memory.origin, "the memory"),
            _ => Diagnostic::error(memory.origin, message).label(format!("`object_max` is {size} if it is not given")),
        };
        self.report(found.help(help));
    }

    fn dependencies(&mut self, map: &Map<List<Pattern>>) -> Vec<Dependency> {
        let mut rows = Vec::with_capacity(map.entries.len());
        for (name, dependents) in &map.entries {
            match Pattern::new(&name.value) {
                Ok(pattern) => rows.push(Dependency {
                    name: pattern,
                    dependents: dependents.value.iter().map(|name| name.value.clone()).collect(),
                }),
                Err(error) => {
                    let message = format!("`{}` is no name for a purge: {error}", name.value);
                    self.report(Diagnostic::error(name.origin, message).label("expected a tag or a path"));
                }
            }
        }
        rows
    }

    pub(super) fn route_cache(&mut self, section: &file::RouteCache) -> RouteCache {
        self.outlives_its_clients(section.ttl.as_ref());
        let file::CacheKey { query_keep, query_ignore, fields } = &section.key.value;
        let names = |list: &[Setting<ParameterText>]| list.iter().map(|name| name.value.0.clone()).collect::<Vec<_>>();
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
            purge_by_response: section.purge_by_response.value,
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
