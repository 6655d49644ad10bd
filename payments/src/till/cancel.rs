//! Cancelling bookings: the seats are back on sale and the refund is due in the same transaction.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use stampede_shared::{
    domain::{hold::HoldState, payment::PaymentState},
    events::{self, Event, EventType},
    settle,
    store::{
        bookings::{self, Booking, Cancellation},
        holds, notify,
        payments::{self, Moves, NO_GATEWAY, Payment},
        show_inventory::Locked,
    },
};
use uuid::Uuid;

use super::Terms;

/// The most bookings and holds of a cancelled show that one transaction ends.
const SHOW_BATCH: i64 = 200;

/// A wish to cancel a booking.
#[derive(Debug, Clone)]
pub struct Cancel {
    pub booking_id: Uuid,
    pub by: By,
    /// Shown to the buyer.
    pub reason: String,
    /// The idempotency key.
    pub key: String,
}

/// Who wants it.
#[derive(Debug, Clone)]
pub enum By {
    /// Its buyer, as long as the show lets them.
    Buyer {
        buyer_id: String,
        refundable_until: Option<DateTime<Utc>>,
    },
    Operator,
}

/// A booking that is cancelled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    pub booking_id: Uuid,
    /// The payment to drive, if money is to go back.
    pub refund: Option<Uuid>,
    /// It was cancelled before, by the same key.
    pub replayed: bool,
}

/// Why it was not cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRefusal {
    /// There is none, or it is another buyer's.
    NotFound,
    /// The show lets only operators cancel, or did so until then.
    TooLate { until: Option<DateTime<Utc>> },
    /// The money is still being taken.
    Pending,
    /// The key cancelled another booking.
    KeyReused,
}

pub(super) async fn cancel(
    connection: &mut PgConnection,
    show_id: Uuid,
    calls: &[&Cancel],
    terms: &Terms,
    locked: &mut Locked,
) -> sqlx::Result<Vec<Result<Cancelled, CancelRefusal>>> {
    let ids: Vec<Uuid> = calls.iter().map(|call| call.booking_id).collect();
    let found = bookings::find(connection, show_id, &ids).await?;
    let mut found: HashMap<Uuid, Booking> =
        found.into_iter().map(|it| (it.booking_id, it)).collect();
    let owners: Vec<String> = calls
        .iter()
        .map(|call| {
            let booking = found.get(&call.booking_id);
            booking.map_or_else(String::new, |booking| booking.buyer_id.clone())
        })
        .collect();
    let keys: Vec<String> = calls.iter().map(|call| call.key.clone()).collect();
    let used = bookings::find_by_cancel_keys(connection, show_id, &owners, &keys).await?;
    let mut used: HashMap<(String, String), Uuid> = used
        .into_iter()
        .map(|(buyer_id, key, booking_id)| ((buyer_id, key), booking_id))
        .collect();

    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let checked = check(call, found.get(&call.booking_id), &used, locked.now);
        let booking = match checked {
            Ok(Checked::ToCancel(booking)) => booking.clone(),
            Ok(Checked::Done(done)) => {
                answers.push(Ok(done));
                continue;
            }
            Err(refusal) => {
                answers.push(Err(refusal));
                continue;
            }
        };
        let by = match call.by {
            By::Buyer { .. } => "buyer",
            By::Operator => "operator",
        };
        let cancellation = Cancellation {
            by,
            reason: &call.reason,
            key: Some(&call.key),
        };
        let refund = end(connection, show_id, &booking, cancellation, terms, locked).await?;
        used.insert(
            (booking.buyer_id.clone(), call.key.clone()),
            booking.booking_id,
        );
        if let Some(booking) = found.get_mut(&call.booking_id) {
            booking.state = "cancelled".to_owned();
            booking.cancel_key = Some(call.key.clone());
        }
        answers.push(Ok(Cancelled {
            booking_id: call.booking_id,
            refund,
            replayed: false,
        }));
    }
    Ok(answers)
}

enum Checked<'a> {
    ToCancel(&'a Booking),
    Done(Cancelled),
}

