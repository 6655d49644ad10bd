//! The turn: one transaction that decides the next requests of one show.
//!
//! It locks the progress row (the lease), then the inventory row, and from there on nothing of the
//! show changes but by this transaction. It promises: outcomes in the order of positions, one each,
//! together with the seats they take; all or nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use stampede_shared::{
    domain::{
        Position,
        decide::{BuyerTotals, Rules},
        estimate::smooth_rate,
        outcome::Reason,
        sale::Disposition,
    },
    events, settle,
    store::{
        Database, booking_requests, buyer_totals,
        error::is_transient,
        hold_seats, holds, outcomes, seats, sections,
        show_inventory::{self, Locked},
        show_progress::{self, Advance, Progress},
    },
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    inventories::{Cached, Inventories},
    plan::Plan,
    told,
};

/// What a turn came to.
#[derive(Debug, PartialEq, Eq)]
pub enum TurnResult {
    /// Another worker has the show.
    Busy,
    /// There is nothing to decide, or the sale is paused.
    Idle,
    /// So many requests have their outcome; `more` wait.
    Decided { decided: u64, more: bool },
}

/// Why a turn came to nothing. It left nothing behind.
#[derive(Debug, Error)]
pub enum TurnError {
    /// The server or another transaction was in the way: the same turn may succeed later.
    #[error("the database was in the way")]
    Transient(#[source] sqlx::Error),
    /// A seat that was free in memory is not free in the table: somebody changed it past the lock.
    #[error("the remembered inventory was wrong")]
    StaleInventory,
    /// A statement failed for what is in the requests.
    #[error("a statement of the turn failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for TurnError {
    fn from(error: sqlx::Error) -> TurnError {
        if is_transient(&error) {
            TurnError::Transient(error)
        } else {
            TurnError::Failed(error)
        }
    }
}

/// What to do with the requests of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Decide { limit: i64 },
    Quarantine,
}

/// Takes turns.
#[derive(Debug, Clone)]
pub struct TurnTaker {
    database: Database,
    inventories: Arc<Inventories>,
}

impl TurnTaker {
    pub fn new(database: Database) -> TurnTaker {
        TurnTaker {
            database,
            inventories: Arc::default(),
        }
    }

    /// Decides the next requests of a show, at most `limit`.
    pub async fn decide(&self, show_id: Uuid, limit: u32) -> Result<TurnResult, TurnError> {
        self.take(
            show_id,
            Task::Decide {
                limit: i64::from(limit),
            },
        )
        .await
    }

    /// Sets the next request of a show aside: it can not be decided.
    pub async fn quarantine(&self, show_id: Uuid) -> Result<TurnResult, TurnError> {
        self.take(show_id, Task::Quarantine).await
    }

    async fn take(&self, show_id: Uuid, task: Task) -> Result<TurnResult, TurnError> {
        let started = Instant::now();
        let map = self
            .inventories
            .prepare(&self.database.pool, show_id)
            .await?;
        let mut tx = self.database.begin().await?;
        let Some(progress) = show_progress::lock(&mut tx, show_id).await? else {
            return Ok(TurnResult::Busy);
        };
        let disposition = progress.sale.disposition();
        if progress.last_position <= progress.decided_through || disposition == Disposition::Wait {
            return Ok(TurnResult::Idle);
        }
        let Some(mut locked) = show_inventory::lock(&mut tx, show_id).await? else {
            return Ok(TurnResult::Idle);
        };
        // A hold whose time is over never blocks a request, however late the sweep is. If there are
        // more of them than one transaction ends, this turn does only that.
        let expired = settle::expire_due(&mut tx, show_id, &mut locked).await?;
        if expired as i64 == settle::BATCH_MAX {
            tx.commit().await?;
            return Ok(TurnResult::Decided {
                decided: 0,
                more: true,
            });
        }

        let after = progress.decided_through;
        let (plan, through, cached) = match (task, disposition) {
            (Task::Quarantine, _) => {
                let cancelled = outcomes::positions_between(&mut tx, show_id, after, after + 1);
                (
                    Plan::quarantine(after + 1, &cancelled.await?),
                    after + 1,
                    None,
                )
            }
            (Task::Decide { limit }, Disposition::Reject) => {
                let through = progress.last_position.min(after + limit);
                let cancelled =
                    outcomes::positions_between(&mut tx, show_id, after, through).await?;
                let positions = after + 1..=through;
                (
                    Plan::reject_all(positions, &cancelled, Reason::SaleClosed),
                    through,
                    None,
                )
            }
            (Task::Decide { limit }, _) => {
                // What was accepted since may have been accepted after a pause.
                let limit = limit.min(progress.last_position - after);
                let cached = self.inventories.take(show_id, Arc::clone(&map));
                let (plan, through, cached) =
                    plan(&mut tx, show_id, &progress, &mut locked, cached, limit).await?;
                (plan, through, Some(cached))
            }
        };

        outcomes::record(&mut tx, show_id, &plan.outcomes, locked.now).await?;
        let told = told::events(&plan, &map, &progress, &locked);
        events::record(&mut tx, show_id, &mut locked, told).await?;
        let more = through < progress.last_position;
        let decided = (through - after) as u64;
        let advance = Advance {
            decided_through: through,
            served_at: locked.now,
            backlogged: more,
            decided_per_s: Some(rate(&progress, &locked, decided, started.elapsed())),
        };
        show_progress::advance(&mut tx, show_id, advance).await?;
        fail::fail_point!("turn_before_commit");
        tx.commit().await?;

        if let Some(cached) = cached {
            self.inventories.put(show_id, map, cached);
        }
        count(&plan, decided, started.elapsed());
        Ok(TurnResult::Decided { decided, more })
    }
}

