//! A buyer's booking requests: submitting, asking, leaving the line.

mod submit;

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::Serialize;
use stampede_shared::store::{
    request_status::{self, Outcome, RequestStatus},
    shows::Show,
};
use utoipa::ToSchema;
use uuid::Uuid;

// All of it: the documentation of a handler is a type of its own beside it.
pub use submit::*;

use crate::{
    app::SharedApp,
    desk::DeskRefusal,
    error::{Code, Problem},
    extract::{Buyer, ClientAddress, IfNoneMatch, Path, Wait},
    rate_limit::Allowance,
    request_view::{RequestView, etag, state},
};

pub const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Why the desk did nothing, as a problem.
pub fn refuse_at_desk(refusal: DeskRefusal) -> Problem {
    match refusal {
        DeskRefusal::NotFound => Problem::not_found("request or hold"),
        DeskRefusal::AlreadyConfirmed => Problem::new(
            Code::AlreadyConfirmed,
            "the hold is a booking now; POST …/bookings/{booking_id}/cancel cancels it",
        ),
        DeskRefusal::Paying => Problem::new(
            Code::PaymentInProgress,
            "a payment for the hold is in flight; wait for its end",
        ),
        DeskRefusal::Overloaded => overloaded(),
        DeskRefusal::Unavailable => unavailable(),
    }
}

/// Shows a booking request; with `Prefer: wait=25` it waits for a change.
///
/// A wait ends when a queued request is decided, or, with `If-None-Match`, when the state, or that of
/// its payment, is another than with that tag. The place in line is no part of the tag.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/requests/{request_id}", tag = "requests", security(("buyer" = [])),
    params(
        ("show_id" = Uuid, Path), ("request_id" = Uuid, Path),
        ("Prefer" = Option<String>, Header, description = "`wait=25`: at most so many seconds, up to 30 (RFC 7240)"),
        ("wait" = Option<u64>, Query, description = "The same, for clients that cannot set headers"),
    ),
    responses(
        (status = 200, description = "The request; `Retry-After` until its state is final", body = RequestView),
        (status = 304, description = "In the state that it was in"),
    )
)]
pub async fn get_booking_request(
    State(app): State<SharedApp>,
    Path((show_id, request_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
    wait: Wait,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let found = app
        .outcomes
        .find(show_id, request_id, buyer_id.as_str())
        .await?;
    let mut status = found.ok_or_else(|| Problem::not_found("request"))?;
    if let Some(duration) = wait.duration() {
        status = wait_for_change(
            &app,
            show_id,
            status,
            &if_none_match,
            Instant::now() + duration,
        )
        .await?;
    }
    let view = RequestView::of(&app, &show, &status).await?;
    let tag = etag(&status, Utc::now());
    let retry_after = retry_after_header(&view);
    let headers = [
        (header::CACHE_CONTROL, PRIVATE),
        (header::ETAG, tag.clone()),
    ];
    if if_none_match.has(&tag) {
        return Ok((
            StatusCode::NOT_MODIFIED,
            allowance,
            wait,
            headers,
            retry_after,
            (),
        )
            .into_response());
    }
    Ok((allowance, wait, headers, retry_after, Json(view)).into_response())
}

/// Waits while the client has the state already, or while there is nothing to tell.
async fn wait_for_change(
    app: &SharedApp,
    show_id: Uuid,
    mut status: RequestStatus,
    if_none_match: &IfNoneMatch,
    deadline: Instant,
) -> Result<RequestStatus, Problem> {
    let nothing_new = |status: &RequestStatus| {
        let now = Utc::now();
        if_none_match.has(&etag(status, now))
            || (if_none_match.is_absent() && state(status, now) == "queued")
    };
    while nothing_new(&status) && Instant::now() < deadline {
        // A hold that runs out changes its state without anyone saying so.
        let until = expiry_of(&status).map_or(deadline, |expiry| expiry.min(deadline));
        let waiting = app.outcomes.wait(show_id, &status, until);
        let Some(found) = app.until_draining(waiting).await else {
            break;
        };
        let found = found?.ok_or_else(|| Problem::not_found("request"))?;
        if found == status && Instant::now() < until {
            break; // too many wait already
        }
        status = found;
    }
    Ok(status)
}

/// When the hold of a request runs out, if it has one that lives.
fn expiry_of(status: &RequestStatus) -> Option<Instant> {
    let Some(Outcome::Held(hold)) = status.decided.as_ref().map(|decided| &decided.outcome) else {
        return None;
    };
    let now = Utc::now();
    let left = (hold.expires_at - now).to_std().ok()?;
    (state(status, now) == "held").then(|| Instant::now() + left)
}

fn retry_after_header(view: &RequestView) -> Option<[(HeaderName, HeaderValue); 1]> {
    let pace = view.retry_after?;
    Some([(header::RETRY_AFTER, retry_after(pace))])
}

/// The pace as a header: at least a second.
fn retry_after(pace: Duration) -> HeaderValue {
    HeaderValue::from((pace.as_secs_f64().round() as u64).max(1))
}

/// The buyer's requests.
#[derive(Serialize, ToSchema)]
pub struct RequestList {
    /// The newest first, at most 100.
    requests: Vec<RequestView>,
}

/// Lists the buyer's own booking requests of a show.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/requests", tag = "requests", security(("buyer" = [])),
    params(("show_id" = Uuid, Path)),
    responses((status = 200, description = "The requests", body = RequestList))
)]
pub async fn list_booking_requests(
    State(app): State<SharedApp>,
    Path(show_id): Path<Uuid>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
) -> Result<impl IntoResponse, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let pool = &app.database.pool;
    let found = request_status::list_by_buyer(pool, show_id, buyer_id.as_str()).await?;
    let mut requests = Vec::with_capacity(found.len());
    for status in &found {
        requests.push(RequestView::of(&app, &show, status).await?);
    }
    let headers = [(header::CACHE_CONTROL, PRIVATE)];
    Ok((allowance, headers, Json(RequestList { requests })))
}

/// Leaves the line, or releases the hold.
///
/// Again is fine. What is confirmed is not cancelled this way: 409.
#[utoipa::path(
    delete, path = "/v1/shows/{show_id}/requests/{request_id}", tag = "requests", security(("buyer" = [])),
    params(("show_id" = Uuid, Path), ("request_id" = Uuid, Path)),
    responses((status = 200, description = "The request as it is now", body = RequestView))
)]
pub async fn cancel_booking_request(
    State(app): State<SharedApp>,
    Path((show_id, request_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let done = app
        .desk
        .cancel_request(show_id, request_id, buyer_id.as_str())
        .await;
    done.map_err(refuse_at_desk)?;
    current(&app, &show, request_id, buyer_id.as_str(), allowance).await
}

/// The request as it is now.
pub async fn current(
    app: &SharedApp,
    show: &Show,
    request_id: Uuid,
    buyer_id: &str,
    allowance: Allowance,
) -> Result<Response, Problem> {
    let found = app
        .outcomes
        .find(show.show_id, request_id, buyer_id)
        .await?;
    let status = found.ok_or_else(|| Problem::not_found("request"))?;
    let view = RequestView::of(app, show, &status).await?;
    let headers = [
        (header::CACHE_CONTROL, PRIVATE),
        (header::ETAG, etag(&status, Utc::now())),
    ];
    Ok((allowance, headers, retry_after_header(&view), Json(view)).into_response())
}
