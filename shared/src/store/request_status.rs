//! Reads of the view that shows a request with what became of it.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{
    Amount, Position, SeatNo, SectionNo, hold::HoldState, outcome::Reason, payment::PaymentState,
};

/// The most requests that one call lists.
pub const LIST_MAX: i64 = 100;

/// A request as its buyer may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestStatus {
    pub request_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    pub accepted_at: DateTime<Utc>,
    /// `None` while it is in the line.
    pub decided: Option<Decided>,
}

/// What became of it, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Held(Hold),
    Rejected(Reason),
    Cancelled,
    Quarantined,
}

/// A hold and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub hold_id: Uuid,
    pub state: HoldState,
    /// When the buyer must have begun to pay.
    pub expires_at: DateTime<Utc>,
    /// When the seats are let go: later than that while a payment is in flight.
    pub kept_until: DateTime<Utc>,
    pub seats: Vec<SeatNo>,
    /// The general-admission section; `None` when the hold is of seats.
    pub section: Option<SectionNo>,
    pub quantity: i32,
    /// All-in.
    pub total: Amount,
    /// The part of the total that is fees.
    pub fees: Amount,
    pub booking: Option<Booking>,
    /// The last try to pay.
    pub payment: Option<LastPayment>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Booking {
    pub booking_id: Uuid,
    /// The money is being taken.
    pub pending: bool,
    pub booked_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LastPayment {
    pub payment_id: Uuid,
    pub state: PaymentState,
    /// Where the buyer goes for a further step.
    pub next_action: Option<String>,
    pub reason: Option<String>,
}

/// The requests of these ids, in no order; those that do not exist are absent.
pub async fn find_by_ids(
    connection: &mut PgConnection,
    show_id: Uuid,
    request_ids: &[Uuid],
) -> sqlx::Result<Vec<RequestStatus>> {
    // `offset 0` keeps it at one index probe a request, whatever the planner knows of the tables.
    let rows = sqlx::query_as!(
        Row,
        r#"select
            found.request_id as "request_id!", found.position as "position!",
            found.buyer_id as "buyer_id!", found.accepted_at as "accepted_at!", found.outcome,
            found.reason, found.decided_at, found.hold_id, found.hold_state, found.section_no,
            found.quantity, found.total, found.fees, found.expires_at, found.kept_until, found.seats,
            found.booking_id, found.booking_state, found.booked_at, found.payment_id,
            found.payment_state, found.payment_next_action, found.payment_reason
        from unnest($2::uuid[]) as asked (request_id)
        cross join lateral (
            select *
            from request_status
            where show_id = $1 and request_id = asked.request_id
            offset 0
        ) found"#,
        show_id,
        request_ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RequestStatus::try_from).collect()
}

/// The requests at these positions, in no order.
pub async fn find_by_positions(
    connection: &mut PgConnection,
    show_id: Uuid,
    positions: &[Position],
) -> sqlx::Result<Vec<RequestStatus>> {
    // As in [`find_by_ids`].
    let rows = sqlx::query_as!(
        Row,
        r#"select
            found.request_id as "request_id!", found.position as "position!",
            found.buyer_id as "buyer_id!", found.accepted_at as "accepted_at!", found.outcome,
            found.reason, found.decided_at, found.hold_id, found.hold_state, found.section_no,
            found.quantity, found.total, found.fees, found.expires_at, found.kept_until, found.seats,
            found.booking_id, found.booking_state, found.booked_at, found.payment_id,
            found.payment_state, found.payment_next_action, found.payment_reason
        from unnest($2::bigint[]) as asked (position)
        cross join lateral (
            select *
            from request_status
            where show_id = $1 and position = asked.position
            offset 0
        ) found"#,
        show_id,
        positions,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RequestStatus::try_from).collect()
}

/// The newest requests of a buyer, newest first, at most [`LIST_MAX`].
pub async fn list_by_buyer(
    pool: &PgPool,
    show_id: Uuid,
    buyer_id: &str,
) -> sqlx::Result<Vec<RequestStatus>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select
            request_id as "request_id!", position as "position!", buyer_id as "buyer_id!",
            accepted_at as "accepted_at!", outcome, reason, decided_at, hold_id, hold_state,
            section_no, quantity, total, fees, expires_at, kept_until, seats, booking_id, booking_state,
            booked_at, payment_id, payment_state, payment_next_action, payment_reason
        from request_status
        where show_id = $1 and buyer_id = $2
        order by position desc
        limit $3"#,
        show_id,
        buyer_id,
        LIST_MAX,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(RequestStatus::try_from).collect()
}

struct Row {
    request_id: Uuid,
    position: Position,
    buyer_id: String,
    accepted_at: DateTime<Utc>,
    outcome: Option<String>,
    reason: Option<String>,
    decided_at: Option<DateTime<Utc>>,
    hold_id: Option<Uuid>,
    hold_state: Option<String>,
    section_no: Option<SectionNo>,
    quantity: Option<i32>,
    total: Option<Amount>,
    fees: Option<Amount>,
    expires_at: Option<DateTime<Utc>>,
    kept_until: Option<DateTime<Utc>>,
    seats: Option<Vec<SeatNo>>,
    booking_id: Option<Uuid>,
    booking_state: Option<String>,
    booked_at: Option<DateTime<Utc>>,
    payment_id: Option<Uuid>,
    payment_state: Option<String>,
    payment_next_action: Option<String>,
    payment_reason: Option<String>,
}

impl TryFrom<Row> for RequestStatus {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<RequestStatus> {
        let (request_id, position) = (row.request_id, row.position);
        let (buyer_id, accepted_at) = (row.buyer_id.clone(), row.accepted_at);
        let decided = match (row.decided_at, row.outcome.as_deref()) {
            (Some(at), Some(state)) => {
                let outcome = match state {
                    "held" => Outcome::Held(hold(row).ok_or_else(|| corrupt(position))?),
                    "rejected" => {
                        let reason = row.reason.as_deref().and_then(Reason::parse);
                        Outcome::Rejected(reason.ok_or_else(|| corrupt(position))?)
                    }
                    "cancelled" => Outcome::Cancelled,
                    "quarantined" => Outcome::Quarantined,
                    _ => return Err(corrupt(position)),
                };
                Some(Decided { at, outcome })
            }
            _ => None,
        };
        Ok(RequestStatus {
            request_id,
            position,
            buyer_id,
            accepted_at,
            decided,
        })
    }
}

fn hold(row: Row) -> Option<Hold> {
    let booking = row
        .booking_id
        .zip(row.booked_at)
        .map(|(booking_id, booked_at)| Booking {
            booking_id,
            pending: row.booking_state.as_deref() == Some("pending"),
            booked_at,
        });
    let payment_state = row.payment_state.as_deref().and_then(PaymentState::parse);
    let payment = row
        .payment_id
        .zip(payment_state)
        .map(|(payment_id, state)| LastPayment {
            payment_id,
            state,
            next_action: row.payment_next_action,
            reason: row.payment_reason,
        });
    Some(Hold {
        hold_id: row.hold_id?,
        state: HoldState::parse(&row.hold_state?)?,
        expires_at: row.expires_at?,
        kept_until: row.kept_until?,
        seats: row.seats?,
        section: row.section_no,
        quantity: row.quantity?,
        total: row.total?,
        fees: row.fees?,
        booking,
        payment,
    })
}

fn corrupt(position: Position) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("the outcome of position {position} lacks what it must have").into(),
    )
}
