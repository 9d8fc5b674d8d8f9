//! For which other requests a stored response is right (RFC 9111 §4.1).
//!
//! `Vary` names the fields of the request that the origin chose by. Their values are kept with the response, and
//! another request may have it if it says the same in each of them. Values are brought into one spelling before
//! they are compared, and only by what cannot change their meaning: lines are joined, white space around separators
//! goes, letters lose their case where the field has none. Languages of equal weight
//! are put in order, for there is none among them (RFC 9110 §12.5.4).
//!
//! Both requests have to be looked at in the same state, best as they would go upstream: what the edge rewrites,
//! the origin never saw in another form.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, FROM, HOST, ORIGIN, REFERER,
    USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// More is a mistake of the origin, and a cost for every lookup.
const NAMES_MAX: usize = 32;

/// The fields that `Vary` names, and what the request said in them that brought the response.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selecting {
    /// Sorted, each once.
    names: Box<[HeaderName]>,
    /// A line for each name. Neither names nor values can hold what separates them here.
    bytes: Box<[u8]>,
}

/// Why no other request can use a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum VaryError {
    #[error("`Vary` is `*`")]
    Star,
    #[error("`Vary` names what is no field")]
    Malformed,
    #[error("`Vary` names too many fields")]
    TooMany,
}

impl Selecting {
    /// From the `Vary` of a response, and the request that it answers.
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Result<Self, VaryError> {
        let mut names = Vec::new();
        for name in response.get_all(VARY).iter().flat_map(|line| split(line.as_bytes(), b',')) {
            match name {
                b"" => continue,
                b"*" => return Err(VaryError::Star),
                _ => names.push(HeaderName::from_bytes(name).map_err(|_| VaryError::Malformed)?),
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.len() > NAMES_MAX {
            return Err(VaryError::TooMany);
        }
        let mut bytes = Vec::new();
        spell(&names, request, |byte| bytes.push(byte));
        Ok(Self { names: names.into(), bytes: bytes.into() })
    }

    /// One of a field that says this.
    #[cfg(test)]
    pub fn of_text(text: &str) -> Self {
        let vary = HeaderMap::from_iter([(VARY, HeaderValue::from_static("x"))]);
        let name = HeaderName::from_static("x");
        let request = HeaderMap::from_iter([(name, HeaderValue::from_str(text).expect("it is a value"))]);
        Self::of(&vary, &request).expect("it names one field")
    }

    /// Whether there was no `Vary`, so that any request may have the response.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// In bytes.
    pub fn weight(&self) -> u64 {
        (self.bytes.len() + size_of_val(&*self.names)) as u64
    }

    /// Names and values. Equal bytes are the same variant.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a request may have the response. Allocates nothing.
pub fn matches(selecting: &Selecting, request: &HeaderMap) -> bool {
    let mut expected = selecting.bytes.iter();
    let mut is_same = true;
    spell(&selecting.names, request, |byte| is_same &= expected.next() == Some(&byte));
    is_same && expected.as_slice().is_empty()
}

/// Appends what a request says in the same fields, in the spelling of `Selecting::as_bytes`.
pub fn write(selecting: &Selecting, request: &HeaderMap, out: &mut Vec<u8>) {
    spell(&selecting.names, request, |byte| out.push(byte));
}

fn spell(names: &[HeaderName], request: &HeaderMap, mut emit: impl FnMut(u8)) {
    for name in names {
        name.as_str().bytes().for_each(&mut emit);
        if request.contains_key(name) {
            // A field that is absent matches only one that is absent too.
            emit(b':');
            normalise(name, request, &mut emit);
        }
        emit(b'\n');
    }
}

/// Gives the bytes of a field in the spelling by which values are compared. False is a field that is not there.
pub(super) fn normalise(name: &HeaderName, fields: &HeaderMap, mut emit: impl FnMut(u8)) -> bool {
    let syntax = Syntax::of(name);
    let mut is_present = false;
    for line in fields.get_all(name) {
        if is_present {
            emit(b',');
        }
        is_present = true;
        syntax.normalise(line.as_bytes(), &mut emit);
    }
    is_present
}

/// Of languages that a request lists, so many are put in order.
const LANGUAGES_MAX: usize = 16;

/// What may be changed in a value without changing what it says.
#[derive(Debug, Clone, Copy)]
enum Syntax {
    /// As ranges, and their order says nothing that their weights do not (RFC 9110 §12.5.4).
    Languages,
    /// A list of names with parameters, all without case.
    Ranges,
    /// The same, but a parameter of a media type can have a value with case.
    MediaRanges,
    /// A list with quoted strings. So are most fields, and so unknown ones are taken.
    List,
    /// One value, in which a comma is a character like any other.
    Single,
}

impl Syntax {
    fn of(name: &HeaderName) -> Self {
        match *name {
            ACCEPT_LANGUAGE => Self::Languages,
            ACCEPT_ENCODING | ACCEPT_CHARSET => Self::Ranges,
            ACCEPT => Self::MediaRanges,
            AUTHORIZATION | COOKIE | FROM | HOST | ORIGIN | REFERER | USER_AGENT => Self::Single,
            _ => Self::List,
        }
    }

    fn normalise(self, line: &[u8], emit: impl FnMut(u8)) {
        if let Self::Single = self {
            return line.trim_ascii().iter().copied().for_each(emit);
        }
        let mut languages: [&[u8]; LANGUAGES_MAX] = [b""; LANGUAGES_MAX];
        if let Self::Languages = self
            && let Some(languages) = in_order(line, &mut languages)
        {
            return Self::Ranges.emit(languages.iter().copied(), emit);
        }
        self.emit(split(line, b','), emit);
    }

    fn emit<'a>(self, elements: impl Iterator<Item = &'a [u8]>, mut emit: impl FnMut(u8)) {
        for (index, element) in elements.enumerate() {
            if index > 0 {
                emit(b',');
            }
            if let Self::List = self {
                element.iter().copied().for_each(&mut emit);
                continue;
            }
            for (index, part) in split(element, b';').enumerate() {
                if index > 0 {
                    emit(b';');
                }
                let has_case = matches!(self, Self::MediaRanges) && index > 0;
                part.iter().for_each(|byte| emit(if has_case { *byte } else { byte.to_ascii_lowercase() }));
            }
        }
    }
}

/// The elements of a list by their bytes. None if there are more than places for them.
fn in_order<'a, 'b>(line: &'a [u8], places: &'b mut [&'a [u8]; LANGUAGES_MAX]) -> Option<&'b [&'a [u8]]> {
    let mut count = 0;
    for element in split(line, b',') {
        *places.get_mut(count)? = element;
        count += 1;
    }
    let elements = places.get_mut(..count)?;
    let lower = |element: &'a [u8]| element.iter().map(u8::to_ascii_lowercase);
    elements.sort_unstable_by(|one, other| lower(one).cmp(lower(other)));
    Some(elements)
}

/// The parts between separators that stand outside of quoted strings, without white space around them.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = text.split_at(end_of_part(text, separator));
        rest = after.split_first().map(|(_, after)| after);
        Some(part.trim_ascii())
    })
}

fn end_of_part(text: &[u8], separator: u8) -> usize {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        match *byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            byte => return byte == separator && !is_quoted,
        }
        false
    });
    end.unwrap_or(text.len())
}

