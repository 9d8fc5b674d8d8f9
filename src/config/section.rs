//! `section!`: one declaration of a table of the file, from which everything else about it is made.
//!
//! A declaration says, for each key: its Rust type, its default (by profile where it differs), a sentence
//! for the operator, whether only a restart takes a change, and nginx's name for it. From it come the
//! struct with the place of each value, its decoder, the JSON schema, `docs/configuration.md` and
//! `check --effective`.

use super::decode::Decoder;
use super::diagnostics::Origin;
use super::tree::Table;

/// A value that the file gives or a default stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
    /// Something in it could not be read, so what seems to be missing may only be misspelt.
    pub tainted: bool,
}

/// A list in which each item knows its place.
pub type List<T> = Vec<Setting<T>>;

/// What is declared of one key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    doc: &'static str,
    pub fallback: Fallback,
    pub shape: fn() -> Shape,
    /// A reload does not take a change.
    pub restart: bool,
    /// The directive of nginx that does the same, or nothing.
    pub nginx: &'static str,
}

impl Key {
    pub const fn new(name: &'static str, doc: &'static str, fallback: Fallback, shape: fn() -> Shape) -> Self {
        Self { name, doc, fallback, shape, restart: false, nginx: "" }
    }

    pub const fn restart(self) -> Self {
        Self { restart: true, ..self }
    }

    pub const fn nginx(self, nginx: &'static str) -> Self {
        Self { nginx, ..self }
    }

    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

/// What holds when the file does not give a key. Values are written as TOML writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Required,
    /// The words say what its absence means.
    Absent(&'static str),
    Value(&'static str),
    ByProfile {
        development: &'static str,
        staging: &'static str,
        production: &'static str,
    },
}

/// What a value looks like in the file.
#[derive(Debug, Clone)]
pub enum Shape {
    Bool,
    /// `false` alone.
    False,
    Integer {
        min: u64,
        max: u64,
    },
    /// A string; what kind of text, and an example.
    Text {
        what: &'static str,
        example: &'static str,
    },
    /// A string that no message quotes.
    Secret {
        what: &'static str,
        example: &'static str,
    },
    /// A number from 0 to 1.
    Share,
    Duration,
    Size,
    Rate,
    Words(Vec<&'static str>),
    List(Box<Shape>),
    /// Keys of the operator's choice.
    Map(Box<Shape>),
    Section(SectionShape),
    Either(Vec<Shape>),
}

#[derive(Debug, Clone, Copy)]
pub struct SectionShape {
    pub name: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// A table whose keys are known.
pub trait Section: Sized {
    const SHAPE: SectionShape;

    /// Reads every key. What cannot be read is reported, and its default stands in.
    fn from_table(table: &Table, origin: Origin, decoder: &mut Decoder) -> Self;
}

macro_rules! section {
    ($(#[doc = $about:literal])+ $section:ident $name:literal {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $fallback:expr $(, $word:ident $($argument:literal)?)*;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $key: $type,)*
        }

        impl Section for $section {
            const SHAPE: SectionShape = SectionShape {
                name: $name,
                about: concat!($($about),+),
                keys: &[$(section!(@key $key $type, $fallback, [$($doc)+] $(, $word $($argument)?)*),)*],
            };

            fn from_table(table: &Table, origin: Origin, decoder: &mut Decoder) -> Self {
                decoder.refuse_unknown(table, &Self::SHAPE);
                $(
                    let $key = <$type as Field>::take(
                        table,
                        &section!(@key $key $type, $fallback, [$($doc)+] $(, $word $($argument)?)*),
                        origin,
                        decoder,
                    );
                )*
                Self { $($key),* }
            }
        }

        impl Decode for $section {
            fn shape() -> Shape {
                Shape::Section(Self::SHAPE)
            }

            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                decoder.section(node)
            }

            fn is_leaf(_: &Node) -> bool {
                false
            }
        }
    };
    (@key $key:ident $type:ty, $fallback:expr, [$($doc:literal)+] $(, $word:ident $($argument:literal)?)*) => {
        Key::new(stringify!($key), concat!($($doc),+), $fallback, <$type as Field>::shape)$(.$word($($argument)?))*
    };
}

pub(super) use section;
