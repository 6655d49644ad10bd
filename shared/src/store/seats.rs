//! Seats: their status changes under the `show_inventory` lock, their place in the map never.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{SeatNo, SectionNo};

/// Takes available seats: `seat_nos[i]` for `hold_ids[i]`. Returns how many were taken; fewer than
/// asked means that the caller's picture of the inventory is wrong.
pub async fn hold(
    connection: &mut PgConnection,
    show_id: Uuid,
    seat_nos: &[SeatNo],
    hold_ids: &[Uuid],
    version: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update seats s
        set status = 'held', hold_id = new.hold_id, version = $4
        from unnest($2::integer[], $3::uuid[]) as new (seat_no, hold_id)
        where s.show_id = $1 and s.seat_no = new.seat_no and s.status = 'available'",
        show_id,
        seat_nos,
        hold_ids,
        version,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Puts held or booked seats back on sale and returns their sections, one entry a seat.
pub async fn release(
    connection: &mut PgConnection,
    show_id: Uuid,
    seat_nos: &[SeatNo],
    from: &str,
    version: i64,
) -> sqlx::Result<Vec<SectionNo>> {
    sqlx::query_scalar!(
        "update seats
        set status = 'available', hold_id = null, version = $4
        where show_id = $1 and seat_no = any($2) and status = $3
        returning section_no",
        show_id,
        seat_nos,
        from,
        version,
    )
    .fetch_all(connection)
    .await
}

/// Books held seats and returns their sections, one entry a seat.
pub async fn book(
    connection: &mut PgConnection,
    show_id: Uuid,
    seat_nos: &[SeatNo],
    version: i64,
) -> sqlx::Result<Vec<SectionNo>> {
    sqlx::query_scalar!(
        "update seats
        set status = 'booked', version = $3
        where show_id = $1 and seat_no = any($2) and status = 'held'
        returning section_no",
        show_id,
        seat_nos,
        version,
    )
    .fetch_all(connection)
    .await
}

/// The sections of seats, one entry a seat.
pub async fn sections_of(
    connection: &mut PgConnection,
    show_id: Uuid,
    seat_nos: &[SeatNo],
) -> sqlx::Result<Vec<SectionNo>> {
    sqlx::query_scalar!(
        "select section_no
        from seats
        where show_id = $1 and seat_no = any($2)",
        show_id,
        seat_nos,
    )
    .fetch_all(connection)
    .await
}

/// Whether a seat can be had.
#[derive(Debug, Clone, Copy)]
pub struct SeatFree {
    pub seat_no: SeatNo,
    pub free: bool,
}

/// The seats that changed after `version`: all of them for -1.
pub async fn free_since(
    connection: &mut PgConnection,
    show_id: Uuid,
    version: i64,
) -> sqlx::Result<Vec<SeatFree>> {
    sqlx::query_as!(
        SeatFree,
        r#"select seat_no, status = 'available' as "free!"
        from seats
        where show_id = $1 and version > $2"#,
        show_id,
        version,
    )
    .fetch_all(connection)
    .await
}
