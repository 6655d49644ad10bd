//! Shows: what is for sale.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use stampede_shared::store::across_shows;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::public::{PUBLIC, public, watermark};
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{ClientAddress, IfNoneMatch, Path, Query},
    show_view::ShowView,
};

/// The most shows on a page, and how many when the client does not say.
const PAGE_MAX: i64 = 100;
const PAGE: i64 = 20;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageParameters {
    /// How many: 1 to 100, 20 when absent.
    limit: Option<i64>,
    /// Only shows that were created before this one.
    before: Option<Uuid>,
}

/// A page of shows.
#[derive(Serialize, ToSchema)]
pub struct ShowList {
    /// The newest first.
    shows: Vec<ShowView>,
    /// The URL of the next page; null on the last.
    next: Option<String>,
}

/// Lists the shows, the newest first.
#[utoipa::path(
    get, path = "/v1/shows", tag = "shows", params(PageParameters),
    responses((status = 200, description = "A page of shows", body = ShowList))
)]
pub async fn list_shows(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Query(page): Query<PageParameters>,
) -> Result<impl IntoResponse, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let shows = page_of_shows(&app, &page, "/v1/shows").await?;
    Ok((allowance, [(header::CACHE_CONTROL, PUBLIC)], Json(shows)))
}

/// Reads one page; `url` is that of the list.
pub async fn page_of_shows(
    app: &SharedApp,
    page: &PageParameters,
    url: &str,
) -> Result<ShowList, Problem> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("limit must be 1 to {PAGE_MAX}");
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let show_ids = across_shows::newest_shows(&app.database.pool, page.before, limit).await?;
    let last = show_ids.last().filter(|_| show_ids.len() as i64 == limit);
    let next = last.map(|before| format!("{url}?limit={limit}&before={before}"));
    let mut shows = Vec::with_capacity(show_ids.len());
    for show_id in show_ids {
        shows.push(view(app, show_id).await?);
    }
    Ok(ShowList { shows, next })
}

/// Shows a show.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}", tag = "shows", params(("show_id" = Uuid, Path)),
    responses((status = 200, description = "The show", body = ShowView), (status = 304, description = "As it was"))
)]
pub async fn get_show(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let show = view(&app, show_id).await?;
    Ok(public(allowance, show.etag(), &if_none_match, || {
        Json(show)
    }))
}

async fn view(app: &SharedApp, show_id: Uuid) -> Result<ShowView, Problem> {
    let show = app.catalog.show(show_id).await?;
    let watermark = watermark(app, show_id).await?;
    Ok(ShowView::new(&show, &watermark.sale, Utc::now()))
}
