//! Reads what a client sends into types that cannot be wrong. Every refusal names the field; fields that nobody knows
//! are refused by the types themselves (`deny_unknown_fields`).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Problem;

/// For all of a body. A client that takes longer to send it holds a handler up, and is no fault of ours.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// A refusal quotes no more than this of what it refuses.
const QUOTED_LETTERS_MAX: usize = 200;

/// The body, as JSON of type `T`.
pub struct Body<T>(pub T);

/// What the path names, as type `T`. Where that cannot be the name of anything, there is nothing.
pub struct Path<T>(pub T);

/// The parameters of the query, as type `T`.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON: Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let bytes = tokio::time::timeout(BODY_TIME_MAX, Bytes::from_request(request, state)).await;
        let bytes = bytes.map_err(|_elapsed| too_slow())?.map_err(refused)?;
        json(&bytes).map(Body)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let nothing = || Problem::not_found();
        let names = RawPathParams::from_request_parts(parts, state).await.map_err(|_not_text| nothing())?;
        // PostgreSQL takes no NUL, not even to look for one.
        if names.iter().any(|(_, name)| name.contains('\0')) {
            return Err(nothing());
        }
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(names)| Self(names)).map_err(|_of_other_type| nothing())
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parameters(parts.uri.query().unwrap_or_default()).map(Parameters)
    }
}

fn is_json(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", "the body took longer than ten seconds")
}

fn refused(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body is larger than 1 MiB")
    } else {
        Problem::new(StatusCode::BAD_REQUEST, "body-not-whole", "the body ended early")
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take a list of values for the fields of a struct in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::invalid("", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        if error.is_data() {
            return at(&path, &error.to_string());
        }
        Problem::new(StatusCode::BAD_REQUEST, "not-json", format!("the body is not JSON: {error}"))
            .at("", "is not JSON")
    })?;
    deserializer.end().map_err(|error| {
        let detail = format!("something follows the JSON of the body: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "not-json", detail).at("", "is more than one value")
    })?;
    Ok(value)
}

fn parameters<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| at(&error.path().to_string(), &error.inner().to_string()))
}

/// Names the field of an error of serde, which for one that is missing or unknown says the name only in its words.
fn at(path: &str, message: &str) -> Problem {
    // The place in the text helps nobody who sends it by a program.
    let message = message.split(" at line ").next().unwrap_or(message);
    let (path, message) = (&quoted(path), &quoted(message));
    let parent = if path == "." { "" } else { path };
    let named = |name: &str| {
        let parent = parent.strip_suffix(name).map_or(parent, |parent| parent.trim_end_matches('.'));
        if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
    };
    let name = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("missing field") {
        Problem::invalid(named(name), "is missing")
    } else if message.starts_with("unknown field") {
        Problem::invalid(named(name), "is not known here")
    } else if message.starts_with("duplicate field") {
        Problem::invalid(named(name), "is given twice")
    } else {
        Problem::invalid(parent, message)
    }
}

/// The beginning of a text: who sent all of it need not get it back.
fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED_LETTERS_MAX).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http_body_util::BodyExt as _;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Item {
        count: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Page {
        limit: Option<u8>,
        q: String,
    }

    /// The field that a refusal names, and what it says of it.
    fn named<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> (String, String) {
        let body = outcome.unwrap_err().into_response().into_body();
        let mut collected = std::pin::pin!(body.collect());
        let waker = std::task::Waker::noop();
        let std::task::Poll::Ready(bytes) = collected.as_mut().poll(&mut std::task::Context::from_waker(waker)) else {
            panic!("the body is whole");
        };
        let details: Value = serde_json::from_slice(&bytes.unwrap().to_bytes()).unwrap();
        let fault = &details["errors"][0];
        (fault["field"].as_str().unwrap().to_owned(), fault["detail"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn check(body: &str, field: &str, detail: &str) {
        assert_eq!(named(json::<Outer>(body.as_bytes())), (field.to_owned(), detail.to_owned()), "{body}");
    }

    #[test]
    fn every_fault_of_a_body_names_its_field() {
        check("{}", "name", "is missing");
        check(r#"{"name": "a", "age": 1}"#, "age", "is not known here");
        check(r#"{"name": "a", "name": "b"}"#, "name", "is given twice");
        check(r#"{"name": 7}"#, "name", "invalid type: integer `7`, expected a string");
        check(
            r#"{"name": "a", "items": [{"count": 1}, {"count": 256}]}"#,
            "items[1].count",
            "invalid value: integer `256`, expected u8",
        );
        check(r#"{"name": "a", "items": [{}]}"#, "items[0].count", "is missing");
        check(r#"{"name": "a", "items": [{"count": 1, "x": 1}]}"#, "items[0].x", "is not known here");
        check(r#"["a", []]"#, "", "must be a JSON object");
        check("{", "", "is not JSON");
        check("", "", "must be a JSON object");
        check(r#"{"name": "a"} {}"#, "", "is more than one value");
        check("{\"name\": \"\u{1}\"}", "", "is not JSON");
    }

    #[test]
    fn a_refusal_does_not_give_back_all_that_was_sent() {
        let much = "a".repeat(1 << 20);
        for body in [
            format!(r#"{{"name": "a", "items": "{much}"}}"#),
            format!(r#"{{"name": "a", "{much}": 1}}"#),
            format!(r#"{{"name": "a", "items": [{{"{much}": 1}}]}}"#),
        ] {
            let (field, detail) = named(json::<Outer>(body.as_bytes()));
            assert!(field.len() + detail.len() < 1000, "{} and {} bytes", field.len(), detail.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_the_clients_fault() {
        let body = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post("/").header(CONTENT_TYPE, "application/json").body(body).unwrap();
        let refusal = Body::<Outer>::from_request(request, &()).await.err().unwrap();
        assert_eq!((refusal.code(), refusal.into_response().status().as_u16()), ("body-too-slow", 408));
    }

    #[test]
    fn every_fault_of_a_query_names_its_parameter() {
        let check = |query: &str, field: &str, detail: &str| {
            assert_eq!(named(parameters::<Page>(query)), (field.to_owned(), detail.to_owned()), "{query}");
        };
        check("", "q", "is missing");
        check("q=a&limit=many", "limit", "invalid digit found in string");
        check("q=a&offset=1", "offset", "is not known here");
        check("q=a&q=b", "q", "is given twice");
        check("q=a&limit=256", "limit", "number too large to fit in target type");
    }

    #[test]
    fn json_is_known_by_its_type() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(is_json(&fields), expected, "{kind}");
        }
    }
}