/// Reads what the decision needs, decides, and writes the holds. Returns the inventory as it will
/// be when the transaction has committed.
async fn plan(
    connection: &mut PgConnection,
    show_id: Uuid,
    progress: &Progress,
    locked: &mut Locked,
    mut cached: Cached,
    limit: i64,
) -> Result<(Plan, Position, Cached), TurnError> {
    let after = progress.decided_through;
    cached.catch_up(connection, show_id, locked.version).await?;
    let requests = booking_requests::next(connection, show_id, after, limit).await?;
    let through = requests.last().map_or(after, |request| request.position);
    let cancelled = outcomes::positions_between(connection, show_id, after, through).await?;

    let rules = Rules {
        buyer_limit: progress.buyer_limit,
    };
    // With nothing left, all are rejected alike and nobody's totals matter.
    let known = if cached.inventory.free_in_show() > 0 {
        let mut buyers: Vec<&str> = requests.iter().map(|r| r.buyer_id.as_str()).collect();
        buyers.sort_unstable();
        buyers.dedup();
        buyer_totals::find(connection, show_id, &buyers).await?
    } else {
        Vec::new()
    };
    let mut totals: BuyerTotals = known
        .iter()
        .map(|total| (total.buyer_id.clone(), total.held + total.booked))
        .collect();
    let inventory = &mut cached.inventory;
    let plan = Plan::decide(inventory, &mut totals, rules, &requests, &cancelled);

    if !plan.holds.hold_ids.is_empty() {
        locked.version += 1;
        write_holds(connection, show_id, progress, locked, &plan).await?;
        let booked: HashMap<&str, i32> = known
            .iter()
            .map(|total| (total.buyer_id.as_str(), total.booked))
            .collect();
        let mut winners: Vec<&str> = plan.holds.buyer_ids.iter().map(String::as_str).collect();
        winners.sort_unstable();
        winners.dedup();
        let held: Vec<i32> = winners
            .iter()
            .map(|&buyer| totals[buyer] - booked.get(buyer).copied().unwrap_or(0))
            .collect();
        let limit = progress.buyer_limit;
        buyer_totals::set_held(connection, show_id, &winners, &held, limit).await?;
        cached.version = locked.version;
    }
    Ok((plan, through, cached))
}
async fn write_holds(
    connection: &mut PgConnection,
    show_id: Uuid,
    progress: &Progress,
    locked: &Locked,
    plan: &Plan,
) -> Result<(), TurnError> {
    let (section_nos, quantities): (Vec<_>, Vec<_>) = plan
        .sections
        .iter()
        .map(|(&section_no, &quantity)| (section_no, quantity))
        .unzip();
    let version = locked.version;
    sections::hold(connection, show_id, &section_nos, &quantities, version).await?;
    let taken = seats::hold(
        connection,
        show_id,
        &plan.seat_nos,
        &plan.seat_holds,
        version,
    )
    .await?;
    if taken != plan.seat_nos.len() as u64 {
        return Err(TurnError::StaleInventory);
    }
    let expires_at = progress.expires_at(locked.now);
    holds::insert(connection, show_id, &plan.holds, locked.now, expires_at).await?;
    hold_seats::insert(connection, show_id, &plan.seat_holds, &plan.seat_nos).await?;
    show_inventory::advance(connection, show_id, version).await?;
    Ok(())
}

/// Requests decided per second while there are some: since the last turn if that one left requests
/// waiting, else during this one.
fn rate(progress: &Progress, locked: &Locked, decided: u64, turn: Duration) -> f64 {
    let elapsed = if progress.backlogged {
        (locked.now - progress.served_at).to_std().unwrap_or(turn)
    } else {
        turn
    };
    smooth_rate(progress.decided_per_s, decided as u32, elapsed)
}

fn count(plan: &Plan, decided: u64, duration: Duration) {
    metrics::histogram!("stampede_turn_size_requests").record(decided as f64);
    metrics::histogram!("stampede_turn_duration_seconds").record(duration.as_secs_f64());
    let held = plan.holds.hold_ids.len() as u64;
    metrics::counter!("stampede_outcomes_total", "state" => "held", "reason" => "").increment(held);
    for (&reason, &count) in &plan.rejected {
        metrics::counter!("stampede_outcomes_total", "state" => "rejected", "reason" => reason)
            .increment(count);
    }
}
