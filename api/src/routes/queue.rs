//! How far the line of a show is, for everyone.

use axum::{Json, extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::public::{public, watermark};
use crate::{
    app::SharedApp,
    error::Problem,
    extract::{ClientAddress, IfNoneMatch, Path, etag_of},
    show_view::SaleView,
};

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
