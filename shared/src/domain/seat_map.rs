//! The fixed part of a show: its sections and seats, numbered by their place in the map.
//!
//! A map never changes after the show was created, so it may be kept for ever.

use std::collections::HashMap;

use super::{
    Amount, CategoryNo, SeatNo, SectionNo,
    price::{Price, Quote},
};

/// How the places of a section are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Numbered seats in rows.
    Seated,
    /// A number of places without seats.
    GeneralAdmission,
}

impl SectionKind {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            SectionKind::Seated => "seated",
            SectionKind::GeneralAdmission => "general_admission",
        }
    }
}

/// A part of the hall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub kind: SectionKind,
    /// All-in, for each seat without a category, or each place.
    pub price: Amount,
    /// The part of the price that is fees.
    pub fee: Amount,
    /// Other prices that seats of the section may have; general admission has none.
    pub categories: Vec<Category>,
    /// Seats or places.
    pub capacity: i32,
}

impl Section {
    /// What a seat without a category, or a place, costs.
    pub fn base_price(&self) -> Price {
        Price {
            total: self.price,
            fees: self.fee,
        }
    }
}

/// A price that some seats of a section have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Unique in the section.
    pub name: String,
    /// All-in, for each seat.
    pub price: Amount,
    /// The part of the price that is fees.
    pub fee: Amount,
}

/// One seat.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    pub section: SectionNo,
    /// One of its section's; `None` when it costs the section's price.
    pub category: Option<CategoryNo>,
    /// Unique in the show, such as `A-12`.
    pub label: String,
    /// The row's index in the show.
    pub row_no: i32,
    /// The place in the row; neighbours differ by one, an aisle skips a number.
    pub row_seat: i16,
    /// Lower is better, within the section; equal ranks go by seat number.
    pub rank: i32,
    pub x: f32,
    pub y: f32,
}

/// All sections and seats of a show. `sections[n]` is section `n`, `seats[n]` is seat `n`; the seats
/// of a row follow each other in the order of `row_seat`.
#[derive(Debug, Default)]
pub struct SeatMap {
    pub sections: Vec<Section>,
    pub seats: Vec<Seat>,
    seat_by_label: HashMap<String, SeatNo>,
    section_by_name: HashMap<String, SectionNo>,
    /// Of each section.
    quotes: Vec<Quote>,
}

impl SeatMap {
    pub fn new(sections: Vec<Section>, seats: Vec<Seat>) -> SeatMap {
        let seat_by_label = (0..)
            .zip(&seats)
            .map(|(no, seat)| (seat.label.clone(), no))
            .collect();
        let section_by_name = (0..)
            .zip(&sections)
            .map(|(no, section)| (section.name.clone(), no))
            .collect();
        SeatMap {
            quotes: quotes(&sections, &seats),
            sections,
            seats,
            seat_by_label,
            section_by_name,
        }
    }

    pub fn section(&self, section: SectionNo) -> &Section {
        &self.sections[section as usize]
    }

    pub fn seat(&self, seat: SeatNo) -> &Seat {
        &self.seats[seat as usize]
    }

    pub fn find_seat(&self, label: &str) -> Option<SeatNo> {
        self.seat_by_label.get(label).copied()
    }

    pub fn find_section(&self, name: &str) -> Option<SectionNo> {
        self.section_by_name.get(name).copied()
    }

    /// What one seat costs.
    pub fn seat_price(&self, seat: SeatNo) -> Price {
        price_of(&self.sections, self.seat(seat))
    }

    /// What one seat or place of a section costs. Categories that no seat has do not count.
    pub fn section_quote(&self, section: SectionNo) -> Quote {
        self.quotes[section as usize]
    }

    /// The name of a seat's category, if it has one.
    pub fn category_name(&self, seat: &Seat) -> Option<&str> {
        let categories = &self.section(seat.section).categories;
        seat.category
            .map(|category| categories[category as usize].name.as_str())
    }
}

fn price_of(sections: &[Section], seat: &Seat) -> Price {
    let section = &sections[seat.section as usize];
    match seat.category {
        None => section.base_price(),
        Some(category) => {
            let category = &section.categories[category as usize];
            Price {
                total: category.price,
                fees: category.fee,
            }
        }
    }
}

fn quotes(sections: &[Section], seats: &[Seat]) -> Vec<Quote> {
    let mut quotes: Vec<Option<Quote>> = vec![None; sections.len()];
    for seat in seats {
        let price = price_of(sections, seat);
        let quote = &mut quotes[seat.section as usize];
        *quote = Some(match *quote {
            None => Quote::Fixed(price),
            Some(Quote::Fixed(same)) if same == price => Quote::Fixed(same),
            Some(other) => Quote::From(other.cheapest().min(price.total)),
        });
    }
    let base = sections.iter().map(Section::base_price);
    base.zip(quotes)
        .map(|(base, quote)| quote.unwrap_or(Quote::Fixed(base)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::drawn::{FEE, PRICE, drawn};

    #[test]
    fn a_seat_costs_what_its_category_costs_and_without_one_what_its_section_costs() {
        let inventory = drawn(&["..", ".a", "5 places"]);
        let map = inventory.map();
        let price = |total, fees| Price { total, fees };
        assert_eq!(map.seat_price(0), price(PRICE, FEE));
        assert_eq!(map.seat_price(2), price(2 * PRICE, 2 * FEE));
        assert_eq!(map.seat_price(3), price(PRICE, 0));
        assert_eq!(map.category_name(map.seat(2)), None);
        assert_eq!(map.category_name(map.seat(3)), Some("a"));
    }

    #[test]
    fn a_section_has_one_price_if_all_its_seats_have() {
        let quote = |section: &str| drawn(&[section]).map().section_quote(0);
        let fixed = |total, fees| Quote::Fixed(Price { total, fees });
        assert_eq!(quote("..x"), fixed(PRICE, FEE));
        assert_eq!(quote("aaA"), fixed(PRICE / 2, 0));
        assert_eq!(quote("5 places"), fixed(PRICE, FEE));
        assert_eq!(quote("..A"), Quote::From(PRICE / 2));
        // As dear as the others, but without fees.
        assert_eq!(quote("..b"), Quote::From(PRICE));
    }
}
