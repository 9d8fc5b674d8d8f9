//! The routes of jobs: how far one is, and what people were told.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::storage::{Stored, Told};
use super::{Job, JobError};
use crate::App;
use crate::api::{Caller, Page, PageQuery, Parameters, Path, Policy, Problem, Route};
use crate::clock::rfc3339;

pub fn routes() -> Vec<Route> {
    vec![Route::new(routes!(progress)).policy(Policy::Owner), Route::new(routes!(notifications)).policy(Policy::User)]
}

/// A job that a request has left.
#[derive(Debug, Serialize, ToSchema)]
pub struct Left {
    /// Ask for it at `/api/v1/jobs/{id}`.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
    #[schema(example = "thumbnail")]
    kind: &'static str,
}

impl From<&Job> for Left {
    fn from(job: &Job) -> Self {
        Self { id: job.id.clone(), kind: job.kind.name() }
    }
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
struct JobProgress {
    id: String,
    #[schema(example = "media")]
    queue: &'static str,
    #[schema(example = "thumbnail")]
    kind: &'static str,
    /// The name of what it is about.
    subject: String,
    state: JobState,
    /// How often it was begun.
    attempts: i64,
    attempts_max: i64,
    /// Why the last attempt failed.
    fault: Option<String>,
    /// The trace of the request that left it.
    trace_id: String,
    #[schema(format = "date-time")]
    created_at: String,
    /// When it is tried next, if it waits.
    #[schema(format = "date-time")]
    due_at: Option<String>,
    #[schema(format = "date-time")]
    ended_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum JobState {
    Waiting,
    Running,
    Done,
    Failed,
}

impl JobState {
    fn of(stored: &Stored) -> Self {
        match (stored.outcome.as_deref(), &stored.lease) {
            (Some("done"), _) => Self::Done,
            (Some(_), _) => Self::Failed,
            (None, Some(_)) => Self::Running,
            (None, None) => Self::Waiting,
        }
    }
}

impl From<Stored> for JobProgress {
    fn from(stored: Stored) -> Self {
        let state = JobState::of(&stored);
        let Stored { job, attempts, due_ms, fault, created_ms, ended_ms, .. } = stored;
        let queue = job.kind.queue();
        Self {
            id: job.id,
            queue: queue.name(),
            kind: job.kind.name(),
            subject: job.subject,
            state,
            attempts,
            attempts_max: queue.attempts_max(),
            fault,
            trace_id: job.trace_id,
            created_at: rfc3339(created_ms),
            due_at: (state == JobState::Waiting).then(|| rfc3339(due_ms)),
            ended_at: ended_ms.map(rfc3339),
        }
    }
}

/// How far one of the caller's jobs is. It is there for a week after its end.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobProgress), (status = 404, description = "The caller has no such job")),
)]
async fn progress(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let stored = app.jobs.get(&caller.user, &id).await?;
    Ok(Json(JobProgress::from(stored)).into_response())
}

/// That everything there was to do for a thing of yours is done.
#[derive(Debug, Serialize, ToSchema)]
struct Notification {
    id: String,
    /// The name of the thing.
    subject: String,
    #[schema(format = "date-time")]
    created_at: String,
}

impl From<Told> for Notification {
    fn from(told: Told) -> Self {
        Self { id: told.id, subject: told.subject, created_at: rfc3339(told.created_ms) }
    }
}

/// What the caller was told, the newest first.
#[utoipa::path(
    get, path = "/api/v1/notifications", tag = "jobs", params(PageQuery),
    responses((status = 200, body = Page<Notification>)),
)]
async fn notifications(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    let page = app.jobs.told(&caller.user, &query).await?;
    let items = page.items.into_iter().map(Notification::from).collect();
    Ok(Json(Page { items, next: page.next }).into_response())
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Store(error) => error.into(),
            JobError::Random(error) => error.into(),
            JobError::Full => Self::unavailable("queue-full", "too much waits to be done already").because(&error),
            JobError::Gone => Self::not_found(),
            JobError::Late => Self::internal(&error),
        }
    }
}
