//! Events for integrators, in the order of their commits. All under the `show_inventory` lock.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::Position;

/// The columns of events that are to be written, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewEvents {
    pub sequences: Vec<i64>,
    pub event_ids: Vec<Uuid>,
    pub event_types: Vec<String>,
    pub positions: Vec<Option<Position>>,
    pub booking_ids: Vec<Option<Uuid>>,
    pub data: Vec<Value>,
}

/// Writes events; a position becomes its request's id.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    events: &NewEvents,
    created_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into outbox (
            show_id, sequence, event_id, event_type, request_id, booking_id, data, created_at
        )
        select $1, sequence, event_id, event_type,
            (
                select request_id
                from booking_requests r
                where r.show_id = $1 and r.position = new.position
            ),
            booking_id, data, $8
        from unnest(
            $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::json[]
        ) as new (sequence, event_id, event_type, position, booking_id, data)",
        show_id,
        &events.sequences,
        &events.event_ids,
        &events.event_types,
        &events.positions as &[Option<Position>],
        &events.booking_ids as &[Option<Uuid>],
        &events.data,
        created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An event without what it says.
#[derive(Debug, Clone)]
pub struct Head {
    pub sequence: i64,
    pub event_type: String,
    pub created_at: DateTime<Utc>,
}

/// The events after `after`, in order, at most `limit`.
pub async fn list_after(
    connection: &mut PgConnection,
    show_id: Uuid,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Head>> {
    sqlx::query_as!(
        Head,
        "select sequence, event_type, created_at
        from outbox
        where show_id = $1 and sequence > $2
        order by sequence
        limit $3",
        show_id,
        after,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Throws these events away unless they have deliveries. Returns how many.
pub async fn delete_delivered(
    connection: &mut PgConnection,
    show_id: Uuid,
    sequences: &[i64],
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "delete from outbox o
        where o.show_id = $1 and o.sequence = any($2) and not exists (
            select 1
            from webhook_deliveries d
            where d.show_id = $1 and d.sequence = o.sequence
        )",
        show_id,
        sequences,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
