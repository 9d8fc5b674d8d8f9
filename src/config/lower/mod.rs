//! From the file's sections to one checked [`Config`]: what spans several keys is decided here.
//!
//! A part that is wrong is reported and left out, so that the others are checked as well. Files are read
//! through [`Environment`] alone.

mod admin;
mod cache;
mod compress;
mod fallback;
mod listeners;
mod rate_limits;
mod rewrite;
mod route_names;
mod routes;
mod server;
mod telemetry;
mod upstreams;

use std::path::{Path, PathBuf};

use super::Config;
use super::diagnostics::{Diagnostic, Lines, Origin, Source};
use super::environment::Environment;
use super::file::File;
use super::section::Setting;
use super::value::FilePath;

pub use self::server::connections_left;

/// What all checks share: what was read, what can be asked, what was found.
struct Lowering<'a> {
    sources: &'a [Source],
    /// Of each source.
    lines: Vec<Lines>,
    environment: &'a Environment,
    found: Vec<Diagnostic>,
    /// Files that the configuration names and whose content matters.
    files: Vec<PathBuf>,
}

/// The configuration as far as it could be made, what is wrong with it, and the files that it names.
pub fn lower(
    file: &Setting<File>,
    sources: &[Source],
    environment: &Environment,
) -> (Config, Vec<Diagnostic>, Vec<PathBuf>) {
    let lines = sources.iter().map(|source| Lines::of(&source.text)).collect();
    let mut lowering = Lowering { sources, lines, environment, found: Vec::new(), files: Vec::new() };
    let listeners = lowering.listeners(file);
    let upstreams = lowering.upstreams(&file.value.upstream.value);
    let compress = lowering.compress(&file.value);
    let routes = lowering.routes(file, &upstreams, &compress);
    let file = &file.value;
    lowering.unused_limits(file);
    let certificates = lowering.certificates(&file.certificate.value);
    lowering.unused_upstreams(&file.upstream.value, &file.route.value);
    let config = Config {
        profile: file.profile.value,
        server: lowering.server(&file.server.value, &listeners),
        listeners,
        certificates,
        client: lowering.client(&file.client.value),
        dns: server::dns(&file.dns.value),
        rate_limits: lowering.rate_limits(&file.rate_limit.value),
        cache: lowering.cache(&file.cache.value),
        upstreams,
        compress: compress.in_effect(),
        routes,
        admin: file.admin.as_ref().map(|admin| lowering.admin(&admin.value)),
        log: lowering.log(&file.log.value),
        telemetry: lowering.telemetry(file.telemetry.as_ref()),
    };
    (config, lowering.found, lowering.files)
}

impl Lowering<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// The path, from the folder of the file that names it.
    fn resolve(&self, path: &Path, origin: Origin) -> PathBuf {
        let source = self.sources.get(origin.span().map_or(0, |span| span.file));
        source.map_or_else(|| path.to_owned(), |source| source.folder.join(path))
    }

    /// The folder of the file that it stands in.
    fn folder(&self, origin: Origin) -> &Path {
        let source = self.sources.get(origin.span().map_or(0, |span| span.file));
        let folder = source.map_or(Path::new(""), |source| &source.folder);
        if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
    }

    /// The resolved path of a file that must be readable now.
    fn readable(&mut self, path: &Setting<FilePath>) -> (PathBuf, Option<String>) {
        let resolved = self.resolve(&path.value.0, path.origin);
        self.files.push(resolved.clone());
        match (self.environment.read)(&resolved) {
            Ok(text) => (resolved, Some(text)),
            Err(error) => {
                let message = format!("cannot read {}: {error}", resolved.display());
                self.report(Diagnostic::error(path.origin, message).label("this file"));
                (resolved, None)
            }
        }
    }

    /// `config.toml:12`
    fn place(&self, origin: Origin) -> String {
        let Some(span) = origin.span() else { return String::new() };
        let (Some(source), Some(lines)) = (self.sources.get(span.file), self.lines.get(span.file)) else {
            return String::new();
        };
        format!("{}:{}", source.name, lines.at(span.start).0)
    }
}
