//! How holds end: booked, cancelled, or expired; and how bookings end. The turn, the sweep, the desk and
//! the till all come here.
//!
//! Each function is a part of a transaction that holds the `show_inventory` lock, and says so by
//! taking the [`Locked`] that the lock gave. Holds that have ended already are left alone, so each
//! hold ends once, whoever comes first.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::{Amount, Position, SectionNo, hold::HoldState, outcome::Allocation},
    events::{self, Event, EventType},
    store::{
        bookings::{self, NewBookings},
        buyer_totals, hold_seats,
        holds::{self, EndedHold},
        notify, outcomes,
        outcomes::NewOutcomes,
        seats, sections,
        show_inventory::{self, Locked},
    },
};

/// The most holds that one transaction ends.
pub const BATCH_MAX: i64 = 1000;

/// What the counters of held and of booked places go up or down by.
type Shift = (i32, i32);

const HELD_TO_FREE: Shift = (-1, 0);
const HELD_TO_BOOKED: Shift = (-1, 1);
const BOOKED_TO_FREE: Shift = (0, -1);
const FREE_TO_HELD: Shift = (1, 0);

/// Gives the seats of holds back: `state` says whether their buyers or the time ended them.
/// Returns how many holds it ended. The lock's version moves on if any.
pub async fn release(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    state: HoldState,
    locked: &mut Locked,
) -> sqlx::Result<usize> {
    let from = HoldState::Held;
    let ended = holds::end(connection, show_id, hold_ids, from, state, locked.now).await?;
    free(connection, show_id, &ended, "held", HELD_TO_FREE, locked).await?;
    if state == HoldState::Expired {
        let told = ended.iter().map(expired).collect();
        events::record(connection, show_id, locked, told).await?;
    }
    Ok(ended.len())
}

/// What integrators are told of a hold whose time is over.
fn expired(hold: &EndedHold) -> Event {
    Event {
        event_type: EventType::RequestExpired,
        position: Some(hold.position),
        booking_id: None,
        data: json!({
            "hold_id": hold.hold_id,
            "buyer_id": hold.buyer_id,
            "quantity": hold.quantity,
        }),
    }
}

/// Gives the seats of booked holds back. The caller cancels their bookings. Returns how many holds it
/// ended.
pub async fn unbook(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
    locked: &mut Locked,
) -> sqlx::Result<usize> {
    let (from, to) = (HoldState::Confirmed, HoldState::Cancelled);
    let ended = holds::end(connection, show_id, hold_ids, from, to, locked.now).await?;
    free(
        connection,
        show_id,
        &ended,
        "booked",
        BOOKED_TO_FREE,
        locked,
    )
    .await?;
    Ok(ended.len())
}

async fn free(
    connection: &mut PgConnection,
    show_id: Uuid,
    ended: &[EndedHold],
    status: &str,
    shift: Shift,
    locked: &mut Locked,
) -> sqlx::Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    locked.version += 1;
    let ids = ids_of_seated(ended);
    let mut by_section = places_by_section(ended);
    if !ids.is_empty() {
        let seat_nos = hold_seats::list(connection, show_id, &ids).await?;
        hold_seats::release(connection, show_id, &ids, locked.now).await?;
        let freed = seats::release(connection, show_id, &seat_nos, status, locked.version).await?;
        count_in(&mut by_section, freed);
    }
    finish(connection, show_id, ended, by_section, shift, locked).await
}

/// A hold that is to be booked.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    pub hold_id: Uuid,
    pub payment_id: Uuid,
    pub booking_id: Uuid,
    /// Whether the money is there; else the booking is pending.
    pub paid: bool,
}

