//! Shows and their sales, for operators.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use stampede_shared::{
    domain::sale::{Sale, SaleCommand, SaleState},
    events::{self, Event, EventType},
    store::{
        Database,
        notify::{self, Told},
        show_intake,
        show_inventory::{self, Locked},
        shows::{self, NewShow},
        webhook_endpoints,
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    bookings::check_reason,
    public::watermark,
    shows::{PageParameters, ShowList, page_of_shows},
};
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{JsonBody, Operator, Path, Query, Viewer},
    show_body::ShowBody,
    show_view::ShowView,
};

const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Creates a show with its sections and seats. The sale is scheduled.
#[utoipa::path(
    post, path = "/v1/operator/shows", tag = "operators", security(("operator" = [])),
    request_body = ShowBody,
    responses((status = 201, description = "The show", body = ShowView))
)]
pub async fn create_show(
    State(app): State<SharedApp>,
    _: Operator,
    body: JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let show_id = Uuid::now_v7();
    let show = body.parse::<ShowBody>()?.resolve(show_id)?;
    let database = app.database.clone();
    // A client that leaves must not leave an open transaction.
    let created = tokio::spawn(async move { insert(&database, &show).await }).await;
    created.map_err(|error| Problem::internal(error.into()))??;
    let location = HeaderValue::try_from(format!("/v1/shows/{show_id}"));
    let headers = [
        (header::LOCATION, location.expect("ids are visible ASCII")),
        (header::CACHE_CONTROL, NO_STORE),
    ];
    Ok((
        StatusCode::CREATED,
        headers,
        Json(view(&app, show_id).await?),
    ))
}

async fn insert(database: &Database, show: &NewShow) -> sqlx::Result<()> {
    let mut tx = database.begin().await?;
    shows::create(&mut tx, show, Utc::now()).await?;
    tx.commit().await
}

async fn view(app: &SharedApp, show_id: Uuid) -> Result<ShowView, Problem> {
    let show = app.catalog.show(show_id).await?;
    app.watermarks.forget(show_id);
    let watermark = watermark(app, show_id).await?;
    Ok(ShowView::new(&show, &watermark.sale, Utc::now()))
}

/// Lists the shows, the newest first.
#[utoipa::path(
    get, path = "/v1/operator/shows", tag = "operators", security(("operator" = [])),
    params(PageParameters),
    responses((status = 200, description = "A page of shows", body = ShowList))
)]
pub async fn list_all_shows(
    State(app): State<SharedApp>,
    _: Viewer,
    Query(page): Query<PageParameters>,
) -> Result<impl IntoResponse, Problem> {
    let shows = page_of_shows(&app, &page, "/v1/operator/shows").await?;
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(shows)))
}

/// What an operator says about a sale.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleBody {
    /// `open`, `pause`, `resume` or `close`.
    #[schema(value_type = String, example = "open")]
    command: SaleCommand,
    /// Shown to the buyers until the next command.
    reason: Option<String>,
}

/// Opens, pauses, resumes or closes a sale.
///
/// A paused sale takes requests and decides none. Closing rejects what is in the line, and is final. A
/// command that changes the state makes the event `sale.state_changed`; an opening or closing time that
/// comes makes none.
#[utoipa::path(
    post, path = "/v1/operator/shows/{show_id}/sale", tag = "operators", security(("operator" = [])),
    params(("show_id" = Uuid, Path)), request_body = SaleBody,
    responses((status = 200, description = "The show", body = ShowView))
)]
pub async fn change_sale(
    State(app): State<SharedApp>,
    _: Operator,
    Path(show_id): Path<Uuid>,
    body: JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let said: SaleBody = body.parse()?;
    if let Some(reason) = &said.reason {
        check_reason(reason)?;
    }
    let database = app.database.clone();
    // A client that leaves must not leave an open transaction.
    let changed = tokio::spawn(async move { apply(&database, show_id, &said).await }).await;
    changed.map_err(|error| Problem::internal(error.into()))??;
    Ok((
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(view(&app, show_id).await?),
    ))
}

async fn apply(database: &Database, show_id: Uuid, said: &SaleBody) -> Result<(), Problem> {
    let mut tx = database.begin().await?;
    // The lock under which positions are given: none is given after a close that was answered.
    let intake = show_intake::lock(&mut tx, show_id).await?;
    let intake = intake.ok_or_else(|| Problem::not_found("show"))?;
    let from = state_to_change(&intake.sale, intake.now);
    let Some(to) = said.command.apply(from) else {
        let detail = format!("the sale is {}", from.as_str());
        return Err(Problem::new(Code::SaleCommandRefused, detail));
    };
    let reason = said.reason.as_deref();
    show_intake::set_sale(&mut tx, show_id, to, reason).await?;
    // Only for somebody who listens does an operator wait for a turn that is going on.
    let event_type = EventType::SaleStateChanged.as_str();
    if webhook_endpoints::is_wanted(&mut tx, show_id, event_type).await? {
        let locked = show_inventory::lock(&mut tx, show_id).await?;
        let mut locked = locked.ok_or_else(|| Problem::not_found("show"))?;
        record_change(&mut tx, show_id, (from, to), reason, &mut locked).await?;
    }
    notify::accepted(&mut tx, show_id).await?;
    notify::told(&mut tx, &Told::Sale { show_id }).await?;
    tx.commit().await?;
    Ok(())
}

