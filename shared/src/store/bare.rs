//! The bare limits that the benchmark compares with: the same rows, written and read without rules.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::booking_requests::NewRequests;
use crate::domain::{Amount, Position};

/// Writes requests and nothing else.
pub async fn append(
    connection: &mut PgConnection,
    show_id: Uuid,
    requests: &NewRequests,
    accepted_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into booking_requests (
            show_id, position, request_id, buyer_id, idempotency_key, body_hash, wishes, max_total,
            accepted_at
        )
        select $1, position, request_id, buyer_id, idempotency_key, body_hash, wishes::json,
            max_total, $9
        from unnest(
            $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bigint[]
        ) as new (
            position, request_id, buyer_id, idempotency_key, body_hash, wishes, max_total
        )",
        show_id,
        &requests.positions,
        &requests.request_ids,
        &requests.buyer_ids,
        &requests.idempotency_keys,
        &requests.body_hashes,
        &requests.wishes,
        &requests.max_totals as &[Option<Amount>],
        accepted_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

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
