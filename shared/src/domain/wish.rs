//! What a buyer asks for: wishes in order of preference, the first that can be met wins.
//!
//! The types here are the stored form: labels and names were resolved to numbers at the edge, so a
//! wish that exists names seats and sections that exist.

use serde::{Deserialize, Serialize};

use super::{Amount, Position, SeatNo, SectionNo};

/// The most wishes in one request.
pub const WISHES_MAX: usize = 10;

/// One way to satisfy a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Exactly these seats, all or nothing. No seat twice.
    Seats(Vec<SeatNo>),
    /// The best seats that are left in a section.
    BestAvailable {
        section: SectionNo,
        quantity: i32,
        adjacent: Adjacent,
    },
    /// Places in a general-admission section.
    GeneralAdmission { section: SectionNo, quantity: i32 },
}

impl Wish {
    /// How many seats or places it takes.
    pub fn quantity(&self) -> i32 {
        match self {
            Wish::Seats(seats) => seats.len() as i32,
            Wish::BestAvailable { quantity, .. } | Wish::GeneralAdmission { quantity, .. } => {
                *quantity
            }
        }
    }
}

/// Whether the seats of a best-available wish must be neighbours in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjacent {
    /// Neighbours or nothing.
    Required,
    /// Neighbours if there are any, else the best single seats.
    Preferred,
}

/// A request as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookingRequest {
    pub position: Position,
    pub buyer_id: String,
    /// In order of preference; at least one, at most [`WISHES_MAX`].
    pub wishes: Vec<Wish>,
    /// The most that all seats together may cost.
    pub max_total: Option<Amount>,
}
