//! Once a day: what nobody will ask for any more is thrown away, a little at a time.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::store::{across_shows, gateway_events, jobs as store};
use tracing::info;

use super::{DailyJob, Job, Jobs};
use crate::webhooks;

/// The most rows of one statement.
const ROWS_MAX: i64 = 5_000;

/// The most shows of one look.
const SHOWS_MAX: i64 = 100;

/// How long jobs that ended, and workers that are gone, are kept.
const JOBS_KEPT: TimeDelta = TimeDelta::days(1);

/// How long the events of gateways are kept. Those that are sent again come within days.
const GATEWAY_EVENTS_KEPT: TimeDelta = TimeDelta::days(30);

#[derive(Debug, Serialize, Deserialize)]
pub struct Prune {
    day: NaiveDate,
}

impl DailyJob for Prune {
    fn of(day: NaiveDate) -> Prune {
        Prune { day }
    }
}

impl Job for Prune {
    const QUEUE: &'static str = "prune";
    const AT_ONCE: usize = 1;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let now = Utc::now();
        let ended = prune_jobs(&jobs, now - JOBS_KEPT).await?;
        let events = prune_gateway_events(&jobs, now - GATEWAY_EVENTS_KEPT).await?;
        let kept = TimeDelta::days(jobs.webhooks.retention_days.into());
        let told = webhooks::prune::prune(&jobs.database, now - kept).await?;
        info!(day = %self.day, jobs = ended, gateway_events = events, outbox = told, "pruned");
        Ok(())
    }
}

async fn prune_jobs(jobs: &Jobs, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let pool = &jobs.database.pool;
    let mut pruned = 0;
    loop {
        let some = store::delete_ended(pool, before, ROWS_MAX).await?;
        pruned += some;
        if some < ROWS_MAX as u64 {
            break;
        }
    }
    while store::delete_gone_workers(pool, before, ROWS_MAX).await? == ROWS_MAX as u64 {}
    Ok(pruned)
}

async fn prune_gateway_events(jobs: &Jobs, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let pool = &jobs.database.pool;
    let mut pruned = 0;
    loop {
        let shows = across_shows::shows_with_old_gateway_events(pool, before, SHOWS_MAX).await?;
        if shows.is_empty() {
            return Ok(pruned);
        }
        for show_id in shows {
            pruned += gateway_events::delete_old(pool, show_id, before, ROWS_MAX).await?;
        }
    }
}
