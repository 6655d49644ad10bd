//! The sweep: gives back the seats of holds whose time is over, show by show.
//!
//! Any number of workers may sweep: each hold ends once, under its show's lock. Nothing depends on
//! the sweep being in time; turns expire what they need themselves.

use std::time::Duration;

use stampede_shared::{
    settle,
    store::{Database, across_shows, show_inventory},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

/// The most shows that one round looks at; the next round sees the rest.
const SHOWS_PER_ROUND: i64 = 100;

/// Ends holds in time.
#[derive(Debug)]
pub struct Sweep {
    database: Database,
    interval: Duration,
}

impl Sweep {
    pub fn new(database: Database, interval: Duration) -> Sweep {
        Sweep { database, interval }
    }

    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                // More of them may be due than one transaction ends.
                Ok(expired) if expired > 0 => continue,
                Ok(_) => {}
                Err(error) => warn!(%error, "the sweep failed; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }

    async fn round(&self) -> sqlx::Result<usize> {
        let mut expired = 0;
        for show_id in
            across_shows::shows_with_due_holds(&self.database.pool, SHOWS_PER_ROUND).await?
        {
            expired += self.sweep_show(show_id).await?;
        }
        Ok(expired)
    }

    async fn sweep_show(&self, show_id: Uuid) -> sqlx::Result<usize> {
        let mut tx = self.database.begin().await?;
        let Some(mut locked) = show_inventory::lock(&mut tx, show_id).await? else {
            return Ok(0);
        };
        let expired = settle::expire_due(&mut tx, show_id, &mut locked).await?;
        tx.commit().await?;
        if expired > 0 {
            info!(show.id = %show_id, expired, "holds expired");
            metrics::counter!("stampede_holds_ended_total", "state" => "expired")
                .increment(expired as u64);
        }
        Ok(expired)
    }
}
