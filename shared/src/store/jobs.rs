//! What we ask the tables of apalis ourselves, which lie in a schema of their own and know no shows.
//! Jobs are pushed and fetched by apalis.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// Which of these extensions the server does not have.
pub async fn missing_extensions(pool: &PgPool, needed: &[&str]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select name as "name!"
        from unnest($1::text[]) as name
        where name not in (select a.name from pg_available_extensions a)"#,
        needed as &[&str],
    )
    .fetch_all(pool)
    .await
}

/// The newest migration of apalis that was applied, 0 when there is none. Not a checked macro: the table
/// is the migrator's own.
pub async fn applied_migration(pool: &PgPool) -> sqlx::Result<i64> {
    let newest = sqlx::query_scalar::<_, i64>(
        "select coalesce(max(version), 0) from apalis._sqlx_migrations where success",
    )
    .fetch_one(pool)
    .await;
    match newest {
        Err(sqlx::Error::Database(error))
            if matches!(error.code().as_deref(), Some("42P01" | "3F000")) =>
        {
            Ok(0)
        }
        newest => newest,
    }
}

/// Whether a job of one of these keys is done, being done, or waits for it; not if all have failed.
pub async fn is_cared_for(pool: &PgPool, queue: &str, keys: &[String]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
            select 1
            from apalis.jobs
            where job_type = $1
                and idempotency_key = any($2)
                and status in ('Pending', 'Queued', 'Running', 'Done')
        ) as "cared_for!""#,
        queue,
        keys,
    )
    .fetch_one(pool)
    .await
}

/// How many jobs wait in a queue, counted up to `limit`.
pub async fn waiting(pool: &PgPool, queue: &str, limit: i64) -> sqlx::Result<i64> {
    // The words of apalis' own partial index of what can be fetched.
    sqlx::query_scalar!(
        r#"select count(*) as "count!"
        from (
            select 1
            from apalis.jobs
            where job_type = $1
                and (status = 'Pending' or (status = 'Failed' and attempts < max_attempts))
            limit $2
        ) waiting"#,
        queue,
        limit,
    )
    .fetch_one(pool)
    .await
}

/// Throws away jobs that ended before `before`, at most `limit`. Returns how many.
pub async fn delete_ended(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from apalis.jobs
        where id in (
            select id
            from apalis.jobs
            where done_at < $1
                and (
                    status in ('Done', 'Killed')
                    or (status = 'Failed' and attempts >= max_attempts)
                )
            limit $2
        )",
        before,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Forgets workers that were not heard of since `before` and have no job left, at most `limit`. Returns
/// how many.
pub async fn delete_gone_workers(
    pool: &PgPool,
    before: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from apalis.workers
        where id in (
            select w.id
            from apalis.workers w
            where w.last_seen < $1
                and not exists (select 1 from apalis.jobs j where j.lock_by = w.id)
            limit $2
        )",
        before,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
