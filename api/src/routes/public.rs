//! What the public reads have in common: an ETag, and headers that let a CDN absorb the crowd.

use std::sync::Arc;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use stampede_shared::domain::SectionNo;
use uuid::Uuid;

use crate::{
    app::SharedApp, error::Problem, extract::IfNoneMatch, rate_limit::Allowance,
    watermarks::Watermark,
};

/// A CDN answers the crowd; nobody sees what is older than a few seconds.
pub const PUBLIC: HeaderValue =
    HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");

/// The watermark of a show, or a 404.
pub async fn watermark(app: &SharedApp, show_id: Uuid) -> Result<Arc<Watermark>, Problem> {
    let watermark = app.watermarks.get(show_id).await?;
    watermark.ok_or_else(|| Problem::not_found("show"))
}

/// The tag of a version of the inventory, or of one section at it.
pub fn version_etag(version: i64, section: Option<SectionNo>) -> HeaderValue {
    let etag = match section {
        None => format!("W/\"{version}\""),
        Some(section) => format!("W/\"{version}-{section}\""),
    };
    HeaderValue::try_from(etag).expect("numbers are visible ASCII")
}

/// The answer, or a 304 when the client has it.
pub fn public<B: IntoResponse>(
    allowance: Allowance,
    etag: HeaderValue,
    if_none_match: &IfNoneMatch,
    body: impl FnOnce() -> B,
) -> Response {
    if if_none_match.has(&etag) {
        return not_modified(allowance, etag);
    }
    let headers = [(header::CACHE_CONTROL, PUBLIC), (header::ETAG, etag)];
    (allowance, headers, body()).into_response()
}

/// The client has it already.
pub fn not_modified(allowance: Allowance, etag: HeaderValue) -> Response {
    let headers = [(header::CACHE_CONTROL, PUBLIC), (header::ETAG, etag)];
    (StatusCode::NOT_MODIFIED, allowance, headers).into_response()
}
