//! The rules about seats, holds, order and money: values in, values out.

mod best_available;
pub mod decide;
#[cfg(test)]
mod drawn;
pub mod estimate;
pub mod hold;
pub mod inventory;
pub mod outcome;
pub mod payment;
pub mod price;
pub mod sale;
pub mod seat_map;
pub mod webhook;
pub mod wish;

/// A request's place in its show's log: 1 for the first, no gaps, never changed.
pub type Position = i64;

/// A seat's index in its show's seat map, from 0.
pub type SeatNo = i32;

/// A section's index in its show's seat map, from 0.
pub type SectionNo = i16;

/// A category's index in its section, from 0.
pub type CategoryNo = i16;

/// Money in minor units (cents) of the show's currency.
pub type Amount = i64;
