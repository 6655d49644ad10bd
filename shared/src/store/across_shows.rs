//! The only statements that look across shows. They read, lock nothing, and say where to work next;
//! the work itself is done show by show.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// Shows with undecided requests that may be decided, the least recently served first.
///
/// Reads the two one-row-a-show tables, never the log.
pub async fn shows_with_work(
    pool: &PgPool,
    except: &[Uuid],
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        join show_intake i on i.show_id = p.show_id
        where i.last_position > p.decided_through
            and i.sale_state <> 'paused'
            and p.show_id <> all($1)
        order by p.served_at
        limit $2",
        except,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Shows with holds whose time is over.
pub async fn shows_with_due_holds(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the partial index holds_due for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        where exists (
            select 1
            from holds h
            where h.show_id = p.show_id and h.state = 'held' and h.kept_until <= now()
        )
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Shows with payments that are to be looked up at their gateway, first the one where that has been due
/// for longest.
pub async fn shows_with_payments_to_recover(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the partial index payments_to_recover for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        cross join lateral (
            select recover_at
            from payments
            where show_id = p.show_id and recover_at <= now()
            order by recover_at
            limit 1
        ) first
        order by first.recover_at
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// How many payments were looked up and have not come to rest since: (state, number), at most `limit`
/// states.
pub async fn stuck_payments(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<(String, i64)>> {
    // The partial index payments_to_recover has what is in flight, and what failed not long ago.
    let rows = sqlx::query!(
        r#"select state, count(*) as "count!"
        from payments
        where recover_at is not null and recoveries > 0 and state <> 'failed'
        group by state
        limit $1"#,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, row.count)).collect())
}

/// Shows with events of gateways that were not applied within a few seconds of their arrival.
pub async fn shows_with_events_to_apply(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the partial index gateway_events_to_apply for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        where exists (
            select 1
            from gateway_events
            where show_id = p.show_id
                and applied_at is null
                and received_at < now() - interval '5 seconds'
                and received_at > now() - interval '3 days'
                and coalesce(apply_at, now()) <= now()
        )
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Cancelled shows of which not everything is cancelled yet.
pub async fn shows_to_clear(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // The partial index show_inventory_to_clear has nothing else in it.
    sqlx::query_scalar!(
        "select show_id
        from show_inventory
        where cancelled_at is not null and cleared_at is null and coalesce(clear_at, now()) <= now()
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Shows with events of gateways that came before `before`.
pub async fn shows_with_old_gateway_events(
    pool: &PgPool,
    before: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the index gateway_events_by_age for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        where exists (
            select 1
            from gateway_events
            where show_id = p.show_id and received_at < $1
        )
        limit $2",
        before,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// The newest shows first, those created before `before` if it is given. Ids of version 7 sort by time.
pub async fn newest_shows(
    pool: &PgPool,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select show_id
        from shows
        where $1::uuid is null or show_id < $1
        order by show_id desc
        limit $2",
        before,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// A line in which somebody waits.
#[derive(Debug, Clone)]
pub struct Line {
    pub show_id: Uuid,
    /// Requests that wait.
    pub depth: i64,
    /// How long the first of them has waited.
    pub head_age_s: f64,
}

/// The longest lines, at most `limit`.
pub async fn longest_lines(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Line>> {
    // One probe of the log for each of them; without `offset 0` the planner reads all of it and hashes.
    sqlx::query_as!(
        Line,
        r#"select
            line.show_id,
            line.depth as "depth!",
            extract(epoch from now() - head.accepted_at)::double precision as "head_age_s!"
        from (
            select p.show_id, p.decided_through, i.last_position - p.decided_through as depth
            from show_progress p
            join show_intake i on i.show_id = p.show_id
            where i.last_position > p.decided_through
            order by depth desc
            limit $1
        ) line
        cross join lateral (
            select accepted_at
            from booking_requests
            where show_id = line.show_id and position = line.decided_through + 1
            offset 0
        ) head"#,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Shows with events that are no deliveries yet.
pub async fn shows_with_new_events(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select p.show_id
        from outbox_progress p
        join show_inventory i on i.show_id = p.show_id
        where i.event_sequence > p.dispatched_through
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// A show's deliveries to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub show_id: Uuid,
    pub endpoint_id: Uuid,
}

/// Streams that are due and no job has: of each endpoint first what has been due for longest, and only so
/// many that jobs have at most `each` of them, or one while it is failing.
pub async fn webhook_streams_due(
    pool: &PgPool,
    each: i64,
    limit: i64,
) -> sqlx::Result<Vec<Stream>> {
    sqlx::query_as!(
        Stream,
        "select s.show_id, s.endpoint_id
        from webhook_endpoints e
        cross join lateral (
            select count(*) as leased
            from webhook_streams
            where endpoint_id = e.endpoint_id and leased_until > now()
        ) jobs
        cross join lateral (
            select show_id, endpoint_id, row_number() over (order by due_at) as place
            from webhook_streams
            where endpoint_id = e.endpoint_id and due_at <= now()
                and coalesce(leased_until, now()) <= now()
            order by due_at
            limit $1
        ) s
        where e.disabled_at is null
            and jobs.leased + s.place <= case when e.failing_since is null then $1 else 1 end
        order by s.place
        limit $2",
        each,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// A show with something due to an endpoint that no job has.
pub async fn show_with_due_webhooks(
    pool: &PgPool,
    endpoint_id: Uuid,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select show_id
        from webhook_streams
        where endpoint_id = $1 and due_at <= now() and coalesce(leased_until, now()) <= now()
        order by due_at
        limit $2",
        endpoint_id,
        1,
    )
    .fetch_optional(pool)
    .await
}

/// Shows whose first event is older than `before`, in the order of their ids, those after `after`.
pub async fn shows_with_old_events(
    pool: &PgPool,
    after: Uuid,
    before: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the outbox for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from outbox_progress p
        cross join lateral (
            select created_at
            from outbox
            where show_id = p.show_id
            order by sequence
            limit 1
        ) first
        where p.show_id > $1 and first.created_at < $2
        order by p.show_id
        limit $3",
        after,
        before,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// How long the webhooks wait that come next: the longest wait of all, in seconds.
pub async fn webhook_age_s(pool: &PgPool) -> sqlx::Result<f64> {
    // One probe of the deliveries for each stream of an endpoint that is enabled.
    sqlx::query_scalar!(
        r#"select coalesce(
                extract(epoch from now() - min(next.created_at)), 0
            )::double precision as "seconds!"
        from webhook_streams s
        cross join lateral (
            select created_at
            from webhook_deliveries
            where show_id = s.show_id and endpoint_id = s.endpoint_id and due_at is not null
            order by due_at, sequence
            limit 1
        ) next
        where s.due_at is not null and exists (
            select 1
            from webhook_endpoints e
            where e.endpoint_id = s.endpoint_id and e.disabled_at is null
        )
        limit $1"#,
        1,
    )
    .fetch_one(pool)
    .await
}

/// A delivery to an endpoint, and its event.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub show_id: Uuid,
    pub delivery_id: Uuid,
    pub sequence: i64,
    pub event_id: Uuid,
    pub event_type: String,
    pub state: String,
    pub attempts: i32,
    pub due_at: Option<DateTime<Utc>>,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// The deliveries to an endpoint, newest first: those in a state if it is given, and before `before`.
pub async fn deliveries_to(
    pool: &PgPool,
    endpoint_id: Uuid,
    state: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    if state == Some("failed") {
        // In so many words: with a parameter, the partial index of what failed is of no use.
        return sqlx::query_as!(
            Delivery,
            "select
                d.show_id, d.delivery_id, d.sequence, o.event_id, o.event_type, d.state, d.attempts,
                d.due_at, d.last_status, d.last_error, d.created_at, d.ended_at
            from webhook_deliveries d
            join outbox o on o.show_id = d.show_id and o.sequence = d.sequence
            where d.endpoint_id = $1
                and d.state = 'failed'
                and ($2::uuid is null or d.delivery_id < $2)
            order by d.delivery_id desc
            limit $3",
            endpoint_id,
            before,
            limit,
        )
        .fetch_all(pool)
        .await;
    }
    sqlx::query_as!(
        Delivery,
        "select
            d.show_id, d.delivery_id, d.sequence, o.event_id, o.event_type, d.state, d.attempts,
            d.due_at, d.last_status, d.last_error, d.created_at, d.ended_at
        from webhook_deliveries d
        join outbox o on o.show_id = d.show_id and o.sequence = d.sequence
        where d.endpoint_id = $1
            and ($2::text is null or d.state = $2)
            and ($3::uuid is null or d.delivery_id < $3)
        order by d.delivery_id desc
        limit $4",
        endpoint_id,
        state,
        before,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// The show of a delivery to an endpoint.
pub async fn show_of_delivery(
    pool: &PgPool,
    endpoint_id: Uuid,
    delivery_id: Uuid,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select show_id
        from webhook_deliveries
        where endpoint_id = $1 and delivery_id = $2
        limit $3",
        endpoint_id,
        delivery_id,
        1,
    )
    .fetch_optional(pool)
    .await
}
