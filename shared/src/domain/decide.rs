//! The decision: which requests of a turn are met, in the order of their positions.
//!
//! The same inventory, totals, rules and requests always give the same decisions. What is checked, in
//! this order:
//!
//! 1. Nothing at all is free in the show: `sold_out`. It needs no totals, so that a sold-out show,
//!    when the line is at its longest, is decided fastest.
//! 2. The wishes, in the buyer's order. The first that can be met wins; if none can, the reason is
//!    that of the first wish, which is what the buyer wanted most.
//! 3. For one wish, what would stay true whatever seats came back is said before what may change:
//!    `limit_exceeded` (by what the buyer holds and has booked, with what was won earlier in the same
//!    turn), `price_over_max`, and only then what is free: `seats_taken` for named seats;
//!    `section_sold_out`, then `no_adjacent_seats` for best available; `section_sold_out` for places.
//!    A buyer at the limit is not sent to look for other seats that could not be had either.
//! 4. The price is known before what is free is looked at, except for the best of a section whose seats
//!    cost different prices. There, `price_over_max` is said first only if so many seats at the section's
//!    lowest price would cost more. Else the best are found as if money did not matter, and what they
//!    cost counts. If that is more than the maximum, the best within it are looked for: neighbours
//!    first, then single ones if neighbours are only preferred. If there are none, `price_over_max`.
//!    This second search looks at up to all free seats of the section, twice for single ones: 40 us in a
//!    section of 10,000 seats. Nobody pays for it whose best seats are within the maximum.

use std::collections::HashMap;

use super::{
    Amount, SeatNo, SectionNo,
    inventory::Inventory,
    outcome::{Allocation, Decision, Reason},
    price::{Price, Quote},
    seat_map::{SeatMap, SectionKind},
    wish::{Adjacent, BookingRequest, Wish},
};

/// What a show's rules say beside its inventory.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The most seats and places one buyer may hold and have booked.
    pub buyer_limit: i32,
}

/// Seats and places per buyer, held and booked. A buyer who is absent has none.
pub type BuyerTotals = HashMap<String, i32>;

/// Decides one request and takes what it wins out of the inventory.
///
/// Panics, before anything is taken, on a request that the edge would never have let in: no wish, no
/// seat, a seat twice, a seat or section that the map does not have, a price beyond all money.
pub fn decide(
    inventory: &mut Inventory,
    totals: &mut BuyerTotals,
    rules: Rules,
    request: &BookingRequest,
) -> Decision {
    if inventory.free_in_show() == 0 {
        return Decision::Rejected(Reason::SoldOut);
    }
    let total_before = totals.get(&request.buyer_id).copied().unwrap_or(0);
    let mut first_reason = None;
    for wish in &request.wishes {
        match try_wish(inventory, total_before, rules, request.max_total, wish) {
            Ok((allocation, Price { total, fees })) => {
                take(inventory, &allocation);
                add_to_total(totals, &request.buyer_id, allocation.quantity());
                return Decision::Held {
                    allocation,
                    total,
                    fees,
                };
            }
            Err(reason) => {
                first_reason.get_or_insert(reason);
            }
        }
    }
    Decision::Rejected(first_reason.expect("a request has at least one wish"))
}

/// What a wish would get and cost, or why it gets nothing. Takes nothing.
fn try_wish(
    inventory: &mut Inventory,
    total_before: i32,
    rules: Rules,
    max_total: Option<Amount>,
    wish: &Wish,
) -> Result<(Allocation, Price), Reason> {
    let quantity = wish.quantity();
    assert!(quantity > 0, "a wish for {quantity} seats");
    if i64::from(total_before) + i64::from(quantity) > i64::from(rules.buyer_limit) {
        return Err(Reason::LimitExceeded);
    }
    let quote = quote(inventory.map(), wish);
    if max_total.is_some_and(|max| quote.cheapest() > max) {
        return Err(Reason::PriceOverMax);
    }
    let allocation = find(inventory, max_total, wish)?;
    let price = match quote {
        Quote::Fixed(price) => price,
        Quote::From(_) => price_of_allocation(inventory.map(), &allocation),
    };
    Ok((allocation, price))
}

/// What a wish costs, as far as it is known before the seats are.
fn quote(map: &SeatMap, wish: &Wish) -> Quote {
    match wish {
        Wish::Seats(seats) => Quote::Fixed(price_of_seats(map, seats)),
        Wish::BestAvailable {
            section, quantity, ..
        }
        | Wish::GeneralAdmission { section, quantity } => map
            .section_quote(*section)
            .checked_mul(*quantity)
            .expect("the price of a wish fits into an amount"),
    }
}

