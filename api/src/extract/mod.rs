//! What handlers take out of a request; a wrong one is refused as a problem before the handler runs.

mod body;
mod buyer;
mod client_address;
mod conditional;
mod idempotency_key;
mod operator;
mod path;
mod wait;

pub use body::{JsonBody, OptionalBody};
pub use buyer::Buyer;
pub use client_address::{ClientAddress, Peer};
pub use conditional::{IfNoneMatch, etag_of};
pub use idempotency_key::{IDEMPOTENCY_REPLAYED, IdempotencyKey};
pub use operator::{Admin, Operator, Viewer};
pub use path::{Path, Query};
pub use wait::Wait;

use axum::http::{HeaderMap, header};

use crate::error::Problem;

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        Problem::unauthorized("an Authorization header with a bearer token is needed")
    })?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| {
            Problem::unauthorized("the Authorization header must be `Bearer` and a token")
        })?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::unauthorized(
            "the Authorization header must be `Bearer` and a token",
        ));
    }
    Ok(token.trim())
}
