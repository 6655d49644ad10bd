//! Why a call is refused, and how that is said: `{"error":{"code":"…","detail":"…"}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use thiserror::Error;
use tracing::error;

use crate::charges::Status;

#[derive(Debug, Error)]
pub enum Refusal {
    #[error("the secret key is missing or wrong")]
    Unauthorized,
    #[error("{0}")]
    Invalid(String),
    #[error("the header Idempotency-Key is missing, or has more than 255 bytes")]
    NoKey,
    #[error("the key was used for something else")]
    KeyReused,
    #[error("no such payment method")]
    UnknownMethod,
    #[error("no such charge")]
    UnknownCharge,
    #[error("nothing is here")]
    UnknownUrl,
    #[error("charge is {}", .0.as_str())]
    WrongState(Status),
    /// A bound was reached.
    #[error("the simulated gateway is full")]
    Full,
    #[error("too many calls hang")]
    TooManyHanging,
    #[error("the ledger cannot be written")]
    Journal(#[from] std::io::Error),
    /// A card wants it so.
    #[error("the card was told to fail")]
    Told,
    #[error("this call was left hanging")]
    Hung,
}

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Refusal::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Refusal::NoKey => (StatusCode::BAD_REQUEST, "missing_key"),
            Refusal::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused"),
            Refusal::UnknownMethod => (StatusCode::NOT_FOUND, "unknown_payment_method"),
            Refusal::UnknownCharge => (StatusCode::NOT_FOUND, "unknown_charge"),
            Refusal::UnknownUrl => (StatusCode::NOT_FOUND, "unknown_url"),
            Refusal::WrongState(_) => (StatusCode::CONFLICT, "wrong_state"),
            Refusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            Refusal::TooManyHanging => (StatusCode::SERVICE_UNAVAILABLE, "too_many_hanging"),
            Refusal::Journal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "ledger_unwritable"),
            Refusal::Told => (StatusCode::INTERNAL_SERVER_ERROR, "told_to_fail"),
            Refusal::Hung => (StatusCode::GATEWAY_TIMEOUT, "hung"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Refusal::Journal(error) = &self {
            error!(%error, "the ledger cannot be written");
        }
        let (status, code) = self.status_and_code();
        let body = json!({"error": {"code": code, "detail": self.to_string()}});
        (status, Json(body)).into_response()
    }
}
