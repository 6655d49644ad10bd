//! What anyone may see of a show. All of it carries an ETag and is fit for a CDN.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::{
    domain::{
        SectionNo,
        sale::{Sale, SaleState},
        seat_map::SectionKind,
    },
    store::{across_shows, seat_status, shows::Show},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::json_bytes;
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{ClientAddress, IfNoneMatch, Path, Query, etag_of},
    rate_limit::Allowance,
    seat_board::{SeatList, SeatView},
    submission::Money,
    watermarks::Watermark,
};

/// A CDN answers the crowd; nobody sees what is older than a few seconds.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");

/// The most shows on a page, and how many when the client does not say.
const PAGE_MAX: i64 = 100;
const PAGE: i64 = 20;

/// A show.
#[derive(Serialize, ToSchema)]
pub struct ShowView {
    id: Uuid,
    name: String,
    currency: String,
    /// The most seats and places that one buyer can have.
    buyer_limit: i32,
    /// How long seats are kept for a buyer.
    hold_seconds: i32,
    opens_at: Option<DateTime<Utc>>,
    closes_at: Option<DateTime<Utc>>,
    sale: SaleView,
    sections: Vec<SectionView>,
    server_time: DateTime<Utc>,
}

/// Whether requests are accepted and decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleView {
    #[schema(value_type = String, example = "open")]
    state: SaleState,
    /// What the operator tells the buyers.
    reason: Option<String>,
}

/// A part of the hall with one price.
#[derive(Serialize, ToSchema)]
pub struct SectionView {
    name: String,
    #[schema(example = "seated")]
    kind: &'static str,
    /// All-in, for each seat or place.
    price: Money,
    capacity: i32,
}

impl ShowView {
    pub fn new(show: &Show, sale: &Sale, now: DateTime<Utc>) -> ShowView {
        let sections = show.sections.iter().map(|section| SectionView {
            name: section.name.clone(),
            kind: section.kind.as_str(),
            price: Money {
                amount: section.price,
                currency: show.currency.clone(),
            },
            capacity: section.capacity,
        });
        ShowView {
            id: show.show_id,
            name: show.name.clone(),
            currency: show.currency.clone(),
            buyer_limit: show.buyer_limit,
            hold_seconds: show.hold_seconds,
            opens_at: show.opens_at,
            closes_at: show.closes_at,
            sale: SaleView::new(sale, now),
            sections: sections.collect(),
            server_time: now,
        }
    }

    /// The same show in the same state of sale.
    pub fn etag(&self) -> HeaderValue {
        etag_of(&(self.id, &self.sale))
    }
}

impl SaleView {
    pub fn new(sale: &Sale, now: DateTime<Utc>) -> SaleView {
        SaleView {
            state: sale.state_at(now),
            reason: sale.reason.clone(),
        }
    }
}

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

/// What is left of a show.
#[derive(Serialize, ToSchema)]
pub struct Availability {
    /// Of the show's inventory.
    version: i64,
    sections: Vec<SectionAvailability>,
}

/// What is left of a section: seats or places.
#[derive(Serialize, ToSchema)]
pub struct SectionAvailability {
    name: String,
    available: i32,
    held: i32,
    booked: i32,
}