fn price_of_allocation(map: &SeatMap, allocation: &Allocation) -> Price {
    match allocation {
        Allocation::Seats(seats) => price_of_seats(map, seats),
        Allocation::Places { section, quantity } => map
            .section(*section)
            .base_price()
            .checked_mul(*quantity)
            .expect("the price of places fits into an amount"),
    }
}

fn price_of_seats(map: &SeatMap, seats: &[SeatNo]) -> Price {
    seats
        .iter()
        .try_fold(Price::default(), |sum, &seat| {
            sum.checked_add(map.seat_price(seat))
        })
        .expect("the price of seats fits into an amount")
}

/// What is free for a wish, or why nothing is.
fn find(
    inventory: &mut Inventory,
    max_total: Option<Amount>,
    wish: &Wish,
) -> Result<Allocation, Reason> {
    match wish {
        Wish::Seats(seats) => find_named(inventory, seats),
        Wish::BestAvailable {
            section,
            quantity,
            adjacent,
        } => find_best(inventory, max_total, *section, *quantity, *adjacent),
        Wish::GeneralAdmission { section, quantity } => find_places(inventory, *section, *quantity),
    }
}

/// All of these seats or none.
fn find_named(inventory: &Inventory, seats: &[SeatNo]) -> Result<Allocation, Reason> {
    if !seats.iter().all(|&seat| inventory.is_free(seat)) {
        return Err(Reason::SeatsTaken);
    }
    let mut seats = seats.to_vec();
    seats.sort_unstable();
    assert!(seats.is_sorted_by(|a, b| a < b), "a wish for a seat twice");
    Ok(Allocation::Seats(seats))
}

fn find_best(
    inventory: &mut Inventory,
    max_total: Option<Amount>,
    section: SectionNo,
    quantity: i32,
    adjacent: Adjacent,
) -> Result<Allocation, Reason> {
    check_section(inventory, section, SectionKind::Seated, quantity)?;
    let seats = match (inventory.best_neighbours(section, quantity), adjacent) {
        (Some(seats), _) => Some(seats),
        (None, Adjacent::Required) => None,
        (None, Adjacent::Preferred) => inventory.best_singles(section, quantity),
    };
    let seats = seats.ok_or(Reason::NoAdjacentSeats)?;
    if let (Quote::From(_), Some(max_total)) = (inventory.map().section_quote(section), max_total)
        && price_of_seats(inventory.map(), &seats).total > max_total
    {
        return find_best_within(inventory, max_total, section, quantity, adjacent);
    }
    Ok(Allocation::Seats(seats))
}

/// For who could not pay the best: the best seats that cost no more than the maximum.
fn find_best_within(
    inventory: &mut Inventory,
    max_total: Amount,
    section: SectionNo,
    quantity: i32,
    adjacent: Adjacent,
) -> Result<Allocation, Reason> {
    let neighbours = inventory.best_neighbours_within(section, quantity, max_total);
    let seats = match (neighbours, adjacent) {
        (Some(seats), _) => Some(seats),
        (None, Adjacent::Required) => None,
        (None, Adjacent::Preferred) => inventory.best_singles_within(section, quantity, max_total),
    };
    seats.map(Allocation::Seats).ok_or(Reason::PriceOverMax)
}

fn find_places(
    inventory: &Inventory,
    section: SectionNo,
    quantity: i32,
) -> Result<Allocation, Reason> {
    check_section(inventory, section, SectionKind::GeneralAdmission, quantity)?;
    Ok(Allocation::Places { section, quantity })
}

/// That a section is of the kind that the wish needs (the edge lets in no other) and has enough left.
fn check_section(
    inventory: &Inventory,
    section: SectionNo,
    kind: SectionKind,
    quantity: i32,
) -> Result<(), Reason> {
    if inventory.map().section(section).kind != kind {
        return Err(Reason::Technical);
    }
    if inventory.free_in_section(section) < quantity {
        return Err(Reason::SectionSoldOut);
    }
    Ok(())
}

fn take(inventory: &mut Inventory, allocation: &Allocation) {
    match allocation {
        Allocation::Seats(seats) => {
            for &seat in seats {
                inventory.set_seat(seat, false);
            }
        }
        Allocation::Places { section, quantity } => {
            let free = inventory.free_in_section(*section);
            inventory.set_places(*section, free - quantity);
        }
    }
}

/// Cannot overflow: the limit, which the sum is within, was checked.
fn add_to_total(totals: &mut BuyerTotals, buyer_id: &str, quantity: i32) {
    match totals.get_mut(buyer_id) {
        Some(total) => *total += quantity,
        None => {
            totals.insert(buyer_id.to_owned(), quantity);
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests;
