//! Whole-system tests: the real binary, a real Postgres, real HTTP.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

mod crashes;
mod database_outage;
mod dev;
mod flood;
mod harness;
mod house;
mod many_shows;
mod probes;
mod quarantine;
mod schema;
mod self_test;
mod start_up;
mod statements;
