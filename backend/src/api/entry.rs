//! What happens around every handler of the app: its trace, who asks, its time limit, its count, and a line in the log
//! if it failed. It decides nothing about the subject.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tollgate_otlp::{Kind, Name};

use super::problem::Cause;
use super::{Policy, Problem};
use crate::trace::{Ended, Trace};
use crate::{App, say};

/// For everything up to the head of the response. It is longer than a database may be away, and shorter than a proxy waits.
const TIME_MAX: Duration = Duration::from_secs(20);

/// What probes and scrapes ask for.
const QUIET: [&str; 2] = ["/health", "/metrics"];

/// What is known of a route before anyone asks.
#[derive(Clone)]
pub struct Entry {
    app: Arc<App>,
    policy: Policy,
    path: Arc<str>,
}

impl Entry {
    pub fn new(app: Arc<App>, policy: Policy, path: &str) -> Self {
        Self { app, policy, path: path.into() }
    }
}

pub async fn enter(State(entry): State<Entry>, mut request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let (tracing, traceparent) = (&entry.app.tracing, text(request.headers(), "traceparent"));
    let joined =
        if QUIET.contains(&&*entry.path) { tracing.join_quietly(traceparent) } else { tracing.join(traceparent) };
    let trace = match joined {
        Ok(trace) => trace,
        Err(error) => return Problem::from(error).into_response(),
    };
    let mut user = None;
    let seen = trace.is_recorded().then(|| Seen::of(&request));
    let answered = async {
        match authenticate(&entry, request.headers()).await {
            Ok(None) => {}
            Ok(Some(caller)) => {
                user = Some(caller.user.clone());
                request.extensions_mut().insert(caller);
            }
            Err(problem) => {
                entry.app.metrics.refused(problem.code());
                return problem.into_response();
            }
        }
        request.extensions_mut().insert(trace.clone());
        next.run(request).await
    };
    let mut response = match tokio::time::timeout(TIME_MAX, trace.scope(answered)).await {
        Ok(response) => response,
        Err(_elapsed) => Problem::unavailable("too-slow", "this took too long").into_response(),
    };
    entry.app.metrics.answered(method.as_str(), &entry.path, response.status().as_u16(), begin.elapsed());
    name(&mut response, &trace);
    if let Some(seen) = seen {
        trace.ended(seen.answered(&entry.path, begin, &response.status(), user.as_deref()));
    }
    keep_private(&mut response, entry.policy);
    if response.status().is_server_error() {
        let status = response.status().as_u16();
        let cause = response.extensions().get::<Cause>().map_or("its time was over", |Cause(cause)| cause);
        let user = user.as_deref().unwrap_or("-");
        let Trace { trace_id, span_id, parent_id, .. } = &trace;
        let parent = parent_id.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        say(format_args!(
            "answered {status} to {method} {}: {cause} (trace={trace_id} span={span_id} parent={parent} user.id={user})",
            entry.path
        ));
    }
    response
}

/// What the SERVER span of a request says of it, by the semantic conventions for HTTP. Its query may hold secrets.
struct Seen {
    method: Method,
    path: String,
    scheme: &'static str,
    version: Version,
}

impl Seen {
    fn of(request: &Request) -> Self {
        let scheme = match text(request.headers(), "x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self { method, path, scheme, version: request.version() }
    }

    fn answered<'a>(
        &'a self,
        route: &'a str,
        begun: Instant,
        status: &'a StatusCode,
        user: Option<&'a str>,
    ) -> Ended<'a> {
        let version = if self.version == Version::HTTP_2 { "2" } else { "1.1" };
        let mut attributes = vec![
            ("http.request.method", self.method.as_str().into()),
            ("http.route", route.into()),
            ("url.path", self.path.as_str().into()),
            ("url.scheme", self.scheme.into()),
            ("network.protocol.version", version.into()),
            ("http.response.status_code", status.as_u16().into()),
        ];
        attributes.extend(user.map(|user| ("user.id", user.into())));
        let is_failure = status.is_server_error();
        if is_failure {
            attributes.push(("error.type", status.as_str().into()));
        }
        let (name, fault) = (Name(self.method.as_str(), Some(route)), is_failure.then(String::new));
        Ended { kind: Kind::Server, name, begun, attributes, fault }
    }
}

/// Who asks, as far as the policy wants to know.
async fn authenticate(entry: &Entry, fields: &HeaderMap) -> Result<Option<super::Caller>, Problem> {
    match (entry.policy, bearer(fields)) {
        (Policy::Anonymous, _) | (Policy::Anyone, None) => Ok(None),
        (Policy::Anyone | Policy::User | Policy::Owner, Some(token)) => {
            Ok(Some(entry.app.accounts.authenticate(token).await?))
        }
        (Policy::User | Policy::Owner, None) => {
            Err(Problem::unauthenticated("no-token", "sign in, and send the access token: Authorization: Bearer …"))
        }
    }
}

/// The token of `Authorization: Bearer …`; the scheme is not case-sensitive (RFC 9110 §11.1).
fn bearer(fields: &HeaderMap) -> Option<&str> {
    let (scheme, token) = fields.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

fn text<'f>(fields: &'f HeaderMap, name: &str) -> Option<&'f str> {
    fields.get(name)?.to_str().ok()
}

/// Says in the response which trace has it.
fn name(response: &mut Response, trace: &Trace) {
    for (name, value) in [("x-trace-id", &trace.trace_id.hex()[..]), ("x-span-id", &trace.span_id.hex()[..])] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// What depends on who asks is for nobody else, unless the handler says more exactly who may keep it.
fn keep_private(response: &mut Response, policy: Policy) {
    if policy == Policy::Anonymous {
        return;
    }
    let fields = response.headers_mut();
    fields.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if !fields.get_all(VARY).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"authorization")) {
        fields.append(VARY, HeaderValue::from_static("Authorization"));
    }
}

/// The answer where there is no route.
pub async fn nowhere() -> Problem {
    Problem::not_found()
}

/// The answer where there is a route, for other methods; `Allow` names them.
pub async fn other_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "not by this method")
}
