//! Halls for tests, drawn as text.

use std::sync::Arc;

use super::{
    SeatNo,
    inventory::Inventory,
    seat_map::{Category, Seat, SeatMap, Section, SectionKind},
};

/// The price of a seat in section 0; it doubles with each section.
pub const PRICE: i64 = 1_000;

/// The part of the price that is fees; it doubles with each section.
pub const FEE: i64 = 100;

/// An inventory from drawn sections. A section is `5 places` (general admission) or rows with spaces
/// between them: `.` is a free seat, `x` a taken one, `|` an aisle, and a digit a free seat of that rank.
/// `a`, `b` and `c` are free seats of these categories (see [`categories`]), `A`, `B` and `C` taken ones.
/// All but digits rank from left to right and from row to row. Seats are numbered from 0.
pub fn drawn(sections: &[&str]) -> Inventory {
    let mut map_sections = Vec::new();
    let mut seats = Vec::new();
    let mut free = Vec::new();
    let mut places_of_sections = Vec::new();
    let mut row_no = 0;
    for (section, &drawing) in (0..).zip(sections) {
        let places = drawing
            .strip_suffix(" places")
            .map(|number| number.parse().expect("a number of places"));
        let first = seats.len();
        for row in drawing.split_whitespace().filter(|_| places.is_none()) {
            for (row_seat, place) in (0..).zip(row.chars()).filter(|(_, place)| *place != '|') {
                let rank = place.to_digit(10).unwrap_or((seats.len() - first) as u32);
                free.push(place != 'x' && !place.is_ascii_uppercase());
                let category = "abc".find(place.to_ascii_lowercase());
                seats.push(Seat {
                    section,
                    category: category.map(|category| category as i16),
                    label: format!("{}", seats.len()),
                    row_no,
                    row_seat,
                    rank: rank as i32,
                    x: 0.0,
                    y: 0.0,
                });
            }
            row_no += 1;
        }
        places_of_sections.extend(places.map(|places| (section, places)));
        map_sections.push(Section {
            name: format!("{section}"),
            kind: match places {
                Some(_) => SectionKind::GeneralAdmission,
                None => SectionKind::Seated,
            },
            price: PRICE << section,
            fee: FEE << section,
            categories: match places {
                Some(_) => Vec::new(),
                None => categories(PRICE << section),
            },
            capacity: places.unwrap_or((seats.len() - first) as i32),
        });
    }
    let mut inventory = Inventory::new(Arc::new(SeatMap::new(map_sections, seats)));
    for (seat, free) in (0..).zip(free) {
        inventory.set_seat(seat, free);
    }
    for (section, places) in places_of_sections {
        inventory.set_places(section, places);
    }
    inventory
}

/// In a section of this price: `a` costs half of it, `b` the same without fees, `c` three times of it,
/// and a third of that is fees.
fn categories(price: i64) -> Vec<Category> {
    [
        ("a", price / 2, 0),
        ("b", price, 0),
        ("c", 3 * price, price),
    ]
    .map(|(name, price, fee)| Category {
        name: name.to_owned(),
        price,
        fee,
    })
    .to_vec()
}

/// All free seats, in ascending order.
pub fn free_seats(inventory: &Inventory) -> Vec<SeatNo> {
    let seats = inventory.map().seats.len() as SeatNo;
    (0..seats).filter(|&seat| inventory.is_free(seat)).collect()
}
