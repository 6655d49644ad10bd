//! What is free, as the worker keeps it in memory between turns.

use std::sync::Arc;

use super::{SeatNo, SectionNo, seat_map::SeatMap};

/// The free seats and places of one show at one version.
#[derive(Debug, Clone)]
pub struct Inventory {
    map: Arc<SeatMap>,
    /// Of each seat.
    free: Vec<bool>,
    /// Of each section: free seats or places.
    free_in_section: Vec<i32>,
    free_in_show: i64,
}

impl Inventory {
    /// Everything taken; the caller then sets what is free.
    pub fn new(map: Arc<SeatMap>) -> Inventory {
        let free = vec![false; map.seats.len()];
        let free_in_section = vec![0; map.sections.len()];
        Inventory { map, free, free_in_section, free_in_show: 0 }
    }

    pub fn map(&self) -> &SeatMap {
        &self.map
    }

    pub fn is_free(&self, seat: SeatNo) -> bool {
        self.free[seat as usize]
    }

    /// Marks a seat free or taken; no change if it is so already.
    pub fn set_seat(&mut self, seat: SeatNo, free: bool) {
        let was = std::mem::replace(&mut self.free[seat as usize], free);
        let change = i32::from(free) - i32::from(was);
        self.free_in_section[self.map.seat(seat).section as usize] += change;
        self.free_in_show += i64::from(change);
    }

    /// Sets how many places of a general-admission section are free.
    pub fn set_places(&mut self, section: SectionNo, free: i32) {
        let was = std::mem::replace(&mut self.free_in_section[section as usize], free);
        self.free_in_show += i64::from(free - was);
    }

    /// Free seats or places of a section.
    pub fn free_in_section(&self, section: SectionNo) -> i32 {
        self.free_in_section[section as usize]
    }

    /// Free seats and places of the show.
    pub fn free_in_show(&self) -> i64 {
        self.free_in_show
    }
}
