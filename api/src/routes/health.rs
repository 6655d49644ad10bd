//! For the deployment: is it alive, can it serve, what does it count.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::json_bytes;
use crate::{
    app::SharedApp,
    error::{Code, Problem},
};

/// How long the database may take to say that it is there.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Whether the process is alive.
///
/// Asks nothing of the database: restarting the API would not cure that.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = str)))]
pub async fn get_livez() -> &'static str {
    "alive\n"
}

/// Whether the process can serve: the database is there and migrated, and it is not shutting down.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = str)))]
pub async fn get_readyz(State(app): State<SharedApp>) -> Result<&'static str, Problem> {
    if app.draining.is_cancelled() {
        return Err(Problem::try_later(
            Code::Draining,
            "the server is shutting down",
        ));
    }
    match tokio::time::timeout(READY_WITHIN, app.database.check_migrated()).await {
        Ok(Ok(())) => Ok("ready\n"),
        _ => {
            let detail = "the database cannot be reached, or lacks migrations";
            Err(Problem::try_later(Code::Unavailable, detail))
        }
    }
}

/// The figures, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = str)))]
pub async fn get_metrics(State(app): State<SharedApp>) -> impl IntoResponse {
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, text_format)],
        app.prometheus.render(),
    )
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200)))]
pub async fn get_openapi(State(app): State<SharedApp>) -> Response {
    let document = app.openapi.get().cloned().unwrap_or_else(Bytes::new);
    json_bytes(document).into_response()
}
