//! Bookings: holds that became the buyer's. All under the `show_inventory` lock.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{Amount, Position, SeatNo, SectionNo};

/// The columns of bookings that are to be made, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewBookings {
    pub booking_ids: Vec<Uuid>,
    pub hold_ids: Vec<Uuid>,
    pub buyer_ids: Vec<String>,
    pub payment_ids: Vec<Uuid>,
    /// Whether the money is there; else the booking is pending.
    pub paid: Vec<bool>,
}

/// Books holds.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    new: &NewBookings,
    booked_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into bookings (
            show_id, booking_id, hold_id, buyer_id, payment_id, state, booked_at, confirmed_at
        )
        select
            $1, booking_id, hold_id, buyer_id, payment_id,
            case when paid then 'confirmed' else 'pending' end, $7,
            case when paid then $7::timestamptz end
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::boolean[])
            as new (booking_id, hold_id, buyer_id, payment_id, paid)",
        show_id,
        &new.booking_ids,
        &new.hold_ids,
        &new.buyer_ids,
        &new.payment_ids,
        &new.paid,
        booked_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Confirms pending bookings: the money is there.
pub async fn confirm(
    connection: &mut PgConnection,
    show_id: Uuid,
    booking_ids: &[Uuid],
    confirmed_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update bookings
        set state = 'confirmed', confirmed_at = $3
        where show_id = $1 and booking_id = any($2) and state = 'pending'",
        show_id,
        booking_ids,
        confirmed_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Who ends a booking and why.
#[derive(Debug, Clone, Copy)]
pub struct Cancellation<'a> {
    /// `buyer`, `operator` or `gateway`.
    pub by: &'a str,
    pub reason: &'a str,
    /// The idempotency key of the call, if one asked for it.
    pub key: Option<&'a str>,
}

/// Cancels bookings that live.
pub async fn cancel(
    connection: &mut PgConnection,
    show_id: Uuid,
    booking_ids: &[Uuid],
    cancellation: Cancellation<'_>,
    cancelled_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update bookings
        set
            state = 'cancelled', cancelled_at = $6, cancelled_by = $3, cancel_reason = $4,
            cancel_key = $5
        where show_id = $1 and booking_id = any($2) and state <> 'cancelled'",
        show_id,
        booking_ids,
        cancellation.by,
        cancellation.reason,
        cancellation.key,
        cancelled_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A booking with its places and its money.
#[derive(Debug, Clone, PartialEq)]
pub struct Booking {
    pub booking_id: Uuid,
    pub hold_id: Uuid,
    pub request_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    pub state: String,
    pub section_no: Option<SectionNo>,
    pub quantity: i32,
    pub total: Amount,
    pub fees: Amount,
    pub seats: Vec<SeatNo>,
    pub booked_at: DateTime<Utc>,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub cancelled_at: Option<DateTime<Utc>>,
    pub cancelled_by: Option<String>,
    pub cancel_reason: Option<String>,
    pub cancel_key: Option<String>,
    pub payment_id: Option<Uuid>,
    pub payment_state: Option<String>,
}

/// The bookings of these ids, in no order. `offset 0` keeps it at one index probe a booking.
pub async fn find(
    connection: &mut PgConnection,
    show_id: Uuid,
    booking_ids: &[Uuid],
) -> sqlx::Result<Vec<Booking>> {
    sqlx::query_as!(
        Booking,
        r#"select
            b.booking_id, b.hold_id, r.request_id, h.position, b.buyer_id, b.state, h.section_no,
            h.quantity, h.total, h.fees,
            array(
                select s.seat_no
                from hold_seats s
                where s.show_id = $1 and s.hold_id = b.hold_id
                order by s.seat_no
            ) as "seats!",
            b.booked_at, b.confirmed_at, b.cancelled_at, b.cancelled_by, b.cancel_reason,
            b.cancel_key, b.payment_id, p.state as "payment_state?"
        from unnest($2::uuid[]) as asked (booking_id)
        cross join lateral (
            select *
            from bookings
            where show_id = $1 and booking_id = asked.booking_id
            offset 0
        ) b
        cross join lateral (
            select *
            from holds
            where show_id = $1 and hold_id = b.hold_id
            offset 0
        ) h
        cross join lateral (
            select request_id
            from booking_requests
            where show_id = $1 and position = h.position
            offset 0
        ) r
        left join lateral (
            select state
            from payments
            where show_id = $1 and payment_id = b.payment_id
            offset 0
        ) p on true"#,
        show_id,
        booking_ids,
    )
    .fetch_all(connection)
    .await
}

/// One booking, outside of any lock.
pub async fn find_one(
    pool: &PgPool,
    show_id: Uuid,
    booking_id: Uuid,
) -> sqlx::Result<Option<Booking>> {
    let mut connection = pool.acquire().await?;
    let found = find(&mut connection, show_id, &[booking_id]).await?;
    Ok(found.into_iter().next())
}

/// Bookings that were cancelled by keys: `keys[i]` of `buyer_ids[i]`.
pub async fn find_by_cancel_keys(
    connection: &mut PgConnection,
    show_id: Uuid,
    buyer_ids: &[String],
    keys: &[String],
) -> sqlx::Result<Vec<(String, String, Uuid)>> {
    let rows = sqlx::query!(
        r#"select b.buyer_id, b.cancel_key as "cancel_key!", b.booking_id
        from unnest($2::text[], $3::text[]) as asked (buyer_id, cancel_key)
        cross join lateral (
            select buyer_id, cancel_key, booking_id
            from bookings
            where show_id = $1 and buyer_id = asked.buyer_id and cancel_key = asked.cancel_key
            offset 0
        ) b"#,
        show_id,
        buyer_ids,
        keys,
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (row.buyer_id, row.cancel_key, row.booking_id))
        .collect())
}

/// Bookings of a show that live, pending ones too, the oldest first, at most `limit`: to be cancelled with
/// it.
pub async fn list_living(
    connection: &mut PgConnection,
    show_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select booking_id
        from bookings
        where show_id = $1 and cancelled_at is null
        order by booking_id
        limit $2",
        show_id,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Confirmed bookings since `since` that no captured payment stands for, at most `limit`: (booking, its
/// payment). Only ids above `first_id` are looked at, which are those of that time.
pub async fn list_unpaid(
    pool: &PgPool,
    show_id: Uuid,
    since: DateTime<Utc>,
    first_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<(Uuid, Option<Uuid>)>> {
    let rows = sqlx::query!(
        "select b.booking_id, b.payment_id
        from bookings b
        left join lateral (
            -- Without the state in here, which would lead into a partial index: 9 s for 5,000 bookings.
            select state
            from payments
            where show_id = $1 and payment_id = b.payment_id
            offset 0
        ) p on true
        where b.show_id = $1
            and b.state = 'confirmed'
            and b.booked_at >= $2
            and b.booking_id > $3
            and p.state is distinct from 'captured'
        order by b.booking_id
        limit $4",
        show_id,
        since,
        first_id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.booking_id, row.payment_id)).collect())
}
