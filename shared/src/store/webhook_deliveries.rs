//! Events on their way to endpoints. Written by whoever holds the lock of `outbox_progress`, then only by
//! the job that has their stream, and by operators.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// The columns of deliveries that are to be made, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewDeliveries {
    pub delivery_ids: Vec<Uuid>,
    pub endpoint_ids: Vec<Uuid>,
    pub sequences: Vec<i64>,
}

/// Adds deliveries, all due at once.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    new: &NewDeliveries,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into webhook_deliveries (
            show_id, delivery_id, endpoint_id, sequence, state, due_at, created_at
        )
        select $1, delivery_id, endpoint_id, sequence, 'pending', now(), now()
        from unnest($2::uuid[], $3::uuid[], $4::bigint[])
            as new (delivery_id, endpoint_id, sequence)",
        show_id,
        &new.delivery_ids,
        &new.endpoint_ids,
        &new.sequences,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A delivery that is to be tried now, with its event.
#[derive(Debug, Clone)]
pub struct Due {
    pub delivery_id: Uuid,
    /// Tries before this one.
    pub attempts: i32,
    pub sequence: i64,
    pub event_id: Uuid,
    pub event_type: String,
    pub request_id: Option<Uuid>,
    pub booking_id: Option<Uuid>,
    pub data: Value,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

/// What is due of a stream, first what has been due for longest.
pub async fn due(
    connection: &mut PgConnection,
    show_id: Uuid,
    endpoint_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as!(
        Due,
        "select
            d.delivery_id, d.attempts, d.sequence,
            o.event_id, o.event_type, o.request_id, o.booking_id, o.data, o.created_at
        from (
            select delivery_id, attempts, sequence, due_at
            from webhook_deliveries
            where show_id = $1 and endpoint_id = $2 and due_at <= now()
            order by due_at, sequence
            limit $3
        ) d
        cross join lateral (
            select event_id, event_type, request_id, booking_id, data, created_at
            from outbox
            where show_id = $1 and sequence = d.sequence
            offset 0
        ) o
        order by d.due_at, d.sequence",
        show_id,
        endpoint_id,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// What became of tries, row by row at the same index.
#[derive(Debug, Default)]
pub struct Tried {
    pub delivery_ids: Vec<Uuid>,
    pub states: Vec<&'static str>,
    /// Of those that go on.
    pub due_ats: Vec<Option<DateTime<Utc>>>,
    /// What the endpoint answered; `None` when it gave no answer.
    pub statuses: Vec<Option<i32>>,
    pub errors: Vec<Option<String>>,
}

/// Writes down what became of tries.
pub async fn record(
    connection: &mut PgConnection,
    show_id: Uuid,
    tried: &Tried,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_deliveries d
        set
            state = tried.state,
            attempts = d.attempts + 1,
            due_at = tried.due_at,
            last_status = tried.status,
            last_error = tried.error,
            ended_at = case when tried.due_at is null then $7::timestamptz end
        from unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::integer[], $6::text[])
            as tried (delivery_id, state, due_at, status, error)
        where d.show_id = $1 and d.delivery_id = tried.delivery_id and d.state = 'pending'",
        show_id,
        &tried.delivery_ids,
        &tried.states as &[&str],
        &tried.due_ats as &[Option<DateTime<Utc>>],
        &tried.statuses as &[Option<i32>],
        &tried.errors as &[Option<String>],
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets a delivery be tried anew, whatever became of it. False when there is no such.
pub async fn begin_anew(
    connection: &mut PgConnection,
    show_id: Uuid,
    delivery_id: Uuid,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update webhook_deliveries
        set state = 'pending', attempts = 0, due_at = now(), ended_at = null
        where show_id = $1 and delivery_id = $2",
        show_id,
        delivery_id,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Throws away what became of these events, but not of one that still waits for an endpoint. None waits
/// for an endpoint that was disabled before `before`.
pub async fn delete_ended(
    connection: &mut PgConnection,
    show_id: Uuid,
    sequences: &[i64],
    before: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from webhook_deliveries d
        where d.show_id = $1 and d.sequence = any($2)
            and (
                d.state <> 'pending'
                or not exists (
                    select 1
                    from webhook_endpoints e
                    where e.endpoint_id = d.endpoint_id
                        and coalesce(e.disabled_at, $3) >= $3
                )
            )
            and not exists (
                select 1
                from webhook_deliveries waiting
                where waiting.show_id = $1 and waiting.sequence = d.sequence
                    and waiting.state = 'pending'
                    and exists (
                        select 1
                        from webhook_endpoints e
                        where e.endpoint_id = waiting.endpoint_id
                            and coalesce(e.disabled_at, $3) >= $3
                    )
            )",
        show_id,
        sequences,
        before,
    )
    .execute(connection)
    .await?;
    Ok(())
}
