//! The decision in the most obvious way, for comparison: it knows no blocks, no order of search and no
//! counters, and tries every choice.

use std::collections::BTreeSet;

use super::*;
use crate::domain::{drawn::free_seats, seat_map::Seat};

pub struct Show<'a> {
    pub map: &'a SeatMap,
    pub free: BTreeSet<SeatNo>,
    /// Free places of each section without seats.
    pub places: Vec<i32>,
    pub totals: BuyerTotals,
}

impl Show<'_> {
    pub fn new(inventory: &Inventory) -> Show<'_> {
        let sections = (0..).zip(&inventory.map().sections);
        let places = sections.map(|(number, section)| match section.kind {
            SectionKind::Seated => 0,
            SectionKind::GeneralAdmission => inventory.free_in_section(number),
        });
        Show {
            map: inventory.map(),
            free: free_seats(inventory).into_iter().collect(),
            places: places.collect(),
            totals: BuyerTotals::new(),
        }
    }

    pub fn decide(&mut self, rules: Rules, request: &BookingRequest) -> Decision {
        if self.free.is_empty() && self.places.iter().all(|&places| places == 0) {
            return Decision::Rejected(Reason::SoldOut);
        }
        let answers: Vec<_> = request
            .wishes
            .iter()
            .map(|wish| self.answer(rules, request, wish))
            .collect();
        let met = answers
            .iter()
            .find(|answer| answer.is_ok())
            .unwrap_or(&answers[0]);
        match met.clone() {
            Err(reason) => Decision::Rejected(reason),
            Ok((allocation, total)) => {
                match &allocation {
                    Allocation::Seats(seats) => {
                        self.free.retain(|seat| !seats.contains(seat));
                    }
                    Allocation::Places { section, quantity } => {
                        self.places[*section as usize] -= quantity;
                    }
                }
                *self.totals.entry(request.buyer_id.clone()).or_default() += allocation.quantity();
                Decision::Held { allocation, total }
            }
        }
    }

    fn answer(
        &self,
        rules: Rules,
        request: &BookingRequest,
        wish: &Wish,
    ) -> Result<(Allocation, Amount), Reason> {
        let had = self.totals.get(&request.buyer_id).unwrap_or(&0);
        let prices = match wish {
            Wish::Seats(seats) => seats
                .iter()
                .map(|&seat| self.map.seat_price(seat))
                .collect(),
            Wish::BestAvailable {
                section, quantity, ..
            }
            | Wish::GeneralAdmission { section, quantity } => {
                vec![self.map.section(*section).price; *quantity as usize]
            }
        };
        if had + prices.len() as i32 > rules.buyer_limit {
            return Err(Reason::LimitExceeded);
        }
        let total = prices.iter().sum();
        if total > request.max_total.unwrap_or(Amount::MAX) {
            return Err(Reason::PriceOverMax);
        }
        let allocation = match *wish {
            Wish::Seats(ref seats) => {
                let seats: BTreeSet<SeatNo> = seats.iter().copied().collect();
                match seats.is_subset(&self.free) {
                    true => Allocation::Seats(seats.into_iter().collect()),
                    false => return Err(Reason::SeatsTaken),
                }
            }
            Wish::GeneralAdmission { section, quantity } => {
                if self.places[section as usize] < quantity {
                    return Err(Reason::SectionSoldOut);
                }
                Allocation::Places { section, quantity }
            }
            Wish::BestAvailable {
                section,
                quantity,
                adjacent,
            } => {
                if self.free_in(section).len() < quantity as usize {
                    return Err(Reason::SectionSoldOut);
                }
                let best = self.neighbours(section, quantity);
                match (best, adjacent) {
                    (Some(seats), _) => Allocation::Seats(seats),
                    (None, Adjacent::Required) => return Err(Reason::NoAdjacentSeats),
                    (None, Adjacent::Preferred) => {
                        let mut seats = self.free_in(section);
                        seats.sort_by_key(|&seat| (self.map.seat(seat).rank, seat));
                        seats.truncate(quantity as usize);
                        seats.sort();
                        Allocation::Seats(seats)
                    }
                }
            }
        };
        Ok((allocation, total))
    }

    fn free_in(&self, section: SectionNo) -> Vec<SeatNo> {
        let in_section = |seat: &&SeatNo| self.map.seat(**seat).section == section;
        self.free.iter().filter(in_section).copied().collect()
    }

    /// Starts at every free seat, walks to the right, and compares all that is walked.
    fn neighbours(&self, section: SectionNo, quantity: i32) -> Option<Vec<SeatNo>> {
        let mut choices = Vec::new();
        for first in self.free_in(section) {
            let mut seats = vec![first];
            while seats.len() < quantity as usize {
                let last = self.map.seat(seats[seats.len() - 1]);
                let Some(next) = self.beside(last, 1) else {
                    break;
                };
                seats.push(next);
            }
            if seats.len() == quantity as usize {
                choices.push(seats);
            }
        }
        let lone = self.lone_seats(&self.free);
        choices.into_iter().min_by_key(|seats| {
            let taken: BTreeSet<SeatNo> = seats.iter().copied().collect();
            let left = self.free.difference(&taken).copied().collect();
            let orphans = self.lone_seats(&left).difference(&lone).count();
            let ranks: i32 = seats.iter().map(|&seat| self.map.seat(seat).rank).sum();
            (orphans > 0, ranks, seats[0])
        })
    }

    /// The free seat so many places to the right.
    fn beside(&self, seat: &Seat, step: i16) -> Option<SeatNo> {
        self.beside_among(&self.free, seat, step)
    }

    fn beside_among(&self, free: &BTreeSet<SeatNo>, to: &Seat, step: i16) -> Option<SeatNo> {
        free.iter().copied().find(|&seat| {
            let seat = self.map.seat(seat);
            seat.row_no == to.row_no && seat.row_seat == to.row_seat + step
        })
    }

    fn lone_seats(&self, free: &BTreeSet<SeatNo>) -> BTreeSet<SeatNo> {
        let lone = |seat: &&SeatNo| {
            let seat = self.map.seat(**seat);
            [-1, 1]
                .iter()
                .all(|&step| self.beside_among(free, seat, step).is_none())
        };
        free.iter().filter(lone).copied().collect()
    }
}
