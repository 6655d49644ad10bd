//! The seats of holds. `hold_seats_once` lets a seat be in one living hold only.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::SeatNo;

/// Puts seats in holds: `seat_nos[i]` in `hold_ids[i]`.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    seat_nos: &[SeatNo],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hold_seats (show_id, hold_id, seat_no)
        select $1, hold_id, seat_no
        from unnest($2::uuid[], $3::integer[]) as new (hold_id, seat_no)",
        show_id,
        hold_ids,
        seat_nos,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes all seats out of holds that ended.
pub async fn release(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    released_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update hold_seats
        set released_at = $3
        where show_id = $1 and hold_id = any($2) and released_at is null",
        show_id,
        hold_ids,
        released_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the released seats of a hold that gets others.
pub async fn forget_released(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_id: Uuid,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from hold_seats
        where show_id = $1 and hold_id = $2 and released_at is not null",
        show_id,
        hold_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The seats of holds, released or not, in order.
pub async fn list(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
) -> sqlx::Result<Vec<SeatNo>> {
    sqlx::query_scalar!(
        // `offset 0` keeps it at one index probe a hold, whatever the planner knows of the table.
        "select s.seat_no
        from unnest($2::uuid[]) as asked (hold_id)
        cross join lateral (
            select seat_no
            from hold_seats
            where show_id = $1 and hold_id = asked.hold_id
            offset 0
        ) s
        order by s.seat_no",
        show_id,
        hold_ids,
    )
    .fetch_all(connection)
    .await
}
