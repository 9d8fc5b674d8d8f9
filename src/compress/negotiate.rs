//! Whether a response is coded for a client, and by which coding (RFC 9110 §12.5.3). Decides from the fields of both
//! messages alone; it changes nothing and reads no body.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, COOKIE, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::{Coding, Compress};
use crate::header::{elements, framing, list, media_type};

/// A client that sends this wants its response as it is.
const NO_COMPRESSION: HeaderName = HeaderName::from_static("x-no-compression");
/// A signature of the message (RFC 9421).
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// Schemes whose credentials a browser sends by itself, so that a foreign page can make it ask again and again.
const AMBIENT_SCHEMES: [&[u8]; 4] = [b"basic", b"digest", b"negotiate", b"ntlm"];

/// Why a response is not coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCoded {
    /// A status without content, or about a part of it.
    Status,
    /// A part of a content: the other parts are not at hand.
    Range,
    /// It has a coding already, which is passed on.
    AlreadyCoded,
    /// One side forbids that content is changed on its way.
    NoTransform,
    /// Its type is not among those to be coded.
    Type,
    /// It is signed as it is.
    Signed,
    /// It sets a cookie.
    SetCookie,
    /// It is too small to gain by it.
    Small,
    /// The client has switched it off.
    SwitchedOff,
    /// The request bears a credential that browsers send by themselves.
    Credentials,
    /// The request bears a cookie, on a route that repeats input.
    Cookie,
    /// The client names no coding.
    NotAsked,
    /// The client takes none of the codings that are offered, or would rather have none.
    NotAccepted,
}

impl NotCoded {
    pub const ALL: [Self; 13] = [
        Self::Status,
        Self::Range,
        Self::AlreadyCoded,
        Self::NoTransform,
        Self::Type,
        Self::Signed,
        Self::SetCookie,
        Self::Small,
        Self::SwitchedOff,
        Self::Credentials,
        Self::Cookie,
        Self::NotAsked,
        Self::NotAccepted,
    ];

    /// For the access log and the metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Range => "range",
            Self::AlreadyCoded => "already-coded",
            Self::NoTransform => "no-transform",
            Self::Type => "type",
            Self::Signed => "signed",
            Self::SetCookie => "set-cookie",
            Self::Small => "small",
            Self::SwitchedOff => "switched-off",
            Self::Credentials => "credentials",
            Self::Cookie => "cookie",
            Self::NotAsked => "not-asked",
            Self::NotAccepted => "not-accepted",
        }
    }
}

/// What is to be done with the content of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Code(Coding),
    /// It is gzip, and the client cannot take that.
    Decode,
    /// It stays as it is. Another client may get it otherwise, by what it accepts.
    Leave {
        why: NotCoded,
        varies: bool,
    },
}

/// How much a client likes each coding, in thousandths (RFC 9110 §12.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    zstd: u16,
    br: u16,
    gzip: u16,
    /// None if it is not named: then it is acceptable, and what is named is better.
    identity: Option<u16>,
}

impl Accepted {
    /// None without the field: anything is acceptable then, but nothing is asked for.
    pub fn of(request: &HeaderMap) -> Option<Self> {
        request.contains_key(ACCEPT_ENCODING).then(|| Self::parse(list(request, &ACCEPT_ENCODING)))
    }

    fn parse<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut zstd, mut br, mut gzip, mut identity, mut other) = (None, None, None, None, None);
        for element in elements {
            let (name, weight) = match element.iter().position(|byte| *byte == b';') {
                Some(at) => {
                    let (name, parameters) = element.split_at(at);
                    (name.trim_ascii_end(), weight(parameters))
                }
                None => (element, Some(1000)),
            };
            let seen = match name {
                name if is_gzip(name) => &mut gzip,
                name if name.eq_ignore_ascii_case(b"br") => &mut br,
                name if name.eq_ignore_ascii_case(b"zstd") => &mut zstd,
                name if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                b"*" => &mut other,
                _ => continue,
            };
            // What is not understood is not asked for.
            seen.get_or_insert(weight.unwrap_or(0));
        }
        let or_other = |named: Option<u16>| named.or(other).unwrap_or(0);
        Self { zstd: or_other(zstd), br: or_other(br), gzip: or_other(gzip), identity: identity.or(other) }
    }

    /// 0 if it is not acceptable.
    pub fn weight(&self, coding: Coding) -> u16 {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Br => self.br,
            Coding::Gzip => self.gzip,
        }
    }

    /// What the client likes best; of what it likes equally well, the first that is offered.
    pub fn choose(&self, offered: &[Coding]) -> Option<Coding> {
        let mut best = None;
        for coding in offered {
            let weight = self.weight(*coding);
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((*coding, weight));
            }
        }
        best.filter(|(_, weight)| self.identity.is_none_or(|identity| identity <= *weight)).map(|(coding, _)| coding)
    }
}

