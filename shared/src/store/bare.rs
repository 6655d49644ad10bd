//! The bare limit that the benchmark compares with: the same rows, read without looking into them.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::Position;

/// Reads the next requests as a turn does, without looking into them. Returns their positions.
pub async fn read(
    connection: &mut PgConnection,
    show_id: Uuid,
    after: Position,
    limit: i64,
) -> sqlx::Result<Vec<Position>> {
    let rows = sqlx::query!(
        r#"select position, buyer_id, wishes::text as "wishes!", max_total
        from booking_requests
        where show_id = $1 and position > $2
        order by position
        limit $3"#,
        show_id,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.position).collect())
}
