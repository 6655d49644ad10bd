//! What integrators are told: events, written to the outbox in the transaction that causes them.
//!
//! All under the `show_inventory` lock, so a show's events are numbered without gaps in the order of
//! their commits; the events of a booking are in order with them. An event that no endpoint wants is
//! not written: a sold-out show turns a hundred thousand requests away a second.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::Position,
    store::{
        outbox::{self, NewEvents},
        show_inventory::{self, Locked},
    },
};

/// What an endpoint wants that wants all types, those of later versions among them.
pub const EVERY_TYPE: &str = "*";

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    RequestHeld,
    RequestRejected,
    RequestExpired,
    BookingConfirmed,
    BookingCancelled,
    PaymentFailed,
    PaymentRefunded,
    SaleStateChanged,
}

impl EventType {
    pub const ALL: [EventType; 8] = [
        EventType::RequestHeld,
        EventType::RequestRejected,
        EventType::RequestExpired,
        EventType::BookingConfirmed,
        EventType::BookingCancelled,
        EventType::PaymentFailed,
        EventType::PaymentRefunded,
        EventType::SaleStateChanged,
    ];

    /// The word in the database and in the deliveries.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::RequestHeld => "request.held",
            EventType::RequestRejected => "request.rejected",
            EventType::RequestExpired => "request.expired",
            EventType::BookingConfirmed => "booking.confirmed",
            EventType::BookingCancelled => "booking.cancelled",
            EventType::PaymentFailed => "payment.failed",
            EventType::PaymentRefunded => "payment.refunded",
            EventType::SaleStateChanged => "sale.state_changed",
        }
    }

    /// The type of that word, if there is one.
    pub fn parse(word: &str) -> Option<EventType> {
        EventType::ALL
            .into_iter()
            .find(|event_type| event_type.as_str() == word)
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub event_type: EventType,
    /// Of the request that it is about; the outbox gives it the request's id.
    pub position: Option<Position>,
    pub booking_id: Option<Uuid>,
    /// An object with what else is to be told.
    pub data: Value,
}

impl Locked {
    /// Whether anybody wants to be told: ask before you build the event.
    pub fn wants(&self, event_type: EventType) -> bool {
        let word = event_type.as_str();
        let wanted = |wanted: &String| wanted == word || wanted == EVERY_TYPE;
        self.wanted_events.iter().any(wanted)
    }
}

/// Writes those of the events that somebody wants, in their order.
pub async fn record(
    connection: &mut PgConnection,
    show_id: Uuid,
    locked: &mut Locked,
    events: Vec<Event>,
) -> sqlx::Result<()> {
    let mut new = NewEvents::default();
    let wanted = events
        .into_iter()
        .filter(|event| locked.wants(event.event_type));
    for (event, sequence) in wanted.zip(locked.event_sequence + 1..) {
        new.sequences.push(sequence);
        new.event_ids.push(Uuid::now_v7());
        new.event_types.push(event.event_type.as_str().to_owned());
        new.positions.push(event.position);
        new.booking_ids.push(event.booking_id);
        new.data.push(event.data);
    }
    let Some(&last) = new.sequences.last() else {
        return Ok(());
    };
    outbox::insert(connection, show_id, &new, locked.now).await?;
    show_inventory::set_event_sequence(connection, show_id, last).await?;
    locked.event_sequence = last;
    Ok(())
}
