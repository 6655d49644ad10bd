//! Money that was taken for seats that are gone: the same wish is tried once more, at the same total.

use std::{collections::HashMap, sync::Arc};

use sqlx::{PgConnection, PgPool};
use stampede_shared::{
    domain::{
        decide::{Rules, decide},
        inventory::Inventory,
        outcome::Decision,
        seat_map::SeatMap,
        wish::BookingRequest,
    },
    settle::{self, Pin},
    store::{
        booking_requests, buyer_totals, payments::Payment, seats, sections, show_inventory::Locked,
        shows,
    },
};
use uuid::Uuid;

/// The version before the first: everything has changed since.
const NEVER: i64 = -1;

/// What never changes about a show and is needed to look for seats: read outside of the transaction.
#[derive(Debug, Clone)]
pub struct Spare {
    buyer_limit: i32,
    map: Arc<SeatMap>,
}

impl Spare {
    pub async fn load(pool: &PgPool, show_id: Uuid) -> sqlx::Result<Spare> {
        let show = shows::find(pool, show_id).await?;
        Ok(Spare {
            buyer_limit: show.map_or(0, |show| show.buyer_limit),
            map: Arc::new(shows::load_map(pool, show_id).await?),
        })
    }
}

/// Books what one of the request's wishes still gets for exactly the money that was taken; returns the
/// booking. Reads the whole inventory: this is rare.
pub(super) async fn replace(
    connection: &mut PgConnection,
    show_id: Uuid,
    payment: &Payment,
    spare: &Spare,
    locked: &mut Locked,
) -> sqlx::Result<Option<Uuid>> {
    let buyer_limit = spare.buyer_limit;
    let requests = booking_requests::next(connection, show_id, payment.position - 1, 1).await?;
    let Some(request) = requests.into_iter().next() else {
        return Ok(None);
    };
    let free_seats = seats::free_since(connection, show_id, NEVER).await?;
    let free_places = sections::places_since(connection, show_id, NEVER).await?;
    let buyer = payment.buyer_id.as_str();
    let known = buyer_totals::find(connection, show_id, &[buyer]).await?;
    let has: i32 = known.iter().map(|total| total.held + total.booked).sum();

    for wish in &request.wishes {
        let mut inventory = Inventory::new(Arc::clone(&spare.map));
        for seat in &free_seats {
            inventory.set_seat(seat.seat_no, seat.free);
        }
        for places in &free_places {
            inventory.set_places(places.section_no, places.free);
        }
        let mut totals = HashMap::from([(buyer.to_owned(), has)]);
        let one = BookingRequest {
            wishes: vec![wish.clone()],
            max_total: Some(payment.amount),
            ..request.clone()
        };
        let Decision::Held {
            allocation,
            total,
            fees,
        } = decide(&mut inventory, &mut totals, Rules { buyer_limit }, &one)
        else {
            continue;
        };
        if total != payment.amount {
            continue;
        }
        let hold = (payment.hold_id, buyer);
        settle::revive(connection, show_id, hold, (&allocation, fees), locked).await?;
        let pin = Pin {
            hold_id: payment.hold_id,
            payment_id: payment.payment_id,
            booking_id: Uuid::now_v7(),
            paid: true,
        };
        settle::book(connection, show_id, &[pin], locked).await?;
        return Ok(Some(pin.booking_id));
    }
    Ok(None)
}