fn check<'a>(
    call: &Cancel,
    booking: Option<&'a Booking>,
    used: &HashMap<(String, String), Uuid>,
    now: DateTime<Utc>,
) -> Result<Checked<'a>, CancelRefusal> {
    let booking = booking.ok_or(CancelRefusal::NotFound)?;
    if let By::Buyer { buyer_id, .. } = &call.by
        && *buyer_id != booking.buyer_id
    {
        return Err(CancelRefusal::NotFound);
    }
    let key = (booking.buyer_id.clone(), call.key.clone());
    if used.get(&key).is_some_and(|it| *it != call.booking_id) {
        return Err(CancelRefusal::KeyReused);
    }
    match booking.state.as_str() {
        "cancelled" => {
            return Ok(Checked::Done(Cancelled {
                booking_id: booking.booking_id,
                refund: None,
                replayed: booking.cancel_key.as_deref() == Some(call.key.as_str()),
            }));
        }
        // Operators need not wait: whatever becomes of the capture, the money is let go or goes back.
        "pending" if matches!(call.by, By::Buyer { .. }) => return Err(CancelRefusal::Pending),
        _ => {}
    }
    if let By::Buyer {
        refundable_until, ..
    } = call.by
        && refundable_until.is_none_or(|until| until <= now)
    {
        return Err(CancelRefusal::TooLate {
            until: refundable_until,
        });
    }
    Ok(Checked::ToCancel(booking))
}

/// Cancels one booking that lives. Returns the payment whose money is to go back.
async fn end(
    connection: &mut PgConnection,
    show_id: Uuid,
    booking: &Booking,
    cancellation: Cancellation<'_>,
    terms: &Terms,
    locked: &mut Locked,
) -> sqlx::Result<Option<Uuid>> {
    let ids = [booking.booking_id];
    bookings::cancel(connection, show_id, &ids, cancellation, locked.now).await?;
    settle::unbook(connection, show_id, &[booking.hold_id], locked).await?;
    let paid = match booking.payment_id {
        Some(payment_id) => payments::find(connection, show_id, &[payment_id]).await?,
        None => Vec::new(),
    };
    let refund = match paid.into_iter().next() {
        Some(payment) => {
            give_back(connection, show_id, payment, cancellation, terms, locked).await?
        }
        None => None,
    };
    if booking.state == "confirmed" {
        let cancelled = Event {
            event_type: EventType::BookingCancelled,
            position: Some(booking.position),
            booking_id: Some(booking.booking_id),
            data: json!({
                "hold_id": booking.hold_id, "payment_id": booking.payment_id,
                "buyer_id": booking.buyer_id, "by": cancellation.by, "reason": cancellation.reason,
            }),
        };
        events::record(connection, show_id, locked, vec![cancelled]).await?;
    }
    notify::changed(connection, show_id, &[booking.position]).await?;
    Ok(refund)
}

/// Makes a refund due. What was free is refunded at once.
async fn give_back(
    connection: &mut PgConnection,
    show_id: Uuid,
    payment: Payment,
    cancellation: Cancellation<'_>,
    terms: &Terms,
    locked: &Locked,
) -> sqlx::Result<Option<Uuid>> {
    let free = payment.gateway == NO_GATEWAY;
    let state = if free {
        PaymentState::Refunded
    } else {
        PaymentState::Refunding
    };
    let moves = Moves {
        payment_ids: vec![payment.payment_id],
        states: vec![state.as_str().to_owned()],
        charge_ids: vec![payment.charge_id],
        next_actions: vec![None],
        reasons: vec![Some(format!("cancelled_by_{}", cancellation.by))],
        recover_ats: vec![(!free).then(|| {
            // A cancelled show leaves all of its refunds to recovery.
            match cancellation.key {
                Some(_) => locked.now + terms.stuck,
                None => locked.now,
            }
        })],
        moved: vec![true],
    };
    payments::set(connection, show_id, &moves, locked.now).await?;
    Ok((!free).then_some(payment.payment_id))
}

/// Ends some bookings and holds of a cancelled show. Returns whether there may be more.
pub(super) async fn some_of_show(
    connection: &mut PgConnection,
    show_id: Uuid,
    terms: &Terms,
    locked: &mut Locked,
) -> sqlx::Result<bool> {
    let Some(reason) = locked.cancel_reason.clone() else {
        return Ok(false);
    };
    let held = holds::list_held(connection, show_id, SHOW_BATCH).await?;
    settle::release(connection, show_id, &held, HoldState::Cancelled, locked).await?;
    let ids = bookings::list_living(connection, show_id, SHOW_BATCH).await?;
    let cancellation = Cancellation {
        by: "operator",
        reason: &reason,
        key: None,
    };
    for booking in bookings::find(connection, show_id, &ids).await? {
        end(connection, show_id, &booking, cancellation, terms, locked).await?;
    }
    Ok(held.len() as i64 == SHOW_BATCH || ids.len() as i64 == SHOW_BATCH)
}
