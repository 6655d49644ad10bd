//! The row that a worker locks to take a turn, and the public watermark that is read from it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    notify::{self, Told},
    show_intake::sale,
};
use crate::domain::{Position, sale::Sale};

/// What a turn knows about its show while it holds the lock.
#[derive(Debug, Clone)]
pub struct Progress {
    pub decided_through: Position,
    pub last_position: Position,
    pub served_at: DateTime<Utc>,
    /// Whether the turn before this one left requests undecided.
    pub backlogged: bool,
    pub decided_per_s: Option<f64>,
    pub sale: Sale,
    pub buyer_limit: i32,
    pub hold_seconds: i32,
    pub currency: String,
}

impl Progress {
    /// When a hold that is made at `now` expires.
    pub fn expires_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::seconds(self.hold_seconds.into())
    }
}

/// Takes the turn of a show; `None` when another worker has it, or there is no such show.
pub async fn lock(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<Option<Progress>> {
    // The lock is the lease: two workers can never decide for one show, and a crash gives it back.
    // First in lock order.
    let row = sqlx::query!(
        "select
            p.decided_through,
            p.served_at,
            p.backlogged,
            p.decided_per_s,
            i.last_position,
            i.sale_state,
            i.sale_reason,
            i.opens_at,
            i.closes_at,
            s.buyer_limit,
            s.hold_seconds,
            s.currency
        from show_progress p
        join show_intake i on i.show_id = p.show_id
        join shows s on s.show_id = p.show_id
        where p.show_id = $1
        for update of p skip locked",
        show_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Progress {
        decided_through: row.decided_through,
        last_position: row.last_position,
        served_at: row.served_at,
        backlogged: row.backlogged,
        decided_per_s: row.decided_per_s,
        sale: sale(
            &row.sale_state,
            row.sale_reason,
            row.opens_at,
            row.closes_at,
        ),
        buyer_limit: row.buyer_limit,
        hold_seconds: row.hold_seconds,
        currency: row.currency,
    }))
}

/// What a turn leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Advance {
    pub decided_through: Position,
    pub served_at: DateTime<Utc>,
    pub backlogged: bool,
    pub decided_per_s: Option<f64>,
}

/// Says that everything up to `decided_through` has its outcome, and tells the API at the commit.
pub async fn advance(
    connection: &mut PgConnection,
    show_id: Uuid,
    advance: Advance,
) -> sqlx::Result<()> {
    let told = Told::Decided {
        show_id,
        through: advance.decided_through,
    };
    // One round trip for both: each costs the whole turn.
    sqlx::query!(
        "with advanced as (
            update show_progress
            set decided_through = $2, served_at = $3, backlogged = $4, decided_per_s = $5
            where show_id = $1
        )
        select pg_notify($6, $7)",
        show_id,
        advance.decided_through,
        advance.served_at,
        advance.backlogged,
        advance.decided_per_s,
        notify::TOLD,
        told.payload(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How far a show is: what everyone in its line may know.
#[derive(Debug, Clone)]
pub struct Watermark {
    pub sale: Sale,
    pub last_position: Position,
    pub decided_through: Position,
    /// Smoothed; `None` until the first turn.
    pub decided_per_s: Option<f64>,
    /// Seats and places that are neither held nor booked.
    pub available: i64,
    pub inventory_version: i64,
    /// The database's clock when this was read.
    pub now: DateTime<Utc>,
}

/// Reads the watermark; `None` when there is no such show.
pub async fn watermark(pool: &PgPool, show_id: Uuid) -> sqlx::Result<Option<Watermark>> {
    let row = sqlx::query!(
        r#"select
            i.sale_state,
            i.sale_reason,
            i.opens_at,
            i.closes_at,
            i.last_position,
            p.decided_through,
            p.decided_per_s,
            v.version,
            (
                select coalesce(sum(capacity - held - booked), 0)
                from sections
                where show_id = $1
            ) as "available!",
            now() as "now!"
        from show_intake i
        join show_progress p on p.show_id = i.show_id
        join show_inventory v on v.show_id = i.show_id
        where i.show_id = $1"#,
        show_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Watermark {
        sale: sale(
            &row.sale_state,
            row.sale_reason,
            row.opens_at,
            row.closes_at,
        ),
        last_position: row.last_position,
        decided_through: row.decided_through,
        decided_per_s: row.decided_per_s,
        available: row.available,
        inventory_version: row.version,
        now: row.now,
    }))
}
