//! `[compress]`, and `compress` of a route.

use crate::config::decode::{Decoder, Switch};
use crate::config::diagnostics::Diagnostic;
use crate::config::file::{self, File};
use crate::config::section::{List, Setting};
use crate::config::{Coding, Compress, Levels, TypePattern};

use super::Lowering;

/// What routes start from.
pub struct Base {
    is_on: bool,
    values: Compress,
}

impl Base {
    pub fn in_effect(&self) -> Option<Compress> {
        self.is_on.then(|| self.values.clone())
    }
}

impl Lowering<'_> {
    pub(super) fn compress(&mut self, file: &File) -> Base {
        match &file.compress.value {
            Switch(Some(section)) => Base { is_on: true, values: self.compress_values(section) },
            Switch(None) => Base { is_on: false, values: self.compress_values(&Decoder::defaults(file.profile.value)) },
        }
    }

    fn compress_values(&mut self, section: &file::Compress) -> Compress {
        let file::Compress { codings, level, min_size, types } = section;
        let file::Levels { gzip, br, zstd } = &level.value;
        Compress {
            codings: self.codings(codings),
            levels: Levels { gzip: gzip.value.0, br: br.value.0, zstd: zstd.value.0 },
            min_size: min_size.value.0,
            types: patterns(types),
        }
    }

    pub(super) fn route_compress(
        &mut self,
        own: Option<&Setting<Switch<file::RouteCompress>>>,
        base: &Base,
    ) -> Option<Compress> {
        let Some(Setting { value: Switch(own), .. }) = own else { return base.in_effect() };
        let file::RouteCompress { codings, level, min_size, types } = own.as_ref()?;
        let mut compress = base.values.clone();
        if let Some(codings) = codings {
            compress.codings = self.codings(codings);
        }
        if let Some(level) = level {
            let Levels { gzip, br, zstd } = &mut compress.levels;
            *gzip = level.value.gzip.as_ref().map_or(*gzip, |level| level.value.0);
            *br = level.value.br.as_ref().map_or(*br, |level| level.value.0);
            *zstd = level.value.zstd.as_ref().map_or(*zstd, |level| level.value.0);
        }
        compress.min_size = min_size.as_ref().map_or(compress.min_size, |size| size.value.0);
        if let Some(types) = types {
            compress.types = patterns(types);
        }
        Some(compress)
    }

    fn codings(&mut self, codings: &Setting<List<Coding>>) -> Vec<Coding> {
        if codings.value.is_empty() && !codings.tainted {
            let error = Diagnostic::error(codings.origin, "there is no coding to compress with");
            self.report(error.help("`compress = false` switches compression off"));
        }
        let mut listed: Vec<Coding> = Vec::with_capacity(codings.value.len());
        for coding in &codings.value {
            if listed.contains(&coding.value) {
                let message = format!("`{}` is given twice", coding.value.word());
                self.report(Diagnostic::error(coding.origin, message).label("the first place counts"));
            } else {
                listed.push(coding.value);
            }
        }
        listed
    }
}

fn patterns(types: &Setting<List<TypePattern>>) -> Vec<TypePattern> {
    types.value.iter().map(|pattern| pattern.value.clone()).collect()
}
