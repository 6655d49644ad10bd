//! Stuck payments in the metrics: those that were looked up and have not come to rest since.

use std::time::Duration;

use stampede_shared::{
    domain::payment::PaymentState,
    store::{Database, across_shows},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often they are counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the gauges until `stop`.
pub async fn watch(database: Database, stop: CancellationToken) {
    let states = PaymentState::ALL.len() as i64;
    while !stop.is_cancelled() {
        match across_shows::stuck_payments(&database.pool, states).await {
            Ok(stuck) => {
                for state in PaymentState::ALL.into_iter().map(PaymentState::as_str) {
                    let found = stuck.iter().find(|(word, _)| word == state);
                    let number = found.map_or(0, |(_, number)| *number);
                    metrics::gauge!("stampede_payments_stuck", "state" => state).set(number as f64);
                }
            }
            Err(error) => warn!(%error, "cannot count the stuck payments"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