/// Writes the event of a sale that goes from one state to another. Only operators' commands make one: the
/// opening and closing times are applied when they are read, and nothing runs when they come.
async fn record_change(
    connection: &mut PgConnection,
    show_id: Uuid,
    (from, to): (SaleState, SaleState),
    reason: Option<&str>,
    locked: &mut Locked,
) -> sqlx::Result<()> {
    if from == to {
        return Ok(());
    }
    let changed = Event {
        event_type: EventType::SaleStateChanged,
        position: None,
        booking_id: None,
        data: json!({"from": from.as_str(), "to": to.as_str(), "reason": reason}),
    };
    events::record(connection, show_id, locked, vec![changed]).await
}

/// Why a show is cancelled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelShowBody {
    /// Shown to the buyers.
    reason: String,
}

/// Cancels a show: its sale is closed, nothing is booked any more, everybody gets their money back.
///
/// The workers do the cancelling and refunding, and go on after a crash. Final; again is fine.
#[utoipa::path(
    post, path = "/v1/operator/shows/{show_id}/cancel", tag = "operators", security(("operator" = [])),
    params(("show_id" = Uuid, Path)), request_body = CancelShowBody,
    responses((status = 202, description = "The show; its bookings are being cancelled", body = ShowView))
)]
pub async fn cancel_show(
    State(app): State<SharedApp>,
    _: Operator,
    Path(show_id): Path<Uuid>,
    body: JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let said: CancelShowBody = body.parse()?;
    check_reason(&said.reason)?;
    let database = app.database.clone();
    // A client that leaves must not leave an open transaction.
    let cancelled = tokio::spawn(async move { cancel(&database, show_id, &said.reason).await });
    cancelled
        .await
        .map_err(|error| Problem::internal(error.into()))??;
    Ok((
        StatusCode::ACCEPTED,
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(view(&app, show_id).await?),
    ))
}

async fn cancel(database: &Database, show_id: Uuid, reason: &str) -> Result<(), Problem> {
    let mut tx = database.begin().await?;
    let intake = show_intake::lock(&mut tx, show_id).await?;
    let inventory = show_inventory::lock(&mut tx, show_id).await?;
    let (Some(intake), Some(mut locked)) = (intake, inventory) else {
        return Err(Problem::not_found("show"));
    };
    let change = (state_to_change(&intake.sale, intake.now), SaleState::Closed);
    // Said again, the first reason stays: bookings may have been cancelled with it.
    let first = locked.cancel_reason.clone();
    let reason = first.as_deref().unwrap_or(reason);
    show_intake::set_sale(&mut tx, show_id, SaleState::Closed, Some(reason)).await?;
    record_change(&mut tx, show_id, change, Some(reason), &mut locked).await?;
    show_inventory::cancel(&mut tx, show_id, reason, locked.now).await?;
    notify::accepted(&mut tx, show_id).await?;
    notify::told(&mut tx, &Told::Sale { show_id }).await?;
    tx.commit().await?;
    Ok(())
}

/// What an operator said last; only a scheduled sale goes by its times. So a sale that was paused when
/// its closing time came can be resumed, and its line is decided.
fn state_to_change(sale: &Sale, now: chrono::DateTime<Utc>) -> SaleState {
    match sale.state {
        SaleState::Scheduled => sale.state_at(now),
        state => state,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn sale(state: SaleState) -> Sale {
        Sale {
            state,
            reason: None,
            opens_at: Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(100)),
            closes_at: Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(200)),
        }
    }

    #[test]
    fn a_sale_that_opened_by_itself_can_be_paused_and_a_paused_one_resumed_after_its_close() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        assert_eq!(
            state_to_change(&sale(SaleState::Scheduled), at(0)),
            SaleState::Scheduled
        );
        assert_eq!(
            state_to_change(&sale(SaleState::Scheduled), at(150)),
            SaleState::Open
        );
        assert_eq!(
            state_to_change(&sale(SaleState::Scheduled), at(300)),
            SaleState::Closed
        );
        assert_eq!(
            state_to_change(&sale(SaleState::Paused), at(300)),
            SaleState::Paused
        );
    }
}
