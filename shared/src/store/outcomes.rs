//! What became of each position: append-only.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::Position;

/// The columns of outcomes that are to be recorded, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewOutcomes {
    pub positions: Vec<Position>,
    pub states: Vec<&'static str>,
    pub reasons: Vec<Option<&'static str>>,
    pub hold_ids: Vec<Option<Uuid>>,
}

impl NewOutcomes {
    pub fn push(
        &mut self,
        position: Position,
        state: &'static str,
        reason: Option<&'static str>,
        hold_id: Option<Uuid>,
    ) {
        self.positions.push(position);
        self.states.push(state);
        self.reasons.push(reason);
        self.hold_ids.push(hold_id);
    }
}

/// Records outcomes; a position that has one already fails the whole statement (`outcomes_once`).
pub async fn record(
    connection: &mut PgConnection,
    show_id: Uuid,
    outcomes: &NewOutcomes,
    decided_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into outcomes (show_id, position, state, reason, hold_id, decided_at)
        select $1, position, state, reason, hold_id, $6
        from unnest($2::bigint[], $3::text[], $4::text[], $5::uuid[])
            as new (position, state, reason, hold_id)",
        show_id,
        &outcomes.positions,
        &outcomes.states as &[&str],
        &outcomes.reasons as &[Option<&str>],
        &outcomes.hold_ids as &[Option<Uuid>],
        decided_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which positions in `after + 1 ..= through` have an outcome, in order: those that their buyers
/// cancelled before their turn.
pub async fn positions_between(
    connection: &mut PgConnection,
    show_id: Uuid,
    after: Position,
    through: Position,
) -> sqlx::Result<Vec<Position>> {
    sqlx::query_scalar!(
        "select position
        from outcomes
        where show_id = $1 and position > $2 and position <= $3
        order by position",
        show_id,
        after,
        through,
    )
    .fetch_all(connection)
    .await
}
