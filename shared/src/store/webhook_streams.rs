//! The deliveries of a show to an endpoint, as one thing to work on: when there is something to deliver,
//! and which job has it.
//!
//! The time until which a job has it is also its name: a job whose time ran out finds another there, and
//! leaves the stream alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A stream that a job has.
#[derive(Debug, Clone)]
pub struct Lease {
    pub endpoint_id: Uuid,
    pub leased_until: DateTime<Utc>,
}

/// Says that there is something to deliver to these endpoints now.
pub async fn wake(
    connection: &mut PgConnection,
    show_id: Uuid,
    endpoint_ids: &[Uuid],
) -> sqlx::Result<()> {
    // The row lock orders this with `finish`: whoever comes second sees what the first has done. The
    // endpoints are in order, so no two transactions wait for each other.
    sqlx::query!(
        "insert into webhook_streams (show_id, endpoint_id, due_at)
        select $1, endpoint_id, now()
        from unnest($2::uuid[]) as woken (endpoint_id)
        order by endpoint_id
        on conflict (show_id, endpoint_id) do update set due_at = excluded.due_at",
        show_id,
        endpoint_ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Leases those of a show's streams to these endpoints that are due and no job has.
pub async fn lease_due(
    connection: &mut PgConnection,
    show_id: Uuid,
    endpoint_ids: &[Uuid],
    lease: Duration,
) -> sqlx::Result<Vec<Lease>> {
    let rows = sqlx::query!(
        r#"update webhook_streams
        set leased_until = now() + make_interval(secs => $3)
        where show_id = $1 and endpoint_id in (
            select endpoint_id
            from webhook_streams
            where show_id = $1 and endpoint_id = any($2) and due_at <= now()
                and coalesce(leased_until, now()) <= now()
            for update skip locked
        )
        returning endpoint_id, leased_until as "leased_until!""#,
        show_id,
        endpoint_ids,
        lease.as_secs_f64(),
    )
    .fetch_all(connection)
    .await?;
    let leases = rows.into_iter().map(|row| Lease {
        endpoint_id: row.endpoint_id,
        leased_until: row.leased_until,
    });
    Ok(leases.collect())
}

/// Keeps a stream for longer and returns its new lease, and the database's clock; `None` when it is
/// another job's by now.
pub async fn renew(
    connection: &mut PgConnection,
    show_id: Uuid,
    held: &Lease,
    lease: Duration,
) -> sqlx::Result<Option<(Lease, DateTime<Utc>)>> {
    let renewed = sqlx::query!(
        r#"update webhook_streams
        set leased_until = now() + make_interval(secs => $4)
        where show_id = $1 and endpoint_id = $2 and leased_until = $3
        returning leased_until as "leased_until!", now() as "now!""#,
        show_id,
        held.endpoint_id,
        held.leased_until,
        lease.as_secs_f64(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(renewed.map(|renewed| {
        let lease = Lease {
            endpoint_id: held.endpoint_id,
            leased_until: renewed.leased_until,
        };
        (lease, renewed.now)
    }))
}

/// Gives a stream back; it is due again when its first delivery is.
pub async fn finish(
    connection: &mut PgConnection,
    show_id: Uuid,
    held: &Lease,
) -> sqlx::Result<()> {
    // Protects the stream from a `wake` between the look for what is due and the update: locked by a
    // statement of its own, so that the next one sees what was committed before the lock was given.
    let locked = sqlx::query_scalar!(
        "select endpoint_id
        from webhook_streams
        where show_id = $1 and endpoint_id = $2 and leased_until = $3
        for update",
        show_id,
        held.endpoint_id,
        held.leased_until,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if locked.is_none() {
        return Ok(());
    }
    sqlx::query!(
        "update webhook_streams
        set
            leased_until = null,
            due_at = (
                select due_at
                from webhook_deliveries
                where show_id = $1 and endpoint_id = $2 and due_at is not null
                order by due_at
                limit 1
            )
        where show_id = $1 and endpoint_id = $2",
        show_id,
        held.endpoint_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the streams of a show to endpoints that are gone.
pub async fn forget_gone(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from webhook_streams s
        where s.show_id = $1 and not exists (
            select 1
            from webhook_endpoints e
            where e.endpoint_id = s.endpoint_id
        )",
        show_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}
