//! What `Cache-Control` says, in requests and in responses (RFC 9111 §5.2), and the fields that stand in for it:
//! `Pragma` in requests (§5.4), and targeted fields in responses (RFC 9213).
//!
//! Reading never fails. A directive that this cache does not know changes nothing; one that it knows, with an
//! argument that makes no sense, is taken as strictly as it can be meant. Whether a response may be
//! stored or used is not decided here.

mod dictionary;
mod list;

use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

/// Longer than that is the same as that (RFC 9111 §1.2.2): 68 years.
pub const DELTA_MAX: Duration = Duration::from_secs(1 << 31);

/// The directives of one message. Those that only the other kind of message has are as if absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: Scope,
    pub private: Scope,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub no_transform: bool,
    pub immutable: bool,
    pub only_if_cached: bool,
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub min_fresh: Option<Duration>,
    pub max_stale: MaxStale,
    /// A targeted field said all this: `Cache-Control` and `Expires` do not count (RFC 9213 §2.2).
    pub targeted: bool,
}

/// What of a response `no-cache` or `private` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Nothing,
    /// These fields; the rest is not restricted.
    Fields(Vec<HeaderName>),
    /// The response.
    All,
}

/// How stale a response the client takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MaxStale {
    #[default]
    None,
    Any,
    For(Duration),
}

/// The argument of a directive, whichever syntax it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    Absent,
    Seconds(Duration),
    /// Of a quoted string, or a token that is not a number of seconds.
    Text(Vec<u8>),
    /// It has no meaning for any directive.
    Invalid,
}

impl Directives {
    /// Those of a request.
    pub fn of_request(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if fields.contains_key(CACHE_CONTROL) {
            list::read(fields.get_all(CACHE_CONTROL), |name, argument| directives.ask(name, argument));
        } else {
            // RFC 9111 §5.4: `Pragma` counts where `Cache-Control` is not there to be believed.
            list::read(fields.get_all(PRAGMA), |name, _| {
                if name == b"no-cache" {
                    directives.no_cache = Scope::All;
                }
            });
        }
        directives
    }

    /// Those of a response: of the first of the `targets` that is there and can be read, and only if there is none
    /// of `Cache-Control`.
    pub fn of_response(fields: &HeaderMap, targets: &[HeaderName]) -> Self {
        for target in targets {
            if let Some(members) = dictionary::read(fields.get_all(target)) {
                let mut directives = Self { targeted: true, ..Self::default() };
                for (name, argument) in members {
                    directives.tell(name.as_bytes(), argument);
                }
                return directives;
            }
        }
        let mut directives = Self::default();
        list::read(fields.get_all(CACHE_CONTROL), |name, argument| directives.tell(name, argument));
        directives
    }

    /// A directive of a request (RFC 9111 §5.2.1, RFC 5861 §4). The name is in lower case.
    fn ask(&mut self, name: &[u8], argument: Argument) {
        match name {
            b"max-age" => limit(&mut self.max_age, &argument),
            b"stale-if-error" => limit(&mut self.stale_if_error, &argument),
            b"min-fresh" => {
                let wanted = argument.seconds().unwrap_or(DELTA_MAX);
                self.min_fresh = Some(self.min_fresh.map_or(wanted, |other| other.max(wanted)));
            }
            b"max-stale" => self.max_stale = self.max_stale.and(&argument),
            b"no-cache" => self.no_cache = Scope::All,
            b"no-store" => self.no_store = true,
            b"no-transform" => self.no_transform = true,
            b"only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    /// A directive of a response (RFC 9111 §5.2.2, RFC 5861 §3 and §4, RFC 8246 §2).
    fn tell(&mut self, name: &[u8], argument: Argument) {
        match name {
            b"max-age" => limit(&mut self.max_age, &argument),
            b"s-maxage" => limit(&mut self.s_maxage, &argument),
            b"stale-while-revalidate" => limit(&mut self.stale_while_revalidate, &argument),
            b"stale-if-error" => limit(&mut self.stale_if_error, &argument),
            b"no-cache" => self.no_cache.widen(argument),
            b"private" => self.private.widen(argument),
            b"no-store" => self.no_store = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"no-transform" => self.no_transform = true,
            b"immutable" => self.immutable = true,
            _ => {}
        }
    }
}

/// Notes a time that is the better the longer it is. What is no number of seconds is none, and so are two numbers
/// that differ: a response about which that is said is best taken as stale (RFC 9111 §4.2.1).
fn limit(noted: &mut Option<Duration>, argument: &Argument) {
    let said = argument.seconds().unwrap_or(Duration::ZERO);
    *noted = Some(match noted {
        Some(other) if *other != said => Duration::ZERO,
        _ => said,
    });
}

impl Scope {
    /// The fields that it names, if it is about fields alone.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::All => &[],
        }
    }

    /// One more directive of the kind: the wider one counts. Names that cannot be read could be any.
    fn widen(&mut self, argument: Argument) {
        let named = match argument {
            Argument::Text(text) => field_names(&text),
            Argument::Absent | Argument::Seconds(_) | Argument::Invalid => None,
        };
        match (&mut *self, named) {
            (Self::All, _) | (_, None) => *self = Self::All,
            (Self::Fields(known), Some(more)) => known.extend(more),
            (Self::Nothing, Some(named)) => *self = Self::Fields(named),
        }
    }
}

/// One name at least, and nothing but names.
fn field_names(text: &[u8]) -> Option<Vec<HeaderName>> {
    let elements = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    let names: Vec<_> = elements.map(HeaderName::from_bytes).collect::<Result<_, _>>().ok()?;
    (!names.is_empty()).then_some(names)
}

impl MaxStale {
    /// The narrower of two; an argument without a meaning is no permission.
    fn and(self, argument: &Argument) -> Self {
        let said = match argument {
            Argument::Absent => Self::Any,
            _ => Self::For(argument.seconds().unwrap_or(Duration::ZERO)),
        };
        match (self, said) {
            (Self::For(one), Self::For(other)) => Self::For(one.min(other)),
            (narrow @ Self::For(_), _) => narrow,
            (_, said) => said,
        }
    }
}

impl Argument {
    fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::Absent | Self::Text(_) | Self::Invalid => None,
        }
    }
}

/// `delta-seconds` (RFC 9111 §1.2.2): digits and nothing else, of any length.
pub fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Duration::from_secs(seconds).min(DELTA_MAX))
}
