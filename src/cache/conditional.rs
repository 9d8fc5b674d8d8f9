//! Conditional requests (RFC 9110 §13, RFC 9111 §4.3): whether a client already has what would be sent, what a 304
//! says, and the question by which the cache has a stored response validated.
//!
//! It decides for a response of 200 alone; other statuses are sent without looking at any precondition
//! (RFC 9110 §13.2.1). It sends nothing.

use std::time::{Duration, SystemTime};

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, Method};

use crate::header::date;
use crate::header::entity_tag::{self, EntityTag, single};

/// What a precondition makes of a response of 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Send,
    /// 304.
    NotModified,
}

/// What a response is compared by. It is looked at only when a request has a precondition.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    pub response: &'a HeaderMap,
    /// When it came.
    pub received: SystemTime,
    /// Or it goes through.
    pub is_stored: bool,
}

impl<'a> Validators<'a> {
    pub fn etag(&self) -> Option<EntityTag<'a>> {
        EntityTag::of(self.response)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        date(self.response, &LAST_MODIFIED, self.received)
    }

    /// A stored response without `Last-Modified` was not modified after it was made (RFC 9111 §4.3.2).
    fn modified_at_latest(&self) -> Option<SystemTime> {
        let made = || date(self.response, &DATE, self.received).unwrap_or(self.received);
        self.last_modified().or_else(|| self.is_stored.then(made))
    }

    /// `Last-Modified` says what the bytes are only if they cannot have changed again in the same second
    /// (RFC 9110 §8.8.2.2).
    fn strong_last_modified(&self) -> Option<SystemTime> {
        let modified = self.last_modified()?;
        let apart = date(self.response, &DATE, self.received)?.duration_since(modified).ok()?;
        (apart >= Duration::from_secs(1)).then_some(modified)
    }
}

/// What is to be done with a response of 200, by steps 3 and 4 of RFC 9110 §13.2.2. `If-Match` and `If-Unmodified-Since`
/// do not apply to a cache (RFC 9111 §4.3.2): a request that has them is best sent on to who can answer.
pub fn evaluate(method: &Method, request: &HeaderMap, selected: &Validators<'_>) -> Verdict {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Verdict::Send;
    }
    let is_known = if request.contains_key(IF_NONE_MATCH) {
        // It replaces If-Modified-Since, also where it does not match.
        names(request, &IF_NONE_MATCH, selected, |tag, etag| tag.weakly_equals(etag))
    } else {
        let since = date(request, &IF_MODIFIED_SINCE, selected.received);
        since.is_some_and(|since| selected.modified_at_latest().is_some_and(|modified| modified <= since))
    };
    if is_known { Verdict::NotModified } else { Verdict::Send }
}

/// Whether `Range` may be followed (RFC 9110 §13.1.5): without `If-Range`, or if that names exactly these bytes.
pub fn range_applies(request: &HeaderMap, selected: &Validators<'_>) -> bool {
    if !request.contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = single(request, &IF_RANGE) else { return false };
    if let Some(tag) = EntityTag::parse(value.as_bytes()) {
        return selected.etag().is_some_and(|etag| etag.strongly_equals(&tag));
    }
    // The date is not compared as earlier or later, but taken for an exact validator.
    date::parse(value.as_bytes(), selected.received).is_some_and(|date| selected.strong_last_modified() == Some(date))
}

fn names(
    request: &HeaderMap,
    list: &HeaderName,
    selected: &Validators<'_>,
    equals: fn(&EntityTag<'_>, &EntityTag<'_>) -> bool,
) -> bool {
    // There is a response, so `*` is met.
    if single(request, list).is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
        return true;
    }
    selected.etag().is_some_and(|etag| entity_tag::list(request, list).any(|tag| equals(&tag, &etag)))
}

/// A date is ignored if it is none, or not the only one. Years of two digits are read by when the response came.
fn date(fields: &HeaderMap, name: &HeaderName, received: SystemTime) -> Option<SystemTime> {
    date::parse(single(fields, name)?.as_bytes(), received)
}

/// What describes content that a 304 does not have.
static OF_CONTENT: [HeaderName; 10] = [
    CONTENT_TYPE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    TRAILER,
    TRANSFER_ENCODING,
];

