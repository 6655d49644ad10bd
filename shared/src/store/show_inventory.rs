//! The lock under which everything that a show sells changes, and the version of those changes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// What the holder of the lock knows.
#[derive(Debug, Clone, Copy)]
pub struct Locked {
    /// The version of the last change.
    pub version: i64,
    /// The database's clock: it decides whether a hold has expired.
    pub now: DateTime<Utc>,
}

/// Waits for the lock; `None` when there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<Locked>> {
    // Protects sections, seats, holds, totals and the outcomes of cancelled requests. Second in
    // lock order, and nothing is locked by two transactions below it. The clock is read outside of
    // the locking query: when the wait is over.
    sqlx::query_as!(
        Locked,
        r#"with locked as materialized (
            select version
            from show_inventory
            where show_id = $1
            for update
        )
        select version, clock_timestamp() as "now!"
        from locked"#,
        show_id,
    )
    .fetch_optional(connection)
    .await
}

/// Says that seats and sections with this version have changed.
pub async fn advance(
    connection: &mut PgConnection,
    show_id: Uuid,
    version: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update show_inventory
        set version = $2
        where show_id = $1",
        show_id,
        version,
    )
    .execute(connection)
    .await?;
    Ok(())
}
