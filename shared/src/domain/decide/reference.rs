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
            Ok(allocation) => {
                match &allocation {
                    Allocation::Seats(seats) => {
                        self.free.retain(|seat| !seats.contains(seat));
                    }
                    Allocation::Places { section, quantity } => {
                        self.places[*section as usize] -= quantity;
                    }
                }
                *self.totals.entry(request.buyer_id.clone()).or_default() += allocation.quantity();
                let Price { total, fees } = self.price(&allocation);
                Decision::Held {
                    allocation,
                    total,
                    fees,
                }
            }
        }
    }

    fn answer(
        &self,
        rules: Rules,
        request: &BookingRequest,
        wish: &Wish,
    ) -> Result<Allocation, Reason> {
        let had = self.totals.get(&request.buyer_id).unwrap_or(&0);
        if had + wish.quantity() > rules.buyer_limit {
            return Err(Reason::LimitExceeded);
        }
        let max_total = request.max_total.unwrap_or(Amount::MAX);
        if self.cheapest(wish) > max_total {
            return Err(Reason::PriceOverMax);
        }
        match *wish {
            Wish::Seats(ref seats) => {
                let seats: BTreeSet<SeatNo> = seats.iter().copied().collect();
                match seats.is_subset(&self.free) {
                    true => Ok(Allocation::Seats(seats.into_iter().collect())),
                    false => Err(Reason::SeatsTaken),
                }
            }
            Wish::GeneralAdmission { section, quantity } => {
                if self.places[section as usize] < quantity {
                    return Err(Reason::SectionSoldOut);
                }
                Ok(Allocation::Places { section, quantity })
            }
            Wish::BestAvailable {
                section,
                quantity,
                adjacent,
            } => {
                if self.free_in(section).len() < quantity as usize {
                    return Err(Reason::SectionSoldOut);
                }
                let best = |max_total| {
                    let neighbours = self.neighbours(section, quantity, max_total);
                    match adjacent {
                        Adjacent::Required => neighbours,
                        Adjacent::Preferred => {
                            neighbours.or_else(|| self.singles(section, quantity, max_total))
                        }
                    }
                };
                let Some(seats) = best(Amount::MAX) else {
                    return Err(Reason::NoAdjacentSeats);
                };
                let allocation = Allocation::Seats(seats);
                if self.price(&allocation).total <= max_total {
                    return Ok(allocation);
                }
                let affordable = best(max_total).ok_or(Reason::PriceOverMax)?;
                Ok(Allocation::Seats(affordable))
            }
        }
    }

    /// What the wish would cost at least, whatever seats came back.
    fn cheapest(&self, wish: &Wish) -> Amount {
        match *wish {
            Wish::Seats(ref seats) => self.price(&Allocation::Seats(seats.clone())).total,
            Wish::GeneralAdmission { section, quantity } => {
                let allocation = Allocation::Places { section, quantity };
                self.price(&allocation).total
            }
            Wish::BestAvailable {
                section, quantity, ..
            } => {
                let of_section = (0..)
                    .zip(&self.map.seats)
                    .filter(|(_, seat)| seat.section == section);
                let prices = of_section.map(|(number, _)| self.map.seat_price(number).total);
                prices.min().expect("the section has seats") * Amount::from(quantity)
            }
        }
    }

    fn price(&self, allocation: &Allocation) -> Price {
        let prices: Vec<Price> = match allocation {
            Allocation::Seats(seats) => seats
                .iter()
                .map(|&seat| self.map.seat_price(seat))
                .collect(),
            Allocation::Places { section, quantity } => {
                vec![self.map.section(*section).base_price(); *quantity as usize]
            }
        };
        Price {
            total: prices.iter().map(|price| price.total).sum(),
            fees: prices.iter().map(|price| price.fees).sum(),
        }
    }

    /// Of all choices that can be paid, the one with the best first seat, then second, and so on.
    fn singles(&self, section: SectionNo, quantity: i32, max_total: Amount) -> Option<Vec<SeatNo>> {
        let mut by_rank = self.free_in(section);
        by_rank.sort_by_key(|&seat| (self.map.seat(seat).rank, seat));
        let mut seats = self.first_choice(&by_rank, quantity, max_total)?;
        seats.sort();
        Some(seats)
    }

    /// The first choice in the order of the dictionary, by trying every one.
    fn first_choice(
        &self,
        seats: &[SeatNo],
        quantity: i32,
        max_total: Amount,
    ) -> Option<Vec<SeatNo>> {
        if max_total < 0 {
            return None;
        }
        if quantity == 0 {
            return Some(Vec::new());
        }
        (0..seats.len()).find_map(|index| {
            let left = max_total - self.map.seat_price(seats[index]).total;
            let mut choice = self.first_choice(&seats[index + 1..], quantity - 1, left)?;
            choice.push(seats[index]);
            Some(choice)
        })
    }

    fn free_in(&self, section: SectionNo) -> Vec<SeatNo> {
        let in_section = |seat: &&SeatNo| self.map.seat(**seat).section == section;
        self.free.iter().filter(in_section).copied().collect()
    }

    /// Starts at every free seat, walks to the right, and compares all that is walked.
    fn neighbours(
        &self,
        section: SectionNo,
        quantity: i32,
        max_total: Amount,
    ) -> Option<Vec<SeatNo>> {
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
            let price = self.price(&Allocation::Seats(seats.clone()));
            if seats.len() == quantity as usize && price.total <= max_total {
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
