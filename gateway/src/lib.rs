//! The simulated payment gateway: its own HTTP server with a ledger of its own.
//!
//! It moves no money. Each card can be told to go wrong in the ways of real gateways, so that the rest
//! of Stampede can be tested against them over HTTP. [`Gateway::bind`] and [`Gateway::run`] are all that
//! a process needs.
//!
//! `routes.rs` is the table of URLs. `charges.rs` says what can become of a charge, `cards.rs` what a
//! card does, `book.rs` keeps all that happened and `journal.rs` writes it down; `callbacks.rs` tells it.

mod app;
mod behaviour;
mod book;
mod bounded;
mod callbacks;
mod cards;
mod charges;
mod error;
mod ids;
mod journal;
mod keys;
mod ledger;
mod method_routes;
mod pages;
mod routes;
mod server;
mod settings;
mod signature;
mod view;

pub use server::Gateway;
pub use settings::Settings;