/// `;q=0.5` as 500; None if it is malformed. Other parameters there are none.
fn weight(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.strip_prefix(b";")?.trim_ascii();
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = *fraction.get(place).unwrap_or(&b'0');
        thousandths = thousandths * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// What of a request counts for the coding of its response, kept while the request itself goes upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    accepted: Option<Accepted>,
    refused: Option<NotCoded>,
}

impl Asked {
    /// `reflects_input`: the responses repeat what the client sent.
    pub fn by(request: &HeaderMap, reflects_input: bool) -> Self {
        let refused = if request.contains_key(NO_COMPRESSION) {
            Some(NotCoded::SwitchedOff)
        } else if request.get(AUTHORIZATION).is_some_and(is_ambient) {
            Some(NotCoded::Credentials)
        } else if reflects_input && request.contains_key(COOKIE) {
            Some(NotCoded::Cookie)
        } else if forbids_change(request) {
            Some(NotCoded::NoTransform)
        } else {
            None
        };
        Self { accepted: Accepted::of(request), refused }
    }

    /// The coding that a response for this client would have.
    pub fn coding(&self, offered: &[Coding]) -> Result<Coding, NotCoded> {
        match (self.refused, &self.accepted) {
            (Some(why), _) => Err(why),
            (None, None) => Err(NotCoded::NotAsked),
            (None, Some(accepted)) => accepted.choose(offered).ok_or(NotCoded::NotAccepted),
        }
    }

    /// Without the field any coding is acceptable (RFC 9110 §12.5.3).
    fn takes_gzip(&self) -> bool {
        self.accepted.is_none_or(|accepted| accepted.gzip > 0)
    }
}

/// What to do with the content of a response; its length is given if it is known.
pub fn plan(asked: &Asked, status: StatusCode, fields: &HeaderMap, length: Option<u64>, policy: &Compress) -> Plan {
    if status == StatusCode::PARTIAL_CONTENT {
        // It varies as the whole would, of which it is a part (RFC 9110 §15.3.7).
        let whole = plan_whole(asked, StatusCode::OK, fields, whole_length(fields), policy);
        return Plan::Leave { why: NotCoded::Range, varies: !matches!(whole, Plan::Leave { varies: false, .. }) };
    }
    if fields.contains_key(CONTENT_RANGE) {
        return Plan::Leave { why: NotCoded::Range, varies: false };
    }
    plan_whole(asked, status, fields, length, policy)
}

fn plan_whole(asked: &Asked, status: StatusCode, fields: &HeaderMap, length: Option<u64>, policy: &Compress) -> Plan {
    if let Err(why) = may_be_changed(status, fields) {
        return Plan::Leave { why, varies: false };
    }
    let mut codings = list(fields, &CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if is_gzip(coding) => {
            // Who forbids that is obeyed here, too: the client can then not read the content.
            let may_decode = asked.refused != Some(NotCoded::NoTransform);
            return match asked.takes_gzip() || !may_decode {
                true => Plan::Leave { why: NotCoded::AlreadyCoded, varies: true },
                false => Plan::Decode,
            };
        }
        _ => return Plan::Leave { why: NotCoded::AlreadyCoded, varies: false },
    }
    if let Err(why) = is_worth_it(fields, length, policy) {
        return Plan::Leave { why, varies: false };
    }
    match asked.coding(&policy.codings) {
        Ok(coding) => Plan::Code(coding),
        Err(why) => Plan::Leave { why, varies: true },
    }
}

