//! The best seats that are free in a section: neighbours in one row, or the best single ones.
//!
//! - Best is the smallest sum of ranks; equal sums go by seat number.
//! - Neighbours are within one *block*: the seats of a row between two aisles or row ends.
//! - Neighbours that leave no new *orphan* come first. An orphan is a free seat without a free
//!   neighbour that had one before. Only when every choice leaves one is the best of them taken,
//!   which is so only where each run of free seats that is long enough is one seat too long.
//!
//! Blocks are looked at in the order of their best rank, and the search ends at the first block that
//! cannot hold anything better. Blocks without a long enough run are skipped by what was seen in them
//! last time, so that a section that is almost sold out, the case in which every request fails, costs
//! one comparison for each of its blocks.
//!
//! A search within a maximum ([`BestAvailable::neighbours_within`], [`BestAvailable::singles_within`]) is
//! for sections whose seats cost different prices. It looks at every free seat until it has what it
//! wants, so it is for those only who could not pay the best.

mod index;
mod within;

use std::{ops::Range, sync::Arc};

use self::index::{Block, Index};
use super::{Amount, SeatNo, SectionNo, seat_map::SeatMap};

/// What a search needs to know beside which seats are free.
#[derive(Debug, Clone)]
pub(super) struct BestAvailable {
    index: Arc<Index>,
    /// Of each block: no run of free seats is longer than this. It may be shorter.
    longest_run: Vec<i32>,
    /// A bit for each seat, those of a section together and in the order of rank.
    free_by_rank: Vec<u64>,
}

/// Seats to take together; ordered by what is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    ranks: i64,
    first: SeatNo,
}

/// What a search has found so far.
#[derive(Debug, Default)]
struct Found {
    /// The best window that leaves no new orphan.
    clean: Option<Window>,
    best: Option<Window>,
}

impl BestAvailable {
    /// Everything taken.
    pub(super) fn new(map: &SeatMap) -> BestAvailable {
        let index = Arc::new(Index::new(map));
        BestAvailable {
            longest_run: vec![0; index.blocks.len()],
            free_by_rank: vec![0; index.seat_of_bit.len() / 64],
            index,
        }
    }

    /// Notes that a seat was freed or taken.
    pub(super) fn set_seat(&mut self, seat: SeatNo, free: bool) {
        let bit = self.index.bit_of_seat[seat as usize] as usize;
        let mask = 1 << (bit % 64);
        if free {
            self.free_by_rank[bit / 64] |= mask;
            let block = self.index.block_of_seat[seat as usize] as usize;
            self.longest_run[block] = self.index.blocks[block].length;
        } else {
            self.free_by_rank[bit / 64] &= !mask;
        }
    }

    /// The first of the best `quantity` neighbours, if there are so many side by side.
    pub(super) fn neighbours(
        &mut self,
        free: &[bool],
        section: SectionNo,
        quantity: i32,
    ) -> Option<SeatNo> {
        self.neighbours_where(free, section, quantity, |_, _| true)
    }

    /// The same among those that cost at most `max_total` together. Blocks of dear seats do not end the
    /// search, so it looks at up to all seats of the section.
    pub(super) fn neighbours_within(
        &mut self,
        free: &[bool],
        section: SectionNo,
        quantity: i32,
        max_total: Amount,
    ) -> Option<SeatNo> {
        self.neighbours_where(free, section, quantity, |index, seats| {
            index.totals_before[seats.end] - index.totals_before[seats.start] <= max_total
        })
    }

    fn neighbours_where(
        &mut self,
        free: &[bool],
        section: SectionNo,
        quantity: i32,
        wanted: impl Fn(&Index, Range<usize>) -> bool,
    ) -> Option<SeatNo> {
        let mut found = Found::default();
        for number in self.index.blocks_of_section[section as usize].clone() {
            if self.longest_run[number] < quantity {
                continue;
            }
            let block = &self.index.blocks[number];
            if found
                .clean
                .is_some_and(|clean| clean < bound(block, quantity))
            {
                break;
            }
            self.longest_run[number] =
                search(&self.index, block, free, quantity, &wanted, &mut found);
        }
        found.clean.or(found.best).map(|window| window.first)
    }

    /// The best `quantity` free seats wherever they are in the section, in ascending order; fewer if
    /// there are fewer.
    pub(super) fn singles(&self, section: SectionNo, quantity: i32) -> Vec<SeatNo> {
        let quantity = quantity as usize;
        let mut seats = Vec::with_capacity(quantity.min(64));
        seats.extend(self.by_rank(section).take(quantity));
        seats.sort_unstable();
        seats
    }

    /// The free seats of a section, the best first.
    fn by_rank(&self, section: SectionNo) -> impl Iterator<Item = SeatNo> {
        let words = self.index.words_of_section[section as usize].clone();
        words.flat_map(move |word| {
            let mut bits = self.free_by_rank[word];
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(self.index.seat_of_bit[word * 64 + bit])
            })
        })
    }
}

/// No window of the block is better than this.
fn bound(block: &Block, quantity: i32) -> Window {
    Window {
        ranks: i64::from(block.best_rank) * i64::from(quantity),
        first: block.first,
    }
}

impl Found {
    fn offer(&mut self, window: Window, clean: bool) {
        let better = |than: Option<Window>| than.is_none_or(|than| window < than);
        if clean && better(self.clean) {
            self.clean = Some(window);
        }
        if better(self.best) {
            self.best = Some(window);
        }
    }
}

