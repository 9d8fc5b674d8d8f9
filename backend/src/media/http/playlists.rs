//! The routes of playlists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::items::Media;
use crate::App;
use crate::api::conditional::Editor;
use crate::api::{After, Body, Caller, Limit, Page, PageQuery, Parameters, Path, Policy, Problem, Route};
use crate::clock::rfc3339;
use crate::media::answer::{Audience, Group, answer, answer_of, invalidating};
use crate::media::fields::PlaylistName;
use crate::media::playlists::IsPublic;
use crate::media::storage::playlists::{Changes, Placed, Playlist as Stored};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(routes!(list)).policy(Policy::Anyone),
        Route::new(routes!(read)).policy(Policy::Anyone),
        Route::new(routes!(create)).policy(Policy::User),
        Route::new(routes!(change)).policy(Policy::Owner),
        Route::new(routes!(remove)).policy(Policy::Owner),
        Route::new(routes!(place)).policy(Policy::Owner),
        Route::new(routes!(take_out)).policy(Policy::Owner),
    ]
}

#[derive(Debug, Serialize, ToSchema)]
struct Playlist {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
    /// The user whose playlist it is.
    owner: String,
    name: String,
    /// Whether everybody may see it.
    is_public: bool,
    /// How many items are in it.
    items: i64,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<Stored> for Playlist {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            owner: stored.owner,
            name: stored.name,
            is_public: stored.is_public,
            items: stored.items,
            created_at: rfc3339(stored.created_ms),
            changed_at: rfc3339(stored.changed_ms),
        }
    }
}

/// Which playlists to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PlaylistQuery {
    /// Only the caller's, and those that are not public too.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    mine: bool,
    /// How many at most: 1 to 100, and 20 if it is not said.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100)]
    limit: Limit,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    after: Option<After>,
}

/// Everybody's public playlists, or with `mine=true` all of the caller's; the newest first.
#[utoipa::path(
    get, path = "/api/v1/playlists", tag = "media", params(PlaylistQuery),
    responses((status = 200, body = Page<Playlist>), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn list(
    State(app): State<Arc<App>>,
    caller: Option<Caller>,
    fields: HeaderMap,
    Parameters(query): Parameters<PlaylistQuery>,
) -> Result<Response, Problem> {
    let page_query = PageQuery::new(query.limit, query.after);
    let page = match (&caller, query.mine) {
        (Some(caller), true) => app.media.playlists_of(caller, &page_query).await?,
        (None, true) => return Err(Problem::unauthenticated("no-token", "sign in to see which playlists are yours")),
        (_, false) => app.media.public_playlists(&page_query).await?,
    };
    let items = page.items.into_iter().map(Playlist::from).collect();
    let audience = audience(caller.as_ref(), true, vec![Group::Playlists, Group::Counts]);
    answer(&fields, &audience, &Page { items, next: page.next })
}

/// What somebody who has signed in sees is his, also where it is what everybody sees: so nothing that is for one person can
/// ever be kept for all.
fn audience(caller: Option<&Caller>, is_settled: bool, groups: Vec<Group>) -> Audience {
    match caller {
        Some(_) => Audience::Caller,
        None => Audience::everyone(is_settled, groups),
    }
}

/// A playlist with a page of what is in it.
#[derive(Serialize, ToSchema)]
struct PlaylistPage {
    playlist: Playlist,
    /// In the order of the playlist.
    items: Vec<Media>,
    /// Give it as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// A playlist that is public or the caller's, with a page of what is in it. Who changes the order while pages are read may meet
/// an item twice, or not at all.
#[utoipa::path(
    get, path = "/api/v1/playlists/{id}", tag = "media", params(("id" = String, Path), PageQuery),
    responses((status = 200, body = PlaylistPage), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn read(
    State(app): State<Arc<App>>,
    caller: Option<Caller>,
    fields: HeaderMap,
    Path(id): Path<String>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    let (playlist, page) = app.media.playlist(caller.as_ref(), &id, &query).await?;
    let is_settled = page.items.iter().all(|placed| placed.item.is_settled());
    let mut groups = vec![Group::Playlist(playlist.id.clone()), Group::Counts];
    groups.extend(page.items.iter().map(|placed| Group::Item(placed.item.id.clone())));
    let items = page.items.into_iter().map(|Placed { item, .. }| item.into()).collect();
    let (version, audience) = (playlist.version, audience(caller.as_ref(), is_settled, groups));
    answer_of(version, &fields, &audience, &PlaylistPage { playlist: playlist.into(), items, next: page.next })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPlaylist {
    name: PlaylistName,
    /// Whether everybody may see it; not, if nothing is said.
    #[serde(default)]
    is_public: bool,
}

/// Makes a playlist with nothing in it.
#[utoipa::path(
    post, path = "/api/v1/playlists", tag = "media", request_body = NewPlaylist,
    responses((status = 201, body = Playlist)),
)]
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewPlaylist>,
) -> Result<Response, Problem> {
    let playlist = app.media.add_playlist(&caller, &new.name, new.is_public).await?;
    let location = [(LOCATION, format!("/api/v1/playlists/{}", playlist.id))];
    let old = old(&playlist.id, IsPublic(playlist.is_public));
    Ok(invalidating((StatusCode::CREATED, location, Json(Playlist::from(playlist))).into_response(), &old))
}

/// What a change of a playlist makes old: nothing, if only its owner can have seen it.
fn old(id: &str, IsPublic(is_public): IsPublic) -> Vec<Group> {
    if is_public { vec![Group::Playlists, Group::Playlist(id.to_owned())] } else { Vec::new() }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaylistChange {
    #[serde(default)]
    name: Option<PlaylistName>,
    #[serde(default)]
    is_public: Option<bool>,
}

/// Changes what is named and leaves the rest. With `If-Match`, only if nobody else changed the playlist meanwhile, which
/// is also what a new place for an item is.
#[utoipa::path(
    patch, path = "/api/v1/playlists/{id}", tag = "media", params(("id" = String, Path)),
    request_body = PlaylistChange,
    responses(
        (status = 204), (status = 404, description = "The caller has no such playlist"),
        (status = 412, description = "It is not the version that `If-Match` names"),
    ),
)]
async fn change(
    State(app): State<Arc<App>>,
    editor: Editor,
    Path(id): Path<String>,
    Body(change): Body<PlaylistChange>,
) -> Result<Response, Problem> {
    // Without a field this changes nothing but the time of the last change.
    let PlaylistChange { name, is_public } = change;
    let IsPublic(is_public_now) = app.media.change_playlist(&editor, &id, &Changes { name, is_public }).await?;
    // One that was made private was public before, perhaps.
    let old = old(&id, IsPublic(is_public_now || is_public.is_some()));
    Ok(invalidating(StatusCode::NO_CONTENT.into_response(), &old))
}

