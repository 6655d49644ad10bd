//! How far the events of a show have become deliveries.

use sqlx::PgConnection;
use uuid::Uuid;

/// Takes the outbox of a show, and returns through which event it has been dispatched; `None` when another
/// process has it, or there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<i64>> {
    // The lock makes one delivery of each event for each endpoint, and keeps an event from being thrown
    // away meanwhile. First in the lock order of webhooks; `webhook_streams` comes after it. None of them
    // is ever locked together with the locks of a sale.
    sqlx::query_scalar!(
        "select dispatched_through
        from outbox_progress
        where show_id = $1
        for update skip locked",
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
