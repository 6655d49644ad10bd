//! Anonymous buyers: a token for whoever asks.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{app::SharedApp, error::Problem, extract::ClientAddress};

/// A new buyer.
#[derive(Serialize, ToSchema)]
pub struct NewBuyer {
    buyer_id: String,
    /// Send it as `Authorization: Bearer …`. Whoever has it is the buyer.
    token: String,
    expires_at: DateTime<Utc>,
}

/// Makes an anonymous buyer.
///
/// 404 when the deployment has switched it off: then the shop in front mints the tokens.
#[utoipa::path(
    post, path = "/v1/buyers", tag = "requests",
    responses((status = 201, description = "The buyer and its token", body = NewBuyer))
)]
pub async fn create_buyer(
    State(app): State<SharedApp>,
    address: ClientAddress,
) -> Result<impl IntoResponse, Problem> {
    if !app.buyer_tokens.anonymous() {
        return Err(Problem::not_found(
            "thing: anonymous buyers are switched off",
        ));
    }
    let allowance = app.rate_limits.new_buyer(address.0)?;
    let buyer_id = format!("anonymous-{}", Uuid::now_v7());
    let (token, expires_at) = app
        .buyer_tokens
        .mint(&buyer_id, Utc::now())
        .ok_or_else(|| Problem::internal(anyhow::anyhow!("signing an anonymous buyer's token")))?;
    let buyer = NewBuyer {
        buyer_id,
        token,
        expires_at,
    };
    Ok((StatusCode::CREATED, allowance, Json(buyer)))
}