/// Whether [`plan`] looks at more than the media type of a response with this status.
pub fn looks_past_type(status: StatusCode) -> bool {
    matches!(status, StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT)
}

/// Whether it does for this field, whose name is in lower case.
pub fn looks_at(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"content-encoding" | b"content-range" | b"signature-input" => true,
        b"cache-control" => elements(value).any(is_no_transform),
        _ => false,
    }
}

/// Whether the bytes of a response may be other ones for another client.
fn may_be_changed(status: StatusCode, fields: &HeaderMap) -> Result<(), NotCoded> {
    let has_none = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    if status.is_informational() || has_none.contains(&status) {
        return Err(NotCoded::Status);
    }
    if forbids_change(fields) {
        return Err(NotCoded::NoTransform);
    }
    if fields.contains_key(SIGNATURE_INPUT) {
        return Err(NotCoded::Signed);
    }
    Ok(())
}

fn is_worth_it(fields: &HeaderMap, length: Option<u64>, policy: &Compress) -> Result<(), NotCoded> {
    let essence = media_type::essence(fields);
    // Its messages are framed, and compressed or not, by the two ends.
    if media_type::is_grpc(fields) || !policy.types.iter().any(|pattern| pattern.matches(essence)) {
        return Err(NotCoded::Type);
    }
    if fields.contains_key(SET_COOKIE) {
        return Err(NotCoded::SetCookie);
    }
    match length {
        Some(length) if length == 0 || length < policy.min_size => Err(NotCoded::Small),
        _ => Ok(()),
    }
}

/// Of the content that a part was taken from: `bytes 0-1/11`.
fn whole_length(fields: &HeaderMap) -> Option<u64> {
    let range = fields.get(CONTENT_RANGE)?.as_bytes();
    framing::length(range.rsplit(|byte| *byte == b'/').next()?)
}

