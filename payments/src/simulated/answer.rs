//! Tells a clear answer from one that says nothing.

use reqwest::{RequestBuilder, Response, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{gateway::GatewayError, http};

#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    code: String,
    detail: String,
}

/// Sends a request and reads its answer.
pub(super) async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, GatewayError> {
    let response = request.send().await.map_err(unclear)?;
    let status = response.status();
    let body = body(response).await?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(unclear);
    }
    match serde_json::from_slice(&body) {
        Ok(ErrorBody { error }) if clear_no(status) => Err(GatewayError::Refused {
            code: error.code,
            detail: error.detail,
        }),
        _ => Err(GatewayError::Unclear(format!("status {status}"))),
    }
}

/// Whether nothing was done and saying it again would not help.
fn clear_no(status: StatusCode) -> bool {
    let later = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !later.contains(&status)
}

async fn body(response: Response) -> Result<Vec<u8>, GatewayError> {
    http::body(response).await.map_err(GatewayError::Unclear)
}

fn unclear(error: impl Into<anyhow::Error>) -> GatewayError {
    GatewayError::Unclear(format!("{:#}", error.into()))
}