/// Counts what is left in each section.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/availability", tag = "shows", params(("show_id" = Uuid, Path)),
    responses(
        (status = 200, description = "What is left", body = Availability),
        (status = 304, description = "As it was"),
    )
)]
pub async fn get_availability(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let show = app.catalog.show(show_id).await?;
    let version = watermark(&app, show_id).await?.inventory_version;
    let etag = version_etag(version, None);
    if if_none_match.has(&etag) {
        return Ok(not_modified(allowance, etag));
    }
    let counters = seat_status::section_counters(&app.database.pool, show_id).await?;
    let sections = counters.into_iter().map(|counters| SectionAvailability {
        name: show.sections[counters.section_no as usize].name.clone(),
        available: counters.available,
        held: counters.held,
        booked: counters.booked,
    });
    let sections = sections.collect();
    Ok(public(allowance, etag, &if_none_match, || {
        Json(Availability { version, sections })
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SeatParameters {
    /// Only seats of the section with this name.
    section: Option<String>,
    /// Only what changed after this version, as label and status.
    since: Option<i64>,
}

/// Shows the seat map with every seat's status, or what changed.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/seats", tag = "shows",
    params(("show_id" = Uuid, Path), SeatParameters),
    responses(
        (status = 200, description = "The seats; with `since`, label and status of the changed ones",
            body = inline(SeatList<SeatView<'_>>)),
        (status = 304, description = "As it was"),
    )
)]
pub async fn list_seats(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    Query(parameters): Query<SeatParameters>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let show = app.catalog.show(show_id).await?;
    let map = app.catalog.map(&show).await?;
    let section = match parameters.section.as_deref() {
        None => None,
        Some(name) => Some(seated_section(&show, name)?),
    };
    let version = watermark(&app, show_id).await?.inventory_version;
    let board = app.seat_board.get(show_id, &map, version).await?;
    let etag = version_etag(board.version, section);
    Ok(public(allowance, etag, &if_none_match, || {
        json_bytes(match parameters.since {
            None => board.render(section),
            Some(since) => board.render_changes(section, since),
        })
    }))
}

fn seated_section(show: &Show, name: &str) -> Result<SectionNo, Problem> {
    let mut sections = (0..).zip(&show.sections);
    let found =
        sections.find(|(_, section)| section.name == name && section.kind == SectionKind::Seated);
    let (section, _) = found.ok_or_else(|| Problem::not_found("section with seats"))?;
    Ok(section)
}

/// How far the line is.
#[derive(Serialize, ToSchema)]
pub struct QueueView {
    sale: SaleView,
    /// Everything up to this position is decided.
    head: i64,
    /// The last position that was given.
    tail: i64,
    /// How many requests are in the line.
    waiting: i64,
    /// As measured lately; null while nothing was decided yet.
    decided_per_s: Option<f64>,
    /// Seats and places that are neither held nor booked.
    available: i64,
    server_time: DateTime<Utc>,
}

/// Shows how far the line is.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/queue", tag = "shows", params(("show_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The watermark", body = QueueView),
        (status = 304, description = "As it was"),
    )
)]
pub async fn get_queue(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let watermark = watermark(&app, show_id).await?;
    let now = Utc::now();
    let queue = QueueView {
        sale: SaleView::new(&watermark.sale, now),
        head: watermark.decided_through,
        tail: watermark.last_position,
        waiting: watermark.last_position - watermark.decided_through,
        decided_per_s: watermark.decided_per_s,
        available: watermark.available,
        server_time: now,
    };
    let etag = etag_of(&(&queue.sale, queue.head, queue.tail, queue.available));
    Ok(public(allowance, etag, &if_none_match, || Json(queue)))
}

/// The watermark of a show, or a 404.
pub async fn watermark(
    app: &SharedApp,
    show_id: Uuid,
) -> Result<std::sync::Arc<Watermark>, Problem> {
    let watermark = app.watermarks.get(show_id).await?;
    watermark.ok_or_else(|| Problem::not_found("show"))
}

fn version_etag(version: i64, section: Option<SectionNo>) -> HeaderValue {
    let etag = match section {
        None => format!("W/\"{version}\""),
        Some(section) => format!("W/\"{version}-{section}\""),
    };
    HeaderValue::try_from(etag).expect("numbers are visible ASCII")
}

fn public<B: IntoResponse>(
    allowance: Allowance,
    etag: HeaderValue,
    if_none_match: &IfNoneMatch,
    body: impl FnOnce() -> B,
) -> Response {
    if if_none_match.has(&etag) {
        return not_modified(allowance, etag);
    }
    let headers = [(header::CACHE_CONTROL, PUBLIC), (header::ETAG, etag)];
    (allowance, headers, body()).into_response()
}

fn not_modified(allowance: Allowance, etag: HeaderValue) -> Response {
    let headers = [(header::CACHE_CONTROL, PUBLIC), (header::ETAG, etag)];
    (StatusCode::NOT_MODIFIED, allowance, headers).into_response()
}
