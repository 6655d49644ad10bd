//! A booking request as its buyer sees it.

use std::time::Duration;

use axum::http::HeaderValue;
use chrono::{DateTime, Utc};
use serde::Serialize;
use stampede_shared::{
    domain::{estimate, hold::HoldState, sale::SaleState},
    store::{
        request_status::{Decided, Hold, Outcome, RequestStatus},
        shows::Show,
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{app::SharedApp, error::Problem, submission::Money, watermarks::Watermark};

/// The pace to poll at while a payment is in flight.
const PAYMENT_PACE: Duration = Duration::from_secs(1);

/// A booking request, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestView {
    pub id: Uuid,
    show_id: Uuid,
    /// Given once, never changed.
    position: i64,
    /// `queued`, `held`, `payment_pending`, `confirmed`, `rejected`, `cancelled`, `expired` or
    /// `quarantined`.
    #[schema(example = "held")]
    pub state: &'static str,
    /// Of a rejected request.
    #[schema(example = "seats_taken")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of a queued request: how many are decided until this one is, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    place_in_line: Option<i64>,
    /// Of a queued request: when it will be decided; null while that cannot be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Eta>)]
    eta: Option<Option<Eta>>,
    accepted_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<DateTime<Utc>>,
    /// Of a request that was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldView>,
    /// The last try to pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<RequestPayment>,
    /// Of a confirmed hold, also when it was cancelled later.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<RequestBooking>,
    /// The pace to poll at; `None` when the state is final.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// An estimate from the measured pace of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Eta {
    seconds: u64,
}

impl Eta {
    pub fn new(eta: Duration) -> Eta {
        Eta {
            seconds: whole_seconds(eta),
        }
    }
}

/// Seats or places that are kept for the buyer.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    id: Uuid,
    /// The labels; empty for general admission.
    seats: Vec<String>,
    /// The general-admission section.
    #[serde(skip_serializing_if = "Option::is_none")]
    section: Option<String>,
    quantity: i32,
    /// All that is to be paid, fixed when the hold was made.
    total: Money,
    /// The part of the total that is fees.
    fees: Money,
    expires_at: DateTime<Utc>,
}

/// A try to pay, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestPayment {
    id: Uuid,
    #[schema(example = "captured")]
    state: &'static str,
    /// Where the buyer goes for a further step.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: Option<String>,
    /// Why it was declined, voided, refunded, or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A booking, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestBooking {
    id: Uuid,
    booked_at: DateTime<Utc>,
}

impl RequestView {
    /// Finds the labels and the place in line of a request.
    pub async fn of(
        app: &SharedApp,
        show: &Show,
        status: &RequestStatus,
    ) -> Result<RequestView, Problem> {
        let Some(decided) = &status.decided else {
            let watermark = app.watermarks.get(show.show_id).await?;
            let watermark = watermark.ok_or_else(|| Problem::not_found("show"))?;
            return Ok(RequestView::queued(show, status, &watermark));
        };
        let mut view = RequestView::decided(show, status, decided);
        if let Outcome::Held(hold) = &decided.outcome {
            view.hold = Some(hold_view(app, show, hold).await?);
            let booking = hold.booking.as_ref().filter(|booking| !booking.pending);
            view.booking = booking.map(|booking| RequestBooking {
                id: booking.booking_id,
                booked_at: booking.booked_at,
            });
            view.payment = hold.payment.as_ref().map(|payment| RequestPayment {
                id: payment.payment_id,
                state: payment.state.as_str(),
                next_action: payment.next_action.clone(),
                reason: payment.reason.clone(),
            });
        }
        Ok(view)
    }

    fn queued(show: &Show, status: &RequestStatus, watermark: &Watermark) -> RequestView {
        // The watermark may be a moment ahead of the row that was read: then this one is next.
        let place = estimate::place_in_line(status.position, watermark.decided_through).max(1);
        let paused = watermark.sale.state == SaleState::Paused;
        let eta = estimate::eta(place, watermark.decided_per_s, paused);
        let mut view = RequestView::new(show, status, "queued");
        view.place_in_line = Some(place);
        view.eta = Some(eta.map(Eta::new));
        view.retry_after = Some(estimate::retry_after(place, eta, rand::random()));
        view
    }

    fn decided(show: &Show, status: &RequestStatus, decided: &Decided) -> RequestView {
        let state = state(status, Utc::now());
        let mut view = RequestView::new(show, status, state);
        view.decided_at = Some(decided.at);
        match &decided.outcome {
            Outcome::Rejected(reason) => view.reason = Some(reason.as_str()),
            // A hold ends, by its buyer or by its time; a slow poll sees it.
            Outcome::Held(_) if state == "held" => {
                view.retry_after = Some(estimate::RETRY_AFTER_MAX)
            }
            Outcome::Held(_) if state == "payment_pending" => {
                view.retry_after = Some(PAYMENT_PACE);
            }
            _ => {}
        }
        view
    }

