//! The best single seats for who cannot pay the best ones of a section with several prices.
//!
//! Among all choices that cost at most the maximum, the one with the best first seat wins, among these
//! the one with the best second seat, and so on. It is found by looking at each free seat of the section
//! once to count the prices, and once more in the order of rank: a seat is taken if enough is left to
//! pay the cheapest of the others. That is some nanoseconds for each free seat, and for each seat taken
//! a look at each price that the section has.

use std::collections::BTreeMap;

use super::BestAvailable;
use crate::domain::{Amount, SeatNo, SectionNo};

/// How many seats cost how much.
type Prices = BTreeMap<Amount, i32>;

impl BestAvailable {
    /// The best `quantity` free seats that cost at most `max_total` together, wherever they are in the
    /// section, in ascending order; `None` if there are none.
    pub fn singles_within(
        &self,
        section: SectionNo,
        quantity: i32,
        max_total: Amount,
    ) -> Option<Vec<SeatNo>> {
        let mut left = Prices::new();
        for seat in self.by_rank(section) {
            *left.entry(self.price(seat)).or_default() += 1;
        }
        let mut budget = max_total;
        let mut may_cost = dearest(&left, quantity, budget)?;
        let mut seats = Vec::new();
        for seat in self.by_rank(section) {
            let price = self.price(seat);
            if let Some(count) = left.get_mut(&price) {
                *count -= 1;
            }
            if price > may_cost {
                continue;
            }
            seats.push(seat);
            budget -= price;
            let missing = quantity - seats.len() as i32;
            if missing == 0 {
                break;
            }
            may_cost = dearest(&left, missing, budget)?;
        }
        seats.sort_unstable();
        Some(seats)
    }

    fn price(&self, seat: SeatNo) -> Amount {
        let seat = seat as usize;
        self.index.totals_before[seat + 1] - self.index.totals_before[seat]
    }
}

/// The most that one of `quantity` seats may cost if the others are the cheapest; `None` if there are
/// not so many, or even the cheapest cost more than the budget. `quantity` is at least 1.
///
/// Passing over a seat that costs more never changes the answer, for it is not among the cheapest.
fn dearest(left: &Prices, quantity: i32, budget: Amount) -> Option<Amount> {
    let mut missing = quantity;
    let mut sum = 0;
    for (&price, &count) in left {
        let taken = count.min(missing);
        missing -= taken;
        sum += price * Amount::from(taken);
        if missing == 0 {
            return (sum <= budget).then_some(budget - (sum - price));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::domain::drawn::{PRICE, drawn};

    /// Half prices that the best single seats of a hall of one section may cost.
    fn singles(section: &str, quantity: i32, halves: i64) -> Option<Vec<i32>> {
        drawn(&[section]).best_singles_within(0, quantity, halves * PRICE / 2)
    }

    #[test]
    fn the_best_seats_come_first_as_long_as_the_rest_can_be_paid() {
        // In this order: six, two and one half prices.
        assert_eq!(singles("cc..aa", 2, 12), Some(vec![0, 1]));
        assert_eq!(singles("cc..aa", 2, 11), Some(vec![0, 2]));
        assert_eq!(singles("cc..aa", 2, 7), Some(vec![0, 4]));
        assert_eq!(singles("cc..aa", 2, 6), Some(vec![2, 3]));
        assert_eq!(singles("cc..aa", 2, 3), Some(vec![2, 4]));
        assert_eq!(singles("cc..aa", 2, 2), Some(vec![4, 5]));
        assert_eq!(singles("cc..aa", 2, 1), None);
    }

    #[test]
    fn the_maximum_may_be_spent_and_not_a_cent_more() {
        let within = |max_total| drawn(&["cxc.a"]).best_singles_within(0, 2, max_total);
        assert_eq!(within(6 * PRICE), Some(vec![0, 2]));
        assert_eq!(within(6 * PRICE - 1), Some(vec![0, 3]));
        assert_eq!(within(PRICE * 3 / 2), Some(vec![3, 4]));
        assert_eq!(within(PRICE * 3 / 2 - 1), None);
    }

    #[test]
    fn taken_seats_are_neither_given_nor_counted() {
        assert_eq!(singles("ccA.xa", 2, 7), Some(vec![0, 5]));
        assert_eq!(singles("ccA.xa", 2, 2), None);
        assert_eq!(singles("ccA.xa", 4, 15), Some(vec![0, 1, 3, 5]));
        assert_eq!(singles("ccA.xa", 5, 99), None);
    }

    #[test]
    fn a_seat_that_was_taken_pays_for_no_other() {
        // The half price of the first seat is spent, not left for the third one.
        assert_eq!(singles("acc..", 3, 9), Some(vec![0, 1, 3]));
        assert_eq!(singles("acc..", 3, 8), Some(vec![0, 3, 4]));
    }

    #[test]
    fn seats_of_one_price_are_taken_by_rank() {
        assert_eq!(singles("aaA aaa", 3, 3), Some(vec![0, 1, 3]));
    }
}
