//! The decision: which requests of a turn are met, in the order of their positions.

use std::collections::HashMap;

use super::{inventory::Inventory, outcome::Decision, wish::BookingRequest};

/// What a show's rules say beside its inventory.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The most seats and places one buyer may hold and have booked.
    pub buyer_limit: i32,
}

/// Seats and places per buyer, held and booked. A buyer who is absent has none.
pub type BuyerTotals = HashMap<String, i32>;

/// Decides one request and takes what it wins out of the inventory.
pub fn decide(
    _inventory: &mut Inventory,
    _totals: &mut BuyerTotals,
    _rules: Rules,
    _request: &BookingRequest,
) -> Decision {
    Decision::Rejected(super::outcome::Reason::Technical)
}
