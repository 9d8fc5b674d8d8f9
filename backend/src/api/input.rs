//! Reads what a client sends into types that cannot be wrong. Every refusal names the field; fields that nobody knows
//! are refused by the types themselves (`deny_unknown_fields`).

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Problem;

/// The body, as JSON of type `T`.
pub struct Body<T>(pub T);

/// The parameters of the query, as type `T`.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON: Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(refused)?;
        json(&bytes).map(Body)
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
    let parent = if path == "." { "" } else { path };
    let named = |name: &str| {
        let parent = parent.strip_suffix(name).map_or(parent, |parent| parent.trim_end_matches('.'));
        if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
    };
    let quoted = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("missing field") {
        Problem::invalid(named(quoted), "is missing")
    } else if message.starts_with("unknown field") {
        Problem::invalid(named(quoted), "is not known here")
    } else if message.starts_with("duplicate field") {
        Problem::invalid(named(quoted), "is given twice")
    } else {
        Problem::invalid(parent, message)
    }
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
