//! The lock under which everything that a show sells changes, and the version of those changes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// What the holder of the lock knows.
#[derive(Debug, Clone)]
pub struct Locked {
    /// The version of the last change.
    pub version: i64,
    /// The sequence of the last event in the outbox.
    pub event_sequence: i64,
    /// When the show was cancelled: nothing is booked any more.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Why, for the buyers to read.
    pub cancel_reason: Option<String>,
    /// The types of events that an endpoint wants.
    pub wanted_events: Vec<String>,
    /// The database's clock: it decides whether a hold has expired.
    pub now: DateTime<Utc>,
}

/// Waits for the lock; `None` when there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<Locked>> {
    // Protects sections, seats, holds, totals and the outcomes of cancelled requests. Second in
    // lock order, and nothing is locked by two transactions below it. The clock is read outside of
    // the locking query: when the wait is over.
    sqlx::query_as!(
        Locked,
        r#"with locked as materialized (
            select version, event_sequence, cancelled_at, cancel_reason
            from show_inventory
            where show_id = $1
            for update
        )
        select
            version, event_sequence, cancelled_at, cancel_reason, clock_timestamp() as "now!",
            array(
                select distinct event_type
                from webhook_endpoints, unnest(event_types) as event_type
                where disabled_at is null and coalesce(only_show_id, $1) = $1
            ) as "wanted_events!"
        from locked"#,
        show_id,
    )
    .fetch_optional(connection)
    .await
}

/// Says how many events the outbox of the show has had.
pub async fn set_event_sequence(
    connection: &mut PgConnection,
    show_id: Uuid,
    event_sequence: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update show_inventory
        set event_sequence = $2
        where show_id = $1",
        show_id,
        event_sequence,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Cancels a show: from now on nothing is booked. Again is fine; the first reason stays.
pub async fn cancel(
    connection: &mut PgConnection,
    show_id: Uuid,
    reason: &str,
    cancelled_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update show_inventory
        set cancelled_at = $3, cancel_reason = $2
        where show_id = $1 and cancelled_at is null",
        show_id,
        reason,
        cancelled_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that seats and sections with this version have changed.
pub async fn advance(
    connection: &mut PgConnection,
    show_id: Uuid,
    version: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update show_inventory
        set version = $2
        where show_id = $1",
        show_id,
        version,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the clearing of a cancelled show for half a minute. Returns whether it was to be had.
pub async fn take_clearing(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<bool> {
    let taken = sqlx::query!(
        "update show_inventory
        set clear_at = now() + interval '30 seconds'
        where show_id = $1
            and cancelled_at is not null
            and cleared_at is null
            and coalesce(clear_at, now()) <= now()",
        show_id,
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Says that a cancelled show has nothing left, if so: no hold, no booking, and no payment that could
/// still become one. Returns whether it is so. The caller holds the lock.
pub async fn set_cleared(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<bool> {
    let cleared = sqlx::query!(
        "update show_inventory
        set cleared_at = now()
        where show_id = $1
            and cancelled_at is not null
            and cleared_at is null
            and not exists (select 1 from holds where show_id = $1 and state = 'held')
            and not exists (select 1 from bookings where show_id = $1 and cancelled_at is null)
            and not exists (
                select 1
                from payments
                where show_id = $1 and state in ('created', 'authorized', 'capturing')
            )",
        show_id,
    )
    .execute(connection)
    .await?;
    Ok(cleared.rows_affected() > 0)
}
