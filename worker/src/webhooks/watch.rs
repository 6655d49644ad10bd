//! The webhooks in the metrics: how long those wait that come next.

use std::time::Duration;

use stampede_shared::store::{Database, across_shows};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often they are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the gauge until `stop`.
pub async fn watch(database: Database, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match across_shows::webhook_age_s(&database.pool).await {
            Ok(age_s) => metrics::gauge!("stampede_webhook_oldest_pending_seconds").set(age_s),
            Err(error) => warn!(%error, "cannot look at the webhooks that wait"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
