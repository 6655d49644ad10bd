//! The log of a show: appended by the intake, read by turns, never updated.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::notify;
use crate::domain::{
    Amount, Position,
    wish::{BookingRequest, Wish},
};

/// The columns of requests that are to be appended, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewRequests {
    pub positions: Vec<Position>,
    pub request_ids: Vec<Uuid>,
    pub buyer_ids: Vec<String>,
    pub idempotency_keys: Vec<String>,
    pub body_hashes: Vec<Vec<u8>>,
    pub wishes: Vec<String>,
    pub max_totals: Vec<Option<Amount>>,
}

/// Appends to the log, says that positions up to the last of them are given, and wakes the workers at
/// the commit. The caller holds the intake's lock; there is at least one request.
pub async fn append(
    connection: &mut PgConnection,
    show_id: Uuid,
    requests: &NewRequests,
    accepted_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    // One round trip for all three: whoever is accepted next waits for it.
    sqlx::query!(
        "with appended as (
            insert into booking_requests (
                show_id, position, request_id, buyer_id, idempotency_key, body_hash, wishes,
                max_total, accepted_at
            )
            select $1, position, request_id, buyer_id, idempotency_key, body_hash, wishes::json,
                max_total, $9
            from unnest(
                $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::text[],
                $8::bigint[]
            ) as new (
                position, request_id, buyer_id, idempotency_key, body_hash, wishes, max_total
            )
        ), advanced as (
            update show_intake
            set last_position = $10
            where show_id = $1
        )
        select pg_notify($11, $12)",
        show_id,
        &requests.positions,
        &requests.request_ids,
        &requests.buyer_ids,
        &requests.idempotency_keys,
        &requests.body_hashes,
        &requests.wishes,
        &requests.max_totals as &[Option<Amount>],
        accepted_at,
        requests.positions.last().copied().unwrap_or_default(),
        notify::ACCEPTED,
        show_id.to_string(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A request that has this buyer's key already.
#[derive(Debug, Clone)]
pub struct KnownRequest {
    pub buyer_id: String,
    pub idempotency_key: String,
    pub request_id: Uuid,
    pub position: Position,
    pub body_hash: Vec<u8>,
}

/// Which of these (buyer, key) pairs are in the log. One row a pair at most.
pub async fn find_by_keys(
    connection: &mut PgConnection,
    show_id: Uuid,
    buyer_ids: &[&str],
    idempotency_keys: &[&str],
) -> sqlx::Result<Vec<KnownRequest>> {
    sqlx::query_as!(
        KnownRequest,
        // `offset 0` keeps it at one index probe a key, whatever the planner knows of the table.
        "select r.buyer_id, r.idempotency_key, r.request_id, r.position, r.body_hash
        from unnest($2::text[], $3::text[]) as asked (buyer_id, idempotency_key)
        cross join lateral (
            select buyer_id, idempotency_key, request_id, position, body_hash
            from booking_requests
            where show_id = $1
                and buyer_id = asked.buyer_id
                and idempotency_key = asked.idempotency_key
            offset 0
        ) r",
        show_id,
        buyer_ids as &[&str],
        idempotency_keys as &[&str],
    )
    .fetch_all(connection)
    .await
}

/// The next requests of a show after `after`, in order, at most `limit`.
pub async fn next(
    connection: &mut PgConnection,
    show_id: Uuid,
    after: Position,
    limit: i64,
) -> sqlx::Result<Vec<BookingRequest>> {
    let rows = sqlx::query!(
        r#"select position, buyer_id, wishes as "wishes: Json<Vec<Wish>>", max_total
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
    let requests = rows.into_iter().map(|row| BookingRequest {
        position: row.position,
        buyer_id: row.buyer_id,
        wishes: row.wishes.0,
        max_total: row.max_total,
    });
    Ok(requests.collect())
}