/// Offers every wanted window of a block; returns the length of its longest run of free seats.
fn search(
    index: &Index,
    block: &Block,
    free: &[bool],
    quantity: i32,
    wanted: impl Fn(&Index, Range<usize>) -> bool,
    found: &mut Found,
) -> i32 {
    let quantity = quantity as usize;
    let block = block.first as usize..(block.first + block.length) as usize;
    let mut longest = 0;
    let mut run_first = block.start;
    let taken = block.clone().filter(|&seat| !free[seat]);
    for run_end in taken.chain([block.end]) {
        let run = run_first..run_end;
        run_first = run_end + 1;
        longest = longest.max(run.len());
        if run.len() < quantity {
            continue;
        }
        for first in run.start..=run.end - quantity {
            if !wanted(index, first..first + quantity) {
                continue;
            }
            let ranks = index.ranks_before[first + quantity] - index.ranks_before[first];
            let clean = first - run.start != 1 && run.end - quantity - first != 1;
            let first = first as SeatNo;
            found.offer(Window { ranks, first }, clean);
        }
    }
    longest as i32
}

#[cfg(test)]
mod tests {
    use crate::domain::drawn::drawn;

    /// The best neighbours in a hall of one section.
    fn best(section: &str, quantity: i32) -> Option<Vec<i32>> {
        drawn(&[section]).best_neighbours(0, quantity)
    }

    #[test]
    fn the_best_neighbours_have_the_smallest_sum_of_ranks() {
        assert_eq!(best("97531579", 3), Some(vec![2, 3, 4]));
        assert_eq!(best("975x9999 99512999", 3), Some(vec![10, 11, 12]));
        // One excellent seat does not outweigh two bad ones.
        assert_eq!(best("0999x4444", 2), Some(vec![5, 6]));
    }

    #[test]
    fn equal_ranks_go_by_seat_number() {
        assert_eq!(best("5555 5555", 2), Some(vec![0, 1]));
        assert_eq!(best("x555 5555", 1), Some(vec![1]));
        assert_eq!(best("4422 2244", 2), Some(vec![2, 3]));
    }

    #[test]
    fn neighbours_never_sit_across_an_aisle_a_taken_seat_or_a_row_end() {
        assert_eq!(best("..|.. ..", 3), None);
        assert_eq!(best(".x.", 2), None);
        assert_eq!(best(".|.", 2), None);
        assert_eq!(best(". . .", 2), None);
        assert_eq!(best(".. ||..", 3), None);
        assert_eq!(best("..|...", 3), Some(vec![2, 3, 4]));
    }

    #[test]
    fn a_choice_that_leaves_one_seat_alone_is_passed_over_for_a_worse_one() {
        // Seats 0 and 1 are the best, and would leave seat 2 alone.
        assert_eq!(best("... ..", 2), Some(vec![3, 4]));
        // In the middle of four: one would be alone on each side.
        assert_eq!(best("5005", 2), Some(vec![0, 1]));
        // An aisle leaves a seat as alone as a row end.
        assert_eq!(best("...|..", 2), Some(vec![3, 4]));
        assert_eq!(best(".. .", 1), Some(vec![2]));
    }

    #[test]
    fn a_seat_that_was_alone_before_does_not_count() {
        assert_eq!(best(".x..x.", 2), Some(vec![2, 3]));
        assert_eq!(best(".x...", 1), Some(vec![0]));
    }

    #[test]
    fn when_every_choice_leaves_one_seat_alone_the_best_is_taken() {
        assert_eq!(best("...", 2), Some(vec![0, 1]));
        assert_eq!(best("921x100", 2), Some(vec![5, 6]));
        assert_eq!(best("921x012", 2), Some(vec![4, 5]));
        assert_eq!(best("..", 1), Some(vec![0]));
    }

    #[test]
    fn a_returned_seat_is_found_after_a_search_that_failed() {
        let mut inventory = drawn(&["..x.. ..|.."]);
        assert_eq!(inventory.best_neighbours(0, 3), None);
        inventory.set_seat(2, true);
        assert_eq!(inventory.best_neighbours(0, 5), Some(vec![0, 1, 2, 3, 4]));
        inventory.set_seat(4, false);
        assert_eq!(inventory.best_neighbours(0, 5), None);
        assert_eq!(inventory.best_neighbours(0, 4), Some(vec![0, 1, 2, 3]));
    }

    #[test]
    fn the_best_singles_are_the_lowest_ranks_wherever_they_are() {
        let inventory = drawn(&["3x1 x0x 2x2", "0000"]);
        assert_eq!(inventory.best_singles(0, 1), Some(vec![4]));
        assert_eq!(inventory.best_singles(0, 3), Some(vec![2, 4, 6]));
        assert_eq!(inventory.best_singles(0, 5), Some(vec![0, 2, 4, 6, 8]));
        assert_eq!(inventory.best_singles(0, 6), None);
        assert_eq!(inventory.best_singles(1, 2), Some(vec![9, 10]));
    }

    #[test]
    fn a_section_of_many_words_is_searched_to_its_end() {
        let row = "x".repeat(199) + ". " + &"x".repeat(70) + "..";
        let mut inventory = drawn(&["...", &row]);
        assert_eq!(inventory.best_singles(1, 3), Some(vec![202, 273, 274]));
        assert_eq!(inventory.best_neighbours(1, 2), Some(vec![273, 274]));
    }
}
