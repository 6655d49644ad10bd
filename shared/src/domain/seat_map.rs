//! The fixed part of a show: its sections and seats, numbered by their place in the map.
//!
//! A map never changes after the show was created, so it may be kept for ever.

use std::collections::HashMap;

use super::{Amount, SeatNo, SectionNo};

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

/// A part of the hall with one price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub kind: SectionKind,
    /// All-in, for each seat or place.
    pub price: Amount,
    /// Seats or places.
    pub capacity: i32,
}

/// One seat.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    pub section: SectionNo,
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
    pub fn seat_price(&self, seat: SeatNo) -> Amount {
        self.section(self.seat(seat).section).price
    }
}
