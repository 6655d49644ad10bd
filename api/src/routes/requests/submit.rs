//! Submitting a booking request.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use metrics::counter;
use serde::Serialize;
use stampede_shared::domain::estimate;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{PRIVATE, retry_after};
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{Buyer, ClientAddress, IDEMPOTENCY_REPLAYED, IdempotencyKey, JsonBody, Path},
    intake::{Accepted, Refusal, Submission},
    rate_limit::Allowance,
    request_view::Eta,
    submission::SubmissionBody,
};

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
    let pace = estimate::retry_after(place, eta, rand::random());
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
        (header::RETRY_AFTER, retry_after(pace)),
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

pub(super) fn overloaded() -> Problem {
    Problem::try_later(
        Code::Overloaded,
        "the server has too much in hand; try again",
    )
}

pub(super) fn unavailable() -> Problem {
    let detail = "the database is away and the outcome unknown; repeat the same request";
    Problem::try_later(Code::Unavailable, detail)
}
