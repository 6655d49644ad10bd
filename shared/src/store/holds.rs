//! Holds: made by turns, ended by their buyers or by time. All under the `show_inventory` lock.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{Amount, Position, SectionNo, hold::HoldState};

/// The columns of holds that are to be made, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewHolds {
    pub hold_ids: Vec<Uuid>,
    pub positions: Vec<Position>,
    pub buyer_ids: Vec<String>,
    pub section_nos: Vec<Option<SectionNo>>,
    pub quantities: Vec<i32>,
    /// All-in.
    pub totals: Vec<Amount>,
    /// The parts of the totals that are fees.
    pub fees: Vec<Amount>,
}

/// Makes holds.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    holds: &NewHolds,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into holds (
            show_id, hold_id, position, buyer_id, state, section_no, quantity, total, fees,
            created_at, expires_at
        )
        select $1, hold_id, position, buyer_id, 'held', section_no, quantity, total, fees, $9,
            $10
        from unnest(
            $2::uuid[], $3::bigint[], $4::text[], $5::smallint[], $6::integer[], $7::bigint[],
            $8::bigint[]
        ) as new (hold_id, position, buyer_id, section_no, quantity, total, fees)",
        show_id,
        &holds.hold_ids,
        &holds.positions,
        &holds.buyer_ids,
        &holds.section_nos as &[Option<SectionNo>],
        &holds.quantities,
        &holds.totals,
        &holds.fees,
        created_at,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The holds whose time is over, the earliest first, at most `limit`.
pub async fn due(
    connection: &mut PgConnection,
    show_id: Uuid,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select hold_id
        from holds
        where show_id = $1 and state = 'held' and expires_at <= $2
        order by expires_at
        limit $3",
        show_id,
        now,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// A hold that has just ended.
#[derive(Debug, Clone)]
pub struct EndedHold {
    pub hold_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    /// The general-admission section; `None` when the hold was of seats.
    pub section_no: Option<SectionNo>,
    pub quantity: i32,
}

/// Ends those of the holds that live, and returns them.
pub async fn end(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    state: HoldState,
    ended_at: DateTime<Utc>,
) -> sqlx::Result<Vec<EndedHold>> {
    sqlx::query_as!(
        EndedHold,
        "update holds
        set state = $3, ended_at = $4
        where show_id = $1 and hold_id = any($2) and state = 'held'
        returning hold_id, position, buyer_id, section_no, quantity",
        show_id,
        hold_ids,
        state.as_str(),
        ended_at,
    )
    .fetch_all(connection)
    .await
}

/// What a buyer's command is about: a request, and its hold once it has one.
#[derive(Debug, Clone)]
pub struct Subject {
    pub request_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    pub outcome: Option<String>,
    pub hold_id: Option<Uuid>,
    pub hold_state: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The subjects of these requests, in no order. `offset 0` keeps it at one index probe a row, whatever
/// the planner knows of the tables; joined plainly, it may read the whole log.
pub async fn find_by_requests(
    connection: &mut PgConnection,
    show_id: Uuid,
    request_ids: &[Uuid],
) -> sqlx::Result<Vec<Subject>> {
    sqlx::query_as!(
        Subject,
        r#"select
            r.request_id as "request_id!",
            r.position as "position!",
            r.buyer_id as "buyer_id!",
            o.state as "outcome?",
            h.hold_id as "hold_id?",
            h.state as "hold_state?",
            h.expires_at as "expires_at?"
        from unnest($2::uuid[]) as asked (request_id)
        cross join lateral (
            select request_id, position, buyer_id
            from booking_requests
            where show_id = $1 and request_id = asked.request_id
            offset 0
        ) r
        left join lateral (
            select state, hold_id
            from outcomes
            where show_id = $1 and position = r.position
            offset 0
        ) o on true
        left join lateral (
            select hold_id, state, expires_at
            from holds
            where show_id = $1 and hold_id = o.hold_id
            offset 0
        ) h on true"#,
        show_id,
        request_ids,
    )
    .fetch_all(connection)
    .await
}

/// The subjects of these holds, in no order.
pub async fn find_by_holds(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
) -> sqlx::Result<Vec<Subject>> {
    sqlx::query_as!(
        Subject,
        r#"select
            r.request_id as "request_id!",
            r.position as "position!",
            r.buyer_id as "buyer_id!",
            'held' as "outcome?",
            h.hold_id as "hold_id?",
            h.state as "hold_state?",
            h.expires_at as "expires_at?"
        from unnest($2::uuid[]) as asked (hold_id)
        cross join lateral (
            select hold_id, position, state, expires_at
            from holds
            where show_id = $1 and hold_id = asked.hold_id
            offset 0
        ) h
        cross join lateral (
            select request_id, position, buyer_id
            from booking_requests
            where show_id = $1 and position = h.position
            offset 0
        ) r"#,
        show_id,
        hold_ids,
    )
    .fetch_all(connection)
    .await
}
