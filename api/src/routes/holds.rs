//! A buyer's holds: giving back. Paying is in `payments.rs`.

use axum::{extract::State, response::Response};
use uuid::Uuid;

use super::requests::{current, refuse_at_desk};
use crate::{
    app::SharedApp,
    error::Problem,
    extract::{Buyer, ClientAddress, Path},
    request_view::RequestView,
};

/// Cancels a hold: the seats are back on sale at once.
///
/// Again is fine. 409 when it is a booking, or a payment for it is in flight.
#[utoipa::path(
    delete, path = "/v1/shows/{show_id}/holds/{hold_id}", tag = "requests", security(("buyer" = [])),
    params(("show_id" = Uuid, Path), ("hold_id" = Uuid, Path)),
    responses((status = 200, description = "The request as it is now", body = RequestView))
)]
pub async fn cancel_hold(
    State(app): State<SharedApp>,
    Path((show_id, hold_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let cancelled = app
        .desk
        .cancel_hold(show_id, hold_id, buyer_id.as_str())
        .await;
    let request_id = cancelled.map_err(refuse_at_desk)?;
    current(&app, &show, request_id, buyer_id.as_str(), allowance).await
}
