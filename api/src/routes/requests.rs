//! A buyer's booking requests: submitting, asking, leaving the line.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use metrics::counter;
use serde::Serialize;
use stampede_shared::{
    domain::estimate,
    store::{
        request_status::{self, RequestStatus},
        shows::Show,
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::SharedApp,
    desk::DeskRefusal,
    error::{Code, Problem},
    extract::{Buyer, ClientAddress, IdempotencyKey, IfNoneMatch, JsonBody, Path, Wait},
    intake::{Accepted, Refusal, Submission},
    rate_limit::Allowance,
    request_view::{Eta, RequestView, etag, state, whole_seconds},
    submission::SubmissionBody,
};

const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A place in the line, durable.
#[derive(Serialize, ToSchema)]
pub struct AcceptedView {
    id: Uuid,
    /// Given once, never changed.
    position: i64,
    /// How many are decided until this one is, itself included; 0 when it is decided already.
    place_in_line: i64,
    /// Null while it cannot be known.
    eta: Option<Eta>,
}

/// Submits a booking request.
///
/// The answer comes when the request is durable. The same `Idempotency-Key` with the same wishes gives
/// the same answer, so repeat it after any doubt; the key is yours and the show's alone.
#[utoipa::path(
    post, path = "/v1/shows/{show_id}/requests", tag = "requests", security(("buyer" = [])),
    params(("show_id" = Uuid, Path), ("Idempotency-Key" = String, Header, description = "8 to 255 visible ASCII characters")),
    request_body = SubmissionBody,
    responses((status = 202, description = "In the line; `Location` says where to ask, `Retry-After` when", body = AcceptedView))
)]
pub async fn create_booking_request(
    State(app): State<SharedApp>,
    Path(show_id): Path<Uuid>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    body: JsonBody,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.submission(address.0, &buyer_id, show_id)?;
    let show = app.catalog.show(show_id).await?;
    let map = app.catalog.map(&show).await?;
    let resolved = body.parse::<SubmissionBody>()?.resolve(&show, &map)?;
    let submission = Submission {
        show_id,
        request_id: Uuid::now_v7(),
        buyer_id: buyer_id.as_str().to_owned(),
        idempotency_key,
        body_hash: resolved.hash(),
        wishes: resolved.wishes,
        max_total: resolved.max_total,
    };
    // The intake's own task writes; a client that leaves drops only the wait for its answer.
    match app.intake.submit(submission).await {
        Ok(accepted) => {
            counter!("stampede_requests_accepted_total").increment(u64::from(!accepted.replayed));
            Ok(accepted_response(show_id, &accepted, allowance))
        }
        Err(refusal) => Err(refuse(refusal)),
    }
}

fn accepted_response(show_id: Uuid, accepted: &Accepted, allowance: Allowance) -> Response {
    let place = estimate::place_in_line(accepted.position, accepted.decided_through);
    let eta = estimate::eta(place, accepted.decided_per_s, accepted.paused);
    let retry_after = estimate::retry_after(place, eta, rand::random());
    let location = format!("/v1/shows/{show_id}/requests/{}", accepted.request_id);
    let view = AcceptedView {
        id: accepted.request_id,
        position: accepted.position,
        place_in_line: place,
        eta: eta.map(Eta::new),
    };
    let headers = [
        (
            header::LOCATION,
            HeaderValue::try_from(location).expect("ids are visible ASCII"),
        ),
        (
            header::RETRY_AFTER,
            HeaderValue::from(whole_seconds(retry_after)),
        ),
        (header::CACHE_CONTROL, PRIVATE),
    ];
    let replayed = accepted
        .replayed
        .then_some([(IDEMPOTENCY_REPLAYED, "true")]);
    (
        StatusCode::ACCEPTED,
        allowance,
        headers,
        replayed,
        Json(view),
    )
        .into_response()
}

