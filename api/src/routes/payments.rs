//! Paying for a hold, and asking what became of a payment.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use stampede_payments::till::{Open, OpenRefusal};
use stampede_shared::{
    domain::payment::PaymentState,
    store::{payments::Payment, shows::Show},
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::requests::PRIVATE;
use crate::{
    app::SharedApp,
    booking_view::{BookingView, PaymentView},
    error::{Code, FieldError, Problem},
    extract::{
        Buyer, ClientAddress, IDEMPOTENCY_REPLAYED, IdempotencyKey, OptionalBody, Path, Wait,
    },
    paying::{self, Drive},
    rate_limit::Allowance,
};

/// How long a payment is waited for when the client does not say.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pace to ask at while a payment is in flight, in seconds.
const PACE_S: u32 = 1;

const METHOD_LENGTH_MAX: usize = 255;

/// What is paid with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentBody {
    /// The gateway's token for the buyer's means of payment, which the buyer's page got from the gateway
    /// itself; never a card number. Not needed when there is nothing to pay.
    #[schema(example = "pm_card_visa")]
    payment_method: Option<String>,
}

impl PaymentBody {
    fn check(&self) -> Result<(), Problem> {
        let Some(method) = &self.payment_method else {
            return Ok(());
        };
        let wrong = |detail: &str| {
            let error = FieldError::new("/payment_method", detail);
            Err(Problem::invalid_body(vec![error]))
        };
        if looks_like_a_card(method) {
            return wrong(
                "that looks like a card number; send it to the gateway and its token to us",
            );
        }
        let visible = method.bytes().all(|byte| byte.is_ascii_graphic());
        if method.is_empty() || method.len() > METHOD_LENGTH_MAX || !visible {
            return wrong("it must have 1 to 255 visible ASCII characters");
        }
        Ok(())
    }

    /// Of all that makes two calls with one key the same.
    fn hash(&self, hold_id: Uuid) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(hold_id);
        hash.update(self.payment_method.as_deref().unwrap_or_default());
        hash.finalize().into()
    }
}

/// 12 to 19 digits, however they are grouped.
fn looks_like_a_card(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let others = |byte: u8| !byte.is_ascii_digit() && !matches!(byte, b' ' | b'-' | b'.');
    (12..=19).contains(&digits) && !text.bytes().any(others)
}