/// Leaves what a 304 carries of the fields of the 200 in whose place it is sent (RFC 9110 §15.4.5): all that
/// guides a cache, and what is not about the content.
pub fn not_modified(fields: &mut HeaderMap) {
    for name in &OF_CONTENT {
        fields.remove(name);
    }
    // With an entity tag it says nothing more.
    if fields.contains_key(ETAG) {
        fields.remove(LAST_MODIFIED);
    }
}

/// What the tags of stored variants may take up in a request.
const TAGS_BYTES_MAX: usize = 4096;

/// Takes the preconditions out of a request whose answer is to be stored, and not only compared.
pub fn remove(request: &mut HeaderMap) {
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE] {
        request.remove(name);
    }
}

/// Replaces the preconditions of a client by the question whether one of the stored responses is still right
/// (RFC 9111 §4.3.1). The tags have to be those of the origin. False is that there is nothing to ask by; then the
/// request asks for the whole.
pub fn validate<'a>(request: &mut HeaderMap, stored: impl IntoIterator<Item = &'a HeaderMap> + Clone) -> bool {
    remove(request);
    let tags = entity_tag::join(stored.clone().into_iter().filter_map(EntityTag::of), TAGS_BYTES_MAX);
    let mut stored = stored.into_iter();
    // A date cannot name one of several.
    let only = stored.next().filter(|_| stored.next().is_none());
    // As it was spelled: many origins compare the text.
    let modified = only.and_then(|response| single(response, &LAST_MODIFIED)).cloned();
    let has_validator = tags.is_some() || modified.is_some();
    for (name, value) in [(IF_NONE_MATCH, tags), (IF_MODIFIED_SINCE, modified)] {
        if let Some(value) = value {
            request.insert(name, value);
        }
    }
    has_validator
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Verdict::{NotModified, Send};
    use super::*;
    use crate::header::rows::{fields, text};

    const GET: Method = Method::GET;

    /// Ten o'clock and what is around it.
    const BEFORE: &str = "Sat, 21 Nov 2026 09:59:59 GMT";
    const TEN: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
    const TEN_RFC850: &str = "Saturday, 21-Nov-26 10:00:00 GMT";
    const TEN_ASCTIME: &str = "Sat Nov 21 10:00:00 2026";
    const AFTER: &str = "Sat, 21 Nov 2026 10:00:01 GMT";

    /// A row: the request's fields, `name: value` joined by `|`, with TEN and its neighbours spelled out.
    fn row(text: &str) -> HeaderMap {
        let dates = [
            ("BEFORE", BEFORE),
            ("TEN_RFC850", TEN_RFC850),
            ("TEN_ASCTIME", TEN_ASCTIME),
            ("TEN", TEN),
            ("AFTER", AFTER),
        ];
        let text = dates.iter().fold(text.replace('|', "\n"), |text, (name, date)| text.replace(name, date));
        fields(&text)
    }

    fn validators(response: &HeaderMap, is_stored: bool) -> Validators<'_> {
        Validators { response, received: date::parse(TEN.as_bytes(), SystemTime::UNIX_EPOCH).unwrap(), is_stored }
    }

    fn verdict(is_stored: bool, method: &Method, request: &str, response: &str) -> Verdict {
        evaluate(method, &row(request), &validators(&row(response), is_stored))
    }

    #[track_caller]
    fn check(request: &str, response: &str, expected: Verdict) {
        for is_stored in [true, false] {
            for method in [Method::GET, Method::HEAD] {
                let verdict = verdict(is_stored, &method, request, response);
                assert_eq!(verdict, expected, "{is_stored} {method}: {request} against {response}");
            }
        }
    }

    #[test]
    fn if_none_match() {
        for (request, response, expected) in [
            ("", "etag: \"a\"", Send),
            ("\"a\"", "etag: \"a\"", NotModified),
            ("\"b\"", "etag: \"a\"", Send),
            ("\"a\", \"b\", \"c\"", "etag: \"a\"", NotModified),
            ("\"b\", \"a\", \"c\"", "etag: \"a\"", NotModified),
            ("\"b\", \"c\", \"a\"", "etag: \"a\"", NotModified),
            ("\"b\"|if-none-match: \"a\"", "etag: \"a\"", NotModified),
            // Weakly compared (RFC 9110 §13.1.2).
            ("W/\"a\"", "etag: \"a\"", NotModified),
            ("\"a\"", "etag: W/\"a\"", NotModified),
            ("W/\"a\"", "etag: W/\"a\"", NotModified),
            ("*", "etag: \"a\"", NotModified),
            ("*", "", NotModified),
            ("\"a\", *", "etag: \"b\"", Send),
            ("\"a\"", "", Send),
            ("\"\"", "", Send),
            // What is malformed matches nothing.
            ("a", "etag: \"a\"", Send),
            ("\"a\"", "etag: a", Send),
            ("w/\"a\"", "etag: w/\"a\"", Send),
            ("\"a\u{fc}\"", "etag: \"a\u{fc}\"", NotModified),
        ] {
            check(&format!("if-none-match: {request}"), response, expected);
        }
        // Without a precondition, and for other methods.
        check("", "etag: \"a\"", Send);
        assert_eq!(verdict(true, &Method::POST, "if-none-match: \"a\"", "etag: \"a\""), Send);
    }

    #[test]
    fn if_none_match_goes_before_the_date() {
        let response = "etag: \"a\"|last-modified: TEN";
        check("if-none-match: \"a\"|if-modified-since: BEFORE", response, NotModified);
        check("if-none-match: \"b\"|if-modified-since: AFTER", response, Send);
        check("if-none-match: x|if-modified-since: AFTER", response, Send);
    }

    #[test]
    fn if_modified_since() {
        for (request, response, expected) in [
            ("TEN", "last-modified: TEN", NotModified),
            ("AFTER", "last-modified: TEN", NotModified),
            ("BEFORE", "last-modified: TEN", Send),
            ("TEN_RFC850", "last-modified: TEN", NotModified),
            ("TEN", "last-modified: TEN_ASCTIME", NotModified),
            ("TEN", "last-modified: x", Send),
            ("x", "last-modified: TEN", Send),
            ("TEN|if-modified-since: TEN", "last-modified: TEN", Send),
            ("TEN, TEN", "last-modified: TEN", Send),
        ] {
            // With a late `Date`, so that it is not taken where `Last-Modified` is no date.
            check(&format!("if-modified-since: {request}"), &format!("{response}|date: AFTER"), expected);
        }
        assert_eq!(verdict(true, &Method::POST, "if-modified-since: TEN", "last-modified: TEN"), Send);
    }

    #[test]
    fn a_stored_response_was_not_modified_after_its_date() {
        let cached = |request: &str, response: &str| verdict(true, &GET, request, response);
        assert_eq!(cached("if-modified-since: BEFORE", "date: BEFORE"), NotModified);
        assert_eq!(cached("if-modified-since: BEFORE", "date: TEN"), Send);
        // Without `Date`, from when it was received.
        assert_eq!(cached("if-modified-since: TEN", ""), NotModified);
        assert_eq!(cached("if-modified-since: BEFORE", ""), Send);
        // What goes through has no date to compare.
        assert_eq!(verdict(false, &GET, "if-modified-since: AFTER", "date: TEN"), Send);
    }

    #[test]
    fn preconditions_against_lost_updates_are_the_origins() {
        check("if-match: \"b\"", "etag: \"a\"", Send);
        check("if-unmodified-since: BEFORE", "last-modified: TEN", Send);
        check("if-match: \"b\"|if-none-match: \"a\"", "etag: \"a\"", NotModified);
    }

    #[test]
    fn if_range_names_exactly_these_bytes() {
        for (request, response, expected) in [
            ("", "", true),
            ("if-range: \"a\"", "etag: \"a\"", true),
            ("if-range: \"b\"", "etag: \"a\"", false),
            ("if-range: \"a\"", "etag: W/\"a\"", false),
            ("if-range: W/\"a\"", "etag: W/\"a\"", false),
            ("if-range: W/\"a\"", "etag: \"a\"", false),
            ("if-range: \"a\"", "", false),
            ("if-range: \"a\", \"b\"", "etag: \"a\"", false),
            ("if-range: \"a\"|if-range: \"a\"", "etag: \"a\"", false),
            ("if-range: *", "etag: \"a\"", false),
            ("if-range:", "etag: \"a\"", false),
            // The tag of the coded content names other bytes than the plain one.
            ("if-range: \"a~gzip\"", "etag: \"a\"", false),
            ("if-range: TEN", "last-modified: TEN|date: AFTER", true),
            ("if-range: TEN_ASCTIME", "last-modified: TEN|date: AFTER", true),
            ("if-range: AFTER", "last-modified: TEN|date: AFTER", false),
            ("if-range: BEFORE", "last-modified: TEN|date: AFTER", false),
            // It may have changed again in the same second.
            ("if-range: TEN", "last-modified: TEN|date: TEN", false),
            ("if-range: TEN", "last-modified: TEN|date: BEFORE", false),
            ("if-range: TEN", "last-modified: TEN", false),
            ("if-range: x", "last-modified: TEN|date: AFTER", false),
        ] {
            let response = row(response);
            let selected = validators(&response, false);
            assert_eq!(range_applies(&row(request), &selected), expected, "{request} against {response:?}");
        }
    }

    #[test]
    fn what_a_304_carries() {
        let kept = "age: 5\ncache-control: max-age=60\ncontent-location: /a\ncontent-security-policy: x\ndate: x\n\
            etag: \"a\"\nexpires: x\nset-cookie: a=b\nvary: accept\nx: 1";
        let content = "content-type: a/b\ncontent-length: 5\ncontent-encoding: br\ncontent-language: en\n\
            content-range: x\ncontent-md5: x\ncontent-digest: x\nrepr-digest: x\ntrailer: x\nlast-modified: x";
        let mut response = fields(&format!("{kept}\n{content}"));
        not_modified(&mut response);
        assert_eq!(text(&response), kept);
        let mut untagged = fields("last-modified: x\ncontent-type: a/b");
        not_modified(&mut untagged);
        assert_eq!(text(&untagged), "last-modified: x");
    }

    #[track_caller]
    fn check_validation(stored: &[&str], expected: &str) {
        let stored: Vec<_> = stored.iter().map(|response| row(response)).collect();
        let mut request = row(
            "if-match: \"x\"|if-none-match: \"x\"|if-modified-since: AFTER|if-unmodified-since: TEN|if-range: \"x\"|x: 1",
        );
        let has_validator = validate(&mut request, &stored);
        assert_eq!(text(&request), text(&row(&format!("{expected}|x: 1"))), "{stored:?}");
        assert_eq!(has_validator, !expected.is_empty(), "{stored:?}");
    }

    #[test]
    fn a_validation_asks_by_what_is_stored() {
        check_validation(&["etag: \"a\""], "if-none-match: \"a\"");
        check_validation(&["etag: W/\"a\""], "if-none-match: W/\"a\"");
        check_validation(&["last-modified: TEN_RFC850"], "if-modified-since: TEN_RFC850");
        check_validation(&["etag: \"a\"|last-modified: TEN"], "if-none-match: \"a\"|if-modified-since: TEN");
        check_validation(&["etag: \"a\"|last-modified: TEN", "etag: \"b\""], "if-none-match: \"a\", \"b\"");
        check_validation(&["last-modified: TEN", "last-modified: AFTER"], "");
        check_validation(&["etag: a"], "");
        check_validation(&["date: TEN"], "");
        check_validation(&[], "");
        let long = format!("etag: \"{}\"", "a".repeat(5000));
        check_validation(&[&long, "etag: \"b\""], "");
    }

    #[test]
    fn a_request_without_preconditions() {
        let mut request =
            row("if-match: *|if-none-match: *|if-modified-since: x|if-unmodified-since: x|if-range: x|range: bytes=0-");
        remove(&mut request);
        assert_eq!(text(&request), "range: bytes=0-");
    }

    fn any_fields(names: &'static [&'static str]) -> impl Strategy<Value = HeaderMap> {
        let value = prop_oneof!["[\"W/ab,* ]{0,8}", Just(TEN.to_owned()), Just(AFTER.to_owned())];
        vec((proptest::sample::select(names), value), 0..5).prop_map(|lines| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(name, value.parse().unwrap());
            }
            fields
        })
    }

    proptest! {
        #[test]
        fn any_request_has_a_verdict(
            request in any_fields(&["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"]),
            response in any_fields(&["etag", "last-modified", "date"]),
        ) {
            let selected = validators(&response, true);
            let cached = evaluate(&GET, &request, &selected);
            if selected.last_modified().is_some() {
                prop_assert_eq!(cached, evaluate(&GET, &request, &Validators { is_stored: false, ..selected }));
            }
            range_applies(&request, &selected);
            // What was sent with an entity tag is not sent again to who asks with it.
            if let Some(etag) = selected.etag() {
                let mut again = HeaderMap::new();
                again.insert(IF_NONE_MATCH, etag.value().unwrap());
                prop_assert_eq!(evaluate(&GET, &again, &selected), NotModified);
            }
        }
    }
}