fn refuse(refusal: Refusal) -> Problem {
    let (reason, problem) = match refusal {
        Refusal::NoSuchShow => ("no_such_show", Problem::not_found("show")),
        Refusal::NotOpen { opens_at } => ("sale_not_open", not_open(opens_at)),
        Refusal::Closed { reason } => {
            let detail = reason.unwrap_or_else(|| "nothing is sold any more".to_owned());
            ("sale_closed", Problem::new(Code::SaleClosed, detail))
        }
        Refusal::QueueFull => {
            let detail = "as many requests are in the line as the show allows; try again";
            ("queue_full", Problem::try_later(Code::QueueFull, detail))
        }
        Refusal::KeyReused => {
            let detail =
                "this Idempotency-Key was used for other wishes; a new request needs a new key";
            (
                "idempotency_key_reused",
                Problem::new(Code::IdempotencyKeyReused, detail),
            )
        }
        Refusal::Overloaded => ("overloaded", overloaded()),
        Refusal::Unavailable => ("unavailable", unavailable()),
    };
    counter!("stampede_requests_refused_total", "reason" => reason).increment(1);
    problem
}

fn not_open(opens_at: Option<DateTime<Utc>>) -> Problem {
    let Some(opens_at) = opens_at else {
        return Problem::new(
            Code::SaleNotOpen,
            "the operator has not said when the sale opens",
        );
    };
    let wait = (opens_at - Utc::now()).num_seconds().clamp(0, 86_400) + 1;
    Problem::new(
        Code::SaleNotOpen,
        format!("the sale opens at {}", opens_at.to_rfc3339()),
    )
    .opens_at(opens_at)
    .header(header::RETRY_AFTER, HeaderValue::from(wait))
}

fn overloaded() -> Problem {
    Problem::try_later(
        Code::Overloaded,
        "the server has too much in hand; try again",
    )
}

fn unavailable() -> Problem {
    let detail = "the database is away and the outcome unknown; repeat the same request";
    Problem::try_later(Code::Unavailable, detail)
}

/// Why the desk did nothing, as a problem.
pub fn refuse_at_desk(refusal: DeskRefusal) -> Problem {
    match refusal {
        DeskRefusal::NotFound => Problem::not_found("request or hold"),
        DeskRefusal::Expired => Problem::new(Code::HoldExpired, "the time to confirm is over"),
        DeskRefusal::AlreadyCancelled => {
            Problem::new(Code::HoldCancelled, "the hold was cancelled before")
        }
        DeskRefusal::AlreadyConfirmed => Problem::new(
            Code::AlreadyConfirmed,
            "the hold was confirmed before and is a booking now",
        ),
        DeskRefusal::Overloaded => overloaded(),
        DeskRefusal::Unavailable => unavailable(),
    }
}

/// Shows a booking request; with `Prefer: wait=25` it waits for a change.
///
/// A wait ends when a queued request is decided, or, with `If-None-Match`, when the state is another
/// than the one with that tag. The place in line is no part of the tag.
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
    let tag = etag(view.state);
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
        let state = state(status, Utc::now());
        if_none_match.has(&etag(state)) || (if_none_match.is_absent() && state == "queued")
    };
    while nothing_new(&status) && Instant::now() < deadline {
        // A hold that runs out changes its state without anyone saying so.
        let until = expiry_of(&status).map_or(deadline, |expiry| expiry.min(deadline));
        let waiting = app.outcomes.wait(show_id, &status, until);
        match app.until_draining(waiting).await {
            None => break,
            Some(found) => status = found?.ok_or_else(|| Problem::not_found("request"))?,
        }
    }
    Ok(status)
}

/// When the hold of a request runs out, if it has one that lives.
fn expiry_of(status: &RequestStatus) -> Option<Instant> {
    use request_status::Outcome;
    let Some(Outcome::Held(hold)) = status.decided.as_ref().map(|decided| &decided.outcome) else {
        return None;
    };
    let now = Utc::now();
    let left = (hold.expires_at - now).to_std().ok()?;
    (state(status, now) == "held").then(|| Instant::now() + left)
}

fn retry_after_header(view: &RequestView) -> Option<[(HeaderName, HeaderValue); 1]> {
    let pace = view.retry_after?;
    Some([(header::RETRY_AFTER, HeaderValue::from(whole_seconds(pace)))])
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
        (header::ETAG, etag(view.state)),
    ];
    Ok((allowance, headers, retry_after_header(&view), Json(view)).into_response())
}
