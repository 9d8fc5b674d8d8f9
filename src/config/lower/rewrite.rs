//! `strip_prefix` and `rewrite` of a route.

use crate::config::diagnostics::Diagnostic;
use crate::config::file;
use crate::config::section::Setting;
use crate::config::{PathRewrite, Replacement};

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn path_rewrite(&mut self, section: &file::Route) -> PathRewrite {
        let prefix = section.strip_prefix.as_ref();
        if let (Some(prefix), Some(rewrite)) = (prefix, &section.rewrite) {
            let error = Diagnostic::error(rewrite.origin, "this route has both `strip_prefix` and `rewrite`");
            self.report(error.label("and here").also(prefix.origin, "here").help("`rewrite` can do both"));
        }
        if let (Some(prefix), Some(path)) = (prefix, &section.path) {
            let (prefix_text, path_text) = (prefix.value.0.trim_end_matches('/'), path.value.0.as_str());
            let below =
                path_text.strip_prefix(prefix_text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !below {
                let error = Diagnostic::error(prefix.origin, "no request of this route has that prefix");
                self.report(error.label("not in front of the path").also(path.origin, "the route's path"));
            }
        }
        if let Some(prefix) = prefix {
            return PathRewrite::StripPrefix(prefix.value.0.clone());
        }
        let Some(rewrite) = &section.rewrite else { return PathRewrite::Keep };
        let (Some(pattern), Some(to)) = (&rewrite.value.regex, &rewrite.value.to) else { return PathRewrite::Keep };
        self.unknown_groups(&pattern.value.0, to);
        self.unrooted(&pattern.value.0, to);
        PathRewrite::Regex { pattern: pattern.value.0.clone(), to: Box::new(to.value.clone()) }
    }

    /// A group that the pattern does not have would be replaced by nothing.
    fn unknown_groups(&mut self, pattern: &regex::Regex, to: &Setting<Replacement>) {
        let named: Vec<&str> = pattern.capture_names().flatten().collect();
        for reference in to.value.to_string().replace("$$", "").split('$').skip(1) {
            let braced = reference.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let bare = || reference.split(|c| !word(c)).next().unwrap_or_default();
            let name = braced.unwrap_or_else(bare);
            let known = match name.parse::<usize>() {
                Ok(index) => index < pattern.captures_len(),
                Err(_) => named.contains(&name),
            };
            if !known {
                let error = Diagnostic::error(to.origin, format!("the pattern has no group `{name}`"));
                let braces = name
                    .starts_with(|c: char| c.is_ascii_digit())
                    .then(|| "letters after a number belong to the name: write `${1}x`, not `$1x`".to_owned());
                self.report(error.maybe_help(braces.filter(|_| name.parse::<usize>().is_err())));
            }
        }
    }

    /// What replaces the beginning of a path has to begin as a path does.
    fn unrooted(&mut self, pattern: &regex::Regex, to: &Setting<Replacement>) {
        let replaces_the_root = pattern.as_str().starts_with("^/") && !pattern.as_str().contains('|');
        let path = &to.value.path;
        if replaces_the_root && !path.is_empty() && !path.starts_with(['/', '$']) {
            let error = Diagnostic::error(to.origin, "the new path does not start with `/`");
            self.report(error.help(format!("did you mean \"/{}\"?", to.value)));
        }
    }
}
