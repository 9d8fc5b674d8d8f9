//! An explanation by a file that nobody serves: a generation is built as for serving, and never activated.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::usage;
use crate::cache::Cache;
use crate::cli::{Failure, output};
use crate::clock;
use crate::config::{self, Environment};
use crate::overload::Overload;
use crate::proxy::explain::shape::{Explanation, Question};
use crate::proxy::explain::{self, Ground};
use crate::snapshot::{Lasting, Snapshot};
use crate::telemetry::Metrics;
use crate::tls::Certificates;

pub fn explain(path: &Path, question: &Question) -> Result<Explanation, Failure> {
    let loaded = config::load(path, &Environment::system())
        .map_err(|unusable| Failure::Config(unusable.diagnostics.render(output::has_colour())))?;
    let certificates = Certificates::new()?;
    let metrics = Metrics::new(clock::system_time());
    let cache = Cache::new(loaded.config.cache.limits(), 1)?;
    let overload = Overload::default();
    let lasting =
        Lasting { certificates: &certificates, metrics: &metrics, cache: &cache, overload: &overload, spans: None };
    let snapshot = Arc::new(Snapshot::build(loaded.config, None, &lasting)?);
    let ground = Ground {
        snapshot: &snapshot,
        cache: &cache,
        overload: &overload,
        bound: &BTreeMap::new(),
        is_live: false,
        // Who reads the file sees them there.
        shows_secrets: true,
        now: clock::now(),
    };
    explain::explain(&ground, question).map_err(usage)
}
