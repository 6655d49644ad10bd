//! What best available knows of a seat map beforehand: the order in which to look, and the sums.

use std::ops::Range;

use crate::domain::{Amount, SeatNo, SectionNo, seat_map::SeatMap};

/// The part that never changes.
#[derive(Debug)]
pub struct Index {
    /// By section, then by best rank, then by seat number.
    pub blocks: Vec<Block>,
    pub blocks_of_section: Vec<Range<usize>>,
    pub block_of_seat: Vec<u32>,
    /// The sum of the ranks of all seats before this one; one longer than the seats.
    pub ranks_before: Vec<i64>,
    /// The same of what they cost.
    pub totals_before: Vec<Amount>,
    /// The seat of each bit of `free_by_rank`; sections begin at whole words.
    pub seat_of_bit: Vec<SeatNo>,
    pub bit_of_seat: Vec<u32>,
    pub words_of_section: Vec<Range<usize>>,
}

/// Seats that follow each other in a row without an aisle.
#[derive(Debug)]
pub struct Block {
    pub section: SectionNo,
    pub first: SeatNo,
    pub length: i32,
    pub best_rank: i32,
}

impl Index {
    pub fn new(map: &SeatMap) -> Index {
        let (blocks, block_of_seat) = blocks(map);
        let mut index = Index {
            blocks_of_section: ranges(map.sections.len(), blocks.iter().map(|block| block.section)),
            blocks,
            block_of_seat,
            ranks_before: sums(map.seats.iter().map(|seat| i64::from(seat.rank))),
            totals_before: sums(
                (0..)
                    .zip(&map.seats)
                    .map(|(no, _)| map.seat_price(no).total),
            ),
            seat_of_bit: Vec::new(),
            bit_of_seat: vec![0; map.seats.len()],
            words_of_section: Vec::new(),
        };
        index.order_by_rank(map);
        index
    }

    /// Gives each seat its bit.
    fn order_by_rank(&mut self, map: &SeatMap) {
        let mut by_rank: Vec<SeatNo> = (0..).take(map.seats.len()).collect();
        by_rank.sort_by_key(|&seat| (map.seat(seat).section, map.seat(seat).rank, seat));
        let sections = by_rank.iter().map(|&seat| map.seat(seat).section);
        for seats in ranges(map.sections.len(), sections) {
            let first_word = self.seat_of_bit.len() / 64;
            for &seat in &by_rank[seats] {
                self.bit_of_seat[seat as usize] = self.seat_of_bit.len() as u32;
                self.seat_of_bit.push(seat);
            }
            let words = self.seat_of_bit.len().div_ceil(64);
            self.seat_of_bit.resize(words * 64, SeatNo::MAX);
            self.words_of_section.push(first_word..words);
        }
    }
}

/// The blocks in the order of [`Index::blocks`], and the number of each seat's block.
fn blocks(map: &SeatMap) -> (Vec<Block>, Vec<u32>) {
    let mut blocks: Vec<Block> = Vec::new();
    for (number, seat) in (0..).zip(&map.seats) {
        let before = map.seats.get((number as usize).wrapping_sub(1));
        let next_to_it = before.is_some_and(|before| {
            (before.section, before.row_no) == (seat.section, seat.row_no)
                && i32::from(before.row_seat) + 1 == i32::from(seat.row_seat)
        });
        match blocks.last_mut().filter(|_| next_to_it) {
            Some(block) => {
                block.length += 1;
                block.best_rank = block.best_rank.min(seat.rank);
            }
            None => blocks.push(Block {
                section: seat.section,
                first: number,
                length: 1,
                best_rank: seat.rank,
            }),
        }
    }
    blocks.sort_by_key(|block| (block.section, block.best_rank, block.first));
    let mut block_of_seat = vec![0; map.seats.len()];
    for (number, block) in (0..).zip(&blocks) {
        let seats = block.first as usize..(block.first + block.length) as usize;
        block_of_seat[seats].fill(number);
    }
    (blocks, block_of_seat)
}

/// The sum before each of the numbers, and that of all.
fn sums(numbers: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut sum = 0;
    let up_to = numbers.map(|number| {
        sum += number;
        sum
    });
    std::iter::once(0).chain(up_to).collect()
}

/// For each section, where its items are in a list that is sorted by section.
fn ranges(sections: usize, section_of_items: impl Iterator<Item = SectionNo>) -> Vec<Range<usize>> {
    let mut counts = vec![0; sections];
    for section in section_of_items {
        counts[section as usize] += 1;
    }
    let mut start = 0;
    counts
        .into_iter()
        .map(|count| {
            start += count;
            start - count..start
        })
        .collect()
}
