//! What was delivered to webhooks, and delivering it again.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::store::{
    Database,
    across_shows::{self, Delivery},
    webhook_deliveries, webhook_endpoints, webhook_streams,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::webhooks::{NO_STORE, no_webhook, written};
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{Admin, Path, Query},
};

/// The deliveries on a page.
const PAGE: i64 = 100;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveryParameters {
    /// Only `pending`, `delivered` or `failed` ones.
    state: Option<String>,
    /// Only deliveries that were made before this one.
    before: Option<Uuid>,
}

/// A delivery, which lives as long as its event.
#[derive(Serialize, ToSchema)]
pub struct DeliveryView {
    id: Uuid,
    /// The `webhook-id`.
    event_id: Uuid,
    #[schema(example = "booking.confirmed")]
    event_type: String,
    show_id: Uuid,
    sequence: i64,
    /// `pending`, `delivered` or `failed`.
    #[schema(example = "delivered")]
    state: String,
    /// Tries that have ended, since the last time it was begun.
    attempts: i32,
    /// When a pending one is tried next, if its endpoint is enabled.
    next_attempt_at: Option<DateTime<Utc>>,
    /// What the last try was answered; null when it was not.
    last_status: Option<i32>,
    /// Why the last try failed.
    last_error: Option<String>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
pub struct DeliveryList {
    /// The newest first.
    deliveries: Vec<DeliveryView>,
    /// The URL of the next page; null on the last.
    next: Option<String>,
}

impl DeliveryView {
    fn new(delivery: Delivery) -> DeliveryView {
        DeliveryView {
            id: delivery.delivery_id,
            event_id: delivery.event_id,
            event_type: delivery.event_type,
            show_id: delivery.show_id,
            sequence: delivery.sequence,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.due_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            created_at: delivery.created_at,
            ended_at: delivery.ended_at,
        }
    }
}

/// Lists the deliveries to an endpoint, the newest first, a hundred on a page.
#[utoipa::path(
    get, path = "/v1/operator/webhooks/{endpoint_id}/deliveries", tag = "webhooks",
    security(("operator" = [])), params(("endpoint_id" = Uuid, Path), DeliveryParameters),
    responses((status = 200, description = "A page of deliveries", body = DeliveryList))
)]
pub async fn list_webhook_deliveries(
    State(app): State<SharedApp>,
    _: Admin,
    Path(endpoint_id): Path<Uuid>,
    Query(page): Query<DeliveryParameters>,
) -> Result<impl IntoResponse, Problem> {
    let state = page.state.as_deref();
    if state.is_some_and(|state| !["pending", "delivered", "failed"].contains(&state)) {
        let detail = "state must be `pending`, `delivered` or `failed`";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let pool = &app.database.pool;
    let endpoint = webhook_endpoints::find(pool, endpoint_id).await?;
    endpoint.ok_or_else(no_webhook)?;
    let found = across_shows::deliveries_to(pool, endpoint_id, state, page.before, PAGE).await?;
    let last = found.last().filter(|_| found.len() as i64 == PAGE);
    let next = last.map(|last| {
        let state = state.map_or_else(String::new, |state| format!("&state={state}"));
        let before = last.delivery_id;
        format!("/v1/operator/webhooks/{endpoint_id}/deliveries?before={before}{state}")
    });
    let deliveries = found.into_iter().map(DeliveryView::new).collect();
    Ok((
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(DeliveryList { deliveries, next }),
    ))
}

/// Delivers an event again, whatever became of its delivery: at once, and if need be for three more days.
///
/// Works as long as the event is kept: 30 days, unless it was set otherwise.
#[utoipa::path(
    post, path = "/v1/operator/webhooks/{endpoint_id}/deliveries/{delivery_id}/redeliver",
    tag = "webhooks", security(("operator" = [])),
    params(("endpoint_id" = Uuid, Path), ("delivery_id" = Uuid, Path)),
    responses((status = 202, description = "It is on its way"))
)]
pub async fn redeliver_webhook(
    State(app): State<SharedApp>,
    _: Admin,
    Path((endpoint_id, delivery_id)): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, Problem> {
    let pool = &app.database.pool;
    let endpoint = webhook_endpoints::find(pool, endpoint_id).await?;
    endpoint.ok_or_else(no_webhook)?;
    let show_id = across_shows::show_of_delivery(pool, endpoint_id, delivery_id).await?;
    let show_id = show_id.ok_or_else(no_delivery)?;
    let database = app.database.clone();
    let begun =
        written(async move { begin_anew(&database, show_id, endpoint_id, delivery_id).await });
    if !begun.await? {
        return Err(no_delivery());
    }
    Ok(StatusCode::ACCEPTED)
}

async fn begin_anew(
    database: &Database,
    show_id: Uuid,
    endpoint_id: Uuid,
    delivery_id: Uuid,
) -> sqlx::Result<bool> {
    let mut tx = database.begin().await?;
    // First the lock of the stream, as the jobs take it.
    webhook_streams::wake(&mut tx, show_id, &[endpoint_id]).await?;
    let begun = webhook_deliveries::begin_anew(&mut tx, show_id, delivery_id).await?;
    tx.commit().await?;
    Ok(begun)
}

fn no_delivery() -> Problem {
    Problem::not_found("delivery, or it is no longer kept")
}
