//! Who asks, by a buyer's token.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::Utc;

use super::bearer;
use crate::{app::SharedApp, buyer_tokens::BuyerId, error::Problem};

/// The buyer whose token was presented.
pub struct Buyer(pub BuyerId);

impl FromRequestParts<SharedApp> for Buyer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Buyer, Problem> {
        let token = bearer(&parts.headers)?;
        let buyer_id = app
            .buyer_tokens
            .check(token, Utc::now())
            .map_err(Problem::unauthorized)?;
        Ok(Buyer(buyer_id))
    }
}
