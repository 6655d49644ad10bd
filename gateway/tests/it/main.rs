//! The gateway over real HTTP, as its client, its buyers and its callbacks see it.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

mod callbacks;
mod cards;
mod charges;
mod harness;
mod journal;
mod troubles;
