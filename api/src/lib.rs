//! The HTTP server: intake, answers, operators.

mod desk;
mod group_commit;
mod intake;
mod outcomes;
mod waiters;
mod watermarks;
