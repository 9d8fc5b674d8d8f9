//! What `Cache-Control` says, in requests and in responses (RFC 9111 §5.2), and the fields that stand in for it:
//! `Pragma` in requests (§5.4), and targeted fields in responses (RFC 9213).
//!
//! Reading never fails. A directive that this cache does not know changes nothing; one that it knows, with an
//! argument that makes no sense, is taken as strictly as it can be meant. Whether a response may be
//! stored or used is not decided here.

mod dictionary;
mod list;

use std::borrow::Cow;
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
enum Argument<'a> {
    Absent,
    Seconds(Duration),
    /// Of a quoted string, or a token that is not a number of seconds.
    Text(Cow<'a, [u8]>),
    /// It has no meaning for any directive.
    Invalid,
}

impl Directives {
    /// Those of a request.
    pub fn of_request(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !fields.keys().any(|name| matches!(*name, CACHE_CONTROL | PRAGMA)) {
            return directives;
        }
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
                for (name, value) in members {
                    if let Some(argument) = value {
                        directives.tell(name.as_bytes(), argument);
                    }
                }
                return directives;
            }
        }
        let mut directives = Self::default();
        list::read(fields.get_all(CACHE_CONTROL), |name, argument| directives.tell(name, argument));
        directives
    }

    /// A directive of a request (RFC 9111 §5.2.1, RFC 5861 §4). The name is in lower case.
    fn ask(&mut self, name: &[u8], argument: Argument<'_>) {
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
    fn tell(&mut self, name: &[u8], argument: Argument<'_>) {
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
fn limit(noted: &mut Option<Duration>, argument: &Argument<'_>) {
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
    fn widen(&mut self, argument: Argument<'_>) {
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
    fn and(self, argument: &Argument<'_>) -> Self {
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

impl Argument<'_> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::rows::fields;

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn names(names: &[&'static str]) -> Scope {
        Scope::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
    }

    fn cdn() -> [HeaderName; 2] {
        [HeaderName::from_static("tollgate-cache-control"), HeaderName::from_static("cdn-cache-control")]
    }

    #[track_caller]
    fn response(text: &str, expected: Directives) {
        assert_eq!(Directives::of_response(&fields(text), &cdn()), expected, "{text}");
    }

    /// Of one line of `Cache-Control`.
    #[track_caller]
    fn says(value: &str, expected: Directives) {
        response(&format!("cache-control: {value}"), expected);
    }

    /// Of one line of a targeted field.
    #[track_caller]
    fn targeted(value: &str, expected: Directives) {
        response(&format!("cdn-cache-control: {value}"), Directives { targeted: true, ..expected });
    }

    #[track_caller]
    fn asks(text: &str, expected: Directives) {
        assert_eq!(Directives::of_request(&fields(text)), expected, "{text}");
    }

    fn max_age(max_age: u64) -> Directives {
        Directives { max_age: seconds(max_age), ..Directives::default() }
    }

    fn nothing() -> Directives {
        Directives::default()
    }

    #[test]
    fn all_directives_of_responses() {
        says(
            "no-store, no-cache, private, public, must-revalidate, proxy-revalidate, must-understand, no-transform, \
             immutable, max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4",
            Directives {
                no_store: true,
                no_cache: Scope::All,
                private: Scope::All,
                public: true,
                must_revalidate: true,
                proxy_revalidate: true,
                must_understand: true,
                no_transform: true,
                immutable: true,
                max_age: seconds(1),
                s_maxage: seconds(2),
                stale_while_revalidate: seconds(3),
                stale_if_error: seconds(4),
                ..nothing()
            },
        );
        // Those of requests, and unknown ones, mean nothing in a response.
        says("max-stale, min-fresh=1, only-if-cached, pre-check=0, foo, foo=\"bar, max-age=1\", =1, ;", nothing());
        response("pragma: no-cache", nothing());
    }

    #[test]
    fn all_directives_of_requests() {
        asks(
            "cache-control: no-store, no-cache, max-age=1, max-stale=2, min-fresh=3\n\
             cache-control: no-transform, only-if-cached, stale-if-error=4",
            Directives {
                no_store: true,
                no_cache: Scope::All,
                no_transform: true,
                only_if_cached: true,
                max_age: seconds(1),
                max_stale: MaxStale::For(Duration::from_secs(2)),
                min_fresh: seconds(3),
                stale_if_error: seconds(4),
                ..nothing()
            },
        );
        asks("cache-control: private, public, s-maxage=1, must-revalidate, immutable", nothing());
        asks("cache-control: max-stale", Directives { max_stale: MaxStale::Any, ..nothing() });
    }

    #[test]
    fn pragma_counts_without_cache_control() {
        let no_cache = Directives { no_cache: Scope::All, ..nothing() };
        asks("pragma: no-cache", no_cache.clone());
        asks("pragma: foo, No-Cache", no_cache);
        asks("pragma: unrecognised-extension", nothing());
        asks("pragma: no-cache\ncache-control: max-age=5", max_age(5));
        asks("pragma: no-cache\ncache-control: foo", nothing());
    }

    #[test]
    fn names_are_compared_without_case() {
        says("No-StOrE, MaX-aGe=5", Directives { no_store: true, ..max_age(5) });
    }

    #[test]
    fn lines_are_one_list() {
        response(
            "cache-control: max-age=5\ncache-control: ,\ncache-control: no-store",
            Directives { no_store: true, ..max_age(5) },
        );
    }

    #[test]
    fn seconds_have_any_number_of_digits() {
        says("max-age=003600", max_age(3600));
        says("max-age=\"3600\"", max_age(3600));
        says("max-age=2147483647", max_age(2_147_483_647));
        for large in ["2147483648", "2147483649", "99999999999", "99999999999999999999999999"] {
            says(&format!("max-age={large}"), Directives { max_age: Some(DELTA_MAX), ..nothing() });
        }
    }

    #[test]
    fn what_is_no_number_of_seconds_is_none() {
        for value in [
            "-3600", "+3600", "3600.0", "3600.5", "a3600", "3600a", "'3600'", "0x10", "", "\"\"", "\"3600", "1 2",
            "1\t",
        ] {
            let said = format!("max-age={value}");
            says(&said, max_age(if value == "1\t" { 1 } else { 0 }));
        }
        says("max-age", max_age(0));
        says("max-age =3600", max_age(0));
        says("max-age= 3600", max_age(0));
        says("s-maxage=x", Directives { s_maxage: seconds(0), ..nothing() });
        says(
            "stale-while-revalidate, stale-if-error=x",
            Directives { stale_while_revalidate: seconds(0), stale_if_error: seconds(0), ..nothing() },
        );
        // The strictest that a client can have meant.
        asks(
            "cache-control: max-age=x, min-fresh=x, max-stale=x",
            Directives { min_fresh: Some(DELTA_MAX), max_stale: MaxStale::For(Duration::ZERO), ..max_age(0) },
        );
    }

    #[test]
    fn values_that_contradict_each_other_are_none() {
        says("max-age=60, max-age=60", max_age(60));
        says("max-age=1800, max-age=1", max_age(0));
        response("cache-control: max-age=1\ncache-control: max-age=1800", max_age(0));
        asks(
            "cache-control: min-fresh=1, min-fresh=2, max-stale, max-stale=4, max-stale=3",
            Directives { min_fresh: seconds(2), max_stale: MaxStale::For(Duration::from_secs(3)), ..nothing() },
        );
        asks(
            "cache-control: max-stale=3, max-stale",
            Directives { max_stale: MaxStale::For(Duration::from_secs(3)), ..nothing() },
        );
    }

    #[test]
    fn quotes_hide_what_is_in_them() {
        says("extension=\"max-age=3600\", max-age=1", max_age(1));
        says("max-age=1, extension=\"max-age=3600\"", max_age(1));
        says("extension=\"a, no-store, \\\", no-store\", max-age=\"1\"", max_age(1));
        says("extension=\"no-store\\\\\", max-age=1", max_age(1));
        // It is no quoted string without its end.
        says("extension=\"max-age=1, no-store", Directives { no_store: true, ..nothing() });
        says("extension=\"\\", nothing());
    }

    #[test]
    fn an_argument_does_not_take_a_restriction_back() {
        says("no-store=\"x\", must-revalidate=0", Directives { no_store: true, must_revalidate: true, ..nothing() });
        says("no-store =1", Directives { no_store: true, ..nothing() });
    }

    #[test]
    fn restrictions_can_be_about_fields() {
        let scopes = |no_cache, private| Directives { no_cache, private, ..nothing() };
        says("no-cache=\"a\"", scopes(names(&["a"]), Scope::Nothing));
        says("no-cache=a", scopes(names(&["a"]), Scope::Nothing));
        says(
            "no-cache=\"a, B\", no-cache=\"c\", private=\"Set-Cookie,\"",
            scopes(names(&["a", "b", "c"]), names(&["set-cookie"])),
        );
        says("no-cache=\"a\", no-cache, private, private=\"a\"", scopes(Scope::All, Scope::All));
        // Names that cannot be read could be any.
        says("no-cache=\"\", private=\"a b\"", scopes(Scope::All, Scope::All));
        says("no-cache=\"a, (\", private= \"a\"", scopes(Scope::All, Scope::All));
        asks("cache-control: no-cache=\"a\"", scopes(Scope::All, Scope::Nothing));
    }

    #[test]
    fn a_targeted_field_counts_alone() {
        response("cache-control: no-store\ncdn-cache-control: max-age=5", Directives { targeted: true, ..max_age(5) });
        response(
            "cdn-cache-control: max-age=5\ntollgate-cache-control: max-age=6",
            Directives { targeted: true, ..max_age(6) },
        );
        // Empty, or not to be read: as if it were not there.
        for broken in ["", " ", "max-age=10000, &&&&&", "max-age=1,", "MaX-aGe=1", "max-age =1", "max-age= 1", "a b"] {
            response(&format!("cache-control: max-age=5\ncdn-cache-control: {broken}"), max_age(5));
            response(
                &format!("tollgate-cache-control: {broken}\ncdn-cache-control: max-age=6"),
                Directives { targeted: true, ..max_age(6) },
            );
        }
        assert_eq!(Directives::of_response(&fields("cdn-cache-control: max-age=5"), &[]), nothing());
    }

    #[test]
    fn members_of_a_targeted_field_are_directives() {
        targeted(
            "max-age=10, must-revalidate, no-store=?1, private, public=?0",
            Directives { no_store: true, must_revalidate: true, private: Scope::All, ..max_age(10) },
        );
        targeted("foobar, max-age=3600;x=1;y, foo=(1 \"b\";q=1.5 c);z, *a=:aGk=:, d=@12, e=%\"%c3%bc\"", max_age(3600));
        targeted(
            "no-cache=\"a, b\", private=c",
            Directives { no_cache: names(&["a", "b"]), private: names(&["c"]), ..nothing() },
        );
        targeted("max-age=99999999999", Directives { max_age: Some(DELTA_MAX), ..nothing() });
        response(
            "cdn-cache-control: max-age=1\ncdn-cache-control: no-store, max-age=2",
            Directives { no_store: true, targeted: true, ..max_age(2) },
        );
        // Of a type that the directive does not have.
        for wrong in ["\"10000\"", "abc", "10.0", "-1", "?1", "(1)", ":MQ==:", "@1"] {
            targeted(&format!("max-age={wrong}"), max_age(0));
        }
        targeted("no-cache=?0, no-store=?0", nothing());
        targeted("no-cache=1", Directives { no_cache: Scope::All, ..nothing() });
    }

    #[test]
    fn a_dictionary_is_read_to_its_end_or_not_at_all() {
        for broken in [
            "a=",
            "a=(1",
            "a=(1\"b\")",
            "a=1.",
            "a=1.2345",
            "a=1234567890123456",
            "a=1234567890123.1",
            "a=\"x",
            "a=\"\\x\"",
            "a=\"ü\"",
            "a=?2",
            "a=:!:",
            "a=:aGk=",
            "a=@x",
            "a=%x",
            "a=%\"%zz\"",
            "a=%\"x",
            "a;=1",
            "a;B",
            "a=1 b",
            "a,,b",
            ",a",
            "1=1",
            "a=--1",
            "a=-",
            "a=)",
            "\u{e9}",
        ] {
            response(&format!("cdn-cache-control: {broken}"), nothing());
        }
    }

    proptest! {
        #[test]
        fn no_field_is_too_much(lines in prop::collection::vec("[ -~\\t\u{80}-\u{ff}]{0,60}", 0..4)) {
            let mut map = HeaderMap::new();
            for line in &lines {
                // Latin-1, as bytes on the wire are.
                let bytes: Vec<_> = line.chars().map(|letter| letter as u32 as u8).collect();
                for name in [CACHE_CONTROL, PRAGMA, cdn()[1].clone()] {
                    map.append(name, http::HeaderValue::from_bytes(&bytes).unwrap());
                }
            }
            let _ = (Directives::of_request(&map), Directives::of_response(&map, &cdn()));
        }

        #[test]
        fn a_restriction_is_found_wherever_it_stands(
            before in "([a-z-]{1,9}(=[a-z0-9]{1,5}|=\"[a-z, =]{0,9}\")?,){0,4}",
            after in "(, ?[a-z-]{1,9}(=[a-z0-9]{1,5}|=\"[a-z, =]{0,9}\")?){0,4}",
        ) {
            let map = fields(&format!("cache-control: {before}No-Store{after}"));
            prop_assert!(Directives::of_response(&map, &[]).no_store);
            prop_assert!(Directives::of_request(&map).no_store);
        }

        #[test]
        fn seconds_are_never_more_than_said(digits in "[0-9]{1,30}") {
            let said: u128 = digits.parse().unwrap();
            let read = delta_seconds(digits.as_bytes()).unwrap();
            prop_assert_eq!(u128::from(read.as_secs()), said.min(1 << 31));
        }
    }
}
