//! The lines in the metrics: how many wait for each show, and for how long the first has waited.

use std::{collections::HashSet, time::Duration};

use stampede_shared::store::{Database, across_shows};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the lines are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// The most shows in the metrics: the longest lines.
const SHOWS_MAX: i64 = 100;

/// Keeps the gauges until `stop`.
pub async fn watch(database: Database, stop: CancellationToken) {
    let mut shown = HashSet::new();
    while !stop.is_cancelled() {
        match across_shows::longest_lines(&database.pool, SHOWS_MAX).await {
            Ok(lines) => {
                let now: HashSet<_> = lines.iter().map(|line| line.show_id).collect();
                for gone in shown.difference(&now) {
                    gauges(*gone, 0.0, 0.0);
                }
                for line in &lines {
                    gauges(line.show_id, line.depth as f64, line.head_age_s);
                }
                shown = now;
            }
            Err(error) => warn!(%error, "cannot look at the lines"),
        }
        let pool = &database.pool;
        metrics::gauge!("stampede_database_connections", "state" => "open").set(pool.size());
        metrics::gauge!("stampede_database_connections", "state" => "idle")
            .set(pool.num_idle() as f64);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

fn gauges(show_id: uuid::Uuid, depth: f64, head_age_s: f64) {
    let show = show_id.to_string();
    metrics::gauge!("stampede_line_depth", "show" => show.clone()).set(depth);
    metrics::gauge!("stampede_line_head_age_seconds", "show" => show).set(head_age_s);
}
