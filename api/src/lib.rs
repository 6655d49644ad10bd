//! The HTTP server: intake, answers, operators.
//!
//! [`Server::bind`] and [`Server::run`] are all that a process needs. `routes.rs` is the table of URLs;
//! `routes/` has what answers them, `extract/` what they take out of a request. A submission goes
//! through `submission.rs` (its words become numbers) to `intake.rs` (its position, durable); its answer
//! comes from `outcomes.rs`.

mod app;
mod booking_view;
mod buyer_tokens;
mod cache;
mod callbacks;
mod catalog;
mod desk;
mod error;
mod extract;
mod intake;
mod lookups;
mod observe;
mod operator_keys;
mod outcomes;
mod paying;
mod rate_limit;
mod request_view;
mod routes;
mod seat_board;
mod server;
mod settings;
mod show_body;
mod show_view;
mod submission;
mod waiters;
mod watermarks;

use chrono::Utc;
use sqlx::PgPool;
use stampede_shared::store::api_keys::{self, ApiKey};
use uuid::Uuid;

pub use operator_keys::Role;
pub use server::Server;
pub use settings::{Rate, Settings};

/// Makes an operator's key and returns its id and the key itself, which nobody can read again.
pub async fn create_api_key(
    pool: PgPool,
    name: String,
    role: Role,
) -> sqlx::Result<(Uuid, String)> {
    let new = operator_keys::NewKey::generate();
    let api_key = ApiKey {
        api_key_id: Uuid::now_v7(),
        name,
        role: role.as_str().to_owned(),
        created_at: Utc::now(),
        revoked_at: None,
    };
    api_keys::create(&pool, &api_key, &new.hash).await?;
    Ok((api_key.api_key_id, new.key))
}
