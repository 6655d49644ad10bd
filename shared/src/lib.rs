//! What the API and the workers agree on: the rules, the statements, the queue.
//!
//! `domain` knows no SQL, no clock and no randomness; `store` holds every statement; `queue` makes
//! the log an apalis backend. Each imports only from those before it.

pub mod domain;
pub mod events;
pub mod group_commit;
pub mod queue;
pub mod retry;
pub mod settle;
pub mod store;
pub mod telemetry;
pub mod webhooks;