    fn new(show: &Show, status: &RequestStatus, state: &'static str) -> RequestView {
        RequestView {
            id: status.request_id,
            show_id: show.show_id,
            position: status.position,
            state,
            reason: None,
            place_in_line: None,
            eta: None,
            accepted_at: status.accepted_at,
            decided_at: None,
            hold: None,
            payment: None,
            booking: None,
            retry_after: None,
        }
    }
}

/// The state of a request: its outcome, or what became of its hold.
pub fn state(status: &RequestStatus, now: DateTime<Utc>) -> &'static str {
    match status.decided.as_ref().map(|decided| &decided.outcome) {
        None => "queued",
        Some(Outcome::Rejected(_)) => "rejected",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::Quarantined) => "quarantined",
        Some(Outcome::Held(hold)) => match hold.state.at(hold.kept_until, now) {
            HoldState::Held if is_paying(hold) => "payment_pending",
            // Between the end that the buyer was told and the end of what kept it longer.
            HoldState::Held if hold.expires_at <= now => "expired",
            HoldState::Held => "held",
            HoldState::Confirmed if is_pending(hold) => "payment_pending",
            HoldState::Confirmed => "confirmed",
            HoldState::Cancelled => "cancelled",
            HoldState::Expired => "expired",
        },
    }
}

/// Whether a payment for the hold is in flight.
fn is_paying(hold: &Hold) -> bool {
    let payment = hold.payment.as_ref();
    payment.is_some_and(|payment| payment.state.is_in_flight())
}

fn is_pending(hold: &Hold) -> bool {
    hold.booking.as_ref().is_some_and(|booking| booking.pending)
}

/// The tag of a request as it stands. The place in line is no part of it: who waits for a change waits
/// for the state, or for what became of a payment.
pub fn etag(status: &RequestStatus, now: DateTime<Utc>) -> HeaderValue {
    let state = state(status, now);
    let payment = match status.decided.as_ref().map(|decided| &decided.outcome) {
        Some(Outcome::Held(hold)) => hold.payment.as_ref(),
        _ => None,
    };
    let tag = match payment {
        None => format!("W/\"{state}\""),
        Some(payment) => {
            let step = if payment.next_action.is_some() {
                "+"
            } else {
                ""
            };
            let (id, at) = (payment.payment_id.simple(), payment.state.as_str());
            format!("W/\"{state}.{id}.{at}{step}\"")
        }
    };
    HeaderValue::try_from(tag).expect("a tag is made of words")
}

/// Rounded up: an estimate errs on the long side.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1_000) as u64
}

async fn hold_view(app: &SharedApp, show: &Show, hold: &Hold) -> Result<HoldView, Problem> {
    let seats = if hold.seats.is_empty() {
        Vec::new()
    } else {
        let map = app.catalog.map(show).await?;
        hold.seats
            .iter()
            .map(|seat| map.seat(*seat).label.clone())
            .collect()
    };
    let section = hold
        .section
        .map(|section| show.sections[section as usize].name.clone());
    let money = |amount| Money {
        amount,
        currency: show.currency.clone(),
    };
    Ok(HoldView {
        id: hold.hold_id,
        seats,
        section,
        quantity: hold.quantity,
        total: money(hold.total),
        fees: money(hold.fees),
        expires_at: hold.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use stampede_shared::domain::outcome::Reason;

    use super::*;

    fn status(decided: Option<Outcome>) -> RequestStatus {
        RequestStatus {
            request_id: Uuid::nil(),
            position: 7,
            buyer_id: "ada".into(),
            accepted_at: DateTime::UNIX_EPOCH,
            decided: decided.map(|outcome| Decided {
                at: DateTime::UNIX_EPOCH,
                outcome,
            }),
        }
    }

    fn held(state: HoldState) -> Outcome {
        Outcome::Held(Hold {
            hold_id: Uuid::nil(),
            state,
            expires_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(10),
            kept_until: DateTime::UNIX_EPOCH + TimeDelta::seconds(10),
            seats: vec![],
            section: Some(0),
            quantity: 1,
            total: 100,
            fees: 10,
            booking: None,
            payment: None,
        })
    }

    #[test]
    fn every_outcome_has_its_state() {
        let at = |outcome, seconds| {
            state(
                &status(outcome),
                DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds),
            )
        };
        assert_eq!(at(None, 0), "queued");
        assert_eq!(at(Some(Outcome::Rejected(Reason::SoldOut)), 0), "rejected");
        assert_eq!(at(Some(Outcome::Cancelled), 0), "cancelled");
        assert_eq!(at(Some(Outcome::Quarantined), 0), "quarantined");
        assert_eq!(at(Some(held(HoldState::Held)), 9), "held");
        assert_eq!(at(Some(held(HoldState::Confirmed)), 99), "confirmed");
        assert_eq!(at(Some(held(HoldState::Cancelled)), 99), "cancelled");
    }

    #[test]
    fn a_hold_is_expired_before_any_sweep_has_seen_it() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::seconds(10);
        assert_eq!(state(&status(Some(held(HoldState::Held))), now), "expired");
    }
}
