//! Values that are one of a few words.

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::nearest::nearest;
use crate::config::section::Shape;
use crate::config::tree::Node;
use crate::config::{
    AccessFormat, Balance, CachedCookies, Coding, LimitHeaders, LogLevel, Profile, Reload, TlsVersion,
    UpstreamProtocol, WhenAllFail,
};

macro_rules! words {
    ($($type:ty { $($word:literal => $value:ident),+ $(; later $($later:literal),+)? })*) => {$(
        impl $type {
            /// As the file writes it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl Decode for $type {
            fn shape() -> Shape {
                Shape::Words(vec![$($word),+])
            }

            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                let words = [$($word),+];
                decoder.text(node, &format!("one of {}", listed(&words)), |text| {
                    let value = [$(Self::$value),+].into_iter().find(|value| value.word() == text);
                    value.ok_or_else(|| match text {
                        $($($later)|+ => Problem::new(format!("`{text}` is not supported by this version")),)?
                        _ => wrong_word(text, &words),
                    })
                })
            }
        }
    )*};
}

words! {
    Profile { "development" => Development, "staging" => Staging, "production" => Production }
    Reload { "watch" => Watch, "signal" => Signal }
    TlsVersion { "1.2" => Tls12, "1.3" => Tls13 }
    UpstreamProtocol { "h1" => H1, "h2" => H2 }
    Balance { "least-connections" => LeastConnections, "round-robin" => RoundRobin, "random-two" => RandomTwo, "hash" => Hash }
    CachedCookies { "explicit" => Explicit, "bypass" => Bypass, "ignore" => Ignore, "store" => Store }
    WhenAllFail { "use-all" => UseAll, "refuse" => Refuse }
    LogLevel { "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace }
    AccessFormat { "line" => Line, "json" => Json, "combined" => Combined }
    Coding { "zstd" => Zstd, "br" => Br, "gzip" => Gzip }
    Protocol { "h1" => H1, "h2" => H2; later "h3" }
    StatusPage { "stub" => Stub }
    AlgorithmWord { "window" => Window, "gcra" => Gcra }
    LimitHeaders { "draft" => Draft, "x" => X, "both" => Both, "off" => Off }
}

/// What a listener can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    H1,
    H2,
}

/// A page that the proxy itself makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPage {
    Stub,
}

/// How a rate limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgorithmWord {
    Window,
    Gcra,
}

fn wrong_word(text: &str, words: &[&'static str]) -> Problem {
    let problem = Problem::new(format!("`{text}` is not one of {}", listed(words)));
    // Names that other proxies and people use for the same thing.
    let same = match text.to_ascii_lowercase().as_str() {
        "dev" => "development",
        "prod" => "production",
        "warning" => "warn",
        "least_conn" | "leastconn" | "least-conn" => "least-connections",
        "rr" | "roundrobin" => "round-robin",
        "random" | "random two" | "p2c" => "random-two",
        "ip_hash" | "ip-hash" | "consistent" | "sticky" => "hash",
        "http/1.1" | "http1" | "http" | "h1.1" => "h1",
        "http/2" | "http2" | "h2c" | "grpc" => "h2",
        "brotli" => "br",
        "zstandard" => "zstd",
        "gz" | "x-gzip" | "deflate" => "gzip",
        "sliding-window" | "sliding_window" | "log" => "window",
        "leaky-bucket" | "token-bucket" | "leaky_bucket" | "token_bucket" => "gcra",
        "x-ratelimit" => "x",
        "ietf" => "draft",
        "tlsv1.2" => "1.2",
        "tlsv1.3" => "1.3",
        _ => "",
    };
    let meant = words.iter().copied().find(|word| *word == same).or_else(|| nearest(text, words.iter().copied()));
    match meant {
        Some(word) => problem.help(format!("did you mean \"{word}\"?")),
        None => problem,
    }
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
