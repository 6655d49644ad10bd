//! Any buyer's bookings, for operators.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stampede_payments::till::{By, Cancel};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    bookings::{cancel_and_refund, check_reason},
    requests::PRIVATE,
};
use crate::{
    app::SharedApp,
    booking_view::BookingView,
    error::Problem,
    extract::{IdempotencyKey, JsonBody, Operator, Path, Viewer},
};

/// Shows a booking of any buyer.
#[utoipa::path(
    get, path = "/v1/operator/shows/{show_id}/bookings/{booking_id}", tag = "operators", security(("operator" = [])),
    params(("show_id" = Uuid, Path), ("booking_id" = Uuid, Path)),
    responses((status = 200, description = "The booking", body = BookingView))
)]
pub async fn get_any_booking(
    State(app): State<SharedApp>,
    _: Viewer,
    Path((show_id, booking_id)): Path<(Uuid, Uuid)>,
) -> Result<Response, Problem> {
    let show = app.catalog.show(show_id).await?;
    let found = app.bookings.find(show_id, booking_id).await?;
    let booking = found.ok_or_else(|| Problem::not_found("booking"))?;
    let view = BookingView::of(&app, &show, booking).await?;
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Json(view)).into_response())
}

/// Why an operator gives the money back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    /// Shown to the buyer.
    reason: String,
}

/// Cancels a booking of any buyer at any time: the seats are back on sale, all of the money goes back.
///
/// Again is fine.
#[utoipa::path(
    post, path = "/v1/operator/shows/{show_id}/bookings/{booking_id}/cancel", tag = "operators", security(("operator" = [])),
    params(
        ("show_id" = Uuid, Path), ("booking_id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "8 to 255 visible ASCII characters"),
    ),
    request_body = RefundBody,
    responses((status = 200, description = "The booking as it is now", body = BookingView))
)]
pub async fn refund_booking(
    State(app): State<SharedApp>,
    _: Operator,
    Path((show_id, booking_id)): Path<(Uuid, Uuid)>,
    key: IdempotencyKey,
    body: JsonBody,
) -> Result<Response, Problem> {
    let body: RefundBody = body.parse()?;
    check_reason(&body.reason)?;
    let show = app.catalog.show(show_id).await?;
    let cancel = Cancel {
        booking_id,
        by: By::Operator,
        reason: body.reason,
        key: key.0,
    };
    cancel_and_refund(&app, &show, cancel).await
}
