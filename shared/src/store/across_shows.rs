//! The only statements that look across shows. They read, lock nothing, and say where to work next;
//! the work itself is done show by show.

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

/// Shows with payments that are to be looked up at their gateway.
pub async fn shows_with_payments_to_recover(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // One probe of the partial index payments_to_recover for each show.
    sqlx::query_scalar!(
        "select p.show_id
        from show_progress p
        where exists (
            select 1
            from payments
            where show_id = p.show_id and recover_at <= now()
        )
        limit $1",
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
