//! How far the events of a show have become deliveries.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// What the holder of the lock knows.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub dispatched_through: i64,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// Takes the outbox of a show; `None` when another process has it, or there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<Progress>> {
    // The lock makes one delivery of each event for each endpoint, and keeps an event from being thrown
    // away meanwhile. First in the lock order of webhooks; `webhook_streams` comes after it. None of them
    // is ever locked together with the locks of a sale.
    sqlx::query_as!(
        Progress,
        r#"select dispatched_through, now() as "now!"
        from outbox_progress
        where show_id = $1
        for update skip locked"#,
        show_id,
    )
    .fetch_optional(connection)
    .await
}

/// Says that everything up to `dispatched_through` has its deliveries.
pub async fn advance(
    connection: &mut PgConnection,
    show_id: Uuid,
    dispatched_through: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update outbox_progress
        set dispatched_through = $2
        where show_id = $1",
        show_id,
        dispatched_through,
    )
    .execute(connection)
    .await?;
    Ok(())
}
