//! How holds end: booked, cancelled, or expired. The turn, the sweep and the desk all come here.
//!
//! Each function is a part of a transaction that holds the `show_inventory` lock, and says so by
//! taking the [`Locked`] that the lock gave. Holds that have ended already are left alone, so each
//! hold ends once, whoever comes first.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::{Position, SectionNo, hold::HoldState},
    store::{
        bookings, buyer_totals, hold_seats,
        holds::{self, EndedHold},
        notify, outcomes,
        outcomes::NewOutcomes,
        seats, sections,
        show_inventory::{self, Locked},
    },
};

/// The most holds that one transaction ends.
pub const BATCH_MAX: i64 = 1000;

/// Gives the seats of holds back: `state` says whether their buyers or the time ended them.
/// Returns how many holds it ended. The lock's version moves on if any.
pub async fn release(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    state: HoldState,
    locked: &mut Locked,
) -> sqlx::Result<usize> {
    let ended = holds::end(connection, show_id, hold_ids, state, locked.now).await?;
    if ended.is_empty() {
        return Ok(0);
    }
    locked.version += 1;
    let ids = ids_of_seated(&ended);
    let mut by_section = places_by_section(&ended);
    if !ids.is_empty() {
        let seat_nos = hold_seats::list(connection, show_id, &ids).await?;
        hold_seats::release(connection, show_id, &ids, locked.now).await?;
        count_in(
            &mut by_section,
            seats::release(connection, show_id, &seat_nos, locked.version).await?,
        );
    }
    finish(connection, show_id, &ended, by_section, false, locked).await?;
    Ok(ended.len())
}

/// Books holds. The caller has checked that none has expired. Returns how many were booked.
pub async fn book(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    locked: &mut Locked,
) -> sqlx::Result<usize> {
    let ended = holds::end(
        connection,
        show_id,
        hold_ids,
        HoldState::Confirmed,
        locked.now,
    )
    .await?;
    if ended.is_empty() {
        return Ok(0);
    }
    locked.version += 1;
    let ids = ids_of_seated(&ended);
    let mut by_section = places_by_section(&ended);
    if !ids.is_empty() {
        let seat_nos = hold_seats::list(connection, show_id, &ids).await?;
        count_in(
            &mut by_section,
            seats::book(connection, show_id, &seat_nos, locked.version).await?,
        );
    }
    finish(connection, show_id, &ended, by_section, true, locked).await?;

    let booking_ids: Vec<Uuid> = ended.iter().map(|_| Uuid::now_v7()).collect();
    let ended_ids: Vec<Uuid> = ended.iter().map(|hold| hold.hold_id).collect();
    let buyer_ids: Vec<String> = ended.into_iter().map(|hold| hold.buyer_id).collect();
    bookings::insert(
        connection,
        show_id,
        &booking_ids,
        &ended_ids,
        &buyer_ids,
        locked.now,
    )
    .await?;
    Ok(booking_ids.len())
}

/// Lets requests leave the line before their turn.
pub async fn withdraw(
    connection: &mut PgConnection,
    show_id: Uuid,
    positions: &[Position],
    locked: &Locked,
) -> sqlx::Result<()> {
    let mut cancelled = NewOutcomes::default();
    for &position in positions {
        cancelled.push(position, "cancelled", None, None);
    }
    outcomes::record(connection, show_id, &cancelled, locked.now).await?;
    notify::changed(connection, show_id, positions).await
}

/// Expires at most [`BATCH_MAX`] holds whose time is over, and returns how many.
pub async fn expire_due(
    connection: &mut PgConnection,
    show_id: Uuid,
    locked: &mut Locked,
) -> sqlx::Result<usize> {
    let due = holds::due(connection, show_id, locked.now, BATCH_MAX).await?;
    if due.is_empty() {
        return Ok(0);
    }
    release(connection, show_id, &due, HoldState::Expired, locked).await
}

/// Moves the counters, the version, and tells the buyers.
async fn finish(
    connection: &mut PgConnection,
    show_id: Uuid,
    ended: &[EndedHold],
    by_section: BTreeMap<SectionNo, i32>,
    book: bool,
    locked: &Locked,
) -> sqlx::Result<()> {
    let (section_nos, quantities): (Vec<SectionNo>, Vec<i32>) = by_section.into_iter().unzip();
    sections::end_held(
        connection,
        show_id,
        &section_nos,
        &quantities,
        book,
        locked.version,
    )
    .await?;

    let mut by_buyer: BTreeMap<&str, i32> = BTreeMap::new();
    for hold in ended {
        *by_buyer.entry(&hold.buyer_id).or_default() += hold.quantity;
    }
    let (buyer_ids, quantities): (Vec<&str>, Vec<i32>) = by_buyer.into_iter().unzip();
    buyer_totals::end_held(connection, show_id, &buyer_ids, &quantities, book).await?;

    show_inventory::advance(connection, show_id, locked.version).await?;
    let positions: Vec<Position> = ended.iter().map(|hold| hold.position).collect();
    notify::changed(connection, show_id, &positions).await
}

fn ids_of_seated(holds: &[EndedHold]) -> Vec<Uuid> {
    holds
        .iter()
        .filter(|hold| hold.section_no.is_none())
        .map(|hold| hold.hold_id)
        .collect()
}

fn places_by_section(holds: &[EndedHold]) -> BTreeMap<SectionNo, i32> {
    let mut by_section = BTreeMap::new();
    for hold in holds {
        if let Some(section_no) = hold.section_no {
            *by_section.entry(section_no).or_default() += hold.quantity;
        }
    }
    by_section
}

fn count_in(by_section: &mut BTreeMap<SectionNo, i32>, sections_of_seats: Vec<SectionNo>) {
    for section_no in sections_of_seats {
        *by_section.entry(section_no).or_default() += 1;
    }
}
