//! How fast turns decide a filled log, beside reading and writing back the same rows without rules:
//! no lock on the inventory, no decision, no counters, no totals, no version.

use std::time::Instant;

use anyhow::{Result, bail};
use chrono::Utc;
use stampede_shared::{
    domain::Position,
    store::{
        Database, bare, hold_seats,
        holds::{self, NewHolds},
        outcomes::{self, NewOutcomes},
        request_status::{self, Outcome, RequestStatus},
        seats,
        show_progress::{self, Advance},
    },
};
use stampede_worker::{TurnResult, TurnTaker};
use uuid::Uuid;

use crate::{
    figures::Figure,
    hall::{Asks, create_show, fill_log},
};

/// The requests of a turn, as `--turn-size` has it by default.
pub const TURN_SIZE: u32 = 500;

/// A log to decide.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    pub asks: Asks,
    pub sections: usize,
    pub seats_per_section: usize,
    pub requests: usize,
}

/// Decides the log, and writes the same log back without rules, `rounds` times in turn.
pub async fn measure(database: &Database, log: Log, rounds: usize) -> Result<Figure> {
    let mut figure = Figure::default();
    for _ in 0..rounds {
        let show_id = prepare(database, log).await?;
        let started = Instant::now();
        decide_all(database, show_id).await?;
        figure.add(log.requests as f64 / started.elapsed().as_secs_f64());

        let decided = read_decided(database, show_id, log.requests).await?;
        let show_id = prepare(database, log).await?;
        let started = Instant::now();
        write_back_all(database, show_id, &decided).await?;
        figure.add_limit(log.requests as f64 / started.elapsed().as_secs_f64());
    }
    Ok(figure)
}

async fn prepare(database: &Database, log: Log) -> Result<Uuid> {
    let show_id = create_show(database, log.sections, log.seats_per_section).await?;
    let Log {
        asks,
        sections,
        seats_per_section,
        requests,
    } = log;
    fill_log(
        database,
        show_id,
        asks,
        sections,
        seats_per_section,
        requests,
    )
    .await?;
    Ok(show_id)
}

/// Takes turns until nothing is left to decide.
pub async fn decide_all(database: &Database, show_id: Uuid) -> Result<()> {
    let turns = TurnTaker::new(database.clone());
    loop {
        match turns.decide(show_id, TURN_SIZE).await? {
            TurnResult::Decided { more: true, .. } => {}
            TurnResult::Decided { more: false, .. } => return Ok(()),
            other => bail!("a turn came to {other:?} although nobody else works here"),
        }
    }
}

/// What the turns made of a log, by position, so that the same rows can be written again.
async fn read_decided(
    database: &Database,
    show_id: Uuid,
    requests: usize,
) -> Result<Vec<RequestStatus>> {
    let positions: Vec<Position> = (1..=requests as Position).collect();
    let mut decided = Vec::with_capacity(requests);
    for positions in positions.chunks(5_000) {
        let mut tx = database.begin().await?;
        decided.extend(request_status::find_by_positions(&mut tx, show_id, positions).await?);
        tx.commit().await?;
    }
    decided.sort_unstable_by_key(|status| status.position);
    Ok(decided)
}

async fn write_back_all(
    database: &Database,
    show_id: Uuid,
    decided: &[RequestStatus],
) -> Result<()> {
    let mut decided_through = 0;
    loop {
        let mut tx = database.begin().await?;
        let Some(progress) = show_progress::lock(&mut tx, show_id).await? else {
            bail!("the show is locked although nobody else works here");
        };
        let limit = i64::from(TURN_SIZE);
        let positions = bare::read(&mut tx, show_id, decided_through, limit).await?;
        let now = Utc::now();
        let rows = Rows::of(
            positions
                .iter()
                .map(|position| &decided[*position as usize - 1]),
        );
        if !rows.holds.hold_ids.is_empty() {
            seats::hold(&mut tx, show_id, &rows.seat_nos, &rows.seat_holds, 1).await?;
            holds::insert(&mut tx, show_id, &rows.holds, now, now).await?;
            hold_seats::insert(&mut tx, show_id, &rows.seat_holds, &rows.seat_nos).await?;
        }
        outcomes::record(&mut tx, show_id, &rows.outcomes, now).await?;
        decided_through += positions.len() as i64;
        let backlogged = decided_through < progress.last_position;
        let advance = Advance {
            decided_through,
            served_at: now,
            backlogged,
            decided_per_s: None,
        };
        show_progress::advance(&mut tx, show_id, advance).await?;
        tx.commit().await?;
        if !backlogged {
            return Ok(());
        }
    }
}

/// The rows of one batch.
#[derive(Default)]
struct Rows {
    outcomes: NewOutcomes,
    holds: NewHolds,
    seat_nos: Vec<i32>,
    seat_holds: Vec<Uuid>,
}

impl Rows {
    fn of<'a>(decided: impl Iterator<Item = &'a RequestStatus>) -> Rows {
        let mut rows = Rows::default();
        for status in decided {
            match status.decided.as_ref().map(|decided| &decided.outcome) {
                Some(Outcome::Held(hold)) => {
                    let hold_id = Uuid::now_v7();
                    rows.outcomes
                        .push(status.position, "held", None, Some(hold_id));
                    rows.holds.hold_ids.push(hold_id);
                    rows.holds.positions.push(status.position);
                    rows.holds.buyer_ids.push(status.buyer_id.clone());
                    rows.holds.section_nos.push(hold.section);
                    rows.holds.quantities.push(hold.quantity);
                    rows.holds.totals.push(hold.total);
                    rows.holds.fees.push(hold.fees);
                    rows.seat_nos.extend(&hold.seats);
                    rows.seat_holds.extend(hold.seats.iter().map(|_| hold_id));
                }
                _ => rows
                    .outcomes
                    .push(status.position, "rejected", Some("sold_out"), None),
            }
        }
        rows
    }
}
