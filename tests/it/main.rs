//! Whole-system tests: the real binary, a real Postgres, real HTTP.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

mod answers;
mod bad_input;
mod crashes;
mod database_outage;
mod dev;
mod flood;
mod guards;
mod harness;
mod holds;
mod house;
mod late_payments;
mod limits;
mod long_polls;
mod many_shows;
mod operators;
mod payment_callbacks;
mod payment_crashes;
mod payment_races;
mod payments;
mod prices;
mod probes;
mod quarantine;
mod reconciliation;
mod recovery;
mod sale;
mod schema;
mod seeds;
mod self_test;
mod start_up;
mod statements;
mod webhooks;
mod wishes;
