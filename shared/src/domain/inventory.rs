//! What is free, as the worker keeps it in memory between turns.
//!
//! Every count is always that of the seats and places behind it.

use std::sync::Arc;

use super::{Amount, SeatNo, SectionNo, best_available::BestAvailable, seat_map::SeatMap};

/// The free seats and places of one show at one version.
#[derive(Debug, Clone)]
pub struct Inventory {
    map: Arc<SeatMap>,
    /// Of each seat.
    free: Vec<bool>,
    /// Of each section: free seats or places.
    free_in_section: Vec<i32>,
    free_in_show: i64,
    best: BestAvailable,
}

impl Inventory {
    /// Everything taken; the caller then sets what is free.
    pub fn new(map: Arc<SeatMap>) -> Inventory {
        Inventory {
            free: vec![false; map.seats.len()],
            free_in_section: vec![0; map.sections.len()],
            free_in_show: 0,
            best: BestAvailable::new(&map),
            map,
        }
    }

    pub fn map(&self) -> &SeatMap {
        &self.map
    }

    pub fn is_free(&self, seat: SeatNo) -> bool {
        self.free[seat as usize]
    }

    /// Marks a seat free or taken; no change if it is so already.
    pub fn set_seat(&mut self, seat: SeatNo, free: bool) {
        if self.is_free(seat) == free {
            return;
        }
        let change = if free { 1 } else { -1 };
        self.free[seat as usize] = free;
        self.free_in_section[self.map.seat(seat).section as usize] += change;
        self.free_in_show += i64::from(change);
        self.best.set_seat(seat, free);
    }

    /// Sets how many places of a general-admission section are free; less than none counts as none.
    pub fn set_places(&mut self, section: SectionNo, free: i32) {
        let free = free.max(0);
        let was = std::mem::replace(&mut self.free_in_section[section as usize], free);
        self.free_in_show += i64::from(free) - i64::from(was);
    }

    /// Free seats or places of a section.
    pub fn free_in_section(&self, section: SectionNo) -> i32 {
        self.free_in_section[section as usize]
    }

    /// Free seats and places of the show.
    pub fn free_in_show(&self) -> i64 {
        self.free_in_show
    }

    /// The best free neighbours of a section, in ascending order; `None` if there are not so many
    /// side by side. `quantity` is at least 1.
    pub fn best_neighbours(&mut self, section: SectionNo, quantity: i32) -> Option<Vec<SeatNo>> {
        let first = self.best.neighbours(&self.free, section, quantity)?;
        Some((first..first + quantity).collect())
    }

    /// The same among those that cost at most `max_total` together. It may look at every seat of the
    /// section.
    pub fn best_neighbours_within(
        &mut self,
        section: SectionNo,
        quantity: i32,
        max_total: Amount,
    ) -> Option<Vec<SeatNo>> {
        let best = &mut self.best;
        let first = best.neighbours_within(&self.free, section, quantity, max_total)?;
        Some((first..first + quantity).collect())
    }

    /// The best free seats of a section wherever they are, in ascending order; `None` if there are not
    /// so many. `quantity` is at least 1.
    pub fn best_singles(&self, section: SectionNo, quantity: i32) -> Option<Vec<SeatNo>> {
        let seats = self.best.singles(section, quantity);
        (seats.len() == quantity as usize).then_some(seats)
    }

    /// The same among those that cost at most `max_total` together: the best seat that leaves enough for
    /// the others, then the next. It looks at every free seat of the section.
    pub fn best_singles_within(
        &self,
        section: SectionNo,
        quantity: i32,
        max_total: Amount,
    ) -> Option<Vec<SeatNo>> {
        self.best.singles_within(section, quantity, max_total)
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::drawn::{drawn, free_seats};

    #[test]
    fn a_new_inventory_has_nothing_free() {
        let map = drawn(&["...", "5 places"]).map.clone();
        let inventory = super::Inventory::new(map);
        assert_eq!(inventory.free_in_show(), 0);
        assert!(free_seats(&inventory).is_empty());
    }

    #[test]
    fn a_seat_that_is_set_twice_counts_once() {
        let mut inventory = drawn(&["..x", "...", "5 places"]);
        for _ in 0..2 {
            inventory.set_seat(0, false);
            inventory.set_seat(2, true);
            inventory.set_seat(4, false);
        }
        assert_eq!(free_seats(&inventory), [1, 2, 3, 5]);
        assert_eq!(inventory.free_in_section(0), 2);
        assert_eq!(inventory.free_in_section(1), 2);
        assert_eq!(inventory.free_in_show(), 9);
    }

    #[test]
    fn places_are_never_less_than_none() {
        let mut inventory = drawn(&["...", "5 places"]);
        inventory.set_places(1, -7);
        assert_eq!(inventory.free_in_section(1), 0);
        assert_eq!(inventory.free_in_show(), 3);
        inventory.set_places(1, 2);
        assert_eq!(inventory.free_in_show(), 5);
    }

    #[test]
    fn a_copy_changes_alone() {
        let before = drawn(&["....."]);
        let mut after = before.clone();
        after.set_seat(2, false);
        assert_eq!(before.free_in_show(), 5);
        assert!(before.is_free(2));
        assert_eq!(before.best_singles(0, 5), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(after.best_singles(0, 5), None);
    }
}
