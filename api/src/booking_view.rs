//! A booking, and a payment, as their buyer sees them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use stampede_shared::{
    domain::payment::PaymentState,
    store::{bookings::Booking, payments::Payment, shows::Show},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{app::SharedApp, error::Problem, submission::Money};

/// Seats or places that are the buyer's.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingView {
    pub id: Uuid,
    show_id: Uuid,
    request_id: Uuid,
    hold_id: Uuid,
    /// `pending` while the money is being taken, `confirmed`, `cancelled`.
    #[schema(example = "confirmed")]
    state: String,
    /// The labels; empty for general admission.
    seats: Vec<String>,
    /// The general-admission section.
    #[serde(skip_serializing_if = "Option::is_none")]
    section: Option<String>,
    quantity: i32,
    /// All-in, fixed when the hold was made.
    total: Money,
    /// The part of the total that is fees.
    fees: Money,
    booked_at: DateTime<Utc>,
    /// Until when the buyer may cancel; null: only operators can.
    refundable_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<CancelledView>,
    /// What became of the money; absent for a booking that is older than payments.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<BookingPayment>,
}

/// How a booking ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct CancelledView {
    at: DateTime<Utc>,
    /// `buyer`, `operator` or `gateway`.
    by: String,
    reason: String,
}

/// The payment of a booking, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingPayment {
    id: Uuid,
    #[schema(example = "refunded")]
    state: String,
    #[schema(example = "refunded")]
    money: &'static str,
}

impl BookingView {
    /// Finds the labels of a booking's seats.
    pub async fn of(
        app: &SharedApp,
        show: &Show,
        booking: Booking,
    ) -> Result<BookingView, Problem> {
        let seats = if booking.seats.is_empty() {
            Vec::new()
        } else {
            let map = app.catalog.map(show).await?;
            let labels = booking
                .seats
                .iter()
                .map(|seat| map.seat(*seat).label.clone());
            labels.collect()
        };
        let money = |amount| Money {
            amount,
            currency: show.currency.clone(),
        };
        let section = booking
            .section_no
            .map(|section| show.sections[section as usize].name.clone());
        let ended = booking.cancelled_at.zip(booking.cancelled_by);
        let payment = booking.payment_id.zip(booking.payment_state);
        Ok(BookingView {
            id: booking.booking_id,
            show_id: show.show_id,
            request_id: booking.request_id,
            hold_id: booking.hold_id,
            state: booking.state,
            seats,
            section,
            quantity: booking.quantity,
            total: money(booking.total),
            fees: money(booking.fees),
            booked_at: booking.booked_at,
            refundable_until: show.refundable_until,
            cancelled: ended.map(|(at, by)| CancelledView {
                at,
                by,
                reason: booking.cancel_reason.unwrap_or_default(),
            }),
            payment: payment.map(|(id, state)| BookingPayment {
                id,
                money: PaymentState::parse(&state).map_or("pending", money_of),
                state,
            }),
        })
    }
}

/// A try to pay for a hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentView {
    id: Uuid,
    show_id: Uuid,
    hold_id: Uuid,
    request_id: Uuid,
    /// `created`, `authorized`, `capturing`, `captured`, `refunding`, `refunded`, `declined`, `voided` or
    /// `failed`.
    #[schema(example = "captured")]
    state: &'static str,
    /// In a word for the buyer: `pending`, `reserved`, `charged`, `refunding`, `refunded`, `not_charged`.
    #[schema(example = "charged")]
    money: &'static str,
    amount: Money,
    /// Where the buyer goes for a further step.
    next_action: Option<String>,
    /// Why it was declined, voided, refunded, or failed.
    reason: Option<String>,
    created_at: DateTime<Utc>,
    /// What it paid for.
    booking: Option<BookingView>,
}

impl PaymentView {
    pub fn new(payment: &Payment, booking: Option<BookingView>) -> PaymentView {
        let waits = payment.state == PaymentState::Created;
        PaymentView {
            id: payment.payment_id,
            show_id: payment.show_id,
            hold_id: payment.hold_id,
            request_id: payment.request_id,
            state: payment.state.as_str(),
            money: money_of(payment.state),
            amount: Money {
                amount: payment.amount,
                currency: payment.currency.clone(),
            },
            next_action: payment.next_action.clone().filter(|_| waits),
            reason: payment.reason.clone(),
            created_at: payment.created_at,
            booking,
        }
    }
}

fn money_of(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Created | PaymentState::Capturing => "pending",
        PaymentState::Authorized => "reserved",
        PaymentState::Captured => "charged",
        PaymentState::Refunding => "refunding",
        PaymentState::Refunded => "refunded",
        PaymentState::Declined | PaymentState::Voided | PaymentState::Failed => "not_charged",
    }
}