/// Removes a playlist, and nothing of what is in it.
#[utoipa::path(
    delete, path = "/api/v1/playlists/{id}", tag = "media", params(("id" = String, Path)),
    responses(
        (status = 204), (status = 404, description = "The caller has no such playlist"),
        (status = 412, description = "It is not the version that `If-Match` names"),
    ),
)]
async fn remove(State(app): State<Arc<App>>, editor: Editor, Path(id): Path<String>) -> Result<Response, Problem> {
    let was_public = app.media.remove_playlist(&editor, &id).await?;
    Ok(invalidating(StatusCode::NO_CONTENT.into_response(), &old(&id, was_public)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Placement {
    /// How many items are to be in front of it. At the end, if nothing is said or there are fewer.
    #[serde(default)]
    #[schema(minimum = 0)]
    position: Option<u32>,
}

/// Puts an item into a playlist, or to another place if it is in there. It is in there once.
#[utoipa::path(
    put, path = "/api/v1/playlists/{id}/items/{media}", tag = "media",
    params(("id" = String, Path), ("media" = String, Path)), request_body = Placement,
    responses(
        (status = 204), (status = 404, description = "The caller has no such playlist, or there is no such item"),
        (status = 409, description = "There are 1000 items in it"),
        (status = 412, description = "The playlist is not the version that `If-Match` names"),
    ),
)]
async fn place(
    State(app): State<Arc<App>>,
    editor: Editor,
    Path((id, item)): Path<(String, String)>,
    Body(placement): Body<Placement>,
) -> Result<Response, Problem> {
    let is_public = app.media.place(&editor, (&id, &item), placement.position.map(i64::from)).await?;
    Ok(invalidating(StatusCode::NO_CONTENT.into_response(), &old(&id, is_public)))
}

/// Takes an item out of a playlist.
#[utoipa::path(
    delete, path = "/api/v1/playlists/{id}/items/{media}", tag = "media",
    params(("id" = String, Path), ("media" = String, Path)),
    responses(
        (status = 204), (status = 404, description = "The caller has no such playlist, or it is not in there"),
        (status = 412, description = "The playlist is not the version that `If-Match` names"),
    ),
)]
async fn take_out(
    State(app): State<Arc<App>>,
    editor: Editor,
    Path((id, item)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let is_public = app.media.take_out(&editor, (&id, &item)).await?;
    Ok(invalidating(StatusCode::NO_CONTENT.into_response(), &old(&id, is_public)))
}
