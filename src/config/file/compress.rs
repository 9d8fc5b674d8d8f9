//! `[compress]`, and `compress` of a route.

use crate::config::decode::{Decode, Decoder, Field};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{Count, Size};
use crate::config::{Coding, TypePattern};

/// Higher levels take longer than a worker may be held for a gain of one or two per cent.
pub type GzipLevel = Count<1, 9>;
pub type BrLevel = Count<1, 6>;
pub type ZstdLevel = Count<1, 9>;

section! {
    /// Compression of responses. `compress = true` or `false` in place of the table, or in a route, switches it on or
    /// off. Not compressed are parts of a content (206), what is coded already or `no-transform`, responses with
    /// `Set-Cookie`, and responses to requests with `x-no-compression` or with a password (`Authorization: Basic`).
    Compress "[compress]" {
        /// What is offered; of what a client likes equally well, the first.
        codings: Setting<List<Coding>> = Value("[\"zstd\", \"br\", \"gzip\"]");
        /// How much time to spend for how few bytes.
        level: Setting<Levels> = Value("{}");
        /// Smaller responses stay as they are. A response whose size is not known before its end is compressed.
        min_size: Setting<Size> = Value("\"1KiB\""), nginx "gzip_min_length";
        /// Content types that are compressed; `*` stands for any part of a subtype. gRPC never is.
        types: Setting<List<TypePattern>> = Value("[\"text/*\", \"application/json\", \"application/*+json\", \"application/javascript\", \"application/xml\", \"application/*+xml\", \"application/wasm\", \"image/svg+xml\"]"), nginx "gzip_types";
    }
}

section! {
    /// Levels of the codings.
    Levels "`level`" {
        /// Of gzip; 1 is the fastest.
        gzip: Setting<GzipLevel> = Value("6"), nginx "gzip_comp_level";
        /// Of Brotli.
        br: Setting<BrLevel> = Value("4"), nginx "brotli_comp_level";
        /// Of Zstandard.
        zstd: Setting<ZstdLevel> = Value("3"), nginx "zstd_comp_level";
    }
}

section! {
    /// What a route does otherwise than `[compress]`.
    RouteCompress "`compress`" {
        /// What is offered.
        codings: Option<Setting<List<Coding>>> = Absent("those of [compress]");
        /// Levels of the codings.
        level: Option<Setting<RouteLevels>> = Absent("those of [compress]");
        /// Smaller responses stay as they are.
        min_size: Option<Setting<Size>> = Absent("that of [compress]");
        /// Content types that are compressed.
        types: Option<Setting<List<TypePattern>>> = Absent("those of [compress]");
    }
}

section! {
    /// Levels of the codings.
    RouteLevels "`level`" {
        /// Of gzip.
        gzip: Option<Setting<GzipLevel>> = Absent("that of [compress]");
        /// Of Brotli.
        br: Option<Setting<BrLevel>> = Absent("that of [compress]");
        /// Of Zstandard.
        zstd: Option<Setting<ZstdLevel>> = Absent("that of [compress]");
    }
}