/// The codings that the edge knows, with each value of `Accept-Encoding` that can come of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCodings {
    names: Vec<&'static str>,
    /// By the set of accepted codings: the lowest bit is the first name, the one above the last name says that
    /// `identity` is refused.
    values: Vec<HeaderValue>,
}

/// There are not more in use, and the values double with each.
const CODINGS_MAX: usize = 4;

impl KnownCodings {
    /// In the order in which they are sent upstream. From the fifth on they are left out.
    pub fn new(names: &[&'static str]) -> Self {
        let names: Vec<_> = names.iter().copied().take(CODINGS_MAX).collect();
        let all = names.iter().copied().chain(["identity;q=0"]);
        let value = |set: usize| {
            let accepted = all.clone().enumerate().filter(|(bit, _)| set & 1 << bit != 0);
            let accepted: Vec<_> = accepted.map(|(_, name)| name).collect();
            let text = if accepted.is_empty() { "identity".to_owned() } else { accepted.join(", ") };
            // Made once, and never given back: a shared value would be counted by all workers with each request.
            HeaderValue::from_static(Box::leak(text.into_boxed_str()))
        };
        let values = (0..2 << names.len()).map(value).collect();
        Self { names, values }
    }

    /// What a request accepts, in one of few spellings: the known codings without their weights, `identity` if there
    /// is none. A request without `Accept-Encoding` would take any coding by the letter of RFC 9110 §12.5.3, but those
    /// who send none cannot decode, so it counts as `identity` too.
    fn accepted(&self, fields: &HeaderMap) -> Option<&HeaderValue> {
        let mut stated = Stated::default();
        let lines = fields.get_all(ACCEPT_ENCODING).iter();
        for element in lines.flat_map(|line| split(line.as_bytes(), b',')) {
            let mut parts = split(element, b';');
            let coding = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(Weight::Positive);
            if coding == b"*" {
                stated.others = Some(weight);
            } else if coding.eq_ignore_ascii_case(b"identity") {
                stated.identity = Some(weight);
            } else if let Some(bit) = self.bit(coding) {
                match weight {
                    Weight::Positive => stated.accepted |= bit,
                    Weight::Zero => stated.refused |= bit,
                }
            }
        }
        self.values.get(stated.set(1 << self.names.len()))
    }

    fn bit(&self, coding: &[u8]) -> Option<usize> {
        // RFC 9110 §8.4.1.3.
        let coding = if coding.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { coding };
        self.names.iter().position(|name| coding.eq_ignore_ascii_case(name.as_bytes())).map(|bit| 1 << bit)
    }
}

/// What a request says of the known codings, as sets.
#[derive(Debug, Default)]
struct Stated {
    accepted: usize,
    refused: usize,
    identity: Option<Weight>,
    others: Option<Weight>,
}

impl Stated {
    fn set(&self, identity_refused: usize) -> usize {
        let others = if self.others == Some(Weight::Positive) { identity_refused - 1 } else { 0 };
        let codings = (self.accepted | others) & !self.refused;
        // `*` speaks for what is not named (RFC 9110 §12.5.3).
        match self.identity.or(self.others) {
            Some(Weight::Zero) => codings | identity_refused,
            _ => codings,
        }
    }
}

/// Whether a coding is wanted at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Positive,
    Zero,
}

