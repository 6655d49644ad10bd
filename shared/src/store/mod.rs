//! Every SQL statement, in the file of the table that it changes.
//!
//! A function that takes `&mut PgConnection` joins the caller's transaction; one that takes `&PgPool`
//! stands alone. Lock order: `show_intake` or `show_progress`, then `show_inventory`. Sections,
//! seats, holds and totals change only under the `show_inventory` lock of their show, so below it no
//! order can deadlock.

pub mod across_shows;
pub mod api_keys;
pub mod bare;
pub mod booking_requests;
pub mod bookings;
pub mod buyer_totals;
pub mod check;
pub mod check_payments;
pub mod database;
pub mod error;
pub mod gateway_events;
pub mod hold_seats;
pub mod holds;
pub mod jobs;
pub mod notify;
pub mod outbox;
pub mod outbox_progress;
pub mod outcomes;
pub mod payments;
pub mod request_status;
pub mod seat_status;
pub mod seats;
pub mod sections;
pub mod show_intake;
pub mod show_inventory;
pub mod show_progress;
pub mod shows;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhook_streams;

pub use database::{Database, DatabaseSettings};
