//! The routes of workflows: what is read from a request, and which answer each outcome becomes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG, HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::WorkflowError;
use super::definition::{Definition, Fault, faults};
use super::library::{Workflow, WorkflowQuery, WorkflowSummary};
use super::run::{Next, Run};
use crate::App;
use crate::api::conditional::has_already;
use crate::api::{Body, Caller, Page, PageQuery, Parameters, Path, Policy, Problem, Route, SearchQuery};

const FOR_EVERYBODY: &str = "public, max-age=60, s-maxage=300";
/// The edge may keep it, but shows it to nobody without asking (RFC 9111 §3.5): the app knows who may see it.
const ASK_EACH_TIME: &str = "max-age=0, must-revalidate";
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(routes!(list)).policy(Policy::Anonymous),
        Route::new(routes!(search)).policy(Policy::Anonymous),
        Route::new(routes!(validate)).policy(Policy::Anonymous),
        Route::new(routes!(workflow)).policy(Policy::Anonymous),
        Route::new(routes!(start)).policy(Policy::User),
        Route::new(routes!(runs)).policy(Policy::User),
        Route::new(routes!(progress)).policy(Policy::Owner),
        Route::new(routes!(next)).policy(Policy::Owner),
        Route::new(routes!(confirm)).policy(Policy::Owner),
        Route::new(routes!(complete)).policy(Policy::Owner),
    ]
}

/// Workflows, all or those of a category.
#[utoipa::path(
    get, path = "/api/v1/workflows", tag = "workflows", params(WorkflowQuery),
    responses((status = 200, body = Page<WorkflowSummary>)),
)]
async fn list(State(app): State<Arc<App>>, Parameters(query): Parameters<WorkflowQuery>) -> Result<Response, Problem> {
    Ok(for_everybody("\"workflows\"".to_owned(), &app.workflows.list(query).await?))
}

/// Workflows by the words of their names and descriptions, the best match first.
#[utoipa::path(
    get, path = "/api/v1/workflows/search", tag = "workflows", params(SearchQuery),
    responses((status = 200, body = Page<WorkflowSummary>)),
)]
async fn search(State(app): State<Arc<App>>, Parameters(query): Parameters<SearchQuery>) -> Result<Response, Problem> {
    Ok(for_everybody("\"workflows\"".to_owned(), &app.workflows.search(&query).await?))
}

#[derive(Serialize, ToSchema)]
struct Verdict {
    valid: bool,
    /// At most a thousand.
    faults: Vec<Fault>,
}

/// Whether this would be a workflow; if not, everything that is wrong with it. It is not kept.
#[utoipa::path(
    post, path = "/api/v1/workflows/validate", tag = "workflows", request_body = Definition,
    responses((status = 200, body = Verdict)),
)]
async fn validate(Body(definition): Body<Map<String, Value>>) -> Json<Verdict> {
    let faults = faults(&definition);
    Json(Verdict { valid: faults.is_empty(), faults })
}

/// A workflow with its steps.
#[utoipa::path(
    get, path = "/api/v1/workflows/{id}", tag = "workflows", params(("id" = String, Path)),
    responses((status = 200, body = Workflow), (status = 404, description = "There is no such workflow")),
)]
async fn workflow(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let workflow = app.workflows.get(&id).await?;
    Ok(for_everybody(format!("\"workflow-{id}\""), &workflow))
}

/// Starts a run through a workflow.
#[utoipa::path(
    post, path = "/api/v1/workflows/{id}/runs", tag = "workflows", params(("id" = String, Path)),
    responses((status = 201, body = Run), (status = 404, description = "There is no such workflow")),
)]
async fn start(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = app.workflows.start(&caller, &id).await?;
    let location = [(LOCATION, format!("/api/v1/runs/{}/progress", run.id))];
    Ok((StatusCode::CREATED, location, Json(run)).into_response())
}

