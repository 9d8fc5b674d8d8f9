//! What changed in compression.

use crate::config::{Coding, Compress, Levels, TypePattern};

use super::{Bytes, Changes, Shown, on};

impl Changes {
    pub(super) fn compress(&mut self, old: Option<&Compress>, new: Option<&Compress>) {
        let (Some(old), Some(new)) = (old, new) else {
            return self.value("compression", &on(old.is_some()), &on(new.is_some()));
        };
        let Compress { codings, levels, min_size, types } = old;
        self.value("compression by", &codings.as_slice(), &new.codings.as_slice());
        let Levels { gzip, br, zstd } = levels;
        self.value("level of gzip", gzip, &new.levels.gzip);
        self.value("level of br", br, &new.levels.br);
        self.value("level of zstd", zstd, &new.levels.zstd);
        self.value("smallest size that is compressed", &Bytes(*min_size), &Bytes(new.min_size));
        self.members("compressed type", types, &new.types);
    }
}

impl Shown for &[Coding] {
    fn shown(&self) -> String {
        self.iter().map(|coding| coding.word()).collect::<Vec<_>>().join(", ")
    }
}

impl Shown for TypePattern {
    fn shown(&self) -> String {
        self.to_string()
    }
}