/// Pays for a hold: the seats are booked when the money is there.
///
/// 201 with the booking; 202 while the gateway has not answered or the buyer has a step left
/// (`next_action`), then `GET` the payment. 402 when it was declined: the hold stays for the rest of its
/// time and may be paid again in another way, with the same or another key. 410 when the hold has expired.
/// The same key and body give the same answer. Another payment supersedes one that waits for a step of
/// the buyer.
#[utoipa::path(
    post, path = "/v1/shows/{show_id}/holds/{hold_id}/payments", tag = "payments", security(("buyer" = [])),
    params(
        ("show_id" = Uuid, Path), ("hold_id" = Uuid, Path),
        ("Idempotency-Key" = String, Header, description = "8 to 255 visible ASCII characters"),
        ("Prefer" = Option<String>, Header, description = "`wait=25`: at most so many seconds for the gateway (15 if absent)"),
    ),
    request_body = Option<PaymentBody>,
    responses(
        (status = 201, description = "Paid, with the booking", body = PaymentView),
        (status = 202, description = "In flight", body = PaymentView),
        (status = 402, description = "Declined: the hold stays", body = crate::error::ProblemBody),
        (status = 409, description = "Not possible now, or let go", body = crate::error::ProblemBody),
        (status = 410, description = "The hold has expired; nothing was charged", body = crate::error::ProblemBody),
    )
)]
pub async fn create_payment(
    State(app): State<SharedApp>,
    Path((show_id, hold_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
    key: IdempotencyKey,
    wait: Wait,
    OptionalBody(body): OptionalBody,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let body: PaymentBody = body.parse()?;
    body.check()?;
    let show = app.catalog.show(show_id).await?;
    let open = Open {
        payment_id: Uuid::now_v7(),
        hold_id,
        buyer_id: buyer_id.as_str().to_owned(),
        idempotency_key: key.0,
        body_hash: body.hash(hold_id),
        payment_method: body.payment_method,
        currency: show.currency.clone(),
        policy: show.payment_policy,
    };
    let opened = app.till.open(show_id, open).await?;
    let opened = opened.map_err(|refusal| refuse(refusal, &show))?;
    let deadline = Instant::now() + wait.duration().unwrap_or(PATIENCE);
    let payment = paying::find(&app, show_id, opened.payment_id, buyer_id.as_str()).await?;
    let payment = if opened.at_gateway {
        paying::driven(&app, payment, Drive::First, deadline).await?
    } else if payment.state.is_in_flight() {
        paying::settled(&app, payment, deadline).await?
    } else {
        payment
    };
    let replayed = HeaderValue::from_static("true");
    match answer(&app, &show, &payment, allowance, Some(wait)).await {
        Ok(answer) if opened.replayed => {
            Ok(([(IDEMPOTENCY_REPLAYED, replayed)], answer).into_response())
        }
        Err(problem) if opened.replayed => Err(problem.header(IDEMPOTENCY_REPLAYED, replayed)),
        answer => answer,
    }
}

/// Why no payment was begun, as a problem.
fn refuse(refusal: OpenRefusal, show: &Show) -> Problem {
    match refusal {
        OpenRefusal::NotFound => Problem::not_found("hold"),
        OpenRefusal::Expired => Problem::new(
            Code::HoldExpired,
            "the time to pay is over; nothing was charged",
        ),
        OpenRefusal::Cancelled => Problem::new(
            Code::HoldCancelled,
            "the hold was cancelled; nothing was charged",
        ),
        OpenRefusal::ShowCancelled => Problem::new(
            Code::ShowCancelled,
            "the show was cancelled; nothing was charged",
        ),
        OpenRefusal::AlreadyBooked => Problem::new(
            Code::AlreadyConfirmed,
            "the hold was paid before and is a booking",
        ),
        OpenRefusal::InProgress(payment_id) => Problem::new(
            Code::PaymentInProgress,
            "another payment for the hold is in flight; wait for its end",
        )
        .header(header::LOCATION, location(show.show_id, payment_id)),
        OpenRefusal::KeyReused => Problem::new(
            Code::IdempotencyKeyReused,
            "the key was used for another hold or body; use a new one",
        ),
        OpenRefusal::TooManyTries => Problem::new(
            Code::TooManyTries,
            "too many payments were tried for this hold; nothing was charged",
        ),
        OpenRefusal::TooLittleTime { expires_at } => Problem::new(
            Code::TooLittleTime,
            format!(
                "the hold ends at {expires_at}, too soon to begin a payment; nothing was charged"
            ),
        ),
        OpenRefusal::MethodMissing { amount } => {
            let detail = format!("{amount} {} are to be paid: it is needed", show.currency);
            Problem::invalid_body(vec![FieldError::new("/payment_method", detail)])
        }
        OpenRefusal::NoGateway => Problem::new(
            Code::NoGateway,
            "no gateway is configured here; ask whoever runs this sale",
        ),
    }
}

/// Shows a payment; with `Prefer: wait=25` it waits until it is not in flight any more.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/payments/{payment_id}", tag = "payments", security(("buyer" = [])),
    params(
        ("show_id" = Uuid, Path), ("payment_id" = Uuid, Path),
        ("Prefer" = Option<String>, Header, description = "`wait=25`: at most so many seconds, up to 30 (RFC 7240)"),
        ("wait" = Option<u64>, Query, description = "The same, for clients that cannot set headers"),
    ),
    responses((status = 200, description = "The payment; `Retry-After` while it is in flight", body = PaymentView))
)]
pub async fn get_payment(
    State(app): State<SharedApp>,
    Path((show_id, payment_id)): Path<(Uuid, Uuid)>,
    Buyer(buyer_id): Buyer,
    address: ClientAddress,
    wait: Wait,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.read(address.0, &buyer_id)?;
    let show = app.catalog.show(show_id).await?;
    let mut payment = paying::find(&app, show_id, payment_id, buyer_id.as_str()).await?;
    if let Some(duration) = wait.duration() {
        payment = paying::settled(&app, payment, Instant::now() + duration).await?;
    }
    let pace = payment
        .state
        .is_moving()
        .then_some([(header::RETRY_AFTER, HeaderValue::from(PACE_S))]);
    let view = view(&app, &show, &payment).await?;
    let headers = [(header::CACHE_CONTROL, PRIVATE)];
    Ok((allowance, wait, headers, pace, Json(view)).into_response())
}

