//! The URLs of integrators. They belong to no show; there are at most a hundred.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// An endpoint as it is listed: everything but its secrets.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub endpoint_id: Uuid,
    pub url: String,
    /// The words of event types, or `*`.
    pub event_types: Vec<String>,
    /// `None`: events of all shows.
    pub only_show_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    /// Since when every delivery has failed.
    pub failing_since: Option<DateTime<Utc>>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub disabled_reason: Option<String>,
}

/// An endpoint that is to be registered.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    pub endpoint_id: Uuid,
    pub url: String,
    pub secret: String,
    pub event_types: Vec<String>,
    pub only_show_id: Option<Uuid>,
}

/// Whether an endpoint wants events of that type of a show.
pub async fn is_wanted(
    connection: &mut PgConnection,
    show_id: Uuid,
    event_type: &str,
) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        "select endpoint_id
        from webhook_endpoints
        where disabled_at is null and coalesce(only_show_id, $1) = $1
            and event_types && array[$2, '*']
        limit $3",
        show_id,
        event_type,
        1,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Registers an endpoint unless there are `endpoints_max` already; `None` if there are. Two that come at
/// the same time may both find room for one.
pub async fn create(
    pool: &PgPool,
    new: &NewEndpoint,
    endpoints_max: i64,
) -> sqlx::Result<Option<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "insert into webhook_endpoints (
            endpoint_id, url, secret, event_types, only_show_id, created_at
        )
        select $1, $2, $3, $4, $5, now()
        where (select count(*) from webhook_endpoints) < $6
        returning
            endpoint_id, url, event_types, only_show_id, created_at, failing_since, disabled_at,
            disabled_reason",
        new.endpoint_id,
        new.url,
        new.secret,
        &new.event_types,
        new.only_show_id,
        endpoints_max,
    )
    .fetch_optional(pool)
    .await
}

/// The endpoints, newest first, at most `limit`.
pub async fn list(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "select
            endpoint_id, url, event_types, only_show_id, created_at, failing_since, disabled_at,
            disabled_reason
        from webhook_endpoints
        order by endpoint_id desc
        limit $1",
        limit,
    )
    .fetch_all(pool)
    .await
}

/// One endpoint; `None` when there is no such.
pub async fn find(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<Option<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "select
            endpoint_id, url, event_types, only_show_id, created_at, failing_since, disabled_at,
            disabled_reason
        from webhook_endpoints
        where endpoint_id = $1
        limit $2",
        endpoint_id,
        1,
    )
    .fetch_optional(pool)
    .await
}

/// Those that take events of a show, at most `limit`.
pub async fn list_of_show(
    connection: &mut PgConnection,
    show_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "select
            endpoint_id, url, event_types, only_show_id, created_at, failing_since, disabled_at,
            disabled_reason
        from webhook_endpoints
        where disabled_at is null and coalesce(only_show_id, $1) = $1
        order by endpoint_id
        limit $2",
        show_id,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Where an endpoint's deliveries go, and what signs them.
#[derive(Debug)]
pub struct Target {
    pub url: String,
    pub secret: String,
    /// The secret before, as long as it signs as well.
    pub previous_secret: Option<String>,
    /// Whether nothing has been delivered of late.
    pub failing: bool,
}

/// The target of an endpoint; `None` when it is disabled, or gone.
pub async fn find_target(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<Option<Target>> {
    sqlx::query_as!(
        Target,
        r#"select
            url, secret,
            case when previous_until > now() then previous_secret end as previous_secret,
            failing_since is not null as "failing!"
        from webhook_endpoints
        where endpoint_id = $1 and disabled_at is null
        limit $2"#,
        endpoint_id,
        1,
    )
    .fetch_optional(pool)
    .await
}

/// Gives an endpoint a new secret; the one before signs as well for so many seconds. False when there is
/// no such endpoint.
pub async fn rotate_secret(
    pool: &PgPool,
    endpoint_id: Uuid,
    secret: &str,
    previous_seconds: f64,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update webhook_endpoints
        set
            previous_secret = secret,
            previous_until = now() + make_interval(secs => $3),
            secret = $2
        where endpoint_id = $1",
        endpoint_id,
        secret,
        previous_seconds,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Lets an endpoint take deliveries again; `None` when there is no such.
pub async fn enable(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<Option<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "update webhook_endpoints
        set disabled_at = null, disabled_reason = null, failing_since = null
        where endpoint_id = $1
        returning
            endpoint_id, url, event_types, only_show_id, created_at, failing_since, disabled_at,
            disabled_reason",
        endpoint_id,
    )
    .fetch_optional(pool)
    .await
}

/// Delivers nothing more to an endpoint, for a reason; the first reason stays. Returns whether it was
/// enabled.
pub async fn disable(pool: &PgPool, endpoint_id: Uuid, reason: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update webhook_endpoints
        set disabled_at = now(), disabled_reason = $2
        where endpoint_id = $1 and disabled_at is null",
        endpoint_id,
        reason,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Says that a delivery succeeded.
pub async fn note_success(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoints
        set failing_since = null
        where endpoint_id = $1 and failing_since is not null",
        endpoint_id,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Says that a delivery failed. Returns for how many seconds nothing has succeeded; `None` when there is
/// no such endpoint.
pub async fn note_failure(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar!(
        r#"update webhook_endpoints
        set failing_since = coalesce(failing_since, now())
        where endpoint_id = $1
        returning extract(epoch from now() - failing_since)::double precision as "seconds!""#,
        endpoint_id,
    )
    .fetch_optional(pool)
    .await
}

/// Removes an endpoint; what is on its way is not delivered any more. False when there is no such.
pub async fn delete(pool: &PgPool, endpoint_id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from webhook_endpoints
        where endpoint_id = $1",
        endpoint_id,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}
