//! Whole-system tests: the real binary, a real Postgres, real HTTP.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

mod dev;
mod harness;
mod house;
mod probes;
mod schema;
mod self_test;
mod start_up;
mod statements;
