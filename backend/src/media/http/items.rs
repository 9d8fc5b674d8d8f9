//! The routes of items.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::App;
use crate::api::conditional::Editor;
use crate::api::{Body, Caller, Page, PageQuery, Parameters, Path, Policy, Problem, Route, SearchQuery};
use crate::clock::rfc3339;
use crate::jobs::Left;
use crate::media::answer::{Audience, Group, answer, answer_of, invalidating};
use crate::media::fields::{ContentType, MediaText, MediaTitle};
use crate::media::items::{Changed, NewItem};
use crate::media::storage::items::{Changes, Item};
use crate::trace::Trace;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(routes!(list)).policy(Policy::Anonymous),
        Route::new(routes!(search)).policy(Policy::Anonymous),
        Route::new(routes!(read)).policy(Policy::Anonymous),
        Route::new(routes!(create)).policy(Policy::User),
        Route::new(routes!(change)).policy(Policy::Owner),
        Route::new(routes!(remove)).policy(Policy::Owner),
    ]
}

/// An item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Media {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
    /// The user whose item it is.
    owner: String,
    title: String,
    description: String,
    #[schema(example = "image/jpeg")]
    content_type: String,
    /// False while a job is on its way that derives metadata or the thumbnail anew.
    is_settled: bool,
    metadata: Option<MediaMetadata>,
    thumbnail: Option<MediaThumbnail>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    changed_at: String,
}

/// Counts of its text.
#[derive(Debug, Serialize, ToSchema)]
struct MediaMetadata {
    /// "image", "audio", "video" or "document".
    kind: String,
    /// Of title and description.
    words: i64,
    text_bytes: i64,
}

/// What to draw in the place of an image.
#[derive(Debug, Serialize, ToSchema)]
struct MediaThumbnail {
    #[schema(example = "#a0b1c2")]
    color: String,
    #[schema(example = "AW")]
    initials: String,
}

impl From<Item> for Media {
    fn from(item: Item) -> Self {
        Self {
            is_settled: item.is_settled(),
            metadata: item.metadata.map(|(_version, found)| MediaMetadata {
                kind: found.kind,
                words: found.words,
                text_bytes: found.text_bytes,
            }),
            thumbnail: item
                .thumbnail
                .map(|(_version, drawn)| MediaThumbnail { color: drawn.color, initials: drawn.initials }),
            id: item.id,
            owner: item.owner,
            title: item.title,
            description: item.description,
            content_type: item.content_type,
            created_at: rfc3339(item.created_ms),
            changed_at: rfc3339(item.changed_ms),
        }
    }
}

/// All media, the newest first.
#[utoipa::path(
    get, path = "/api/v1/media", tag = "media", params(PageQuery),
    responses((status = 200, body = Page<Media>), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn list(
    State(app): State<Arc<App>>,
    fields: HeaderMap,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    page(&fields, app.media.newest(&query).await?)
}

/// Media with these words in title or description, the newest first.
#[utoipa::path(
    get, path = "/api/v1/media/search", tag = "media", params(SearchQuery),
    responses((status = 200, body = Page<Media>), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn search(
    State(app): State<Arc<App>>,
    fields: HeaderMap,
    Parameters(search): Parameters<SearchQuery>,
) -> Result<Response, Problem> {
    page(&fields, app.media.with_words(&search).await?)
}

fn page(fields: &HeaderMap, page: Page<Item>) -> Result<Response, Problem> {
    let is_settled = page.items.iter().all(Item::is_settled);
    let items = page.items.into_iter().map(Media::from).collect();
    answer(fields, &Audience::everyone(is_settled, vec![Group::Media]), &Page { items, next: page.next })
}

/// One item.
#[utoipa::path(
    get, path = "/api/v1/media/{id}", tag = "media", params(("id" = String, Path)),
    responses((status = 200, body = Media), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn read(State(app): State<Arc<App>>, fields: HeaderMap, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = app.media.item(&id).await?;
    let audience = Audience::everyone(item.is_settled(), vec![Group::Item(item.id.clone())]);
    answer_of(item.version, &fields, &audience, &Media::from(item))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMedia {
    title: MediaTitle,
    #[serde(default)]
    description: MediaText,
    content_type: ContentType,
}

/// An item, and what is still done for it.
#[derive(Serialize, ToSchema)]
struct ChangedMedia {
    media: Media,
    jobs: Vec<Left>,
}

impl From<Changed> for ChangedMedia {
    fn from(changed: Changed) -> Self {
        Self { jobs: changed.jobs.iter().map(Left::from).collect(), media: changed.item.into() }
    }
}

/// Adds an item. What is derived of it comes a little later.
#[utoipa::path(
    post, path = "/api/v1/media", tag = "media", request_body = NewMedia,
    responses((status = 201, body = ChangedMedia)),
)]
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(span): Extension<Trace>,
    Body(new): Body<NewMedia>,
) -> Result<Response, Problem> {
    let NewMedia { title, description, content_type } = new;
    let changed = app.media.add(&caller, NewItem { title, description, content_type }, &span).await?;
    let location = [(LOCATION, format!("/api/v1/media/{}", changed.item.id))];
    let response = (StatusCode::CREATED, location, Json(ChangedMedia::from(changed))).into_response();
    Ok(invalidating(response, &[Group::Media]))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MediaChange {
    #[serde(default)]
    title: Option<MediaTitle>,
    #[serde(default)]
    description: Option<MediaText>,
    #[serde(default)]
    content_type: Option<ContentType>,
}

/// Changes what is named and leaves the rest. With `If-Match`, only if nobody else changed it meanwhile.
#[utoipa::path(
    patch, path = "/api/v1/media/{id}", tag = "media", params(("id" = String, Path)), request_body = MediaChange,
    responses(
        (status = 200, body = ChangedMedia), (status = 404, description = "The caller has no such item"),
        (status = 412, description = "It is not the version that `If-Match` names"),
    ),
)]
async fn change(
    State(app): State<Arc<App>>,
    editor: Editor,
    Path(id): Path<String>,
    Extension(span): Extension<Trace>,
    Body(change): Body<MediaChange>,
) -> Result<Response, Problem> {
    let MediaChange { title, description, content_type } = change;
    if title.is_none() && description.is_none() && content_type.is_none() {
        app.media.is_of(&editor.caller, &id).await?;
        return Err(Problem::invalid("", "names nothing to change"));
    }
    let changed = app.media.change(&editor, &id, &Changes { title, description, content_type }, &span).await?;
    let groups = [Group::Media, Group::Item(changed.item.id.clone())];
    Ok(invalidating(Json(ChangedMedia::from(changed)).into_response(), &groups))
}

/// Removes an item, also from all playlists.
#[utoipa::path(
    delete, path = "/api/v1/media/{id}", tag = "media", params(("id" = String, Path)),
    responses(
        (status = 204), (status = 404, description = "The caller has no such item"),
        (status = 412, description = "It is not the version that `If-Match` names"),
    ),
)]
async fn remove(State(app): State<Arc<App>>, editor: Editor, Path(id): Path<String>) -> Result<Response, Problem> {
    app.media.remove(&editor, &id).await?;
    Ok(invalidating(StatusCode::NO_CONTENT.into_response(), &[Group::Media, Group::Item(id), Group::Counts]))
}
