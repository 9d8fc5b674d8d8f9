//! `[rate_limit.NAME]`, and the limits that routes name.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::decode::Map;
use crate::config::diagnostics::Diagnostic;
use crate::config::file::{self, File};
use crate::config::nearest::did_you_mean;
use crate::config::section::{List, Setting};
use crate::config::value::AlgorithmWord;
use crate::config::{Algorithm, Quota, ROUTE_LIMITS_MAX, RateLimit};

use super::Lowering;

const WINDOW_MAX: Duration = Duration::from_secs(86_400);

impl Lowering<'_> {
    pub(super) fn rate_limits(&mut self, limits: &Map<file::RateLimit>) -> Vec<RateLimit> {
        limits.entries.iter().filter_map(|(name, section)| self.rate_limit(name, section)).collect()
    }

    fn rate_limit(&mut self, name: &Setting<String>, setting: &Setting<file::RateLimit>) -> Option<RateLimit> {
        let section = &setting.value;
        // The name is a label of metrics, and stands in a field between quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(plain) {
            let error = Diagnostic::error(name.origin, format!("`{}` is not a name for a rate limit", name.value));
            self.report(error.label("expected up to 64 letters, digits, `-`, `_` and `.`"));
        }
        let algorithm = self.algorithm(setting);
        let window = section.window.as_ref()?;
        if window.value.0.subsec_nanos() > 0 || window.value.0 > WINDOW_MAX {
            let error = Diagnostic::error(window.origin, "not a window that is counted in");
            self.report(error.label("expected whole seconds, \"1d\" at most"));
        }
        Some(RateLimit {
            name: name.value.clone(),
            quota: Quota {
                key: section.key.value.clone(),
                ipv6_prefix: u8::try_from(section.ipv6_prefix.value.0).unwrap_or(u8::MAX),
                requests: section.requests.as_ref()?.value.0,
                window: window.value.0,
                algorithm: algorithm?,
            },
            exempt: section.exempt.value.iter().map(|network| network.value).collect(),
            dry_run: section.dry_run.value,
            headers: section.headers.value,
            keys_max: section.keys_max.value.to_usize(),
        })
    }

    fn algorithm(&mut self, setting: &Setting<file::RateLimit>) -> Option<Algorithm> {
        let algorithm = &setting.value.algorithm;
        match (algorithm.value, &setting.value.burst) {
            (AlgorithmWord::Gcra, Some(burst)) => Some(Algorithm::Gcra { burst: burst.value.0 }),
            (AlgorithmWord::Gcra, None) => {
                if !setting.tainted {
                    let error = Diagnostic::error(algorithm.origin, "`gcra` needs `burst`").label("without a burst");
                    self.report(error.help("`burst` is how many are let through at once: 1 is none before its time"));
                }
                None
            }
            (AlgorithmWord::Window, None) => Some(Algorithm::Window),
            (AlgorithmWord::Window, Some(burst)) => {
                let error = Diagnostic::error(burst.origin, "`burst` is for `algorithm = \"gcra\"`");
                self.report(error.label("has no effect here").help(
                    "a window lets all of its requests through at once if they come at once; for places that come \
                     back evenly, write `algorithm = \"gcra\"`",
                ));
                Some(Algorithm::Window)
            }
        }
    }

    /// The limits that a route names, or `[client]` for all routes: known ones, each once.
    pub(super) fn named_limits(&mut self, names: &List<String>, file: &Setting<File>) -> Vec<String> {
        let Map { entries, unread } = &file.value.rate_limit.value;
        let known = || entries.iter().map(|(name, _)| name.value.as_str()).chain(unread.iter().map(String::as_str));
        // Without any, while something in the file could not be read, their table may be what was misspelt.
        let complete = !file.tainted || !entries.is_empty();
        let mut listed: Vec<String> = Vec::with_capacity(names.len());
        for name in names {
            if listed.contains(&name.value) {
                let error = Diagnostic::error(name.origin, format!("`{}` is given twice", name.value));
                self.report(error.label("counts once"));
            } else if known().any(|known| known == name.value) {
                listed.push(name.value.clone());
            } else if complete {
                let error = Diagnostic::error(name.origin, format!("there is no rate limit `{}`", name.value));
                let help = did_you_mean(&name.value, known());
                let help = help.or_else(|| Some(format!("define it: `[rate_limit.{}]`", name.value)));
                self.report(error.label("not defined").maybe_help(help));
            }
        }
        if let Some(beyond) = names.get(ROUTE_LIMITS_MAX) {
            let error = Diagnostic::error(beyond.origin, format!("more than {ROUTE_LIMITS_MAX} limits for one route"));
            self.report(error.label("one too many"));
        }
        listed
    }

    /// A warning for each limit that nobody names.
    pub(super) fn unused_limits(&mut self, file: &File) {
        // A route that could not be read may be the one that names it.
        if file.route.value.iter().any(|route| route.tainted) {
            return;
        }
        let of_routes = file.route.value.iter().filter_map(|route| route.value.rate_limit.as_ref());
        let named = of_routes.chain([&file.client.value.rate_limit]).flat_map(|names| &names.value);
        let named: BTreeSet<&str> = named.map(|name| name.value.as_str()).collect();
        for (name, _) in &file.rate_limit.value.entries {
            if !named.contains(name.value.as_str()) {
                let message = format!("rate limit `{}` is used by no route", name.value);
                let warning = Diagnostic::warning(name.origin, message).label("counts nothing");
                self.report(warning.help("routes name it: `rate_limit = [\"…\"]`, `[client]` for all of them"));
            }
        }
    }
}
