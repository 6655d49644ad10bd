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

/// Stores events of a show, `events[i]` as applied unless `news[i]`. Returns the ids of those that were
/// stored before and are applied; each is stored once.
pub async fn store(
    connection: &mut PgConnection,
    show_id: Uuid,
    events: &[&GatewayEvent],
    news: &[bool],
) -> sqlx::Result<Vec<String>> {
    let gateways: Vec<String> = events.iter().map(|event| event.gateway.clone()).collect();
    let event_ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
    let payment_ids: Vec<Uuid> = events.iter().map(|event| event.payment_id).collect();
    let charge_ids: Vec<String> = events.iter().map(|event| event.charge_id.clone()).collect();
    let known = sqlx::query_scalar!(
        "select known.event_id
        from unnest($2::text[], $3::text[]) as asked (gateway, event_id)
        cross join lateral (
            select event_id
            from gateway_events
            where show_id = $1 and gateway = asked.gateway and event_id = asked.event_id
                and applied_at is not null
            offset 0
        ) known",
        show_id,
        &gateways,
        &event_ids,
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into gateway_events (
            show_id, gateway, event_id, payment_id, charge_id, received_at, applied_at
        )
        select
            $1, gateway, event_id, payment_id, charge_id, now(), case when news then null else now() end
        from unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::boolean[])
            as new (gateway, event_id, payment_id, charge_id, news)
        on conflict (show_id, gateway, event_id) do nothing",
        show_id,
        &gateways,
        &event_ids,
        &payment_ids,
        &charge_ids,
        news,
    )
    .execute(connection)
    .await?;
    Ok(known)
}

/// Says that the payments were looked at because of these events: `event_ids[i]` of `gateways[i]`.
pub async fn applied(
    pool: &PgPool,
    show_id: Uuid,
    gateways: &[String],
    event_ids: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "update gateway_events e
        set applied_at = now()
        from unnest($2::text[], $3::text[]) as done (gateway, event_id)
        where e.show_id = $1 and e.gateway = done.gateway and e.event_id = done.event_id
            and e.applied_at is null",
        show_id,
        gateways,
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