/// The caller's runs, the newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", tag = "workflows", params(PageQuery), responses((status = 200, body = Page<Run>)),
)]
async fn runs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    Ok(Json(app.workflows.runs(&caller, &query).await?).into_response())
}

/// How far one of the caller's runs is.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/progress", tag = "workflows", params(("id" = String, Path)),
    responses(
        (status = 200, body = Run),
        (status = 304, description = "It is what `If-None-Match` names"),
        (status = 404, description = "The caller has no such run"),
    ),
)]
async fn progress(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let run = app.workflows.progress(&caller, &id).await?;
    Ok(of_run(&fields, &id, &run.state(), &run))
}

/// The step of one of the caller's runs that is next.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/next", tag = "workflows", params(("id" = String, Path)),
    responses(
        (status = 200, body = Next),
        (status = 304, description = "It is what `If-None-Match` names"),
        (status = 404, description = "The caller has no such run"),
    ),
)]
async fn next(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let next = app.workflows.next(&caller, &id).await?;
    Ok(of_run(&fields, &id, &next.state(), &next))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// A step that requires confirmation is done only with `true`.
    #[serde(default)]
    confirmed: bool,
}

/// Does the next step. A repeat, for a step that is done, changes nothing.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/steps/{sequence}", tag = "workflows", request_body = Confirmation,
    params(("id" = String, Path), ("sequence" = i64, Path, description = "The place of the step, from 1 on")),
    responses(
        (status = 200, body = Run),
        (status = 404, description = "The caller has no such run, or it has no such step"),
        (status = 409, description = "The turn of the step has not come"),
    ),
)]
async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, sequence)): Path<(String, String)>,
    Body(confirmation): Body<Confirmation>,
) -> Result<Response, Problem> {
    let sequence = sequence.parse().map_err(|_no_number| WorkflowError::Gone)?;
    Ok(moved(&app.workflows.confirm(&caller, &id, sequence, confirmation.confirmed).await?))
}

/// Completes one of the caller's runs, all steps of which are done.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/complete", tag = "workflows", params(("id" = String, Path)),
    responses(
        (status = 200, body = Run),
        (status = 404, description = "The caller has no such run"),
        (status = 409, description = "Some steps are not done"),
    ),
)]
async fn complete(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(moved(&app.workflows.complete(&caller, &id).await?))
}

fn for_everybody(groups: String, answer: &impl Serialize) -> Response {
    ([(CACHE_CONTROL, FOR_EVERYBODY.to_owned()), (CACHE_GROUPS, groups)], Json(answer)).into_response()
}

/// The answer about one state of a run.
fn of_run(asked: &HeaderMap, run: &str, state: &str, answer: &impl Serialize) -> Response {
    let tag = format!("\"{state}\"");
    let is_known = has_already(asked, &tag);
    let fields = [(CACHE_CONTROL, ASK_EACH_TIME.to_owned()), (CACHE_GROUPS, group(run)), (ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, Json(answer)).into_response()
}

/// The answer to what moves a run: the edge keeps nothing of before.
fn moved(run: &Run) -> Response {
    ([(CACHE_GROUP_INVALIDATION, group(&run.id))], Json(run)).into_response()
}

/// Of all that is about a run. Its name is one that the database knows, so nothing in it has to be quoted.
fn group(run: &str) -> String {
    format!("\"run-{run}\"")
}

impl From<WorkflowError> for Problem {
    fn from(error: WorkflowError) -> Self {
        match error {
            WorkflowError::Store(error) => error.into(),
            WorkflowError::Gone => Self::not_found(),
            WorkflowError::Unconfirmed => Self::invalid("confirmed", "must be true: this step requires confirmation"),
            error @ WorkflowError::NotYet { .. } => Self::new(StatusCode::CONFLICT, "not-yet", error.to_string()),
            error @ WorkflowError::StepsLeft { .. } => Self::new(StatusCode::CONFLICT, "steps-left", error.to_string()),
        }
    }
}
