//! A buyer's bookings: asking and cancelling.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stampede_payments::till::{By, Cancel, CancelRefusal, Cancelled};
use stampede_shared::store::shows::Show;
use utoipa::ToSchema;
use uuid::Uuid;

use super::requests::PRIVATE;
use crate::{
    app::SharedApp,
    booking_view::BookingView,
    error::{Code, Problem},
    extract::{Buyer, ClientAddress, IDEMPOTENCY_REPLAYED, IdempotencyKey, OptionalBody, Path},
    paying::{self, Drive},
    show_body::check_text,
};

/// How long a refund is waited for; it goes on afterwards.
const PATIENCE: Duration = Duration::from_secs(5);

const REASON_LENGTH_MAX: usize = 500;

/// Shows a booking.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/bookings/{booking_id}", tag = "payments", security(("buyer" = [])),
    params(("show_id" = Uuid, Path), ("booking_id" = Uuid, Path)),
    responses((status = 200, description = "The booking", body = BookingView))
)]
pub async fn get_booking(
    State(app): State<SharedApp>,
    Path((show_id, booking_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let found = app.bookings.find(show_id, booking_id).await?;
    let booking = found
        .filter(|booking| booking.buyer_id == buyer_id.as_str())
        .ok_or_else(|| Problem::not_found("booking"))?;
    let view = BookingView::of(&app, &show, booking).await?;
    Ok((allowance, [(header::CACHE_CONTROL, PRIVATE)], Json(view)).into_response())
}

/// Why a booking is given back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelBookingBody {
    reason: Option<String>,
}

/// Cancels a booking: the seats are back on sale at once, and all of the money goes back.
///
/// Only until the show's `refundable_until`. Again is fine.
#[utoipa::path(
    post, path = "/v1/shows/{show_id}/bookings/{booking_id}/cancel", tag = "payments", security(("buyer" = [])),
    params(
        ("show_id" = Uuid, Path), ("booking_id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "8 to 255 visible ASCII characters"),
    ),
    request_body = Option<CancelBookingBody>,
    responses((status = 200, description = "The booking as it is now", body = BookingView))
)]
pub async fn cancel_booking(
    State(app): State<SharedApp>,
    Path((show_id, booking_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
    key: IdempotencyKey,
    OptionalBody(body): OptionalBody,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let body: CancelBookingBody = body.parse()?;
    if let Some(reason) = &body.reason {
        check_reason(reason)?;
    }
    let show = app.catalog.show(show_id).await?;
    let cancel = Cancel {
        booking_id,
        by: By::Buyer {
            buyer_id: buyer_id.as_str().to_owned(),
            refundable_until: show.refundable_until,
        },
        reason: body
            .reason
            .unwrap_or_else(|| "the buyer cancelled".to_owned()),
        key: key.0,
    };
    let cancelled = cancel_and_refund(&app, &show, cancel).await?;
    Ok((allowance, cancelled).into_response())
}

pub fn check_reason(reason: &str) -> Result<(), Problem> {
    let mut errors = Vec::new();
    check_text("/reason", reason, REASON_LENGTH_MAX, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem::invalid_body(errors))
}

/// Cancels, sends the money back, and shows the booking.
pub async fn cancel_and_refund(
    app: &SharedApp,
    show: &Show,
    cancel: Cancel,
) -> Result<Response, Problem> {
    let (show_id, booking_id) = (show.show_id, cancel.booking_id);
    let cancelled = app.till.cancel(show_id, cancel).await?;
    let Cancelled {
        refund, replayed, ..
    } = cancelled.map_err(refuse)?;
    if let Some(payment_id) = refund
        && let Some(payment) = app.payments.find(show_id, payment_id).await?
    {
        paying::driven(app, payment, Drive::Look, Instant::now() + PATIENCE).await?;
    }
    let found = app.bookings.find(show_id, booking_id).await?;
    let booking = found.ok_or_else(|| Problem::not_found("booking"))?;
    let view = BookingView::of(app, show, booking).await?;
    let replayed = replayed.then_some([(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))]);
    Ok((replayed, [(header::CACHE_CONTROL, PRIVATE)], Json(view)).into_response())
}

fn refuse(refusal: CancelRefusal) -> Problem {
    match refusal {
        CancelRefusal::NotFound => Problem::not_found("booking"),
        CancelRefusal::TooLate { until: None } => Problem::new(
            Code::NotRefundable,
            "bookings of this show are cancelled by its operators only",
        ),
        CancelRefusal::TooLate { until: Some(until) } => Problem::new(
            Code::NotRefundable,
            format!("bookings of this show could be cancelled until {until}"),
        ),
        CancelRefusal::Pending => Problem::new(
            Code::PaymentInProgress,
            "the money is still being taken; try again in a moment",
        ),
        CancelRefusal::KeyReused => Problem::new(
            Code::IdempotencyKeyReused,
            "the key was used for another booking; use a new one",
        ),
    }
}