/// Books holds that live. The caller has expired what is due.
pub async fn book(
    connection: &mut PgConnection,
    show_id: Uuid,
    pins: &[Pin],
    locked: &mut Locked,
) -> sqlx::Result<()> {
    let hold_ids: Vec<Uuid> = pins.iter().map(|pin| pin.hold_id).collect();
    let (from, to) = (HoldState::Held, HoldState::Confirmed);
    let ended = holds::end(connection, show_id, &hold_ids, from, to, locked.now).await?;
    if ended.is_empty() {
        return Ok(());
    }
    locked.version += 1;
    let ids = ids_of_seated(&ended);
    let mut by_section = places_by_section(&ended);
    if !ids.is_empty() {
        let seat_nos = hold_seats::list(connection, show_id, &ids).await?;
        let booked = seats::book(connection, show_id, &seat_nos, locked.version).await?;
        count_in(&mut by_section, booked);
    }
    finish(
        connection,
        show_id,
        &ended,
        by_section,
        HELD_TO_BOOKED,
        locked,
    )
    .await?;

    let mut new = NewBookings::default();
    let pins: BTreeMap<Uuid, &Pin> = pins.iter().map(|pin| (pin.hold_id, pin)).collect();
    for hold in ended {
        let pin = pins[&hold.hold_id];
        new.booking_ids.push(pin.booking_id);
        new.hold_ids.push(hold.hold_id);
        new.buyer_ids.push(hold.buyer_id);
        new.payment_ids.push(pin.payment_id);
        new.paid.push(pin.paid);
    }
    bookings::insert(connection, show_id, &new, locked.now).await
}

/// Lets an expired hold live again with other places, which the caller has seen to be free.
pub async fn revive(
    connection: &mut PgConnection,
    show_id: Uuid,
    (hold_id, buyer_id): (Uuid, &str),
    (allocation, fees): (&Allocation, Amount),
    locked: &mut Locked,
) -> sqlx::Result<()> {
    locked.version += 1;
    let quantity = allocation.quantity();
    let (section_no, seat_nos) = match allocation {
        Allocation::Seats(seat_nos) => (None, seat_nos.as_slice()),
        Allocation::Places { section, .. } => (Some(*section), [].as_slice()),
    };
    holds::revive(connection, show_id, hold_id, section_no, (quantity, fees)).await?;
    hold_seats::forget_released(connection, show_id, hold_id).await?;
    let mut by_section = BTreeMap::new();
    if let Some(section_no) = section_no {
        by_section.insert(section_no, quantity);
    }
    if !seat_nos.is_empty() {
        let hold_ids = vec![hold_id; seat_nos.len()];
        hold_seats::insert(connection, show_id, &hold_ids, seat_nos).await?;
        let held = seats::hold(connection, show_id, seat_nos, &hold_ids, locked.version).await?;
        if held != seat_nos.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        count_in(
            &mut by_section,
            seats::sections_of(connection, show_id, seat_nos).await?,
        );
    }
    shift_sections(connection, show_id, by_section, FREE_TO_HELD, locked).await?;
    let (buyers, quantities) = ([buyer_id], [quantity]);
    buyer_totals::shift(connection, show_id, &buyers, &quantities, FREE_TO_HELD).await?;
    show_inventory::advance(connection, show_id, locked.version).await
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
    shift: Shift,
    locked: &Locked,
) -> sqlx::Result<()> {
    shift_sections(connection, show_id, by_section, shift, locked).await?;
    let mut by_buyer: BTreeMap<&str, i32> = BTreeMap::new();
    for hold in ended {
        *by_buyer.entry(&hold.buyer_id).or_default() += hold.quantity;
    }
    let (buyer_ids, quantities): (Vec<&str>, Vec<i32>) = by_buyer.into_iter().unzip();
    buyer_totals::shift(connection, show_id, &buyer_ids, &quantities, shift).await?;

    show_inventory::advance(connection, show_id, locked.version).await?;
    let positions: Vec<Position> = ended.iter().map(|hold| hold.position).collect();
    notify::changed(connection, show_id, &positions).await
}

async fn shift_sections(
    connection: &mut PgConnection,
    show_id: Uuid,
    by_section: BTreeMap<SectionNo, i32>,
    shift: Shift,
    locked: &Locked,
) -> sqlx::Result<()> {
    let (section_nos, quantities): (Vec<SectionNo>, Vec<i32>) = by_section.into_iter().unzip();
    let version = locked.version;
    sections::shift(
        connection,
        show_id,
        &section_nos,
        &quantities,
        shift,
        version,
    )
    .await
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
