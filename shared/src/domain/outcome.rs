//! What becomes of a request. A rejection is an outcome, not an error.

use serde::{Deserialize, Serialize};

use super::{Amount, SeatNo, SectionNo};

/// Why a request was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing at all is left in the show.
    SoldOut,
    /// Less is left in the section than the wish asks for.
    SectionSoldOut,
    /// At least one of the named seats is taken.
    SeatsTaken,
    /// Enough seats are left in the section, but not side by side.
    NoAdjacentSeats,
    /// The buyer would hold and have booked more than the show allows.
    LimitExceeded,
    /// It would cost more than the buyer's `max_total`.
    PriceOverMax,
    /// The operator closed the sale before the request's turn.
    SaleClosed,
    /// It could not be decided; the operator was told.
    Technical,
}

impl Reason {
    pub const ALL: [Reason; 8] = [
        Reason::SoldOut,
        Reason::SectionSoldOut,
        Reason::SeatsTaken,
        Reason::NoAdjacentSeats,
        Reason::LimitExceeded,
        Reason::PriceOverMax,
        Reason::SaleClosed,
        Reason::Technical,
    ];

    /// The word in the database, the API and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::SoldOut => "sold_out",
            Reason::SectionSoldOut => "section_sold_out",
            Reason::SeatsTaken => "seats_taken",
            Reason::NoAdjacentSeats => "no_adjacent_seats",
            Reason::LimitExceeded => "limit_exceeded",
            Reason::PriceOverMax => "price_over_max",
            Reason::SaleClosed => "sale_closed",
            Reason::Technical => "technical",
        }
    }

    /// The reason of that word, if there is one.
    pub fn parse(word: &str) -> Option<Reason> {
        Reason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }
}

/// What a decision gives to the buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    /// These seats, in ascending order.
    Seats(Vec<SeatNo>),
    /// So many places of a general-admission section.
    Places { section: SectionNo, quantity: i32 },
}

impl Allocation {
    /// How many seats or places.
    pub fn quantity(&self) -> i32 {
        match self {
            Allocation::Seats(seats) => seats.len() as i32,
            Allocation::Places { quantity, .. } => *quantity,
        }
    }
}

/// What the engine says to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The first wish that could be met, and what all of it costs.
    Held {
        allocation: Allocation,
        /// All-in.
        total: Amount,
        /// The part of the total that is fees.
        fees: Amount,
    },
    /// No wish could be met; the reason is that of the first wish.
    Rejected(Reason),
}
