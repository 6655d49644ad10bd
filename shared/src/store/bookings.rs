//! Bookings: holds that became final.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Books holds: `booking_ids[i]` for `hold_ids[i]` of `buyer_ids[i]`.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    booking_ids: &[Uuid],
    hold_ids: &[Uuid],
    buyer_ids: &[String],
    booked_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into bookings (show_id, booking_id, hold_id, buyer_id, booked_at)
        select $1, booking_id, hold_id, buyer_id, $5
        from unnest($2::uuid[], $3::uuid[], $4::text[]) as new (booking_id, hold_id, buyer_id)",
        show_id,
        booking_ids,
        hold_ids,
        buyer_ids,
        booked_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