async fn view(app: &SharedApp, show: &Show, payment: &Payment) -> Result<PaymentView, Problem> {
    let booking = match payment.booking_id {
        Some(id) => app.bookings.find(show.show_id, id).await?,
        None => None,
    };
    let booking = match booking {
        Some(booking) => Some(BookingView::of(app, show, booking).await?),
        None => None,
    };
    Ok(PaymentView::new(payment, booking))
}

/// What a payment says to whoever began it.
async fn answer(
    app: &SharedApp,
    show: &Show,
    payment: &Payment,
    allowance: Allowance,
    wait: Option<Wait>,
) -> Result<Response, Problem> {
    let at = location(show.show_id, payment.payment_id);
    let reason = payment.reason.as_deref().unwrap_or("unknown");
    let refused =
        |code, detail: String| Err(Problem::new(code, detail).header(header::LOCATION, at.clone()));
    let letting_go = payment.state == PaymentState::Authorized && payment.reason.is_some();
    match payment.state {
        PaymentState::Declined => refused(
            Code::PaymentDeclined,
            format!("{reason}; nothing was charged, and the hold stays for the rest of its time"),
        ),
        PaymentState::Failed | PaymentState::Voided if reason == "hold_expired" => refused(
            Code::HoldExpired,
            "the hold expired while the payment was in flight; nothing was charged".to_owned(),
        ),
        PaymentState::Authorized if letting_go && reason == "hold_expired" => refused(
            Code::HoldExpired,
            "the hold expired while the payment was in flight; the reservation is let go, nothing is charged".to_owned(),
        ),
        PaymentState::Failed => refused(
            Code::PaymentFailed,
            format!("{reason}; nothing was charged"),
        ),
        PaymentState::Voided => refused(
            Code::PaymentVoided,
            format!("{reason}; nothing was charged"),
        ),
        PaymentState::Authorized if letting_go => refused(
            Code::PaymentVoided,
            format!("{reason}; the reservation is let go, nothing is charged"),
        ),
        PaymentState::Refunding | PaymentState::Refunded if payment.booking_id.is_none() => refused(
            Code::PaymentRefunded,
            format!("{reason}; all of the money goes back"),
        ),
        _ => {
            let status = match payment.state {
                PaymentState::Captured => StatusCode::CREATED,
                // It was paid, and was given back later.
                PaymentState::Refunding | PaymentState::Refunded => StatusCode::OK,
                _ => StatusCode::ACCEPTED,
            };
            let pace = (status == StatusCode::ACCEPTED)
                .then_some([(header::RETRY_AFTER, HeaderValue::from(PACE_S))]);
            let view = view(app, show, payment).await?;
            let headers = [(header::CACHE_CONTROL, PRIVATE), (header::LOCATION, at)];
            Ok((status, allowance, wait, headers, pace, Json(view)).into_response())
        }
    }
}

fn location(show_id: Uuid, payment_id: Uuid) -> HeaderValue {
    let path = format!("/v1/shows/{show_id}/payments/{payment_id}");
    HeaderValue::try_from(path).expect("ids are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_is_recognized_however_it_is_grouped() {
        for card in [
            "4242424242424242",
            "4242 4242 4242 4242",
            "3782-822463-10005",
        ] {
            assert!(looks_like_a_card(card), "{card}");
        }
        for token in ["pm_1234567890123456", "tok_visa", "12345678901", ""] {
            assert!(!looks_like_a_card(token), "{token}");
        }
    }
}
