//! What gateways told us, each event once.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// An event as it came in.
#[derive(Debug, Clone)]
pub struct GatewayEvent {
    pub show_id: Uuid,
    pub gateway: String,
    pub event_id: String,
    pub payment_id: Uuid,
    pub charge_id: String,
}

/// Stores an event, as applied when it is no news. Returns whether it still has to be applied: not when
/// it was applied before.
pub async fn store(
    connection: &mut PgConnection,
    event: &GatewayEvent,
    is_news: bool,
) -> sqlx::Result<bool> {
    let stored = sqlx::query!(
        "insert into gateway_events (
            show_id, gateway, event_id, payment_id, charge_id, received_at, applied_at
        )
        values ($1, $2, $3, $4, $5, now(), case when $6 then null else now() end)
        on conflict (show_id, gateway, event_id) do nothing",
        event.show_id,
        event.gateway,
        event.event_id,
        event.payment_id,
        event.charge_id,
        is_news,
    )
    .execute(&mut *connection)
    .await?;
    if stored.rows_affected() > 0 {
        return Ok(is_news);
    }
    let applied = sqlx::query_scalar!(
        r#"select applied_at is not null as "applied!"
        from gateway_events
        where show_id = $1 and gateway = $2 and event_id = $3"#,
        event.show_id,
        event.gateway,
        event.event_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(applied != Some(true))
}

/// Says that the payments were looked at because of these events.
pub async fn applied(
    pool: &PgPool,
    show_id: Uuid,
    gateway: &str,
    event_ids: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "update gateway_events
        set applied_at = now()
        where show_id = $1 and gateway = $2 and event_id = any($3) and applied_at is null",
        show_id,
        gateway,
        event_ids,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes events that were not applied within a few seconds of their arrival, at most `limit`. Each is
/// due again later: half a minute, and the longer the older it is.
pub async fn take_due(
    connection: &mut PgConnection,
    show_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<GatewayEvent>> {
    // The rows that another worker is taking are its own: skipped, not waited for.
    sqlx::query_as!(
        GatewayEvent,
        "with due as (
            select gateway, event_id
            from gateway_events
            where show_id = $1
                and applied_at is null
                and received_at < now() - interval '5 seconds'
                and received_at > now() - interval '3 days'
                and coalesce(apply_at, now()) <= now()
            order by received_at
            limit $2
            for update skip locked
        )
        update gateway_events e
        set apply_at = now() + greatest(interval '30 seconds', now() - e.received_at)
        from due
        where e.show_id = $1 and e.gateway = due.gateway and e.event_id = due.event_id
        returning e.show_id, e.gateway, e.event_id, e.payment_id, e.charge_id",
        show_id,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Throws events away that came before `before`, at most `limit`. Returns how many.
pub async fn delete_old(
    pool: &PgPool,
    show_id: Uuid,
    before: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from gateway_events
        where show_id = $1
            and (gateway, event_id) in (
                select gateway, event_id
                from gateway_events
                where show_id = $1 and received_at < $2
                limit $3
            )",
        show_id,
        before,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
