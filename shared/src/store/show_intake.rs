//! The row that the API locks to give positions; it also has the sale state, so that no position is
//! given after the close.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{
    Position,
    sale::{Sale, SaleState},
};

/// What the intake knows about a show while it holds the lock.
#[derive(Debug, Clone)]
pub struct Intake {
    pub last_position: Position,
    pub decided_through: Position,
    pub decided_per_s: Option<f64>,
    pub sale: Sale,
    /// The most requests that may wait.
    pub queue_limit: i64,
    /// The database's clock, the only one that counts.
    pub now: DateTime<Utc>,
}

/// Locks the intake of a show; `None` when there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<Intake>> {
    // The lock makes positions gapless and their order that of the commits. First in lock order. The
    // clock is read outside of the locking query: when the wait is over, so that no position is given
    // after the closing time.
    let row = sqlx::query!(
        r#"with locked as materialized (
            select
                show_id,
                last_position,
                sale_state,
                sale_reason,
                opens_at,
                closes_at,
                queue_limit
            from show_intake
            where show_id = $1
            for update
        )
        select
            i.last_position,
            i.sale_state,
            i.sale_reason,
            i.opens_at,
            i.closes_at,
            i.queue_limit,
            p.decided_through,
            p.decided_per_s,
            clock_timestamp() as "now!"
        from locked i
        join show_progress p on p.show_id = i.show_id"#,
        show_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Intake {
        last_position: row.last_position,
        decided_through: row.decided_through,
        decided_per_s: row.decided_per_s,
        sale: sale(
            &row.sale_state,
            row.sale_reason,
            row.opens_at,
            row.closes_at,
        ),
        queue_limit: i64::from(row.queue_limit),
        now: row.now,
    }))
}

/// Says what an operator said about the sale. The caller holds the lock.
pub async fn set_sale(
    connection: &mut PgConnection,
    show_id: Uuid,
    state: SaleState,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update show_intake
        set sale_state = $2, sale_reason = $3, changed_at = now()
        where show_id = $1",
        show_id,
        state.as_str(),
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The stored columns as a [`Sale`]. An unknown word counts as closed; a CHECK makes it impossible.
pub(super) fn sale(
    state: &str,
    reason: Option<String>,
    opens_at: Option<DateTime<Utc>>,
    closes_at: Option<DateTime<Utc>>,
) -> Sale {
    Sale {
        state: SaleState::parse(state).unwrap_or(SaleState::Closed),
        reason,
        opens_at,
        closes_at,
    }
}
