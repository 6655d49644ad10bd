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
            created_at, expires_at, kept_until
        )
        select $1, hold_id, position, buyer_id, 'held', section_no, quantity, total, fees, $9,
            $10, $10
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

/// The holds that are kept no longer, the earliest first, at most `limit`.
pub async fn due(
    connection: &mut PgConnection,
    show_id: Uuid,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select hold_id
        from holds
        where show_id = $1 and state = 'held' and kept_until <= $2
        order by kept_until
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

/// Moves those of the holds that are in the state `from` to `to`, and returns them.
pub async fn end(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    from: HoldState,
    to: HoldState,
    ended_at: DateTime<Utc>,
) -> sqlx::Result<Vec<EndedHold>> {
    sqlx::query_as!(
        EndedHold,
        "update holds
        set state = $4, ended_at = $5
        where show_id = $1 and hold_id = any($2) and state = $3
        returning hold_id, position, buyer_id, section_no, quantity",
        show_id,
        hold_ids,
        from.as_str(),
        to.as_str(),
        ended_at,
    )
    .fetch_all(connection)
    .await
}

/// Keeps holds beyond what their buyers were told, while they are being paid: until `kept_until`, and
/// never shorter than they last.
pub async fn keep_until(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    kept_until: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update holds
        set kept_until = greatest(expires_at, $3)
        where show_id = $1 and hold_id = any($2) and state = 'held'",
        show_id,
        hold_ids,
        kept_until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets holds end at the time that their buyers were told.
pub async fn keep_no_longer(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "update holds
        set kept_until = expires_at
        where show_id = $1 and hold_id = any($2) and state = 'held'",
        show_id,
        hold_ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets an expired hold live again, of other places at the same total: money was taken for it.
pub async fn revive(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_id: Uuid,
    section_no: Option<SectionNo>,
    (quantity, fees): (i32, Amount),
) -> sqlx::Result<()> {
    sqlx::query!(
        "update holds
        set state = 'held', ended_at = null, section_no = $3, quantity = $4, fees = $5
        where show_id = $1 and hold_id = $2 and state = 'expired'",
        show_id,
        hold_id,
        section_no,
        quantity,
        fees,
    )
    .execute(connection)
    .await?;
    Ok(())
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
    pub kept_until: Option<DateTime<Utc>>,
    /// A payment for the hold is in flight, and does not wait for its buyer.
    pub paying: bool,
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
            h.kept_until as "kept_until?",
            exists (
                select 1
                from payments
                where show_id = $1 and hold_id = h.hold_id
                    and state in ('created', 'authorized', 'capturing')
                    and (state <> 'created' or next_action is null)
            ) as "paying!"
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
            select hold_id, state, kept_until
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
            h.kept_until as "kept_until?",
            exists (
                select 1
                from payments
                where show_id = $1 and hold_id = h.hold_id
                    and state in ('created', 'authorized', 'capturing')
                    and (state <> 'created' or next_action is null)
            ) as "paying!"
        from unnest($2::uuid[]) as asked (hold_id)
        cross join lateral (
            select hold_id, position, state, kept_until
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

/// Holds of a show that live, at most `limit`: to be ended with it.
pub async fn list_held(
    connection: &mut PgConnection,
    show_id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select hold_id
        from holds
        where show_id = $1 and state = 'held'
        limit $2",
        show_id,
        limit,
    )
    .fetch_all(connection)
    .await
}