/// That of `q=…`, if a parameter is one. What is no weight counts as zero: not to be coded is never wrong.
fn weight(parameter: &[u8]) -> Option<Weight> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else { return None };
    let is_positive = match value {
        b"1" => true,
        [b'1', b'.', zeros @ ..] => zeros.len() <= 3 && zeros.iter().all(|digit| *digit == b'0'),
        [b'0', b'.', digits @ ..] => {
            digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0')
        }
        _ => false,
    };
    Some(if is_positive { Weight::Positive } else { Weight::Zero })
}

/// Leaves one of few spellings in `Accept-Encoding`, for the origin and for the comparison. What the edge codes
/// itself has to be negotiated before, for the weights are gone afterwards.
pub fn normalise_accept_encoding(fields: &mut HeaderMap, known: &KnownCodings) {
    if let Some(value) = known.accepted(fields) {
        fields.insert(ACCEPT_ENCODING, value.clone());
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::header::rows::fields;

    fn selecting(vary: &str, request: &str) -> Selecting {
        Selecting::of(&fields(vary), &fields(request)).unwrap()
    }

    /// Whether the response to one request may answer another. The bytes say the same as the comparison.
    #[track_caller]
    fn check(vary: &str, one: &str, other: &str, expected: bool) {
        let vary = format!("vary: {vary}");
        for (one, other) in [(one, other), (other, one)] {
            let stored = selecting(&vary, one);
            assert_eq!(matches(&stored, &fields(other)), expected, "{vary}\n{one}\n-- and --\n{other}");
            assert_eq!(stored.as_bytes() == selecting(&vary, other).as_bytes(), expected, "the bytes of {vary}");
        }
    }

    #[test]
    fn without_vary_every_request_may_have_it() {
        for vary in ["", "vary:", "vary: ,"] {
            let stored = selecting(vary, "foo: 1");
            assert!(stored.is_empty() && matches(&stored, &fields("foo: 2")), "{vary}");
        }
    }

    #[test]
    fn a_star_fails_always() {
        for vary in ["*", "*, *", "*\nvary: *", ", *", "\nvary: *", "*, foo", "foo, *"] {
            let result = Selecting::of(&fields(&format!("vary: {vary}")), &HeaderMap::new());
            assert_eq!(result, Err(VaryError::Star), "{vary}");
        }
    }

    #[test]
    fn what_names_no_field_fails() {
        for vary in ["a b", "\"foo\"", "foo;bar"] {
            let result = Selecting::of(&fields(&format!("vary: {vary}")), &HeaderMap::new());
            assert_eq!(result, Err(VaryError::Malformed), "{vary}");
        }
        let names = |count: usize| (0..count).map(|n| format!("vary: x-{n}\n")).collect::<String>();
        assert_eq!(Selecting::of(&fields(&names(33)), &HeaderMap::new()), Err(VaryError::TooMany));
        assert_eq!(selecting(&names(32), "").names.len(), 32);
    }

    #[test]
    fn named_fields_must_say_the_same() {
        check("Foo", "foo: 1", "foo: 1", true);
        check("Foo", "foo: 1", "foo: 2", false);
        check("Foo", "", "foo: 1", false);
        check("Foo", "foo:", "", false);
        check("Foo", "foo: 1\nother: 2", "foo: 1\nother: 3", true);
        let all = "foo: 1\nbar: abc\nbaz: 789";
        check("Foo, Bar", all, "bar: abc\nfoo: 1", true);
        check("Foo, Bar", all, "foo: 2\nbar: abc", false);
        check("Foo, Bar", "foo: 1", "", false);
        check("Foo, Bar, Baz", all, all, true);
        check("Foo, Bar, Baz", all, "foo: 1\nbar: abc4\nbaz: 789", false);
        check("Foo, Bar, Baz", "foo: 1\nbaz: 789", "foo: 1\nbaz: 789", true);
        check("Foo, Bar, Baz", "foo: 1\nbaz: 789", all, false);
        check("Foo\nvary: Bar", all, "foo: 1", false);
        // The same values, but of other fields.
        check("Foo, Bar", "foo: 1", "bar: 1", false);
    }

    #[test]
    fn the_order_of_names_makes_no_variant() {
        let request = "foo: 1\nbar: 2";
        assert_eq!(selecting("vary: foo, Bar", request), selecting("vary: bar\nvary: FOO, foo", request));
    }

    #[test]
    fn unknown_fields_are_lists() {
        check("Foo", "foo: 1, 2", "foo: 1\nfoo: 2", true);
        check("Foo", "foo: 1,2", "foo: 1 ,  2 ", true);
        check("Foo", "foo: 1,2", "foo: 2,1", false);
        check("Foo", "foo: a", "foo: A", false);
        check("Foo", "foo: a b", "foo: a  b", false);
        check("Foo", "foo: 1,,2", "foo: 1,2", false);
        check("Foo", "foo: a;b", "foo: a; b", false);
        // Inside of quotes white space counts.
        check("Foo", "foo: \"1, 2\"", "foo: \"1,2\"", false);
        check("Foo", "foo: \"1\", 2", "foo: \"1\",2", true);
        check("Foo", r#"foo: "\", 2""#, r#"foo: "\",2""#, false);
        check("Foo", r#"foo: "\\", 2"#, r#"foo: "\\",2"#, true);
    }

    #[test]
    fn fields_of_one_value_are_compared_as_they_are() {
        for name in ["cookie", "user-agent", "authorization", "referer", "origin"] {
            check(name, &format!("{name}: a, b"), &format!("{name}: a,b"), false);
            check(name, &format!("{name}: a"), &format!("{name}: A"), false);
            check(name, &format!("{name}: a, b"), &format!("{name}: a, b"), true);
        }
    }

    #[test]
    fn languages_types_and_charsets() {
        let language = |one: &str, other: &str, expected| {
            check(
                "Accept-Language",
                &format!("accept-language: {one}"),
                &format!("accept-language: {other}"),
                expected,
            );
        };
        language("en, de", "eN, De", true);
        language("en, de", " en ,   de", true);
        language("en;q=0.5", "EN ; Q=0.5", true);
        language("en, de", "de, en", true);
        language("en;q=0.5, de", "de, EN;q=0.5", true);
        language("en;q=0.5, de", "de;q=0.5, en", false);
        // As many as are put in order, and one more.
        let listed = |count: usize| (10..10 + count).map(|n| format!("l{n}")).collect::<Vec<_>>();
        let turned = |count: usize| listed(count).into_iter().rev().collect::<Vec<_>>();
        language(&listed(16).join(","), &turned(16).join(","), true);
        language(&listed(17).join(","), &turned(17).join(","), false);
        language("en, de", "fr;q=0.5, de;q=1.0", false);
        check("Accept-Charset", "accept-charset: UTF-8", "accept-charset: utf-8", true);
        let media = |one: &str, other: &str, expected| {
            check("Accept", &format!("accept: {one}"), &format!("accept: {other}"), expected);
        };
        media("text/html,*/*;q=0.8", "TEXT/html , */* ; q=0.8", true);
        media("text/html;level=A", "text/html;level=a", false);
        media("a/b;x=\"c; D\"", "a/b;x=\"c;D\"", false);
    }

    #[track_caller]
    fn accepts(known: &[&'static str], request: &str, expected: &str) {
        let mut request = fields(request);
        let known = KnownCodings::new(known);
        for _ in 0..2 {
            normalise_accept_encoding(&mut request, &known);
            let lines: Vec<_> = request.get_all(ACCEPT_ENCODING).iter().collect();
            assert_eq!(lines, [expected]);
        }
    }

    #[test]
    fn accept_encoding_has_few_spellings() {
        let known = &["zstd", "br", "gzip"];
        for (value, expected) in [
            ("gzip, deflate, br, zstd", "zstd, br, gzip"),
            ("GZip;q=0.1,br ; q=0.9", "br, gzip"),
            ("gzip\naccept-encoding: br", "br, gzip"),
            ("x-gzip", "gzip"),
            ("gzip;q=0", "identity"),
            ("gzip;q=0.000, br", "br"),
            ("gzip, gzip;q=0", "identity"),
            ("gzip;q=1.000", "gzip"),
            ("gzip;q=0.001", "gzip"),
            ("deflate, compress", "identity"),
            ("", "identity"),
            ("identity", "identity"),
            ("*", "zstd, br, gzip"),
            ("br;q=0, *", "zstd, gzip"),
            ("*;q=0", "identity;q=0"),
            ("gzip, *;q=0", "gzip, identity;q=0"),
            ("gzip, *;q=0, identity", "gzip"),
            ("gzip, identity;q=0", "gzip, identity;q=0"),
            ("br;foo=1;q=0.5", "br"),
            // What is no weight is no wish.
            ("gzip;q=", "identity"),
            ("gzip;q=2", "identity"),
            ("gzip;q=1.001", "identity"),
            ("gzip;q=0.1234", "identity"),
            ("gzip;q=abc, br", "br"),
            ("gzip br", "identity"),
        ] {
            accepts(known, &format!("accept-encoding: {value}"), expected);
        }
        accepts(known, "", "identity");
        accepts(&["gzip"], "accept-encoding: gzip, br", "gzip");
        accepts(&[], "accept-encoding: gzip", "identity");
        accepts(&["a", "b", "c", "d", "e"], "accept-encoding: *", "a, b, c, d");
    }

    #[test]
    fn spellings_of_accept_encoding_are_one_variant() {
        let known = KnownCodings::new(&["br", "gzip"]);
        let mut spellings = ["accept-encoding: gzip, br", "accept-encoding: br;q=1.0, gzip;q=0.8, *;q=0.1"].map(fields);
        spellings.iter_mut().for_each(|request| normalise_accept_encoding(request, &known));
        let stored = Selecting::of(&fields("vary: Accept-Encoding"), &spellings[0]).unwrap();
        assert!(matches(&stored, &spellings[1]));
    }

    fn any_request() -> impl Strategy<Value = HeaderMap> {
        let line = ("a|b|accept|accept-encoding|user-agent", "[aB,;\"\\\\ q=0*]{0,8}");
        proptest::collection::vec(line, 0..6).prop_map(|lines| {
            let mut request = HeaderMap::new();
            for (name, value) in lines {
                request.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            request
        })
    }

    proptest! {
        #[test]
        fn a_request_may_have_what_it_brought(vary in "(a|b|c|accept|user-agent|,| ){0,6}", request in any_request()) {
            let response = fields(&format!("vary: {vary}"));
            if let Ok(stored) = Selecting::of(&response, &request) {
                prop_assert!(matches(&stored, &request));
            }
        }

        #[test]
        fn bytes_and_comparison_agree(one in any_request(), other in any_request()) {
            let response = fields("vary: a, b, accept, accept-encoding, user-agent");
            let stored = [&one, &other].map(|request| Selecting::of(&response, request).unwrap());
            prop_assert_eq!(matches(&stored[0], &other), stored[0].as_bytes() == stored[1].as_bytes());
        }

        #[test]
        fn accept_encoding_stays_as_it_was_made(request in any_request()) {
            let known = KnownCodings::new(&["a", "b"]);
            let mut request = request;
            normalise_accept_encoding(&mut request, &known);
            let once = request.clone();
            normalise_accept_encoding(&mut request, &known);
            prop_assert_eq!(once, request);
        }
    }
}