fn is_gzip(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// `Cache-Control: no-transform` (RFC 9111 §5.2).
fn forbids_change(fields: &HeaderMap) -> bool {
    list(fields, &CACHE_CONTROL).any(is_no_transform)
}

fn is_no_transform(directive: &[u8]) -> bool {
    directive.eq_ignore_ascii_case(b"no-transform")
}

fn is_ambient(credentials: &HeaderValue) -> bool {
    let scheme = credentials.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    AMBIENT_SCHEMES.iter().any(|ambient| scheme.eq_ignore_ascii_case(ambient))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Levels, TypePattern};
    use crate::header::rows;

    const OFFERED: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn policy() -> Compress {
        Compress {
            codings: OFFERED.to_vec(),
            levels: Levels { gzip: 6, br: 4, zstd: 3 },
            min_size: 1024,
            types: vec![
                TypePattern::Any("text/".to_owned(), String::new()),
                TypePattern::Any("application/".to_owned(), "+json".to_owned()),
                TypePattern::Any("application/grpc".to_owned(), String::new()),
            ],
        }
    }

    #[test]
    fn the_coding_that_a_client_likes_best_is_chosen() {
        use Coding::*;
        let check = |text: &str, expected: Option<Coding>| {
            let fields = rows::fields(&format!("Accept-Encoding: {text}"));
            assert_eq!(Accepted::of(&fields).unwrap().choose(&OFFERED), expected, "{text}");
        };
        check("gzip", Some(Gzip));
        check("GZip", Some(Gzip));
        check("x-gzip", Some(Gzip));
        check("gzip, deflate, br, zstd", Some(Zstd));
        check("gzip, br", Some(Br));
        check("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Gzip));
        check("gzip ; Q=0.5 , br;q=0.501", Some(Br));
        check("*", Some(Zstd));
        check("zstd;q=0, *", Some(Br));
        check("gzip;q=0.5, *;q=0.1", Some(Gzip));
        check("gzip, *;q=0", Some(Gzip));
        check("identity;q=0.5, gzip;q=0.4", None);
        check("identity;q=0.5, gzip;q=0.5", Some(Gzip));
        check("identity, gzip", Some(Gzip));
        check("identity;q=0, gzip;q=0.001", Some(Gzip));
        check("gzip, gzip;q=0", Some(Gzip));
        for none in ["", "identity", "deflate", "gzip;q=0", "gzip;q=0.000", "br;q=0, *;q=0", "*;q=0", ",,", "gz"] {
            check(none, None);
        }
        // What is malformed is not taken for an interest.
        for odd in
            ["gzip;q=", "gzip;q=1.5", "gzip;q=2", "gzip;q=0.1234", "gzip;q=-1", "gzip;q=a", "gzip;level=9", "gzip;"]
        {
            check(odd, None);
        }
    }

    #[track_caller]
    fn check(request: &str, response: &str, expected: Plan) {
        let (head, length) = response.split_once('|').unwrap();
        let (status, text) = head.split_once(' ').unwrap_or((head, ""));
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        let asked = Asked::by(&rows::fields(request), request.contains("X-Reflected"));
        let fields = rows::fields(&text.replace("; ", "\n"));
        let found = plan(&asked, status, &fields, length.trim().parse().ok(), &policy());
        assert_eq!(found, expected, "{request} / {response}");
    }

    fn left(why: NotCoded) -> Plan {
        Plan::Leave { why, varies: false }
    }

    fn left_varying(why: NotCoded) -> Plan {
        Plan::Leave { why, varies: true }
    }

    #[test]
    fn what_the_response_says_comes_first() {
        let gzip = Plan::Code(Coding::Gzip);
        let check = |response: &str, expected| check("Accept-Encoding: gzip", response, expected);
        check("200 Content-Type: text/html|1024", gzip);
        check("200 Content-Type: text/html|?", gzip);
        check("404 Content-Type: text/html|5000", gzip);
        check("200 Content-Type: application/hal+json|5000", gzip);
        check("200 Content-Type: text/html; Content-Encoding: identity|5000", gzip);
        check("200 Content-Type: text/event-stream|?", gzip);
        check("200 Content-Type: text/html; Cache-Control: public, max-age=60|5000", gzip);
        check("200 Content-Type: text/html|1023", left(NotCoded::Small));
        check("200 Content-Type: text/html|0", left(NotCoded::Small));
        check("200 Content-Type: image/png|5000", left(NotCoded::Type));
        check("200|5000", left(NotCoded::Type));
        check("200 Content-Type: application/grpc+proto|?", left(NotCoded::Type));
        check("200 Content-Type: application/grpc-web+json|?", left(NotCoded::Type));
        check("204 Content-Type: text/html|?", left(NotCoded::Status));
        check("304 Content-Type: text/html|?", left(NotCoded::Status));
        let part = "206 Content-Type: text/html; Content-Range: bytes";
        check(&format!("{part} 0-9/5000|10"), left_varying(NotCoded::Range));
        check(&format!("{part} 0-9/*|10"), left_varying(NotCoded::Range));
        check(&format!("{part} 0-9/20|10"), left(NotCoded::Range));
        check("206 Content-Type: image/png; Content-Range: bytes 0-9/5000|10", left(NotCoded::Range));
        check("200 Content-Type: text/html; Content-Range: bytes 0-9/5000|5000", left(NotCoded::Range));
        check("416 Content-Type: text/html; Content-Range: bytes */5|5000", left(NotCoded::Range));
        check("200 Content-Type: text/html; Cache-Control: max-age=1, No-Transform|5000", left(NotCoded::NoTransform));
        check("200 Content-Type: text/html; Set-Cookie: a=b|5000", left(NotCoded::SetCookie));
        check("200 Content-Type: text/html; Signature-Input: a|5000", left(NotCoded::Signed));
        check("200 Content-Type: text/html; Content-Encoding: br|5000", left(NotCoded::AlreadyCoded));
        check("200 Content-Type: text/html; Content-Encoding: gzip, gzip|5000", left(NotCoded::AlreadyCoded));
        check("200 Content-Type: text/html; Content-Encoding: gzip|5000", left_varying(NotCoded::AlreadyCoded));
    }

    #[test]
    fn what_the_request_says_leaves_it_to_other_clients() {
        let zstd = Plan::Code(Coding::Zstd);
        let check = |request: &str, expected| check(request, "200 Content-Type: text/html|5000", expected);
        check("Accept-Encoding: *", zstd);
        check("Accept-Encoding: *\nAuthorization: Bearer x", zstd);
        check("Accept-Encoding: *\nCookie: a=b", zstd);
        check("Accept-Encoding: *\nX-Reflected: 1", zstd);
        check("Accept-Encoding: *\nX-Reflected: 1\nCookie: a=b", left_varying(NotCoded::Cookie));
        check("Accept-Encoding: *\nAuthorization: basic x", left_varying(NotCoded::Credentials));
        check("Accept-Encoding: *\nAuthorization: Negotiate x", left_varying(NotCoded::Credentials));
        check("Accept-Encoding: *\nX-No-Compression: 1", left_varying(NotCoded::SwitchedOff));
        check("Accept-Encoding: *\nCache-Control: no-transform", left_varying(NotCoded::NoTransform));
        check("", left_varying(NotCoded::NotAsked));
        check("Accept-Encoding: deflate", left_varying(NotCoded::NotAccepted));
        check("Accept-Encoding: deflate\nAccept-Encoding: zstd", zstd);
    }

    #[test]
    fn gzip_is_decoded_for_who_cannot_take_it() {
        let check = |request: &str, expected| {
            check(request, "200 Content-Type: image/png; Content-Encoding: x-gzip|5", expected);
        };
        check("Accept-Encoding: br", Plan::Decode);
        check("Accept-Encoding:", Plan::Decode);
        check("Accept-Encoding: *, gzip;q=0", Plan::Decode);
        check("Accept-Encoding: identity\nAuthorization: Basic x", Plan::Decode);
        check("Accept-Encoding: br\nCache-Control: no-transform", left_varying(NotCoded::AlreadyCoded));
        check("Accept-Encoding: gzip;q=0.1, br", left_varying(NotCoded::AlreadyCoded));
        check("Accept-Encoding: *", left_varying(NotCoded::AlreadyCoded));
        check("", left_varying(NotCoded::AlreadyCoded));
    }

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let codes: std::collections::BTreeSet<_> = NotCoded::ALL.iter().map(|why| why.code()).collect();
        assert_eq!(codes.len(), NotCoded::ALL.len());
        for (place, why) in NotCoded::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place, "{why:?}");
        }
    }

    proptest! {
        /// What is refused is never chosen, and nothing that is liked better is passed over.
        #[test]
        fn the_choice_is_among_the_best(weights in prop::collection::vec(0_u16..=1000, 4), order in 0_usize..3) {
            let written = |weight: u16| format!("{}.{:03}", weight / 1000, weight % 1000);
            let [zstd, br, gzip, identity] = [0, 1, 2, 3].map(|n| written(weights[n]));
            let fields =
                rows::fields(&format!("Accept-Encoding: br;q={br},gzip;q={gzip}, identity;q={identity},zstd;q={zstd}"));
            let accepted = Accepted::of(&fields).unwrap();
            let mut offered = OFFERED;
            offered.rotate_left(order);
            let best = weights[..3].iter().copied().max().unwrap();
            match accepted.choose(&offered) {
                Some(coding) => {
                    prop_assert_eq!(accepted.weight(coding), best);
                    prop_assert!(best > 0 && best >= weights[3]);
                    let first = offered.into_iter().find(|offered| accepted.weight(*offered) == best);
                    prop_assert_eq!(first, Some(coding));
                }
                None => prop_assert!(best == 0 || best < weights[3]),
            }
        }

        #[test]
        fn no_field_is_too_odd(line in "[ -~]{0,60}") {
            let mut fields = HeaderMap::new();
            fields.insert(ACCEPT_ENCODING, HeaderValue::from_str(&line).unwrap());
            let _chosen = Accepted::of(&fields).unwrap().choose(&OFFERED);
        }
    }
}
